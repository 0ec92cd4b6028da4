//! What can be asked about files and batches, whoever asks?

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::stream::Stream;
use tokio::sync::Notify;

use super::files::{ByteStream, FileKey, FileStore};
use super::id::{BATCH, FILE, new_id};
use super::limits::{NewBatch, NewFile, invalid};
use super::{
    Batch, BatchQuery, BatchStatus, Delivery, DeliveryState, FileObject, FilePurpose, FileQuery, JobError, JobStore,
    Page, QueueLimits, WebhookConfig, WorkerInfo,
};
use crate::batch::OpenAiLimits;

/// Seconds of 30 days: how long `OpenAI` keeps result files.
const DAYS_30: i64 = 30 * 86_400;

/// Tells the time in Unix seconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;
/// Says whether messages may be sent to a receiver.
pub type WebhookCheck = Arc<dyn Fn(&WebhookConfig) -> Result<(), JobError> + Send + Sync>;

/// How a [`JobService`] works.
#[derive(Clone)]
#[non_exhaustive]
pub struct ServiceOptions {
    /// Tells the time. Default: the system's clock.
    pub clock: Clock,
    /// What an input file may hold. Default: `OpenAI`'s limits.
    pub limits: OpenAiLimits,
    /// How much may wait. Default: any number of batches.
    pub queue: QueueLimits,
    /// Says whether a batch may have this receiver. Default: none may have any.
    pub webhook_check: WebhookCheck,
    /// Seconds after which result files are deleted, where the batch does not say; `None` keeps them. Default: 30 days.
    pub result_retention: Option<i64>,
    /// Seconds after which batches that have ended are forgotten, with their result files; `None` keeps them. Default: `None`.
    pub batch_retention: Option<i64>,
    /// Seconds after which a worker that is silent counts as gone. Default: 60.
    pub worker_timeout: i64,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(system_time),
            limits: OpenAiLimits::default(),
            queue: QueueLimits::default(),
            webhook_check: Arc::new(|_| Err(invalid("webhook", "no messages are sent from here".to_owned()))),
            result_retention: Some(DAYS_30),
            batch_retention: None,
            worker_timeout: 60,
        }
    }
}

impl fmt::Debug for ServiceOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ServiceOptions")
            .field("limits", &self.limits)
            .field("queue", &self.queue)
            .field("result_retention", &self.result_retention)
            .field("batch_retention", &self.batch_retention)
            .field("worker_timeout", &self.worker_timeout)
            .finish_non_exhaustive()
    }
}

/// Files and batches, as all doors see them: HTTP, Python, a program that embeds this crate. Clones are the same service.
///
/// Whoever asks names an `owner`, the key that is asked with, and sees nothing of another owner: that is
/// [`JobError::NotFound`]. Without keys it is the empty text.
///
/// # Example
/// ```
/// use std::sync::Arc;
///
/// use futures::{TryStreamExt, stream};
/// use vllm_batch::CancellationToken;
/// use vllm_batch::jobs::{FileStore, JobService, NewBatch, NewFile, ServiceOptions, SqlStore, Worker, WorkerOptions};
/// use vllm_batch::testing::ScriptedEngine;
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let store = SqlStore::connect(&format!("sqlite://{}?mode=rwc", folder.join("jobs.db").display())).await?;
/// let files = FileStore::in_folder(folder.join("files"))?;
/// let service = JobService::new(Arc::new(store), files, ServiceOptions::default());
///
/// let body = r#"{"model": "scripted", "prompt": "Hello"}"#;
/// let line = format!(r#"{{"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": {body}}}"#);
/// let file = service.create_file(NewFile::for_batch(), stream::iter([Ok::<_, JobError>(line.into())])).await?;
/// let batch = service.create_batch(NewBatch::new(&file.id, "/v1/completions")).await?;
///
/// let options = WorkerOptions::new("worker-1", folder.join("work"));
/// Worker::new(service.clone(), Arc::new(ScriptedEngine::echo()), options).run_until_idle().await?;
///
/// let batch = service.batch("", &batch.id).await?;
/// assert_eq!((batch.status.as_str(), batch.request_counts.completed), ("completed", 1));
/// let output = batch.output_file_id.unwrap_or_default();
/// let answers: Vec<_> = service.content("", &output, None).await?.content.try_collect().await?;
/// assert!(String::from_utf8(answers.concat())?.contains("Hello"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # use vllm_batch::jobs::JobError;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct JobService {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn JobStore>,
    files: FileStore,
    options: ServiceOptions,
    /// There may be something to do for workers of this process.
    news: Notify,
}

/// The content of a file.
pub struct Content {
    /// What is known of the file.
    pub file: FileObject,
    /// Its bytes, or those that were asked for.
    pub content: ByteStream,
}

impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Content").field("file", &self.file).finish_non_exhaustive()
    }
}

impl JobService {
    /// A service over a store of jobs and one of contents. Both may be shared with other processes.
    pub fn new(store: Arc<dyn JobStore>, files: FileStore, options: ServiceOptions) -> Self {
        Self { inner: Arc::new(Inner { store, files, options, news: Notify::new() }) }
    }

    /// Where jobs are kept.
    pub fn store(&self) -> &dyn JobStore {
        &*self.inner.store
    }

    /// Where contents are kept.
    pub fn files_store(&self) -> &FileStore {
        &self.inner.files
    }

    /// How it works.
    pub fn options(&self) -> &ServiceOptions {
        &self.inner.options
    }

    /// The time, in Unix seconds.
    pub fn now(&self) -> i64 {
        (self.inner.options.clock)()
    }

    /// Completes when something was created or cancelled in this process.
    pub(super) async fn news(&self) {
        self.inner.news.notified().await;
    }

    /// Takes a file. It is there as a whole, or not at all.
    ///
    /// # Errors
    /// [`JobError::InvalidParameter`]; [`JobError::FileTooLarge`] for more than [`OpenAiLimits::max_file_bytes`];
    /// [`JobError::Files`] if the stream fails, or the store does; [`JobError::Store`].
    pub async fn create_file<S, E>(&self, new: NewFile, content: S) -> Result<FileObject, JobError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: fmt::Display,
    {
        new.check()?;
        let max_bytes = self.options().limits.max_file_bytes;
        let mut file = FileObject::new(new_id(FILE), new.purpose, self.now());
        let key = FileKey::of_file(&file.id)?;
        let written = self.files_store().put(&key, content, max_bytes).await?;
        file.bytes = written.bytes;
        file.sha256 = written.sha256;
        file.expires_at = new.expires_after.map(|seconds| file.created_at.saturating_add_unsigned(seconds));
        file.filename = new.filename;
        file.owner = new.owner;
        if let Err(error) = self.store().insert_file(&file).await {
            // Nobody knows of it; if this fails too, it is found as an orphan.
            let _ = self.files_store().delete(&key).await;
            return Err(error);
        }
        Ok(file)
    }

    /// A file.
    ///
    /// # Errors
    /// [`JobError::NotFound`]; [`JobError::Store`].
    pub async fn file(&self, owner: &str, id: &str) -> Result<FileObject, JobError> {
        let file = self.store().file(id).await?.filter(|file| file.owner == owner);
        file.ok_or_else(|| not_found("file", id))
    }

    /// A part of the list of files.
    ///
    /// # Errors
    /// [`JobError::NotFound`] if `after` is unknown; [`JobError::Store`].
    pub async fn files(&self, query: &FileQuery) -> Result<Page<FileObject>, JobError> {
        self.store().files(query).await
    }

    /// The content of a file, or a part of it.
    ///
    /// # Errors
    /// [`JobError::NotFound`]; [`JobError::Store`]; [`JobError::Files`].
    pub async fn content(&self, owner: &str, id: &str, range: Option<Range<u64>>) -> Result<Content, JobError> {
        let file = self.file(owner, id).await?;
        let key = FileKey::of_file(id)?;
        let content = match range {
            Some(range) => self.files_store().get_range(&key, range).await?,
            None => self.files_store().get(&key).await?,
        };
        Ok(Content { file, content })
    }

    /// Deletes a file.
    ///
    /// # Errors
    /// [`JobError::NotFound`]; [`JobError::FileInUse`] if a batch that has not ended reads it; [`JobError::Store`];
    /// [`JobError::Files`].
    pub async fn delete_file(&self, owner: &str, id: &str) -> Result<(), JobError> {
        self.file(owner, id).await?;
        self.forget_file(id).await
    }

    /// Forgets a file, then deletes its content: what a crash leaves behind is an orphan that nobody can ask for.
    pub(super) async fn forget_file(&self, id: &str) -> Result<(), JobError> {
        if !self.store().delete_file(id).await? {
            return Err(not_found("file", id));
        }
        self.files_store().delete(&FileKey::of_file(id)?).await
    }

    /// Creates a batch, which waits for a worker.
    ///
    /// `OpenAI` takes a batch whose input file does not exist, and fails it later. Here it is refused: whoever asks learns at once
    /// of the wrong id.
    ///
    /// # Errors
    /// [`JobError::InvalidParameter`]; [`JobError::NotFound`] if there is no such input file; [`JobError::QueueFull`];
    /// [`JobError::Store`].
    pub async fn create_batch(&self, new: NewBatch) -> Result<Batch, JobError> {
        self.create_batch_within(QueueLimits::default(), new).await
    }

    /// As [`create_batch`](Self::create_batch), for a caller who has limits besides [`ServiceOptions::queue`].
    ///
    /// # Errors
    /// As [`create_batch`](Self::create_batch).
    pub async fn create_batch_within(&self, limits: QueueLimits, new: NewBatch) -> Result<Batch, JobError> {
        if let Some(webhook) = &new.webhook {
            (self.options().webhook_check)(webhook)?;
        }
        let batch = new.into_batch(new_id(BATCH), self.now())?;
        let input = self.file(&batch.owner, &batch.input_file_id).await?;
        if input.purpose != FilePurpose::Batch {
            let message = format!("the file is for `{}`, and must be for `batch`", input.purpose.as_str());
            return Err(invalid("input_file_id", message));
        }
        self.store().insert_batch(&batch, self.options().queue.and(limits)).await?;
        self.inner.news.notify_waiters();
        Ok(batch)
    }

    /// A batch.
    ///
    /// # Errors
    /// [`JobError::NotFound`]; [`JobError::Store`].
    pub async fn batch(&self, owner: &str, id: &str) -> Result<Batch, JobError> {
        let batch = self.store().batch(id).await?.filter(|batch| batch.owner == owner);
        batch.ok_or_else(|| not_found("batch", id))
    }

    /// A part of the list of batches.
    ///
    /// # Errors
    /// [`JobError::NotFound`] if `after` is unknown; [`JobError::Store`].
    pub async fn batches(&self, query: &BatchQuery) -> Result<Page<Batch>, JobError> {
        self.store().batches(query).await
    }

    /// Starts to cancel a batch: rows in flight end, the others are told of it in the error file. One that ends early already
    /// stays as it is.
    ///
    /// # Errors
    /// [`JobError::NotFound`]; [`JobError::InvalidStatus`] if it has ended; [`JobError::Store`].
    pub async fn cancel_batch(&self, owner: &str, id: &str) -> Result<Batch, JobError> {
        self.batch(owner, id).await?;
        let batch = self.store().cancel_batch(id, self.now()).await?;
        self.inner.news.notify_waiters();
        Ok(batch)
    }

    /// Workers that were heard of lately.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>, JobError> {
        self.store().workers(self.now().saturating_sub(self.options().worker_timeout)).await
    }

    /// Messages about an owner's batches that no receiver took, newest first.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub async fn dead_letters(&self, owner: &str, limit: usize) -> Result<Vec<Delivery>, JobError> {
        self.store().deliveries(Some(owner), DeliveryState::Dead, limit).await
    }

    /// Sends a message again, as if it had never been tried.
    ///
    /// # Errors
    /// [`JobError::NotFound`]; [`JobError::Store`].
    pub async fn replay(&self, owner: &str, id: &str) -> Result<Delivery, JobError> {
        let mut delivery = self.message(owner, id).await?;
        delivery.state = DeliveryState::Pending;
        delivery.attempts = 0;
        delivery.next_attempt_at = self.now();
        self.store().update_delivery(&delivery).await?;
        Ok(delivery)
    }

    /// Forgets a message, whether it was taken or not.
    ///
    /// # Errors
    /// [`JobError::NotFound`]; [`JobError::Store`].
    pub async fn delete_message(&self, owner: &str, id: &str) -> Result<(), JobError> {
        self.message(owner, id).await?;
        if self.store().delete_delivery(id).await? { Ok(()) } else { Err(not_found("message", id)) }
    }

    /// A message about a batch of this owner.
    async fn message(&self, owner: &str, id: &str) -> Result<Delivery, JobError> {
        let unknown = || not_found("message", id);
        let found = self.store().delivery(id).await?.ok_or_else(unknown)?;
        let batch = self.store().batch(&found.batch_id).await?;
        batch.filter(|batch| batch.owner == owner).map(|_| found).ok_or_else(unknown)
    }

    /// What there is.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub async fn stats(&self, owner: Option<&str>) -> Result<JobStats, JobError> {
        let batches = self.store().count_batches(owner).await?;
        Ok(JobStats { batches, workers: self.workers().await? })
    }
}

/// How many batches there are, and who works on them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct JobStats {
    /// Of each status: how many batches, where there are any.
    pub batches: Vec<(BatchStatus, u64)>,
    /// The workers that were heard of lately.
    pub workers: Vec<WorkerInfo>,
}

/// The system's clock.
pub(super) fn system_time() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64)
}

pub(super) fn not_found(what: &'static str, id: &str) -> JobError {
    JobError::NotFound { what, id: id.to_owned() }
}
