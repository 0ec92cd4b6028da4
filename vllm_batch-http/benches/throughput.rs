//! How much of an engine's throughput is left behind HTTP? The demo model answers the same requests in turn directly and through a
//! server on the loopback interface, whose clients share the processor with it: live requests of 64 clients, and a batch that is
//! uploaded, run by a worker and downloaded, beside a `BatchRunner` on the same file.
//!
//! `cargo bench --bench throughput`; `-- 9` runs so many rounds instead of five, the first of which does not count.
#![allow(missing_docs)]

#[path = "../../examples/demo_model/mod.rs"]
mod demo_model;
mod form;

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use vllm_batch::batch::{BatchResponse, Endpoint, LiveRequest};
use vllm_batch::jobs::{FileStore, JobService, ServiceOptions, SqlStore, Worker, WorkerOptions};
use vllm_batch::{BatchEngine, BatchRunner, LocalEngine};
use vllm_batch_http::{Service, ServiceConfig};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Answers of a round, in tokens a second.
type Side = fn(&Server, &Path, usize) -> Result<f64>;

const CLIENTS: usize = 64;
const ROWS: usize = 256;
const TOKENS: usize = 32;

/// A server in this process, and its engine.
struct Server {
    runtime: Runtime,
    engine: Arc<LocalEngine>,
    jobs: JobService,
    worker: Worker,
    url: String,
    /// Clients keep their connections, as OpenAI's do.
    agent: ureq::Agent,
}

fn main() -> Result<()> {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path())?;
    let mut out = io::stdout();
    let pairs: [(&str, Side, Side); 2] =
        [("live requests", Server::answer_directly, Server::answer), ("a batch", Server::run_file, Server::run_batch)];
    for (what, direct, served) in pairs {
        let mut ratios = Vec::new();
        for round in 0..=rounds {
            let (before, after) = (direct(&server, folder.path(), round)?, served(&server, folder.path(), round)?);
            writeln!(
                out,
                "{what}, round {round}: {before:.0} tokens a second directly, {after:.0} through the server"
            )?;
            ratios.push(after / before);
        }
        let counted = &mut ratios[1..];
        counted.sort_by(f64::total_cmp);
        writeln!(out, "{what}: {:.3} of the engine's throughput (median)", counted[counted.len() / 2])?;
    }
    Ok(())
}

impl Server {
    fn start(folder: &Path) -> Result<Self> {
        let runtime = Runtime::new()?;
        // The same requests come again and again: a cache would answer for both sides, and not alike.
        let build = |source| {
            LocalEngine::builder(source).served_model_name(demo_model::NAME).enable_prefix_caching(false).build()
        };
        let engine = Arc::new(demo_model::load(build)?);
        let (jobs, url) = runtime.block_on(async {
            let store = SqlStore::connect(&format!("sqlite://{}?mode=rwc", folder.join("jobs.db").display())).await?;
            let files = FileStore::in_folder(folder.join("files"))?;
            let jobs = JobService::new(Arc::new(store), files, ServiceOptions::default());
            let router = Service::new(jobs.clone(), ServiceConfig::default()).with_engine(engine.clone()).router();
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let url = format!("http://{}", listener.local_addr()?);
            tokio::spawn(async move { axum::serve(listener, router).await });
            Ok::<_, Box<dyn Error>>((jobs, url))
        })?;
        let worker = Worker::new(jobs.clone(), engine.clone(), WorkerOptions::new("bench", folder.join("work")));
        let mut agent = ureq::Agent::config_builder();
        agent = agent.max_idle_connections(CLIENTS).max_idle_connections_per_host(CLIENTS);
        Ok(Self { runtime, engine, jobs, worker, url, agent: agent.build().into() })
    }

    /// All requests at once, without a server.
    fn answer_directly(&self, _: &Path, round: usize) -> Result<f64> {
        let parse = |number: usize| {
            let body = body(round, number).as_object().cloned().unwrap_or_default();
            LiveRequest::parse(Endpoint::ChatCompletions, &format!("r-{number}"), body, self.engine.spec())
        };
        let started = Instant::now();
        let requests = (0..CLIENTS).map(parse).collect::<std::result::Result<Vec<_>, _>>()?;
        let answers = requests.into_iter().map(|request| request.answer(&*self.engine, 0));
        let answers: Vec<BatchResponse> = self.runtime.block_on(join_all(answers));
        let seconds = started.elapsed().as_secs_f64();
        assert!(answers.iter().all(|answer| answer.status_code == 200));
        Ok((CLIENTS * TOKENS) as f64 / seconds)
    }

    /// The same of as many clients.
    fn answer(&self, _: &Path, round: usize) -> Result<f64> {
        let started = Instant::now();
        std::thread::scope(|scope| {
            let ask = |number| move || self.post("/v1/chat/completions", &body(round, number));
            let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(ask(number))).collect();
            for client in clients {
                let answer = client.join().map_err(|_| "a client panicked")??;
                assert_eq!(answer["usage"]["completion_tokens"], TOKENS);
            }
            Ok((CLIENTS * TOKENS) as f64 / started.elapsed().as_secs_f64())
        })
    }

    /// A file, without a server.
    fn run_file(&self, folder: &Path, round: usize) -> Result<f64> {
        let (input, output) = (folder.join(format!("{round}.jsonl")), folder.join(format!("{round}.out.jsonl")));
        fs::write(&input, file(round))?;
        let started = Instant::now();
        let report = BatchRunner::new(&*self.engine).input(&input).output(&output).run()?;
        assert_eq!(report.completed, ROWS);
        Ok((ROWS * TOKENS) as f64 / started.elapsed().as_secs_f64())
    }

    /// The same as a batch: from the upload to the last byte of the answers.
    fn run_batch(&self, _: &Path, round: usize) -> Result<f64> {
        let content = file(round);
        let started = Instant::now();
        let file = self.upload(&content)?;
        let wanted =
            json!({"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"});
        let batch = self.post("/v1/batches", &wanted)?;
        self.runtime.block_on(self.worker.run_until_idle())?;
        let id = batch["id"].as_str().unwrap_or_default();
        let batch = self.runtime.block_on(self.jobs.batch("", id))?;
        let answers = batch.output_file_id.ok_or("the batch has answers")?;
        let rows =
            self.agent.get(format!("{}/v1/files/{answers}/content", self.url)).call()?.body_mut().read_to_string()?;
        assert_eq!(rows.lines().count(), ROWS);
        Ok((ROWS * TOKENS) as f64 / started.elapsed().as_secs_f64())
    }

    fn post(&self, path: &str, body: &Value) -> std::result::Result<Value, ureq::Error> {
        self.send(path, "application/json", &body.to_string())
    }

    fn upload(&self, content: &str) -> std::result::Result<Value, ureq::Error> {
        self.send("/v1/files", form::CONTENT_TYPE, &form::upload(&[], content))
    }

    fn send(&self, path: &str, content_type: &str, body: &str) -> std::result::Result<Value, ureq::Error> {
        let request = self.agent.post(format!("{}{path}", self.url)).content_type(content_type);
        let text = request.send(body)?.body_mut().read_to_string()?;
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }
}

/// A question that no other request has, whose answer has a fixed length.
fn body(round: usize, number: usize) -> Value {
    let content = format!("{number}: what should one know about the number {}?", round * 10_000 + number);
    json!({"model": demo_model::NAME, "messages": [{"role": "user", "content": content}],
        "temperature": 0, "max_tokens": TOKENS, "min_tokens": TOKENS})
}

fn file(round: usize) -> String {
    let line = |number: usize| {
        let body = body(round, number);
        json!({"custom_id": format!("r-{number}"), "method": "POST", "url": "/v1/chat/completions", "body": body})
    };
    (0..ROWS).map(|number| line(number).to_string() + "\n").collect()
}
