//! How do the answers of a batch become suggestions?

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::create::{insert_all, may_name_record};
use super::lines::Lines;
use super::stored::{ReviewTask, task_id};
use super::{Result, Stop, TaskStore, TaskStoreError};
use crate::batch::{BatchRequestInput, BatchRequestOutput};
use crate::curate::{AnswerError, CompiledSchema, FieldKind, Provenance, Record, SchemaRef};
use crate::jobs::sql::{Statement, Tx, document, integer, to_document};
use crate::jobs::{Batch, ByteStream};
use crate::output::RequestOutput;
use crate::pipeline::curation::rows;
use crate::pipeline::{Rejection, Stage};

/// Rows in one transaction.
const ROWS_PER_TRANSACTION: usize = 100;

/// The files of a batch that has ended.
#[derive(Default)]
#[non_exhaustive]
pub struct BatchFiles {
    /// Its input.
    pub input: Option<ByteStream>,
    /// Its answers.
    pub output: Option<ByteStream>,
    /// Its errors.
    pub errors: Option<ByteStream>,
}

impl std::fmt::Debug for BatchFiles {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BatchFiles").finish_non_exhaustive()
    }
}

/// What became of the answers of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImportReport {
    /// The batch.
    pub batch_id: String,
    /// The schema, as `id@version`.
    pub schema: String,
    /// Records that were made of the questions of the batch.
    pub created: u64,
    /// Records that got suggestions.
    pub suggested: u64,
    /// Rows, and answers, that were left out: [`TaskStore::rejections`] has the reasons.
    pub rejected: u64,
    /// Why nothing was taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A row of the answers: what a model said about a record, or why it said nothing.
struct Row {
    line: usize,
    answer: std::result::Result<(RequestOutput, String), Rejection>,
}

impl TaskStore {
    /// Takes over what the model said in a batch that has ended: a row's `custom_id` is the name of its record. A record that is not
    /// there yet is made of the row's question, if the schema has but one required field and that is a text: its value is the last thing
    /// that the user said. Otherwise add records first.
    ///
    /// A batch is taken over once: a second call gives the report of the first one. After a crash, the same call goes on.
    ///
    /// # Errors
    /// The batch has not ended; the schema is unknown; the database or a file does not answer.
    pub async fn import_batch(
        &self,
        batch: &Batch,
        schema: &SchemaRef,
        files: BatchFiles,
        now: i64,
    ) -> Result<ImportReport> {
        if let Some(report) = self.import_report(&batch.id, &schema.id).await? {
            return Ok(report);
        }
        if !batch.status.is_terminal() {
            let message = format!(
                "{} is {}: only what a batch that has ended says is taken over",
                batch.id,
                batch.status.as_str()
            );
            return Err(TaskStoreError::InvalidParameter { param: "batch_id", message });
        }
        let schema = self.schema(schema).await?;
        let named = schema.schema().reference();
        let mut import = Import {
            tasks: self,
            schema: &schema,
            batch_id: &batch.id,
            now,
            report: ImportReport { batch_id: batch.id.clone(), schema: named.to_string(), ..ImportReport::default() },
        };
        // Those of a try that came to no end would stay beside others.
        self.forget_rejections(&batch.id, &named.id).await?;
        if let (Some(input), Some(field)) = (files.input, only_field(&schema)) {
            import.create_records(Lines::new(input), &field).await?;
        }
        for rows in [files.output, files.errors].into_iter().flatten() {
            import.take_rows(Lines::new(rows)).await?;
        }
        let mut report = import.report;
        // Earlier tries may have made some of the records.
        report.created = self.created_so_far(&batch.id, &named.id).await?;
        self.finish_import(&report, &named.id, now).await?;
        Ok(report)
    }

    /// The report of a batch that was taken over for a schema.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn import_report(&self, batch_id: &str, schema_id: &str) -> Result<Option<ImportReport>> {
        let select =
            "SELECT report FROM curation_imports WHERE batch_id = $1 AND schema_id = $2 AND report IS NOT NULL";
        self.transaction(|| async {
            let mut connection = self.database.read().await?;
            let row = Statement::new(select).bind(batch_id).bind(schema_id).row(&mut connection).await?;
            Ok(row.map(|row| document(&row, "report")).transpose()?)
        })
        .await
    }

    /// What was left out of a batch, in the order of its rows, from a place on.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn rejections(&self, batch_id: &str, schema_id: &str, from: u64, limit: usize) -> Result<Vec<Rejection>> {
        let select = "SELECT rejection FROM curation_rejections WHERE batch_id = $1 AND schema_id = $2 AND number >= $3 \
                      ORDER BY number LIMIT $4";
        self.transaction(|| async {
            let mut connection = self.database.read().await?;
            let statement = Statement::new(select).bind(batch_id).bind(schema_id).bind(from).bind(limit);
            let rows = statement.rows(&mut connection).await?;
            Ok(rows.iter().map(|row| document(row, "rejection")).collect::<std::result::Result<_, _>>()?)
        })
        .await
    }

    /// Notes that a batch is taken over, or that it cannot be.
    pub(super) async fn finish_import(&self, report: &ImportReport, schema_id: &str, now: i64) -> Result<()> {
        let insert = "INSERT INTO curation_imports (batch_id, schema_id, created, report, finished_at) \
                      VALUES ($1, $2, 0, $3, $4) ON CONFLICT (batch_id, schema_id) DO UPDATE \
                      SET report = excluded.report, finished_at = excluded.finished_at WHERE curation_imports.report IS NULL";
        self.transaction(|| async {
            let mut tx = self.database.begin().await?;
            let statement = Statement::new(insert).bind(report.batch_id.as_str()).bind(schema_id);
            statement.bind(to_document(report)?).bind(now).execute(&mut tx).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn forget_rejections(&self, batch_id: &str, schema_id: &str) -> Result<()> {
        let delete = "DELETE FROM curation_rejections WHERE batch_id = $1 AND schema_id = $2";
        self.transaction(|| async {
            let mut tx = self.database.begin().await?;
            Statement::new(delete).bind(batch_id).bind(schema_id).execute(&mut tx).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn created_so_far(&self, batch_id: &str, schema_id: &str) -> Result<u64> {
        let select = "SELECT created FROM curation_imports WHERE batch_id = $1 AND schema_id = $2";
        self.transaction(|| async {
            let mut connection = self.database.read().await?;
            let row = Statement::new(select).bind(batch_id).bind(schema_id).row(&mut connection).await?;
            Ok(row.map_or(Ok(0), |row| integer(&row, "created"))? as u64)
        })
        .await
    }
}

/// The only required field, if that is a text.
fn only_field(schema: &CompiledSchema) -> Option<String> {
    let mut required = schema.schema().fields.iter().filter(|field| field.required && field.default.is_none());
    let field = required.next().filter(|field| matches!(field.kind, FieldKind::Text { .. }))?;
    required.next().is_none().then(|| field.id.to_string())
}

/// The last thing that the user said in a request.
fn question(request: &BatchRequestInput) -> Option<String> {
    let messages = request.body.get("messages")?.as_array()?;
    let content = &messages.iter().rev().find(|message| message["role"] == "user")?["content"];
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(parts.iter().filter_map(|part| part["text"].as_str()).collect()),
        _ => None,
    }
}

/// A batch that is being taken over.
struct Import<'a> {
    tasks: &'a TaskStore,
    schema: &'a CompiledSchema,
    batch_id: &'a str,
    now: i64,
    report: ImportReport,
}

/// What became of a row.
enum Taken {
    Suggested(Vec<AnswerError>),
    Rejected(Rejection),
}

impl Import<'_> {
    /// Makes records of the questions, where there are none.
    async fn create_records(&self, mut lines: Lines, field: &str) -> Result<()> {
        let mut tasks = Vec::new();
        while let Some((_, line)) = lines.next().await? {
            let record = serde_json::from_slice::<BatchRequestInput>(&line).ok().and_then(|request| {
                let question = question(&request).filter(|_| may_name_record(&request.custom_id))?;
                Some(Record::new(request.custom_id).with_field(field, question))
            });
            // What gives no record is told with the answers.
            tasks.extend(record.map(|record| ReviewTask::new(self.schema, record, self.now)));
            if tasks.len() == ROWS_PER_TRANSACTION {
                self.insert(&mut tasks).await?;
            }
        }
        self.insert(&mut tasks).await
    }

    /// Adds records, and counts those that are new, in one transaction: after a crash the count still holds.
    async fn insert(&self, tasks: &mut Vec<ReviewTask>) -> Result<()> {
        let add = "INSERT INTO curation_imports (batch_id, schema_id, created) VALUES ($1, $2, $3) \
                   ON CONFLICT (batch_id, schema_id) DO UPDATE SET created = curation_imports.created + excluded.created";
        let schema_id = self.schema.schema().id.as_str();
        self.tasks
            .transaction(|| async {
                let mut tx = self.tasks.database.begin().await?;
                let is_new = insert_all(&mut tx, tasks).await?;
                let count = is_new.into_iter().filter(|is_new| *is_new).count();
                Statement::new(add).bind(self.batch_id).bind(schema_id).bind(count).execute(&mut tx).await?;
                Ok(tx.commit().await?)
            })
            .await?;
        tasks.clear();
        Ok(())
    }

    async fn take_rows(&mut self, mut lines: Lines) -> Result<()> {
        let mut rows = Vec::new();
        while let Some((line, bytes)) = lines.next().await? {
            rows.push(Row { line, answer: read_row(line, &bytes) });
            if rows.len() == ROWS_PER_TRANSACTION {
                self.take(&rows).await?;
                rows.clear();
            }
        }
        self.take(&rows).await
    }

    /// Takes rows over, and notes what was left out, in one transaction.
    async fn take(&mut self, rows: &[Row]) -> Result<()> {
        let before = self.report.rejected;
        let (suggested, rejected) = self
            .tasks
            .transaction(|| async {
                let mut tx = self.tasks.database.begin().await?;
                let (mut suggested, mut rejected) = (0, Vec::new());
                for row in rows {
                    match self.take_row(&mut tx, row).await? {
                        Taken::Suggested(errors) => {
                            suggested += 1;
                            rejected.extend(errors.iter().map(|error| row.reject(Stage::Answer, error.code(), error)));
                        }
                        Taken::Rejected(rejection) => rejected.push(rejection),
                    }
                }
                for (number, rejection) in (before..).zip(&rejected) {
                    self.note(&mut tx, number, rejection).await?;
                }
                tx.commit().await?;
                Ok((suggested, rejected.len() as u64))
            })
            .await?;
        self.report.suggested += suggested;
        self.report.rejected += rejected;
        Ok(())
    }

    async fn take_row(&self, tx: &mut Tx, row: &Row) -> std::result::Result<Taken, Stop> {
        let (output, model) = match &row.answer {
            Ok(answer) => answer,
            Err(rejection) => return Ok(Taken::Rejected(rejection.clone())),
        };
        let named = self.schema.schema().reference();
        let found = match self.tasks.locked(tx, &task_id(&named.id, &output.request_id)).await {
            Ok(found) => found,
            Err(Stop::Refused(TaskStoreError::UnknownTask { .. })) => {
                let why = format!("there is no record {:?}, and it cannot be made of the question", output.request_id);
                return Ok(Taken::Rejected(row.reject(Stage::Read, "unknown_record", &why)));
            }
            Err(stop) => return Err(stop),
        };
        if found.schema != named {
            let why = format!("the record is one of {}, not of {named}: migrate it first", found.schema);
            return Ok(Taken::Rejected(row.reject(Stage::Read, "other_version", &why)));
        }
        let mut task = match found.open(self.schema) {
            Err(error @ TaskStoreError::Damaged { .. }) => {
                return Ok(Taken::Rejected(row.reject(Stage::Read, error.code(), &error)));
            }
            opened => opened?,
        };
        let mut provenance = Provenance { model: model.clone(), ..Provenance::default() };
        provenance.batch_id = Some(self.batch_id.to_owned());
        provenance.custom_id = Some(output.request_id.clone());
        let suggested = self.schema.suggest(&task.record, output, provenance);
        let is_same = |of: &Provenance| {
            of.batch_id == suggested.set.provenance.batch_id && of.custom_id == suggested.set.provenance.custom_id
        };
        if task.record.suggestions.iter().any(|set| is_same(&set.provenance)) {
            // An earlier try took it over.
            return Ok(Taken::Suggested(suggested.errors));
        }
        task.record.suggestions.push(suggested.set);
        task.save(tx, self.schema, self.now).await?;
        Ok(Taken::Suggested(suggested.errors))
    }

    async fn note(&self, tx: &mut Tx, number: u64, rejection: &Rejection) -> std::result::Result<(), Stop> {
        let insert = "INSERT INTO curation_rejections (batch_id, schema_id, number, rejection) VALUES ($1, $2, $3, $4) \
                      ON CONFLICT (batch_id, schema_id, number) DO UPDATE SET rejection = excluded.rejection";
        let statement = Statement::new(insert).bind(self.batch_id).bind(self.schema.schema().id.as_str());
        statement.bind(number).bind(to_document(rejection)?).execute(tx).await?;
        Ok(())
    }
}

impl Row {
    fn reject(&self, stage: Stage, code: &str, why: &impl ToString) -> Rejection {
        let id = self.answer.as_ref().ok().map(|(output, _)| output.request_id.clone());
        Rejection { line: self.line, id, stage, code: code.to_owned(), message: why.to_string() }
    }
}

/// The answer of a row of the output or the error file.
fn read_row(line: usize, bytes: &[u8]) -> std::result::Result<(RequestOutput, String), Rejection> {
    let row: BatchRequestOutput = serde_json::from_slice(bytes).map_err(|error| Rejection {
        line,
        id: None,
        stage: Stage::Model,
        code: "invalid_row".to_owned(),
        message: error.to_string(),
    })?;
    rows::answer(row, line)
}
