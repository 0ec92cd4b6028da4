//! Engines that fail, and workers that stop.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use vllm_batch::CancellationToken;

use super::*;

/// An engine that fails the first `failures` times that it is asked for what `is_bad` says.
fn failing(failures: usize, is_bad: impl Fn(&str) -> bool + Send + Sync + 'static) -> ScriptedEngine {
    let left = AtomicUsize::new(failures);
    ScriptedEngine::new(move |request| {
        let Prompt::Text(text) = &request.prompt else { return Ok("other".to_owned()) };
        let less = |left: usize| left.checked_sub(1);
        if is_bad(text) && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return Err(RequestError::EngineFailed { message: "it is tired".to_owned() });
        }
        Ok(text.clone())
    })
}

fn plain(count: usize) -> String {
    (0..count).map(|row| line(&format!("row-{row}"), &format!("say {row}")) + "\n").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_rows_at_which_the_engine_failed_are_asked_for_again() {
    let house = House::new().await;
    let batch = house.submit(&plain(20)).await;
    let engine = Arc::new(failing(2, |text| text.ends_with('5')));
    house.worker("w", &engine, |_| {}).run_until_idle().await.unwrap();
    assert_eq!(standing(&house.get(&batch).await), ("completed", [20, 20, 0]));
    assert_eq!(engine.stats().submitted, 22);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_at_which_the_engine_always_fails_is_an_error_after_all_tries() {
    let house = House::new().await;
    let batch = house.submit(&plain(20)).await;
    let engine = Arc::new(failing(usize::MAX, |text| text.ends_with("15")));
    house.worker("w", &engine, |_| {}).run_until_idle().await.unwrap();
    assert_eq!(standing(&house.get(&batch).await), ("completed", [20, 19, 1]));
    let [_, errors] = house.results(&batch).await;
    assert_eq!(codes_of(&errors), [("row-15".to_owned(), "engine_failed".to_owned())]);
    assert_eq!(engine.stats().submitted, 22);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_engine_fails_the_batch_with_what_is_done() {
    let house = House::new().await;
    let batch = house.submit(&plain(400)).await;
    let engine = Arc::new(ScriptedEngine::echo().dying_after(50));
    let worker = house.worker("w", &engine, |options| {
        options.chunk_size = 300;
        options.max_tasks = 1;
        options.max_engine_failures = 100;
    });
    worker.run_until_idle().await.unwrap();
    let ended = house.get(&batch).await;
    assert_eq!(standing(&ended), ("failed", [400, 50, 350]));
    assert!(
        ended.errors[0]["message"].as_str().unwrap().contains("the script lets the engine die"),
        "{:?}",
        ended.errors
    );
    let [answers, errors] = house.results(&batch).await;
    assert_eq!(names_of(&answers), (0..50).map(|row| format!("row-{row}")).collect::<Vec<_>>());
    let codes = codes_of(&errors);
    assert!(codes[300 - 50..].iter().all(|(_, code)| code == "batch_failed"), "the second chunk did not run");
    assert_eq!(house.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_a_dead_engine_ends_and_another_goes_on() {
    let house = House::new().await;
    let batch = house.submit(&plain(20)).await;
    let dead = Arc::new(ScriptedEngine::echo().dying_after(5));
    let worker = house.worker("w", &dead, |options| {
        options.max_engine_failures = 1;
        options.chunk_size = 10;
        options.max_tasks = 1;
        options.retry_after = Duration::from_secs(5);
    });
    // Of the first chunk some rows were answered, so that is no proof; of the second one none.
    let error = worker.run_until_idle().await.unwrap_err();
    assert!(matches!(&error, JobError::EngineFailed { worker, failures: 1, .. } if worker == "w"), "{error}");
    house.wait(5);
    let engine = Arc::new(ScriptedEngine::echo());
    house.worker("v", &engine, |_| {}).run_until_idle().await.unwrap();
    assert_eq!(standing(&house.get(&batch).await), ("completed", [20, 20, 0]));
    assert_eq!(engine.stats().submitted, 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_loses_nothing() {
    for drain_time in [Duration::ZERO, Duration::from_mins(1)] {
        let house = House::new().await;
        let batch = house.submit(&plain(300)).await;
        let engine = Arc::new(ScriptedEngine::echo().held());
        let worker = house.worker("w", &engine, |options| options.drain_time = drain_time);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { worker.run(shutdown).await }
        });
        engine.release(20);
        until(async || engine.stats().finished == 20).await;
        shutdown.cancel();
        if drain_time > Duration::ZERO {
            engine.release_all();
        }
        running.await.unwrap().unwrap();
        assert_eq!(house.get(&batch).await.status.as_str(), "in_progress");
        let done = engine.stats().finished;
        assert!(if drain_time.is_zero() { done == 20 } else { (21..300).contains(&done) }, "{done} rows are done");
        let next = Arc::new(ScriptedEngine::echo());
        house.worker("v", &next, |_| {}).run_until_idle().await.unwrap();
        assert_eq!(standing(&house.get(&batch).await), ("completed", [300, 300, 0]));
        assert_eq!(next.stats().submitted, 300 - done, "what was answered is not asked for again");
        assert_eq!(
            names_of(&house.results(&batch).await[0]),
            (0..300).map(|row| format!("row-{row}")).collect::<Vec<_>>()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_kills_its_workers_is_given_up() {
    let house = House::new().await;
    let (bad, good) = (house.submit(&plain(3)).await, house.submit(&plain(3)).await);
    let engine = Arc::new(moody());
    // Workers that take the chunk of the first batch and are never heard of again.
    for life in 0..2 {
        let held = Arc::new(moody().held());
        let dying = house.worker(&format!("dying-{life}"), &held, |options| options.max_tasks = 1);
        let running = tokio::spawn(async move { dying.run_until_idle().await });
        until(async || held.stats().running > 0).await;
        running.abort();
        let _ = running.await;
        house.wait(61);
    }
    let worker = house.worker("w", &engine, |options| options.max_idle_starts = 2);
    worker.run_until_idle().await.unwrap();
    let ended = house.get(&bad).await;
    assert_eq!(standing(&ended), ("failed", [3, 0, 3]));
    assert!(ended.errors[0]["message"].as_str().unwrap().contains("2 workers died"), "{:?}", ended.errors);
    assert_eq!(standing(&house.get(&good).await), ("completed", [3, 3, 0]));
}
