//! The way of a batch: validated, run in chunks by many workers, finalized once.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use futures::future::join_all;

use super::work::{
    CHUNK, NO_LIMITS, START, TTL, Work, batch, chunks, code, failed, location, progress, refused, success, usage,
    validated, worker,
};
use crate::jobs::{
    BatchStatus, ChunkProgress, DeliveryState, JobStore, LeaseState, RequestCounts, Task, TaskKind, TaskOutcome,
    WorkerInfo,
};

pub(super) async fn check<F, S>(make: &F)
where
    F: Fn() -> S,
    S: Future<Output = Arc<dyn JobStore>>,
{
    a_batch_goes_its_way(&Work(make().await)).await;
    a_bad_file_ends_at_once(&Work(make().await)).await;
    a_file_without_rows_is_finalized(&Work(make().await)).await;
    a_task_has_one_holder(&Work(make().await)).await;
    the_last_of_many_finalizes(&Work(make().await)).await;
    many_chunks_are_added_at_once(&Work(make().await)).await;
    workers_get_what_they_serve(&Work(make().await)).await;
    workers_are_known(&Work(make().await)).await;
    an_outcome_belongs_to_its_task(&Work(make().await)).await;
}

async fn a_batch_goes_its_way(store: &Work) {
    let added = store.add("batch_1").await;
    let lease = store.take("ann", START + 1).await.expect("there is a task");
    let first = Task { id: lease.task.id, kind: TaskKind::Validate, attempt: 1 };
    assert_eq!((&lease.task, &lease.worker, lease.expires_at), (&first, &"ann".to_owned(), START + 1 + TTL));
    assert_eq!((&lease.batch, lease.state()), (&added, LeaseState::Held));
    assert_eq!(store.take("bob", START + 1).await, None, "the task is held");
    assert!(store.end(&lease, &validated(2), START + 2).await);

    let mut expected = added.clone();
    expected.status = BatchStatus::InProgress;
    expected.in_progress_at = Some(START + 2);
    expected.model = Some("tiny".to_owned());
    expected.request_counts.total = 2 * CHUNK;
    expected.version = store.get("batch_1").await.version;
    assert_eq!(store.get("batch_1").await, expected);

    let ann = store.take("ann", START + 3).await.expect("there is a chunk");
    let bob = store.take("bob", START + 3).await.expect("there is another chunk");
    assert_eq!([&ann, &bob].map(|lease| lease.task.kind.clone()), [0, 1].map(|index| TaskKind::Run(chunks(2)[index])));
    assert_eq!(code(store.heartbeat(&bob, &progress(4), START + 5, TTL).await), Ok(LeaseState::Held));
    let done = progress(CHUNK);
    let ran = TaskOutcome::Ran { progress: done, location: "a".to_owned() };
    assert!(store.end(&ann, &ran, START + 6).await);
    expected.request_counts = RequestCounts { total: 2 * CHUNK, completed: 3 + 9, failed: 1 + 1 };
    expected.usage = usage(14);
    assert_eq!(store.get("batch_1").await, expected, "counts are those of all chunks");
    assert_eq!(store.queue(5).await.expect("the queue is read"), [expected.clone()]);
    let locations = store.chunk_locations("batch_1").await.expect("chunks are listed");
    assert_eq!(locations, [(chunks(2)[0], Some("a".to_owned())), (chunks(2)[1], None)]);

    assert!(store.end(&bob, &TaskOutcome::Ran { progress: done, location: "b".to_owned() }, START + 7).await);
    expected.status = BatchStatus::Finalizing;
    expected.finalizing_at = Some(START + 7);
    expected.request_counts = RequestCounts { total: 2 * CHUNK, completed: 18, failed: 2 };
    expected.usage = usage(20);
    expected.version = store.get("batch_1").await.version;
    assert_eq!(store.get("batch_1").await, expected);

    let last = store.take("bob", START + 8).await.expect("there is a task to finalize");
    assert_eq!((&last.task.kind, last.batch.status), (&TaskKind::Finalize, BatchStatus::Finalizing));
    let outcome = success(&last);
    assert!(store.end(&last, &outcome, START + 9).await);
    expected.status = BatchStatus::Completed;
    expected.completed_at = Some(START + 9);
    expected.output_file_id = Some("file-output-1".to_owned());
    expected.error_file_id = Some("file-errors-1".to_owned());
    expected.version = store.get("batch_1").await.version;
    assert_eq!(store.get("batch_1").await, expected);
    let TaskOutcome::Finalized { output, errors, .. } = outcome else { unreachable!("a task to finalize") };
    assert_eq!(store.file("file-output-1").await.expect("a file is read"), output);
    assert_eq!(store.file("file-errors-1").await.expect("a file is read"), errors);
    assert_eq!(store.take("ann", START + 1000).await, None);
    assert_eq!(code(store.next_due(START + 1000).await), Ok(None));
}

async fn a_bad_file_ends_at_once(store: &Work) {
    store.add("batch_1").await;
    let lease = store.take("w", START).await.expect("there is a task");
    assert!(store.end(&lease, &refused(), START + 1).await);
    let batch = store.get("batch_1").await;
    let TaskOutcome::Refused { errors } = refused() else { unreachable!("a refusal") };
    assert_eq!((batch.status, batch.failed_at, &batch.errors), (BatchStatus::Failed, Some(START + 1), &errors));
    assert_eq!(batch.request_counts, RequestCounts::default());
    assert_eq!(store.work_off(START + 1000).await, []);
}

async fn a_file_without_rows_is_finalized(store: &Work) {
    let batch = store.start("batch_1", 0, START).await;
    assert_eq!(batch.status, BatchStatus::Finalizing);
    assert_eq!(store.work_off(START).await, [TaskKind::Finalize]);
    assert_eq!(store.get("batch_1").await.status, BatchStatus::Completed);
}

async fn a_task_has_one_holder(store: &Work) {
    store.start("batch_1", 5, START).await;
    let take = async |number: usize| store.take(&format!("worker-{number}"), START).await;
    let leases = join_all((0..8).map(take)).await;
    let ids: BTreeSet<_> = leases.iter().flatten().map(|lease| lease.task.id).collect();
    assert_eq!((leases.iter().flatten().count(), ids.len()), (5, 5), "five chunks for eight workers: {leases:?}");
}

async fn the_last_of_many_finalizes(store: &Work) {
    for round in 0..5 {
        let id = format!("batch_{round}");
        store.start(&id, 8, START).await;
        let mut leases = Vec::new();
        for number in 0..8 {
            leases.push(store.take(&format!("worker-{number}"), START).await.expect("there is a chunk"));
        }
        let end = async |lease| store.end(lease, &success(lease), START + 1).await;
        assert_eq!(join_all(leases.iter().map(end)).await, [true; 8]);
        assert_eq!(store.get(&id).await.status, BatchStatus::Finalizing);
        assert_eq!(store.work_off(START + 2).await, [TaskKind::Finalize], "round {round}");
        let told = store.deliveries(None, DeliveryState::Pending, 99).await.expect("messages are listed");
        assert_eq!(told.iter().filter(|message| message.batch_id == id).count(), 1);
    }
}

async fn many_chunks_are_added_at_once(store: &Work) {
    let batch = store.start("batch_1", 2345, START).await;
    assert_eq!(batch.request_counts.total, 2345 * CHUNK);
    let found = store.chunk_locations("batch_1").await.expect("chunks are listed");
    let expected: Vec<_> = chunks(2345).into_iter().map(|chunk| (chunk, None)).collect();
    assert_eq!(found, expected);
    let second = (store.take("w", START).await, store.take("w", START).await).1.expect("there is a chunk");
    assert_eq!(second.task.kind, TaskKind::Run(expected[1].0));
}

async fn workers_get_what_they_serve(store: &Work) {
    let take = async |models: &[&str]| {
        let mut worker = worker("w");
        worker.models = models.iter().map(|model| (*model).to_owned()).collect();
        store.lease(&worker, START, TTL).await.expect("a task is asked for").map(|lease| lease.task.kind)
    };
    store.start("batch_1", 3, START).await;
    store.add("batch_2").await;
    assert_eq!(take(&["other", "third"]).await, Some(TaskKind::Validate), "no model is known before");
    assert_eq!(take(&["other"]).await, None);
    assert_eq!(take(&["other", "tiny"]).await, Some(TaskKind::Run(chunks(3)[0])));
    assert_eq!(take(&["tiny"]).await, Some(TaskKind::Run(chunks(3)[1])));
    assert_eq!(take(&[]).await, Some(TaskKind::Run(chunks(3)[2])));
    store.start("batch_3", 0, START).await;
    assert_eq!(take(&["other"]).await, Some(TaskKind::Finalize), "no model is needed to finalize");
}

async fn workers_are_known(store: &Work) {
    let list = async |since| store.workers(since).await.expect("workers are listed");
    assert_eq!(list(0).await, []);
    let ann = WorkerInfo {
        models: vec!["tiny".to_owned(), "\"big\", [or so]".to_owned()],
        tokens_per_second: 1.5,
        rows_per_second: Some(0.25),
        ..worker("ann")
    };
    let idle = store.lease(&ann, START + 10, TTL).await.expect("a task is asked for");
    assert_eq!(idle, None);
    let seen = |worker: &WorkerInfo, last_seen| WorkerInfo { last_seen, ..worker.clone() };
    assert_eq!(list(START).await, [seen(&ann, START + 10)]);
    store.start("batch_1", 1, START + 11).await;
    let starter = seen(&worker("starter"), START + 11);
    let lease = store.lease(&ann, START + 12, TTL).await.expect("a task is asked for").expect("there is a chunk");
    assert_eq!(list(START).await, [seen(&ann, START + 12), starter.clone()]);
    assert_eq!(code(store.heartbeat(&lease, &progress(3), START + 20, TTL).await), Ok(LeaseState::Held));
    let fast = WorkerInfo { tokens_per_second: progress(3).tokens_per_second, ..seen(&ann, START + 20) };
    assert_eq!(list(START).await, [fast.clone(), starter]);
    assert_eq!(list(START + 12).await, [fast]);
    assert_eq!(list(START + 21).await, []);
    let day = 24 * 60 * 60;
    store.take("late", START + 20 + day).await;
    let names: Vec<_> = list(0).await.into_iter().map(|worker| worker.name).collect();
    assert_eq!(names, ["ann", "late"], "those that are silent for a day are forgotten");

    let told = WorkerInfo { last_seen: START + 99, rows_per_second: None, ..worker("ann") };
    store.note_worker(&told).await.expect("a worker is noted");
    let new = WorkerInfo { rows_per_second: Some(3.5), ..seen(&worker("new"), START + 98) };
    store.note_worker(&new).await.expect("a worker is noted");
    store.forget_worker("late").await.expect("a worker is forgotten");
    store.forget_worker("unknown").await.expect("a worker that is not known is not missed");
    assert_eq!(list(0).await, [told, new]);
}

async fn an_outcome_belongs_to_its_task(store: &Work) {
    let mut other = batch("batch_0");
    other.priority = -1;
    store.add_file("file-0").await;
    store.insert_batch(&other, NO_LIMITS).await.expect("a batch is added");
    store.start("batch_1", 1, START).await;
    let run = store.take("w", START).await.expect("there is a chunk");
    let validate = store.take("w", START).await.expect("there is a task to validate");
    let ran = TaskOutcome::Ran { progress: ChunkProgress::default(), location: location(0, 1) };
    for (lease, outcome) in [(&run, validated(1)), (&run, refused()), (&validate, ran)] {
        assert_eq!(code(store.finish(lease, &outcome, START).await), Err("invalid_parameter"), "{outcome:?}");
        assert_eq!(code(store.heartbeat(lease, &progress(0), START, TTL).await), Ok(LeaseState::Held));
    }
    assert!(store.end(&validate, &failed(START, 9), START).await);
}
