//! What can be asked, and who answers?

mod batches;
mod files;
mod health;
mod live;
mod models;
mod queue;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use utoipa::OpenApi;

use crate::metrics;
use crate::state::AppState;
use crate::wire;

/// Routes for those who have a key, if keys are needed.
pub(crate) fn with_keys() -> Router<AppState> {
    Router::new()
        // Files have a limit of their own.
        .route("/v1/files", post(files::create).layer(DefaultBodyLimit::disable()).get(files::list))
        .route("/v1/files/{id}", get(files::retrieve).delete(files::delete))
        .route("/v1/files/{id}/content", get(files::content))
        .route("/v1/batches", post(batches::create).get(batches::list))
        .route("/v1/batches/{id}", get(batches::retrieve))
        .route("/v1/batches/{id}/cancel", post(batches::cancel))
        .route("/v1/batches/{id}/failed", get(batches::failed))
        .route("/v1/batches/{id}/results", get(batches::results))
        .route("/v1/batches/{id}/retry", post(batches::retry))
        .route("/v1/chat/completions", post(live::chat_completions))
        .route("/v1/completions", post(live::completions))
        .route("/v1/embeddings", post(live::embeddings))
        .route("/v1/score", post(live::score))
        .route("/score", post(live::score))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::retrieve))
        .route("/v1/queue", get(queue::queue))
        .route("/v1/jobs/stats", get(queue::stats))
        .route("/v1/jobs/history", get(queue::history))
        .route("/metrics", get(metrics::show))
}

/// Routes for everybody: nothing of anybody is in them.
pub(crate) fn without_keys() -> Router<AppState> {
    Router::new().route("/health", get(health::health)).route("/ready", get(health::ready))
}

/// All routes, described.
#[derive(OpenApi)]
#[openapi(
    paths(
        files::create,
        files::list,
        files::retrieve,
        files::delete,
        files::content,
        batches::create,
        batches::list,
        batches::retrieve,
        batches::cancel,
        batches::failed,
        batches::results,
        batches::retry,
        live::chat_completions,
        live::completions,
        live::embeddings,
        live::score,
        models::list,
        models::retrieve,
        queue::queue,
        queue::stats,
        queue::history,
        health::health,
        health::ready,
        metrics::show,
    ),
    components(schemas(wire::UploadFile))
)]
pub(crate) struct Described;
