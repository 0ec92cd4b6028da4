//! What can be asked, and who answers?

mod batches;
mod curation;
mod files;
mod health;
mod label_studio;
mod live;
mod models;
mod queue;
mod schemas;
mod webhooks;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};
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
        .merge(review())
        .route("/v1/webhooks/dead-letter", get(webhooks::list))
        .route("/v1/webhooks/dead-letter/{id}", delete(webhooks::delete))
        .route("/v1/webhooks/dead-letter/{id}/retry", post(webhooks::retry))
}

/// What people review, and by which schemas.
fn review() -> Router<AppState> {
    Router::new()
        .route("/v1/schemas", get(schemas::list).post(schemas::register))
        .route("/v1/schemas/{id}", get(schemas::retrieve))
        .route("/v1/schemas/{id}/versions", get(schemas::versions))
        .route("/v1/schemas/{id}/json_schema", get(schemas::json_schema))
        .route("/v1/schemas/{id}/label_config", get(schemas::label_studio_config))
        .route("/v1/schemas/{id}/diff", get(schemas::diff))
        .route("/v1/schemas/{id}/prompt", get(schemas::prompt).post(schemas::prompt_of_record))
        .route("/v1/curation/tasks", get(curation::tasks::list).post(curation::tasks::create))
        .route("/v1/curation/tasks/next", get(curation::tasks::next))
        .route("/v1/curation/tasks/import", post(curation::requests::import))
        .route("/v1/curation/tasks/{id}", get(curation::tasks::retrieve))
        .route("/v1/curation/imports/{id}", get(curation::requests::import_report))
        .route("/v1/curation/annotations", post(curation::requests::annotate).delete(curation::requests::withdraw))
        .route("/v1/curation/gold", post(curation::requests::gold))
        .route("/v1/curation/export", post(curation::export::export))
        .route("/v1/curation/stats", get(curation::requests::stats))
        .route("/v1/curation/agreement", get(curation::requests::agreement))
        .route("/v1/curation/migrate", post(curation::requests::migrate))
}

/// Routes for everybody: nothing of anybody is in them.
pub(crate) fn without_keys() -> Router<AppState> {
    Router::new()
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        // It has a secret of its own.
        .route("/v1/webhooks/label-studio", post(label_studio::receive))
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
        schemas::list,
        schemas::register,
        schemas::retrieve,
        schemas::versions,
        schemas::json_schema,
        schemas::label_studio_config,
        schemas::diff,
        schemas::prompt,
        schemas::prompt_of_record,
        curation::tasks::create,
        curation::tasks::list,
        curation::tasks::next,
        curation::tasks::retrieve,
        curation::requests::import,
        curation::requests::import_report,
        curation::requests::annotate,
        curation::requests::withdraw,
        curation::requests::gold,
        curation::export::export,
        curation::requests::stats,
        curation::requests::agreement,
        curation::requests::migrate,
        webhooks::list,
        webhooks::retry,
        webhooks::delete,
        label_studio::receive,
    ),
    components(schemas(wire::UploadFile))
)]
pub(crate) struct Described;
