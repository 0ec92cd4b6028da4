//! What went wrong with a job, and who must act?

use thiserror::Error;

/// What a request about jobs can end with.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JobError {
    /// There is nothing of that name, or it is somebody else's.
    #[error("no {what} has the id {id:?}")]
    NotFound {
        /// `file`, `batch`, …
        what: &'static str,
        /// The id that was asked for.
        id: String,
    },
    /// A parameter is missing or wrong.
    #[error("{param}: {message}")]
    InvalidParameter {
        /// Its name.
        param: &'static str,
        /// What is wrong, and what is right.
        message: String,
    },
    /// What was asked is not possible for a batch of this status.
    #[error("batch {id} is {status} and cannot be {wanted}")]
    InvalidStatus {
        /// The batch.
        id: String,
        /// Its status.
        status: &'static str,
        /// What was wanted: `cancelled`, …
        wanted: &'static str,
    },
    /// A file is the input of a batch that has not ended.
    #[error("file {id} is the input of batch {batch_id}, which has not ended")]
    FileInUse {
        /// The file.
        id: String,
        /// The batch.
        batch_id: String,
    },
    /// The queue holds as much as it may.
    #[error("the queue is full: {what} would be {value}, and the limit is {limit}")]
    QueueFull {
        /// What there are too many of: `batches`, `batches of this owner`.
        what: &'static str,
        /// How many there would be.
        value: u64,
        /// How many there may be.
        limit: u64,
    },
    /// A file is longer than it may be.
    #[error("the file has more than {limit} bytes")]
    FileTooLarge {
        /// The limit.
        limit: u64,
    },
    /// The engine of a worker fails at whatever it is given.
    #[error("the engine of worker {worker} failed at {failures} chunks in a row: {message}")]
    EngineFailed {
        /// The worker.
        worker: String,
        /// How many chunks.
        failures: usize,
        /// What happened at the last one.
        message: String,
    },
    /// The database cannot be reached, or refuses.
    #[error("database: {message}")]
    Store {
        /// What it said.
        message: String,
        /// Whether the same request may work later.
        is_transient: bool,
    },
    /// A file cannot be read or written.
    #[error("{action} {path}: {message}")]
    Files {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: String,
        /// What the system said.
        message: String,
    },
}

impl JobError {
    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::InvalidParameter { .. } => "invalid_parameter",
            Self::InvalidStatus { .. } => "invalid_status",
            Self::FileInUse { .. } => "file_in_use",
            Self::QueueFull { .. } => "queue_full",
            Self::FileTooLarge { .. } => "file_too_large",
            Self::EngineFailed { .. } => "engine_failed",
            Self::Store { .. } => "store_unavailable",
            Self::Files { .. } => "file_store_unavailable",
        }
    }
}
