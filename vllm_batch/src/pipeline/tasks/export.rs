//! How do reviewed records become training data?

use std::sync::Arc;

use tokio::sync::mpsc;

use super::query::TaskQuery;
use super::stats::PAGE;
use super::stored::ReviewTask;
use super::{Result, TaskStore};
use crate::curate::export::{ExportError, ExportOptions, ExportReport, Exported, Exporter, Split, Splits};
use crate::curate::{CompiledSchema, SchemaRef};

/// Which rows are wanted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TaskExport {
    /// The schema, and its version.
    pub schema: SchemaRef,
    /// The form of the rows, and which answers are the right ones.
    pub options: ExportOptions,
    /// Which records are for validation and for tests; `None`: all are for training.
    pub splits: Option<Splits>,
    /// Only rows of this split.
    pub split: Option<Split>,
    /// Only records on which people agree at least so much, from 0 to 1. Where fewer than two answered, nobody disagrees.
    pub min_agreement: Option<f64>,
}

impl TaskExport {
    /// All records of which the right answers are known.
    pub fn new(schema: SchemaRef, options: ExportOptions) -> Self {
        Self { schema, options, splits: None, split: None, min_agreement: None }
    }
}

/// Rows of training data, page by page. Whoever drops it ends the export.
#[derive(Debug)]
pub struct ExportLines {
    lines: mpsc::Receiver<Result<Vec<u8>>>,
}

impl ExportLines {
    /// The next rows, each with its line end; `None` after the last one.
    ///
    /// # Errors
    /// The database does not answer, or a row cannot be made. Nothing comes after that.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>>> {
        self.lines.recv().await
    }
}

impl TaskStore {
    /// Makes the rows of all records, by the names of the records. A page of them is in memory at a time.
    ///
    /// # Errors
    /// The schema is unknown, or there is nothing to learn from it.
    pub async fn export(&self, export: &TaskExport) -> Result<ExportLines> {
        let schema = self.schema(&export.schema).await?;
        // What is wrong with the options is told before the first row.
        Exporter::new(&schema, export.options.clone())?;
        let pages = self.pages(&export.schema);
        let (sender, lines) = mpsc::channel(4);
        let export = export.clone();
        tokio::task::spawn_blocking(move || export.write(&schema, pages, &sender));
        Ok(ExportLines { lines })
    }

    /// What an export would have: how many rows, and why records give none.
    ///
    /// # Errors
    /// As [`export`](Self::export), and those of [`ExportLines::next`].
    pub async fn export_report(&self, export: &TaskExport) -> Result<ExportReport> {
        let schema = self.schema(&export.schema).await?;
        let pages = self.pages(&export.schema);
        let export = export.clone();
        super::stats::blocking(move || export.count(&schema, pages)).await?
    }

    /// All tasks of one version of a schema, by the names of the records, a page at a time.
    pub(super) fn pages(&self, schema: &SchemaRef) -> Pages {
        let (sender, pages) = mpsc::channel(2);
        tokio::spawn(self.clone().send_pages(schema.clone(), sender));
        pages
    }

    async fn send_pages(self, schema: SchemaRef, pages: mpsc::Sender<Result<Vec<ReviewTask>>>) {
        let mut query = TaskQuery::of_schema(schema.id.as_str(), PAGE);
        query.schema_version = Some(schema.version.to_string());
        loop {
            let (page, has_more) = match self.tasks(&query).await {
                Ok(page) => (Ok(page.data), page.has_more),
                Err(error) => (Err(error), false),
            };
            query.after = page.as_ref().ok().and_then(|tasks| tasks.last()).map(|task| task.id.clone());
            if pages.send(page).await.is_err() || !has_more {
                break;
            }
        }
    }
}

pub(super) type Pages = mpsc::Receiver<Result<Vec<ReviewTask>>>;

impl TaskExport {
    /// Sends the rows of all pages, until there are no more or nobody wants them.
    fn write(&self, schema: &Arc<CompiledSchema>, mut pages: Pages, lines: &mpsc::Sender<Result<Vec<u8>>>) {
        let mut write = || -> Result<()> {
            let mut exporter = Exporter::new(schema, self.options.clone())?;
            while let Some(tasks) = pages.blocking_recv() {
                let mut bytes = Vec::new();
                for task in tasks? {
                    if let Some(Exported::Rows(rows)) = self.rows(&mut exporter, &task)? {
                        for row in rows {
                            let failed = |source| ExportError::Io { path: std::path::PathBuf::new(), source };
                            row.write(self.options.format, &mut bytes).map_err(failed)?;
                        }
                    }
                }
                if !bytes.is_empty() && lines.blocking_send(Ok(bytes)).is_err() {
                    break;
                }
            }
            Ok(())
        };
        if let Err(error) = write() {
            // Whoever is gone does not want to know.
            let _ = lines.blocking_send(Err(error));
        }
    }

    fn count(&self, schema: &Arc<CompiledSchema>, mut pages: Pages) -> Result<ExportReport> {
        let mut report = ExportReport::default();
        let mut exporter = Exporter::new(schema, self.options.clone())?;
        while let Some(tasks) = pages.blocking_recv() {
            for task in tasks? {
                match self.rows(&mut exporter, &task)? {
                    Some(exported) => {
                        report.count(&exported);
                        report.count_conflicts(&exporter.conflicts(&task.record));
                    }
                    None => *report.skipped.entry("not_wanted").or_default() += 1,
                }
            }
        }
        Ok(report)
    }

    /// The rows of a record; `None` if it is not wanted.
    fn rows(&self, exporter: &mut Exporter<'_>, task: &ReviewTask) -> Result<Option<Exported>> {
        let least = self.min_agreement.unwrap_or(0.0);
        let split =
            self.splits.as_ref().map_or(self.options.split, |splits| splits.of(exporter.full_schema(), &task.record));
        let is_other = self.split.is_some_and(|wanted| wanted != split);
        if is_other || task.decision.agreement.is_some_and(|agreement| agreement < least) {
            return Ok(None);
        }
        Ok(Some(exporter.rows_for(&task.record, split)?))
    }
}
