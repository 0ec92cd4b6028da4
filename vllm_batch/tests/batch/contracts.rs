//! Three contracts: what each refuses, what its rows look like, and what it says when a run is stopped.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use vllm_batch::batch::{BatchRequestOutput, Contract, OpenAiLimits, RunStatus, ValidationErrors};
use vllm_batch::testing::ScriptedEngine;
use vllm_batch::{BatchEngine, CancellationToken, EngineSpec, RunError};

use crate::{Job, counts, data, line, lines, sorted};

/// An engine with a small context and a model that has two names.
fn engine() -> ScriptedEngine {
    let mut spec = EngineSpec::new("scripted", "scripted-1");
    spec.served_model_names.push("alias".to_owned());
    spec.max_model_len = 8;
    ScriptedEngine::echo().with_spec(spec)
}

/// Why the file is not valid. Nothing was written, and the engine was not asked.
fn errors(job: &Job, limits: OpenAiLimits) -> ValidationErrors {
    let engine = engine();
    let result = job.runner(&engine).contract(Contract::OpenAi(limits)).resume(true).run();
    let names = job.names().into_iter().filter(|name| name.starts_with("out")).count();
    assert_eq!((names, engine.stats().submitted), (0, 0));
    match result {
        Err(RunError::ValidationFailed { path, errors }) if path.ends_with("in.jsonl") => errors,
        other => panic!("expected problems, found {other:?}"),
    }
}

/// Code, parameter and line of each problem.
fn told(errors: &ValidationErrors) -> Vec<(&'static str, Option<&str>, Option<u64>)> {
    errors.data.iter().map(|problem| (problem.code, problem.param.as_deref(), problem.line)).collect()
}

#[test]
fn openai_lists_every_problem_of_a_file() {
    let job = Job::new(data("openai.invalid.jsonl"));
    let errors = errors(&job, OpenAiLimits::default());
    let expected = [
        ("missing_required_parameter", Some("body.messages"), Some(2)),
        ("invalid_json_line", None, Some(3)),
        ("invalid_json_line", None, Some(4)),
        ("missing_required_parameter", Some("custom_id"), Some(5)),
        ("invalid_request", Some("custom_id"), Some(6)),
        ("duplicate_custom_id", Some("custom_id"), Some(8)),
        ("invalid_request", Some("method"), Some(9)),
        ("missing_required_parameter", Some("method"), Some(10)),
        ("missing_required_parameter", Some("body"), Some(11)),
        ("url_mismatch", Some("url"), Some(12)),
        ("url_mismatch", Some("url"), Some(13)),
        ("model_mismatch", Some("body.model"), Some(14)),
        ("model_not_found", Some("body.model"), Some(15)),
        ("unsupported_parameter", Some("body.stream"), Some(16)),
        ("invalid_value", Some("body.temperature"), Some(17)),
        ("invalid_value", Some("body.temperature"), Some(18)),
        ("url_mismatch", Some("url"), Some(18)),
        ("model_mismatch", Some("body.model"), Some(18)),
        ("duplicate_custom_id", Some("custom_id"), Some(18)),
    ];
    assert_eq!(told(&errors), expected);
    let golden: Value = serde_json::from_str(&data("openai.problems.json")).expect("the golden file is JSON");
    assert_eq!(serde_json::to_value(&errors).expect("problems can be written"), golden);
    assert!(errors.to_string().starts_with("line 2: Missing required parameter: 'messages'. (missing_required"));
    assert!(errors.to_string().ends_with("; and 16 more"), "{errors}");

    // The first problems are listed and the others counted, whatever the limit.
    for max_problems in 0..=20 {
        let some = self::errors(&job, OpenAiLimits::default().with_max_problems(max_problems));
        let listed = max_problems.min(19);
        assert_eq!((told(&some), some.omitted), (expected[..listed].to_vec(), 19 - listed));
    }
}

/// Three inputs in two lines.
fn embeddings() -> String {
    let line = |(row, input): (usize, &str)| {
        let body = format!(r#"{{"model":"scripted","input":{input}}}"#);
        format!(r#"{{"custom_id":"{row}","method":"POST","url":"/v1/embeddings","body":{body}}}"#) + "\n"
    };
    [r#"["a","b"]"#, r#""c""#].into_iter().enumerate().map(line).collect()
}

#[test]
fn openai_limits_the_whole_file() {
    let limits = OpenAiLimits::default();
    let file = lines(3);
    let cases = [
        (String::new(), limits, "empty_file"),
        ("\n\n".to_owned(), limits, "empty_file"),
        (file.clone(), limits.with_max_requests(2), "too_many_tasks"),
        (file.clone(), limits.with_max_file_bytes(file.len() as u64 - 1), "file_too_large"),
        (embeddings(), limits.with_max_embedding_inputs(2), "too_many_embedding_inputs"),
    ];
    for (input, limits, code) in cases {
        let errors = errors(&Job::new(input), limits);
        assert_eq!((told(&errors), errors.omitted), (vec![(code, None, None)], 0));
    }
    assert_eq!((limits.max_requests, limits.max_file_bytes, limits.max_problems), (50_000, 209_715_200, 10_000));
    assert_eq!(limits.max_embedding_inputs, 50_000);
    let job = Job::new(embeddings());
    let exact = Contract::OpenAi(limits.with_max_embedding_inputs(3));
    let report = job.runner(&engine()).contract(exact).run().expect("the inputs just fit");
    assert_eq!(counts(&report), [2, 2, 0, 0, 0, 0]);
    let job = Job::new(&file);
    let limits = limits.with_max_requests(3).with_max_file_bytes(file.len() as u64);
    let report = job.runner(&engine()).contract(Contract::OpenAi(limits)).run().expect("the file just fits");
    assert_eq!(counts(&report), [3, 3, 0, 0, 0, 0]);
}

#[test]
fn openai_rows_byte_for_byte_and_as_others_read_them() {
    let job = Job::new(data("openai.input.jsonl"));
    let report = job.runner(&engine()).contract(Contract::open_ai()).run().expect("the run completes");
    assert_eq!((report.status, counts(&report)), (RunStatus::Completed, [3, 2, 1, 0, 0, 0]));
    assert_eq!(job.sorted("out.jsonl"), sorted(&data("openai.output.jsonl")));
    assert_eq!(job.sorted("out.errors.jsonl"), sorted(&data("openai.errors.jsonl")));
    for row in job.rows() {
        let value: Value = serde_json::from_str(&row).expect("rows are JSON");
        let read: async_openai::types::batches::BatchRequestOutput =
            serde_json::from_str(&row).expect("other programs can read our rows");
        assert_eq!(serde_json::to_value(&read).expect("rows can be written"), value);
    }
    for line in data("openai.input.jsonl").lines() {
        serde_json::from_str::<async_openai::types::batches::BatchRequestInput>(line).expect("the input is OpenAI's");
    }
}

/// Stops after five rows of ten; returns how the run ended.
fn cancelled(job: &Job, engine: &ScriptedEngine, contract: Contract) -> (RunStatus, [usize; 6], usize) {
    let token = CancellationToken::new();
    let runner = job.runner(engine).contract(contract).window(3).cancellation(token.clone());
    let runner = runner.progress_interval(Duration::ZERO).on_progress(|progress| {
        if progress.completed == 5 {
            token.cancel();
        }
    });
    let report = runner.run().expect("a cancelled run is no error");
    (report.status, counts(&report), report.remaining())
}

/// How many error rows have this code.
fn with_code(job: &Job, code: &str) -> usize {
    job.rows().iter().filter(|row| row.contains(&format!(r#""error":{{"code":"{code}","#))).count()
}

#[test]
fn a_cancelled_run_tells_every_row_only_with_openai() {
    for (contract, cancelled_rows) in [(Contract::Lenient, 0), (Contract::open_ai(), 5), (Contract::Vllm, 0)] {
        let job = Job::new(lines(10));
        let engine = ScriptedEngine::echo();
        let expected = (RunStatus::Cancelled, [10, 5, cancelled_rows, 0, 0, 0], 5 - cancelled_rows);
        assert_eq!(cancelled(&job, &engine, contract), expected, "{contract:?}");
        assert_eq!((job.rows().len(), with_code(&job, "batch_cancelled")), (5 + cancelled_rows, cancelled_rows));
        assert_eq!(engine.stats().running, 0);
        let report = job.runner(&engine).contract(contract).resume(true).run().expect("the run can be resumed");
        assert_eq!((report.status, counts(&report)), (RunStatus::Completed, [10, 5, 0, 5, 0, cancelled_rows]));
        assert_eq!((job.rows().len(), with_code(&job, "batch_cancelled")), (10, 0));
    }
}

#[test]
fn cancelled_before_the_first_row() {
    for (contract, rows) in [(Contract::Lenient, 0), (Contract::open_ai(), 4), (Contract::Vllm, 0)] {
        let job = Job::new(lines(4));
        let token = CancellationToken::new();
        token.cancel();
        let engine = ScriptedEngine::echo();
        let report = job.runner(&engine).contract(contract).cancellation(token).run().expect("no error");
        assert_eq!((report.status, report.failed, engine.stats().submitted), (RunStatus::Cancelled, rows, 0));
        assert_eq!((job.rows().len(), with_code(&job, "batch_cancelled")), (rows, rows));
    }
}

#[test]
fn a_deadline_ends_a_run_that_waits() {
    for (contract, rows) in [(Contract::Lenient, 0), (Contract::open_ai(), 10), (Contract::Vllm, 0)] {
        for deadline in [Duration::ZERO, Duration::from_millis(5)] {
            let job = Job::new(lines(10));
            // It never answers.
            let engine = ScriptedEngine::echo().held();
            let runner = job.runner(&engine).contract(contract).window(3).deadline(deadline);
            let report = runner.run().expect("an expired run is no error");
            assert_eq!((report.status, counts(&report)), (RunStatus::Expired, [10, 0, rows, 0, 0, 0]), "{contract:?}");
            assert_eq!((with_code(&job, "batch_expired"), engine.stats().running), (rows, 0));
            engine.release_all();
            let report = job.runner(&engine).contract(contract).resume(true).run().expect("the run can be resumed");
            assert_eq!((report.status, counts(&report)), (RunStatus::Completed, [10, 10, 0, 0, 0, rows]));
        }
    }
}

#[test]
fn an_expired_run_keeps_what_is_done() {
    let job = Job::new(lines(10));
    cancelled(&job, &ScriptedEngine::echo(), Contract::open_ai());
    let runner = |engine| job.runner(engine).contract(Contract::open_ai()).resume(true);
    let engine = ScriptedEngine::echo();
    let report = runner(&engine).deadline(Duration::ZERO).run().expect("an expired run is no error");
    assert_eq!((report.status, counts(&report)), (RunStatus::Expired, [10, 0, 5, 5, 0, 5]));
    assert_eq!(job.sorted("out.jsonl").len(), 5);
    let row: Value = serde_json::from_str(&job.sorted("out.errors.jsonl")[0]).expect("rows are JSON");
    let message = "This request could not be executed before the completion window expired.";
    let error = json!({"code": "batch_expired", "message": message, "line": null, "param": null});
    assert_eq!((&row["response"], &row["error"]), (&Value::Null, &error));
    let report = runner(&engine).deadline(Duration::MAX).run().expect("there is time enough");
    assert_eq!((report.status, counts(&report)), (RunStatus::Completed, [10, 5, 0, 5, 0, 5]));
}

#[test]
fn vllm_rows_byte_for_byte() {
    let job = Job::new(data("vllm.input.jsonl"));
    let run = |resume| job.runner(&engine()).contract(Contract::Vllm).resume(resume).run().expect("the run completes");
    let report = run(false);
    assert_eq!((report.status, counts(&report)), (RunStatus::Completed, [9, 5, 4, 0, 0, 0]));
    assert_eq!(report.errors_path, report.output_path);
    assert_eq!(job.sorted("out.jsonl"), sorted(&data("vllm.output.jsonl")));
    assert_eq!(job.names(), ["in.jsonl", "out.jsonl"]);
    assert_eq!(counts(&run(true)), [9, 0, 0, 9, 4, 0]);
    for row in job.rows() {
        let read: BatchRequestOutput = serde_json::from_str(&row).expect("our own rows can be read");
        assert_eq!(read.is_success(), row.contains(r#""status_code":200"#), "{row}");
    }
}

#[test]
fn vllms_own_rows_can_be_read() {
    let rows: Vec<BatchRequestOutput> =
        data("vllm.foreign.jsonl").lines().map(|row| serde_json::from_str(row).expect("rows can be read")).collect();
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.is_success(), row.error.as_ref().map(|error| (&*error.code, error.message.as_str()))))
        .collect();
    let bad_url = "URL /bad_url was used. Supported endpoints: /v1/chat/completions, /v1/embeddings.";
    let expected = [
        (true, None),
        (false, Some(("404", "The model `NonExistModel` does not exist."))),
        (false, Some(("400", "Request must not be sent in stream mode"))),
        (false, Some(("", bad_url))),
    ];
    assert_eq!(told, expected);
    assert_eq!(rows[0].response.as_ref().and_then(|response| response.body.text()), Some("Hello"));
}

#[test]
fn vllm_refuses_lines_that_are_no_requests() {
    let good = line("a", "x");
    let cases = [
        ("oops".to_owned(), "invalid_json_line"),
        ("[]".to_owned(), "not_an_object"),
        ("\0".to_owned(), "nul_byte"),
        (good.replace(r#""custom_id":"a","#, ""), "missing_custom_id"),
        (good.replace(r#""a""#, "7"), "invalid_custom_id"),
        (good.replace(r#""method":"POST","#, ""), "missing_field"),
        (good.replace(r#""POST""#, "1"), "wrong_field_type"),
        (r#"{"custom_id":"a","method":"POST","url":"/v1/completions"}"#.to_owned(), "missing_field"),
    ];
    for (bad, code) in cases {
        let job = Job::new([good.as_str(), "", &bad, "oops"].join("\n"));
        let engine = ScriptedEngine::echo();
        let error = job.runner(&engine).contract(Contract::Vllm).run().expect_err("the file is refused");
        let RunError::InvalidLine { error: line, .. } = &error else { panic!("{error}") };
        assert_eq!((error.code(), line.code(), line.line), ("invalid_line", code, 3), "{bad}");
        assert_eq!((job.names(), engine.stats().submitted), (vec!["in.jsonl".to_owned()], 0));
    }
}

#[test]
fn vllm_takes_an_empty_file_and_has_no_error_file() {
    let job = Job::new("");
    let engine = ScriptedEngine::echo();
    let report = job.runner(&engine).contract(Contract::Vllm).run().expect("an empty file is a success");
    assert_eq!((report.status, counts(&report)), (RunStatus::Completed, [0; 6]));
    assert_eq!(
        (job.names(), job.read("out.jsonl")),
        (vec!["in.jsonl".to_owned(), "out.jsonl".to_owned()], String::new())
    );
    let runner = job.runner(&engine).contract(Contract::Vllm).errors(job.path("errors.jsonl"));
    assert_eq!(runner.run().expect_err("nothing would go there").code(), "unused_option");
}

#[test]
fn vllm_tries_again_what_the_engine_failed_at() {
    let job = Job::new(lines(3));
    let run = |engine: &dyn BatchEngine| job.runner(engine).contract(Contract::Vllm).resume(true).run();
    run(&ScriptedEngine::echo().dying_after(1)).expect("one row was answered");
    assert_eq!(job.read("out.jsonl").matches(r#""type":"ServiceUnavailableError""#).count(), 2);
    let report = run(&ScriptedEngine::echo()).expect("the run can be resumed");
    assert_eq!(counts(&report), [3, 2, 0, 1, 0, 2]);
    assert_eq!(fs::read_to_string(job.path("out.stale.jsonl")).expect("rows were moved").lines().count(), 2);
}
