//! What a review server tells.

use super::*;

/// When events come: some seconds after what they tell of.
const HEARD: i64 = 1_769_860_810;

/// An event of Label Studio about an annotation of the record.
fn event(action: &str, record: &str, tone: &str, updated_at: &str) -> Value {
    let result =
        json!([{"from_name": "tone", "to_name": "src_vb_record", "type": "choices", "value": {"choices": [tone]}}]);
    json!({
        "action": action,
        "task": {"id": 5, "data": {"vb_record": record, "vb_schema": "mail@1.0.0", "subject": "About"}},
        "annotation": {"id": 7, "completed_by": {"email": "ann@example.org"}, "result": result, "ground_truth": true,
            "updated_at": updated_at},
        "project": {"id": 2},
    })
}

#[test]
fn events_of_label_studio_count_by_their_own_time_and_once() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        tasks.create(&named(), &[record("a")], NOW).await.unwrap();
        let saved = EventOutcome::Saved { task: id("a"), left_out: vec![] };
        let ignored = |reason| EventOutcome::Ignored { reason };
        let (early, late) = ("2026-01-31T12:00:00.000001Z", "2026-01-31T12:00:00.000002Z");
        let cases = [
            (event("ANNOTATION_CREATED", "a", "formal", early), saved.clone(), Some("formal")),
            (event("ANNOTATION_CREATED", "a", "casual", early), ignored(IgnoredEvent::NotNewer), Some("formal")),
            (event("ANNOTATION_UPDATED", "a", "casual", late), saved, Some("casual")),
            (event("ANNOTATION_CREATED", "a", "formal", early), ignored(IgnoredEvent::NotNewer), Some("casual")),
            (event("ANNOTATION_UPDATED", "b", "casual", late), ignored(IgnoredEvent::UnknownRecord), Some("casual")),
            (json!({"action": "PROJECT_UPDATED"}), ignored(IgnoredEvent::OtherAction), Some("casual")),
            (
                json!({"action": "ANNOTATION_CREATED", "annotation": {"id": 1}, "task": {"id": 1}}),
                ignored(IgnoredEvent::ForeignTask),
                Some("casual"),
            ),
            (
                json!({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 8}]}),
                ignored(IgnoredEvent::UnknownRecord),
                Some("casual"),
            ),
            (
                json!({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 7}]}),
                EventOutcome::Removed { task: id("a") },
                None,
            ),
            // It was sent before the annotation was deleted, and comes after.
            (
                event("ANNOTATION_UPDATED", "a", "formal", "2026-01-31T12:00:00.000003Z"),
                ignored(IgnoredEvent::Deleted),
                None,
            ),
        ];
        for (event, outcome, tone) in cases {
            assert_eq!(tasks.apply_label_studio(&event, HEARD).await.unwrap(), [outcome], "{event}");
            let task = tasks.task(&id("a")).await.unwrap();
            let said = task.record.responses.first().map(|response| json!(response.answers)["tone"].clone());
            assert_eq!(said, tone.map(Value::from), "{event}");
            assert_eq!(task.record.gold, tone.map(|_| true), "{event}");
        }
    });
}

fn deleted() -> Value {
    json!({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 7}]})
}

#[test]
fn an_annotation_that_is_deleted_before_it_was_heard_of_does_not_come() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        tasks.create(&named(), &[record("a")], NOW).await.unwrap();
        let made = event("ANNOTATION_CREATED", "a", "formal", "2026-01-31T12:00:00Z");
        let cases = [
            (deleted(), IgnoredEvent::UnknownRecord),
            (made, IgnoredEvent::Deleted),
            (deleted(), IgnoredEvent::UnknownRecord),
            (json!({"action": "ANNOTATIONS_DELETED", "annotations": [{}]}), IgnoredEvent::Unreadable),
        ];
        for (event, reason) in cases {
            let outcome = EventOutcome::Ignored { reason };
            assert_eq!(tasks.apply_label_studio(&event, HEARD).await.unwrap(), [outcome], "{event}");
        }
        assert_eq!(tasks.task(&id("a")).await.unwrap().record.responses, []);

        // A server that was set up anew counts from the beginning.
        let made = event("ANNOTATION_CREATED", "a", "formal", "2026-02-01T12:00:00Z");
        let outcome = EventOutcome::Saved { task: id("a"), left_out: Vec::new() };
        assert_eq!(tasks.apply_label_studio(&made, HEARD + 86_400).await.unwrap(), [outcome]);
    });
}

#[test]
fn what_a_person_said_here_since_stays_when_the_annotation_is_deleted() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        tasks.create(&named(), &[record("a")], NOW).await.unwrap();
        let made = event("ANNOTATION_CREATED", "a", "formal", "2026-01-31T12:00:00Z");
        tasks.apply_label_studio(&made, HEARD).await.unwrap();
        let here = NewResponse::submitted("ann@example.org", answers(json!({"tone": "casual"})));
        tasks.respond(&id("a"), &here, NOW + 1).await.unwrap();
        assert_eq!(tasks.task(&id("a")).await.unwrap().record.gold, Some(true));
        let outcomes = tasks.apply_label_studio(&deleted(), HEARD).await.unwrap();
        assert_eq!(outcomes, [EventOutcome::Removed { task: id("a") }]);
        let task = tasks.task(&id("a")).await.unwrap();
        assert_eq!(json!(task.record.responses[0].answers), json!({"tone": "casual"}));
        assert_eq!((task.record.gold, task.gold_by), (None, None), "the annotation had said that it is gold");
    });
}

#[test]
fn of_two_annotations_of_a_person_the_later_one_counts() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        tasks.create(&named(), &[record("a")], NOW).await.unwrap();
        let mut later = event("ANNOTATION_CREATED", "a", "casual", "2026-01-31T12:05:00Z");
        later["annotation"]["id"] = json!(8);
        let earlier = event("ANNOTATION_CREATED", "a", "formal", "2026-01-31T12:00:00Z");
        let cases = [
            (later, EventOutcome::Saved { task: id("a"), left_out: Vec::new() }),
            (earlier, EventOutcome::Ignored { reason: IgnoredEvent::NotNewer }),
        ];
        for (event, outcome) in cases {
            assert_eq!(tasks.apply_label_studio(&event, HEARD).await.unwrap(), [outcome]);
        }
        let task = tasks.task(&id("a")).await.unwrap();
        assert_eq!(json!(task.record.responses[0].answers), json!({"tone": "casual"}));
    });
}

/// Whichever comes first, in the end there is no response: PostgreSQL takes both over at once, if it is let.
#[test]
fn events_that_come_at_once_end_as_if_they_came_one_by_one() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        let names: Vec<String> = (0..20).map(|number| format!("r{number}")).collect();
        let records: Vec<_> = names.iter().map(|name| record(name)).collect();
        tasks.create(&named(), &records, NOW).await.unwrap();
        let mut events = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let mut made = event("ANNOTATION_CREATED", name, "formal", "2026-01-31T12:00:00Z");
            made["annotation"]["id"] = json!(number);
            events.push(made);
            events.push(json!({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": number}]}));
        }
        let results =
            futures::future::join_all(events.iter().map(|event| tasks.apply_label_studio(event, HEARD))).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        for name in &names {
            assert_eq!(tasks.task(&id(name)).await.unwrap().record.responses, [], "{name}");
        }
    });
}
