//! Leases are renewed, lost, given back and tried again.

use std::future::Future;
use std::sync::Arc;

use futures::future::join_all;

use super::work::{CHUNK, START, TTL, Work, chunks, code, failed, location, progress, success};
use crate::jobs::{JobStore, LeaseState, NewChunk, TaskId, TaskKind, TaskOutcome};

pub(super) async fn check<F, S>(make: &F)
where
    F: Fn() -> S,
    S: Future<Output = Arc<dyn JobStore>>,
{
    silence_loses_a_task(&Work(make().await)).await;
    a_worker_that_was_restarted_is_another_holder(&Work(make().await)).await;
    one_worker_takes_over(&Work(make().await)).await;
    a_late_holder_keeps_what_nobody_took(&Work(make().await)).await;
    what_is_given_back_is_free_at_once(&Work(make().await)).await;
    a_task_is_tried_again(&Work(make().await)).await;
    an_answer_that_was_lost_can_be_asked_for(&Work(make().await)).await;
    the_next_task_has_a_time(&Work(make().await)).await;
}

async fn silence_loses_a_task(store: &Work) {
    store.start("batch_1", 1, START).await;
    let ann = store.take("ann", START).await.expect("there is a chunk");
    assert_eq!(store.take("bob", START + TTL - 1).await, None);
    assert_eq!(code(store.heartbeat(&ann, &progress(2), START + TTL - 1, TTL).await), Ok(LeaseState::Held));
    assert_eq!(store.take("bob", START + 2 * TTL - 2).await, None, "a heartbeat holds the task");
    let taken_at = START + 2 * TTL - 1;
    let bob = store.take("bob", taken_at).await.expect("the task is free again");
    assert_eq!((bob.task.id, bob.task.attempt, &bob.task.kind), (ann.task.id, 2, &ann.task.kind));

    let before = (store.get("batch_1").await, store.chunk_locations("batch_1").await.expect("chunks are listed"));
    for outcome in [success(&ann), failed(START, 1), TaskOutcome::Released] {
        assert!(!store.end(&ann, &outcome, taken_at).await, "{outcome:?}");
    }
    assert_eq!(code(store.heartbeat(&ann, &progress(CHUNK), taken_at, 10 * TTL).await), Ok(LeaseState::Lost));
    let after = (store.get("batch_1").await, store.chunk_locations("batch_1").await.expect("chunks are listed"));
    assert_eq!(before, after, "a lease that was lost changed something");

    assert!(store.end(&bob, &success(&bob), taken_at + 1).await);
    assert_eq!(
        code(store.heartbeat(&bob, &progress(CHUNK), taken_at, TTL).await),
        Ok(LeaseState::Lost),
        "it has ended"
    );
    let locations = store.chunk_locations("batch_1").await.expect("chunks are listed");
    assert_eq!(locations, [(chunks(1)[0], Some(location(0, 2)))]);
    store.work_off(taken_at + 2).await;
    assert!(!store.end(&ann, &success(&ann), taken_at + 3).await);
    assert_eq!(code(store.delete_batch("batch_1").await), Ok(true));
    assert!(!store.end(&ann, &success(&ann), taken_at + 3).await, "the batch is gone");
    assert_eq!(code(store.heartbeat(&ann, &progress(1), taken_at, TTL).await), Ok(LeaseState::Lost));
}

async fn a_worker_that_was_restarted_is_another_holder(store: &Work) {
    store.start("batch_1", 1, START).await;
    let before = store.take("ann", START).await.expect("there is a chunk");
    let after = store.take("ann", START + TTL).await.expect("the task is free again");
    assert_eq!((before.task.attempt, after.task.attempt), (1, 2));
    assert_eq!(code(store.heartbeat(&before, &progress(1), START + TTL, TTL).await), Ok(LeaseState::Lost));
    assert!(!store.end(&before, &success(&before), START + TTL).await, "what it said before it died");
    assert!(store.end(&after, &success(&after), START + TTL).await);
}

async fn one_worker_takes_over(store: &Work) {
    store.start("batch_1", 1, START).await;
    let silent = store.take("silent", START).await.expect("there is a chunk");
    let take = async |number: usize| store.take(&format!("worker-{number}"), START + TTL).await;
    let leases = join_all((0..8).map(take)).await;
    let taken: Vec<_> = leases.into_iter().flatten().collect();
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!((taken[0].task.id, taken[0].task.attempt), (silent.task.id, 2));
}

async fn a_late_holder_keeps_what_nobody_took(store: &Work) {
    store.start("batch_1", 1, START).await;
    let late = store.take("late", START).await.expect("there is a chunk");
    let now = START + 5 * TTL;
    assert_eq!(code(store.heartbeat(&late, &progress(3), now, TTL).await), Ok(LeaseState::Held));
    assert_eq!(store.take("other", now + TTL - 1).await, None);
    assert!(store.end(&late, &success(&late), now + 9 * TTL).await);
    assert_eq!(store.work_off(now + 9 * TTL).await, [TaskKind::Finalize]);
}

async fn what_is_given_back_is_free_at_once(store: &Work) {
    store.start("batch_1", 1, START).await;
    let mut attempts = Vec::new();
    for name in ["ann", "ann", "bob"] {
        let lease = store.take(name, START + 1).await.expect("the task is free");
        attempts.push(lease.task.attempt);
        assert!(store.end(&lease, &TaskOutcome::Released, START + 1).await);
        assert_eq!(code(store.heartbeat(&lease, &progress(1), START + 1, TTL).await), Ok(LeaseState::Lost));
    }
    assert_eq!(attempts, [1, 2, 3], "each time is another holder");
    // Three tries were given back, so this is the first of two.
    let lease = store.take("ann", START + 2).await.expect("the task is free");
    assert!(store.end(&lease, &failed(START + 3, 2), START + 2).await);
    assert_eq!(store.get("batch_1").await.ends_early_as(), None, "what was given back counted as tried");
    let lease = store.take("ann", START + 3).await.expect("the task is free");
    assert_eq!(code(store.task_attempts(lease.task.id).await), Ok(Some(5)));
    assert!(store.end(&lease, &failed(START + 4, 2), START + 3).await);
    assert!(store.get("batch_1").await.ends_early_as().is_some());
}

async fn a_task_is_tried_again(store: &Work) {
    store.add("batch_1").await;
    for (attempt, now) in [(1, START), (2, START + 100)] {
        let lease = store.take("w", now).await.expect("the task is due");
        assert_eq!(lease.task.attempt, attempt);
        assert!(store.end(&lease, &failed(now + 100, 3), now + 1).await);
        assert_eq!(store.take("w", now + 99).await, None, "it is not due yet");
        assert_eq!(code(store.next_due(now + 1).await), Ok(Some(now + 100)));
    }
    assert_eq!(store.work_off(START + 200).await.len(), 4, "the third try went well");
}

async fn an_answer_that_was_lost_can_be_asked_for(store: &Work) {
    store.add("batch_1").await;
    let mut ended = Vec::new();
    while let Some(lease) = store.take("w", START).await {
        let outcome = success(&lease);
        assert!(store.end(&lease, &outcome, START + 1).await);
        assert!(store.end(&lease, &outcome, START + 1).await, "the same worker asks again");
        ended.push((lease, outcome));
    }
    let before = store.get("batch_1").await;
    for (lease, outcome) in &ended {
        assert!(store.end(lease, outcome, START + 2).await, "{lease:?}");
        let mut other = lease.clone();
        other.worker = "other".into();
        assert!(!store.end(&other, outcome, START + 2).await, "another worker says the same");
    }
    assert_eq!(store.get("batch_1").await, before);
}

async fn the_next_task_has_a_time(store: &Work) {
    let due = async |now| code(store.next_due(now).await);
    assert_eq!(due(START).await, Ok(None));
    let batch = store.add("batch_1").await;
    assert_eq!(due(START + 5).await, Ok(Some(START + 5)), "there is one already");
    let lease = store.take("w", START + 5).await.expect("there is a task");
    assert_eq!(due(START + 6).await, Ok(Some(START + 5 + TTL)), "the lease may be lost");
    assert_eq!(code(store.heartbeat(&lease, &progress(0), START + 6, 1_000_000).await), Ok(LeaseState::Held));
    assert_eq!(due(START + 6).await, Ok(Some(batch.expires_at)), "the completion window ends");
    assert_eq!(due(batch.expires_at + 7).await, Ok(Some(batch.expires_at + 7)));
    assert_eq!(code(store.task_attempts(lease.task.id).await), Ok(Some(1)));
    assert_eq!(code(store.task_attempts(TaskId(lease.task.id.0 + 1)).await), Ok(None));
    let none: Vec<NewChunk> = Vec::new();
    assert!(store.end(&lease, &TaskOutcome::Validated { model: "tiny".to_owned(), chunks: none }, START + 7).await);
    assert_eq!(due(START + 8).await, Ok(Some(START + 8)));
    let lease = store.take("w", START + 8).await.expect("there is a task to finalize");
    assert_eq!(code(store.heartbeat(&lease, &progress(0), START + 8, 1_000_000).await), Ok(LeaseState::Held));
    assert_eq!(due(START + 8).await, Ok(Some(START + 1_000_008)), "a batch whose rows are done does not expire");
    assert!(store.end(&lease, &success(&lease), START + 9).await);
    assert_eq!(due(START + 9).await, Ok(None));
}
