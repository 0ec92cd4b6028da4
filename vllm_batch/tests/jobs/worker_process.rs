//! A worker in a process of its own, which can be killed. The tests start themselves again as this.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vllm_batch::jobs::{ServiceOptions, Worker};

use super::*;

/// Tells the process what to do.
const SETUP: &str = "VLLM_BATCH_TEST_WORKER";

/// What a worker process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) name: String,
    /// The database.
    pub(crate) url: String,
    /// Where contents and journals are.
    pub(crate) folder: std::path::PathBuf,
    /// The time for all its life; without one it has the system's, and works until it is killed.
    pub(crate) now: Option<i64>,
    pub(crate) chunk_size: usize,
    pub(crate) max_tasks: usize,
    /// How long each row takes.
    pub(crate) row_millis: u64,
}

impl Setup {
    pub(crate) fn new(name: &str, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            url: format!("sqlite://{}?mode=rwc", folder.join("jobs.db").display()),
            folder: folder.to_owned(),
            now: None,
            chunk_size: 10,
            max_tasks: 2,
            row_millis: 0,
        }
    }

    /// Starts the process.
    pub(crate) fn start(&self) -> WorkerProcess {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["worker_process::works", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(SETUP, serde_json::to_string(self).unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, steps) = channel();
        // Somebody reads all the time, so that the process never waits to be heard.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(step) = line.strip_prefix("step ") {
                    let _ = sender.send(step.to_owned());
                }
            }
        });
        WorkerProcess { child, steps }
    }
}

/// A worker process that runs.
pub(crate) struct WorkerProcess {
    child: Child,
    steps: Receiver<String>,
}

impl WorkerProcess {
    /// What it does next: `row` or `time`; `None` if it has ended.
    pub(crate) fn next_step(&self) -> Option<String> {
        self.steps.recv().ok()
    }

    /// Ends it at once, as a power cut would, and says what it did until then.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.next_step()).collect()
    }
}

fn step(what: &str) {
    // One write for each line: what a killed process wrote is whole.
    let _ = std::io::stdout().lock().write_all(format!("step {what}\n").as_bytes());
}

#[test]
#[ignore = "other tests start this in a process of its own"]
fn works() {
    let Ok(setup) = std::env::var(SETUP) else { return };
    let setup: Setup = serde_json::from_str(&setup).unwrap();
    step("start");
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work(setup));
}

async fn work(setup: Setup) {
    let mut options = ServiceOptions::default();
    let (now, system) = (setup.now, options.clock.clone());
    // Whoever looks at the clock is about to do something with the store.
    options.clock = Arc::new(move || {
        step("time");
        now.unwrap_or_else(|| system())
    });
    let service = service_at(&setup.url, &setup.folder, options).await;
    let engine = slow(Duration::from_millis(setup.row_millis));
    let mut options = options_in(&setup.folder, &setup.name);
    options.chunk_size = setup.chunk_size;
    options.max_tasks = setup.max_tasks;
    options.max_idle_starts = u64::MAX;
    options.lease_time = Duration::from_secs(1);
    options.heartbeat_interval = Duration::from_millis(100);
    let worker = Worker::new(service, Arc::new(engine), options);
    if setup.now.is_some() {
        worker.run_until_idle().await.unwrap();
    } else {
        worker.run(vllm_batch::CancellationToken::new()).await.unwrap();
    }
}

/// As [`moody`], but it takes time.
fn slow(row_time: Duration) -> ScriptedEngine {
    ScriptedEngine::new(move |request| {
        step("row");
        std::thread::sleep(row_time);
        answer(request)
    })
}
