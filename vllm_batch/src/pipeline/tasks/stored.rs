//! How is a task kept?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;

use super::TaskStoreError;
use super::error::Stop;
use crate::curate::{
    CompiledSchema, GoldDecision, Record, Response, ResponseJson, ResponseStatus, SchemaRef, SetJson, Strategy,
    SuggestionSet,
};
use crate::jobs::sql::{integer, text};

type Result<T> = std::result::Result<T, TaskStoreError>;

/// A record that waits for people, or that they have answered.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReviewTask {
    /// `task_` and 32 hexadecimal digits, which follow from the names of the schema and of the record.
    pub id: String,
    /// The schema of its answers.
    pub schema: SchemaRef,
    /// The record, with what models and people said, each person once.
    pub record: Record,
    /// What is known about each person's response, by their name.
    pub notes: BTreeMap<String, ResponseNote>,
    /// Who said last that it is gold, or that it is not.
    pub gold_by: Option<String>,
    /// Whether it is gold, and why.
    pub decision: GoldDecision,
    /// How little the latest model is sure, from 0 to 1 ([`Strategy::Uncertainty`]).
    pub uncertainty: f64,
    /// How much models differ, from 0 to 1 ([`Strategy::Disagreement`]).
    pub disagreement: f64,
    /// Counts its changes.
    pub version: i64,
    /// When it was made.
    pub created_at: i64,
    /// When it was changed last.
    pub updated_at: i64,
}

/// What is known about a response besides what it says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ResponseNote {
    /// The version of the task in which it was changed last.
    pub version: i64,
    /// When it was made.
    pub created_at: i64,
    /// When it was changed last.
    pub updated_at: i64,
    /// The annotation of a review server that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalAnnotation>,
}

/// An annotation of a review server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExternalAnnotation {
    /// The server and the annotation's name there, such as `label_studio:7`.
    pub id: String,
    /// When it was changed there, in microseconds of Unix time: what is older does not count any more.
    pub updated_at: i64,
}

/// The document as it is written.
#[derive(Serialize)]
struct Written<'a> {
    fields: &'a Map<String, Value>,
    metadata: &'a Map<String, Value>,
    suggestions: &'a [SuggestionSet],
    responses: &'a [Response],
    notes: &'a BTreeMap<String, ResponseNote>,
    gold: Option<bool>,
    gold_by: Option<&'a str>,
}

/// The document as it is read: answers need their questions.
#[derive(Deserialize)]
struct Read {
    fields: Map<String, Value>,
    metadata: Map<String, Value>,
    suggestions: Vec<SetJson>,
    responses: Vec<ResponseJson>,
    notes: BTreeMap<String, ResponseNote>,
    gold: Option<bool>,
    gold_by: Option<String>,
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct TaskRow {
    pub(super) id: String,
    pub(super) schema: SchemaRef,
    pub(super) record_id: String,
    document: String,
    version: i64,
    created_at: i64,
    updated_at: i64,
}

impl TaskRow {
    /// Its columns.
    pub(super) const SELECT: &str = "SELECT t.id, t.schema_id, t.schema_version, t.record_id, t.document, t.version, \
        t.created_at, t.updated_at FROM curation_tasks t ";

    pub(super) fn read(row: &AnyRow) -> std::result::Result<Self, Stop> {
        let id = text(row, "id")?;
        let named = format!("{}@{}", text(row, "schema_id")?, text(row, "schema_version")?);
        let schema = named.parse().map_err(|error: crate::curate::InvalidSchemaRef| damaged(&id, &error))?;
        Ok(Self {
            schema,
            record_id: text(row, "record_id")?,
            document: text(row, "document")?,
            version: integer(row, "version")?,
            created_at: integer(row, "created_at")?,
            updated_at: integer(row, "updated_at")?,
            id,
        })
    }

    /// The task, by the schema that it names.
    pub(super) fn open(self, schema: &CompiledSchema) -> Result<ReviewTask> {
        let read: Read = serde_json::from_str(&self.document).map_err(|error| damaged(&self.id, &error))?;
        let wrong = |error| damaged(&self.id, &error);
        let mut record = Record::new(self.record_id);
        (record.fields, record.metadata, record.gold) = (read.fields, read.metadata, read.gold);
        let sets = read.suggestions.iter().map(|set| set.open(schema));
        record.suggestions = sets.collect::<std::result::Result<_, _>>().map_err(wrong)?;
        let responses = read.responses.iter().map(|response| response.open(schema));
        record.responses = responses.collect::<std::result::Result<_, _>>().map_err(wrong)?;
        let mut task = ReviewTask::new(schema, record, self.created_at);
        (task.notes, task.gold_by, task.version) = (read.notes, read.gold_by, self.version);
        task.updated_at = self.updated_at;
        Ok(task)
    }
}

fn damaged(id: &str, error: &impl ToString) -> TaskStoreError {
    TaskStoreError::Damaged { id: id.to_owned(), message: error.to_string() }
}

impl ReviewTask {
    /// A task of a record that fits the schema.
    pub(super) fn new(schema: &CompiledSchema, record: Record, now: i64) -> Self {
        let named = schema.schema().reference();
        Self {
            id: task_id(&named.id, &record.id),
            schema: named,
            decision: schema.decide_gold(&record),
            uncertainty: Strategy::Uncertainty.priority(schema.schema(), &record),
            disagreement: Strategy::Disagreement.priority(schema.schema(), &record),
            record,
            notes: BTreeMap::new(),
            gold_by: None,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Makes all that follows from the record.
    pub(super) fn derive(&mut self, schema: &CompiledSchema) {
        self.schema = schema.schema().reference();
        self.decision = schema.decide_gold(&self.record);
        self.uncertainty = Strategy::Uncertainty.priority(schema.schema(), &self.record);
        self.disagreement = Strategy::Disagreement.priority(schema.schema(), &self.record);
    }

    pub(super) fn document(&self) -> String {
        let written = Written {
            fields: &self.record.fields,
            metadata: &self.record.metadata,
            suggestions: &self.record.suggestions,
            responses: &self.record.responses,
            notes: &self.notes,
            gold: self.record.gold,
            gold_by: self.gold_by.as_deref(),
        };
        // Values that came from JSON or are made of finite numbers always become JSON.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// People who handed in.
    pub(super) fn num_submitted(&self) -> i64 {
        let is_done = |response: &&Response| response.status == ResponseStatus::Submitted;
        self.record.responses.iter().filter(is_done).count() as i64
    }
}

/// The name of the task of a record: the same for the same names.
pub(super) fn task_id(schema: &str, record: &str) -> String {
    let mut hasher = Sha256::new();
    for part in [schema, record] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let digest = format!("{:x}", hasher.finalize());
    format!("task_{}", &digest[..32])
}
