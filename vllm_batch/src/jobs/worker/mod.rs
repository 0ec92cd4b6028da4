//! Who does the work, and how does it survive that a worker dies?
//!
//! A [`Worker`] takes tasks from the store: it validates files and cuts them into chunks ([`validate`]), runs chunks through its
//! engine ([`run`]), and puts the rows of all chunks together ([`finalize`]). While it does so it sends heartbeats ([`heart`]).
//!
//! # Invariants
//! * Each try to run a chunk has a folder of its own, with the runner's journal. The next try on this machine, or on another one
//!   that shares the folder, begins with what is there ([`folder`]): a row that was answered is not asked for again.
//! * Rows of a chunk are sent to the file store once, when the chunk is done, to a place of this try alone. They count when the store
//!   of jobs takes the place down, which it does for the holder of the lease only.
//! * A worker that could not renew a lease in time takes no task before it knows whose that one is: else it would take its own
//!   task away from itself, and do it twice.
//! * Rows of a chunk are in the order of its requests, and chunks in theirs: the result is the same, however many workers there were.

mod care;
mod finalize;
mod folder;
mod heart;
mod options;
mod rates;
mod run;
mod task;
mod validate;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::Instrument as _;

use self::care::Caretaker;
use self::heart::{Heart, HeldUntil};
pub use self::options::{RowClock, WorkerOptions};
use self::rates::Rates;
use super::{JobError, JobService, Lease, TaskId, WorkerInfo};
use crate::batch::CancellationToken;
use crate::engine::BatchEngine;

/// Does the tasks of batches, several at a time, through one engine. Clones are the same worker.
///
/// Several workers may serve one store, in this process or in others, on this machine or on others. They share the work chunk by
/// chunk. See [`WorkerOptions`] for what sizes and times mean.
#[derive(Clone)]
pub struct Worker {
    inner: Arc<Inner>,
}

struct Inner {
    service: JobService,
    engine: Arc<dyn BatchEngine>,
    options: WorkerOptions,
    rates: Rates,
    started_at: i64,
}

impl Worker {
    /// A worker that does nothing yet.
    pub fn new(service: JobService, engine: Arc<dyn BatchEngine>, options: WorkerOptions) -> Self {
        let started_at = service.now();
        Self { inner: Arc::new(Inner { service, engine, options, rates: Rates::default(), started_at }) }
    }

    /// Works until `shutdown` is cancelled. Then rows in flight have [`drain_time`](WorkerOptions::drain_time) to end, chunks that are
    /// not done are given back, and the next worker goes on with them.
    ///
    /// It needs a runtime of tokio, with time. Engines run on its blocking threads. If the future is dropped instead, its tasks are
    /// taken over when their leases are over.
    ///
    /// # Errors
    /// [`JobError::EngineFailed`] if the engine failed at several chunks in a row: it is taken for dead. [`JobError::Store`] if the
    /// database refuses for good; while it only does not answer, the worker waits for it.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), JobError> {
        self.work(&shutdown, false).await
    }

    /// Works until there is nothing that could be done now.
    ///
    /// # Errors
    /// As [`run`](Self::run), and [`JobError::Store`] also if the database does not answer.
    pub async fn run_until_idle(&self) -> Result<(), JobError> {
        self.work(&CancellationToken::new(), true).await
    }

    async fn work(&self, shutdown: &CancellationToken, until_idle: bool) -> Result<(), JobError> {
        let caretaker = Caretaker::start(self);
        let (tasks, stop) = (JoinSet::new(), CancellationToken::new());
        let mut shift = Shift { worker: self, tasks, held: Vec::new(), stop, engine_failures: BTreeSet::new() };
        let result = shift.work(shutdown, until_idle).await;
        drop(caretaker);
        if let Err(error) = self.service().store().forget_worker(&self.options().name).await {
            tracing::warn!(%error, "a worker that ends is not forgotten");
        }
        result
    }

    fn service(&self) -> &JobService {
        &self.inner.service
    }

    fn options(&self) -> &WorkerOptions {
        &self.inner.options
    }

    fn engine(&self) -> &Arc<dyn BatchEngine> {
        &self.inner.engine
    }

    fn rates(&self) -> &Rates {
        &self.inner.rates
    }

    /// What the worker says of itself.
    fn info(&self) -> WorkerInfo {
        let rates = self.rates().now();
        WorkerInfo {
            name: self.options().name.clone(),
            models: self.engine().spec().served_model_names.clone(),
            started_at: self.inner.started_at,
            last_seen: self.service().now(),
            tokens_per_second: rates.tokens_per_second,
            rows_per_second: rates.rows_per_second,
        }
    }

    async fn lease(&self, now: i64) -> Result<Option<Lease>, JobError> {
        self.service().store().lease(&self.info(), now, self.options().lease_seconds()).await
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Worker").field("options", self.options()).finish_non_exhaustive()
    }
}

/// A worker at work.
struct Shift<'a> {
    worker: &'a Worker,
    tasks: JoinSet<task::End>,
    /// Their leases.
    held: Vec<HeldUntil>,
    /// No task begins any more, and those that were begun come to an end.
    stop: CancellationToken,
    /// Chunks at which the engine failed since it did one.
    engine_failures: BTreeSet<TaskId>,
}

impl Shift<'_> {
    async fn work(&mut self, shutdown: &CancellationToken, until_idle: bool) -> Result<(), JobError> {
        let mut result = Ok(());
        loop {
            if shutdown.is_cancelled() {
                self.stop.cancel();
            }
            if let Err(error) = self.take_tasks().await {
                if until_idle || !matches!(error, JobError::Store { is_transient: true, .. }) {
                    self.stop.cancel();
                    result = Err(error);
                } else {
                    tracing::warn!(%error, "no task can be taken now");
                }
            }
            if self.tasks.is_empty() && (until_idle || self.stop.is_cancelled()) {
                return result;
            }
            if let Some(error) = self.wait(shutdown).await {
                self.stop.cancel();
                result = Err(error);
            }
        }
    }

    /// Takes as many tasks as may be done at a time.
    async fn take_tasks(&mut self) -> Result<(), JobError> {
        while !self.stop.is_cancelled() && self.tasks.len() < self.worker.options().max_tasks.max(1) {
            // The store compares leases with this time, too.
            let now = self.worker.service().now();
            if !self.holds_its_tasks(now) {
                break;
            }
            let Some(lease) = self.worker.lease(now).await? else { break };
            let (worker, stop) = (self.worker.clone(), self.stop.clone());
            let heart = Heart::start(&worker, &lease);
            self.held.push(heart.held_until());
            let span = tracing::info_span!(
                "task",
                batch = lease.batch.id,
                task = lease.task.id.0,
                attempt = lease.task.attempt
            );
            self.tasks.spawn(async move { worker.do_task(lease, heart, &stop).await }.instrument(span));
        }
        Ok(())
    }

    /// Whether no lease of the tasks under way is over: the next heartbeats say what became of one that is.
    fn holds_its_tasks(&mut self, now: i64) -> bool {
        self.held.retain(|held| held.is_good(now).is_some());
        self.held.iter().all(|held| held.is_good(now) != Some(false))
    }

    /// Waits until there is something to see to.
    async fn wait(&mut self, shutdown: &CancellationToken) -> Option<JobError> {
        let is_stopping = self.stop.is_cancelled();
        tokio::select! {
            Some(ended) = self.tasks.join_next() => match ended {
                Ok(end) => self.note(end),
                Err(error) => {
                    // Its lease will be over, and another try is made.
                    tracing::error!(%error, "a task panicked");
                    None
                }
            },
            () = shutdown.cancelled(), if !is_stopping => None,
            () = self.worker.service().news(), if !is_stopping => None,
            () = tokio::time::sleep(self.worker.options().poll_interval), if !is_stopping => None,
        }
    }

    /// Tells an engine that had a bad moment from one that is dead.
    fn note(&mut self, end: task::End) -> Option<JobError> {
        match end {
            task::End::EngineFailed(task, message) => {
                self.engine_failures.insert(task);
                let (worker, failures) = (self.worker.options().name.clone(), self.engine_failures.len());
                let is_dead = failures >= self.worker.options().max_engine_failures.max(1);
                is_dead.then_some(JobError::EngineFailed { worker, failures, message })
            }
            task::End::Ran => {
                self.engine_failures.clear();
                None
            }
            task::End::Other => None,
        }
    }
}

/// How many lines end in these bytes.
// The disk and the store are slower than this, whichever way it is written.
#[allow(clippy::naive_bytecount)]
fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}
