//! What waits, who works, and what there has been. Extensions of `OpenAI`'s interface.

use axum::Json;
use axum::extract::State;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::Params;
use crate::state::AppState;
use crate::wire::{BatchListQuery, History, QueueObject, QueueQuery, StatsObject};

/// The caller's batches that have not ended, their places among all, and when they are likely to be done.
#[utoipa::path(get, path = "/v1/queue", tag = "queue", operation_id = "retrieve_queue", params(QueueQuery),
    responses((status = 200, description = "The queue", body = QueueObject)))]
pub(crate) async fn queue(
    State(state): State<AppState>,
    caller: Caller,
    Params(query): Params<QueueQuery>,
) -> Result<Json<QueueObject>, ApiError> {
    Ok(Json(state.jobs().queue(Some(caller.owner()), query.limit()?).await?.into()))
}

/// How many batches the caller has, by status.
#[utoipa::path(get, path = "/v1/jobs/stats", tag = "queue", operation_id = "retrieve_stats",
    responses((status = 200, description = "Numbers of batches", body = StatsObject)))]
pub(crate) async fn stats(State(state): State<AppState>, caller: Caller) -> Result<Json<StatsObject>, ApiError> {
    Ok(Json(state.jobs().stats(Some(caller.owner())).await?.into()))
}

/// The caller's batches in numbers: how long they waited and ran, and how fast.
#[utoipa::path(get, path = "/v1/jobs/history", tag = "queue", operation_id = "list_history", params(BatchListQuery),
    responses((status = 200, description = "Batches in numbers", body = History)))]
pub(crate) async fn history(
    State(state): State<AppState>,
    caller: Caller,
    Params(query): Params<BatchListQuery>,
) -> Result<Json<History>, ApiError> {
    Ok(Json(state.jobs().batches(&query.into_query(caller.owner())?).await?.into()))
}
