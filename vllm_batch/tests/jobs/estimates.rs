//! What the queue says.

use std::sync::Arc;

use vllm_batch::CancellationToken;
use vllm_batch::jobs::{NewBatch, QueueLimits, QueuedBatch};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn places_follow_priority_and_times_what_was_measured() {
    let house = House::new().await;
    let engine = Arc::new(ScriptedEngine::echo().held());
    let text: String = (0..100).map(|row| line(&format!("row-{row}"), &format!("say {row}")) + "\n").collect();
    let first = house.submit(&text).await;
    let worker = house.worker("w", &engine, |options| options.max_tasks = 1);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { worker.run(shutdown).await }
    });
    until(async || engine.stats().running > 0).await;
    let late = house.submit(&text).await;
    let file = house.upload(&text).await;
    let mut urgent = NewBatch::new(file.id, COMPLETIONS);
    urgent.priority = 5;
    let urgent = house.service.create_batch(urgent).await.unwrap();
    let report = house.service.queue(None, 10).await.unwrap();
    let places: Vec<_> = report.batches.iter().map(|queued| (queued.batch.id.clone(), queued.position)).collect();
    assert_eq!(places, [(urgent.id, 1), (first.id.clone(), 2), (late.id, 3)]);
    assert!(report.batches.iter().all(|queued| queued.ends_in.is_none()), "nothing is measured yet");
    until(async || {
        engine.release(1);
        let report = house.service.queue(None, 10).await.unwrap();
        let running = report.batches.iter().find(|queued| queued.batch.id == first.id).unwrap();
        running.ends_in.is_some_and(|seconds| seconds > 0.0) && running.rows_left < Some(100) && running.position == 0
    })
    .await;
    assert!(house.service.stats(None).await.unwrap().workers[0].rows_per_second.is_some());
    engine.release_all();
    until(async || house.service.queue(None, 10).await.unwrap().batches.is_empty()).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(house.service.stats(None).await.unwrap().batches, [(vllm_batch::jobs::BatchStatus::Completed, 3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_sees_what_waits_behind_many_of_others() {
    let house = House::new().await;
    let file = house.upload(&lines(1)).await;
    let mut ids = Vec::new();
    for owner in ["ann", "ann", "ann", "bob", "ann", "bob"] {
        let mut batch = Batch::new(format!("batch_{}", ids.len()), COMPLETIONS, &file.id, START);
        batch.owner = owner.to_owned();
        house.service.store().insert_batch(&batch, QueueLimits::default()).await.unwrap();
        ids.push(batch.id);
    }
    let seen = async |owner, limit| {
        let report = house.service.queue(owner, limit).await.unwrap();
        let place = |queued: QueuedBatch| (queued.position, ids.iter().position(|id| *id == queued.batch.id).unwrap());
        report.batches.into_iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(seen(Some("bob"), 1).await, [(4, 3)]);
    assert_eq!(seen(Some("bob"), 9).await, [(4, 3), (6, 5)]);
    assert_eq!(seen(Some("ann"), 2).await, [(1, 0), (2, 1)]);
    assert_eq!(seen(Some("eve"), 1).await, []);
    assert_eq!(seen(None, 2).await, [(1, 0), (2, 1)]);
}
