//! Does memory stay flat? An hour of a server in fast motion: each second of its clock brings an upload, a batch of ten requests and five
//! live requests, half of them streamed, and somebody who looks at the queue. A worker does the batches, and those that are older than
//! ten minutes are forgotten, as are inputs after an hour. The engine answers from a script, so what is measured is the service alone, with its metrics.
//!
//! `cargo bench --bench soak` runs 3,600 seconds and prints the memory of the process; `-- 600` runs so many.
#![allow(missing_docs)]

mod form;

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use vllm_batch::CancellationToken;
use vllm_batch::jobs::{BatchStatus, FileStore, JobService, ServiceOptions, SqlStore, Worker, WorkerOptions};
use vllm_batch::testing::ScriptedEngine;
use vllm_batch_http::{Service, ServiceConfig, install_prometheus};

const ROWS: usize = 10;
const LIVE_REQUESTS: usize = 5;
/// Seconds after which batches and files are forgotten.
const RETENTION: i64 = 600;
/// The most batches that wait, and that there are: the clock runs away neither from the work nor from what is to be forgotten.
const MAX_WAITING: u64 = 20;
const MAX_BATCHES: u64 = RETENTION as u64 + 100;
const LINES_PRINTED: i64 = 12;

/// A server in this process.
struct Server {
    router: Router,
    jobs: JobService,
    clock: Arc<AtomicI64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(3600);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    runtime.block_on(soak(folder.path(), seconds))
}

async fn soak(folder: &Path, seconds: i64) -> Result<(), Box<dyn Error>> {
    let engine = Arc::new(ScriptedEngine::echo());
    let server = Server::new(folder, engine.clone()).await?;
    let mut options = WorkerOptions::new("worker", folder.join("work"));
    (options.maintenance_interval, options.heartbeat_interval) = (Duration::ZERO, Duration::from_millis(100));
    let (worker, shutdown) = (Worker::new(server.jobs.clone(), engine, options), CancellationToken::new());
    let working = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { worker.run(shutdown).await }
    });
    let (mut out, started) = (io::stdout(), Instant::now());
    for second in 1..=seconds {
        server.second(second).await?;
        if second % (seconds / LINES_PRINTED).max(1) == 0 {
            let took = started.elapsed().as_secs_f64();
            writeln!(out, "after {second} seconds of its clock ({took:.0} s): {:.1} MiB", resident()? / 1024.0)?;
        }
    }
    server.wait_until(0).await?;
    shutdown.cancel();
    working.await??;
    let left = server.jobs.store().count_batches(None).await?;
    writeln!(out, "batches that are not forgotten: {left:?}; {seconds} were made")?;
    assert!(left.iter().all(|(status, _)| *status == BatchStatus::Completed), "{left:?}");
    Ok(())
}

impl Server {
    async fn new(folder: &Path, engine: Arc<ScriptedEngine>) -> Result<Self, Box<dyn Error>> {
        let store = SqlStore::connect(&format!("sqlite://{}?mode=rwc", folder.join("jobs.db").display())).await?;
        let clock = Arc::new(AtomicI64::new(1_700_000_000));
        let mut options = ServiceOptions::default();
        (options.result_retention, options.batch_retention) = (Some(RETENTION), Some(RETENTION));
        let time = clock.clone();
        options.clock = Arc::new(move || time.load(Ordering::Relaxed));
        let jobs = JobService::new(Arc::new(store), FileStore::in_folder(folder.join("files"))?, options);
        let mut config = ServiceConfig::default();
        config.prometheus = Some(install_prometheus()?);
        Ok(Self { router: Service::new(jobs.clone(), config).with_engine(engine).router(), jobs, clock })
    }

    /// All that happens in a second.
    async fn second(&self, second: i64) -> Result<(), Box<dyn Error>> {
        self.clock.fetch_add(1, Ordering::Relaxed);
        let file = self.send("/v1/files", form::CONTENT_TYPE, upload(second)).await?;
        let batch = json!({"input_file_id": file["id"], "endpoint": "/v1/completions", "completion_window": "24h"});
        self.send("/v1/batches", "application/json", batch.to_string()).await?;
        for number in 0..LIVE_REQUESTS {
            let prompt = format!("{second} {number} {}", "word ".repeat(32));
            let body = json!({"model": "scripted", "prompt": prompt, "stream": number % 2 == 0});
            self.send("/v1/completions", "application/json", body.to_string()).await?;
        }
        for path in ["/v1/queue", "/v1/batches", "/v1/jobs/stats", "/metrics"] {
            self.answer(Request::get(path).body(Body::empty())?).await?;
        }
        self.wait_until(MAX_WAITING).await
    }

    /// Waits until at most so many batches have not ended, and those of long ago are forgotten.
    async fn wait_until(&self, most: u64) -> Result<(), Box<dyn Error>> {
        loop {
            let counts = self.jobs.store().count_batches(None).await?;
            let all: u64 = counts.iter().map(|(_, count)| count).sum();
            let ended: u64 = counts.iter().filter(|(status, _)| status.is_terminal()).map(|(_, count)| count).sum();
            if all - ended <= most && all <= MAX_BATCHES {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn send(&self, path: &str, content_type: &str, body: String) -> Result<Value, Box<dyn Error>> {
        let request = Request::post(path).header(header::CONTENT_TYPE, content_type).body(Body::from(body))?;
        // A stream is no JSON, and nobody asks for it.
        Ok(serde_json::from_slice(&self.answer(request).await?).unwrap_or_default())
    }

    async fn answer(&self, request: Request<Body>) -> Result<Vec<u8>, Box<dyn Error>> {
        let response = self.router.clone().oneshot(request).await?;
        assert!(response.status().is_success(), "{}", response.status());
        Ok(to_bytes(response.into_body(), usize::MAX).await?.to_vec())
    }
}

/// The form of a file with the requests of a second, which is deleted after an hour.
fn upload(second: i64) -> String {
    let line = |row: usize| {
        let body = json!({"model": "scripted", "prompt": format!("{second} {row}")});
        let line = json!({"custom_id": format!("row-{row}"), "method": "POST", "url": "/v1/completions", "body": body});
        line.to_string() + "\n"
    };
    let content: String = (0..ROWS).map(line).collect();
    form::upload(&[("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "3600")], &content)
}

/// The memory that this process holds, in KiB.
fn resident() -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("this system has no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
