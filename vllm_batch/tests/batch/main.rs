//! Batch files through a scripted engine: every line comes back exactly once, whatever happens.

mod bad_lines;
mod cancel;
mod contracts;
mod golden;
mod parts;
mod refused;
mod resume;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;
use vllm_batch::testing::ScriptedEngine;
use vllm_batch::{BatchEngine, BatchReport, BatchRunner, RunError};

/// A folder with a batch file and what comes out of it.
struct Job {
    folder: TempDir,
}

impl Job {
    fn new(input: impl AsRef<[u8]>) -> Self {
        // In memory where that is possible: thousands of runs wait for their disk.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        let job = Self { folder };
        job.set_input(input);
        job
    }

    fn set_input(&self, input: impl AsRef<[u8]>) {
        fs::write(self.path("in.jsonl"), input).expect("the folder is writable");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn runner<'a>(&self, engine: &'a dyn BatchEngine) -> BatchRunner<'a> {
        BatchRunner::new(engine)
            .input(self.path("in.jsonl"))
            .output(self.path("out.jsonl"))
            .clock(|| UNIX_EPOCH + Duration::from_secs(1_700_000_000))
    }

    fn run(&self, engine: &dyn BatchEngine) -> Result<BatchReport, RunError> {
        self.runner(engine).run()
    }

    fn resume(&self, engine: &dyn BatchEngine) -> BatchReport {
        self.runner(engine).resume(true).run().expect("the run can be resumed")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The lines of a file in the order of their bytes.
    fn sorted(&self, name: &str) -> Vec<String> {
        sorted(&self.read(name))
    }

    /// All rows of the output and the error file, in the order of their bytes. Each must be whole.
    fn rows(&self) -> Vec<String> {
        let text = self.read("out.jsonl") + &self.read("out.errors.jsonl");
        assert!(text.is_empty() || text.ends_with('\n'), "the last row is whole");
        for line in text.lines() {
            serde_json::from_str::<Value>(line).expect("every row is JSON");
        }
        sorted(&text)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).expect("the folder is readable");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("it is readable").file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    }
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// A line for `/v1/completions`.
fn line(custom_id: &str, prompt: &str) -> String {
    let body = format!(r#"{{"model":"scripted","prompt":"{prompt}"}}"#);
    format!(r#"{{"custom_id":"{custom_id}","method":"POST","url":"/v1/completions","body":{body}}}"#)
}

/// So many lines, each with a prompt of its own.
fn lines(count: usize) -> String {
    (0..count).map(|row| line(&format!("row-{row}"), &format!("say {row}")) + "\n").collect()
}

/// The counts of a report, in the order total, completed, failed, skipped, `skipped_failed`, stale.
fn counts(report: &BatchReport) -> [usize; 6] {
    [report.total, report.completed, report.failed, report.skipped, report.skipped_failed, report.stale]
}

fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/batch").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// An engine that answers with the prompt, and fails for prompts that ask for it.
fn moody() -> ScriptedEngine {
    ScriptedEngine::new(|request| match &request.prompt {
        vllm_batch::Prompt::Text(text) if text == "fail" => {
            Err(vllm_batch::RequestError::invalid("prompt", "the script says so"))
        }
        vllm_batch::Prompt::Text(text) => Ok(text.clone()),
        _ => Ok("other".to_owned()),
    })
}
