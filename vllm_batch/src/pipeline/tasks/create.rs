//! How do records get there?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::query::folded;
use super::stored::{ReviewTask, task_id};
use super::{Result, Stop, TaskStore};
use crate::curate::{
    Agent, AgentKind, AnswerErrorKind, CompiledSchema, Provenance, Record, ResponseStatus, SchemaRef, ScoreKind,
    Suggestion, SuggestionSet,
};
use crate::jobs::sql::{Statement, Tx};
use crate::pipeline::{Rejection, Stage};

/// Records in one transaction.
const RECORDS_PER_TRANSACTION: usize = 200;
/// Characters of the longest name of a record.
const MAX_ID_CHARS: usize = 512;

/// A record that is to be reviewed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct NewTask {
    /// Its name: unique among the records of the schema.
    pub id: String,
    /// Values by the names of the schema's fields.
    #[serde(default)]
    pub fields: Map<String, Value>,
    /// What else is known about it; never in a prompt.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// What models said, the latest last.
    #[serde(default)]
    pub suggestions: Vec<NewSuggestions>,
}

impl NewTask {
    /// A record without fields.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }

    /// Adds the value of a field.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.insert(field.into(), value.into());
        self
    }
}

/// What one model said about a record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct NewSuggestions {
    /// The model.
    pub model: String,
    /// Answers by question.
    pub answers: Map<String, Value>,
    /// How sure the model is of some of them, from 0 to 1.
    #[serde(default)]
    pub scores: BTreeMap<String, f64>,
}

/// What became of records that were to be added.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CreateReport {
    /// Ids of the tasks that are new, in the order of the records.
    pub created: Vec<String>,
    /// Ids of tasks that were there already, and that were left as they are.
    pub existing: Vec<String>,
    /// Records that the schema cannot use, and models' answers that do not hold. `line` is the place in the request, from 1. Of
    /// a rejection with the stage `answer`, only that answer is left out.
    pub rejected: Vec<Rejection>,
}

impl TaskStore {
    /// Adds records. One whose name is there already is left as it is, so that the same call can be made again after a crash.
    ///
    /// # Errors
    /// The schema is unknown, or the database does not answer: some of the records may have been added.
    pub async fn create(&self, schema: &SchemaRef, records: &[NewTask], now: i64) -> Result<CreateReport> {
        let schema = self.schema(schema).await?;
        let mut report = CreateReport::default();
        let mut tasks = Vec::new();
        for (at, record) in records.iter().enumerate() {
            match read(&schema, at + 1, record, &mut report.rejected) {
                Ok(record) => tasks.push(ReviewTask::new(&schema, record, now)),
                Err(rejection) => report.rejected.push(rejection),
            }
        }
        for tasks in tasks.chunks(RECORDS_PER_TRANSACTION) {
            let is_new = self.insert(tasks).await?;
            for (task, is_new) in tasks.iter().zip(is_new) {
                let ids = if is_new { &mut report.created } else { &mut report.existing };
                ids.push(task.id.clone());
            }
        }
        Ok(report)
    }

    /// Adds tasks in one transaction, and says of each whether it is new.
    async fn insert(&self, tasks: &[ReviewTask]) -> Result<Vec<bool>> {
        self.transaction(|| async {
            let mut tx = self.database.begin().await?;
            let is_new = insert_all(&mut tx, tasks).await?;
            tx.commit().await?;
            Ok(is_new)
        })
        .await
    }

    /// The id that the task of a record has, or would have.
    pub fn task_id(schema: &SchemaRef, record: &str) -> String {
        task_id(&schema.id, record)
    }
}

/// Adds tasks, and says of each whether it is new.
pub(super) async fn insert_all(tx: &mut Tx, tasks: &[ReviewTask]) -> std::result::Result<Vec<bool>, Stop> {
    let mut is_new = Vec::new();
    for task in tasks {
        is_new.push(task.insert(tx).await?);
    }
    Ok(is_new)
}

/// Whether a record may have this name. PostgreSQL stores no zero byte.
pub(super) fn may_name_record(id: &str) -> bool {
    (1..=MAX_ID_CHARS).contains(&id.chars().count()) && !id.contains('\0')
}

/// The record, if the schema can use it; models' answers that do not hold are left out and listed.
fn read(
    schema: &CompiledSchema,
    line: usize,
    new: &NewTask,
    rejected: &mut Vec<Rejection>,
) -> std::result::Result<Record, Rejection> {
    let id = Some(new.id.clone());
    let reject =
        |stage, code: &str, message: String| Rejection { line, id: id.clone(), stage, code: code.to_owned(), message };
    if !may_name_record(&new.id) {
        let message = format!("`id` must have 1 to {MAX_ID_CHARS} characters, and none of them U+0000");
        return Err(reject(Stage::Read, "invalid_record", message));
    }
    let mut record = Record::new(&*new.id);
    (record.fields, record.metadata) = (new.fields.clone(), new.metadata.clone());
    if let Some(error) = schema.check_record(&record).iter().find(|error| error.is_fatal()) {
        return Err(reject(Stage::Read, error.code(), error.to_string()));
    }
    for said in &new.suggestions {
        let (mut answers, mut errors) = schema.read_answers(&said.answers);
        let wrong = schema.check(AgentKind::Model, &record.fields, &answers);
        for error in wrong.into_iter().filter(|error| error.kind != AnswerErrorKind::Missing) {
            answers.remove(&error.question);
            errors.push(error);
        }
        rejected.extend(errors.iter().map(|error| reject(Stage::Answer, error.code(), error.to_string())));
        let suggestions = answers.iter().map(|(question, answer)| {
            let suggestion = Suggestion::new(question.clone(), answer.clone());
            match said.scores.get(question.as_str()) {
                Some(score) => suggestion.with_score(score.clamp(0.0, 1.0), ScoreKind::SelfReport),
                None => suggestion,
            }
        });
        let mut provenance = Provenance { model: said.model.clone(), ..Provenance::default() };
        provenance.schema = Some(schema.schema().reference());
        provenance.schema_sha256 = Some(schema.sha256().to_owned());
        record.suggestions.push(SuggestionSet::new(Agent::model(&*said.model), suggestions.collect(), provenance));
    }
    Ok(record)
}

impl ReviewTask {
    /// Adds it; false if it is there.
    async fn insert(&self, tx: &mut Tx) -> std::result::Result<bool, Stop> {
        let insert = "INSERT INTO curation_tasks (id, schema_id, schema_version, record_id, search_name, lot, created_at, \
                      document, is_gold, gold_by, num_submitted, agreement, uncertainty, disagreement, version, updated_at) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT (id) DO NOTHING";
        let statement = Statement::new(insert)
            .bind(self.id.as_str())
            .bind(self.schema.id.as_str())
            .bind(self.schema.version.to_string())
            .bind(self.record.id.as_str())
            .bind(folded(&self.record.id))
            .bind(place(&self.record.id, 0))
            .bind(self.created_at);
        Ok(self.bind_derived(statement).execute(tx).await? == 1)
    }

    /// Writes what changed, and all that follows from it.
    pub(super) async fn save(
        &mut self,
        tx: &mut Tx,
        schema: &CompiledSchema,
        now: i64,
    ) -> std::result::Result<(), Stop> {
        self.derive(schema);
        (self.version, self.updated_at) = (self.version + 1, now);
        let update = "UPDATE curation_tasks SET schema_version = $2, document = $3, is_gold = $4, gold_by = $5, num_submitted = $6, \
                      agreement = $7, uncertainty = $8, disagreement = $9, version = $10, updated_at = $11 WHERE id = $1";
        let statement = Statement::new(update).bind(self.id.as_str()).bind(self.schema.version.to_string());
        self.bind_derived(statement).execute(tx).await?;
        self.write_people(tx).await
    }

    fn bind_derived(&self, statement: Statement) -> Statement {
        statement
            .bind(self.document())
            .bind(i64::from(self.decision.is_gold))
            .bind(self.gold_by.as_deref().unwrap_or_default())
            .bind(self.num_submitted())
            .bind(self.decision.agreement.unwrap_or(-1.0))
            .bind(self.uncertainty)
            .bind(self.disagreement)
            .bind(self.version)
            .bind(self.updated_at)
    }

    /// Who has a response. Claims of others stay.
    async fn write_people(&self, tx: &mut Tx) -> std::result::Result<(), Stop> {
        let gone = "DELETE FROM curation_people WHERE task_id = $1 AND status <> 'claimed'";
        Statement::new(gone).bind(self.id.as_str()).execute(tx).await?;
        for response in &self.record.responses {
            let status = match response.status {
                ResponseStatus::Draft => "draft",
                ResponseStatus::Submitted => "submitted",
                ResponseStatus::Discarded => "discarded",
            };
            let note = self.notes.get(&response.agent.name);
            let external = note.and_then(|note| note.external.as_ref()).map_or("", |external| &external.id);
            let until = note.map_or(0, |note| note.updated_at + super::next::CLAIM_SECONDS);
            let insert = "INSERT INTO curation_people (task_id, annotator, status, until, external_id) \
                          VALUES ($1, $2, $3, $4, $5) ON CONFLICT (task_id, annotator) DO UPDATE \
                          SET status = excluded.status, until = excluded.until, external_id = excluded.external_id";
            let statement = Statement::new(insert).bind(self.id.as_str()).bind(response.agent.name.as_str());
            statement.bind(status).bind(until).bind(external).execute(tx).await?;
        }
        Ok(())
    }
}

/// A record's place in a random order, which the seed decides.
pub(super) fn place(record: &str, seed: u64) -> i64 {
    (crate::curate::lot(record, seed) >> 1) as i64
}
