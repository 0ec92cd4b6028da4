//! How do suggestions get onto a review server, and answers back?

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::label_studio::{ExportFilter, ImportOptions, ImportReport, LabelStudio, LabelStudioError};
use super::{CurationError, CurationPipeline};
use crate::curate::label_studio::{Harvest, TaskError, TaskOptions, harvest, task};
use crate::curate::{CompiledSchema, Pii, Record};

/// What became of records that were brought to a review server.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReviewReport {
    /// What the server took.
    pub import: ImportReport,
    /// Records that cannot be shown there, with the reasons.
    pub rejected: Vec<RejectedRecord>,
}

/// A record that cannot be shown on a review page.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RejectedRecord {
    /// The record.
    pub id: String,
    /// Why not.
    pub error: TaskError,
}

impl CurationPipeline<'_> {
    /// Brings the suggestions of a [`run`](Self::run) into a project, each record once: what is there is known from the cursor,
    /// by default `import-PROJECT.jsonl` in the pipeline's folder, or looked for. After an error or a crash, the same call goes
    /// on.
    ///
    /// # Errors
    /// [`CurationError::Io`], [`CurationError::LabelStudio`].
    pub fn import_into(
        &self,
        server: &LabelStudio,
        project: u64,
        options: &ImportOptions,
    ) -> Result<ReviewReport, CurationError> {
        let mut options = options.clone();
        let own = self.work_folder()?.join(format!("import-{project}.jsonl"));
        options.cursor.get_or_insert(own);
        let (mut rejected, mut failure) = (Vec::new(), None);
        let tasks = self.suggested()?.map_while(|record| record.map_err(|error| failure = Some(error)).ok());
        let tasks = tasks.filter_map(|record| match task(self.schema(), &record, &TaskOptions::default()) {
            Ok(task) => Some(task),
            Err(error) => {
                rejected.push(RejectedRecord { id: record.id, error });
                None
            }
        });
        let import = server.import(project, tasks, &options)?;
        failure.map_or(Ok(ReviewReport { import, rejected }), Err)
    }

    /// Reads what people said in a project about the pipeline's records, task by task, and puts back what did not go there: the
    /// values of fields that are about a person, and the records' metadata. Says how many tasks there were.
    ///
    /// # Errors
    /// [`CurationError::Io`], [`CurationError::LabelStudio`].
    pub fn harvest_from(
        &self,
        server: &LabelStudio,
        project: u64,
        filter: ExportFilter,
        mut receive: impl FnMut(Harvest),
    ) -> Result<usize, CurationError> {
        let schema = self.schema();
        let is_kept =
            |id: &str| schema.schema().field(id).is_some_and(|field| matches!(field.pii, Pii::Mask | Pii::Drop));
        let mut own = HashMap::new();
        for record in self.usable_records()? {
            let Record { id, mut fields, metadata, .. } = record?;
            fields.retain(|id, _| is_kept(id));
            own.insert(id, (fields, metadata));
        }
        let count = server.harvest(project, schema, filter, |mut harvest| {
            if let Some((fields, metadata)) = own.get(&harvest.record.id) {
                restore(&mut harvest, fields);
                for (key, value) in metadata {
                    harvest.record.metadata.entry(key).or_insert_with(|| value.clone());
                }
            }
            receive(harvest);
        })?;
        Ok(count)
    }
}

/// Puts back the fields that a review server does not have.
pub(super) fn restore(harvest: &mut Harvest, fields: &Map<String, Value>) {
    let record = &mut harvest.record.fields;
    harvest.withheld.retain(|id| match fields.get(id.as_str()) {
        Some(value) => {
            record.insert(id.to_string(), value.clone());
            false
        }
        None => true,
    });
}

impl LabelStudio {
    /// Reads what people said in a project, task by task. Says how many tasks there were. Records lack the fields that are about a
    /// person and did not go there: [`CurationPipeline::harvest_from`] puts them back.
    ///
    /// # Errors
    /// As [`export`](Self::export).
    pub fn harvest(
        &self,
        project: u64,
        schema: &CompiledSchema,
        filter: ExportFilter,
        mut receive: impl FnMut(Harvest),
    ) -> Result<usize, LabelStudioError> {
        self.export(project, filter, |task: Value| receive(harvest(schema, &task)))
    }
}
