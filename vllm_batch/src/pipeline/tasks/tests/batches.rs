//! What batches answered.

use futures::StreamExt as _;

use super::*;
use crate::jobs::{
    Batch, BatchStatus, BatchUsage, ByteStream, FileKey, FileObject, FilePurpose, FileStore, JobError, JobService,
    JobStore as _, NewFile, QueueLimits, RequestCounts, ServiceOptions, TaskKind, TaskOutcome, WorkerInfo,
};

fn batch() -> Batch {
    let mut batch = Batch::new("batch_1", "/v1/chat/completions", "file-1", NOW);
    batch.status = BatchStatus::Completed;
    batch
}

fn file(lines: &[Value]) -> ByteStream {
    let text: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
    // In parts that do not end where lines do.
    let parts: Vec<_> = text.chunks(100).map(|part| Ok(part.to_vec().into())).collect();
    futures::stream::iter(parts).boxed()
}

fn asked(id: &str) -> Value {
    let body = json!({"model": "m", "messages": [{"role": "system", "content": "?"}, {"role": "user", "content": format!("About {id}")}]});
    json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body})
}

fn answered(id: &str, text: &str) -> Value {
    let message = json!({"role": "assistant", "content": text});
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    });
    json!({"id": "batch_req_1", "custom_id": id, "response": {"status_code": 200, "request_id": "r", "body": body}, "error": null})
}

fn files() -> BatchFiles {
    let failed = json!({"id": "batch_req_2", "custom_id": "d", "response": null,
        "error": {"code": "batch_cancelled", "message": "cancelled", "param": null, "line": 4}});
    BatchFiles {
        input: Some(file(&[asked("a"), asked("b"), asked("c"), asked("d"), asked("\0")])),
        output: Some(file(&[
            answered("a", r#"{"tone": "formal", "clear": true}"#),
            answered("b", r#"{"tone": "rude", "clear": false}"#),
            answered("c", "I do not know"),
            answered("x", r#"{"tone": "formal"}"#),
            answered("\0", r#"{"tone": "formal"}"#),
        ])),
        errors: Some(file(&[failed])),
    }
}

#[test]
fn answers_of_a_batch_become_suggestions_once() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        tasks.create(&named(), &[record("a")], NOW).await.unwrap();
        let report = tasks.import_batch(&batch(), &named(), files(), NOW + 1).await.unwrap();
        assert_eq!((report.created, report.suggested, report.error.as_deref()), (3, 3, None));
        let rejections = tasks.rejections("batch_1", "mail", 0, 100).await.unwrap();
        let found: Vec<_> =
            rejections.iter().map(|one| (one.line, one.id.as_deref().unwrap_or(""), one.code.as_str())).collect();
        assert!(found.contains(&(2, "b", "unknown_option")), "{found:?}");
        assert!(found.contains(&(4, "x", "unknown_record")), "{found:?}");
        assert!(found.contains(&(5, "\0", "unknown_record")), "{found:?}");
        assert!(found.contains(&(1, "d", "batch_cancelled")), "{found:?}");
        assert_eq!(report.rejected as usize, rejections.len());

        let task = tasks.task(&id("a")).await.unwrap();
        assert_eq!(json!(task.record.suggestions[0].answers()), json!({"tone": "formal", "clear": true}));
        let provenance = &task.record.suggestions[0].provenance;
        assert_eq!(
            (provenance.batch_id.as_deref(), provenance.custom_id.as_deref(), &*provenance.model),
            (Some("batch_1"), Some("a"), "m")
        );
        assert_eq!(tasks.task(&id("d")).await.unwrap().record.fields["subject"], "About d");

        // A second call, and one after a crash that lost the note that it was done, change nothing.
        let again = tasks.import_batch(&batch(), &named(), BatchFiles::default(), NOW + 2).await.unwrap();
        assert_eq!(again, report);
        let forget = Statement::new("UPDATE curation_imports SET report = NULL");
        let mut tx = tasks.database.begin().await.unwrap();
        forget.execute(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        let repeated = tasks.import_batch(&batch(), &named(), files(), NOW + 3).await.unwrap();
        assert_eq!(repeated, report);
        assert_eq!(tasks.task(&id("a")).await.unwrap(), task);
        assert_eq!(tasks.rejections("batch_1", "mail", 0, 100).await.unwrap(), rejections);

        let mut running = batch();
        (running.id, running.status) = ("batch_2".to_owned(), BatchStatus::InProgress);
        assert_eq!(code(tasks.import_batch(&running, &named(), files(), NOW).await), "invalid_parameter");
    });
}

#[test]
fn records_that_a_try_made_before_a_crash_are_counted() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        let broken = |lines: &[Value]| {
            let end = futures::stream::iter([Err(JobError::FileTooLarge { limit: 1 })]);
            file(lines).chain(end).boxed()
        };
        // More records and rows than a transaction has, and then a file breaks off.
        let questions: Vec<_> = (0..250).map(|number| asked(&number.to_string())).collect();
        let unreadable: Vec<_> = (0..120).map(|_| json!("no row")).collect();
        let first = BatchFiles {
            input: Some(file(&questions[..150])),
            output: Some(broken(&unreadable)),
            ..BatchFiles::default()
        };
        assert_eq!(code(tasks.import_batch(&batch(), &named(), first, NOW).await), "file_too_large");
        assert_eq!(tasks.import_report("batch_1", "mail").await.unwrap(), None);
        let whole = || BatchFiles { input: Some(file(&questions)), ..BatchFiles::default() };
        let report = tasks.import_batch(&batch(), &named(), whole(), NOW).await.unwrap();
        assert_eq!(report.created, 250);
        let left = tasks.rejections("batch_1", "mail", 0, 9).await.unwrap();
        assert_eq!((left.len(), report.rejected), (0, 0), "what the first try left out is forgotten");
        let mut other = batch();
        other.id = "batch_2".to_owned();
        assert_eq!(tasks.import_batch(&other, &named(), whole(), NOW).await.unwrap().created, 0);
    });
}

#[test]
fn a_record_that_is_damaged_is_left_out_and_others_are_not() {
    on_each(|jobs| async move {
        let tasks = store(&jobs).await;
        tasks.create(&named(), &[record("a")], NOW).await.unwrap();
        let mut tx = tasks.database.begin().await.unwrap();
        Statement::new("UPDATE curation_tasks SET document = '{'").execute(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        let report = tasks.import_batch(&batch(), &named(), files(), NOW).await.unwrap();
        assert_eq!((report.created, report.suggested), (3, 2));
        let rejections = tasks.rejections("batch_1", "mail", 0, 1).await.unwrap();
        assert_eq!((rejections[0].line, &*rejections[0].code), (1, "damaged_task"));
    });
}

/// A batch that has ended, asks to be taken over, and has this output; `None` for one that is lost.
async fn ended(store: &SqlStore, service: &JobService, id: &str, output: Option<&[Value]>) {
    let content = futures::stream::iter([Ok::<_, JobError>(format!("{}\n", asked("a")).into())]);
    let input = service.create_file(NewFile::for_batch(), content).await.unwrap();
    let mut batch = Batch::new(id, "/v1/chat/completions", &input.id, NOW);
    batch.metadata.insert(CURATION_SCHEMA.to_owned(), "mail@1.0.0".to_owned());
    store.insert_batch(&batch, QueueLimits::default()).await.unwrap();
    let file_id = output_of(id);
    let worker = WorkerInfo {
        name: "w".to_owned(),
        models: Vec::new(),
        started_at: NOW,
        last_seen: NOW,
        tokens_per_second: 0.0,
        rows_per_second: None,
    };
    while let Some(lease) = store.lease(&worker, NOW, 60).await.unwrap() {
        let outcome = match &lease.task.kind {
            TaskKind::Validate => TaskOutcome::Validated { model: "m".to_owned(), chunks: Vec::new() },
            _ => TaskOutcome::Finalized {
                output: Some(FileObject::new(&file_id, FilePurpose::BatchOutput, NOW)),
                errors: None,
                counts: RequestCounts::default(),
                usage: BatchUsage::default(),
            },
        };
        assert!(store.finish(&lease, &outcome, NOW).await.unwrap());
    }
    if let Some(lines) = output {
        put(service, &file_id, lines).await;
    }
}

fn output_of(batch_id: &str) -> String {
    batch_id.replace("batch_", "file-")
}

async fn put(service: &JobService, file_id: &str, lines: &[Value]) {
    service.files_store().put(&FileKey::of_file(file_id).unwrap(), file(lines), u64::MAX).await.unwrap();
}

#[test]
fn a_batch_that_cannot_be_read_does_not_keep_others_from_being_taken_over() {
    on_each(|jobs| async move {
        let folder = tempfile::tempdir().unwrap();
        let files = FileStore::in_folder(folder.path()).unwrap();
        let service = JobService::new(Arc::new(jobs.clone()), files, ServiceOptions::default());
        let tasks = store(&jobs).await;
        let mut import = AutoImport::new(tasks.clone(), service.clone());
        let formal = [answered("a", r#"{"tone": "formal"}"#)];
        let ids = [1, 2, 3].map(|number| format!("batch_{number:032}"));
        ended(&jobs, &service, &ids[0], Some(&formal)).await;
        ended(&jobs, &service, &ids[1], None).await;
        ended(&jobs, &service, &ids[2], Some(&formal)).await;
        let told = |reports: Vec<ImportReport>| {
            let told = reports.into_iter().map(|report| (report.batch_id, report.suggested, report.error.is_some()));
            told.collect::<Vec<_>>()
        };
        let [first, second, third] = ids.clone();
        let expected = [(first, 1, false), (second.clone(), 0, true), (third, 1, false)];
        assert_eq!(told(import.run_once().await.unwrap()), expected);
        assert_eq!(told(import.run_once().await.unwrap()), [(second.clone(), 0, true)], "it is tried again");
        put(&service, &output_of(&second), &formal).await;
        assert_eq!(told(import.run_once().await.unwrap()), [(second, 1, false)]);
        assert_eq!(told(import.run_once().await.unwrap()), []);
        assert_eq!(tasks.task(&id("a")).await.unwrap().record.suggestions.len(), 3);

        // What its owner has deleted is not waited for.
        let fourth = format!("batch_{:032}", 4);
        ended(&jobs, &service, &fourth, Some(&formal)).await;
        service.delete_file("", &output_of(&fourth)).await.unwrap();
        assert_eq!(told(import.run_once().await.unwrap()), [(fourth, 0, false)]);
        assert_eq!(told(import.run_once().await.unwrap()), []);
    });
}
