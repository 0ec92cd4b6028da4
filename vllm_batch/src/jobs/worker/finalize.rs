//! How do the rows of all chunks become the result files?

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

use super::Worker;
use super::folder::journals;
use super::run::Order;
use super::task::{Ended, Held, blocking};
use crate::jobs::files::{ChunkRows, FileKey, FileStore, read_file};
use crate::jobs::id::{FILE, new_id};
use crate::jobs::{Batch, FileObject, FilePurpose, JobError, NewChunk, RequestCounts, TaskOutcome};

/// Rows of a chunk that ran, or of one that did not come to its end.
enum Part {
    Stored(FileKey),
    Local(PathBuf),
}

impl Worker {
    /// Puts the rows of all chunks together, in the order of the input. Every request has its row in one of the two files.
    pub(super) async fn finalize(&self, held: &Held) -> Result<Ended, JobError> {
        let batch = &held.lease.batch;
        let chunks = self.service().store().chunk_locations(&batch.id).await?;
        let expected: u64 = chunks.iter().map(|(chunk, _)| chunk.num_requests).sum();
        let (mut answers, mut errors) = (Vec::new(), Vec::new());
        for (chunk, location) in chunks {
            let [of_answers, of_errors] = if let Some(rows) = location.as_deref().map(ChunkRows::at) {
                [rows.answers(), rows.errors()].map(Part::Stored)
            } else {
                self.rows_of_dropped(batch, chunk, held.lease.task.attempt).await?.map(Part::Local)
            };
            answers.push(of_answers);
            errors.push(of_errors);
        }
        let (output, completed) = self.write_result(batch, answers, "output").await?;
        let (errors, failed) = self.write_result(batch, errors, "error").await?;
        let written = [&output, &errors].into_iter().flatten();
        let written = written.map(|file| FileKey::of_file(&file.id)).collect::<Result<Vec<_>, _>>()?;
        if completed + failed != expected {
            for key in written {
                self.delete_content(&key).await;
            }
            let message = format!("{} rows of {expected} are in the file store", completed + failed);
            return Ok(Ended::Failed(message.into()));
        }
        let counts = RequestCounts { total: expected, completed, failed };
        // The lease's may be old.
        let usage = self.service().store().batch(&batch.id).await?.map_or(batch.usage, |batch| batch.usage);
        Ok(Ended::Done(TaskOutcome::Finalized { output, errors, counts, usage }, written))
    }

    /// Files of one row for each request of a chunk that was dropped or given up: answers and errors. What was done of it counts,
    /// if it was done on this machine.
    async fn rows_of_dropped(&self, batch: &Batch, chunk: NewChunk, attempt: i64) -> Result<[PathBuf; 2], JobError> {
        let unfinished = self.why_unfinished(&batch.id).await?;
        let rows = blocking(self.chunk_folder(&batch.id, chunk.index), journals).await?;
        let name = format!("dropped-{}-{attempt}", chunk.index);
        let path = self.in_folder(&batch.id, move |folder| Ok(folder.join(name))).await?;
        let input = path.with_extension("jsonl");
        let key = FileKey::of_file(&batch.input_file_id)?;
        self.service().files_store().download(&key, Some(chunk.start_byte..chunk.end_byte), &input).await?;
        let targets = [path.with_extension("rows.jsonl"), path.with_extension("errors.jsonl")];
        let order = Order { input, rows, first_line: chunk.first_line, unfinished, targets: targets.clone() };
        let written = order.write().await?;
        written.map_err(|message| JobError::Files { action: "write", path: path.display().to_string(), message })?;
        Ok(targets)
    }

    /// Writes a result file, if there is a row in it, and counts its rows.
    async fn write_result(
        &self,
        batch: &Batch,
        parts: Vec<Part>,
        kind: &'static str,
    ) -> Result<(Option<FileObject>, u64), JobError> {
        let count = Arc::new(AtomicU64::new(0));
        let rows = Box::pin(rows_of(self.service().files_store().clone(), parts, count.clone()).peekable());
        let Some(rows) = with_content(rows).await else { return Ok((None, 0)) };
        let mut file = FileObject::new(new_id(FILE), FilePurpose::BatchOutput, self.service().now());
        let written = self.service().files_store().put(&FileKey::of_file(&file.id)?, rows, u64::MAX).await?;
        file.bytes = written.bytes;
        file.sha256 = written.sha256;
        file.filename = format!("{}_{kind}.jsonl", batch.id);
        file.owner.clone_from(&batch.owner);
        let asked = batch.output_expires_after.map(|expiry| expiry.seconds as i64);
        let kept = asked.or(self.service().options().result_retention);
        file.expires_at = kept.map(|seconds| file.created_at.saturating_add(seconds));
        Ok((Some(file), count.load(Ordering::Relaxed)))
    }

    /// Deletes what was kept of a batch's chunks.
    pub(super) async fn forget_chunks(&self, batch_id: &str) {
        let mut found = self.service().files_store().list(&format!("{}/{batch_id}", FileKey::BATCHES));
        loop {
            match found.try_next().await {
                Ok(Some((key, _))) => self.delete_content(&key).await,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "rows of chunks stay until orphans are looked for");
                    break;
                }
            }
        }
        if let Err(error) = self.service().files_store().delete_rows_folder(batch_id).await {
            tracing::warn!(%error, "the folder of a batch's rows stays");
        }
        self.delete_folder(self.batch_folder(batch_id)).await;
    }
}

type Rows = stream::Peekable<BoxStream<'static, Result<Bytes, JobError>>>;

/// The stream, unless it is empty.
async fn with_content(mut rows: Pin<Box<Rows>>) -> Option<Pin<Box<Rows>>> {
    let is_empty = rows.as_mut().peek().await.is_none();
    (!is_empty).then_some(rows)
}

/// The rows of all parts. Of a chunk without such rows nothing was stored.
fn rows_of(files: FileStore, parts: Vec<Part>, count: Arc<AtomicU64>) -> BoxStream<'static, Result<Bytes, JobError>> {
    let rows = stream::iter(parts).then(move |part| {
        let files = files.clone();
        async move {
            match part {
                Part::Local(path) => Ok(read_file(&path).boxed()),
                Part::Stored(key) => match files.get(&key).await {
                    Err(JobError::NotFound { .. }) => Ok(stream::empty().boxed()),
                    found => found,
                },
            }
        }
    });
    let counted = rows.try_flatten().inspect_ok(move |piece: &Bytes| {
        let rows = super::count_lines(piece);
        count.fetch_add(rows as u64, Ordering::Relaxed);
    });
    counted.boxed()
}
