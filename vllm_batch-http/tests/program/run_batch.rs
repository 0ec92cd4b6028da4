//! `run-batch`: the cases of vLLM's own tests of it, and what ours has besides.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Upstream, answers, by_custom_id, json as parsed, lines, model, program, row, run};
use vllm_batch::testing::ScriptedEngine;

/// A folder with an input file.
struct Job {
    folder: TempDir,
    model: TempDir,
}

impl Job {
    fn new(input: &str) -> Self {
        let job = Self { folder: tempfile::tempdir().unwrap(), model: model() };
        std::fs::write(job.path("in.jsonl"), input).unwrap();
        job
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Exit code, standard error, and the output file.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = program(&["run-batch", "--served-model-name", "tiny"]);
        command.arg("-i").arg(self.path("in.jsonl")).arg("-o").arg(self.path("out.jsonl"));
        let (code, _, errors) = run(command.arg("--model").arg(self.model.path()).args(args));
        (code, errors, std::fs::read_to_string(self.path("out.jsonl")).unwrap_or_default())
    }
}

fn chat(custom_id: &str, changes: Value) -> Value {
    let messages =
        json!([{"role": "system", "content": "You are helpful."}, {"role": "user", "content": "Hello world!"}]);
    let mut body = json!({"model": "tiny", "messages": messages, "max_tokens": 8});
    body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    json!({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body})
}

/// The rows of a file in which nothing may be missing.
fn rows(output: &str) -> Vec<Value> {
    output.lines().map(parsed).collect()
}

#[test]
fn an_empty_file_has_an_empty_output() {
    let (code, errors, output) = Job::new("").run(&[]);
    assert_eq!((code, output.as_str()), (0, ""), "{errors}");
}

#[test]
fn bad_rows_are_rows_and_no_failure() {
    let mut wrong_url = chat("request-4", json!({}));
    wrong_url["url"] = json!("/bad_url");
    let input = [
        chat("request-1", json!({})),
        chat("request-2", json!({})),
        chat("request-3", json!({"model": "NonExistModel"})),
        wrong_url,
        chat("request-5", json!({"stream": "True"})),
    ];
    let (code, errors, output) = Job::new(&lines(input)).run(&[]);
    assert_eq!(code, 0, "{errors}");
    let rows = by_custom_id(&output);
    let states: Vec<_> =
        rows.values().map(|row| (row["response"]["status_code"].as_u64(), row["error"].is_null())).collect();
    assert_eq!(
        states,
        [(Some(200), true), (Some(200), true), (Some(404), false), (Some(400), false), (Some(400), false)]
    );
}

#[test]
fn a_line_that_is_no_request_ends_the_run() {
    let mut line = chat("", json!({}));
    line.as_object_mut().unwrap().remove("custom_id");
    let (code, errors, output) = Job::new(&lines([line])).run(&[]);
    assert!(code == 1 && errors.contains("custom_id"), "{errors}");
    assert_eq!(output, "");
}

#[test]
fn embeddings_are_answered() {
    let embed = |custom_id: &str, model: &str, input: Value| {
        let body = json!({"model": model, "input": input});
        json!({"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body})
    };
    let input = [
        embed("request-1", "tiny", json!("You are a helpful assistant.")),
        embed("request-2", "tiny", json!(["You are an unhelpful assistant.", "Hi"])),
        embed("request-3", "NonExistModel", json!("You are missing.")),
    ];
    let (code, errors, output) = Job::new(&lines(input)).run(&[]);
    assert_eq!(code, 0, "{errors}");
    let rows = by_custom_id(&output);
    let vectors = |row: &Value| row.pointer("/response/body/data").and_then(Value::as_array).map(Vec::len);
    assert_eq!(rows.values().map(vectors).collect::<Vec<_>>(), [Some(1), Some(2), None], "{output}");
}

#[test]
fn scores_are_answered_under_each_of_their_urls() {
    let score = |url: &str| {
        let body =
            json!({"model": "tiny", "text_1": "What is the capital of France?", "text_2": ["Brasilia.", "Paris."]});
        json!({"custom_id": url, "method": "POST", "url": url, "body": body})
    };
    let (code, errors, output) = Job::new(&lines(["/score", "/v1/score"].map(score))).run(&[]);
    assert_eq!(code, 0, "{errors}");
    for row in rows(&output) {
        assert!(row["error"].is_null() && row.pointer("/response/body/data/1/score").is_some(), "{row}");
    }
}

#[test]
fn thoughts_are_apart() {
    let (code, errors, output) = Job::new(&lines([chat("request-1", json!({}))])).run(&["--reasoning-parser", "qwen3"]);
    assert_eq!(code, 0, "{errors}");
    let rows = rows(&output);
    let reasoning = rows[0].pointer("/response/body/choices/0/message/reasoning").and_then(Value::as_str);
    assert!(reasoning.is_some_and(|text| !text.is_empty()), "{output}");
}

#[test]
fn calls_of_functions_are_enforced() {
    let parameters = json!({"type": "object", "required": ["unit"], "additionalProperties": false,
        "properties": {"unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}}});
    let tools = json!([{"type": "function", "function": {"name": "get_current_weather", "parameters": parameters}}]);
    let row = chat(
        "request-1",
        json!({"tools": tools, "tool_choice": "required", "parallel_tool_calls": false, "max_tokens": 200}),
    );
    let (code, errors, output) = Job::new(&lines([row])).run(&["--tool-call-parser", "hermes"]);
    assert_eq!(code, 0, "{errors}");
    let rows = rows(&output);
    let name = rows[0].pointer("/response/body/choices/0/message/tool_calls/0/function/name");
    assert_eq!(name, Some(&json!("get_current_weather")), "{output}");
}

#[test]
fn contracts_differ_in_files_and_exit_codes() {
    let input = lines([row("good", 2), chat("bad", json!({"model": "other"}))]);
    let lenient = Job::new(&input);
    let (code, errors, output) = lenient.run(&["--contract", "lenient"]);
    assert_eq!((code, rows(&output).len()), (3, 1), "{errors}");
    assert_eq!(std::fs::read_to_string(lenient.path("out.errors.jsonl")).unwrap().lines().count(), 1);
    let (code, errors, output) = Job::new(&input).run(&["--contract", "openai"]);
    assert!(code == 1 && output.is_empty() && errors.contains("line 2"), "{errors}");
}

#[test]
fn it_goes_on_where_it_was() {
    let job = Job::new(&lines((0..20).map(|i| row(&format!("row-{i}"), 3))));
    let report = |args: &[&str]| job.run(&[&["--report", "json", "--progress", "none"], args].concat());
    let (code, errors, first) = report(&[]);
    assert_eq!((code, by_custom_id(&first).len()), (0, 20), "{errors}");
    let torn = first.lines().take(7).collect::<Vec<_>>().join("\n") + "\n{\"id\": \"torn";
    std::fs::write(job.path("out.jsonl"), torn).unwrap();
    let (code, errors, second) = report(&[]);
    assert_eq!((code, answers(&second)), (0, answers(&first)), "{errors}");
    let (code, errors, _) = report(&["--resume=false"]);
    assert!(code == 1 && errors.contains("out.jsonl"), "{errors}");
}

#[test]
fn another_server_may_answer() {
    let upstream = Upstream::start(ScriptedEngine::echo());
    let job = Job::new(&lines([json!({"custom_id": "a", "method": "POST", "url": "/v1/completions",
        "body": {"model": "scripted", "prompt": "Hello there", "max_tokens": 9}})]));
    let mut command = program(&["run-batch", "--set", &upstream.option()]);
    let (code, _, errors) = run(command.arg("-i").arg(job.path("in.jsonl")).arg("-o").arg(job.path("out.jsonl")));
    assert_eq!(code, 0, "{errors}");
    let output = std::fs::read_to_string(job.path("out.jsonl")).unwrap();
    assert_eq!(rows(&output)[0].pointer("/response/body/choices/0/text"), Some(&json!("Hello there")), "{output}");
}
