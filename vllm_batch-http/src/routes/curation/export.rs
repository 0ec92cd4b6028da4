//! Training data of what was reviewed.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;
use vllm_batch::curate::export::{AnnotatorNames, AnswerSource, ExportFormat, ExportOptions, Split, Splits};
use vllm_batch::pipeline::tasks::TaskExport;

use crate::error::ApiError;
use crate::extract::JsonBody;
use crate::state::AppState;

/// Which training data are wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportRequest {
    /// `id` (the version that the tasks have) or `id@version`.
    schema: String,
    /// `openai_chat`, `trl_messages`, `icl_text`, …
    format: String,
    /// Whether only gold records give rows (the default); otherwise also those that exactly one person has answered count, by their answers.
    gold_only: Option<bool>,
    /// Only records on which people agree at least so much, from 0 to 1.
    min_agreement: Option<f64>,
    /// Of preferences: the share of questions that people answered otherwise. It must be more than this.
    min_strength: Option<f64>,
    /// Whether answers to `reasoning` questions go in.
    #[serde(default)]
    reasoning: bool,
    /// The share of records for validation.
    #[serde(default)]
    validation: f64,
    /// The share of records for tests.
    #[serde(default)]
    test: f64,
    /// Decides together with a record's name which share it belongs to.
    #[serde(default)]
    salt: String,
    /// Only rows of one share: `train`, `validation`, `test`.
    split: Option<String>,
    /// Whether rows have the names of the people who answered.
    #[serde(default)]
    annotators: bool,
    /// Whether only the number of rows is wanted, and why records give none.
    #[serde(default)]
    report: bool,
}

/// Training data, row by row. They are made as they are sent, so an error in the middle cuts the answer off.
#[utoipa::path(post, path = "/v1/curation/export", tag = "curation", operation_id = "export_tasks", request_body = ExportRequest,
    responses((status = 200, description = "Rows, or with `report` an object", content_type = "application/jsonl")))]
pub(crate) async fn export(
    State(state): State<AppState>,
    JsonBody(wanted): JsonBody<ExportRequest>,
) -> Result<Response, ApiError> {
    let schema = state.tasks()?.find_used_schema(&wanted.schema).await?.schema().reference();
    let export = wanted.read(schema)?;
    if wanted.report {
        return Ok(Json(json!(state.tasks()?.export_report(&export).await?)).into_response());
    }
    let lines = state.tasks()?.export(&export).await?;
    let rows = stream::unfold(lines, |mut lines| async move {
        let next = lines.next().await?;
        if let Err(error) = &next {
            tracing::error!(%error, "an export is cut off");
        }
        Some((next.map(Bytes::from), lines))
    });
    let media =
        if export.options.format == ExportFormat::IclText { "text/plain; charset=utf-8" } else { "application/jsonl" };
    Ok(([(header::CONTENT_TYPE, media)], Body::from_stream(rows)).into_response())
}

impl ExportRequest {
    fn read(&self, schema: vllm_batch::curate::SchemaRef) -> Result<TaskExport, ApiError> {
        let share = |param: &str, value: Option<f64>| match value {
            Some(value) if !(0.0..=1.0).contains(&value) => Err(ApiError::invalid(param, "It must be from 0 to 1.")),
            value => Ok(value),
        };
        let format = self.format.parse().map_err(|error: String| ApiError::invalid("format", error))?;
        let mut options = ExportOptions::new(format).with_reasoning(self.reasoning);
        options.min_strength = share("min_strength", self.min_strength)?.unwrap_or(options.min_strength);
        if self.gold_only == Some(false) {
            options.answers = AnswerSource::SingleResponse;
        }
        if self.annotators {
            options.annotators = AnnotatorNames::Names;
        }
        let mut export = TaskExport::new(schema, options);
        export.min_agreement = share("min_agreement", self.min_agreement)?;
        let splits = Splits::new(self.validation, self.test, &*self.salt);
        export.splits = Some(splits.map_err(|error| ApiError::invalid("validation", error.to_string()))?);
        if let Some(name) = &self.split {
            let split = Split::ALL.into_iter().find(|split| split.name() == name);
            export.split =
                Some(split.ok_or_else(|| ApiError::invalid("split", "There are train, validation and test."))?);
        }
        Ok(export)
    }
}
