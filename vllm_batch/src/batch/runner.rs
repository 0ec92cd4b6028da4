//! The way in: a batch file, an engine, and where the answers go.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use futures::executor::block_on;

use super::CancellationToken;
use super::contract::Contract;
use super::deadline::Deadline;
use super::error::RunError;
use super::files::Files;
use super::input::{Index, Input};
use super::journal::{Journal, SyncPolicy};
use super::line::LineParser;
use super::plan::{PlanOptions, PlanPolicy};
use super::progress::{Counts, Progress, Reporter};
use super::recover::{Recovered, recover};
use super::report::{BatchReport, RunStatus};
use super::rows::Rows;
use super::run::{Run, Settings};
use crate::engine::BatchEngine;

/// Longest line of the input, in bytes, unless it is set.
pub(super) const MAX_LINE_BYTES: usize = 64 << 20;
/// Smallest number of requests in flight, unless it is set: enough for an engine to choose from.
const MIN_WINDOW: usize = 64;

/// Runs a batch file through an engine, so that each of its rows comes back exactly once, whatever happens.
///
/// * Every line of the input gets one row: an answer in the output, or an error in the error file. A bad line fails
///   alone, unless the [`contract`](Self::contract) is another one.
/// * Rows are written in the order in which they end, each as soon as it ends. After a crash, a cancellation or a full
///   disk, [`resume`](Self::resume) goes on where the run stopped.
/// * Memory depends on the number of requests in flight and, by tens of bytes each, on the number of lines; bodies of
///   lines that wait or are done are not held.
/// * Rows run in the order that makes the most of the prefix cache ([`plan`](Self::plan)), and those that ask for the same
///   run once ([`deduplicate`](Self::deduplicate)).
///
/// # Example
/// ```
/// use vllm_batch::batch::BatchRunner;
/// use vllm_batch::testing::ScriptedEngine;
///
/// let folder = tempfile::tempdir()?;
/// let (input, output) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
/// let body = r#"{"model": "scripted", "prompt": "Hello"}"#;
/// std::fs::write(&input, format!(r#"{{"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": {body}}}"#))?;
///
/// let engine = ScriptedEngine::echo();
/// let report = BatchRunner::new(&engine).input(&input).output(&output).resume(true).run()?;
/// assert_eq!((report.completed, report.failed), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a runner does nothing until `run` is called"]
pub struct BatchRunner<'a> {
    engine: &'a dyn BatchEngine,
    input: Option<PathBuf>,
    output: Option<PathBuf>,
    errors: Option<PathBuf>,
    contract: Contract,
    resume: bool,
    deadline: Option<Instant>,
    window: usize,
    priority: i32,
    max_line_bytes: usize,
    plan: PlanOptions,
    sync: SyncPolicy,
    on_progress: Box<dyn FnMut(&Progress) + 'a>,
    progress_interval: Duration,
    cancellation: CancellationToken,
    drain: CancellationToken,
    clock: Box<dyn Fn() -> SystemTime + 'a>,
}

impl<'a> BatchRunner<'a> {
    /// A runner that needs an [`input`](Self::input) and an [`output`](Self::output).
    pub fn new(engine: &'a dyn BatchEngine) -> Self {
        Self {
            engine,
            input: None,
            output: None,
            errors: None,
            contract: Contract::default(),
            resume: false,
            deadline: None,
            window: engine.spec().max_num_seqs.saturating_mul(2).max(MIN_WINDOW),
            priority: 0,
            max_line_bytes: MAX_LINE_BYTES,
            plan: PlanOptions { policy: PlanPolicy::default(), deduplicate: true },
            sync: SyncPolicy::default(),
            on_progress: Box::new(|_| {}),
            progress_interval: Duration::from_millis(500),
            cancellation: CancellationToken::new(),
            drain: CancellationToken::new(),
            clock: Box::new(SystemTime::now),
        }
    }

    /// The batch file, as JSONL. It is read twice and must not change meanwhile.
    pub fn input(mut self, path: impl AsRef<Path>) -> Self {
        self.input = Some(path.as_ref().to_owned());
        self
    }

    /// Where answers go. The folder must exist.
    pub fn output(mut self, path: impl AsRef<Path>) -> Self {
        self.output = Some(path.as_ref().to_owned());
        self
    }

    /// Where errors go; without this, next to the output: `answers.jsonl` has `answers.errors.jsonl`.
    pub fn errors(mut self, path: impl AsRef<Path>) -> Self {
        self.errors = Some(path.as_ref().to_owned());
        self
    }

    /// What the file may hold and what the rows look like. Default [`Contract::Lenient`].
    ///
    /// A run is resumed with the contract that it began with, as far as vLLM's is concerned: rows of another shape are
    /// moved aside.
    pub fn contract(mut self, contract: Contract) -> Self {
        self.contract = contract;
        self
    }

    /// How long the run may take from now on. Rows that are not done by then are left for a run that resumes; with
    /// [`Contract::OpenAi`] each has an error row with the code `batch_expired` until then. Default: for ever.
    pub fn deadline(mut self, after: Duration) -> Self {
        self.deadline = Deadline::after(after);
        self
    }

    /// Whether to go on with what the output and the error file hold. Default false: files with rows are refused.
    ///
    /// A row is done if its `id` is that of a line of the input as it is now, for the engine's revision as it is now.
    /// Rows of lines that changed or are gone, second rows of one line, rows that failed because the engine did, and
    /// rows that were cancelled or expired are moved to `answers.stale.jsonl`, and their lines run again.
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// The most requests in flight, of which a row may have several; 0 counts as 1. Default: twice the engine's `max_num_seqs`, at least 64.
    pub fn window(mut self, window: usize) -> Self {
        self.window = window.max(1);
        self
    }

    /// Is added to the priority of each row, which counts as a million at most, up or down. The lower number is served first:
    /// with two million, all requests of others to the same engine go before the rows. Default 0. It changes no answer.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// The longest line of the input in bytes; a longer one becomes an error row. Default 64 MiB.
    pub fn max_line_bytes(mut self, max_line_bytes: usize) -> Self {
        self.max_line_bytes = max_line_bytes;
        self
    }

    /// In which order rows are handed to the engine. Default [`PlanPolicy::Prefix`]. It changes no answer.
    pub fn plan(mut self, policy: PlanPolicy) -> Self {
        self.plan.policy = policy;
        self
    }

    /// Whether rows that have the same answer run once. Default true.
    ///
    /// These are rows with the same url, `priority` and body, apart from what says nothing about the answer (such as
    /// `user` and `metadata`), if the body also settles all random numbers: with a `seed`, at temperature 0, or where none
    /// are needed. Each still gets a row of its own, under its name and id: the same choices, and the same token counts,
    /// with the whole prompt counted as cached, because none of it was computed. If the row that runs is refused, the
    /// others are, too; if it fails for a reason that may pass, the next one runs. Rows that an earlier run has done are
    /// not looked at.
    pub fn deduplicate(mut self, deduplicate: bool) -> Self {
        self.plan.deduplicate = deduplicate;
        self
    }

    /// Syncs to the disk after so many rows, or with the first row or token after `interval`, and at the end. A killed
    /// process loses no row in any case; a power cut loses those that were not synced. Default: 1024 rows, one second.
    pub fn sync_every(mut self, rows: usize, interval: Duration) -> Self {
        self.sync = SyncPolicy { rows, interval };
        self
    }

    /// Is called at the start, then at most every [`progress_interval`](Self::progress_interval), and at the end; on
    /// the thread that runs.
    pub fn on_progress(mut self, callback: impl FnMut(&Progress) + 'a) -> Self {
        self.on_progress = Box::new(callback);
        self
    }

    /// The least time between two calls of [`on_progress`](Self::on_progress). Default: half a second.
    pub fn progress_interval(mut self, interval: Duration) -> Self {
        self.progress_interval = interval;
        self
    }

    /// Lets others stop the run. Rows that are not done are left for a run that resumes; with [`Contract::OpenAi`] each
    /// has an error row with the code `batch_cancelled` until then.
    pub fn cancellation(mut self, token: CancellationToken) -> Self {
        self.cancellation = token;
        self
    }

    /// Lets others end the run once the rows in flight have ended: no other row is begun. What is left is left as by a
    /// [`cancellation`](Self::cancellation), which ends those rows too.
    pub fn drain(mut self, token: CancellationToken) -> Self {
        self.drain = token;
        self
    }

    /// What `created` in the answers is read from; for tests that compare bytes. Default: the system's clock.
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + 'a) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Runs until every row is done or the run is cancelled. Blocks this thread. When it returns, with or without an
    /// error, what was written is on the disk.
    ///
    /// # Errors
    /// [`RunError`] if the run cannot start or has to stop. If the engine fails at twice as many rows in a row as may
    /// be in flight, or at every row there was, the run stops, so that a dead engine does not use up a long file.
    ///
    /// # Panics
    /// If it is called inside a future that `futures::executor` runs on this thread.
    pub fn run(self) -> Result<BatchReport, RunError> {
        let input = self.input.as_deref().ok_or(RunError::MissingPath { option: "input" })?;
        let output = self.output.as_deref().ok_or(RunError::MissingPath { option: "output" })?;
        let files = Files::resolve(input, output, self.errors.as_deref(), self.contract.shape())?;
        let input = Input::open(&files.input)?;
        let _locks = files.lock()?;
        if !self.resume {
            files.check_new()?;
        }
        let mut parser = LineParser::new(self.engine.spec(), self.max_line_bytes, self.contract);
        let Some(mut index) = input.index(&mut parser, &self.cancellation)? else {
            let counts = Counts::default();
            return Ok(BatchReport::new(RunStatus::Cancelled, &counts, 0, Duration::ZERO, files));
        };
        self.run_rows(&input, &mut index, parser, files)
    }

    fn run_rows(
        self,
        input: &Input,
        index: &mut Index,
        parser: LineParser<'_>,
        files: Files,
    ) -> Result<BatchReport, RunError> {
        let Recovered { done, kept, kept_errors, moved } = recover(&files, index, self.contract.shape())?;
        let counts = Counts { total: index.total, skipped: kept, skipped_failed: kept_errors, ..Counts::default() };
        let journal = Journal::open(&files, self.sync, self.contract.shape())?;
        let plan = index.take_plan(self.plan, &done);
        let rows = Rows::new(input, parser, index, (plan, done))?;
        let settings = Settings {
            engine: self.engine,
            window: self.window,
            priority: self.priority,
            cancellation: self.cancellation,
            drain: self.drain,
            deadline: Deadline::start(self.deadline),
            contract: self.contract,
            clock: self.clock,
            reporter: Reporter::new(self.on_progress, self.progress_interval),
        };
        let mut run = Run::new(settings, rows, journal, counts);
        let status = block_on(run.drive())?;
        let (counts, elapsed) = run.totals();
        Ok(BatchReport::new(status, &counts, moved, elapsed, files))
    }
}

impl fmt::Debug for BatchRunner<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BatchRunner")
            .field("input", &self.input)
            .field("output", &self.output)
            .field("errors", &self.errors)
            .field("contract", &self.contract)
            .field("resume", &self.resume)
            .field("window", &self.window)
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}
