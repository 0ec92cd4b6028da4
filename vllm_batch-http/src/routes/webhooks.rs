//! Which messages did no receiver take?

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use vllm_batch::jobs::Delivery;

use super::curation::Reply;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Id, Params};
use crate::state::AppState;

/// A message that no receiver took.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetter {
    /// The `webhook-id`.
    id: String,
    /// Always `webhook.delivery`.
    object: &'static str,
    /// The batch.
    batch_id: String,
    /// The event, such as `batch.completed`.
    event: &'static str,
    /// `pending`, `delivered`, `dead`.
    #[schema(value_type = String)]
    state: vllm_batch::jobs::DeliveryState,
    /// Tries so far.
    attempts: i64,
    /// What went wrong last.
    #[schema(required)]
    last_error: Option<String>,
    /// When the event happened.
    created_at: i64,
}

impl From<Delivery> for DeadLetter {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id,
            object: "webhook.delivery",
            batch_id: delivery.batch_id,
            event: delivery.event.as_str(),
            state: delivery.state,
            attempts: delivery.attempts,
            last_error: delivery.last_error,
            created_at: delivery.created_at,
        }
    }
}

/// Messages, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterList {
    /// Always `list`.
    object: &'static str,
    /// The messages.
    data: Vec<DeadLetter>,
    /// Whether there may be more.
    has_more: bool,
}

/// How many messages are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetterQuery {
    /// The most, from 1 to 1,000; by default 100.
    limit: Option<usize>,
}

/// Messages about the caller's batches that no receiver took.
#[utoipa::path(get, path = "/v1/webhooks/dead-letter", tag = "webhooks", operation_id = "list_dead_letters",
    params(DeadLetterQuery), responses((status = 200, body = DeadLetterList)))]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Params(wanted): Params<DeadLetterQuery>,
) -> Reply<DeadLetterList> {
    let limit = wanted.limit.unwrap_or(100);
    if !(1..=1_000).contains(&limit) {
        return Err(ApiError::invalid("limit", "It must be from 1 to 1000."));
    }
    let mut found = state.jobs().dead_letters(caller.owner(), limit + 1).await?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    Ok(Json(DeadLetterList { object: "list", data: found.into_iter().map(DeadLetter::from).collect(), has_more }))
}

/// Sends a message again, as if it had never been tried.
#[utoipa::path(post, path = "/v1/webhooks/dead-letter/{id}/retry", tag = "webhooks", operation_id = "retry_dead_letter",
    params(("id" = String, Path)), responses((status = 200, body = DeadLetter)))]
pub(crate) async fn retry(State(state): State<AppState>, caller: Caller, Id(id): Id) -> Reply<DeadLetter> {
    Ok(Json(state.jobs().replay(caller.owner(), &id).await?.into()))
}

/// What was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedDeadLetter {
    /// The message.
    id: String,
    /// Always `webhook.delivery.deleted`.
    object: &'static str,
    /// Always true.
    deleted: bool,
}

/// Forgets a message.
#[utoipa::path(delete, path = "/v1/webhooks/dead-letter/{id}", tag = "webhooks", operation_id = "delete_dead_letter",
    params(("id" = String, Path)), responses((status = 200, body = DeletedDeadLetter)))]
pub(crate) async fn delete(State(state): State<AppState>, caller: Caller, Id(id): Id) -> Reply<DeletedDeadLetter> {
    state.jobs().delete_message(caller.owner(), &id).await?;
    Ok(Json(DeletedDeadLetter { id, object: "webhook.delivery.deleted", deleted: true }))
}
