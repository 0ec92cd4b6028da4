//! How do tasks get to a newer version of their schema?

use serde::Serialize;

use super::query::TaskQuery;
use super::stats::PAGE;
use super::stored::ReviewTask;
use super::{Result, Stop, TaskStore, TaskStoreError};
use crate::curate::{FieldError, RecordsReport, RegistryError, SchemaRef};
use crate::pipeline::{Rejection, Stage};

/// What became of tasks that went on to a newer version.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TaskMigrations {
    /// Tasks that are of the new version now.
    pub migrated: u64,
    /// Tasks that were left as they were, since their fields do not fit the new version. `line` is always 0.
    pub unfit: Vec<Rejection>,
    /// What became of answers that are not as they were.
    pub answers: RecordsReport,
}

impl TaskStore {
    /// Makes all tasks of older versions of a schema those of a newer one, each in a transaction of its own, after the schema's
    /// [migrations](crate::curate::Migration). The same call goes on after a crash.
    ///
    /// # Errors
    /// The schema is unknown; [`RegistryError::Backwards`] if there is a task of a newer version. Tasks before it were migrated.
    pub async fn migrate(&self, to: &SchemaRef, now: i64) -> Result<TaskMigrations> {
        self.schema(to).await?;
        let mut report = TaskMigrations::default();
        let mut query = TaskQuery::of_schema(to.id.as_str(), PAGE);
        loop {
            let page = self.tasks(&query).await?;
            query.after = page.data.last().map(|task| task.id.clone());
            for task in page.data.into_iter().filter(|task| task.schema != *to) {
                self.migrate_one(&task, to, now, &mut report).await?;
            }
            if !page.has_more {
                return Ok(report);
            }
        }
    }

    async fn migrate_one(
        &self,
        task: &ReviewTask,
        to: &SchemaRef,
        now: i64,
        report: &mut TaskMigrations,
    ) -> Result<()> {
        let (registry, old, schema) = (self.schemas(), self.known_schema(&task.schema)?, self.known_schema(to)?);
        let done = self
            .transaction(|| async {
                let mut tx = self.database.begin().await?;
                let row = self.locked(&mut tx, &task.id).await?;
                if row.schema != task.schema {
                    // Another call was faster.
                    return Ok(Ok(None));
                }
                let mut task = row.open(&old)?;
                if let Some(error) = schema.check_record(&task.record).into_iter().find(FieldError::is_fatal) {
                    return Ok(Err((task.record.id, error)));
                }
                let from = task.schema.version.clone();
                let migrated = registry.migrate_records(std::slice::from_mut(&mut task.record), &from, to);
                let answers = migrated.map_err(|error: RegistryError| Stop::Refused(TaskStoreError::from(error)))?;
                task.save(&mut tx, &schema, now).await?;
                tx.commit().await?;
                Ok(Ok(Some(answers)))
            })
            .await?;
        match done {
            Ok(None) => {}
            Ok(Some(answers)) => {
                report.migrated += 1;
                report.answers.num_records += answers.num_records;
                report.answers.migrated.extend(answers.migrated);
            }
            Err((record, error)) => report.unfit.push(Rejection {
                line: 0,
                id: Some(record),
                stage: Stage::Read,
                code: error.code().to_owned(),
                message: error.to_string(),
            }),
        }
        Ok(())
    }
}
