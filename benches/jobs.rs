//! What do jobs cost apart from the model? Takes rows through a worker (SQLite and a folder, in a temporary folder) and through a
//! runner alone, with an engine that answers at once, and prints the difference for each row. Then it queues small batches and
//! prints how long it takes to lease a task as the queue grows.
//!
//! `cargo bench --bench jobs` runs 10,000 rows and queues 10,000 batches; `-- 2000` runs and queues so many.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures::stream;
use vllm_batch::batch::Contract;
use vllm_batch::jobs::{
    FileStore, JobError, JobService, NewBatch, NewFile, ServiceOptions, SqlStore, TaskOutcome, Worker, WorkerInfo,
    WorkerOptions,
};
use vllm_batch::testing::ScriptedEngine;
use vllm_batch::{BatchEngine, BatchRunner};

/// About the rows a second of the demo model on two cores, with answers of some length: the share of a row is told for this.
const DEMO_ROWS_PER_SECOND: f64 = 10.0;

fn main() -> Result<(), Box<dyn Error>> {
    let rows = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let text = input(rows);
    let alone = run_alone(folder.path(), &text)?;
    let mut out = io::stdout();
    writeln!(out, "{rows} rows, a runner alone: {:.1} us a row", alone * 1e6 / rows as f64)?;
    for chunk_size in [rows, 2000] {
        let seconds = runtime.block_on(run_as_job(folder.path(), &text, chunk_size))?;
        let more = (seconds - alone) / rows as f64;
        let share = 100.0 * more * DEMO_ROWS_PER_SECOND;
        writeln!(
            out,
            "chunks of {chunk_size}: {:.1} us a row more, {share:.3} % of a row of the demo model",
            more * 1e6
        )?;
    }
    runtime.block_on(queue(folder.path(), rows))
}

fn input(rows: usize) -> String {
    let line = |row: usize| {
        format!(
            r#"{{"custom_id":"row-{row}","method":"POST","url":"/v1/chat/completions","body":{{"model":"scripted","messages":[{{"role":"user","content":"Passage {row} is about number {row}. How clear is it? Answer with one word."}}],"temperature":0,"max_tokens":8}}}}"#
        )
    };
    (0..rows).map(|row| line(row) + "\n").collect()
}

fn run_alone(folder: &Path, text: &str) -> Result<f64, Box<dyn Error>> {
    let input = folder.join("in.jsonl");
    std::fs::write(&input, text)?;
    let engine = ScriptedEngine::echo();
    let started = Instant::now();
    BatchRunner::new(&engine).input(input).output(folder.join("out.jsonl")).contract(Contract::open_ai()).run()?;
    Ok(started.elapsed().as_secs_f64())
}

async fn service(folder: &Path, name: &str) -> Result<JobService, JobError> {
    let store = SqlStore::connect(&format!("sqlite://{}?mode=rwc", folder.join(name).display())).await?;
    Ok(JobService::new(Arc::new(store), FileStore::in_folder(folder.join("files"))?, ServiceOptions::default()))
}

async fn run_as_job(folder: &Path, text: &str, chunk_size: usize) -> Result<f64, Box<dyn Error>> {
    let service = service(folder, "jobs.db").await?;
    let content = stream::iter([Ok::<_, JobError>(text.to_owned().into())]);
    let started = Instant::now();
    let file = service.create_file(NewFile::for_batch(), content).await?;
    let batch = service.create_batch(NewBatch::new(file.id, "/v1/chat/completions")).await?;
    let mut options = WorkerOptions::new("worker", folder.join("work"));
    options.chunk_size = chunk_size;
    let engine: Arc<dyn BatchEngine> = Arc::new(ScriptedEngine::echo());
    Worker::new(service.clone(), engine, options).run_until_idle().await?;
    let seconds = started.elapsed().as_secs_f64();
    let ended = service.batch("", &batch.id).await?;
    assert_eq!(ended.status.as_str(), "completed", "{:?}", ended.errors);
    Ok(seconds)
}

/// Queues small batches, and takes and gives back tasks now and then.
async fn queue(folder: &Path, batches: usize) -> Result<(), Box<dyn Error>> {
    let service = service(folder, "queue.db").await?;
    let content = stream::iter([Ok::<_, JobError>(input(1).into())]);
    let file = service.create_file(NewFile::for_batch(), content).await?;
    let mut out = io::stdout();
    for number in 1..=batches {
        service.create_batch(NewBatch::new(&file.id, "/v1/chat/completions")).await?;
        if [10, batches / 10, batches].contains(&number) {
            let seconds = lease_seconds(&service).await?;
            writeln!(out, "{number} batches wait: a task is taken and given back in {:.2} ms", seconds * 1e3)?;
        }
    }
    Ok(())
}

async fn lease_seconds(service: &JobService) -> Result<f64, JobError> {
    let worker = WorkerInfo {
        name: "bench".to_owned(),
        models: vec!["scripted".to_owned()],
        started_at: service.now(),
        last_seen: service.now(),
        tokens_per_second: 0.0,
        rows_per_second: None,
    };
    let started = Instant::now();
    let times = 100;
    for _ in 0..times {
        if let Some(lease) = service.store().lease(&worker, service.now(), 60).await? {
            service.store().finish(&lease, &TaskOutcome::Released, service.now()).await?;
        }
    }
    Ok(started.elapsed().as_secs_f64() / f64::from(times))
}
