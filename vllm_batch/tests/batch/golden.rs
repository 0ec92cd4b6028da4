//! The same bytes on every machine.

use vllm_batch::batch::BatchRequestOutput;
use vllm_batch::testing::ScriptedEngine;

use crate::{Job, counts, data, lines, sorted};

#[test]
fn a_file_comes_out_byte_for_byte() {
    let job = Job::new(data("input.jsonl"));
    let report = job.run(&ScriptedEngine::echo()).expect("the run completes");
    assert_eq!(counts(&report), [21, 12, 9, 0, 0, 0]);
    assert_eq!(job.sorted("out.jsonl"), sorted(&data("output.jsonl")));
    assert_eq!(job.sorted("out.errors.jsonl"), sorted(&data("errors.jsonl")));
    assert_eq!(job.names(), ["in.jsonl", "out.errors.jsonl", "out.jsonl"]);
    for row in job.rows() {
        let read: BatchRequestOutput = serde_json::from_str(&row).expect("our own rows can be read");
        assert_eq!(serde_json::to_string(&read).expect("rows can be written"), row);
    }
}

#[test]
fn neither_the_window_nor_the_order_changes_a_row() {
    let job = Job::new(data("input.jsonl"));
    job.run(&ScriptedEngine::echo()).expect("the run completes");
    for window in [0, 1, 2, 1000] {
        let other = Job::new(data("input.jsonl"));
        other.runner(&ScriptedEngine::echo()).window(window).run().expect("the run completes");
        assert_eq!(other.rows(), job.rows());
    }
}

#[test]
fn no_more_rows_are_in_flight_than_the_window_allows() {
    let job = Job::new(lines(20_000));
    let engine = ScriptedEngine::echo();
    let report = job.runner(&engine).window(37).run().expect("the run completes");
    assert_eq!(counts(&report), [20_000, 20_000, 0, 0, 0, 0]);
    assert_eq!((engine.stats().submitted, engine.stats().max_running), (20_000, 37));
    let mut value = serde_json::to_value(&report).expect("reports can be written");
    for field in ["elapsed_seconds", "tokens_per_second", "output_path", "errors_path", "stale_path"] {
        value.as_object_mut().expect("a report is an object").remove(field);
    }
    let expected = serde_json::json!({
        "status": "completed", "total": 20_000, "completed": 20_000, "failed": 0, "skipped": 0, "skipped_failed": 0,
        "deduplicated": 0, "stale": 0, "prompt_tokens": 40_000, "cached_tokens": 0, "completion_tokens": 40_000,
        "generated_tokens": 40_000,
    });
    assert_eq!(value, expected);
}

#[test]
fn progress_counts_every_event() {
    let job = Job::new(lines(3));
    let engine = ScriptedEngine::echo();
    let mut seen = Vec::new();
    let runner = job.runner(&engine).window(1).progress_interval(std::time::Duration::ZERO);
    let see =
        |progress: &vllm_batch::Progress| seen.push((progress.done(), progress.running, progress.generated_tokens));
    runner.on_progress(see).run().expect("the run completes");
    let expected = [
        (0, 0, 0),
        (0, 1, 1),
        (0, 1, 2),
        (1, 0, 2),
        (1, 1, 3),
        (1, 1, 4),
        (2, 0, 4),
        (2, 1, 5),
        (2, 1, 6),
        (3, 0, 6),
        (3, 0, 6),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn layout_of_the_file_does_not_matter() {
    let plain = Job::new(lines(2));
    plain.run(&ScriptedEngine::echo()).expect("the run completes");
    let text = lines(2);
    let layouts = [
        format!("\u{feff}{text}"),
        text.replace('\n', "\r\n"),
        text.trim_end().to_owned(),
        format!("\n  \n{}\t\r\n", text.replace('\n', "\n\n")),
        text.replace(r#""method":"POST","#, r#" "extra": [1], "method" : "POST", "#),
    ];
    for layout in layouts {
        let job = Job::new(&layout);
        let report = job.run(&ScriptedEngine::echo()).expect("the run completes");
        assert_eq!((counts(&report), job.rows()), ([2, 2, 0, 0, 0, 0], plain.rows()), "{layout:?}");
    }
}
