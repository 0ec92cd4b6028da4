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

/// Files, batches, tasks and messages to receivers, in a database that several processes may share.
///
/// # Contract
/// * Each call is one transaction: it happens as a whole or not at all, and survives a crash once it has answered.
/// * Times are Unix seconds of the caller. A store compares them with those it was given before, and has no clock.
/// * Every change that a worker makes names its [`Lease`]; after the lease was lost to another holder it changes nothing.
/// * A terminal status is set exactly once; the same transaction enqueues the messages that tell of it, if the batch has a
///   webhook.
///
/// `testing::check_job_store` holds a store to it.
pub trait JobStore: Send + Sync + Debug {
    /// Makes a file known. Its content is there already.
    fn insert_file<'a>(&'a self, file: &'a FileObject) -> StoreFuture<'a, ()>;
    /// The file of this id.
    fn file<'a>(&'a self, id: &'a str) -> StoreFuture<'a, Option<FileObject>>;
    /// A part of the list of files.
    ///
    /// # Errors
    /// [`JobError::NotFound`] if `after` is unknown.
    fn files<'a>(&'a self, query: &'a FileQuery) -> StoreFuture<'a, Page<FileObject>>;
    /// Forgets a file, and says whether it was known. The caller deletes its content.
    fn delete_file<'a>(&'a self, id: &'a str) -> StoreFuture<'a, bool>;
    /// Files whose `expires_at` has come.
    fn expired_files(&self, now: i64, limit: usize) -> StoreFuture<'_, Vec<FileObject>>;

    /// Adds a batch that is [`Validating`](BatchStatus::Validating), and the task to validate it.
    ///
    /// # Errors
    /// [`JobError::QueueFull`].
    fn insert_batch<'a>(&'a self, batch: &'a Batch, limits: QueueLimits) -> StoreFuture<'a, ()>;
    /// The batch of this id, its counts and usage those of its chunks until it has ended.
    fn batch<'a>(&'a self, id: &'a str) -> StoreFuture<'a, Option<Batch>>;
    /// A part of the list of batches.
    ///
    /// # Errors
    /// [`JobError::NotFound`] if `after` is unknown.
    fn batches<'a>(&'a self, query: &'a BatchQuery) -> StoreFuture<'a, Page<Batch>>;
    /// Batches that have not ended, in the order in which workers take them: priority, then age.
    fn queue(&self, limit: usize) -> StoreFuture<'_, Vec<Batch>>;
    /// How many batches there are of each status.
    fn count_batches<'a>(&'a self, owner: Option<&'a str>) -> StoreFuture<'a, Vec<(BatchStatus, u64)>>;
    /// Starts to cancel a batch: chunks that nobody holds are dropped, holders hear of it at their next heartbeat, and a task to
    /// finalize waits for them. A batch that is cancelling stays so.
    ///
    /// # Errors
    /// [`JobError::NotFound`]; [`JobError::InvalidStatus`] if it has ended.
    fn cancel_batch<'a>(&'a self, id: &'a str, now: i64) -> StoreFuture<'a, Batch>;
    /// Changes what says nothing about work (metadata, priority) if the batch still is of `batch.version`; says whether it was.
    fn update_batch<'a>(&'a self, batch: &'a Batch) -> StoreFuture<'a, bool>;
    /// Batches that ended before `ended_before`, oldest first: to be forgotten.
    fn ended_batches(&self, ended_before: i64, limit: usize) -> StoreFuture<'_, Vec<Batch>>;
    /// Forgets a batch that has ended, its tasks and its messages; says whether it did.
    fn delete_batch<'a>(&'a self, id: &'a str) -> StoreFuture<'a, bool>;

    /// Gives the next task to a worker, for `ttl` seconds: of the batch with the highest priority, then the oldest. A task whose
    /// holder is silent for longer is free again. A batch whose completion window is over is treated as one that is being cancelled,
    /// and ends as [`Expired`](BatchStatus::Expired).
    fn lease<'a>(&'a self, worker: &'a WorkerInfo, now: i64, ttl: i64) -> StoreFuture<'a, Option<Lease>>;
    /// Renews a lease for `ttl` seconds, notes how far the chunk is, and says whether to go on.
    fn heartbeat<'a>(&'a self, lease: &'a Lease, progress: &'a ChunkProgress, now: i64, ttl: i64) -> StoreFuture<'a, LeaseState>;
    /// Ends a task. The last chunk of a batch makes the task to finalize it. False if the lease was lost: nothing changed.
    fn finish<'a>(&'a self, lease: &'a Lease, outcome: &'a TaskOutcome, now: i64) -> StoreFuture<'a, bool>;
    /// Chunks of a batch that have rows: their index and the key of their rows in the file store, in order.
    fn chunk_locations<'a>(&'a self, batch_id: &'a str) -> StoreFuture<'a, Vec<(super::NewChunk, Option<String>)>>;
    /// Workers that were heard of at `since` or later.
    fn workers(&self, since: i64) -> StoreFuture<'_, Vec<WorkerInfo>>;
    /// The earliest time at which a task may be taken, if none can be taken now; `None` if there is none at all.
    fn next_due(&self, now: i64) -> StoreFuture<'_, Option<i64>>;
    /// The task of this id as it is, for tests and for people.
    fn task_attempts(&self, id: TaskId) -> StoreFuture<'_, Option<i64>>;

    /// Takes messages that are due, each for `ttl` seconds, so that two senders do not send the same one at once.
    fn due_deliveries(&self, now: i64, ttl: i64, limit: usize) -> StoreFuture<'_, Vec<Delivery>>;
    /// Adds a message.
    fn insert_delivery<'a>(&'a self, delivery: &'a Delivery) -> StoreFuture<'a, ()>;
    /// Notes how a try went: state, attempts, `next_attempt_at` and `last_error`.
    fn update_delivery<'a>(&'a self, delivery: &'a Delivery) -> StoreFuture<'a, ()>;
    /// The message of this id.
    fn delivery<'a>(&'a self, id: &'a str) -> StoreFuture<'a, Option<Delivery>>;
    /// Messages of this state, newest first.
    fn deliveries(&self, state: super::DeliveryState, limit: usize) -> StoreFuture<'_, Vec<Delivery>>;
    /// Forgets a message; says whether it was known.
    fn delete_delivery<'a>(&'a self, id: &'a str) -> StoreFuture<'a, bool>;

    /// Whether the database answers.
    fn ping(&self) -> StoreFuture<'_, ()>;
}
