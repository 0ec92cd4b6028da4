//! What the queue says.

use std::sync::Arc;

use vllm_batch::CancellationToken;
use vllm_batch::jobs::NewBatch;

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
