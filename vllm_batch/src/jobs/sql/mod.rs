//! Where are jobs kept, if it is in SQLite or PostgreSQL?
//!
//! One implementation for both: what differs is in [`database`]. Each call is a transaction. Those that change a batch or its tasks
//! begin by locking the batch ([`job`]), so that they come one after the other; to take a task ([`lease`]) locks but the task.

mod batches;
mod database;
mod deliveries;
mod files;
mod finish;
mod job;
mod lease;
mod migrate;
mod statement;
#[cfg(test)]
pub(crate) mod tests;
mod workers;

use sqlx::AnyPool;

pub(crate) use self::database::{Database, Fault, Tx, repeat};
pub(crate) use self::migrate::Series;
pub(crate) use self::statement::{Statement, document, integer, text, to_document};
use super::{
    Batch, BatchQuery, BatchStatus, ChunkProgress, Delivery, DeliveryState, FileObject, FileQuery, JobError, JobStore,
    Lease, LeaseState, NewChunk, Page, QueueLimits, StoreFuture, TaskId, TaskOutcome, WorkerInfo,
};

/// The tables of jobs.
const TABLES: Series = Series { name: "jobs", versions: &[include_str!("migrations/0001_jobs.sql")] };

/// A [`JobStore`] in SQLite or PostgreSQL. Clones share connections.
///
/// # Example
/// ```
/// use vllm_batch::jobs::{Batch, FileObject, FilePurpose, JobStore, QueueLimits, SqlStore};
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("jobs.db");
/// # let path = path.display();
/// let store = SqlStore::connect(&format!("sqlite://{path}?mode=rwc")).await?;
/// store.insert_file(&FileObject::new("file-1", FilePurpose::Batch, 1_700_000_000)).await?;
/// let batch = Batch::new("batch_1", "/v1/chat/completions", "file-1", 1_700_000_000);
/// store.insert_batch(&batch, QueueLimits::default()).await?;
/// assert_eq!(store.queue(10).await?, [batch]);
/// # Ok::<(), vllm_batch::jobs::JobError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct SqlStore {
    database: Database,
}

impl SqlStore {
    /// Connects, and creates or updates the tables.
    ///
    /// `sqlite://PATH?mode=rwc` is a file, which is created if it is not there; `sqlite::memory:` ends with the store.
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE` is a database that is there. It needs a runtime of tokio.
    ///
    /// # Errors
    /// [`JobError::InvalidParameter`] for another kind of URL; [`JobError::Store`] if the database does not answer, or was made by
    /// a newer version of this crate.
    pub async fn connect(url: &str) -> Result<Self, JobError> {
        let store = Self::connect_without_migrating(url).await?;
        store.migrate().await?;
        Ok(store)
    }

    /// Connects to a database that has its tables already, where a program may not create any.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_without_migrating(url: &str) -> Result<Self, JobError> {
        Ok(Self { database: Database::connect(url).await? })
    }

    /// Creates or updates the tables, one process at a time. Does nothing where they are as they should be.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub async fn migrate(&self) -> Result<(), JobError> {
        self.database().migrate(TABLES).await
    }

    /// Its connections, for other tables in the same database.
    pub fn pool(&self) -> &AnyPool {
        self.database().pool()
    }

    /// What other tables in the same database need beside [`pool`](Self::pool).
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }
}

impl JobStore for SqlStore {
    fn insert_file<'a>(&'a self, file: &'a FileObject) -> StoreFuture<'a, ()> {
        Box::pin(repeat(move || files::insert(&self.database, file)))
    }

    fn file<'a>(&'a self, id: &'a str) -> StoreFuture<'a, Option<FileObject>> {
        Box::pin(repeat(move || files::get(&self.database, id)))
    }

    fn files<'a>(&'a self, query: &'a FileQuery) -> StoreFuture<'a, Page<FileObject>> {
        Box::pin(repeat(move || files::page(&self.database, query)))
    }

    fn delete_file<'a>(&'a self, id: &'a str) -> StoreFuture<'a, bool> {
        Box::pin(repeat(move || files::delete(&self.database, id)))
    }

    fn expired_files(&self, now: i64, limit: usize) -> StoreFuture<'_, Vec<FileObject>> {
        Box::pin(repeat(move || files::expired(&self.database, now, limit)))
    }

    fn insert_batch<'a>(&'a self, batch: &'a Batch, limits: QueueLimits) -> StoreFuture<'a, ()> {
        Box::pin(repeat(move || batches::insert(&self.database, batch, limits)))
    }

    fn batch<'a>(&'a self, id: &'a str) -> StoreFuture<'a, Option<Batch>> {
        Box::pin(repeat(move || batches::get(&self.database, id)))
    }

    fn batches<'a>(&'a self, query: &'a BatchQuery) -> StoreFuture<'a, Page<Batch>> {
        Box::pin(repeat(move || batches::page(&self.database, query)))
    }

    fn queue(&self, limit: usize) -> StoreFuture<'_, Vec<Batch>> {
        Box::pin(repeat(move || batches::queue(&self.database, limit)))
    }

    fn count_batches<'a>(&'a self, owner: Option<&'a str>) -> StoreFuture<'a, Vec<(BatchStatus, u64)>> {
        Box::pin(repeat(move || batches::count(&self.database, owner)))
    }

    fn cancel_batch<'a>(&'a self, id: &'a str, now: i64) -> StoreFuture<'a, Batch> {
        Box::pin(repeat(move || batches::cancel(&self.database, id, now)))
    }

    fn update_batch<'a>(&'a self, batch: &'a Batch) -> StoreFuture<'a, bool> {
        Box::pin(repeat(move || batches::update(&self.database, batch)))
    }

    fn ended_batches(&self, ended_before: i64, limit: usize) -> StoreFuture<'_, Vec<Batch>> {
        Box::pin(repeat(move || batches::ended(&self.database, ended_before, limit)))
    }

    fn delete_batch<'a>(&'a self, id: &'a str) -> StoreFuture<'a, bool> {
        Box::pin(repeat(move || batches::delete(&self.database, id)))
    }

    fn lease<'a>(&'a self, worker: &'a WorkerInfo, now: i64, ttl: i64) -> StoreFuture<'a, Option<Lease>> {
        Box::pin(async move {
            lease::expire_overdue(&self.database, now).await?;
            repeat(move || lease::take(&self.database, worker, lease::Until { now, ttl })).await
        })
    }

    fn heartbeat<'a>(
        &'a self,
        lease: &'a Lease,
        progress: &'a ChunkProgress,
        now: i64,
        ttl: i64,
    ) -> StoreFuture<'a, LeaseState> {
        Box::pin(async move {
            if lease.batch.expires_at <= now {
                repeat(move || lease::expire(&self.database, &lease.batch.id, now)).await?;
            }
            repeat(move || lease::renew(&self.database, lease, progress, lease::Until { now, ttl })).await
        })
    }

    fn finish<'a>(&'a self, lease: &'a Lease, outcome: &'a TaskOutcome, now: i64) -> StoreFuture<'a, bool> {
        Box::pin(repeat(move || finish::finish(&self.database, lease, outcome, now)))
    }

    fn chunk_locations<'a>(&'a self, batch_id: &'a str) -> StoreFuture<'a, Vec<(NewChunk, Option<String>)>> {
        Box::pin(repeat(move || batches::chunks(&self.database, batch_id)))
    }

    fn note_worker<'a>(&'a self, worker: &'a WorkerInfo) -> StoreFuture<'a, ()> {
        Box::pin(repeat(move || workers::note(&self.database, worker)))
    }

    fn forget_worker<'a>(&'a self, name: &'a str) -> StoreFuture<'a, ()> {
        Box::pin(repeat(move || workers::forget(&self.database, name)))
    }

    fn workers(&self, since: i64) -> StoreFuture<'_, Vec<WorkerInfo>> {
        Box::pin(repeat(move || workers::list(&self.database, since)))
    }

    fn next_due(&self, now: i64) -> StoreFuture<'_, Option<i64>> {
        Box::pin(repeat(move || lease::next_due(&self.database, now)))
    }

    fn task_attempts(&self, id: TaskId) -> StoreFuture<'_, Option<i64>> {
        Box::pin(repeat(move || lease::attempts(&self.database, id)))
    }

    fn due_deliveries(&self, now: i64, ttl: i64, limit: usize) -> StoreFuture<'_, Vec<Delivery>> {
        Box::pin(repeat(move || deliveries::take_due(&self.database, now, ttl, limit)))
    }

    fn insert_delivery<'a>(&'a self, delivery: &'a Delivery) -> StoreFuture<'a, ()> {
        Box::pin(repeat(move || deliveries::add(&self.database, delivery)))
    }

    fn update_delivery<'a>(&'a self, delivery: &'a Delivery) -> StoreFuture<'a, ()> {
        Box::pin(repeat(move || deliveries::update(&self.database, delivery)))
    }

    fn delivery<'a>(&'a self, id: &'a str) -> StoreFuture<'a, Option<Delivery>> {
        Box::pin(repeat(move || deliveries::get(&self.database, id)))
    }

    fn deliveries<'a>(
        &'a self,
        owner: Option<&'a str>,
        state: DeliveryState,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Delivery>> {
        Box::pin(repeat(move || deliveries::list(&self.database, owner, state, limit)))
    }

    fn delete_delivery<'a>(&'a self, id: &'a str) -> StoreFuture<'a, bool> {
        Box::pin(repeat(move || deliveries::delete(&self.database, id)))
    }

    fn ping(&self) -> StoreFuture<'_, ()> {
        Box::pin(repeat(move || batches::ping(&self.database)))
    }
}
