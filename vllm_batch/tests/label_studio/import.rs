//! However an import fails and is begun again, each task is there once.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use vllm_batch::pipeline::label_studio::{ImportOptions, ImportReport, LabelStudio, LabelStudioBuilder};

use crate::fake::{Fake, Fault};
use crate::server::Received;

pub(crate) fn builder(fake: &Fake) -> LabelStudioBuilder {
    LabelStudio::builder(fake.url(), "0123").retry_base(Duration::ZERO).max_retries(2)
}

fn task(at: usize) -> Value {
    json!({"data": {"vb_key": format!("k{at:03}"), "text": "Grüße, 世界"}, "predictions": [{"score": 0.5, "result": []}]})
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("k{at:03}")).collect()
}

fn is_import(request: &Received) -> bool {
    request.path.contains("/import")
}

fn import(fake: &Fake, tasks: Vec<Value>, options: &ImportOptions) -> ImportReport {
    builder(fake).build().unwrap().import(1, tasks, options).unwrap()
}

#[test]
fn tasks_go_in_batches_and_a_second_import_brings_nothing() {
    let fake = Fake::start(|_, _| Fault::None);
    let options = ImportOptions::default().with_max_tasks(4);
    let report = import(&fake, (0..10).map(task).collect(), &options);
    assert_eq!((report.imported, report.present, report.rejected.len(), report.removed), (10, 0, 0, 0));
    assert_eq!(fake.state.lock().unwrap().imports, [4, 4, 2]);
    let again = import(&fake, (0..12).map(task).collect(), &options);
    assert_eq!((again.imported, again.present), (2, 10));
    assert_eq!(fake.keys(), keys(12));
    // Two tasks and what is between them, and a task that alone is too large.
    let length = task(0).to_string().len();
    let fake = Fake::start(|_, _| Fault::None);
    import(&fake, (0..5).map(task).collect(), &ImportOptions::default().with_max_bytes(2 * length + 1));
    assert_eq!(fake.state.lock().unwrap().imports, [2, 2, 1]);
    let fake = Fake::start(|_, _| Fault::None);
    import(&fake, (0..2).map(task).collect(), &ImportOptions::default().with_max_bytes(1));
    assert_eq!(fake.state.lock().unwrap().imports, [1, 1]);
    // What the server cannot take is not sent: it would say that it failed, and be asked again and again.
    let fake = Fake::start(|_, _| Fault::None);
    let report = import(&fake, vec![task(0)], &ImportOptions::default().with_max_task_bytes(length + 2));
    let message =
        format!("a request of {} bytes is too long for the server, which takes less than {}", length + 2, length + 2);
    assert_eq!((report.imported, report.rejected[0].message.as_str()), (0, message.as_str()));
    let report = import(&fake, vec![task(0)], &ImportOptions::default().with_max_task_bytes(length + 3));
    assert_eq!((report.imported, report.rejected.len()), (1, 0));
}

#[test]
fn bad_tasks_are_left_out_and_named() {
    let fake = Fake::start(|_, _| Fault::None);
    let mut tasks: Vec<_> = (0..9).map(task).collect();
    tasks[1]["predictions"][0]["score"] = json!(1.5);
    tasks[3]["data"]["text"] = Value::Null;
    tasks[5]["predictions"][0]["score"] = json!(7);
    tasks[6]["data"]["vb_key"] = json!("k000");
    tasks[8]["data"]["vb_key"] = json!(8);
    let folder = tempfile::tempdir().unwrap();
    let options = ImportOptions::default().with_cursor(folder.path().join("cursor"));
    let report = import(&fake, tasks.clone(), &options);
    assert_eq!((report.imported, report.present, report.removed), (4, 0, 0));
    let rejected: Vec<_> =
        report.rejected.iter().map(|one| (one.index, one.key.as_str(), one.message.as_str())).collect();
    let expected = [
        (6, "k000", "an earlier task has the same vb_key"),
        (8, "", "it has no text data.vb_key"),
        (1, "k001", "Task 1, prediction 0: Score must be between 0 and 1"),
        (5, "k005", "Task 5, prediction 0: Score must be between 0 and 1"),
        (3, "k003", "HTTP 400: Validation error\n  \"text\" key is expected in task data"),
    ];
    assert_eq!(rejected, expected);
    assert_eq!(fake.keys(), ["k000", "k002", "k004", "k007"]);
    // The cursor knows all of it.
    let requests = fake.received().len();
    let again = import(&fake, tasks, &options);
    assert_eq!((again.imported, again.present, again.rejected.len()), (0, 4, 5));
    assert_eq!(fake.received().len(), requests);
}

#[test]
fn an_answer_that_is_lost_is_looked_for() {
    let faults = [
        (Fault::FailsAfter(500), 0),
        (Fault::FailsAfter(504), 0),
        (Fault::Breaks { done: true }, 0),
        (Fault::SilentAfter, 0),
        (Fault::Fails(500), 1),
        (Fault::Fails(429), 1),
        (Fault::Breaks { done: false }, 1),
    ];
    for (fault, resent) in faults {
        let fake =
            Fake::start(move |number, request| if number == 1 && is_import(request) { fault } else { Fault::None });
        let server = builder(&fake).timeout(Duration::from_millis(300)).build().unwrap();
        let report = server.import(1, (0..3).map(task), &ImportOptions::default()).unwrap();
        assert_eq!((report.imported, report.present, report.removed), (3, 0, 0), "{fault:?}");
        assert_eq!(fake.keys(), keys(3), "{fault:?}");
        let imports = fake.received().iter().filter(|request| is_import(request)).count();
        assert_eq!(imports, 1 + resent, "{fault:?}");
    }
}

#[test]
fn second_copies_are_deleted_unless_somebody_worked_on_them() {
    // The server was still busy with the first request when it was asked whether it had done it.
    let fake = Fake::start(|number, _| if number == 1 { Fault::Fails(504) } else { Fault::None });
    {
        let mut state = fake.state.lock().unwrap();
        state.last_id = 100;
    }
    let late = std::sync::Arc::clone(&fake.state);
    let tasks = (0..3).map(move |at| {
        if at == 2 {
            // Comes in by itself, behind the back of the import.
            let mut state = late.lock().unwrap();
            for (id, annotations) in [(7, 0), (8, 0), (9, 1)] {
                let mut copy = task(0);
                copy["id"] = json!(id);
                copy["total_annotations"] = json!(annotations);
                state.tasks.insert(id, copy);
            }
        }
        task(at)
    });
    let server = builder(&fake).build().unwrap();
    let report = server.import(1, tasks, &ImportOptions::default().with_max_tasks(2)).unwrap();
    assert_eq!((report.imported + report.present, report.removed), (3, 2));
    assert_eq!(fake.keys(), keys(3));
    assert!(fake.state.lock().unwrap().tasks.contains_key(&9));
}

#[test]
fn what_does_not_help_is_an_error_and_the_import_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let options = ImportOptions::default().with_max_tasks(2).with_cursor(folder.path().join("cursor"));
    let fake = Fake::start(|number, _| match number {
        2..=20 => Fault::Fails(503),
        _ => Fault::None,
    });
    let server = builder(&fake).build().unwrap();
    let mut errors = Vec::new();
    let report = loop {
        match server.import(1, (0..6).map(task), &options) {
            Ok(report) => break report,
            Err(error) => errors.push((error.code(), error.status())),
        }
    };
    assert!(!errors.is_empty() && errors.iter().all(|error| *error == ("server_error", Some(503))), "{errors:?}");
    assert_eq!((report.imported, report.present), (4, 2));
    assert_eq!(fake.keys(), keys(6));
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::None),
        1 => prop_oneof![Just(429), Just(500), Just(502), Just(504)].prop_map(Fault::Fails),
        2 => prop_oneof![Just(500), Just(504)].prop_map(Fault::FailsAfter),
        1 => any::<bool>().prop_map(|done| Fault::Breaks { done }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_fails_each_task_is_there_once(
        faults in proptest::collection::vec(fault(), 0..60),
        retries in 0_u32..3,
        num_tasks in 1_usize..25,
        max_tasks in 1_usize..8,
        has_cursor: bool,
        torn in proptest::option::of(1_u64..40),
    ) {
        let fake = Fake::start(move |number, _| faults.get(number).copied().unwrap_or(Fault::None));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        let mut options = ImportOptions::default().with_max_tasks(max_tasks);
        if has_cursor {
            options = options.with_cursor(&path);
        }
        let report = loop {
            let server = builder(&fake).max_retries(retries).build().unwrap();
            match server.import(1, (0..num_tasks).map(task), &options) {
                Ok(report) => break report,
                // As if the process had been killed while it wrote.
                Err(_) if let (Some(torn), true) = (torn, has_cursor) => {
                    let length = std::fs::metadata(&path).map_or(0, |file| file.len());
                    let text = std::fs::read(&path).unwrap_or_default();
                    let last_line = text.iter().take(text.len().saturating_sub(1)).rposition(|byte| *byte == b'\n').map_or(0, |end| end as u64 + 1);
                    // Only what says that tasks are there may be lost: what is about to be sent is on the disk before.
                    if text[last_line as usize..].starts_with(b"{\"done\"") {
                        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                        file.set_len(length.saturating_sub(torn).max(last_line)).unwrap();
                    }
                }
                Err(_) => {}
            }
        };
        prop_assert_eq!(fake.keys(), keys(num_tasks));
        prop_assert_eq!(report.rejected.len(), 0);
        prop_assert_eq!(report.imported + report.present, num_tasks);
    }
}
