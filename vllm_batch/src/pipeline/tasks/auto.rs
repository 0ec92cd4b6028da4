//! Which batches are taken over by themselves?

use std::time::Duration;

use super::import::{BatchFiles, ImportReport};
use super::{Result, TaskStore, TaskStoreError};
use crate::batch::CancellationToken;
use crate::curate::{RegistryError, SchemaRef};
use crate::jobs::{Batch, BatchQuery, ByteStream, FileKey, JobError, JobService, Order};

/// The key of a batch's metadata that names the schema by which its answers are taken over, as `id` or `id@version`.
pub const CURATION_SCHEMA: &str = "curation_schema";
/// Batches that are looked at in one go.
const PAGE: usize = 100;

impl TaskStore {
    /// As [`import_batch`](Self::import_batch), with the files of the batch from where the jobs have them.
    ///
    /// # Errors
    /// As [`import_batch`](Self::import_batch).
    pub async fn import_from(&self, jobs: &JobService, batch: &Batch, schema: &SchemaRef) -> Result<ImportReport> {
        let files = BatchFiles {
            input: content(jobs, Some(&batch.input_file_id)).await?,
            output: content(jobs, batch.output_file_id.as_deref()).await?,
            errors: content(jobs, batch.error_file_id.as_deref()).await?,
        };
        self.import_batch(batch, schema, files, jobs.now()).await
    }
}

/// A file of a batch, if there is one, and it was not deleted.
async fn content(jobs: &JobService, id: Option<&str>) -> Result<Option<ByteStream>> {
    let Some(id) = id else { return Ok(None) };
    if jobs.store().file(id).await?.is_none() {
        return Ok(None);
    }
    Ok(Some(jobs.files_store().get(&FileKey::of_file(id)?).await?))
}

/// Takes over the answers of batches that ask for it: those with [`CURATION_SCHEMA`] in their metadata, once they have ended. What
/// was taken over is noted in the database, so that it does not matter how often, where and in how many processes this runs.
#[derive(Debug)]
pub struct AutoImport {
    tasks: TaskStore,
    jobs: JobService,
    /// All batches up to this one have ended, and those that ask for it were taken over.
    done: Option<String>,
}

impl AutoImport {
    /// From these jobs, into these tasks.
    pub fn new(tasks: TaskStore, jobs: JobService) -> Self {
        Self { tasks, jobs, done: None }
    }

    /// Looks for batches again and again, until `shutdown` is cancelled. What fails because something cannot be reached is tried the
    /// next time.
    pub async fn run(mut self, interval: Duration, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            if let Err(error) = self.run_once().await {
                tracing::warn!(%error, "answers of batches wait to be taken over");
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(interval) => {}
            }
        }
    }

    /// Looks through the batches once, and gives a report of each that was taken over or cannot be. One that cannot be taken over now,
    /// since a file of it cannot be read say, has a report that is not kept: it is tried again the next time, and others do not wait for it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn run_once(&mut self) -> Result<Vec<ImportReport>> {
        let mut reports = Vec::new();
        let mut query = BatchQuery {
            owner: None,
            status: Vec::new(),
            after: self.done.clone(),
            limit: PAGE,
            order: Order::Ascending,
        };
        let mut all_done = true;
        loop {
            let page = match self.jobs.batches(&query).await {
                // The batch where it stopped was forgotten.
                Err(JobError::NotFound { .. }) if query.after.is_some() => {
                    (query.after, self.done) = (None, None);
                    continue;
                }
                page => page?,
            };
            for batch in &page.data {
                let is_done = batch.status.is_terminal() && self.take(batch, &mut reports).await?;
                all_done &= is_done;
                if all_done {
                    self.done = Some(batch.id.clone());
                }
            }
            query.after = page.data.last().map(|batch| batch.id.clone()).or(query.after);
            if !page.has_more {
                return Ok(reports);
            }
        }
    }

    /// Takes a batch over that asks for it and was not before. False if it is to be tried again.
    async fn take(&self, batch: &Batch, reports: &mut Vec<ImportReport>) -> Result<bool> {
        let Some(wanted) = batch.metadata.get(CURATION_SCHEMA) else { return Ok(true) };
        match self.try_take(batch, wanted).await {
            Ok(report) => {
                reports.extend(report);
                Ok(true)
            }
            Err(TaskStoreError::Job(error @ JobError::Store { .. })) => Err(error.into()),
            Err(error) => {
                tracing::warn!(batch = batch.id, schema = wanted, %error, "answers wait to be taken over");
                reports.push(ImportReport::failed(batch, wanted, &error));
                Ok(false)
            }
        }
    }

    async fn try_take(&self, batch: &Batch, wanted: &str) -> Result<Option<ImportReport>> {
        let id = wanted.split_once('@').map_or(wanted, |(id, _)| id);
        if self.tasks.import_report(&batch.id, id).await?.is_some() {
            return Ok(None);
        }
        let schema = match self.tasks.find_schema(wanted).await {
            Ok(schema) => schema.schema().reference(),
            // It is noted, so that nobody tries again and again.
            Err(
                error @ (TaskStoreError::InvalidParameter { .. }
                | TaskStoreError::Registry(RegistryError::UnknownSchema { .. })),
            ) => {
                let report = ImportReport::failed(batch, wanted, &error);
                self.tasks.finish_import(&report, id, self.jobs.now()).await?;
                tracing::warn!(batch = batch.id, schema = wanted, error = report.error, "answers are not taken over");
                return Ok(Some(report));
            }
            Err(error) => return Err(error),
        };
        let report = self.tasks.import_from(&self.jobs, batch, &schema).await?;
        tracing::info!(
            batch = batch.id,
            schema = report.schema,
            suggested = report.suggested,
            "answers were taken over"
        );
        Ok(Some(report))
    }
}

impl ImportReport {
    fn failed(batch: &Batch, schema: &str, error: &TaskStoreError) -> Self {
        let (batch_id, schema, error) = (batch.id.clone(), schema.to_owned(), Some(error.to_string()));
        Self { batch_id, schema, error, ..Self::default() }
    }
}
