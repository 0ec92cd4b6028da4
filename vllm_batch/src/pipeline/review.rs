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
        let mut failure = None;
        let records = self.suggested()?.map_while(|record| record.map_err(|error| failure = Some(error)).ok());
        let report = server.import_records(project, self.schema(), records, &options)?;
        failure.map_or(Ok(report), Err)
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
        let mut originals = Originals::default();
        for record in self.usable_records()? {
            originals.add(self.schema(), record?);
        }
        let count = server.harvest(project, self.schema(), filter, |mut harvest| {
            originals.restore(&mut harvest);
            receive(harvest);
        })?;
        Ok(count)
    }
}

/// What a review server does not get of records, or does not give back: the values of fields that are about a person, and
/// metadata.
#[derive(Debug, Clone, Default)]
pub struct Originals(HashMap<String, Original>);

#[derive(Debug, Clone)]
struct Original {
    /// Those that are about a person.
    fields: Map<String, Value>,
    metadata: Map<String, Value>,
}

impl Originals {
    /// Remembers this of a record.
    pub fn add(&mut self, schema: &CompiledSchema, record: Record) {
        let is_kept =
            |id: &str| schema.schema().field(id).is_some_and(|field| matches!(field.pii, Pii::Mask | Pii::Drop));
        let Record { id, mut fields, metadata, .. } = record;
        fields.retain(|id, _| is_kept(id));
        self.0.insert(id, Original { fields, metadata });
    }

    /// Puts it back into what people said about the record, if there is one of its name.
    ///
    /// # Example
    /// ```no_run
    /// use vllm_batch::curate::{Record, SchemaRegistry};
    /// use vllm_batch::pipeline::Originals;
    /// use vllm_batch::pipeline::label_studio::{ExportFilter, LabelStudio};
    ///
    /// let schema = SchemaRegistry::builtin().get("cv_parsing").expect("it is built in");
    /// let server = LabelStudio::builder("http://127.0.0.1:8080", "token").build()?;
    /// let mut originals = Originals::default();
    /// originals.add(&schema, Record::new("cv-1").with_field("resume_text", "Ann, eight years of Rust"));
    /// server.harvest(1, &schema, ExportFilter::Annotated, |mut harvest| originals.restore(&mut harvest))?;
    /// # Ok::<(), vllm_batch::pipeline::label_studio::LabelStudioError>(())
    /// ```
    pub fn restore(&self, harvest: &mut Harvest) {
        let Some(Original { fields, metadata }) = self.0.get(&harvest.record.id) else { return };
        restore(harvest, fields);
        for (key, value) in metadata {
            harvest.record.metadata.entry(key).or_insert_with(|| value.clone());
        }
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
    /// Brings records with what models said into a project, each once: what is there is known from the options' cursor, or looked
    /// for. After an error or a crash, the same call goes on.
    ///
    /// # Errors
    /// As [`import`](Self::import).
    pub fn import_records(
        &self,
        project: u64,
        schema: &CompiledSchema,
        records: impl IntoIterator<Item = Record>,
        options: &ImportOptions,
    ) -> Result<ReviewReport, LabelStudioError> {
        let mut rejected = Vec::new();
        let tasks = records.into_iter().filter_map(|record| match task(schema, &record, &TaskOptions::default()) {
            Ok(task) => Some(task),
            Err(error) => {
                rejected.push(RejectedRecord { id: record.id, error });
                None
            }
        });
        let import = self.import(project, tasks, options)?;
        Ok(ReviewReport { import, rejected })
    }

    /// Reads what people said in a project, task by task. Says how many tasks there were. Records lack the fields that are about a
    /// person and did not go there: [`Originals`] puts them back.
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
