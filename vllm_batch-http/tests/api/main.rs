//! The router as clients see it: requests in, whole answers out. Ids are masked, times are fixed.

#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::too_many_lines)]

mod batches;
mod errors;
mod faults;
mod files;
mod keys;
mod live;
mod openapi;
mod streams;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt as _;
use vllm_batch::jobs::{FileStore, JobService, ServiceOptions, SqlStore, Worker, WorkerOptions};
use vllm_batch::testing::ScriptedEngine;
use vllm_batch_http::{Clock, Service, ServiceConfig};

/// The time at which everything happens.
const NOW: i64 = 1_700_000_000;

/// A router over a store in a folder of its own.
struct App {
    router: Router,
    jobs: JobService,
    engine: Arc<ScriptedEngine>,
    folder: TempDir,
    masks: Mutex<HashMap<String, String>>,
}

/// A whole answer.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and code of an answer that is an error in the envelope.
    fn error(&self) -> (u16, String) {
        let body = self.json();
        let fields: Vec<&str> = body["error"].as_object().unwrap().keys().map(String::as_str).collect();
        for name in ["code", "message", "param", "type"] {
            assert!(fields.contains(&name), "{body}");
        }
        (self.status.as_u16(), body["error"]["code"].as_str().unwrap().to_owned())
    }
}

impl App {
    async fn new() -> Self {
        Self::with(ScriptedEngine::echo(), |_| ()).await
    }

    async fn with(engine: ScriptedEngine, change: impl FnOnce(&mut ServiceConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let jobs = jobs(folder.path(), |_| ()).await;
        Self::over(jobs, engine, change, folder)
    }

    fn over(
        jobs: JobService,
        engine: ScriptedEngine,
        change: impl FnOnce(&mut ServiceConfig),
        folder: TempDir,
    ) -> Self {
        let mut config = ServiceConfig::default();
        config.clock = Clock::new(|| NOW as u64);
        change(&mut config);
        let engine = Arc::new(engine);
        let router = Service::new(jobs.clone(), config).with_engine(engine.clone()).router();
        Self { router, jobs, engine, folder, masks: Mutex::default() }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        assert!(!parts.headers["x-request-id"].is_empty());
        Answer { status: parts.status, headers: parts.headers, body: to_bytes(body, usize::MAX).await.unwrap() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], Body::empty()).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, &[], Body::empty()).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask(Method::POST, path, &[JSON], body.to_string().into()).await
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body).unwrap()).await
    }

    /// Uploads a file, and says its id.
    async fn upload(&self, content: &str) -> String {
        let answer = self.send(form(&[("purpose", None, "batch"), ("file", Some("in.jsonl"), content)])).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Creates a batch of a file with this content, and says its id.
    async fn batch(&self, content: &str) -> String {
        let file = self.upload(content).await;
        let wanted = serde_json::json!({
            "input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h",
        });
        let answer = self.post("/v1/batches", &wanted).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Lets a worker do all there is to do.
    async fn work(&self) {
        let options = WorkerOptions::new("worker-1", self.folder.path().join("work"));
        Worker::new(self.jobs.clone(), self.engine.clone(), options).run_until_idle().await.unwrap();
    }

    /// An answer with its ids replaced by `file-1`, `batch_1` and so on, in the order in which they were met first.
    fn masked(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.mask(text)),
            Value::Array(items) => items.into_iter().map(|item| self.masked(item)).collect(),
            Value::Object(fields) => {
                Value::Object(fields.into_iter().map(|(name, value)| (name, self.masked(value))).collect())
            }
            other => other,
        }
    }

    fn mask(&self, text: String) -> String {
        let kind = ["file-", "batch_"].into_iter().find(|kind| text.len() == kind.len() + 32 && text.starts_with(kind));
        let Some(kind) = kind else { return text };
        let mut masks = self.masks.lock().unwrap();
        let number = masks.values().filter(|mask| mask.starts_with(kind)).count() + 1;
        masks.entry(text).or_insert_with(|| format!("{kind}{number}")).clone()
    }
}

/// A service of jobs in a folder.
async fn jobs(folder: &Path, change: impl FnOnce(&mut ServiceOptions)) -> JobService {
    let url = format!("sqlite://{}?mode=rwc", folder.join("jobs.db").display());
    let mut options = ServiceOptions::default();
    options.clock = Arc::new(|| NOW);
    change(&mut options);
    let store = SqlStore::connect(&url).await.unwrap();
    JobService::new(Arc::new(store), FileStore::in_folder(folder.join("files")).unwrap(), options)
}

const JSON: (&str, &str) = ("content-type", "application/json");
const BOUNDARY: &str = "----the-boundary";

/// A form of fields: name, filename if it is a file, content.
fn form(fields: &[(&str, Option<&str>, &str)]) -> Request<Body> {
    let field = |(name, filename, content): &(&str, Option<&str>, &str)| {
        let filename = filename.map(|filename| format!("; filename=\"{filename}\"")).unwrap_or_default();
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n{content}\r\n")
    };
    let body: String = fields.iter().map(field).collect();
    form_of(format!("{body}--{BOUNDARY}--\r\n"))
}

fn form_of(body: impl Into<Body>) -> Request<Body> {
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    Request::post("/v1/files").header(header::CONTENT_TYPE, content_type).body(body.into()).unwrap()
}

/// Lines of a batch: names and prompts.
fn lines(rows: &[(&str, &str)]) -> String {
    let line = |(name, prompt): &(&str, &str)| {
        let body = serde_json::json!({"model": "scripted", "prompt": prompt});
        serde_json::json!({"custom_id": name, "method": "POST", "url": "/v1/completions", "body": body}).to_string()
            + "\n"
    };
    rows.iter().map(line).collect()
}
