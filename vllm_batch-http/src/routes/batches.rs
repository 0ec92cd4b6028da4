//! Batches, from their creation to their results.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde_json::Value;
use vllm_batch::jobs::Batch;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Id, JsonBody, Params};
use crate::state::AppState;
use crate::wire::{BatchListQuery, CreateBatch, FailedList, FailedQuery, ObjectList};

/// Creates a batch, which waits for a worker.
#[utoipa::path(post, path = "/v1/batches", tag = "batches", operation_id = "create_batch", request_body = CreateBatch,
    responses((status = 200, description = "The batch", body = ref("#/components/schemas/Batch"))))]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    JsonBody(wanted): JsonBody<CreateBatch>,
) -> Result<Json<Value>, ApiError> {
    let batch = wanted.into_new_batch(caller.owner());
    let batch = state.jobs().create_batch_within(caller.limits().of_queue(), batch).await?;
    tracing::info!(batch = batch.id, file = batch.input_file_id, "batch created");
    Ok(Json(batch.to_object()))
}

/// Lists batches.
#[utoipa::path(get, path = "/v1/batches", tag = "batches", operation_id = "list_batches", params(BatchListQuery),
    responses((status = 200, description = "Batches", body = ref("#/components/schemas/BatchList"))))]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Params(query): Params<BatchListQuery>,
) -> Result<Json<ObjectList>, ApiError> {
    let page = state.jobs().batches(&query.into_query(caller.owner())?).await?;
    Ok(Json(ObjectList::new(&page, Batch::to_object)))
}

/// How far a batch is.
#[utoipa::path(get, path = "/v1/batches/{id}", tag = "batches", operation_id = "retrieve_batch", params(("id" = String, Path)),
    responses((status = 200, description = "The batch", body = ref("#/components/schemas/Batch"))))]
pub(crate) async fn retrieve(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(state.jobs().batch(caller.owner(), &id).await?.to_object()))
}

/// Cancels a batch. Requests under way are ended and kept, the others are told of it in the error file.
#[utoipa::path(post, path = "/v1/batches/{id}/cancel", tag = "batches", operation_id = "cancel_batch", params(("id" = String, Path)),
    responses((status = 200, description = "The batch", body = ref("#/components/schemas/Batch"))))]
pub(crate) async fn cancel(State(state): State<AppState>, caller: Caller, Id(id): Id) -> Result<Json<Value>, ApiError> {
    Ok(Json(state.jobs().cancel_batch(caller.owner(), &id).await?.to_object()))
}

/// Why requests of a batch failed, once it has ended. An extension.
#[utoipa::path(get, path = "/v1/batches/{id}/failed", tag = "batches", operation_id = "list_failed_requests",
    params(("id" = String, Path), FailedQuery), responses((status = 200, description = "Requests that failed", body = FailedList)))]
pub(crate) async fn failed(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    Params(query): Params<FailedQuery>,
) -> Result<Json<FailedList>, ApiError> {
    Ok(Json(FailedList::new(state.jobs().failed_rows(caller.owner(), &id, query.range()?).await?)))
}

/// Creates a batch of the requests that failed. An extension.
#[utoipa::path(post, path = "/v1/batches/{id}/retry", tag = "batches", operation_id = "retry_batch", params(("id" = String, Path)),
    responses((status = 200, description = "The new batch", body = ref("#/components/schemas/Batch"))))]
pub(crate) async fn retry(State(state): State<AppState>, caller: Caller, Id(id): Id) -> Result<Json<Value>, ApiError> {
    let batch = state.jobs().retry_failed_within(caller.limits().of_queue(), caller.owner(), &id).await?;
    Ok(Json(batch.to_object()))
}

/// All rows of a batch that has ended: the answers, then those that failed. An extension.
#[utoipa::path(get, path = "/v1/batches/{id}/results", tag = "batches", operation_id = "retrieve_batch_results",
    params(("id" = String, Path)),
    responses((status = 200, description = "One row for each request", body = String, content_type = "application/jsonl")))]
pub(crate) async fn results(State(state): State<AppState>, caller: Caller, Id(id): Id) -> Result<Response, ApiError> {
    let batch = state.jobs().batch(caller.owner(), &id).await?;
    if !batch.status.is_terminal() {
        let message = format!("The batch is {}: its results are there when it has ended.", batch.status.as_str());
        return Err(ApiError::new(StatusCode::CONFLICT, "invalid_status", message));
    }
    let mut parts = Vec::new();
    for file in [batch.output_file_id, batch.error_file_id].into_iter().flatten() {
        parts.push(state.jobs().content(caller.owner(), &file, None).await?.content);
    }
    let rows = Body::from_stream(stream::iter(parts).flatten());
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], rows).into_response())
}
