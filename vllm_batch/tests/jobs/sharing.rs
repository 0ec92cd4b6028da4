//! Several workers share the work.

use std::sync::Arc;
use std::time::Duration;

use vllm_batch::EngineSpec;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_result_is_the_same_however_many_workers_there_were() {
    let mut found = Vec::new();
    for (workers, chunk_size, max_tasks) in [(1, 1000, 1), (1, 7, 1), (1, 7, 4), (3, 7, 2), (2, 1, 5)] {
        let house = House::new().await;
        let batch = house.submit(&lines(60)).await;
        let engine = Arc::new(moody());
        let works = (0..workers).map(|number| {
            let worker = house.worker(&format!("w{number}"), &engine, |options| {
                options.chunk_size = chunk_size;
                options.max_tasks = max_tasks;
            });
            tokio::spawn(async move { worker.run_until_idle().await })
        });
        for work in works.collect::<Vec<_>>() {
            work.await.unwrap().unwrap();
        }
        // Whoever was idle while others still ran is not there for what came of it.
        house.work().await;
        assert_eq!(standing(&house.get(&batch).await), ("completed", [60, 54, 6]));
        assert_eq!(engine.stats().submitted, 60, "each request was asked for once");
        found.push(house.results(&batch).await);
    }
    assert_eq!([names_of(&found[0][0]), names_of(&found[0][1])], names(60));
    for other in &found[1..] {
        assert_eq!(other, &found[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_runs_where_its_model_is_served() {
    let house = House::new().await;
    let spec = EngineSpec::new("other", "other-1");
    let (first, second) = (Arc::new(moody()), Arc::new(moody().with_spec(spec)));
    let [of_first, of_second] =
        [("one", &first), ("two", &second)].map(|(name, engine)| house.worker(name, engine, |_| {}));
    let text = line("a", "say it").replace("scripted", "other");
    let unknown = house.submit(&text).await;
    of_first.run_until_idle().await.unwrap();
    let ended = house.get(&unknown).await;
    assert_eq!((ended.status.as_str(), &ended.errors[0]["code"]), ("failed", &"model_not_found".into()));

    let info = vllm_batch::jobs::WorkerInfo {
        name: "two".to_owned(),
        models: vec!["other".to_owned()],
        started_at: START,
        last_seen: START,
        tokens_per_second: 0.0,
        rows_per_second: None,
    };
    house.service.store().note_worker(&info).await.unwrap();
    let batch = house.submit(&text).await;
    of_first.run_until_idle().await.unwrap();
    assert_eq!(standing(&house.get(&batch).await), ("in_progress", [1, 0, 0]));
    of_second.run_until_idle().await.unwrap();
    assert_eq!(standing(&house.get(&batch).await), ("completed", [1, 1, 0]));
    assert_eq!((first.stats().submitted, second.stats().submitted), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_given_up_changes_nothing() {
    let house = House::new().await;
    let batch = house.submit(&lines(10)).await;
    let engine = Arc::new(moody().held());
    let zombie = house.worker("zombie", &engine, |options| {
        options.heartbeat_interval = Duration::from_hours(1);
        options.max_tasks = 1;
    });
    let asleep = tokio::spawn(async move { zombie.run_until_idle().await });
    until(async || engine.stats().running > 0).await;
    house.wait(61);
    house.work().await;
    let ended = house.get(&batch).await;
    assert_eq!(standing(&ended), ("completed", [10, 9, 1]));
    let results = house.results(&batch).await;
    engine.release_all();
    asleep.await.unwrap().unwrap();
    assert_eq!((house.get(&batch).await, house.results(&batch).await), (ended, results));
    assert_eq!(files_below(&house.folder.path().join("files/batches")), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn small_batches_run_side_by_side() {
    let house = House::new().await;
    let engine = Arc::new(ScriptedEngine::echo().held());
    let mut batches = Vec::new();
    for row in 0..8 {
        batches.push(house.submit(&line("a", &format!("say {row}"))).await);
    }
    let worker = house.worker("w", &engine, |options| options.max_tasks = 8);
    let running = tokio::spawn(async move { worker.run_until_idle().await });
    until(async || engine.stats().running == 8).await;
    engine.release_all();
    running.await.unwrap().unwrap();
    for batch in batches {
        assert_eq!(standing(&house.get(&batch).await), ("completed", [1, 1, 0]));
    }
}
