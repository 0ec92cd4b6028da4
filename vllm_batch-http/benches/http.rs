//! What does the way through HTTP cost, beside what an engine takes?
//!
//! The engine answers from a script, with 32 words, in no time to speak of: what is left is the cost of a request, of a chunk, and of
//! a piece of an upload. An engine that gives 100 tokens a second takes 320 milliseconds for such an answer; 3 % of that are
//! 9.6 milliseconds, and the whole way must take less.
#![allow(missing_docs)]

mod form;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;
use vllm_batch::BatchEngine;
use vllm_batch::batch::{Endpoint, LiveRequest};
use vllm_batch::jobs::{FileStore, JobService, ServiceOptions, SqlStore};
use vllm_batch::testing::ScriptedEngine;
use vllm_batch_http::{ApiKey, Service, ServiceConfig, hash_key};

const WORDS: usize = 32;
const UPLOAD_BYTES: usize = 8 << 20;

fn body(stream: bool) -> Value {
    let content = "word ".repeat(WORDS);
    json!({"model": "scripted", "messages": [{"role": "user", "content": content}], "stream": stream})
}

async fn router(folder: &std::path::Path) -> Router {
    let url = format!("sqlite://{}?mode=rwc", folder.join("jobs.db").display());
    let store = SqlStore::connect(&url).await.expect("a database");
    let files = FileStore::in_folder(folder.join("files")).expect("a folder");
    let jobs = JobService::new(Arc::new(store), files, ServiceOptions::default());
    let mut config = ServiceConfig::default();
    config.api_keys = vec![ApiKey::from_sha256("bench", &hash_key("key")).expect("a hash")];
    Service::new(jobs, config).with_engine(Arc::new(ScriptedEngine::echo())).router()
}

async fn send(router: &Router, path: &str, content_type: &str, body: String) -> usize {
    let request =
        Request::post(path).header(header::CONTENT_TYPE, content_type).header(header::AUTHORIZATION, "Bearer key");
    let response = router.clone().oneshot(request.body(Body::from(body)).expect("a request")).await.expect("an answer");
    assert!(response.status().is_success(), "{}", response.status());
    to_bytes(response.into_body(), usize::MAX).await.expect("a body").len()
}

fn live(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let router = runtime.block_on(router(folder.path()));
    let engine = ScriptedEngine::echo();
    let mut group = criterion.benchmark_group("a request of 32 words");
    group.bench_function("engine", |bencher| {
        let fields: Map<String, Value> = body(false).as_object().cloned().expect("an object");
        bencher.iter(|| {
            let request = LiveRequest::parse(Endpoint::ChatCompletions, "a", fields.clone(), engine.spec());
            runtime.block_on(request.expect("a request").answer(&engine, 0)).status_code
        });
    });
    for (name, stream) in [("http", false), ("http, in chunks", true)] {
        let body = body(stream).to_string();
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(send(&router, "/v1/chat/completions", "application/json", body.clone())));
        });
    }
    group.finish();
}

fn upload(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let router = runtime.block_on(router(folder.path()));
    let form = form::upload(&[], &"x".repeat(UPLOAD_BYTES));
    let mut group = criterion.benchmark_group("upload");
    group.sample_size(10).throughput(Throughput::Bytes(UPLOAD_BYTES as u64));
    group.bench_function("8 MiB", |bencher| {
        bencher.iter(|| runtime.block_on(send(&router, "/v1/files", form::CONTENT_TYPE, form.clone())));
    });
    group.finish();
}

criterion_group!(benches, live, upload);
criterion_main!(benches);
