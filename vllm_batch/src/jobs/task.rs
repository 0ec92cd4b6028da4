//! What does a worker do next, and is it still its own?

use serde::{Deserialize, Serialize};

use super::batch::{Batch, BatchStatus, BatchUsage, RequestCounts};

/// Names a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId(pub i64);

/// What is to be done for a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskKind {
    /// Read the whole input, and cut it into chunks.
    Validate,
    /// Answer some of its rows.
    Run(NewChunk),
    /// Put the rows of all chunks into the result files, and end the batch.
    Finalize,
}

/// Rows that follow each other in the input file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewChunk {
    /// Its place among the chunks of the batch, from 0.
    pub index: u64,
    /// Where its first line begins in the file.
    pub start_byte: u64,
    /// Where its last line ends.
    pub end_byte: u64,
    /// The number of its first line, from 1.
    pub first_line: u64,
    /// How many requests it has.
    pub num_requests: u64,
}

/// A task that a worker holds until `expires_at`, unless it is renewed.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// The task.
    pub task: Task,
    /// The batch, as it was when the task was taken.
    pub batch: Batch,
    /// Who holds it.
    pub worker: String,
    /// When it is lost without a heartbeat.
    pub expires_at: i64,
}

impl Lease {
    /// What a heartbeat would have said when the task was taken. A part of a batch that ends early is given out when its last
    /// holder fell silent or let it go: what that one kept is all there is to say of it.
    pub fn state(&self) -> LeaseState {
        LeaseState::of(&self.task.kind, &self.batch)
    }
}

/// A task of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// What is to be done.
    pub kind: TaskKind,
    /// How often it was taken, this time included. Each time is another holder: what an earlier one sends is refused. A worker
    /// that dies says nothing, so this also tells of a task that kills its holders.
    pub attempt: i64,
}

/// Whether a worker may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseState {
    /// Go on.
    Held,
    /// End rows in flight, keep what is done, and finish the task: the batch is being cancelled, or another part of it failed
    /// for good. To validate, go on: the rows must be known so that each can be accounted for.
    Cancelling,
    /// As [`Cancelling`](Self::Cancelling), because the completion window is over.
    Expired,
    /// Stop: the task has another holder, or is gone. Nothing of it may be written any more.
    Lost,
}

impl LeaseState {
    /// Of whoever holds a task of this kind. To finalize is the same in every case.
    pub(super) fn of(kind: &TaskKind, batch: &Batch) -> Self {
        match batch.ends_early_as() {
            _ if *kind == TaskKind::Finalize => Self::Held,
            None => Self::Held,
            Some(BatchStatus::Expired) => Self::Expired,
            Some(_) => Self::Cancelling,
        }
    }
}

/// How far a chunk is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ChunkProgress {
    /// Rows that are done; `total` is that of the chunk.
    pub counts: RequestCounts,
    /// Their tokens.
    pub usage: BatchUsage,
    /// Generated tokens a second, now.
    pub tokens_per_second: f64,
}

/// What came of a task.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
// One is made for each task, and not kept.
#[allow(clippy::large_enum_variant)]
pub enum TaskOutcome {
    /// Of [`TaskKind::Validate`]: the batch goes on with these chunks, unless it ends early: then none of them begins.
    Validated {
        /// The model that the rows name.
        model: String,
        /// The chunks, in order; together they hold all rows.
        chunks: Vec<NewChunk>,
    },
    /// Of [`TaskKind::Validate`]: the file was refused, for these reasons.
    Refused {
        /// Objects with `code`, `message`, `param` and `line`.
        errors: Vec<serde_json::Value>,
    },
    /// Of [`TaskKind::Run`]: all its rows are done, or kept and the rest dropped if the batch is being cancelled.
    Ran {
        /// How far it came.
        progress: ChunkProgress,
        /// The key of its rows in the file store.
        location: String,
    },
    /// Of [`TaskKind::Finalize`]: the result files, which the same change makes known.
    Finalized {
        /// The answers, if there is one.
        output: Option<super::FileObject>,
        /// The errors, if there is one.
        errors: Option<super::FileObject>,
        /// What the files hold in all.
        counts: RequestCounts,
        /// Tokens in all.
        usage: BatchUsage,
    },
    /// The worker could not do it; another try is made at `retry_at`. After `max_attempts`, those that were released not counted,
    /// the batch fails with `message`: of [`TaskKind::Run`] other parts end as if it was cancelled and what is done is kept in result
    /// files; of the others at once, without any. A chunk of a batch that ends early is not tried again.
    Failed {
        /// Why.
        message: String,
        /// When it may be taken again.
        retry_at: i64,
        /// How often it may be taken in all.
        max_attempts: i64,
    },
    /// The worker stops before it is done: the next one goes on at once, and this try does not count.
    Released,
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its name: unique among those that run.
    pub name: String,
    /// The models that it serves.
    pub models: Vec<String>,
    /// When it began.
    pub started_at: i64,
    /// When it was heard of last.
    pub last_seen: i64,
    /// Rows a second: those of now, or of the last time that it had some; `None` before its first.
    pub rows_per_second: Option<f64>,
    /// Generated tokens a second, now.
    pub tokens_per_second: f64,
}
