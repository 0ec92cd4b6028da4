//! Where is it all kept?

use std::fmt::Debug;

use futures::future::BoxFuture;

use super::{
    Batch, BatchStatus, ChunkProgress, Delivery, FileObject, FilePurpose, JobError, Lease, LeaseState, TaskId,
    TaskOutcome, WorkerInfo,
};

/// What a store answers.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, JobError>>;

/// In which order a list is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    #[default]
    Descending,
    /// Oldest first.
    Ascending,
}

/// Which files are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileQuery {
    /// Only those of this owner; `None` for all.
    pub owner: Option<String>,
    /// Only those for this.
    pub purpose: Option<FilePurpose>,
    /// Those that come after the one of this id.
    pub after: Option<String>,
    /// The most.
    pub limit: usize,
    /// In which order.
    pub order: Order,
}

/// Which batches are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchQuery {
    /// Only those of this owner; `None` for all.
    pub owner: Option<String>,
    /// Only those of one of these; empty for all.
    pub status: Vec<BatchStatus>,
    /// Those that come after the one of this id.
    pub after: Option<String>,
    /// The most.
    pub limit: usize,
    /// In which order.
    pub order: Order,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub data: Vec<T>,
    /// Whether there are more after these.
    pub has_more: bool,
}

/// How much may wait. `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueLimits {
    /// Batches that have not ended.
    pub max_batches: Option<u64>,
    /// Those of one owner.
    pub max_batches_per_owner: Option<u64>,
}

impl QueueLimits {
    /// Those that keep both these and others.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let least = |one: Option<u64>, two: Option<u64>| one.into_iter().chain(two).min();
        Self {
            max_batches: least(self.max_batches, other.max_batches),
            max_batches_per_owner: least(self.max_batches_per_owner, other.max_batches_per_owner),
        }
    }
}

/// Files, batches, tasks and messages to receivers, in a database that several processes may share.
///
/// # Contract
/// * Each call is one transaction: it happens as a whole or not at all, and survives a crash once it has answered. An error says
///   that it did not happen, or, if [`is_transient`](JobError::Store), that this is not known.
/// * Times are Unix seconds of the caller. A store compares them with those it was given before, and has no clock.
/// * Every change that a worker makes names its [`Lease`]; after the lease was lost to another holder it changes nothing. A lease
///   whose time is over is not lost before another worker takes the task.
/// * A batch ends early if it is cancelled, if its completion window is over, or if a part of it fails for good; the first of these
///   that happens counts. Chunks that nobody has begun are dropped at once. Of those that were begun, the holder, or the next one
///   where it fell silent, says what is done. Then there is the task to finalize.
/// * A batch whose rows are all done is [`Finalizing`](BatchStatus::Finalizing), and its completion window counts no more.
/// * A terminal status is set exactly once; the same transaction enqueues the message that tells of it, if the batch has a
///   webhook that wants it.
///
/// # Errors
/// [`JobError::Store`] from every call; others are said where they occur.
///
/// `testing::check_job_store` holds a store to it.
pub trait JobStore: Send + Sync + Debug {
    /// Makes a file known. Its content is there already.
    ///
    /// # Errors
    /// [`JobError::InvalidParameter`] if there is a file of this id.
    fn insert_file<'a>(&'a self, file: &'a FileObject) -> StoreFuture<'a, ()>;
    /// The file of this id.
    fn file<'a>(&'a self, id: &'a str) -> StoreFuture<'a, Option<FileObject>>;
    /// A part of the list of files, in the order in which they were made known.
    ///
    /// # Errors
    /// [`JobError::NotFound`] if `after` is unknown, or another owner's.
    fn files<'a>(&'a self, query: &'a FileQuery) -> StoreFuture<'a, Page<FileObject>>;
    /// Forgets a file, and says whether it was known. The caller deletes its content.
    ///
    /// # Errors
    /// [`JobError::FileInUse`] if it is the input of a batch that has not ended.
    fn delete_file<'a>(&'a self, id: &'a str) -> StoreFuture<'a, bool>;
    /// Files whose `expires_at` has come, and which no batch that has not ended needs; those of the earliest first.
    fn expired_files(&self, now: i64, limit: usize) -> StoreFuture<'_, Vec<FileObject>>;

    /// Adds a batch that is [`Validating`](BatchStatus::Validating), and the task to validate it.
    ///
    /// # Errors
    /// [`JobError::QueueFull`]; [`JobError::NotFound`] if there is no file of `input_file_id`; [`JobError::InvalidParameter`] if
    /// there is a batch of this id, or it is of another status.
    fn insert_batch<'a>(&'a self, batch: &'a Batch, limits: QueueLimits) -> StoreFuture<'a, ()>;
    /// The batch of this id, its counts and usage those of its chunks until it has ended.
    fn batch<'a>(&'a self, id: &'a str) -> StoreFuture<'a, Option<Batch>>;
    /// A part of the list of batches, in the order in which they were added, with counts as [`batch`](Self::batch) has them.
    ///
    /// # Errors
    /// [`JobError::NotFound`] if `after` is unknown, or another owner's.
    fn batches<'a>(&'a self, query: &'a BatchQuery) -> StoreFuture<'a, Page<Batch>>;
    /// Batches that have not ended, in the order in which workers take them: priority, then age.
    fn queue(&self, limit: usize) -> StoreFuture<'_, Vec<Batch>>;
    /// How many batches there are of each status, in the order of the statuses; those of which there are none are left out.
    fn count_batches<'a>(&'a self, owner: Option<&'a str>) -> StoreFuture<'a, Vec<(BatchStatus, u64)>>;
    /// Makes a batch [end early](Self#contract) as [`Cancelled`](BatchStatus::Cancelled); holders hear of it at their next
    /// heartbeat. A batch that ends early already stays as it is.
    ///
    /// # Errors
    /// [`JobError::NotFound`]; [`JobError::InvalidStatus`] if it has ended.
    fn cancel_batch<'a>(&'a self, id: &'a str, now: i64) -> StoreFuture<'a, Batch>;
    /// Takes metadata and priority from `batch`, and nothing else, if the stored one still is of `batch.version`; says whether it was.
    /// Tasks that wait take the new priority.
    fn update_batch<'a>(&'a self, batch: &'a Batch) -> StoreFuture<'a, bool>;
    /// Batches that ended before `ended_before`, oldest first: to be forgotten.
    fn ended_batches(&self, ended_before: i64, limit: usize) -> StoreFuture<'_, Vec<Batch>>;
    /// Forgets a batch that has ended, its tasks and its messages; says whether it did.
    fn delete_batch<'a>(&'a self, id: &'a str) -> StoreFuture<'a, bool>;

    /// Gives the next task to a worker, for `ttl` seconds: of the batch with the highest priority, then the oldest, then the first
    /// chunk. A task whose holder is silent for longer is free again. A batch whose rows name a model is only for workers that
    /// serve it; a worker that names no models takes all. Counts and usage of the lease's batch may be old.
    ///
    /// Batches whose completion window is over [end early](Self#contract) as [`Expired`](BatchStatus::Expired), whatever is given out.
    fn lease<'a>(&'a self, worker: &'a WorkerInfo, now: i64, ttl: i64) -> StoreFuture<'a, Option<Lease>>;
    /// Renews a lease for `ttl` seconds, notes how far the chunk is (of [`TaskKind::Run`](super::TaskKind::Run) only), and says
    /// whether to go on.
    fn heartbeat<'a>(
        &'a self,
        lease: &'a Lease,
        progress: &'a ChunkProgress,
        now: i64,
        ttl: i64,
    ) -> StoreFuture<'a, LeaseState>;
    /// Ends a task. The last chunk of a batch makes the task to finalize it. False if the lease was lost: nothing changed. True
    /// also if this lease has ended its task before, by whatever outcome: a worker that did not hear the answer may ask again.
    ///
    /// # Errors
    /// [`JobError::InvalidParameter`] if the outcome is not one of this kind of task.
    fn finish<'a>(&'a self, lease: &'a Lease, outcome: &'a TaskOutcome, now: i64) -> StoreFuture<'a, bool>;
    /// The chunks of a batch in order, each with the key of its rows in the file store; `None` where it has none, because it was
    /// dropped or is not done.
    fn chunk_locations<'a>(&'a self, batch_id: &'a str) -> StoreFuture<'a, Vec<(super::NewChunk, Option<String>)>>;
    /// Notes what a worker says of itself, at its `last_seen`.
    fn note_worker<'a>(&'a self, worker: &'a WorkerInfo) -> StoreFuture<'a, ()>;
    /// Forgets a worker that ended. One that is not known is not missed.
    fn forget_worker<'a>(&'a self, name: &'a str) -> StoreFuture<'a, ()>;
    /// Workers that were heard of at `since` or later, by name. Those that are silent for a day are forgotten.
    fn workers(&self, since: i64) -> StoreFuture<'_, Vec<WorkerInfo>>;
    /// The earliest time at which there may be something to [`lease`](Self::lease), for a worker that serves all models: `now` if
    /// there is already, `None` if there is nothing at all.
    fn next_due(&self, now: i64) -> StoreFuture<'_, Option<i64>>;
    /// How often the task of this id was taken, for tests and for people.
    fn task_attempts(&self, id: TaskId) -> StoreFuture<'_, Option<i64>>;

    /// Takes messages that are due, each for `ttl` seconds, so that two senders do not send the same one at once; those that
    /// are due longest first.
    fn due_deliveries(&self, now: i64, ttl: i64, limit: usize) -> StoreFuture<'_, Vec<Delivery>>;
    /// Adds a message, unless there is one of its id.
    ///
    /// # Errors
    /// [`JobError::NotFound`] if there is no batch of its `batch_id`.
    fn insert_delivery<'a>(&'a self, delivery: &'a Delivery) -> StoreFuture<'a, ()>;
    /// Notes how a try went: state, attempts, `next_attempt_at` and `last_error`.
    ///
    /// # Errors
    /// [`JobError::NotFound`].
    fn update_delivery<'a>(&'a self, delivery: &'a Delivery) -> StoreFuture<'a, ()>;
    /// The message of this id.
    fn delivery<'a>(&'a self, id: &'a str) -> StoreFuture<'a, Option<Delivery>>;
    /// Messages of this state about an owner's batches, `None` for everybody's, newest first.
    fn deliveries<'a>(
        &'a self,
        owner: Option<&'a str>,
        state: super::DeliveryState,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Delivery>>;
    /// Forgets a message; says whether it was known.
    fn delete_delivery<'a>(&'a self, id: &'a str) -> StoreFuture<'a, bool>;

    /// Whether the database answers.
    fn ping(&self) -> StoreFuture<'_, ()>;
}
