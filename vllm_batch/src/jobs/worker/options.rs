//! How large are chunks, and how long is waited for what?

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Tells the time that answers say they were made at.
pub type RowClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// How a [`Worker`](super::Worker) works.
#[derive(Clone)]
#[non_exhaustive]
pub struct WorkerOptions {
    /// Its name: no other worker of the store that runs at the same time may have it.
    pub name: String,
    /// Where the journals of chunks are. With a folder that several machines share, each goes on where another one stopped; else a
    /// chunk whose worker died is run again from its beginning if another machine takes it.
    pub work_folder: PathBuf,
    /// The most requests of a chunk, for files that this worker validates; 0 counts as 1. Default: 2,000.
    ///
    /// Chunks are what workers share, so a batch keeps as many of them busy as it has chunks. Requests that begin alike run together
    /// within a chunk only: a worker that is on its own may well take chunks of the largest file that is allowed. A chunk that is
    /// computed again on another machine is what that may cost.
    pub chunk_size: usize,
    /// The most tasks at a time; 0 counts as 1. Default: 4.
    ///
    /// All of them share the engine. With several, the long rows of one chunk do not leave it idle, and small batches fill it
    /// together.
    pub max_tasks: usize,
    /// For how long a task is taken; it is free again if no heartbeat comes in this time. Whole seconds, at least 1. Default: 60 s.
    pub lease_time: Duration,
    /// The time between two heartbeats: a small part of `lease_time`. Default: 10 s.
    pub heartbeat_interval: Duration,
    /// The time after which an idle worker asks for tasks again. Default: 1 s.
    pub poll_interval: Duration,
    /// How often a task may fail before its batch does; 0 counts as 1. Default: 3.
    pub max_failures: i64,
    /// The pause before a task that failed is tried again; it doubles each time, up to 64 times this. Default: 5 s.
    pub retry_after: Duration,
    /// How often a chunk may be begun without that a row is done before its batch fails: its worker dies of it. Default: 5.
    pub max_idle_starts: u64,
    /// How many different chunks in a row the engine may fail at before it is taken for dead; 0 counts as 1. Default: 3.
    pub max_engine_failures: usize,
    /// How long rows in flight may take to end when the worker is told to stop. Default: 30 s.
    pub drain_time: Duration,
    /// How long rows in flight may take to end when their batch is cancelled or expires. Default: 10 minutes, as with `OpenAI`.
    pub cancel_time: Duration,
    /// The time between two rounds of deleting what is old. Default: 1 minute.
    pub maintenance_interval: Duration,
    /// Tells the time that answers say they were made at; for tests that compare bytes. Default: the system's clock.
    pub row_clock: RowClock,
}

impl WorkerOptions {
    /// Options with defaults for all else. The folder is created if it is not there.
    pub fn new(name: impl Into<String>, work_folder: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            work_folder: work_folder.into(),
            chunk_size: 2000,
            max_tasks: 4,
            lease_time: Duration::from_mins(1),
            heartbeat_interval: Duration::from_secs(10),
            poll_interval: Duration::from_secs(1),
            max_failures: 3,
            retry_after: Duration::from_secs(5),
            max_idle_starts: 5,
            max_engine_failures: 3,
            drain_time: Duration::from_secs(30),
            cancel_time: Duration::from_mins(10),
            maintenance_interval: Duration::from_mins(1),
            row_clock: Arc::new(SystemTime::now),
        }
    }

    /// For how long tasks are taken, in the store's unit.
    pub(super) fn lease_seconds(&self) -> i64 {
        self.lease_time.as_secs().max(1) as i64
    }

    /// The pause after so many failures, in the store's unit.
    pub(super) fn pause_after(&self, failures: i64) -> i64 {
        let doublings = failures.saturating_sub(1).clamp(0, 6);
        (self.retry_after.as_secs() as i64) << doublings
    }
}

impl fmt::Debug for WorkerOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WorkerOptions")
            .field("name", &self.name)
            .field("work_folder", &self.work_folder)
            .field("chunk_size", &self.chunk_size)
            .field("max_tasks", &self.max_tasks)
            .field("lease_time", &self.lease_time)
            .field("max_failures", &self.max_failures)
            .finish_non_exhaustive()
    }
}
