//! The description of the interface, and whether it is true.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use vllm_batch::testing::ScriptedEngine;
use vllm_batch_http::{ApiKey, hash_key};

use crate::{App, lines};

/// A validator of one of the document's schemas.
fn validator(document: &Value, name: &str) -> jsonschema::Validator {
    let mut schema = json!({"$ref": format!("#/components/schemas/{name}")});
    schema["components"] = document["components"].clone();
    jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn check(document: &Value, name: &str, object: &Value) {
    let validator = validator(document, name);
    let errors: Vec<String> =
        validator.iter_errors(object).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{name}: {errors:?}\n{object}");
}

#[tokio::test]
async fn answers_are_as_described() {
    let app = App::with(ScriptedEngine::echo(), |_| ()).await;
    let document = app.get("/openapi.json").await.json();
    assert_eq!(document, vllm_batch_http::openapi());
    let file = app.upload(&lines(&[("a", "x"), ("b", "")])).await;
    check(&document, "File", &app.get(&format!("/v1/files/{file}")).await.json());
    check(&document, "FileList", &app.get("/v1/files").await.json());
    let batch = json!({"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"});
    check(&document, "CreateBatch", &batch);
    let created = app.post("/v1/batches", &batch).await.json();
    check(&document, "Batch", &created);
    check(&document, "QueueObject", &app.get("/v1/queue").await.json());
    app.work().await;
    let id = created["id"].as_str().unwrap();
    check(&document, "Batch", &app.get(&format!("/v1/batches/{id}")).await.json());
    check(&document, "FailedList", &app.get(&format!("/v1/batches/{id}/failed")).await.json());
    check(&document, "BatchList", &app.get("/v1/batches").await.json());
    check(&document, "StatsObject", &app.get("/v1/jobs/stats").await.json());
    check(&document, "History", &app.get("/v1/jobs/history").await.json());
    check(&document, "ModelList", &app.get("/v1/models").await.json());
    check(&document, "Health", &app.get("/ready").await.json());
    check(&document, "ErrorEnvelope", &app.get("/v1/files/x").await.json());
    check(&document, "DeletedFile", &app.delete(&format!("/v1/files/{file}")).await.json());
    let broken = app.batch("oops").await;
    app.work().await;
    check(&document, "Batch", &app.get(&format!("/v1/batches/{broken}")).await.json());

    let chat = json!({"model": "scripted", "messages": [{"role": "user", "content": "Hi"}], "logprobs": true});
    for (path, request, answer, body) in [
        ("/v1/chat/completions", "ChatCompletionRequest", "ChatCompletion", chat),
        (
            "/v1/completions",
            "CompletionRequest",
            "Completion",
            json!({"model": "scripted", "prompt": ["x"], "logprobs": 1}),
        ),
        ("/v1/embeddings", "EmbeddingRequest", "EmbeddingList", json!({"model": "scripted", "input": "x"})),
        ("/v1/score", "ScoreRequest", "ScoreList", json!({"model": "scripted", "prompt": "x", "labels": ["x", "y"]})),
    ] {
        check(&document, request, &body);
        check(&document, answer, &app.post(path, &body).await.json());
    }
    for (path, answer, body) in [
        (
            "/v1/chat/completions",
            "ChatCompletionChunk",
            json!({"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}),
        ),
        ("/v1/completions", "CompletionChunk", json!({"model": "scripted", "prompt": "x"})),
    ] {
        let mut body = body;
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        let transcript = app.post(path, &body).await;
        let chunks = transcript.text().split("\n\n").filter_map(|event| event.strip_prefix("data: {"));
        let chunks: Vec<Value> = chunks.map(|chunk| serde_json::from_str(&format!("{{{chunk}")).unwrap()).collect();
        assert!(chunks.len() >= 3);
        for chunk in &chunks {
            check(&document, answer, chunk);
        }
    }
}

#[test]
fn all_that_is_named_is_there_and_told_apart() {
    let document = vllm_batch_http::openapi();
    let text = document.to_string();
    for name in text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document["components"]["schemas"].get(name).is_some(), "{name} is not described");
        validator(&document, name);
    }
    let mut ids = BTreeSet::new();
    let tags: Vec<&str> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "{id} is there twice");
            assert!(tags.contains(&operation["tags"][0].as_str().unwrap()), "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path}");
            for status in ["500", "503"] {
                assert!(operation["responses"].get(status).is_some(), "{method} {path} {status}");
            }
            // One has a secret of its own.
            let may_be_refused = operation.get("security").is_none() || path == "/v1/webhooks/label-studio";
            assert_eq!(operation["responses"].get("401").is_some(), may_be_refused, "{method} {path}");
        }
    }
    assert!(ids.len() >= 24);
}

#[tokio::test]
async fn the_description_says_where_a_key_is_needed() {
    let key = ApiKey::from_sha256("red", &hash_key("red-secret")).unwrap();
    let app = App::with(ScriptedEngine::echo(), |config| config.api_keys = vec![key]).await;
    for (path, operations) in vllm_batch_http::openapi()["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let method = axum::http::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = app.ask(method.clone(), &path.replace("{id}", "x"), &[], axum::body::Body::empty()).await;
            let needs_key = !answer.status.is_success() && answer.error().1 == "invalid_api_key";
            assert_eq!(needs_key, operation.get("security").is_none(), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn every_route_is_described_and_every_description_is_a_route() {
    let app = App::new().await;
    let document = vllm_batch_http::openapi();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in ["get", "post", "delete"] {
            let is_described = operations.get(method).is_some();
            let path = path.replace("{id}", "x");
            let method = axum::http::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = app.ask(method.clone(), &path, &[], axum::body::Body::empty()).await;
            assert_eq!(answer.status != 405, is_described, "{method} {path}");
            assert!(answer.status != 404 || answer.error().1 != "unknown_url", "{method} {path}");
        }
    }
}
