//! A batch that is being changed: locked, so that changes of one batch come one after the other.

use sqlx::AnyConnection;

use super::deliveries;
use super::{Database, Fault, Statement, Tx, document, integer, text, to_document};
use crate::jobs::{Batch, BatchStatus, BatchUsage, Delivery, NewChunk, RequestCounts, WebhookEvent};

/// Whether something is left to do for a batch.
pub(super) const OPEN_TASK: &str = "SELECT id FROM job_tasks WHERE batch_id = $1 AND is_open = 1 LIMIT 1";

/// Rows of one `INSERT`: both databases allow more values than these have.
const ROWS_AT_ONCE: usize = 1000;

/// A batch and the transaction that holds it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) tx: Tx,
    pub(super) batch: Batch,
    seq: i64,
}

impl Job {
    /// Locks a batch. `None` if there is none of this id.
    pub(super) async fn lock(database: &Database, id: &str) -> Result<Option<Self>, Fault> {
        let mut tx = database.begin().await?;
        let select = format!("SELECT seq, document FROM job_batches WHERE id = $1{}", database.dialect().for_update());
        let Some(row) = Statement::new(&select).bind(id).row(&mut tx).await? else { return Ok(None) };
        Ok(Some(Self { tx, batch: document(&row, "document")?, seq: integer(&row, "seq")? }))
    }

    /// Adds a batch, with a task to validate it.
    pub(super) async fn add(tx: Tx, batch: &Batch) -> Result<Self, Fault> {
        let mut job = Self { tx, batch: batch.clone(), seq: 0 };
        let insert = "INSERT INTO job_batches \
                      (id, owner, input_file_id, status, priority, expires_at, version, document) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING seq";
        let row = Statement::new(insert)
            .bind(&batch.id)
            .bind(&batch.owner)
            .bind(&batch.input_file_id)
            .bind(batch.status.as_str())
            .bind(i64::from(batch.priority))
            .bind(expiry(batch))
            .bind(batch.version)
            .bind(to_document(batch)?)
            .row(&mut job.tx)
            .await
            .map_err(|error| super::files::taken_if_duplicate(error, &batch.id))?;
        job.seq = row.map_or(Err(sqlx::Error::RowNotFound), |row| integer(&row, "seq"))?;
        job.add_task("validate", batch.created_at).await?;
        Ok(job)
    }

    /// Ends the transaction.
    pub(super) async fn commit(self) -> Result<Batch, Fault> {
        self.tx.commit().await?;
        Ok(self.batch)
    }

    /// Stores the batch as the next version of what it was.
    pub(super) async fn save(&mut self) -> Result<(), Fault> {
        let version = self.batch.version;
        self.batch.version += 1;
        let update = "UPDATE job_batches SET status = $1, priority = $2, expires_at = $3, ended_at = $4, version = $5, \
                      document = $6 WHERE id = $7 AND version = $8";
        let changed = Statement::new(update)
            .bind(self.batch.status.as_str())
            .bind(i64::from(self.batch.priority))
            .bind(expiry(&self.batch))
            .bind(ended_at(&self.batch))
            .bind(self.batch.version)
            .bind(to_document(&self.batch)?)
            .bind(&self.batch.id)
            .bind(version)
            .execute(&mut self.tx)
            .await?;
        if changed == 1 { Ok(()) } else { Err(Fault::Conflict) }
    }

    /// Ends the batch, and tells its receiver. All its tasks are done.
    pub(super) async fn end(&mut self, status: BatchStatus, now: i64) -> Result<(), Fault> {
        self.batch.advance(status, now)?;
        self.save().await?;
        let message = WebhookEvent::of_status(status).and_then(|event| Delivery::of(&self.batch, event, now));
        match message {
            Some(message) => deliveries::insert(&mut self.tx, &message).await,
            None => Ok(()),
        }
    }

    /// Makes nothing begin any more. The batch says already why.
    pub(super) async fn end_early(&mut self, now: i64) -> Result<(), Fault> {
        let drop =
            "UPDATE job_tasks SET is_open = 0 WHERE batch_id = $1 AND is_open = 1 AND kind = 'run' AND attempt = 0";
        Statement::new(drop).bind(&self.batch.id).execute(&mut self.tx).await?;
        // A chunk that waits for another try waits no longer: all there is to do is to say what is done.
        let hurry =
            "UPDATE job_tasks SET due_at = $1 WHERE batch_id = $2 AND is_open = 1 AND is_held = 0 AND due_at > $1";
        Statement::new(hurry).bind(now).bind(&self.batch.id).execute(&mut self.tx).await?;
        if !self.finalize_if_done(now).await? {
            self.save().await?;
        }
        Ok(())
    }

    /// Adds the task to finalize the batch if no other is left; says whether it did.
    pub(super) async fn finalize_if_done(&mut self, now: i64) -> Result<bool, Fault> {
        if Statement::new(OPEN_TASK).bind(&self.batch.id).row(&mut self.tx).await?.is_some() {
            return Ok(false);
        }
        if self.batch.ends_early_as().is_none() {
            self.batch.advance(BatchStatus::Finalizing, now)?;
        }
        self.add_task("finalize", now).await?;
        self.save().await?;
        Ok(true)
    }

    async fn add_task(&mut self, kind: &str, due_at: i64) -> Result<(), Fault> {
        let insert = "INSERT INTO job_tasks (batch_id, kind, priority, batch_seq, is_open, due_at) VALUES ($1, $2, $3, $4, 1, $5)";
        Statement::new(insert)
            .bind(&self.batch.id)
            .bind(kind)
            .bind(i64::from(self.batch.priority))
            .bind(self.seq)
            .bind(due_at)
            .execute(&mut self.tx)
            .await?;
        Ok(())
    }

    /// Adds chunks, which begin unless the batch ends early.
    pub(super) async fn add_chunks(&mut self, chunks: &[NewChunk], now: i64) -> Result<(), Fault> {
        let is_open = i64::from(self.batch.ends_early_as().is_none());
        for some in chunks.chunks(ROWS_AT_ONCE) {
            let mut statement = Statement::new(
                "INSERT INTO job_tasks (batch_id, kind, priority, batch_seq, model, is_open, due_at, chunk, document) VALUES ",
            )
            .bind(&self.batch.id)
            .bind(i64::from(self.batch.priority))
            .bind(self.seq)
            .bind(self.batch.model.as_deref())
            .bind(is_open)
            .bind(now);
            for (index, chunk) in some.iter().enumerate() {
                statement = statement
                    .push(if index > 0 { ", " } else { "" })
                    .push("($1, 'run', $2, $3, $4, $5, $6, ")
                    .push_value(chunk.index)
                    .push(", ")
                    .push_value(to_document(chunk)?)
                    .push(")");
            }
            statement.execute(&mut self.tx).await?;
        }
        Ok(())
    }

    /// Sets counts and usage to those of the chunks.
    pub(super) async fn count(&mut self) -> Result<(), Fault> {
        Ok(add_progress(&mut self.tx, std::slice::from_mut(&mut self.batch)).await?)
    }
}

/// Sets counts and usage of those that have not ended to those of their chunks.
pub(super) async fn add_progress(connection: &mut AnyConnection, batches: &mut [Batch]) -> Result<(), sqlx::Error> {
    let open: Vec<String> =
        batches.iter().filter(|batch| !batch.status.is_terminal()).map(|batch| batch.id.clone()).collect();
    if open.is_empty() {
        return Ok(());
    }
    let sums = ["completed", "failed", "input_tokens", "cached_tokens", "output_tokens"]
        .map(|column| format!(", CAST(SUM({column}) AS BIGINT) AS {column}"))
        .concat();
    let select = format!("SELECT batch_id{sums} FROM job_tasks WHERE kind = 'run' AND batch_id IN ");
    let rows = Statement::new(&select).push_list(&open).push(" GROUP BY batch_id").rows(connection).await?;
    for row in rows {
        let id = text(&row, "batch_id")?;
        let number = |column| integer(&row, column).map(|number| number as u64);
        if let Some(batch) = batches.iter_mut().find(|batch| batch.id == id) {
            let total = batch.request_counts.total;
            batch.request_counts = RequestCounts { total, completed: number("completed")?, failed: number("failed")? };
            batch.usage = BatchUsage {
                input_tokens: number("input_tokens")?,
                cached_tokens: number("cached_tokens")?,
                output_tokens: number("output_tokens")?,
            };
        }
    }
    Ok(())
}

/// When the completion window is over, if it still matters.
fn expiry(batch: &Batch) -> Option<i64> {
    let goes_on = matches!(batch.status, BatchStatus::Validating | BatchStatus::InProgress);
    (goes_on && batch.ends_early_as().is_none()).then_some(batch.expires_at)
}

/// When it ended.
fn ended_at(batch: &Batch) -> Option<i64> {
    match batch.status {
        BatchStatus::Completed => batch.completed_at,
        BatchStatus::Failed => batch.failed_at,
        BatchStatus::Cancelled => batch.cancelled_at,
        BatchStatus::Expired => batch.expired_at,
        BatchStatus::Validating | BatchStatus::InProgress | BatchStatus::Finalizing | BatchStatus::Cancelling => None,
    }
}
