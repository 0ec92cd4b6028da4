//! What comes of a task that has ended.

use serde_json::json;

use super::job::Job;
use super::lease::push_progress;
use super::{Database, Fault, Statement, integer};
use super::{files, workers};
use crate::jobs::{
    BatchStatus, BatchUsage, ChunkProgress, FileObject, JobError, Lease, NewChunk, RequestCounts, TaskKind, TaskOutcome,
};

/// Ends the task of a lease. False if the lease was lost.
pub(super) async fn finish(database: &Database, lease: &Lease, outcome: &TaskOutcome, now: i64) -> Result<bool, Fault> {
    let Some(mut job) = Job::lock(database, &lease.batch.id).await? else { return Ok(false) };
    let select = "SELECT is_held, num_released FROM job_tasks WHERE id = $1 AND attempt = $2 AND worker = $3";
    let held = Statement::new(select)
        // The lease may be over, and another worker about to take the task.
        .push(database.dialect().for_update())
        .bind(lease.task.id.0)
        .bind(lease.task.attempt)
        .bind(&lease.worker)
        .row(&mut job.tx)
        .await?;
    let Some(row) = held else { return Ok(false) };
    if integer(&row, "is_held")? == 0 {
        return Ok(true);
    }
    let tries = lease.task.attempt - integer(&row, "num_released")?;
    End { job: &mut job, lease, now, tries }.apply(outcome).await?;
    workers::renew(&mut job.tx, &lease.worker, None, now).await?;
    job.commit().await?;
    Ok(true)
}

/// A held task that ends.
struct End<'a> {
    job: &'a mut Job,
    lease: &'a Lease,
    now: i64,
    /// How often it was tried, this time included.
    tries: i64,
}

impl End<'_> {
    async fn apply(&mut self, outcome: &TaskOutcome) -> Result<(), Fault> {
        match (&self.lease.task.kind, outcome) {
            (TaskKind::Validate, TaskOutcome::Validated { model, chunks }) => self.validated(model, chunks).await,
            (TaskKind::Validate, TaskOutcome::Refused { errors }) => {
                self.close().await?;
                self.job.batch.errors.clone_from(errors);
                self.job.end(BatchStatus::Failed, self.now).await
            }
            (TaskKind::Run(_), TaskOutcome::Ran { progress, location }) => self.ran(progress, location).await,
            (TaskKind::Finalize, TaskOutcome::Finalized { output, errors, counts, usage }) => {
                self.finalized([output, errors], *counts, *usage).await
            }
            (_, TaskOutcome::Failed { message, retry_at, max_attempts }) => {
                if self.tries < *max_attempts && !self.is_left_over() {
                    self.leave(*retry_at, 0).await
                } else {
                    self.failed(message).await
                }
            }
            (_, TaskOutcome::Released) => self.leave(self.now, 1).await,
            _ => Err(JobError::InvalidParameter {
                param: "outcome",
                message: format!("a task {:?} does not end so", self.lease.task.kind),
            }
            .into()),
        }
    }

    async fn validated(&mut self, model: &str, chunks: &[NewChunk]) -> Result<(), Fault> {
        self.close().await?;
        let batch = &mut self.job.batch;
        batch.model = Some(model.to_owned());
        batch.request_counts.total = chunks.iter().map(|chunk| chunk.num_requests).sum();
        if batch.ends_early_as().is_none() {
            batch.advance(BatchStatus::InProgress, self.now)?;
        }
        self.job.add_chunks(chunks, self.now).await?;
        if !self.job.finalize_if_done(self.now).await? {
            self.job.save().await?;
        }
        Ok(())
    }

    async fn ran(&mut self, progress: &ChunkProgress, location: &str) -> Result<(), Fault> {
        let statement =
            Statement::new("UPDATE job_tasks SET is_open = 0, is_held = 0, location = ").push_value(location);
        let statement = push_progress(statement, progress).push(" WHERE id = ").push_value(self.lease.task.id.0);
        statement.execute(&mut self.job.tx).await?;
        self.job.finalize_if_done(self.now).await?;
        Ok(())
    }

    async fn finalized(
        &mut self,
        [output, errors]: [&Option<FileObject>; 2],
        counts: RequestCounts,
        usage: BatchUsage,
    ) -> Result<(), Fault> {
        self.close().await?;
        for file in [output, errors].into_iter().flatten() {
            files::add(&mut self.job.tx, file).await?;
        }
        let id = |file: &Option<FileObject>| file.as_ref().map(|file| file.id.clone());
        let batch = &mut self.job.batch;
        (batch.output_file_id, batch.error_file_id) = (id(output), id(errors));
        (batch.request_counts, batch.usage) = (counts, usage);
        let status = batch.ends_early_as().unwrap_or(BatchStatus::Completed);
        self.job.end(status, self.now).await
    }

    /// A chunk of a batch that ends early.
    fn is_left_over(&self) -> bool {
        matches!(self.lease.task.kind, TaskKind::Run(_)) && self.job.batch.ends_early_as().is_some()
    }

    async fn failed(&mut self, message: &str) -> Result<(), Fault> {
        self.close().await?;
        if self.is_left_over() {
            self.job.finalize_if_done(self.now).await?;
            return Ok(());
        }
        self.job.batch.errors.push(json!({"code": "server_error", "message": message, "param": null, "line": null}));
        match self.lease.task.kind {
            TaskKind::Run(_) => self.job.end_early(self.now).await,
            TaskKind::Validate | TaskKind::Finalize => {
                self.job.count().await?;
                self.job.end(BatchStatus::Failed, self.now).await
            }
        }
    }

    /// The task is done.
    async fn close(&mut self) -> Result<(), Fault> {
        let update = "UPDATE job_tasks SET is_open = 0, is_held = 0 WHERE id = $1";
        Statement::new(update).bind(self.lease.task.id.0).execute(&mut self.job.tx).await?;
        Ok(())
    }

    /// The task is for the next one.
    async fn leave(&mut self, due_at: i64, num_released: i64) -> Result<(), Fault> {
        let update = "UPDATE job_tasks SET is_held = 0, due_at = $1, num_released = num_released + $2 WHERE id = $3";
        let statement = Statement::new(update).bind(due_at).bind(num_released).bind(self.lease.task.id.0);
        statement.execute(&mut self.job.tx).await?;
        Ok(())
    }
}
