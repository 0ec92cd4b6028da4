//! How do reviewed records get into the project of a new major version?

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::label_studio::{ExportFilter, ImportOptions, ImportReport, LabelStudio, LabelStudioError, Project};
use super::review::restore;
use super::{CurationError, RejectedRecord};
use crate::curate::label_studio::{HarvestError, TaskAnnotations, TaskOptions, harvest, task};
use crate::curate::{CompiledSchema, Record, RecordsReport, ResponseStatus, SchemaRegistry};

/// How records are carried over.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CarryOptions<'a> {
    /// Knows both versions, and the steps between them.
    pub registry: &'a SchemaRegistry,
    /// How the new project gets its tasks.
    pub import: ImportOptions,
    originals: HashMap<String, Map<String, Value>>,
}

impl<'a> CarryOptions<'a> {
    /// With the defaults of an import.
    pub fn new(registry: &'a SchemaRegistry) -> Self {
        Self { registry, import: ImportOptions::default(), originals: HashMap::new() }
    }

    /// Says how the new project gets its tasks.
    #[must_use]
    pub fn with_import(mut self, import: ImportOptions) -> Self {
        self.import = import;
        self
    }

    /// The records as they were before they were brought to the server: it does not have fields that are about a person, and
    /// records that lack a required one cannot be carried over. Without them, records with such fields are rejected.
    #[must_use]
    pub fn with_originals(mut self, records: impl IntoIterator<Item = Record>) -> Self {
        self.originals = records.into_iter().map(|record| (record.id, record.fields)).collect();
        self
    }
}

/// What became of the records of a project.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CarryReport {
    /// What the new project took.
    pub import: ImportReport,
    /// What became of the answers, and which were lost.
    pub migration: RecordsReport,
    /// What the old project has that cannot be read, each with its record.
    pub unreadable: Vec<(String, HarvestError)>,
    /// Records that cannot be tasks of the new version, with the reasons.
    pub rejected: Vec<RejectedRecord>,
    /// Drafts and skipped annotations, which stay behind.
    pub left_behind: usize,
}

impl LabelStudio {
    /// Takes all records of a project, with what models and people said about them, into the project of a newer version of its
    /// schema: answers become those of that version by its migrations, people's answers become annotations, and gold stays
    /// gold. The old project stays as it is. Each record gets there once, however often this is called. All records are in
    /// memory at a time.
    ///
    /// The server does not know the people of annotations that come with tasks: they are the token's owner's.
    ///
    /// # Errors
    /// [`LabelStudioError::SchemaConflict`] if the projects are not of two versions of one schema that the registry has;
    /// [`CurationError::Registry`] if the new version is the older one; and as all calls.
    pub fn carry_over(
        &self,
        from: &Project,
        to: &Project,
        options: &CarryOptions<'_>,
    ) -> Result<CarryReport, CurationError> {
        let (old, new) = (schema_of(from, options.registry)?, schema_of(to, options.registry)?);
        let (old_reference, new_reference) = (old.schema().reference(), new.schema().reference());
        if old_reference.id != new_reference.id {
            return Err(conflict(to, &old_reference.to_string(), "they are two schemas").into());
        }
        let (mut records, mut unreadable) = (Vec::new(), Vec::new());
        self.export(from.id, ExportFilter::All, |task| {
            let mut harvest = harvest(&old, &task);
            unreadable.extend(harvest.errors.iter().map(|error| (harvest.record.id.clone(), error.clone())));
            if let Some(fields) = options.originals.get(&harvest.record.id) {
                restore(&mut harvest, fields);
            }
            records.push(harvest.record);
        })?;
        let migration = options.registry.migrate_records(&mut records, &old_reference.version, &new_reference)?;
        let left = records.iter().flat_map(|record| &record.responses);
        let left_behind = left.filter(|response| response.status != ResponseStatus::Submitted).count();
        let (mut tasks, mut rejected) = (Vec::new(), Vec::new());
        for record in records {
            match task(&new, &record, &TaskOptions::default().with_annotations(TaskAnnotations::All)) {
                Ok(task) => tasks.push(task),
                Err(error) => rejected.push(RejectedRecord { id: record.id, error }),
            }
        }
        let import = self.import(to.id, tasks, &options.import)?;
        Ok(CarryReport { import, migration, unreadable, rejected, left_behind })
    }
}

/// The schema that a project says it has.
fn schema_of(project: &Project, registry: &SchemaRegistry) -> Result<Arc<CompiledSchema>, LabelStudioError> {
    let schema = project.schema.as_ref().and_then(|(id, version)| registry.get_version(id, version));
    let schema = schema.filter(|schema| project.schema_sha256.as_deref() == Some(schema.sha256()));
    schema.ok_or_else(|| conflict(project, "a schema of the registry", "the registry does not have it"))
}

fn conflict(project: &Project, schema: &str, message: &str) -> LabelStudioError {
    let found = project.schema.as_ref();
    let found = found.map_or_else(|| "no schema".to_owned(), |(id, version)| format!("{id}@{version}"));
    let (schema, message) = (schema.to_owned(), message.to_owned());
    LabelStudioError::SchemaConflict { project: project.id, found, schema, message }
}
