//! The batch runner over a remote engine: its journal and resuming need nothing of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use vllm_batch::batch::BatchRequestOutput;
use vllm_batch::{BatchRunner, RemoteEngine, RunError};

use crate::builder;
use crate::server::{Reaction, Server};

/// A row of each endpoint for each text.
fn input(texts: &[&str]) -> String {
    let line = |id: String, url: &str, body: Value| {
        json!({"custom_id": id, "method": "POST", "url": url, "body": body}).to_string() + "\n"
    };
    let rows = texts.iter().map(|text| {
        let chat = json!({"model": "m", "messages": [{"role": "user", "content": text}]});
        let plain = json!({"model": "m", "prompt": text, "max_tokens": 4});
        line(format!("chat {text}"), "/v1/chat/completions", chat)
            + &line(format!("text {text}"), "/v1/completions", plain)
    });
    rows.collect()
}

fn run(engine: &RemoteEngine, folder: &Path) -> Result<(), RunError> {
    let runner = BatchRunner::new(engine).input(folder.join("in.jsonl")).output(folder.join("out.jsonl"));
    runner.errors(folder.join("errors.jsonl")).resume(true).run().map(drop)
}

/// By `custom_id`: the answer's text, or the error's code.
fn rows(folder: &Path) -> BTreeMap<String, String> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let text = read("out.jsonl") + &read("errors.jsonl");
    let rows = text.lines().map(|line| serde_json::from_str::<BatchRequestOutput>(line).expect("a row"));
    let told = |row: &BatchRequestOutput| match (&row.response, &row.error) {
        (Some(response), _) => match response.body.text() {
            Some(text) => text.to_owned(),
            None => format!(
                "{} {}",
                response.status_code,
                serde_json::to_value(&response.body).expect("JSON")["error"]["code"]
            ),
        },
        (None, error) => error.as_ref().map(|error| error.code.to_string()).unwrap_or_default(),
    };
    rows.map(|row| (row.custom_id.clone().unwrap_or_default(), told(&row))).collect()
}

fn expected(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
    let both =
        |(text, told): &(&str, &str)| ["chat", "text"].map(|kind| (format!("{kind} {text}"), (*told).to_owned()));
    rows.iter().flat_map(both).collect()
}

#[test]
fn a_resumed_run_sends_only_what_may_succeed_now() {
    let is_well = Arc::new(AtomicBool::new(false));
    let health = Arc::clone(&is_well);
    let server = Server::start(move |_, request| match request.prompt().as_str() {
        "bad" => Reaction::json(400, &json!({"error": {"message": "No.", "param": "prompt", "code": "c"}})),
        "later" if !health.load(Ordering::Acquire) => Reaction::Reply(503, "", "busy".to_owned()),
        _ => request.answer(),
    });
    let engine = builder(&server).max_num_seqs(3).max_retries(0).build().expect("an engine");
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("in.jsonl"), input(&["one", "bad", "later", "two"])).expect("the input");

    run(&engine, folder.path()).expect("a run");
    let first = [("one", "ONE"), ("bad", "400 \"invalid_value\""), ("later", "remote_error"), ("two", "TWO")];
    assert_eq!(rows(folder.path()), expected(&first));
    assert_eq!(server.received().len(), 8);

    is_well.store(true, Ordering::Release);
    run(&engine, folder.path()).expect("a run");
    let second = [("one", "ONE"), ("bad", "400 \"invalid_value\""), ("later", "LATER"), ("two", "TWO")];
    assert_eq!(rows(folder.path()), expected(&second));
    assert_eq!(server.prompts()[8..], ["later", "later"]);
}

#[test]
fn a_run_stops_when_the_server_is_down_or_wants_another_key() {
    for status in [401, 503] {
        let server = Server::start(move |_, _| Reaction::Reply(status, "", "no".to_owned()));
        let engine = builder(&server).max_retries(0).build().expect("an engine");
        let folder = tempfile::tempdir().expect("a folder");
        let texts: Vec<_> = (0..500).map(|index| index.to_string()).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        fs::write(folder.path().join("in.jsonl"), input(&texts)).expect("the input");
        let error = run(&engine, folder.path()).expect_err("a dead server");
        assert_eq!(error.code(), "engine_failed", "{error}");
        assert!(server.received().len() < 200, "{} requests for nothing", server.received().len());
    }
}

#[test]
fn a_batch_file_of_embeddings_goes_through_a_server() {
    let server = Server::start(|_, request| {
        let length = request.body["input"].as_str().map_or(0, str::len);
        let data = json!([{"object": "embedding", "index": 0, "embedding": [length, 0.5]}]);
        let usage = json!({"prompt_tokens": 3, "total_tokens": 3});
        Reaction::json(200, &json!({"object": "list", "data": data, "model": "other", "usage": usage}))
    });
    let engine = builder(&server).build().expect("an engine");
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    let line = |name: &str, url: &str, body: &str| {
        format!(r#"{{"custom_id":"{name}","method":"POST","url":"{url}","body":{{"model":"m",{body}}}}}"#) + "\n"
    };
    let embeddings = line("a", "/v1/embeddings", r#""input":["one","three"],"dimensions":2"#);
    let scores = line("b", "/v1/score", r#""prompt":"x","labels":["y"]"#);
    std::fs::write(&input, embeddings + &scores).expect("the folder is writable");
    let report = BatchRunner::new(&engine).input(&input).output(&output).run().expect("the run completes");
    assert_eq!((report.completed, report.failed, report.prompt_tokens), (1, 1, 6));
    let row: Value = serde_json::from_str(&std::fs::read_to_string(&output).expect("rows")).expect("a row");
    let body = json!({
        "object": "list", "model": "m", "usage": {"prompt_tokens": 6, "total_tokens": 6},
        "data": [
            {"object": "embedding", "index": 0, "embedding": [3.0, 0.5]},
            {"object": "embedding", "index": 1, "embedding": [5.0, 0.5]},
        ],
    });
    assert_eq!(row["response"]["body"], body);
    let errors = std::fs::read_to_string(folder.path().join("out.errors.jsonl")).expect("rows");
    let row: Value = serde_json::from_str(&errors).expect("a row");
    let error = &row["response"]["body"]["error"];
    assert_eq!((&error["code"], &error["param"]), (&json!("unsupported_parameter"), &json!("labels")));
    let sent: Vec<_> = server.received().into_iter().map(|received| (received.path, received.body)).collect();
    let body = |input: &str| json!({"model": "m", "input": input, "encoding_format": "float", "dimensions": 2});
    assert_eq!(sent, ["one", "three"].map(|input| ("/v1/embeddings".to_owned(), body(input))));
}
