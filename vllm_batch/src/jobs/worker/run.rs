//! How is a chunk run?

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Worker;
use super::folder::ChunkFolder;
use super::heart::{Heart, lock};
use super::task::{Ended, Failure, Held};
use crate::batch::{
    BatchReport, BatchRunner, CancellationToken, Contract, OrderedRows, Progress, RowOrder, RunError, RunStatus,
    Unfinished,
};
use crate::jobs::files::{ChunkRows, FileKey};
use crate::jobs::{
    Batch, BatchStatus, BatchUsage, ChunkProgress, JobError, LeaseState, NewChunk, RequestCounts, TaskOutcome, metrics,
};

/// What is added to the priority of rows: whatever they ask for, live requests of the same engine are served before them.
const PRIORITY: i32 = 2_000_000;

impl Worker {
    /// Runs what is left of a chunk, and sends its rows to the file store.
    pub(super) async fn run_chunk(
        &self,
        held: &mut Held,
        chunk: NewChunk,
        stop: &CancellationToken,
    ) -> Result<Ended, JobError> {
        let attempt = held.lease.task.attempt;
        let path = self.chunk_folder(&held.lease.batch.id, chunk.index);
        let folder = super::task::blocking(path, move |path| ChunkFolder::open(path, attempt)).await?;
        let starts = held.history.begin(folder.rows());
        self.note_history(held).await;
        if held.heart.state() == LeaseState::Held && starts > self.options().max_idle_starts {
            let message = format!("{} workers died in a row without that a row was done", starts - 1);
            return Ok(Ended::Failed(Failure { message, is_of_engine: false, is_final: true }));
        }
        let input = FileKey::of_file(&held.lease.batch.input_file_id)?;
        let range = chunk.start_byte..chunk.end_byte;
        self.service().files_store().download(&input, Some(range), &folder.input()).await?;
        let ran = self.run_rows(&folder, &held.heart, stop).await;
        match (ran, held.heart.state()) {
            (_, LeaseState::Lost) => Ok(Ended::Lost),
            // It may be that a few rows are at fault, and not the engine.
            (Err(failure), _) if failure.is_of_engine => self.keep_rows(held, chunk, (&folder, Some(failure))).await,
            (Err(failure), _) => Ok(Ended::Failed(failure)),
            (Ok(RunStatus::Completed), _) | (Ok(_), LeaseState::Cancelling | LeaseState::Expired) => {
                self.keep_rows(held, chunk, (&folder, None)).await
            }
            (Ok(_), LeaseState::Held) => Ok(Ended::Released),
        }
    }

    /// Runs the rows that have no row in the journal, until they are done, or as far as it goes.
    async fn run_rows(
        &self,
        folder: &ChunkFolder,
        heart: &Heart,
        stop: &CancellationToken,
    ) -> Result<RunStatus, Failure> {
        self.rates().begin(Instant::now());
        let started = Instant::now();
        let (worker, folder) = (self.clone(), folder.clone());
        let (progress, drain, end) = (heart.progress.clone(), heart.drain.clone(), heart.stop.clone());
        let mut run = tokio::task::spawn_blocking(move || {
            let mut seen = (0, 0);
            let note = |now: &Progress| {
                worker.note_progress(now, &mut seen);
                let speed = worker.rates().now().tokens_per_second;
                *lock(&progress) = ChunkProgress { tokens_per_second: speed, ..progress_of(now) };
            };
            let [output, errors] = folder.journal();
            let clock = worker.options().row_clock.clone();
            BatchRunner::new(&**worker.engine())
                .input(folder.input())
                .output(output)
                .errors(errors)
                .contract(Contract::Lenient)
                .priority(PRIORITY)
                .resume(true)
                .drain(drain)
                .cancellation(end)
                .clock(move || clock())
                .on_progress(note)
                // With each row: after the last one for a while, nothing else would tell of it.
                .progress_interval(Duration::ZERO)
                .run()
        });
        let ended = tokio::select! {
            ended = &mut run => ended,
            () = stop.cancelled() => {
                heart.drain.cancel();
                if let Ok(ended) = tokio::time::timeout(self.options().drain_time, &mut run).await {
                    ended
                } else {
                    heart.stop.cancel();
                    run.await
                }
            }
        };
        self.rates().end(Instant::now());
        metrics::note_chunk(started.elapsed());
        status_of(ended.map_err(|error| error.to_string()))
    }

    fn note_progress(&self, now: &Progress, seen: &mut (u64, u64)) {
        let (rows, tokens) = ((now.completed + now.failed) as u64, now.generated_tokens as u64);
        self.rates().add(rows.saturating_sub(seen.0), tokens.saturating_sub(seen.1));
        *seen = (rows, tokens);
    }

    /// Sends the rows of a chunk to the file store, in the order of its requests, with one for each request that was not begun;
    /// unless the engine failed, and there may be another try, or too little was done.
    async fn keep_rows(
        &self,
        held: &Held,
        chunk: NewChunk,
        (folder, failure): (&ChunkFolder, Option<Failure>),
    ) -> Result<Ended, JobError> {
        let is_last_try =
            held.history.failures + 1 >= self.options().max_failures || held.heart.state() != LeaseState::Held;
        if let Some(failure) = failure.as_ref().filter(|_| !is_last_try) {
            return Ok(Ended::Failed(failure.clone()));
        }
        let batch = &held.lease.batch;
        let unfinished = self.why_unfinished(&batch.id).await?;
        let work = Order {
            input: folder.input(),
            rows: folder.journal().to_vec(),
            first_line: chunk.first_line,
            unfinished,
            targets: folder.ordered(),
        };
        let targets = folder.ordered();
        let ordered = match work.write().await? {
            Ok(ordered) => ordered,
            Err(message) => return Ok(Ended::Failed(message.into())),
        };
        if let Some(failure) = failure.filter(|_| ordered.missing > 0 || ordered.completed == 0) {
            return Ok(Ended::Failed(failure));
        }
        if ordered.retryable > 0 && !is_last_try {
            let message = format!("the engine failed at {} rows", ordered.retryable);
            return Ok(Ended::Failed(message.into()));
        }
        let rows = ChunkRows::new(&batch.id, chunk.index, held.lease.task.attempt);
        let contents = [(rows.answers(), ordered.completed), (rows.errors(), ordered.failed)];
        let mut written = Vec::new();
        for ((key, count), path) in contents.into_iter().zip(targets) {
            if count > 0 {
                self.service().files_store().upload(&path, &key).await?;
                written.push(key);
            }
        }
        let location = rows.location().to_owned();
        Ok(Ended::Done(TaskOutcome::Ran { progress: ordered.progress(), location }, written))
    }

    /// What is to be said of requests without a row: why the batch ends early.
    pub(super) async fn why_unfinished(&self, batch_id: &str) -> Result<Unfinished, JobError> {
        let batch = self.service().store().batch(batch_id).await?;
        Ok(match batch.as_ref().and_then(Batch::ends_early_as) {
            Some(BatchStatus::Cancelled) => Unfinished::Cancelled,
            Some(BatchStatus::Expired) => Unfinished::Expired,
            _ => Unfinished::Failed,
        })
    }
}

/// Rows that are to be put in order, on a thread that may wait.
pub(super) struct Order {
    pub(super) input: PathBuf,
    pub(super) rows: Vec<PathBuf>,
    pub(super) first_line: u64,
    pub(super) unfinished: Unfinished,
    pub(super) targets: [PathBuf; 2],
}

impl Order {
    /// What was written, or why that was not possible.
    pub(super) async fn write(self) -> Result<Result<OrderedRows, String>, JobError> {
        let [answers, errors] = self.targets;
        let name = self.input.display().to_string();
        let write = move || {
            let order = RowOrder {
                input: &self.input,
                first_line: self.first_line,
                rows: &self.rows,
                unfinished: self.unfinished,
            };
            order.write(&answers, &errors).map_err(|error| error.to_string())
        };
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(|error| JobError::Files { action: "order rows of", path: name, message: error.to_string() })
    }
}

impl OrderedRows {
    /// All of a chunk.
    fn progress(&self) -> ChunkProgress {
        let (completed, failed) = (self.completed, self.failed);
        let usage = BatchUsage {
            input_tokens: self.usage.prompt_tokens as u64,
            cached_tokens: self.usage.cached_tokens as u64,
            output_tokens: self.usage.completion_tokens as u64,
        };
        ChunkProgress {
            counts: RequestCounts { total: completed + failed, completed, failed },
            usage,
            tokens_per_second: 0.0,
        }
    }
}

/// As heartbeats say it. Tokens are those of this try until the chunk is done. How fast it is depends on what else the worker does.
fn progress_of(now: &Progress) -> ChunkProgress {
    ChunkProgress {
        counts: RequestCounts {
            total: now.total as u64,
            completed: (now.completed + now.skipped - now.skipped_failed) as u64,
            failed: (now.failed + now.skipped_failed) as u64,
        },
        usage: BatchUsage {
            input_tokens: now.prompt_tokens as u64,
            cached_tokens: now.cached_tokens as u64,
            output_tokens: now.generated_tokens as u64,
        },
        tokens_per_second: 0.0,
    }
}

fn status_of(ended: Result<Result<BatchReport, RunError>, String>) -> Result<RunStatus, Failure> {
    match ended {
        Ok(Ok(report)) => Ok(report.status),
        Ok(Err(error)) => {
            let is_of_engine = matches!(error, RunError::EngineFailed { .. });
            Err(Failure { message: error.to_string(), is_of_engine, is_final: false })
        }
        Err(message) => Err(Failure { message, is_of_engine: true, is_final: false }),
    }
}
