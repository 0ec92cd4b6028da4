//! What the checks have in common: files, batches, and workers that do as they are told.

use std::ops::Deref;
use std::sync::Arc;

use serde_json::json;

use crate::jobs::{
    Batch, BatchStatus, BatchUsage, ChunkProgress, FileObject, FilePurpose, JobError, JobStore, Lease, NewChunk,
    QueueLimits, RequestCounts, TaskKind, TaskOutcome, WebhookConfig, WorkerInfo,
};

/// When everything begins.
pub(super) const START: i64 = 1_700_000_000;
/// How long a lease is good.
pub(super) const TTL: i64 = 60;
/// Requests of a chunk.
pub(super) const CHUNK: u64 = 10;
/// How batches wait that have no limit.
pub(super) const NO_LIMITS: QueueLimits = QueueLimits { max_batches: None, max_batches_per_owner: None };

/// A store, with shorter words for what the checks do all the time.
pub(super) struct Work(pub(super) Arc<dyn JobStore>);

impl Deref for Work {
    type Target = dyn JobStore;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Work {
    /// Makes an input file known.
    pub(super) async fn add_file(&self, id: &str) -> FileObject {
        let file = file(id);
        self.insert_file(&file).await.expect("a file is made known");
        file
    }

    /// Adds a batch of this id, and its input file.
    pub(super) async fn add(&self, id: &str) -> Batch {
        let batch = batch(id);
        self.add_file(&batch.input_file_id).await;
        self.insert_batch(&batch, NO_LIMITS).await.expect("a batch is added");
        batch
    }

    /// Adds a batch that is in progress, with so many chunks.
    pub(super) async fn start(&self, id: &str, num_chunks: u64, now: i64) -> Batch {
        self.add(id).await;
        let lease = self.take("starter", now).await.expect("there is a task to validate");
        assert_eq!((&lease.task.kind, lease.batch.id.as_str()), (&TaskKind::Validate, id));
        assert!(self.end(&lease, &validated(num_chunks), now).await);
        self.get(id).await
    }

    /// The batch as it is.
    pub(super) async fn get(&self, id: &str) -> Batch {
        self.batch(id).await.expect("a batch is read").expect("the batch is known")
    }

    /// The next task, for a worker that serves every model.
    pub(super) async fn take(&self, name: &str, now: i64) -> Option<Lease> {
        self.lease(&worker(name), now, TTL).await.expect("a task is asked for")
    }

    /// Gives the next task, which there is, to a worker until then.
    pub(super) async fn hold(&self, name: &str, until: i64) -> Lease {
        let lease = self.lease(&worker(name), START, until - START).await.expect("a task is asked for");
        lease.expect("there is a task")
    }

    /// Ends a task, and says whether the lease was held.
    pub(super) async fn end(&self, lease: &Lease, outcome: &TaskOutcome, now: i64) -> bool {
        self.finish(lease, outcome, now).await.expect("a task is ended")
    }

    /// Does whatever there is to do, and says what that was.
    pub(super) async fn work_off(&self, now: i64) -> Vec<TaskKind> {
        let mut done = Vec::new();
        while let Some(lease) = self.take("busy", now).await {
            let outcome = success(&lease);
            assert!(self.end(&lease, &outcome, now).await, "{lease:?}");
            done.push(lease.task.kind);
        }
        done
    }
}

/// An input file.
pub(super) fn file(id: &str) -> FileObject {
    let mut file = FileObject::new(id, FilePurpose::Batch, START);
    file.bytes = 1234;
    file.filename = format!("{id}.jsonl");
    file.sha256 = "ab".repeat(32);
    file
}

/// A new batch with a receiver, whose input is the file of the same number.
pub(super) fn batch(id: &str) -> Batch {
    let mut batch = Batch::new(id, "/v1/chat/completions", id.replace("batch_", "file-"), START);
    batch.webhook =
        Some(WebhookConfig { url: "https://example.com/hook".to_owned(), secret: None, events: Vec::new() });
    batch
}

/// A worker that serves every model.
pub(super) fn worker(name: &str) -> WorkerInfo {
    WorkerInfo {
        name: name.to_owned(),
        models: Vec::new(),
        started_at: START,
        last_seen: START,
        tokens_per_second: 0.0,
        rows_per_second: None,
    }
}

/// So many chunks, one after the other.
pub(super) fn chunks(num_chunks: u64) -> Vec<NewChunk> {
    let chunk = |index| NewChunk {
        index,
        start_byte: index * 1000,
        end_byte: (index + 1) * 1000,
        first_line: index * CHUNK + 1,
        num_requests: CHUNK,
    };
    (0..num_chunks).map(chunk).collect()
}

/// A file that is good.
pub(super) fn validated(num_chunks: u64) -> TaskOutcome {
    TaskOutcome::Validated { model: "tiny".to_owned(), chunks: chunks(num_chunks) }
}

/// A file that is not.
pub(super) fn refused() -> TaskOutcome {
    TaskOutcome::Refused {
        errors: vec![json!({"code": "invalid_json_line", "message": "no JSON", "param": null, "line": 3})],
    }
}

/// So many rows of a chunk are done, one of them with an error.
pub(super) fn progress(num_done: u64) -> ChunkProgress {
    let failed = num_done.min(1);
    let counts = RequestCounts { total: CHUNK, completed: num_done - failed, failed };
    ChunkProgress { counts, usage: usage(num_done), tokens_per_second: 12.5 }
}

/// The tokens of so many rows.
pub(super) fn usage(num_done: u64) -> BatchUsage {
    BatchUsage { input_tokens: 7 * num_done, cached_tokens: 2 * num_done, output_tokens: 3 * num_done }
}

/// What the holder of a lease says when all went well.
pub(super) fn success(lease: &Lease) -> TaskOutcome {
    match &lease.task.kind {
        TaskKind::Validate => validated(2),
        TaskKind::Run(chunk) => {
            TaskOutcome::Ran { progress: progress(CHUNK), location: location(chunk.index, lease.task.attempt) }
        }
        TaskKind::Finalize => {
            let file = |kind: &str| {
                let id = lease.batch.id.replace("batch_", &format!("file-{kind}-"));
                Some(FileObject::new(id, FilePurpose::BatchOutput, START))
            };
            let counts = RequestCounts { total: 20, completed: 18, failed: 2 };
            TaskOutcome::Finalized { output: file("output"), errors: file("errors"), counts, usage: usage(20) }
        }
    }
}

/// Where the rows of a chunk are.
pub(super) fn location(index: u64, attempt: i64) -> String {
    format!("chunks/{index}-{attempt}")
}

/// A worker cannot go on.
pub(super) fn failed(retry_at: i64, max_attempts: i64) -> TaskOutcome {
    TaskOutcome::Failed { message: "the engine died".to_owned(), retry_at, max_attempts }
}

/// The code of an error, for comparisons.
pub(super) fn code<T>(result: Result<T, JobError>) -> Result<T, &'static str> {
    result.map_err(|error| error.code())
}

/// The ids of batches.
pub(super) fn ids(batches: &[Batch]) -> Vec<&str> {
    batches.iter().map(|batch| batch.id.as_str()).collect()
}

/// How a batch stands: its status, and as what it ends early.
pub(super) fn standing(batch: &Batch) -> (BatchStatus, Option<BatchStatus>) {
    (batch.status, batch.ends_early_as())
}
