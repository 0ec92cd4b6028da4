//! Batches through workers: every request has its row exactly once, whatever happens to whom.
#![allow(clippy::unwrap_used)]

mod crash;
mod ends;
mod estimates;
mod failures;
mod files;
mod outage;
mod retention;
mod sharing;
mod worker_process;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use futures::{TryStreamExt as _, stream};
use serde_json::Value;
use tempfile::TempDir;
use vllm_batch::batch::BatchRequestOutput;
use vllm_batch::jobs::{
    Batch, FileObject, FileStore, JobError, JobService, NewBatch, NewFile, ServiceOptions, SqlStore, Worker,
    WorkerOptions,
};
use vllm_batch::testing::ScriptedEngine;
use vllm_batch::{BatchEngine, Prompt, Request, RequestError};

/// When everything begins, unless a test lets time pass.
const START: i64 = 1_700_000_000;
/// The endpoint of all batches here.
const COMPLETIONS: &str = "/v1/completions";

/// A place with a database, contents and a clock that stands.
struct House {
    folder: TempDir,
    clock: Arc<AtomicI64>,
    service: JobService,
}

impl House {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut ServiceOptions)) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let clock = Arc::new(AtomicI64::new(START));
        let mut options = ServiceOptions::default();
        let time = clock.clone();
        options.clock = Arc::new(move || time.load(Ordering::SeqCst));
        change(&mut options);
        let service = service_in(folder.path(), options).await;
        Self { folder, clock, service }
    }

    /// Lets time pass.
    fn wait(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    async fn upload(&self, text: &str) -> FileObject {
        upload(&self.service, text).await
    }

    async fn submit(&self, text: &str) -> Batch {
        let file = self.upload(text).await;
        self.service.create_batch(NewBatch::new(file.id, COMPLETIONS)).await.unwrap()
    }

    async fn get(&self, batch: &Batch) -> Batch {
        self.service.batch("", &batch.id).await.unwrap()
    }

    /// Options of a worker that does not wait where it need not.
    fn options(&self, name: &str) -> WorkerOptions {
        options_in(self.folder.path(), name)
    }

    fn worker(&self, name: &str, engine: &Arc<ScriptedEngine>, change: impl FnOnce(&mut WorkerOptions)) -> Worker {
        let mut options = self.options(name);
        change(&mut options);
        Worker::new(self.service.clone(), engine.clone() as Arc<dyn BatchEngine>, options)
    }

    /// Lets a worker do all there is to do.
    async fn work(&self) {
        self.worker("w", &Arc::new(moody()), |_| {}).run_until_idle().await.unwrap();
    }

    /// The content of a batch's output and error file, empty where there is none.
    async fn results(&self, batch: &Batch) -> [String; 2] {
        let batch = self.get(batch).await;
        [self.text(batch.output_file_id.as_deref()).await, self.text(batch.error_file_id.as_deref()).await]
    }

    async fn text(&self, id: Option<&str>) -> String {
        match id {
            Some(id) => text_of(&self.service, id).await,
            None => String::new(),
        }
    }

    /// The files below the house's folder that are contents or belong to work.
    fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for below in ["files/batches", "work"] {
            found.extend(files_below(&self.folder.path().join(below)));
        }
        found
    }
}

async fn service_in(folder: &Path, options: ServiceOptions) -> JobService {
    let url = format!("sqlite://{}?mode=rwc", folder.join("jobs.db").display());
    service_at(&url, folder, options).await
}

async fn service_at(url: &str, folder: &Path, options: ServiceOptions) -> JobService {
    let store = SqlStore::connect(url).await.unwrap();
    let files = FileStore::in_folder(folder.join("files")).unwrap();
    JobService::new(Arc::new(store), files, options)
}

fn options_in(folder: &Path, name: &str) -> WorkerOptions {
    let mut options = WorkerOptions::new(name, folder.join("work"));
    options.heartbeat_interval = Duration::from_millis(5);
    options.poll_interval = Duration::from_millis(5);
    options.retry_after = Duration::ZERO;
    options.row_clock = Arc::new(|| UNIX_EPOCH + Duration::from_secs(1_600_000_000));
    options
}

async fn upload(service: &JobService, text: &str) -> FileObject {
    let content = stream::iter([Ok::<_, JobError>(text.to_owned().into())]);
    service.create_file(NewFile::for_batch(), content).await.unwrap()
}

async fn text_of(service: &JobService, id: &str) -> String {
    let pieces: Vec<_> = service.content("", id, None).await.unwrap().content.try_collect().await.unwrap();
    String::from_utf8(pieces.concat()).unwrap()
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}

/// A line for `/v1/completions`.
fn line(custom_id: &str, prompt: &str) -> String {
    let body = format!(r#"{{"model":"scripted","prompt":"{prompt}"}}"#);
    format!(r#"{{"custom_id":"{custom_id}","method":"POST","url":"/v1/completions","body":{body}}}"#)
}

/// So many lines, each with a prompt of its own; each tenth asks to be refused.
fn lines(count: usize) -> String {
    let prompt = |row: usize| if row % 10 == 7 { format!("refuse {row}") } else { format!("say {row}") };
    (0..count).map(|row| line(&format!("row-{row}"), &prompt(row)) + "\n").collect()
}

/// The names of so many lines that are answered, and of those that are refused.
fn names(count: usize) -> [Vec<String>; 2] {
    let (refused, answered): (Vec<_>, Vec<_>) = (0..count).partition(|row| row % 10 == 7);
    [answered, refused].map(|rows| rows.into_iter().map(|row| format!("row-{row}")).collect())
}

/// An engine that answers with the prompt, unless that asks to be refused.
fn moody() -> ScriptedEngine {
    ScriptedEngine::new(answer)
}

fn answer(request: &Request) -> Result<String, RequestError> {
    match &request.prompt {
        Prompt::Text(text) if text.starts_with("refuse") => Err(RequestError::invalid("prompt", "it asks for it")),
        Prompt::Text(text) => Ok(text.clone()),
        _ => Ok("other".to_owned()),
    }
}

/// The names of rows, in their order. Each row must be whole.
fn names_of(rows: &str) -> Vec<String> {
    assert!(rows.is_empty() || rows.ends_with('\n'), "the last row is whole");
    rows.lines().map(|row| serde_json::from_str::<BatchRequestOutput>(row).unwrap().custom_id.unwrap()).collect()
}

/// Of error rows: their names and codes.
fn codes_of(rows: &str) -> Vec<(String, String)> {
    let code = |row: &str| {
        let row: Value = serde_json::from_str(row).unwrap();
        let error = if row["error"].is_null() { &row["response"]["body"]["error"] } else { &row["error"] };
        (row["custom_id"].as_str().unwrap().to_owned(), error["code"].as_str().unwrap().to_owned())
    };
    rows.lines().map(code).collect()
}

/// Status, and how many requests there are, were answered and failed.
fn standing(batch: &Batch) -> (&'static str, [u64; 3]) {
    let counts = batch.request_counts;
    (batch.status.as_str(), [counts.total, counts.completed, counts.failed])
}

/// Waits until something is so.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    while !is_so().await {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
