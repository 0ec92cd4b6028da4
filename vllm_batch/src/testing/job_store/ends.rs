//! Every way for a batch to end, from every status.

use std::future::Future;
use std::sync::Arc;

use serde_json::json;

use super::work::{
    CHUNK, NO_LIMITS, START, TTL, Work, batch, chunks, code, failed, location, progress, refused, standing, success,
};
use crate::jobs::{
    Batch, BatchStatus, DeliveryState, JobStore, Lease, LeaseState, RequestCounts, TaskKind, TaskOutcome,
};

use BatchStatus::{Cancelled, Cancelling, Completed, Expired, Failed, Finalizing, InProgress};

pub(super) async fn check<F, S>(make: &F)
where
    F: Fn() -> S,
    S: Future<Output = Arc<dyn JobStore>>,
{
    for early in [Cancelled, Expired, Failed] {
        what_is_done_is_kept(&Work(make().await), early).await;
        a_dead_holder_is_not_waited_for(&Work(make().await), early).await;
    }
    a_chunk_that_waits_is_asked_for(&Work(make().await)).await;
    a_batch_that_is_validated_is_cancelled(&Work(make().await)).await;
    a_batch_that_is_validated_expires(&Work(make().await)).await;
    a_bad_file_is_told_to_the_end(&Work(make().await)).await;
    a_batch_that_is_finalized_is_cancelled(&Work(make().await)).await;
    a_batch_that_is_finalized_does_not_expire(&Work(make().await)).await;
    what_has_ended_stays(&Work(make().await)).await;
    a_task_that_fails_for_good_fails_the_batch(&Work(make().await)).await;
    the_first_reason_counts(&Work(make().await)).await;
    all_that_are_overdue_expire(&Work(make().await)).await;
}

/// When a batch of the checks is overdue, and what is added to it where that was not the reason.
fn when(early: BatchStatus) -> i64 {
    if early == Expired { batch("batch_1").expires_at } else { START + 10 }
}

/// Gives a batch, of which a worker holds a chunk, a reason to end early.
async fn stop(store: &Work, other: &Lease, early: BatchStatus) {
    let now = when(early);
    match early {
        Cancelled => drop(store.cancel_batch("batch_1", now).await.expect("a batch is cancelled")),
        Failed => assert!(store.end(other, &failed(now, 1), now).await),
        // Whoever asks for a task finds that the time is over.
        _ => assert_eq!(store.take("idle", now).await, None),
    }
}

/// What a holder hears of each reason.
fn heard(early: BatchStatus) -> LeaseState {
    if early == Expired { LeaseState::Expired } else { LeaseState::Cancelling }
}

/// Four chunks: one is done, two are held, one has not begun. Holders end; the last one was dropped.
async fn what_is_done_is_kept(store: &Work, early: BatchStatus) {
    store.start("batch_1", 4, START).await;
    let done = store.take("ann", START).await.expect("there is a chunk");
    assert!(store.end(&done, &success(&done), START + 1).await);
    let now = when(early);
    let held = store.hold("bob", now + 5).await;
    let other = store.hold("eve", now + 5).await;
    stop(store, &other, early).await;
    assert_eq!(code(store.heartbeat(&held, &progress(4), now, TTL).await), Ok(heard(early)));
    let status = if early == Cancelled { Cancelling } else { InProgress };
    assert_eq!(standing(&store.get("batch_1").await), (status, Some(early)));
    if early != Failed {
        assert_eq!(code(store.heartbeat(&other, &progress(2), now, TTL).await), Ok(heard(early)));
        assert!(store.end(&other, &TaskOutcome::Ran { progress: progress(2), location: location(2, 1) }, now).await);
    }
    assert_eq!(store.take("late", now + 1).await, None, "a holder is waited for");
    assert!(store.end(&held, &TaskOutcome::Ran { progress: progress(6), location: location(1, 1) }, now + 2).await);
    let third = (early != Failed).then(|| location(2, 1));
    let expected = [Some(location(0, 1)), Some(location(1, 1)), third, None];
    let found = store.chunk_locations("batch_1").await.expect("chunks are listed");
    assert_eq!(found, chunks(4).into_iter().zip(expected).collect::<Vec<_>>());
    finalized(store, early, now + 3).await;
}

/// The holder of a chunk dies; another worker says what is known of it, and the batch ends.
async fn a_dead_holder_is_not_waited_for(store: &Work, early: BatchStatus) {
    store.start("batch_1", 3, START).await;
    let now = when(early) + 1;
    let dead = store.hold("dead", now).await;
    let other = store.hold("eve", now).await;
    stop(store, &other, early).await;
    for _ in 0..if early == Failed { 1 } else { 2 } {
        let heir = store.take("heir", now).await.expect("the lease is over");
        assert_eq!((heir.task.attempt, heir.state()), (2, heard(early)));
        let empty = TaskOutcome::Ran { progress: progress(0), location: "none".to_owned() };
        assert!(store.end(&heir, &empty, now).await);
    }
    assert_eq!(code(store.heartbeat(&dead, &progress(9), now, TTL).await), Ok(LeaseState::Lost));
    assert!(!store.end(&dead, &success(&dead), now).await);
    finalized(store, early, now).await;
}

/// A chunk was begun, and waits for another try when the batch is cancelled: somebody must say what is done of it.
async fn a_chunk_that_waits_is_asked_for(store: &Work) {
    store.start("batch_1", 1, START).await;
    let lease = store.take("w", START).await.expect("there is a chunk");
    assert!(store.end(&lease, &failed(START + 1000, 9), START).await);
    store.cancel_batch("batch_1", START + 1).await.expect("a batch is cancelled");
    let lease = store.take("w", START + 1).await.expect("it waits no longer");
    assert_eq!((lease.task.attempt, lease.state()), (2, LeaseState::Cancelling));
    assert!(store.end(&lease, &failed(START + 2, 9), START + 1).await, "it is not tried again");
    finalized(store, Cancelled, START + 1).await;
}

/// The batch is finalized, ends as it was to end, and its receiver is told once.
async fn finalized(store: &Work, early: BatchStatus, now: i64) {
    let lease = store.take("last", now).await.expect("there is a task to finalize");
    assert_eq!((&lease.task.kind, lease.batch.ends_early_as()), (&TaskKind::Finalize, Some(early)));
    assert_eq!(code(store.heartbeat(&lease, &progress(0), now, TTL).await), Ok(LeaseState::Held), "it goes on");
    assert!(store.end(&lease, &success(&lease), now).await);
    ended(store, early).await;
    assert_eq!(store.work_off(now + 1_000_000).await, []);
}

/// The one batch has ended so, and its receiver was told once.
async fn ended(store: &Work, status: BatchStatus) -> Batch {
    let batch = store.get("batch_1").await;
    assert_eq!(standing(&batch), (status, None), "{batch:?}");
    let told = store.deliveries(None, DeliveryState::Pending, 99).await.expect("messages are listed");
    let events: Vec<_> = told.iter().map(|message| message.event.as_str()).collect();
    assert_eq!(events, [format!("batch.{}", status.as_str())]);
    batch
}

async fn a_batch_that_is_validated_is_cancelled(store: &Work) {
    store.add("batch_1").await;
    let batch = store.cancel_batch("batch_1", START + 1).await.expect("a batch is cancelled");
    assert_eq!((standing(&batch), batch.cancelling_at), ((Cancelling, Some(Cancelled)), Some(START + 1)));
    assert_eq!(store.get("batch_1").await, batch);
    // The rows must be known, so that each can be accounted for.
    let lease = store.take("w", START + 2).await.expect("there is a task");
    assert_eq!((&lease.task.kind, lease.state()), (&TaskKind::Validate, LeaseState::Cancelling));
    assert!(store.end(&lease, &success(&lease), START + 3).await);
    let locations = store.chunk_locations("batch_1").await.expect("chunks are listed");
    assert_eq!(locations, chunks(2).into_iter().map(|chunk| (chunk, None)).collect::<Vec<_>>(), "no chunk begins");
    assert_eq!(store.get("batch_1").await.request_counts.total, 2 * CHUNK);
    finalized(store, Cancelled, START + 4).await;
    assert_eq!(store.get("batch_1").await.cancelled_at, Some(START + 4));
}

async fn a_batch_that_is_validated_expires(store: &Work) {
    let batch = store.add("batch_1").await;
    let lease = store.take("w", batch.expires_at - 1).await.expect("there is a task");
    assert_eq!(code(store.heartbeat(&lease, &progress(0), batch.expires_at - 1, TTL).await), Ok(LeaseState::Held));
    assert_eq!(code(store.heartbeat(&lease, &progress(0), batch.expires_at, TTL).await), Ok(LeaseState::Expired));
    assert!(store.end(&lease, &success(&lease), batch.expires_at + 5).await);
    finalized(store, Expired, batch.expires_at + 6).await;
    assert_eq!(store.get("batch_1").await.expired_at, Some(batch.expires_at));
}

async fn a_bad_file_is_told_to_the_end(store: &Work) {
    store.add("batch_1").await;
    store.cancel_batch("batch_1", START + 1).await.expect("a batch is cancelled");
    let lease = store.take("w", START + 2).await.expect("there is a task");
    assert!(store.end(&lease, &refused(), START + 3).await);
    let batch = ended(store, Failed).await;
    assert_eq!(batch.errors.len(), 1);
}

async fn a_batch_that_is_finalized_is_cancelled(store: &Work) {
    store.start("batch_1", 0, START).await;
    let lease = store.take("w", START).await.expect("there is a task to finalize");
    let batch = store.cancel_batch("batch_1", START + 1).await.expect("a batch is cancelled");
    assert_eq!(standing(&batch), (Cancelling, Some(Cancelled)));
    assert_eq!(code(store.heartbeat(&lease, &progress(0), START + 1, TTL).await), Ok(LeaseState::Held));
    assert!(store.end(&lease, &success(&lease), START + 2).await);
    ended(store, Cancelled).await;
}

async fn a_batch_that_is_finalized_does_not_expire(store: &Work) {
    let batch = store.start("batch_1", 1, START).await;
    let lease = store.take("w", batch.expires_at - 1).await.expect("there is a chunk");
    assert!(store.end(&lease, &success(&lease), batch.expires_at - 1).await);
    let lease = store.take("w", batch.expires_at + 5).await.expect("there is a task to finalize");
    assert_eq!(standing(&lease.batch), (Finalizing, None), "all its rows were done in time");
    assert!(store.end(&lease, &success(&lease), batch.expires_at + 6).await);
    ended(store, Completed).await;
}

async fn what_has_ended_stays(store: &Work) {
    assert_eq!(code(store.cancel_batch("batch_1", START).await), Err("not_found"));
    store.add("batch_1").await;
    store.work_off(START).await;
    let batch = ended(store, Completed).await;
    assert_eq!(code(store.cancel_batch("batch_1", START).await), Err("invalid_status"));
    assert_eq!(store.work_off(batch.expires_at + 1).await, []);
    assert_eq!(ended(store, Completed).await, batch);
    let mut changed = batch.clone();
    changed.metadata.insert("seen".to_owned(), "yes".to_owned());
    assert_eq!(code(store.update_batch(&changed).await), Ok(true), "what says nothing about work can change");
    let found = ended(store, Completed).await;
    changed.version = found.version;
    assert_eq!(found, changed);
    assert_eq!(store.ended_batches(START + 1, 9).await.expect("batches are listed"), [found]);
}

async fn a_task_that_fails_for_good_fails_the_batch(store: &Work) {
    // To validate.
    store.add("batch_1").await;
    let lease = store.take("w", START).await.expect("there is a task");
    assert!(store.end(&lease, &failed(START, 1), START + 1).await);
    let batch = ended(store, Failed).await;
    let expected = json!({"code": "server_error", "message": "the engine died", "param": null, "line": null});
    assert_eq!(batch.errors, [expected]);
    assert_eq!(code(store.delete_batch("batch_1").await), Ok(true));
    // To finalize: what is known of the rows is kept.
    store.insert_batch(&super::work::batch("batch_1"), NO_LIMITS).await.expect("a batch is added");
    let mut lease = store.take("w", START).await.expect("there is a task");
    while lease.task.kind != TaskKind::Finalize {
        assert!(store.end(&lease, &success(&lease), START).await);
        lease = store.take("w", START).await.expect("there is a task");
    }
    assert!(store.end(&lease, &failed(START, 1), START + 1).await);
    let batch = ended(store, Failed).await;
    assert_eq!(batch.request_counts, RequestCounts { total: 2 * CHUNK, completed: 18, failed: 2 });
    assert_eq!((batch.output_file_id, batch.errors.len()), (None, 1));
}

async fn the_first_reason_counts(store: &Work) {
    let batch = store.start("batch_1", 2, START).await;
    let first = store.hold("ann", batch.expires_at + 5).await;
    let second = store.hold("bob", batch.expires_at + 5).await;
    assert!(store.end(&first, &failed(START, 1), START + 1).await);
    let failing = store.get("batch_1").await;
    assert_eq!(standing(&failing), (InProgress, Some(Failed)));
    let batch = store.cancel_batch("batch_1", START + 2).await.expect("a batch that ends early stays as it is");
    assert_eq!(batch, failing);
    assert_eq!(
        code(store.heartbeat(&second, &progress(3), batch.expires_at + 1, TTL).await),
        Ok(LeaseState::Cancelling)
    );
    assert!(store.end(&second, &failed(START, 9), batch.expires_at + 1).await);
    assert_eq!(store.get("batch_1").await.errors.len(), 1, "the first failure says why");
    finalized(store, Failed, batch.expires_at + 2).await;
}

async fn all_that_are_overdue_expire(store: &Work) {
    for number in 0..40 {
        let mut batch = batch(&format!("batch_{number}"));
        batch.expires_at = START + 100;
        batch.priority = -number;
        store.add_file(&batch.input_file_id).await;
        store.insert_batch(&batch, NO_LIMITS).await.expect("a batch is added");
    }
    let kinds = store.work_off(START + 100).await;
    let count = |kind: &TaskKind| kinds.iter().filter(|found| *found == kind).count();
    assert_eq!((count(&TaskKind::Validate), count(&TaskKind::Finalize)), (40, 40));
    let counts = store.count_batches(None).await.expect("batches are counted");
    assert_eq!(counts, [(Expired, 40)]);
}
