//! Rows of several parts, and rows whose answer is no text.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use vllm_batch::batch::{BatchRequestOutput, Contract, ResponseBody, RunStatus};
use vllm_batch::testing::ScriptedEngine;
use vllm_batch::{
    BatchEngine, BatchEngineExt, CancellationToken, EngineSpec, OutputStream, PoolingParams, Prompt, Request,
    RequestError,
};

use crate::{Job, counts, data, moody, sorted};

#[test]
fn a_file_comes_out_byte_for_byte() {
    let cases = [
        (Contract::Lenient, "parts.output.jsonl", Some("parts.errors.jsonl")),
        (Contract::Vllm, "parts.vllm.output.jsonl", None),
    ];
    for (contract, output, errors) in cases {
        let job = Job::new(data("parts.input.jsonl"));
        let run = |resume| {
            let engine = ScriptedEngine::echo();
            job.runner(&engine).contract(contract).resume(resume).run().expect("the run completes")
        };
        assert_eq!(counts(&run(false)), [11, 9, 2, 0, 0, 0]);
        assert_eq!(job.sorted("out.jsonl"), sorted(&data(output)));
        assert_eq!(job.sorted("out.errors.jsonl"), sorted(&errors.map(data).unwrap_or_default()));
        assert_eq!(counts(&run(true)), [11, 0, 0, 11, 2, 0]);
        for row in job.rows().iter().filter(|_| contract == Contract::Lenient) {
            let read: BatchRequestOutput = serde_json::from_str(row).expect("our own rows can be read");
            assert_eq!(&serde_json::to_string(&read).expect("rows can be written"), row);
            let body = read.response.map(|response| response.body);
            assert!(!matches!(body, Some(ResponseBody::Other(_))), "{row}");
        }
    }
}

/// The body of the only row.
fn only_body(job: &Job) -> Value {
    let rows = job.rows();
    assert_eq!(rows.len(), 1, "{rows:?}");
    let mut row: Value = serde_json::from_str(&rows[0]).expect("rows are JSON");
    row["response"]["body"].take()
}

fn row(url: &str, mut body: Value) -> String {
    body["model"] = json!("scripted");
    json!({"custom_id": "x", "method": "POST", "url": url, "body": body}).to_string()
}

#[test]
fn embeddings_are_as_other_programs_read_them() {
    use async_openai::types::embeddings::{CreateBase64EmbeddingResponse, CreateEmbeddingResponse};
    let body = |format: &str| {
        let job = Job::new(row("/v1/embeddings", json!({"input": ["a b", "c"], "encoding_format": format})));
        job.run(&ScriptedEngine::echo()).expect("the run completes");
        only_body(&job)
    };
    let floats: CreateEmbeddingResponse = serde_json::from_value(body("float")).expect("OpenAI's shape");
    let texts: CreateBase64EmbeddingResponse = serde_json::from_value(body("base64")).expect("OpenAI's shape");
    assert_eq!((floats.usage.prompt_tokens, floats.usage.total_tokens), (3, 3));
    assert_eq!(floats.data.iter().map(|data| data.index).collect::<Vec<_>>(), [0, 1]);
    let ResponseBody::Embeddings(list) = serde_json::from_value(body("base64")).expect("our own shape") else {
        panic!("embeddings were asked for")
    };
    for ((float, text), ours) in floats.data.iter().zip(&texts.data).zip(&list.data) {
        let length = float.embedding.iter().map(|number| number * number).sum::<f32>();
        assert!((length - 1.0).abs() < 1e-6);
        assert_eq!(ours.embedding.to_floats().as_ref(), Some(&float.embedding));
        assert_eq!(serde_json::to_value(&ours.embedding).expect("it can be written"), json!(text.embedding.0));
    }
}

/// What engines get, by id.
fn submitted(line: &str) -> BTreeMap<String, Prompt> {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(BTreeMap::new()));
    let log = std::sync::Arc::clone(&seen);
    let engine = ScriptedEngine::new(move |request| {
        log.lock().expect("no panic").insert(request.request_id.clone(), request.prompt.clone());
        Ok("yes".to_owned())
    });
    Job::new(line).run(&engine).expect("the run completes");
    let seen = seen.lock().expect("no panic");
    seen.clone()
}

#[test]
fn each_part_is_a_request_of_its_own() {
    let text = |text: &str| Prompt::Text(text.to_owned());
    let cases = [
        (row("/v1/completions", json!({"prompt": ["a"]})), vec![("x", text("a"))]),
        (row("/v1/completions", json!({"prompt": ["a", [7]]})), vec![("x-0", text("a")), ("x-1", vec![7].into())]),
        (row("/v1/embeddings", json!({"input": [1, 2]})), vec![("x", vec![1, 2].into())]),
        (
            row("/v1/score", json!({"text_1": "Q", "text_2": ["D", "E"]})),
            ["D", "E"]
                .iter()
                .zip(["x-0", "x-1"])
                .map(|(document, id)| {
                    let judge = "Judge whether the document answers the query. Reply with yes or no.";
                    (id, text(&format!("{judge}\n\nQuery: Q\nDocument: {document}\nAnswer:")))
                })
                .collect(),
        ),
    ];
    for (line, expected) in cases {
        let expected: BTreeMap<_, _> = expected.into_iter().map(|(id, prompt)| (id.to_owned(), prompt)).collect();
        assert_eq!(submitted(&line), expected, "{line}");
    }
}

#[test]
fn a_row_fails_with_its_first_part_that_fails_and_lets_the_others_go() {
    let line = row("/v1/completions", json!({"prompt": ["good", "fail", "good", "fail", "good", "good"]}));
    for window in [1, 2, 3, 100] {
        let job = Job::new(format!("{line}\n{}", line.replace("\"x\"", "\"y\"").replace("fail", "fine")));
        let engine = moody();
        let report = job.runner(&engine).window(window).run().expect("the run completes");
        assert_eq!(counts(&report), [2, 1, 1, 0, 0, 0], "window {window}");
        let rows = job.read("out.errors.jsonl");
        let row: Value = serde_json::from_str(&rows).expect("rows are JSON");
        let error = json!({
            "message": "invalid value for `prompt[1]`: the script says so", "type": "invalid_request_error",
            "param": "prompt[1]", "code": "invalid_value",
        });
        assert_eq!(row["response"]["body"]["error"], error, "window {window}");
        let stats = engine.stats();
        assert_eq!((stats.running, stats.submitted), (0, stats.finished + stats.failed + stats.aborted));
        // Two parts, and at most as many as fit the window beside them, were submitted of the first row.
        assert!(stats.submitted <= 6 + (1 + window).min(6), "{stats:?}");
    }
}

/// A failure of the engine as it is told in the row.
#[test]
fn a_label_is_named_as_in_the_body() {
    for (number, expected) in [(0, "labels[0]"), (1, "labels[1]"), (2, "label_token_ids[0]"), (4, "label_token_ids[2]")]
    {
        let engine = ScriptedEngine::new(move |_| Err(RequestError::invalid(format!("labels[{number}]"), "no")));
        let body = json!({"prompt": "a", "labels": ["x", "y"], "label_token_ids": [7, 8, 9]});
        let job = Job::new(row("/v1/score", body));
        job.run(&engine).expect("the run completes");
        let error = &only_body(&job)["error"];
        let message = format!("invalid value for `{expected}`: no");
        assert_eq!((&error["param"], &error["message"]), (&json!(expected), &json!(message)));
    }
}

#[test]
fn a_row_that_is_cancelled_between_its_parts_is_told_and_done_again() {
    let lines = ["a", "b", "c"].map(|name| {
        row("/v1/embeddings", json!({"input": ["one", "two", name]})).replace("\"x\"", &format!("\"{name}\""))
    });
    let job = Job::new(lines.join("\n"));
    let (engine, token) = (ScriptedEngine::echo().held(), CancellationToken::new());
    engine.release(4);
    let runner = job.runner(&engine).contract(Contract::open_ai()).window(2).cancellation(token.clone());
    let runner = runner.progress_interval(Duration::ZERO).on_progress(|progress| {
        if progress.completed == 1 {
            token.cancel();
        }
    });
    let report = runner.run().expect("a cancelled run is no error");
    assert_eq!((report.status, counts(&report)), (RunStatus::Cancelled, [3, 1, 2, 0, 0, 0]));
    assert_eq!(engine.stats().running, 0);
    assert_eq!(job.read("out.errors.jsonl").matches(r#""code":"batch_cancelled""#).count(), 2);
    let engine = ScriptedEngine::echo();
    let report = job.runner(&engine).contract(Contract::open_ai()).resume(true).run().expect("it can be resumed");
    assert_eq!(counts(&report), [3, 2, 0, 1, 0, 2]);
}

#[test]
fn the_window_counts_parts_and_a_large_row_waits_for_nobody_else_s_place() {
    let input: Vec<_> = (0..2048).map(|index| format!("text {index}")).collect();
    let lines = [row("/v1/embeddings", json!({"input": input})), crate::line("last", "z")];
    let job = Job::new(lines.join("\n"));
    let engine = ScriptedEngine::echo();
    let report = job.runner(&engine).window(16).run().expect("the run completes");
    assert_eq!(counts(&report), [2, 2, 0, 0, 0, 0]);
    assert_eq!((engine.stats().submitted, engine.stats().max_running), (2049, 16));
    assert_eq!((report.prompt_tokens, report.generated_tokens), (4097, 1));
}

#[test]
fn what_was_done_is_not_done_again() {
    let lines = ["a", "b", "c"].map(|name| {
        row("/v1/embeddings", json!({"input": ["one", "two", name]})).replace("\"x\"", &format!("\"{name}\""))
    });
    let whole = Job::new(lines.join("\n"));
    whole.run(&ScriptedEngine::echo()).expect("the run completes");
    let job = Job::new(lines.join("\n"));
    // The engine dies within the second row.
    let report = job.runner(&ScriptedEngine::echo().dying_after(4)).window(1).run();
    assert_eq!(report.expect_err("the engine is dead").code(), "engine_failed");
    let engine = ScriptedEngine::echo();
    let report = job.runner(&engine).resume(true).run().expect("the run can be resumed");
    assert_eq!((report.completed, report.skipped, engine.stats().submitted), (2, 1, 6));
    assert_eq!(job.rows(), whole.rows());
}

/// Answers everything with text.
struct Deaf(ScriptedEngine);

impl BatchEngine for Deaf {
    fn spec(&self) -> &EngineSpec {
        self.0.spec()
    }

    fn submit(&self, request: Request) -> OutputStream {
        self.0.submit(Request::new(request.request_id, request.prompt))
    }
}

#[test]
fn an_engine_that_answers_with_another_kind_is_told_as_broken() {
    let engine = Deaf(ScriptedEngine::echo());
    let found = engine.embed(["a"], &PoolingParams::default());
    assert_eq!(found, [Err(RequestError::invalid("task", "the request does not ask for its embedding"))]);
    let job = Job::new(row("/v1/embeddings", json!({"input": "a"})));
    assert_eq!(job.run(&engine).expect_err("the engine is broken").code(), "engine_failed");
    assert!(job.read("out.errors.jsonl").contains("it answered in another kind than was asked for"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn choices_run_over_prompts_then_answers(
        prompts in prop::collection::vec("[a-z]{1,4}", 1..6),
        n in 1usize..4,
        window in 1usize..5,
    ) {
        let line = row("/v1/completions", json!({"prompt": prompts, "n": n}));
        let job = Job::new(line);
        job.runner(&ScriptedEngine::echo()).window(window).run().expect("the run completes");
        let body = only_body(&job);
        let choices = body["choices"].as_array().expect("a list");
        let found: Vec<_> = choices.iter().map(|choice| (choice["index"].as_u64(), choice["text"].as_str())).collect();
        let expected = prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt.as_str(), n));
        let expected: Vec<_> = (0..).map(Some).zip(expected.map(Some)).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(&body["usage"]["completion_tokens"], &json!(prompts.len() * n));
    }
}
