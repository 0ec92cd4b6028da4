//! Records that wait for people.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use vllm_batch::curate::Strategy;
use vllm_batch::pipeline::tasks::{NewTask, NextQuery, ReviewTask, TaskQuery, TaskStatus};

use super::Reply;
use crate::error::ApiError;
use crate::extract::{Id, JsonBody, Params};
use crate::state::AppState;

/// The longest list of records in one request.
const MAX_RECORDS: usize = 10_000;
/// How long a page is, if nobody says.
const DEFAULT_LIMIT: usize = 50;

/// A record that waits for people, or that they have answered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CurationTask {
    /// `task_` and 32 hexadecimal digits.
    id: String,
    /// Always `curation.task`.
    object: &'static str,
    /// The schema, as `id@version`.
    schema: String,
    /// The record's name.
    record_id: String,
    /// How far people are: `pending`, `annotated`, `gold`.
    status: &'static str,
    /// Values by the names of the schema's fields.
    #[schema(value_type = Object)]
    fields: Value,
    /// What else is known about it.
    #[schema(value_type = Object)]
    metadata: Value,
    /// What models said, the latest last.
    #[schema(value_type = Vec<Object>)]
    suggestions: Value,
    /// What people said, each once.
    #[schema(value_type = Vec<Object>)]
    responses: Value,
    /// Whether it is gold, and why.
    gold: GoldObject,
    /// How little the latest model is sure, from 0 to 1.
    uncertainty: f64,
    /// How much models differ, from 0 to 1.
    disagreement: f64,
    /// Counts its changes.
    version: i64,
    /// When it was made.
    created_at: i64,
    /// When it was changed last.
    updated_at: i64,
}

/// Whether a record is gold, and why.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GoldObject {
    /// Whether it is.
    is_gold: bool,
    /// What a person said, if one did.
    #[schema(required)]
    manual: Option<bool>,
    /// Who said it.
    #[schema(required)]
    by: Option<String>,
    /// What speaks for it and against it, in words.
    reasons: Vec<String>,
    /// The answers that people agree on.
    #[schema(value_type = Object)]
    answers: Value,
    /// How much people agree, from 0 to 1, if two of them answered.
    #[schema(required)]
    agreement: Option<f64>,
}

impl From<ReviewTask> for CurationTask {
    fn from(task: ReviewTask) -> Self {
        let status = task.status().as_str();
        let responses = task.record.responses.iter().map(|response| {
            let mut object = json!(response);
            if let (Some(note), Value::Object(object)) = (task.notes.get(&response.agent.name), &mut object) {
                object.insert("created_at".to_owned(), note.created_at.into());
                object.insert("updated_at".to_owned(), note.updated_at.into());
            }
            object
        });
        let gold = GoldObject {
            is_gold: task.decision.is_gold,
            manual: task.record.gold,
            by: task.gold_by.clone(),
            reasons: task.decision.reasons.iter().map(ToString::to_string).collect(),
            answers: json!(task.decision.answers),
            agreement: task.decision.agreement,
        };
        Self {
            object: "curation.task",
            schema: task.schema.to_string(),
            status,
            responses: responses.collect(),
            gold,
            suggestions: json!(task.record.suggestions),
            record_id: task.record.id,
            fields: Value::Object(task.record.fields),
            metadata: Value::Object(task.record.metadata),
            uncertainty: task.uncertainty,
            disagreement: task.disagreement,
            id: task.id,
            version: task.version,
            created_at: task.created_at,
            updated_at: task.updated_at,
        }
    }
}

/// Records to be reviewed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTasks {
    /// `id` (the newest release) or `id@version`.
    schema: String,
    /// Objects with `id`, `fields`, and perhaps `metadata` and `suggestions` (objects with `model`, `answers`, `scores`).
    #[schema(value_type = Vec<Object>, max_items = 10_000)]
    records: Vec<NewTask>,
}

/// What became of records.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedTasks {
    /// The schema, as `id@version`.
    schema: String,
    /// Ids of new tasks.
    created: Vec<String>,
    /// Ids of tasks that were there already, and are as they were.
    existing: Vec<String>,
    /// What was left out, with `line` (the place in the request, from 1), `id`, `stage`, `code`, `message`.
    #[schema(value_type = Vec<Object>)]
    rejected: Value,
}

/// Adds records. One whose name is there already is left as it is, so that the same request can be sent again.
#[utoipa::path(post, path = "/v1/curation/tasks", tag = "curation", operation_id = "create_tasks", request_body = CreateTasks,
    responses((status = 200, body = CreatedTasks)))]
pub(crate) async fn create(
    State(state): State<AppState>,
    JsonBody(wanted): JsonBody<CreateTasks>,
) -> Reply<CreatedTasks> {
    let CreateTasks { schema, records } = wanted;
    if records.len() > MAX_RECORDS {
        return Err(ApiError::invalid("records", format!("Send at most {MAX_RECORDS} records at once.")));
    }
    let schema = state.tasks()?.find_schema(&schema).await?.schema().reference();
    let report = state.tasks()?.create(&schema, &records, state.jobs().now()).await?;
    let (created, existing, rejected) = (report.created, report.existing, json!(report.rejected));
    Ok(Json(CreatedTasks { schema: schema.to_string(), created, existing, rejected }))
}

/// Which tasks are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListTasks {
    /// Only those of this schema: `id`, or `id@version` for one version of it.
    schema: Option<String>,
    /// Only those that people are so far with: `pending`, `annotated`, `gold`.
    #[param(value_type = Option<String>)]
    status: Option<TaskStatus>,
    /// Only those that this person has answered.
    annotator: Option<String>,
    /// Only those with this text in the record's name.
    q: Option<String>,
    /// Those after the task of this id.
    after: Option<String>,
    /// The most, from 1 to 500; by default 50.
    limit: Option<usize>,
}

/// A part of the list of tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskList {
    /// Always `list`.
    object: &'static str,
    /// The tasks, by the names of their records.
    data: Vec<CurationTask>,
    /// The id of the first one.
    #[schema(required)]
    first_id: Option<String>,
    /// The id of the last one, for `after`.
    #[schema(required)]
    last_id: Option<String>,
    /// Whether there are more.
    has_more: bool,
}

/// A part of the list of tasks.
#[utoipa::path(get, path = "/v1/curation/tasks", tag = "curation", operation_id = "list_tasks", params(ListTasks),
    responses((status = 200, body = TaskList)))]
pub(crate) async fn list(State(state): State<AppState>, Params(wanted): Params<ListTasks>) -> Reply<TaskList> {
    let mut query = TaskQuery::default();
    if let Some(schema) = &wanted.schema {
        let (id, version) = schema.split_once('@').map_or((&**schema, None), |(id, version)| (id, Some(version)));
        (query.schema_id, query.schema_version) = (Some(id.to_owned()), version.map(str::to_owned));
    }
    (query.status, query.annotator, query.search) =
        (wanted.status, wanted.annotator, wanted.q.filter(|q| !q.is_empty()));
    (query.after, query.limit) = (wanted.after, wanted.limit.unwrap_or(DEFAULT_LIMIT));
    let page = state.tasks()?.tasks(&query).await?;
    let data: Vec<CurationTask> = page.data.into_iter().map(CurationTask::from).collect();
    let (first_id, last_id) = (data.first().map(|task| task.id.clone()), data.last().map(|task| task.id.clone()));
    Ok(Json(TaskList { object: "list", data, first_id, last_id, has_more: page.has_more }))
}

/// A task.
#[utoipa::path(get, path = "/v1/curation/tasks/{id}", tag = "curation", operation_id = "retrieve_task",
    params(("id" = String, Path)), responses((status = 200, body = CurationTask)))]
pub(crate) async fn retrieve(State(state): State<AppState>, Id(id): Id) -> Reply<CurationTask> {
    Ok(Json(state.tasks()?.task(&id).await?.into()))
}

/// Who wants which task next.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct NextTask {
    /// `id` (the version that the tasks have) or `id@version`.
    schema: String,
    /// Who asks.
    annotator: String,
    /// `uncertainty` (the default), `disagreement`, or `random`.
    #[param(value_type = Option<String>)]
    strategy: Option<Strategy>,
    /// Where the random order begins.
    seed: Option<u64>,
    /// The task that they have just seen: those that follow it come first.
    after: Option<String>,
    /// How many people are to answer each record; by default as many as the schema's rule for gold asks for, else one.
    wanted_responses: Option<usize>,
}

/// The task that is worth most.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NextTaskObject {
    /// The task; null if this person has seen all.
    #[schema(required)]
    task: Option<CurationTask>,
}

/// The task that is worth most to be answered by a person. It is kept for them for ten minutes.
#[utoipa::path(get, path = "/v1/curation/tasks/next", tag = "curation", operation_id = "next_task", params(NextTask),
    responses((status = 200, body = NextTaskObject)))]
pub(crate) async fn next(State(state): State<AppState>, Params(wanted): Params<NextTask>) -> Reply<NextTaskObject> {
    let schema = state.tasks()?.find_used_schema(&wanted.schema).await?.schema().reference();
    let mut query = NextQuery::new(schema, wanted.annotator);
    query.strategy = wanted.strategy.unwrap_or(query.strategy);
    query.seed = wanted.seed.unwrap_or(query.seed);
    (query.after, query.wanted_responses) = (wanted.after, wanted.wanted_responses);
    let found = state.tasks()?.next(&query, state.jobs().now()).await?;
    Ok(Json(NextTaskObject { task: found.into_iter().next().map(CurationTask::from) }))
}
