//! Is the server there, and can it work?

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::state::AppState;

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`, or `ready`.
    status: &'static str,
}

/// Whether the server answers at all.
#[utoipa::path(get, path = "/health", tag = "service", operation_id = "health", security(()),
    responses((status = 200, description = "It does", body = Health)))]
pub(crate) async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether the server can do what it is asked: its database answers, and its engine is there if it has one.
#[utoipa::path(get, path = "/ready", tag = "service", operation_id = "ready", security(()),
    responses((status = 200, description = "It can", body = Health)))]
pub(crate) async fn ready(State(state): State<AppState>) -> Result<Json<Health>, ApiError> {
    if state.engine_slot().is_some() {
        state.engine()?;
    }
    state.jobs().store().ping().await?;
    Ok(Json(Health { status: "ready" }))
}
