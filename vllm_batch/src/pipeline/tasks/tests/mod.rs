//! A task store over each database that there is.

mod batches;
mod events;

use std::collections::BTreeSet;
use std::sync::Barrier;

use serde_json::{Map, Value, json};

use super::*;
use crate::curate::agreement::{AgreementOptions, Compared, Shown};
use crate::curate::export::{ExportFormat, ExportOptions, Splits};
use crate::curate::{AgentKind, ResponseStatus, Strategy, TaskSchema};
use crate::jobs::sql::tests::on_each;

const NOW: i64 = 1_700_000_000;

/// A schema with a rule for gold, in two versions.
fn mail(version: &str) -> TaskSchema {
    let tone = if version.starts_with('1') { "tone" } else { "voice" };
    let document = json!({
        "format": 1, "id": "mail", "version": version,
        "fields": [{"id": "subject", "type": "text"}],
        "questions": [
            {"id": tone, "type": "choice", "options": ["formal", "casual"], "required": true},
            {"id": "clear", "type": "boolean", "required": false},
        ],
        "gold": {"manual": true, "auto": {"min_agreement": 1.0, "min_annotators": 2}},
        "migrations": if tone == "voice" { json!([{"op": "rename_question", "since": "2.0.0", "from": "tone", "to": "voice"}]) } else { json!([]) },
    });
    TaskSchema::from_value(&document).unwrap().schema
}

fn named() -> SchemaRef {
    "mail@1.0.0".parse().unwrap()
}

async fn store(jobs: &SqlStore) -> TaskStore {
    let mut schemas = SchemaRegistry::builtin();
    schemas.register(mail("1.0.0")).unwrap();
    TaskStore::open(jobs, schemas).await.unwrap()
}

fn record(id: &str) -> NewTask {
    NewTask::new(id).with_field("subject", format!("About {id}"))
}

fn suggested(id: &str, said: &[(&str, &str, f64)]) -> NewTask {
    let mut record = record(id);
    for (model, tone, score) in said {
        let answers = json!({"tone": tone}).as_object().cloned().unwrap();
        let scores = [("tone".to_owned(), *score)].into();
        record.suggestions.push(NewSuggestions { model: (*model).to_owned(), answers, scores });
    }
    record
}

// Values are written where they are passed.
#[allow(clippy::needless_pass_by_value)]
fn answers(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn id(record: &str) -> String {
    TaskStore::task_id(&named(), record)
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    result.unwrap_err().code()
}

#[test]
fn records_are_added_once_and_those_that_do_not_fit_are_told() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        let mut bad_answer = suggested("c", &[("m", "rude", 0.5)]);
        bad_answer.suggestions[0].answers.insert("clear".to_owned(), json!(true));
        let records = [record("a"), NewTask::new("b"), bad_answer, NewTask::new(""), record("a"), record("\0")];
        let report = tasks.create(&named(), &records, NOW).await.unwrap();
        assert_eq!(report.created, [id("a"), id("c")]);
        assert_eq!(report.existing, [id("a")]);
        let rejected: Vec<_> = report.rejected.iter().map(|one| (one.line, one.code.as_str())).collect();
        assert_eq!(
            rejected,
            [(2, "missing_field"), (3, "unknown_option"), (4, "invalid_record"), (6, "invalid_record")]
        );

        let again = tasks.create(&named(), &records, NOW + 1).await.unwrap();
        assert_eq!((again.created.len(), again.existing), (0, vec![id("a"), id("c"), id("a")]));
        let task = tasks.task(&id("c")).await.unwrap();
        assert_eq!((task.created_at, task.version, task.record.fields["subject"].as_str()), (NOW, 1, Some("About c")));
        assert_eq!(json!(task.record.suggestions[0].answers()), json!({"clear": true}));
        assert_eq!(task.record.suggestions[0].agent.kind, AgentKind::Model);
        assert_eq!(code(tasks.task("task_0").await), "unknown_task");
        assert_eq!(code(tasks.create(&"mail@9.0.0".parse().unwrap(), &[], NOW).await), "unknown_schema");
    });
}

#[test]
fn a_person_has_one_response_that_is_checked_and_replaced_as_a_whole() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        tasks.create(&named(), &[record("a")], NOW).await.unwrap();
        let (id, formal) = (id("a"), answers(json!({"tone": "formal"})));
        let wrong = answers(json!({"tone": 5, "clear": "x", "other": 1}));
        let error = tasks.respond(&id, &NewResponse::submitted("ann", wrong), NOW).await.unwrap_err();
        let TaskStoreError::InvalidAnswers { errors } = error else { panic!("{error}") };
        let codes: BTreeSet<_> = errors.iter().map(|error| (error.question.as_str(), error.code())).collect();
        let expected = [("clear", "wrong_type"), ("other", "unknown_question"), ("tone", "wrong_type")];
        assert_eq!(codes, expected.into());
        let missing = tasks.respond(&id, &NewResponse::submitted("ann", Map::new()), NOW).await;
        assert_eq!(code(missing), "invalid_answers");

        let draft = tasks.respond(&id, &NewResponse::draft("ann", Map::new()), NOW + 1).await.unwrap();
        assert_eq!((draft.version, draft.status()), (2, TaskStatus::Pending));
        let mut response = NewResponse::submitted("ann", formal.clone());
        (response.lead_time, response.prefilled, response.seen_version) = (Some(2.5), Some(true), Some(2));
        let task = tasks.respond(&id, &response, NOW + 2).await.unwrap();
        assert_eq!((task.version, task.status(), task.record.responses.len()), (3, TaskStatus::Annotated, 1));
        assert_eq!(task.record.responses[0].lead_time, Some(2.5));
        let expected = ResponseNote { version: 3, created_at: NOW + 1, updated_at: NOW + 2, external: None };
        assert_eq!(task.notes["ann"], expected);
        assert_eq!(tasks.task(&id).await.unwrap(), task);

        // Another window of the same person has seen an earlier version; another person is not in their way.
        assert_eq!(code(tasks.respond(&id, &response, NOW + 3).await), "version_conflict");
        response.annotator = "bob".to_owned();
        assert!(tasks.respond(&id, &response, NOW + 3).await.is_ok());
        let task = tasks.respond(&id, &NewResponse::discarded("ann"), NOW + 4).await.unwrap();
        assert_eq!(task.record.responses[0].status, ResponseStatus::Discarded);
        let task = tasks.withdraw(&id, "ann", NOW + 5).await.unwrap();
        assert_eq!(task.record.responses.iter().map(|one| one.agent.name.as_str()).collect::<Vec<_>>(), ["bob"]);
        let same = tasks.withdraw(&id, "nobody", NOW + 6).await.unwrap();
        assert_eq!((same.version, same.updated_at), (task.version, NOW + 5), "nothing changed");
        for name in [" ", "a\0"] {
            assert_eq!(code(tasks.respond(&id, &NewResponse::discarded(name), NOW).await), "invalid_parameter");
        }
    });
}

#[test]
fn gold_is_what_the_schema_says_by_hand_and_by_rule() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        tasks.create(&named(), &[record("a"), record("b")], NOW).await.unwrap();
        let formal = || answers(json!({"tone": "formal"}));
        tasks.respond(&id("a"), &NewResponse::submitted("ann", formal()), NOW).await.unwrap();
        let task = tasks.respond(&id("a"), &NewResponse::submitted("bob", formal()), NOW).await.unwrap();
        assert!(task.decision.is_gold, "{:?}", task.decision);
        let marks = tasks.mark_all_gold(&[id("a"), "x".to_owned()], Some(false), "eve", NOW).await.unwrap();
        assert_eq!(marks, GoldMarks { marked: vec![id("a")], unknown: vec!["x".to_owned()] });
        let task = tasks.task(&id("a")).await.unwrap();
        assert_eq!((task.decision.is_gold, task.gold_by.as_deref()), (false, Some("eve")));
        assert!(tasks.mark_gold(&id("a"), None, "eve", NOW).await.unwrap().decision.is_gold);

        let mut query = TaskQuery::of_schema("mail", 10);
        query.status = Some(TaskStatus::Gold);
        let gold = tasks.tasks(&query).await.unwrap();
        assert_eq!(gold.data.iter().map(|task| task.record.id.as_str()).collect::<Vec<_>>(), ["a"]);
        let stats = tasks.stats("mail", Some("1.0.0")).await.unwrap();
        assert_eq!((stats.total, stats.pending, stats.annotated, stats.gold), (2, 1, 1, 1));
        assert_eq!(stats.mean_agreement, Some(1.0));
        assert_eq!(
            stats.annotators.iter().map(|one| (&*one.annotator, one.submitted)).collect::<Vec<_>>(),
            [("ann", 1), ("bob", 1)]
        );
        assert_eq!(tasks.stats("none", None).await.unwrap(), TaskStats::default());
    });
}

#[test]
fn lists_come_in_pages_and_filters_hold() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        let records: Vec<_> = (0..7).map(|number| record(&format!("R_{number}%"))).collect();
        tasks.create(&named(), &records, NOW).await.unwrap();
        tasks
            .create(&"cv_parsing@1.0.0".parse().unwrap(), &[NewTask::new("cv").with_field("resume_text", "x")], NOW)
            .await
            .unwrap();
        let mut query = TaskQuery::of_schema("mail", 3);
        let mut seen = Vec::new();
        loop {
            let page = tasks.tasks(&query).await.unwrap();
            query.after = page.data.last().map(|task| task.id.clone());
            seen.extend(page.data.into_iter().map(|task| task.record.id));
            if !page.has_more {
                break;
            }
        }
        assert_eq!(seen, records.iter().map(|record| record.id.clone()).collect::<Vec<_>>());

        tasks.respond(&id("R_3%"), &NewResponse::draft("ann", Map::new()), NOW).await.unwrap();
        let tasks = &tasks;
        let found = |query: TaskQuery| async move {
            let page = tasks.tasks(&query).await.unwrap();
            page.data.into_iter().map(|task| task.record.id).collect::<Vec<_>>()
        };
        let all = TaskQuery { limit: 100, ..TaskQuery::default() };
        assert_eq!(found(all.clone()).await.len(), 8);
        assert_eq!(found(TaskQuery { search: Some("r_5%".to_owned()), ..all.clone() }).await, ["R_5%"]);
        assert_eq!(found(TaskQuery { search: Some("RX5".to_owned()), ..all.clone() }).await, Vec::<String>::new());
        assert_eq!(found(TaskQuery { annotator: Some("ann".to_owned()), ..all.clone() }).await, ["R_3%"]);
        assert_eq!(
            found(TaskQuery { schema_version: Some("2.0.0".to_owned()), ..all.clone() }).await,
            Vec::<String>::new()
        );
        assert_eq!(code(tasks.tasks(&TaskQuery { limit: 0, ..all.clone() }).await), "invalid_parameter");
        assert_eq!(code(tasks.tasks(&TaskQuery { after: Some("x".to_owned()), ..all }).await), "unknown_task");
    });
}

#[test]
fn what_is_worth_most_comes_first_and_two_people_get_different_records() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        let records = [
            suggested("sure", &[("m", "formal", 0.9)]),
            suggested("unsure", &[("m", "formal", 0.2)]),
            suggested("disputed", &[("a", "formal", 0.8), ("b", "casual", 0.8)]),
        ];
        tasks.create(&named(), &records, NOW).await.unwrap();
        let next = |annotator: &str, strategy, now| {
            let mut query = NextQuery::new(named(), annotator);
            (query.strategy, query.wanted_responses) = (strategy, Some(1));
            let tasks = tasks.clone();
            async move { tasks.next(&query, now).await.unwrap().into_iter().map(|task| task.record.id).next() }
        };
        let some = |id: &str| Some(id.to_owned());
        assert_eq!(next("ann", Strategy::Uncertainty, NOW).await, some("unsure"));
        assert_eq!(next("ann", Strategy::Uncertainty, NOW + 1).await, some("unsure"), "asking again gives the same");
        assert_eq!(next("bob", Strategy::Uncertainty, NOW + 1).await, some("disputed"));
        assert_eq!(next("eve", Strategy::Uncertainty, NOW + 1).await, some("sure"));
        assert_eq!(next("dan", Strategy::Uncertainty, NOW + 1).await, None);
        // Whoever leaves loses it after a while.
        let later = NOW + 2 + next::CLAIM_SECONDS;
        assert_eq!(next("dan", Strategy::Disagreement, later).await, some("disputed"));
        let formal = answers(json!({"tone": "formal"}));
        tasks.respond(&id("unsure"), &NewResponse::submitted("ann", formal), later).await.unwrap();
        tasks.respond(&id("sure"), &NewResponse::discarded("ann"), later).await.unwrap();
        assert_eq!(next("ann", Strategy::Uncertainty, later).await, None, "the third one is dan's");
        assert_eq!(next("bob", Strategy::Random, later).await, some("sure"), "what ann discards, bob may answer");

        let mut query = NextQuery::new(named(), "gil");
        (query.limit, query.wanted_responses) = (3, Some(5));
        let found = tasks.next(&query, later).await.unwrap();
        assert_eq!(found.iter().map(|task| &*task.record.id).collect::<Vec<_>>(), ["unsure", "disputed", "sure"]);
        query.after = Some(id("disputed"));
        let found = tasks.next(&query, later).await.unwrap();
        assert_eq!(found.iter().map(|task| &*task.record.id).collect::<Vec<_>>(), ["sure", "unsure", "disputed"]);
    });
}

#[test]
fn chance_gives_every_record_once_from_a_place_that_the_seed_decides() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        let records: Vec<_> = (0..20).map(|number| record(&number.to_string())).collect();
        tasks.create(&named(), &records, NOW).await.unwrap();
        let mut orders = BTreeSet::new();
        for seed in 0..4 {
            let mut query = NextQuery::new(named(), "ann");
            (query.strategy, query.seed, query.limit) = (Strategy::Random, seed, 20);
            let order: Vec<_> = tasks.next(&query, NOW).await.unwrap().into_iter().map(|task| task.id).collect();
            assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 20);
            orders.insert(order);
        }
        assert!(orders.len() > 1, "{orders:?}");
    });
}

#[test]
fn many_people_at_once_lose_nothing() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        tasks.create(&named(), &[record("a")], NOW).await.unwrap();
        let respond = |number: usize| {
            let tasks = tasks.clone();
            async move {
                let response = NewResponse::submitted(format!("p{number}"), answers(json!({"tone": "formal"})));
                tasks.respond(&id("a"), &response, NOW).await
            }
        };
        let results = futures::future::join_all((0..24).map(respond)).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        let task = tasks.task(&id("a")).await.unwrap();
        assert_eq!((task.record.responses.len(), task.version, task.decision.num_annotators), (24, 25, 24));
    });
}

#[test]
fn schemas_are_registered_for_all_who_share_the_database() {
    on_each(|jobs| async move {
        let one = TaskStore::open(&jobs, SchemaRegistry::new()).await.unwrap();
        let other = TaskStore::open(&jobs, SchemaRegistry::new()).await.unwrap();
        one.register(mail("1.0.0"), NOW).await.unwrap();
        one.register(mail("1.0.0"), NOW).await.unwrap();
        assert_eq!(other.schema(&named()).await.unwrap().schema().id, "mail");
        let mut changed = mail("1.0.0");
        changed.questions.pop();
        assert_eq!(code(other.register(changed.clone(), NOW).await), "schema_conflict");
        changed.version = "1.0.1".parse().unwrap();
        assert_eq!(code(other.register(changed, NOW).await), "bump_too_small");
        other.register(mail("2.0.0"), NOW).await.unwrap();
        assert_eq!(one.find_schema("mail@2.0.0").await.unwrap().schema().version.major, 2);
        assert_eq!(one.find_schema("mail").await.unwrap().schema().version.major, 2);
        assert_eq!(code(one.find_schema("Mail!").await), "invalid_parameter");
        assert_eq!(code(one.find_schema("post").await), "unknown_schema");
        // Tasks that there are decide which version is worked with.
        one.create(&named(), &[record("a")], NOW).await.unwrap();
        assert_eq!(one.find_used_schema("mail").await.unwrap().schema().version.major, 1);
    });
}

#[test]
fn schemas_that_several_threads_read_at_once_are_all_there() {
    on_each(|jobs| async move {
        let tasks = TaskStore::open(&jobs, SchemaRegistry::new()).await.unwrap();
        let names: Vec<String> = (0..200).map(|number| format!("mail_{number}")).collect();
        let document = serde_json::to_string(&mail("1.0.0")).unwrap();
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            let (tasks, document, start) = (&tasks, &document, &start);
            for names in names.chunks(50) {
                scope.spawn(move || {
                    start.wait();
                    for name in names {
                        let named = document.replace(r#""id":"mail""#, &format!(r#""id":"{name}""#));
                        tasks.adopt(&[named]).unwrap();
                    }
                });
            }
        });
        let known = tasks.schemas();
        assert_eq!(names.iter().filter(|name| known.get(name).is_none()).collect::<Vec<_>>(), Vec::<&String>::new());
    });
}

#[test]
fn names_are_found_in_upper_and_lower_case_of_every_script() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        let names = ["Éclair", "ÜBUNG", "ΣΟΦΌΣ", "Жук", "STRASSE", "50%_!"];
        tasks.create(&named(), &names.map(record), NOW).await.unwrap();
        let cases = [
            ("ÉCLAIR", "Éclair"),
            ("übung", "ÜBUNG"),
            ("σοφόσ", "ΣΟΦΌΣ"),
            ("ΦΌΣ", "ΣΟΦΌΣ"),
            ("жУК", "Жук"),
            ("strasse", "STRASSE"),
            ("%_!", "50%_!"),
        ];
        for (search, expected) in cases {
            let mut query = TaskQuery::of_schema("mail", 10);
            query.search = Some(search.to_owned());
            let found = tasks.tasks(&query).await.unwrap().data;
            assert_eq!(found.iter().map(|task| &*task.record.id).collect::<Vec<_>>(), [expected], "{search}");
        }
    });
}

#[test]
fn tasks_go_on_to_a_newer_version_with_their_answers() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        tasks.register(mail("2.0.0"), NOW).await.unwrap();
        tasks.create(&named(), &[suggested("a", &[("m", "casual", 0.5)]), record("b")], NOW).await.unwrap();
        tasks.respond(&id("a"), &NewResponse::submitted("ann", answers(json!({"tone": "formal"}))), NOW).await.unwrap();
        let to: SchemaRef = "mail@2.0.0".parse().unwrap();
        let report = tasks.migrate(&to, NOW + 1).await.unwrap();
        assert_eq!((report.migrated, report.unfit.len(), report.answers.num_records), (2, 0, 2));
        let task = tasks.task(&id("a")).await.unwrap();
        assert_eq!((&task.schema, json!(task.record.responses[0].answers)), (&to, json!({"voice": "formal"})));
        assert_eq!(json!(task.record.suggestions[0].answers()), json!({"voice": "casual"}));
        assert_eq!(tasks.migrate(&to, NOW + 2).await.unwrap().migrated, 0);
        assert_eq!(code(tasks.migrate(&named(), NOW).await), "migration_backwards");
    });
}

#[test]
fn gold_records_become_rows_and_the_report_says_why_others_do_not() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        let records: Vec<_> = (0..450).map(|number| record(&format!("{number:03}"))).collect();
        tasks.create(&named(), &records, NOW).await.unwrap();
        for number in 0..9 {
            let said = NewResponse::submitted("ann", answers(json!({"tone": "formal"})));
            tasks.respond(&id(&format!("{number:03}")), &said, NOW).await.unwrap();
        }
        tasks.mark_all_gold(&["000", "001", "002"].map(id), Some(true), "ann", NOW).await.unwrap();
        let tasks = &tasks;
        let rows = |export: TaskExport| async move {
            let mut lines = tasks.export(&export).await.unwrap();
            let mut text = Vec::new();
            while let Some(part) = lines.next().await {
                text.extend(part.unwrap());
            }
            String::from_utf8(text)
                .unwrap()
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap())
                .collect::<Vec<_>>()
        };
        let export = TaskExport::new(named(), ExportOptions::new(ExportFormat::TrlMessages));
        let gold = rows(export.clone()).await;
        assert_eq!(
            gold.iter().map(|row| row["record_id"].as_str().unwrap()).collect::<Vec<_>>(),
            ["000", "001", "002"]
        );
        let report = tasks.export_report(&export).await.unwrap();
        assert_eq!((report.num_rows, report.skipped["not_gold"]), (3, 447));

        let mut split = export.clone();
        split.options.answers = crate::curate::export::AnswerSource::SingleResponse;
        split.splits = Some(Splits::new(0.0, 0.5, "s").unwrap());
        let all = rows(split.clone()).await;
        split.split = Some(crate::curate::export::Split::Test);
        let tests = rows(split).await;
        assert_eq!(all.len(), 9);
        assert!(!tests.is_empty() && tests.len() < 9);
        assert_eq!(tests, all.into_iter().filter(|row| row["split"] == "test").collect::<Vec<_>>());
    });
}

#[test]
fn agreement_is_that_of_the_stored_answers() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        tasks.create(&named(), &[suggested("a", &[("m", "formal", 0.5)]), record("b")], NOW).await.unwrap();
        for (record, name, tone) in
            [("a", "ann", "formal"), ("a", "bob", "formal"), ("b", "ann", "formal"), ("b", "bob", "casual")]
        {
            let said = NewResponse::submitted(name, answers(json!({"tone": tone})));
            tasks.respond(&id(record), &said, NOW).await.unwrap();
        }
        let report = tasks.agreement(&named(), &AgreementOptions::default()).await.unwrap();
        assert_eq!(report.group(&Compared::Humans, Shown::All).unwrap().overall, Some(0.5));
        let model = Compared::ModelHuman { model: "m".to_owned() };
        assert_eq!(report.group(&model, Shown::All).unwrap().overall, Some(1.0));
    });
}
