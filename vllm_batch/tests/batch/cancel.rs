//! A run that is stopped keeps what is done and leaves nothing in the engine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

use vllm_batch::batch::RunStatus;
use vllm_batch::testing::ScriptedEngine;
use vllm_batch::{CancellationToken, Progress};

use crate::{Job, counts, lines};

#[test]
fn cancelled_in_the_middle() {
    let job = Job::new(lines(100));
    let engine = ScriptedEngine::echo().held();
    engine.release(5);
    let token = CancellationToken::new();
    let stop = |progress: &Progress| {
        if progress.completed == 5 {
            token.cancel();
        }
    };
    let runner = job.runner(&engine).window(8).progress_interval(Duration::ZERO).cancellation(token.clone());
    let report = runner.on_progress(stop).run().expect("a cancelled run is no error");
    assert_eq!((report.status, counts(&report), report.remaining()), (RunStatus::Cancelled, [100, 5, 0, 0, 0, 0], 95));
    assert_eq!((engine.stats().running, engine.stats().finished), (0, 5));

    engine.release_all();
    let report = job.resume(&engine);
    assert_eq!((report.status, counts(&report)), (RunStatus::Completed, [100, 95, 0, 5, 0, 0]));
    assert_eq!((job.rows().len(), engine.stats().finished), (100, 100));
}

#[test]
fn cancelled_while_nothing_happens() {
    let job = Job::new(lines(100));
    let engine = ScriptedEngine::echo().held();
    engine.release(1);
    let token = CancellationToken::new();
    let (sender, receiver) = mpsc::channel();
    let canceller = token.clone();
    let thread = std::thread::spawn(move || {
        receiver.recv().expect("the run tells when it waits");
        canceller.cancel();
    });
    // After the first row the engine gives no sign of life any more.
    let tell = |progress: &Progress| {
        if progress.completed == 1 {
            let _ = sender.send(());
        }
    };
    let runner = job.runner(&engine).progress_interval(Duration::ZERO).cancellation(token);
    let report = runner.on_progress(tell).run().expect("a cancelled run is no error");
    thread.join().expect("the thread ends");
    assert_eq!((report.status, counts(&report)), (RunStatus::Cancelled, [100, 1, 0, 0, 0, 0]));
}

#[test]
fn cancelled_before_it_starts() {
    let job = Job::new(lines(3));
    let engine = ScriptedEngine::echo();
    let token = CancellationToken::new();
    token.cancel();
    let report = job.runner(&engine).cancellation(token).run().expect("a cancelled run is no error");
    assert_eq!((report.status, engine.stats().submitted), (RunStatus::Cancelled, 0));
    assert_eq!(job.names(), ["in.jsonl"]);
}

#[test]
fn cancelled_when_all_is_done() {
    let job = Job::new(lines(3));
    let engine = ScriptedEngine::echo();
    let token = CancellationToken::new();
    let stop = |progress: &Progress| {
        if progress.completed == 3 {
            token.cancel();
        }
    };
    let runner = job.runner(&engine).progress_interval(Duration::ZERO).cancellation(token.clone());
    let report = runner.on_progress(stop).run().expect("the run completes");
    assert_eq!((report.status, counts(&report)), (RunStatus::Completed, [3, 3, 0, 0, 0, 0]));
}

#[test]
fn a_panic_in_the_callback_loses_nothing() {
    let job = Job::new(lines(10));
    let engine = ScriptedEngine::echo();
    let runner = job.runner(&engine).window(1).progress_interval(Duration::ZERO);
    let runner = runner.on_progress(|progress| assert!(progress.completed < 4, "the callback's own fault"));
    catch_unwind(AssertUnwindSafe(|| runner.run())).expect_err("the panic comes through");
    assert_eq!(counts(&job.resume(&engine)), [10, 6, 0, 4, 0, 0]);
    assert_eq!(job.rows().len(), 10);
}

#[test]
fn a_runner_that_is_dropped_has_touched_nothing() {
    let job = Job::new(lines(1));
    let engine = ScriptedEngine::echo();
    drop(job.runner(&engine));
    assert_eq!((job.names(), engine.stats().submitted), (vec!["in.jsonl".to_owned()], 0));
}
