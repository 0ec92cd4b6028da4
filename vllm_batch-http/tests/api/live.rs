//! Requests that are answered at once.

use std::path::Path;

use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};
use vllm_batch::RequestError;
use vllm_batch::batch::{BatchRequestInput, BatchRequestOutput};
use vllm_batch::jobs::JobError;
use vllm_batch::testing::ScriptedEngine;
use vllm_batch_http::{EngineSlot, Service, ServiceConfig};

use crate::{App, JSON};

/// A file of the core's own tests.
fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vllm_batch/tests/data/batch").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test]
async fn answers_are_those_of_batches_byte_for_byte() {
    let app = App::new().await;
    let mut compared = 0;
    for (input, outputs) in [
        ("input.jsonl", vec!["output.jsonl", "errors.jsonl"]),
        ("parts.input.jsonl", vec!["parts.output.jsonl", "parts.errors.jsonl"]),
        ("tools.input.jsonl", vec!["tools.output.jsonl"]),
    ] {
        let rows = outputs.into_iter().map(golden).collect::<String>();
        for row in rows.lines().map(|row| serde_json::from_str::<BatchRequestOutput>(row).unwrap()) {
            // Those that are no requests, or have names that are no request ids, cannot be sent.
            let Some(expected) = row.response else { continue };
            let name = row.custom_id.unwrap();
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                continue;
            }
            let line = golden(input).lines().find_map(|line| {
                serde_json::from_str::<BatchRequestInput>(line).ok().filter(|line| line.custom_id == name)
            });
            let BatchRequestInput { url, body, .. } = line.unwrap();
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            let answer = app.ask(Method::POST, &url, &[JSON, ("x-request-id", &name)], body).await;
            assert_eq!(answer.status.as_u16(), expected.status_code, "{name}");
            assert_eq!(answer.text(), serde_json::to_string(&expected.body).unwrap(), "{name}");
            assert_eq!((answer.header("content-type"), answer.header("x-request-id")), ("application/json", &*name));
            compared += 1;
        }
    }
    assert!(compared >= 30, "only {compared} rows were compared");
}

#[tokio::test]
async fn faults_of_bodies_have_a_place() {
    let app = App::new().await;
    let cases = [
        ("{\"model\": \"scripted\",\n \"prompt\" \"x\"}", 400, "invalid_json", "line 2 column 11"),
        ("", 400, "invalid_json", "line 1 column 0"),
        ("[1]", 400, "invalid_value", "expected a map"),
        ("{\"prompt\": \"x\"}", 400, "missing_required_parameter", "`model`"),
        ("{\"model\": \"other\", \"prompt\": \"x\"}", 404, "model_not_found", "scripted"),
        ("{\"model\": \"scripted\", \"prompt\": \"x\", \"colour\": 1}", 400, "unsupported_parameter", "colour"),
    ];
    for (body, status, code, message) in cases {
        let answer = app.ask(Method::POST, "/v1/completions", &[JSON], body.into()).await;
        assert_eq!(answer.error(), (status, code.to_owned()), "{body}");
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(message), "{body}: {}", answer.text());
    }
    for headers in [&[("content-type", "text/plain")][..], &[]] {
        let answer = app.ask(Method::POST, "/v1/completions", headers, "{}".into()).await;
        assert_eq!(answer.error(), (415, "unsupported_media_type".to_owned()));
    }
}

#[tokio::test]
async fn what_goes_wrong_inside_is_not_told() {
    let engine =
        ScriptedEngine::new(|_| Err(RequestError::EngineFailed { message: "/dev/secret0 is gone".to_owned() }));
    let app = App::with(engine, |_| ()).await;
    let body = json!({"model": "scripted", "prompt": "x"});
    let answer = app.post("/v1/completions", &body).await;
    assert_eq!(answer.error(), (500, "engine_failed".to_owned()));
    assert!(!answer.text().contains("secret"), "{}", answer.text());
}

#[tokio::test]
async fn models_are_listed_by_their_names() {
    let app = App::new().await;
    let model = json!({
        "id": "scripted", "object": "model", "created": crate::NOW, "owned_by": "vllm_batch", "root": "scripted",
        "max_model_len": 4096, "is_live": true,
    });
    assert_eq!(app.get("/v1/models").await.json(), json!({"object": "list", "data": [model]}));
    assert_eq!(app.get("/v1/models/scripted").await.json(), model);
    for id in ["other", "a/b", "%FF", "a%2Fb"] {
        assert_eq!(app.get(&format!("/v1/models/{id}")).await.status, 404, "{id}");
    }
}

#[tokio::test]
async fn without_an_engine_there_are_batches_only() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = crate::jobs(folder.path(), |_| ()).await;
    let body = json!({"model": "scripted", "prompt": "x"});
    let slot = EngineSlot::empty();
    let without = Service::new(jobs.clone(), ServiceConfig::default()).router();
    let loading = Service::new(jobs.clone(), ServiceConfig::default()).with_engine_slot(slot.clone()).router();
    let mut app = App::over(jobs, ScriptedEngine::echo(), |_| (), folder);
    app.router = without;
    assert_eq!(app.post("/v1/completions", &body).await.error(), (503, "no_engine".to_owned()));
    assert_eq!(app.get("/ready").await.json(), json!({"status": "ready"}));
    assert_eq!(app.get("/v1/models").await.json()["data"], json!([]));

    app.router = loading;
    let answer = app.post("/v1/completions", &body).await;
    assert_eq!((answer.error(), answer.header("retry-after")), ((503, "engine_loading".to_owned()), "5"));
    assert_eq!(app.get("/ready").await.error(), (503, "engine_loading".to_owned()));
    assert_eq!(app.get("/health").await.json(), json!({"status": "ok"}));
    assert!(slot.fill(std::sync::Arc::new(ScriptedEngine::echo())));
    assert!(!slot.fill(std::sync::Arc::new(ScriptedEngine::echo())));
    assert_eq!(app.post("/v1/completions", &body).await.json()["choices"][0]["text"], "x");
    assert_eq!(app.get("/ready").await.status, 200);
}

#[tokio::test]
async fn ids_of_errors_are_those_of_the_core() {
    // What `JobError` says of an owner's own things is told, and nothing of others is.
    let error = vllm_batch_http::ApiError::from(JobError::NotFound { what: "file", id: "file-0".to_owned() });
    let envelope: Value = serde_json::to_value(error.into_envelope()).unwrap();
    let expected = json!({"error": {
        "message": "No file has the id \"file-0\".", "type": "invalid_request_error", "param": "id", "code": "not_found",
    }});
    assert_eq!(envelope, expected);
}
