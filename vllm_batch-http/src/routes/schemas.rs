//! Which schemas are there, and what follows from them?

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};
use vllm_batch::curate::label_studio::{LabelConfigOptions, label_config};
use vllm_batch::curate::{AnswerForm, CompiledSchema, FieldKind, Record, TaskSchema, Version};

use super::curation::Reply;
use crate::error::ApiError;
use crate::extract::{JsonBody, Name, Params};
use crate::state::AppState;

/// A schema in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SchemaSummary {
    /// Always `curation.schema`.
    object: &'static str,
    /// Its name.
    id: String,
    /// Its version.
    version: String,
    /// What people call it: a text, or texts by language.
    name: Value,
    /// What it is for, in the same form.
    description: Value,
    /// The SHA-256 of its document.
    sha256: String,
    /// How many fields records have.
    num_fields: usize,
    /// How many questions are asked.
    num_questions: usize,
}

impl SchemaSummary {
    fn of(compiled: &CompiledSchema) -> Self {
        let schema = compiled.schema();
        Self {
            object: "curation.schema",
            id: schema.id.to_string(),
            version: schema.version.to_string(),
            name: json!(schema.name),
            description: json!(schema.description),
            sha256: compiled.sha256().to_owned(),
            num_fields: schema.fields.len(),
            num_questions: schema.questions.len(),
        }
    }
}

/// A list that is always whole.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SchemaList {
    /// Always `list`.
    object: &'static str,
    /// The schemas.
    data: Vec<SchemaSummary>,
    /// Always false.
    has_more: bool,
}

impl SchemaList {
    fn of<'a>(schemas: impl Iterator<Item = &'a CompiledSchema>) -> Json<Self> {
        Json(Self { object: "list", data: schemas.map(SchemaSummary::of).collect(), has_more: false })
    }
}

/// All schemas, each in its newest release.
#[utoipa::path(get, path = "/v1/schemas", tag = "schemas", operation_id = "list_schemas", responses((status = 200, body = SchemaList)))]
pub(crate) async fn list(State(state): State<AppState>) -> Reply<SchemaList> {
    let all = state.schemas().await?;
    let mut ids: Vec<_> = all.iter().map(|schema| schema.schema().id.clone()).collect();
    ids.dedup();
    let newest: Vec<_> = ids.iter().filter_map(|id| all.get(id)).collect();
    Ok(SchemaList::of(newest.iter().map(|schema| &**schema)))
}

/// A schema's document, by `id` (its newest release) or `id@version`.
#[utoipa::path(get, path = "/v1/schemas/{id}", tag = "schemas", operation_id = "retrieve_schema",
    params(("id" = String, Path, description = "`id` or `id@version`")), responses((status = 200, body = Object)))]
pub(crate) async fn retrieve(State(state): State<AppState>, Name(id): Name) -> Reply<Value> {
    let schema = state.schema(&id).await?;
    Ok(Json(json!(schema.schema())))
}

/// All versions of a schema, the oldest first.
#[utoipa::path(get, path = "/v1/schemas/{id}/versions", tag = "schemas", operation_id = "list_schema_versions",
    params(("id" = String, Path)), responses((status = 200, body = SchemaList)))]
pub(crate) async fn versions(State(state): State<AppState>, Name(id): Name) -> Reply<SchemaList> {
    let newest = state.schema(&id).await?;
    let all = state.schemas().await?;
    Ok(SchemaList::of(all.iter().map(|schema| &**schema).filter(|schema| schema.schema().id == newest.schema().id)))
}

/// Which form of a JSON Schema is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct FormQuery {
    /// `decode` for the engine that writes answers (the default), `answers` for whoever reads them.
    #[serde(default)]
    #[param(inline)]
    form: Form,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Form {
    #[default]
    Decode,
    Answers,
}

/// The JSON Schema of the answers.
#[utoipa::path(get, path = "/v1/schemas/{id}/json_schema", tag = "schemas", operation_id = "schema_json_schema",
    params(("id" = String, Path), FormQuery), responses((status = 200, body = Object)))]
pub(crate) async fn json_schema(
    State(state): State<AppState>,
    Name(id): Name,
    Params(wanted): Params<FormQuery>,
) -> Reply<Value> {
    let (schema, FormQuery { form }) = (state.schema(&id).await?, wanted);
    Ok(Json(match form {
        Form::Decode => schema.decode_schema().clone(),
        Form::Answers => schema.json_schema().clone(),
    }))
}

/// In which language a page is.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct LocaleQuery {
    /// Its language, such as `de`; by default `en`.
    locale: Option<String>,
}

/// A labelling configuration.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LabelConfigObject {
    /// The schema, as `id@version`.
    schema: String,
    /// The XML that a project of Label Studio takes.
    label_config: String,
    /// What the page cannot do as the schema says it.
    #[schema(value_type = Vec<Object>)]
    warnings: Value,
}

/// The page by which people review in Label Studio.
#[utoipa::path(get, path = "/v1/schemas/{id}/label_config", tag = "schemas", operation_id = "schema_label_config",
    params(("id" = String, Path), LocaleQuery), responses((status = 200, body = LabelConfigObject)))]
pub(crate) async fn label_studio_config(
    State(state): State<AppState>,
    Name(id): Name,
    Params(wanted): Params<LocaleQuery>,
) -> Reply<LabelConfigObject> {
    let (schema, LocaleQuery { locale }) = (state.schema(&id).await?, wanted);
    let options =
        locale.map_or_else(LabelConfigOptions::default, |locale| LabelConfigOptions::default().with_locale(locale));
    let config = label_config(&schema, &options)
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.code(), error.to_string()))?;
    let schema = schema.schema().reference().to_string();
    Ok(Json(LabelConfigObject { schema, label_config: config.xml, warnings: json!(config.warnings) }))
}

/// Which versions are compared.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiffQuery {
    /// The older version.
    from: String,
    /// The newer version.
    to: String,
}

/// What changed between two versions of a schema.
#[utoipa::path(get, path = "/v1/schemas/{id}/diff", tag = "schemas", operation_id = "schema_diff",
    params(("id" = String, Path), DiffQuery), responses((status = 200, body = Object)))]
pub(crate) async fn diff(
    State(state): State<AppState>,
    Name(id): Name,
    Params(wanted): Params<DiffQuery>,
) -> Reply<Value> {
    let DiffQuery { from, to } = wanted;
    let version = |param: &'static str, text: &str| {
        Version::parse(text).map_err(|error| ApiError::invalid(param, format!("{text:?} is no version: {error}")))
    };
    let (from, to) = (version("from", &from)?, version("to", &to)?);
    let unknown = || ApiError::not_found("schema", &format!("{id}@{from} and {id}@{to}"));
    let diff = state.schemas().await?.diff(&id, &from, &to).ok_or_else(unknown)?;
    let changes: Vec<Value> = diff
        .changes()
        .iter()
        .map(|change| json!({"path": change.path, "kind": change.kind, "bump": change.bump()}))
        .collect();
    Ok(Json(json!({"id": id, "from": from, "to": to, "bump": diff.bump(), "changes": changes})))
}

/// A record that is to be asked about.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PromptRequest {
    /// Values by the names of the schema's fields.
    #[serde(default)]
    fields: Map<String, Value>,
}

/// What a model reads about a record.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PromptObject {
    /// The schema, as `id@version`.
    schema: String,
    /// The conversation.
    #[schema(value_type = Vec<Object>)]
    messages: Value,
    /// Fields that were cut off.
    truncated: Vec<String>,
    /// The format that the answer is held to, as `structured_outputs.json` or in `response_format`.
    #[schema(value_type = Object)]
    decode_schema: Value,
}

/// What a model reads, with the names of the fields in the place of their values.
#[utoipa::path(get, path = "/v1/schemas/{id}/prompt", tag = "schemas", operation_id = "schema_prompt",
    params(("id" = String, Path)), responses((status = 200, body = PromptObject)))]
pub(crate) async fn prompt(State(state): State<AppState>, Name(id): Name) -> Reply<PromptObject> {
    let schema = state.schema(&id).await?;
    let mut record = Record::new("example");
    for field in &schema.schema().fields {
        let hole = format!("<{}>", field.id);
        let value = match &field.kind {
            FieldKind::Chat => json!([{"role": "user", "content": hole}]),
            FieldKind::Structured { .. } => json!([]),
            FieldKind::Number => json!(0),
            FieldKind::Boolean => json!(true),
            FieldKind::Date => json!("2026-01-31"),
            _ => json!(hole),
        };
        record.fields.insert(field.id.to_string(), value);
    }
    prompt_of(&schema, &record)
}

/// What a model reads about a record.
#[utoipa::path(post, path = "/v1/schemas/{id}/prompt", tag = "schemas", operation_id = "schema_prompt_of_record",
    params(("id" = String, Path)), request_body = PromptRequest, responses((status = 200, body = PromptObject)))]
pub(crate) async fn prompt_of_record(
    State(state): State<AppState>,
    Name(id): Name,
    JsonBody(request): JsonBody<PromptRequest>,
) -> Reply<PromptObject> {
    let schema = state.schema(&id).await?;
    let mut record = Record::new("record");
    record.fields = request.fields;
    prompt_of(&schema, &record)
}

fn prompt_of(schema: &CompiledSchema, record: &Record) -> Reply<PromptObject> {
    let prompt = schema.prompt(record, &[], AnswerForm::Json);
    let prompt = prompt.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.code(), error.to_string()))?;
    Ok(Json(PromptObject {
        schema: schema.schema().reference().to_string(),
        messages: json!(prompt.messages),
        truncated: prompt.truncated.iter().map(ToString::to_string).collect(),
        decode_schema: schema.decode_schema_for(record),
    }))
}

/// Registers a schema, if this server lets its callers do that. One that is there already, word for word, is given back.
#[utoipa::path(post, path = "/v1/schemas", tag = "schemas", operation_id = "register_schema", request_body = Object,
    responses((status = 201, body = SchemaSummary),
        (status = 403, description = "Callers may not add schemas", body = ref("#/components/schemas/ErrorEnvelope"))))]
pub(crate) async fn register(
    State(state): State<AppState>,
    JsonBody(document): JsonBody<Value>,
) -> Result<Response, ApiError> {
    if !state.config().allow_register_schemas {
        let message =
            "This server has the schemas that it was started with: its configuration does not let callers add any.";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "schemas_are_fixed", message));
    }
    let schema = TaskSchema::from_value(&document)
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.code(), error.to_string()))?;
    let compiled = state.tasks()?.register(schema.schema, state.jobs().now()).await?;
    Ok((StatusCode::CREATED, Json(SchemaSummary::of(&compiled))).into_response())
}
