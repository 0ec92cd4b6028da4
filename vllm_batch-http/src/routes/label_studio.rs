//! What does Label Studio say?

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use vllm_batch::pipeline::label_studio::WebhookError;

use super::curation::Reply;
use crate::error::ApiError;
use crate::extract::parse;
use crate::state::AppState;

/// What became of an event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventObject {
    /// What happened there.
    action: String,
    /// What became of each annotation: `status` is `saved`, `removed` or `ignored`, and then there is a `reason`.
    #[schema(value_type = Vec<Object>)]
    outcomes: Value,
}

/// Takes an event of Label Studio. Its secret is in a header that the webhook was made with; there is no API key.
#[utoipa::path(post, path = "/v1/webhooks/label-studio", tag = "webhooks", operation_id = "label_studio_event",
    security(()), request_body = Object, responses((status = 200, body = EventObject),
        (status = 401, description = "The secret is wrong", body = crate::ErrorEnvelope)))]
pub(crate) async fn receive(State(state): State<AppState>, headers: HeaderMap, body: Bytes) -> Reply<EventObject> {
    let receiver = state.label_studio().ok_or_else(|| {
        let message = "This server has no secret for events of Label Studio.";
        ApiError::new(StatusCode::NOT_FOUND, "no_label_studio", message)
    })?;
    let headers = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let event = receiver.verify(headers, &body).map_err(|error| match error {
        WebhookError::WrongSecret { .. } => ApiError::new(StatusCode::UNAUTHORIZED, error.code(), error.to_string()),
        _ => ApiError::new(StatusCode::BAD_REQUEST, error.code(), error.to_string()),
    })?;
    let whole: Value = parse(&body)?;
    let outcomes = state.tasks()?.apply_label_studio(&whole, state.jobs().now()).await?;
    Ok(Json(EventObject { action: event.action, outcomes: json!(outcomes) }))
}
