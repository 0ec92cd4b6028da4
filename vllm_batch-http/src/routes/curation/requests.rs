//! What people say, and what is made of it.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};
use vllm_batch::curate::ResponseStatus;
use vllm_batch::curate::agreement::AgreementOptions;
use vllm_batch::pipeline::tasks::NewResponse;

use super::Reply;
use super::tasks::CurationTask;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Id, JsonBody, Params};
use crate::state::AppState;

/// The most tasks in one request.
const MAX_TASKS: usize = 1_000;
/// The most reasons in one answer.
const MAX_REJECTIONS: usize = 1_000;

/// What a person says about a record. It replaces what the same person said before.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAnnotation {
    /// The task.
    task_id: String,
    /// Who says it; by default the name of the API key.
    annotator: Option<String>,
    /// `submitted` (the default), `draft`, or `discarded`.
    #[schema(value_type = Option<String>)]
    status: Option<ResponseStatus>,
    /// Answers by question.
    #[serde(default)]
    answers: Map<String, Value>,
    /// Whether they saw a model's answers first.
    prefilled: Option<bool>,
    /// Seconds that it took them.
    lead_time: Option<f64>,
    /// The version of the task that they saw: if their answers were changed since, these are refused.
    version: Option<i64>,
}

/// Keeps what a person says, and answers with the task as it is then.
#[utoipa::path(post, path = "/v1/curation/annotations", tag = "curation", operation_id = "create_annotation",
    request_body = NewAnnotation, responses((status = 200, body = CurationTask)))]
pub(crate) async fn annotate(
    State(state): State<AppState>,
    caller: Caller,
    JsonBody(said): JsonBody<NewAnnotation>,
) -> Reply<CurationTask> {
    let annotator = said.annotator.unwrap_or_else(|| caller.owner().to_owned());
    let mut response = NewResponse::submitted(annotator, said.answers);
    response.status = said.status.unwrap_or(response.status);
    (response.prefilled, response.lead_time, response.seen_version) = (said.prefilled, said.lead_time, said.version);
    let task = state.tasks()?.respond(&said.task_id, &response, state.jobs().now()).await?;
    Ok(Json(task.into()))
}

/// Whose response is to go.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Withdrawal {
    /// The task.
    task_id: String,
    /// The person; by default the name of the API key.
    annotator: Option<String>,
}

/// Takes a person's response away.
#[utoipa::path(delete, path = "/v1/curation/annotations", tag = "curation", operation_id = "delete_annotation",
    params(Withdrawal), responses((status = 200, body = CurationTask)))]
pub(crate) async fn withdraw(
    State(state): State<AppState>,
    caller: Caller,
    Params(wanted): Params<Withdrawal>,
) -> Reply<CurationTask> {
    let Withdrawal { task_id, annotator } = wanted;
    let annotator = annotator.unwrap_or_else(|| caller.owner().to_owned());
    Ok(Json(state.tasks()?.withdraw(&task_id, &annotator, state.jobs().now()).await?.into()))
}

/// Which tasks are to be gold, or not.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GoldRequest {
    /// The tasks.
    #[schema(max_items = 1_000)]
    task_ids: Vec<String>,
    /// Whether they are; null takes back what was said.
    #[serde(deserialize_with = "Option::deserialize")]
    gold: Option<bool>,
    /// Who says so; by default the name of the API key.
    by: Option<String>,
}

/// Which tasks are marked.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GoldMarksObject {
    /// Ids of tasks that are marked now. Whether they are gold, the schema's policy decides.
    marked: Vec<String>,
    /// Ids that no task has.
    unknown: Vec<String>,
}

/// Says of tasks that they are gold, or that they are not.
#[utoipa::path(post, path = "/v1/curation/gold", tag = "curation", operation_id = "mark_gold", request_body = GoldRequest,
    responses((status = 200, body = GoldMarksObject)))]
pub(crate) async fn gold(
    State(state): State<AppState>,
    caller: Caller,
    JsonBody(wanted): JsonBody<GoldRequest>,
) -> Reply<GoldMarksObject> {
    let GoldRequest { task_ids, gold, by } = wanted;
    if task_ids.len() > MAX_TASKS {
        return Err(ApiError::invalid("task_ids", format!("Name at most {MAX_TASKS} tasks at once.")));
    }
    let by = by.unwrap_or_else(|| caller.owner().to_owned());
    let marks = state.tasks()?.mark_all_gold(&task_ids, gold, &by, state.jobs().now()).await?;
    Ok(Json(GoldMarksObject { marked: marks.marked, unknown: marks.unknown }))
}

/// Which schema is asked about.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct SchemaQuery {
    /// `id` or `id@version`.
    schema: String,
}

/// How far the review of a schema's records is: with `id` of all versions.
#[utoipa::path(get, path = "/v1/curation/stats", tag = "curation", operation_id = "curation_stats", params(SchemaQuery),
    responses((status = 200, body = Object)))]
pub(crate) async fn stats(State(state): State<AppState>, Params(wanted): Params<SchemaQuery>) -> Reply<Value> {
    let SchemaQuery { schema } = wanted;
    state.tasks()?.find_schema(&schema).await?;
    let (id, version) = schema.split_once('@').map_or((&*schema, None), |(id, version)| (id, Some(version)));
    Ok(Json(json!(state.tasks()?.stats(id, version).await?)))
}

/// How agreement is computed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgreementQuery {
    /// `id` (the version that the tasks have) or `id@version`.
    schema: String,
    /// Decides the draws of the bootstrap.
    seed: Option<u64>,
    /// Draws of the bootstrap, from 0 to 10,000; by default 1,000.
    num_resamples: Option<usize>,
}

/// How much people and models agree, question by question.
#[utoipa::path(get, path = "/v1/curation/agreement", tag = "curation", operation_id = "curation_agreement",
    params(AgreementQuery), responses((status = 200, body = Object)))]
pub(crate) async fn agreement(State(state): State<AppState>, Params(wanted): Params<AgreementQuery>) -> Reply<Value> {
    const MAX_RESAMPLES: usize = 10_000;
    let mut options = AgreementOptions::default();
    options.seed = wanted.seed.unwrap_or(options.seed);
    options.num_resamples = wanted.num_resamples.unwrap_or(options.num_resamples);
    if options.num_resamples > MAX_RESAMPLES {
        return Err(ApiError::invalid("num_resamples", format!("It must be from 0 to {MAX_RESAMPLES}.")));
    }
    let schema = state.tasks()?.find_used_schema(&wanted.schema).await?.schema().reference();
    let report = state.tasks()?.agreement(&schema, &options).await?;
    Ok(Json(json!({"schema": schema.to_string(), "groups": report.groups})))
}

/// A batch whose answers are to be taken over.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportRequest {
    /// The batch, which has ended.
    batch_id: String,
    /// `id` (the newest release) or `id@version`.
    schema: String,
}

/// Takes over what the model said in a batch: a row's `custom_id` is the name of its record. Once for each batch: a second request
/// answers with the report of the first one.
#[utoipa::path(post, path = "/v1/curation/tasks/import", tag = "curation", operation_id = "import_batch",
    request_body = ImportRequest, responses((status = 200, body = Object)))]
pub(crate) async fn import(
    State(state): State<AppState>,
    caller: Caller,
    JsonBody(wanted): JsonBody<ImportRequest>,
) -> Reply<Value> {
    let ImportRequest { batch_id, schema } = wanted;
    let batch = state.jobs().batch(caller.owner(), &batch_id).await?;
    let schema = state.tasks()?.find_schema(&schema).await?.schema().reference();
    Ok(Json(json!(state.tasks()?.import_from(state.jobs(), &batch, &schema).await?)))
}

/// Which part of the reasons is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportQuery {
    /// The schema's name.
    schema: String,
    /// The number of the first reason, from 0.
    #[serde(default)]
    from: u64,
}

/// What became of a batch's answers, and what was left out: at most 1,000 reasons at a time.
#[utoipa::path(get, path = "/v1/curation/imports/{id}", tag = "curation", operation_id = "retrieve_import",
    params(("id" = String, Path, description = "The batch"), ImportQuery), responses((status = 200, body = Object)))]
pub(crate) async fn import_report(
    State(state): State<AppState>,
    caller: Caller,
    Id(batch_id): Id,
    Params(wanted): Params<ImportQuery>,
) -> Reply<Value> {
    let ImportQuery { schema, from } = wanted;
    state.jobs().batch(caller.owner(), &batch_id).await?;
    let report = state.tasks()?.import_report(&batch_id, &schema).await?;
    let report = report.ok_or_else(|| ApiError::not_found("import of a batch", &batch_id))?;
    let mut rejections = state.tasks()?.rejections(&batch_id, &schema, from, MAX_REJECTIONS + 1).await?;
    let has_more = rejections.len() > MAX_REJECTIONS;
    rejections.truncate(MAX_REJECTIONS);
    Ok(Json(json!({"report": report, "rejections": {"object": "list", "data": rejections, "has_more": has_more}})))
}

/// To which version tasks are to go on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MigrateRequest {
    /// `id@version`.
    schema: String,
}

/// Makes all tasks of older versions of a schema those of this one.
#[utoipa::path(post, path = "/v1/curation/migrate", tag = "curation", operation_id = "migrate_tasks",
    request_body = MigrateRequest, responses((status = 200, body = Object)))]
pub(crate) async fn migrate(State(state): State<AppState>, JsonBody(wanted): JsonBody<MigrateRequest>) -> Reply<Value> {
    let MigrateRequest { schema } = wanted;
    let schema = state.tasks()?.find_schema(&schema).await?.schema().reference();
    let report = state.tasks()?.migrate(&schema, state.jobs().now()).await?;
    Ok(Json(json!(report)))
}
