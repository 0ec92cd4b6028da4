//! What is answered where nothing is, and when all is not well.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, header};
use serde_json::json;
use vllm_batch::testing::ScriptedEngine;

use crate::{App, JSON};

#[tokio::test]
async fn addresses_and_methods_that_are_not_there() {
    let app = App::new().await;
    for path in ["/v1", "/v1/file", "/v1/files/a/b", "/v1/files/", "/v2/files", "//v1/files", "/v1/../v1/files"] {
        assert_eq!(app.get(path).await.error(), (404, "unknown_url".to_owned()), "{path}");
    }
    for (method, path, allowed) in [
        (Method::PUT, "/v1/files", "POST,GET,HEAD"),
        (Method::POST, "/v1/models", "GET,HEAD"),
        (Method::GET, "/v1/completions", "POST"),
        (Method::DELETE, "/v1/batches/x", "GET,HEAD"),
    ] {
        let answer = app.ask(method.clone(), path, &[], Body::empty()).await;
        assert_eq!(answer.error(), (405, "method_not_allowed".to_owned()), "{method} {path}");
        assert_eq!(answer.header("allow"), allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn requests_have_names() {
    let app = App::new().await;
    let given = app.ask(Method::GET, "/health", &[("x-request-id", "mine-1")], Body::empty()).await;
    assert_eq!(given.header("x-request-id"), "mine-1");
    for harmful in ["a b", "<script>", &"x".repeat(200)] {
        let answer = app.ask(Method::GET, "/health", &[("x-request-id", harmful)], Body::empty()).await;
        assert_eq!(answer.header("x-request-id").len(), 36, "{harmful}");
    }
}

#[tokio::test]
async fn bodies_have_limits_of_length_and_time() {
    let change = |config: &mut vllm_batch_http::ServiceConfig| {
        config.max_body_bytes = 100;
        config.body_timeout = Duration::from_millis(20);
    };
    let app = App::with(ScriptedEngine::echo(), change).await;
    let body = json!({"model": "scripted", "prompt": "x".repeat(100)});
    assert_eq!(app.post("/v1/completions", &body).await.error(), (413, "body_too_large".to_owned()));
    let silent = || Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let answer = app.ask(Method::POST, "/v1/completions", &[JSON], silent()).await;
    assert_eq!(answer.error(), (408, "body_timeout".to_owned()));
    assert_eq!(app.send(crate::form_of(silent())).await.error(), (408, "body_timeout".to_owned()));
    // Files have a limit of their own.
    app.upload(&"x".repeat(1000)).await;
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let app = App::with(ScriptedEngine::new(|_| panic!("password=hunter2")), |_| ()).await;
    let answer = app.post("/v1/completions", &json!({"model": "scripted", "prompt": "x"})).await;
    assert_eq!(answer.error(), (500, "internal_error".to_owned()));
    assert!(!answer.text().contains("hunter2"));
}

#[tokio::test]
async fn a_store_that_is_gone_is_told_and_not_described() {
    let app = App::new().await;
    std::fs::remove_dir_all(app.folder.path().join("files")).unwrap();
    std::fs::write(app.folder.path().join("files"), "").unwrap();
    let answer = app.send(crate::form(&[("purpose", None, "batch"), ("file", Some("a"), "x")])).await;
    assert_eq!((answer.error(), answer.header("retry-after")), ((503, "file_store_unavailable".to_owned()), "5"));
    assert!(!answer.text().contains(&*app.folder.path().to_string_lossy()), "{}", answer.text());
}

#[tokio::test]
async fn browsers_of_other_origins_ask_only_if_they_may() {
    let closed = App::new().await;
    let open = App::with(ScriptedEngine::echo(), |config| {
        config.allowed_origins = vec![HeaderValue::from_static("https://good.example")];
    })
    .await;
    for (app, origin, allowed) in [
        (&closed, "https://good.example", ""),
        (&open, "https://good.example", "https://good.example"),
        (&open, "https://evil.example", ""),
    ] {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        for method in [Method::GET, Method::OPTIONS] {
            let answer = app.ask(method.clone(), "/v1/models", &headers, Body::empty()).await;
            assert_eq!(answer.header("access-control-allow-origin"), allowed, "{method} {origin}");
        }
    }
}

#[tokio::test]
async fn the_router_may_be_mounted_anywhere() {
    let mut app = App::new().await;
    app.router = Router::new().nest("/llm/jobs", app.router);
    assert_eq!(app.get("/llm/jobs/v1/models").await.json()["data"][0]["id"], "scripted");
    assert_eq!(app.get("/llm/jobs/nowhere").await.error(), (404, "unknown_url".to_owned()));
    let request = Request::put("/llm/jobs/v1/models").header(header::HOST, "x").body(Body::empty()).unwrap();
    assert_eq!(app.send(request).await.error(), (405, "method_not_allowed".to_owned()));
}

#[tokio::test]
async fn metrics_are_those_of_the_recorder_that_is_given() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let app = App::with(ScriptedEngine::echo(), |config| config.prometheus = Some(handle)).await;
    let text = {
        let _guard = metrics::set_default_local_recorder(&recorder);
        app.post("/v1/completions", &json!({"model": "scripted", "prompt": "x"})).await;
        app.ask(Method::from_bytes(b"BREW").unwrap(), "/nowhere", &[], Body::empty()).await;
        app.get("/metrics").await.text().to_owned()
    };
    for line in [
        "vllm_batch_http_requests_total{method=\"POST\",route=\"/v1/completions\",status=\"200\"} 1",
        "vllm_batch_http_requests_total{method=\"other\",route=\"unknown\",status=\"404\"} 1",
        "vllm_batch_http_request_seconds_count{route=\"/v1/completions\"} 1",
        "vllm_batch_http_live_requests 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert_eq!(App::new().await.get("/metrics").await.error(), (404, "no_metrics".to_owned()));
}

#[tokio::test]
async fn many_clients_at_once_are_answered() {
    let app = std::sync::Arc::new(App::with(ScriptedEngine::echo().held(), |_| ()).await);
    let clients: Vec<_> = (0..500)
        .map(|number| {
            let app = app.clone();
            tokio::spawn(async move {
                let prompt = number.to_string();
                let body = json!({"model": "scripted", "prompt": prompt, "stream": number % 2 == 0});
                let answer = app.post("/v1/completions", &body).await;
                assert!(answer.text().contains(&format!("\"text\":\"{prompt}\"")), "{}", answer.text());
            })
        })
        .collect();
    while app.engine.stats().running < 500 {
        tokio::task::yield_now().await;
    }
    app.engine.release_all();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!((app.engine.stats().finished, app.engine.stats().max_running), (500, 500));
}
