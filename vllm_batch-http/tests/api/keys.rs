//! Keys: who may ask, how much, and what of others they see.

use std::num::NonZeroU32;

use axum::body::Body;
use axum::http::Method;
use futures::FutureExt as _;
use futures::future::join_all;
use serde_json::json;
use vllm_batch::testing::ScriptedEngine;
use vllm_batch_http::{ApiKey, KeyLimits, hash_key};

use crate::{App, JSON, form, lines};

const RED: (&str, &str) = ("authorization", "Bearer red-secret");
const BLUE: (&str, &str) = ("authorization", "Bearer blue-secret");

async fn app(engine: ScriptedEngine, red: KeyLimits) -> App {
    let key = |name: &str| ApiKey::from_sha256(name, &hash_key(&format!("{name}-secret"))).unwrap();
    App::with(engine, |config| config.api_keys = vec![key("red").with_limits(red), key("blue")]).await
}

async fn upload(app: &App, key: (&str, &str), content: &str) -> crate::Answer {
    let mut request = form(&[("purpose", None, "batch"), ("file", Some("a"), content)]);
    request.headers_mut().insert("authorization", key.1.parse().unwrap());
    app.send(request).await
}

#[tokio::test]
async fn a_key_is_needed_for_all_that_is_somebodys() {
    let app = app(ScriptedEngine::echo(), KeyLimits::default()).await;
    for path in ["/v1/files", "/v1/batches", "/v1/batches/x", "/v1/models", "/v1/queue", "/v1/jobs/stats", "/metrics"] {
        for headers in
            [vec![], vec![("authorization", "Bearer wrong")], vec![("authorization", "Basic cmVkLXNlY3JldA==")]]
        {
            let answer = app.ask(Method::GET, path, &headers, Body::empty()).await;
            assert_eq!(answer.error(), (401, "invalid_api_key".to_owned()), "{path}");
            assert_eq!(
                (answer.header("www-authenticate"), answer.json()["error"]["type"].as_str()),
                ("Bearer", Some("authentication_error"))
            );
        }
    }
    for path in ["/health", "/ready", "/openapi.json"] {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
    assert_eq!(app.get("/nowhere").await.error().0, 404);
    assert_eq!(app.ask(Method::GET, "/v1/models", &[RED], Body::empty()).await.status, 200);
}

#[tokio::test]
async fn what_is_anothers_is_not_there() {
    let app = app(ScriptedEngine::echo(), KeyLimits::default()).await;
    let file = upload(&app, RED, &lines(&[("a", "x")])).await.json()["id"].as_str().unwrap().to_owned();
    let body = json!({"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"});
    let create = async |key| app.ask(Method::POST, "/v1/batches", &[key, JSON], body.to_string().into()).await;
    assert_eq!(create(BLUE).await.error(), (404, "not_found".to_owned()));
    let batch = create(RED).await.json()["id"].as_str().unwrap().to_owned();
    app.work().await;
    let paths = ["", "/failed", "/results"].map(|rest| format!("/v1/batches/{batch}{rest}"));
    let paths: Vec<String> =
        paths.into_iter().chain([format!("/v1/files/{file}"), format!("/v1/files/{file}/content")]).collect();
    for path in &paths {
        let ask = async |key| app.ask(Method::GET, path, &[key], Body::empty()).await;
        assert_eq!(
            (ask(BLUE).await.error(), ask(RED).await.status.as_u16()),
            ((404, "not_found".to_owned()), 200),
            "{path}"
        );
    }
    for path in [format!("/v1/batches/{batch}/cancel"), format!("/v1/batches/{batch}/retry")] {
        assert_eq!(app.ask(Method::POST, &path, &[BLUE], Body::empty()).await.error().0, 404);
    }
    assert_eq!(app.ask(Method::DELETE, &format!("/v1/files/{file}"), &[BLUE], Body::empty()).await.error().0, 404);
    for path in ["/v1/files", "/v1/batches", "/v1/jobs/history", "/v1/queue"] {
        assert_eq!(app.ask(Method::GET, path, &[BLUE], Body::empty()).await.json()["data"], json!([]), "{path}");
    }
}

#[tokio::test]
async fn keys_have_limits() {
    let limits = KeyLimits::default().with_max_file_bytes(200).with_max_batches(1);
    let app = app(ScriptedEngine::echo(), limits).await;
    let content = lines(&[("a", "x")]);
    let long = lines(&[("a", &"x".repeat(300))]);
    assert_eq!(upload(&app, RED, &long).await.error(), (413, "file_too_large".to_owned()));
    assert_eq!(upload(&app, BLUE, &long).await.status, 200);
    let file = upload(&app, RED, &content).await.json()["id"].as_str().unwrap().to_owned();
    let body = json!({"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"});
    let create = async || app.ask(Method::POST, "/v1/batches", &[RED, JSON], body.to_string().into()).await;
    assert_eq!(create().await.status, 200);
    let full = create().await;
    assert_eq!((full.error(), full.header("retry-after")), ((429, "queue_full".to_owned()), "30"));
    app.work().await;
    assert_eq!(create().await.status, 200);
}

/// Each asks with the others at once, and so finds as much room as they do.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_places_of_a_key_are_taken_once() {
    let app = app(ScriptedEngine::echo(), KeyLimits::default().with_max_batches(3)).await;
    let file = upload(&app, RED, &lines(&[("a", "x")])).await.json()["id"].as_str().unwrap().to_owned();
    let body = json!({"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"});
    let create = async || app.ask(Method::POST, "/v1/batches", &[RED, JSON], body.to_string().into()).await;
    let mut found: Vec<u16> = join_all((0..12).map(|_| create())).await.iter().map(|one| one.status.as_u16()).collect();
    found.sort_unstable();
    assert_eq!(found, [[200; 3].as_slice(), [429; 9].as_slice()].concat());
    let listed = app.ask(Method::GET, "/v1/batches", &[RED], Body::empty()).await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_retry_needs_room_as_a_batch_does() {
    let app = app(ScriptedEngine::echo(), KeyLimits::default().with_max_batches(1)).await;
    let file = upload(&app, RED, &lines(&[("a", "x")])).await.json()["id"].as_str().unwrap().to_owned();
    let body = json!({"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"});
    let create = async || app.ask(Method::POST, "/v1/batches", &[RED, JSON], body.to_string().into()).await;
    let first = create().await.json()["id"].as_str().unwrap().to_owned();
    let cancel = format!("/v1/batches/{first}/cancel");
    assert_eq!(app.ask(Method::POST, &cancel, &[RED], Body::empty()).await.status, 200);
    app.work().await;
    assert_eq!(create().await.status, 200);
    let retry = format!("/v1/batches/{first}/retry");
    let retried = async || app.ask(Method::POST, &retry, &[RED], Body::empty()).await;
    assert_eq!(retried().await.error(), (429, "queue_full".to_owned()));
    app.work().await;
    assert_eq!(retried().await.status, 200);
    let files = app.ask(Method::GET, "/v1/files", &[RED], Body::empty()).await.json();
    let inputs = files["data"].as_array().unwrap().iter().filter(|file| file["purpose"] == "batch").count();
    assert_eq!(inputs, 2, "a retry that was refused left its input");
}

#[tokio::test]
async fn requests_are_limited_by_number_and_at_a_time() {
    let limits = KeyLimits::default().with_requests_per_minute(NonZeroU32::new(3).unwrap()).with_max_live_requests(1);
    let app = app(ScriptedEngine::echo().held(), limits).await;
    let body = json!({"model": "scripted", "prompt": "x"}).to_string();
    let ask = async |key| app.ask(Method::POST, "/v1/completions", &[key, JSON], body.clone().into()).await;
    let mut first = Box::pin(ask(RED));
    while app.engine.stats().running == 0 {
        assert!((&mut first).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    let second = ask(RED).await;
    assert_eq!((second.error(), second.header("retry-after")), ((429, "too_many_live_requests".to_owned()), "1"));
    app.engine.release_all();
    assert_eq!((first.await.status.as_u16(), ask(RED).await.status.as_u16()), (200, 200));
    let fourth = ask(RED).await;
    assert_eq!(fourth.error(), (429, "rate_limit_exceeded".to_owned()));
    assert!(fourth.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(ask(BLUE).await.status, 200);
}
