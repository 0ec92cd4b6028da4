//! Which rows failed, and can they have another try?

use std::collections::HashSet;

use bytes::Bytes;
use futures::stream::{Stream, try_unfold};

use super::files::Lines;
use super::limits::invalid;
use super::{Batch, FileObject, JobError, JobService, NewBatch, NewFile, Page, QueueLimits};
use crate::batch::{BatchRequestOutput, name_of};

/// In the metadata of a batch: the batch whose failed rows it tries again.
pub const RETRY_OF: &str = "retry_of";

impl JobService {
    /// Rows of a batch's error file, from the one with this number on (from 0). A batch without an error file has none.
    ///
    /// # Errors
    /// [`JobError::NotFound`]; [`JobError::Store`]; [`JobError::Files`], also if a row cannot be read.
    pub async fn failed_rows(
        &self,
        owner: &str,
        id: &str,
        (first, limit): (usize, usize),
    ) -> Result<Page<BatchRequestOutput>, JobError> {
        let Some(errors) = self.batch(owner, id).await?.error_file_id else {
            return Ok(Page { data: Vec::new(), has_more: false });
        };
        let mut lines = Lines::new(self.content(owner, &errors, None).await?.content);
        let mut data = Vec::new();
        let mut number = 0;
        while let Some(line) = lines.next().await? {
            if data.len() == limit {
                return Ok(Page { data, has_more: true });
            }
            if number >= first {
                data.push(read_row(line, &errors)?);
            }
            number += 1;
        }
        Ok(Page { data, has_more: false })
    }

    /// Creates a batch of the requests in a batch's error file, those that were never begun included: the same endpoint, window,
    /// priority and receiver. Its metadata says under [`RETRY_OF`] which batch it is. Its input is a new file.
    ///
    /// # Errors
    /// [`JobError::InvalidStatus`] if the batch has not ended; [`JobError::InvalidParameter`] if nothing in it failed;
    /// [`JobError::NotFound`] also if the input file is gone; others as of [`create_batch`](Self::create_batch).
    pub async fn retry_failed(&self, owner: &str, id: &str) -> Result<Batch, JobError> {
        self.retry_failed_within(QueueLimits::default(), owner, id).await
    }

    /// As [`retry_failed`](Self::retry_failed), for a caller who has limits besides [`ServiceOptions::queue`](super::ServiceOptions::queue).
    ///
    /// # Errors
    /// As [`retry_failed`](Self::retry_failed).
    pub async fn retry_failed_within(&self, limits: QueueLimits, owner: &str, id: &str) -> Result<Batch, JobError> {
        let batch = self.batch(owner, id).await?;
        if !batch.status.is_terminal() {
            return Err(JobError::InvalidStatus { id: batch.id, status: batch.status.as_str(), wanted: "retried" });
        }
        let Some(errors) = &batch.error_file_id else {
            return Err(invalid("batch_id", format!("no request of {id} failed")));
        };
        let names = self.failed_names(owner, errors).await?;
        let input = self.retry_input(&batch, names).await?;
        let mut new = NewBatch::new(&input.id, batch.endpoint);
        new.completion_window = batch.completion_window;
        new.metadata = batch.metadata;
        new.metadata.insert(RETRY_OF.to_owned(), id.to_owned());
        new.priority = batch.priority;
        new.output_expires_after = batch.output_expires_after;
        new.webhook = batch.webhook;
        new.owner = batch.owner;
        match self.create_batch_within(limits, new).await {
            Err(error) => {
                // Nobody asked for this file; if it stays, its owner sees it in the list.
                let _ = self.forget_file(&input.id).await;
                Err(error)
            }
            created => created,
        }
    }

    async fn failed_names(&self, owner: &str, errors: &str) -> Result<HashSet<String>, JobError> {
        let mut lines = Lines::new(self.content(owner, errors, None).await?.content);
        let mut names = HashSet::new();
        while let Some(line) = lines.next().await? {
            names.extend(name_of(line));
        }
        Ok(names)
    }

    /// The lines with these names, as a new file.
    async fn retry_input(&self, batch: &Batch, names: HashSet<String>) -> Result<FileObject, JobError> {
        let found = self.content(&batch.owner, &batch.input_file_id, None).await?;
        let new = NewFile {
            filename: format!("{}_retry.jsonl", batch.id),
            owner: batch.owner.clone(),
            ..NewFile::for_batch()
        };
        self.create_file(new, lines_with(Lines::new(found.content), names)).await
    }
}

fn lines_with(lines: Lines, names: HashSet<String>) -> impl Stream<Item = Result<Bytes, JobError>> + Send {
    try_unfold((lines, names), |(mut lines, names)| async move {
        while let Some(line) = lines.next().await? {
            if name_of(line).is_some_and(|name| names.contains(&name)) {
                let line = Bytes::from([line, b"\n"].concat());
                return Ok(Some((line, (lines, names))));
            }
        }
        Ok(None)
    })
}

fn read_row(line: &[u8], file: &str) -> Result<BatchRequestOutput, JobError> {
    serde_json::from_slice(line).map_err(|error| JobError::Files {
        action: "read a row of",
        path: file.to_owned(),
        message: error.to_string(),
    })
}
