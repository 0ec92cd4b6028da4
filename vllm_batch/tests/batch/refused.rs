//! Runs that cannot start or have to stop say so, and destroy nothing.

use std::fs;
use std::path::Path;

use vllm_batch::testing::ScriptedEngine;
use vllm_batch::{BatchRunner, RunError};

use crate::{Job, counts, lines};

/// The error's code and the name of the file that it tells.
fn told(result: Result<vllm_batch::BatchReport, RunError>) -> (&'static str, Option<String>) {
    let error = result.expect_err("the run is refused");
    let name = error.path().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    (error.code(), name)
}

fn file(code: &'static str, name: &str) -> (&'static str, Option<String>) {
    (code, Some(name.to_owned()))
}

#[test]
fn paths_that_cannot_be_used() {
    let engine = ScriptedEngine::echo();
    let run = |input: &str, output: &str, errors: Option<&str>| {
        let job = Job::new(lines(2));
        fs::create_dir(job.path("folder")).expect("the folder is writable");
        let mut runner = job.runner(&engine).input(job.path(input)).output(job.path(output)).resume(true);
        if let Some(errors) = errors {
            runner = runner.errors(job.path(errors));
        }
        let told = told(runner.run());
        assert_eq!((job.names(), job.read("in.jsonl")), (vec!["folder".to_owned(), "in.jsonl".to_owned()], lines(2)));
        told
    };
    assert_eq!(run("none.jsonl", "out.jsonl", None), file("input_unreadable", "none.jsonl"));
    assert_eq!(run("folder", "out.jsonl", None), file("input_unreadable", "folder"));
    assert_eq!(run("in.jsonl", "folder", None), file("output_unusable", "folder"));
    assert_eq!(run("in.jsonl", "none/out.jsonl", None), file("output_unusable", "out.jsonl"));
    assert_eq!(run("in.jsonl", "out.jsonl", Some("folder")), file("output_unusable", "folder"));
    assert_eq!(run("in.jsonl", "in.jsonl", None), file("same_file", "in.jsonl"));
    assert_eq!(run("in.jsonl", "folder/../in.jsonl", None), file("same_file", "in.jsonl"));
    assert_eq!(run("in.jsonl", "out.jsonl", Some("in.jsonl")), file("same_file", "in.jsonl"));
    assert_eq!(run("in.jsonl", "out.jsonl", Some("out.jsonl")), file("same_file", "out.jsonl"));
    assert_eq!(run("in.jsonl", "out.jsonl", Some("out.stale.jsonl")), file("same_file", "out.stale.jsonl"));
}

#[test]
fn missing_paths_are_named() {
    let engine = ScriptedEngine::echo();
    assert_eq!(told(BatchRunner::new(&engine).output("x").run()), ("missing_path", None));
    assert_eq!(told(BatchRunner::new(&engine).input("x").run()), ("missing_path", None));
}

#[test]
fn an_empty_input_is_an_error_and_leaves_no_file() {
    for input in ["", "\n \r\n\t\n", "\u{feff}"] {
        let job = Job::new(input);
        assert_eq!(told(job.run(&ScriptedEngine::echo())), file("empty_file", "in.jsonl"));
        assert_eq!(job.names(), ["in.jsonl"]);
    }
}

#[test]
fn rows_of_another_run_are_never_overwritten() {
    for name in ["out.jsonl", "out.errors.jsonl"] {
        let job = Job::new(lines(1));
        fs::write(job.path(name), "precious").expect("the folder is writable");
        assert_eq!(told(job.run(&ScriptedEngine::echo())), file("output_exists", name));
        assert_eq!(job.read(name), "precious");
    }
    let job = Job::new(lines(1));
    fs::write(job.path("out.jsonl"), "").expect("the folder is writable");
    assert_eq!(counts(&job.run(&ScriptedEngine::echo()).expect("an empty file holds no rows")), [1, 1, 0, 0, 0, 0]);
}

#[test]
fn a_second_run_on_the_same_files_is_refused() {
    let job = Job::new(lines(2));
    let engine = ScriptedEngine::echo();
    let mut refusals = Vec::new();
    let other_output = || job.runner(&engine).output(job.path("other.jsonl")).errors(job.path("out.errors.jsonl"));
    let first = job.runner(&engine).on_progress(|progress| {
        if progress.done() == 0 {
            refusals.push(told(job.runner(&engine).resume(true).run()));
            refusals.push(told(other_output().resume(true).run()));
        }
    });
    assert_eq!(counts(&first.run().expect("the first run goes on")), [2, 2, 0, 0, 0, 0]);
    assert_eq!(refusals, [file("output_locked", "out.jsonl"), file("output_locked", "out.errors.jsonl")]);
    assert_eq!(job.names(), ["in.jsonl", "out.errors.jsonl", "out.jsonl"]);
    assert_eq!(engine.stats().submitted, 2);
}

#[test]
fn an_input_that_changes_during_the_run_is_noticed() {
    let job = Job::new(lines(3));
    let engine = ScriptedEngine::echo();
    let grow = |progress: &vllm_batch::Progress| {
        if progress.done() == 0 {
            job.set_input(lines(4));
        }
    };
    assert_eq!(told(job.runner(&engine).on_progress(grow).run()), file("input_changed", "in.jsonl"));
    job.resume(&engine);
    assert_eq!((job.rows().len(), engine.stats().finished), (4, 4));
}

#[test]
fn a_dead_engine_stops_the_run_and_everything_is_kept() {
    let job = Job::new(lines(1000));
    let engine = ScriptedEngine::echo().dying_after(10);
    match job.runner(&engine).window(4).run() {
        Err(RunError::EngineFailed { failures, message }) => {
            assert_eq!((failures, message.as_str()), (8, "the script lets the engine die here"));
        }
        other => panic!("expected a dead engine, found {other:?}"),
    }
    // Four rows failed before the last answer.
    assert_eq!((job.sorted("out.jsonl").len(), job.sorted("out.errors.jsonl").len()), (10, 12));
    assert_eq!(engine.stats().running, 0);

    let healthy = ScriptedEngine::echo();
    assert_eq!(counts(&job.resume(&healthy)), [1000, 990, 0, 10, 0, 12]);
    assert_eq!((healthy.stats().submitted, job.rows().len()), (990, 1000));
    assert_eq!(job.read("out.errors.jsonl"), "");
}

#[test]
fn a_short_file_tells_a_dead_engine_too() {
    let job = Job::new(lines(3));
    assert_eq!(told(job.run(&ScriptedEngine::echo().dying_after(0))), ("engine_failed", None));
    assert_eq!(counts(&job.resume(&ScriptedEngine::echo().dying_after(1))), [3, 1, 2, 0, 0, 3]);
    assert_eq!(counts(&job.resume(&ScriptedEngine::echo())), [3, 2, 0, 1, 0, 2]);
}

/// Names the folder to [`with_little_space`].
#[cfg(unix)]
const FOLDER: &str = "VLLM_BATCH_TEST_FOLDER";

#[cfg(unix)]
#[test]
fn a_full_disk_stops_the_run_and_everything_is_kept() {
    let job = Job::new(lines(100));
    let program = std::env::current_exe().expect("this program has a path");
    // The child may write files of a few KiB, and is told so by an error, not by a signal.
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact refused::with_little_space --ignored";
    let child = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(program)
        .env(FOLDER, job.folder.path())
        .output()
        .expect("there is a shell");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));

    let kept = job.rows().len();
    assert!((1..100).contains(&kept), "{kept} rows fit");
    let engine = ScriptedEngine::echo();
    assert_eq!(counts(&job.resume(&engine)), [100, 100 - kept, 0, kept, 0, 0]);
    assert_eq!((job.rows().len(), engine.stats().submitted), (100, 100 - kept));
}

#[cfg(unix)]
#[test]
#[ignore = "the child of another test"]
fn with_little_space() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let engine = ScriptedEngine::echo();
    let runner = BatchRunner::new(&engine).input(folder.join("in.jsonl")).output(folder.join("out.jsonl"));
    assert_eq!(told(runner.run()), file("disk_full", "out.jsonl"));
}
