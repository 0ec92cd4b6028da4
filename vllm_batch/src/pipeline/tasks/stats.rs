//! How far is the review, and how much do people agree?

use serde::Serialize;

use super::{Result, Stop, TaskStore};
use crate::curate::agreement::{AgreementOptions, AgreementReport, agreement};
use crate::curate::{Record, SchemaRef};
use crate::jobs::JobError;
use crate::jobs::sql::{Statement, integer, text};

/// Tasks that are read at once.
pub(super) const PAGE: usize = 200;

/// How far the review of a schema's records is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TaskStats {
    /// Records.
    pub total: u64,
    /// Those that nobody has answered.
    pub pending: u64,
    /// Those that somebody has.
    pub annotated: u64,
    /// Those that are gold.
    pub gold: u64,
    /// The mean agreement of those that two or more people have answered, from 0 to 1; absent if there are none.
    pub mean_agreement: Option<f64>,
    /// What each person has done, by name.
    pub annotators: Vec<AnnotatorStats>,
}

/// What a person has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AnnotatorStats {
    /// Who.
    pub annotator: String,
    /// Records with answers that were handed in.
    pub submitted: u64,
    /// Records with drafts.
    pub drafts: u64,
    /// Records that they did not want to answer.
    pub discarded: u64,
}

impl TaskStore {
    /// How far the review is: of a schema, in one version of it or in all.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn stats(&self, schema_id: &str, version: Option<&str>) -> Result<TaskStats> {
        self.transaction(|| async {
            let mut connection = self.database.read().await?;
            let mut stats = TaskStats::default();
            let all = "SELECT COUNT(*) AS total, CAST(COALESCE(SUM(CASE WHEN num_submitted > 0 THEN 1 ELSE 0 END), 0) AS BIGINT) \
                       AS annotated, CAST(COALESCE(SUM(is_gold), 0) AS BIGINT) AS gold, \
                       CAST(COALESCE(AVG(CASE WHEN agreement >= 0 THEN agreement END), -1) AS DOUBLE PRECISION) AS agreement \
                       FROM curation_tasks t";
            if let Some(row) = of_schema(all, schema_id, version).row(&mut connection).await? {
                stats.total = integer(&row, "total")? as u64;
                stats.annotated = integer(&row, "annotated")? as u64;
                stats.gold = integer(&row, "gold")? as u64;
                stats.pending = stats.total - stats.annotated;
                let mean: f64 = sqlx::Row::try_get(&row, "agreement")?;
                stats.mean_agreement = (mean >= 0.0).then_some(mean);
            }
            let people = "SELECT p.annotator AS annotator, p.status AS status, COUNT(*) AS n FROM curation_tasks t \
                          JOIN curation_people p ON p.task_id = t.id AND p.status <> 'claimed'";
            let people = of_schema(people, schema_id, version).push(" GROUP BY p.annotator, p.status ORDER BY p.annotator");
            for row in people.rows(&mut connection).await? {
                stats.count(text(&row, "annotator")?, &text(&row, "status")?, integer(&row, "n")? as u64);
            }
            Ok::<_, Stop>(stats)
        })
        .await
    }

    /// How much people and models agree, over all records of one version of a schema. Only answers are held in memory, none of the fields.
    ///
    /// # Errors
    /// The schema is unknown, or the database does not answer.
    pub async fn agreement(&self, schema: &SchemaRef, options: &AgreementOptions) -> Result<AgreementReport> {
        let compiled = self.schema(schema).await?;
        let mut records = Vec::new();
        let mut pages = self.pages(schema);
        while let Some(tasks) = pages.recv().await {
            records.extend(tasks?.into_iter().map(|task| without_fields(task.record)));
        }
        let options = options.clone();
        // Intervals of many records take seconds.
        blocking(move || agreement(compiled.schema(), &records, &options)).await
    }
}

/// Does what takes long on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let failed = |error: tokio::task::JoinError| JobError::Store { message: error.to_string(), is_transient: false };
    Ok(tokio::task::spawn_blocking(work).await.map_err(failed)?)
}

fn without_fields(record: Record) -> Record {
    let mut answers = Record::new(record.id);
    (answers.suggestions, answers.responses) = (record.suggestions, record.responses);
    answers
}

fn of_schema(select: &str, schema_id: &str, version: Option<&str>) -> Statement {
    let select = Statement::new(select).push(" WHERE t.schema_id = ").push_value(schema_id);
    match version {
        Some(version) => select.push(" AND t.schema_version = ").push_value(version),
        None => select,
    }
}

impl TaskStats {
    fn count(&mut self, annotator: String, status: &str, number: u64) {
        if self.annotators.last().is_none_or(|last| last.annotator != annotator) {
            self.annotators.push(AnnotatorStats { annotator, submitted: 0, drafts: 0, discarded: 0 });
        }
        if let Some(person) = self.annotators.last_mut() {
            match status {
                "submitted" => person.submitted = number,
                "draft" => person.drafts = number,
                _ => person.discarded = number,
            }
        }
    }
}
