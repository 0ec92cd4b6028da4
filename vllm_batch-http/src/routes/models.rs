//! Models that requests may name.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use crate::error::ApiError;
use crate::extract::Name;
use crate::state::AppState;
use crate::wire::{ModelList, ModelObject};

async fn models(state: &AppState) -> Result<ModelList, ApiError> {
    let workers = state.jobs().workers().await?;
    let spec = state.engine_slot().and_then(|slot| slot.get()).map(|engine| engine.spec());
    Ok(ModelList::new(spec, &workers, state.started_at()))
}

/// Lists the models of this server's engine and of all workers.
#[utoipa::path(get, path = "/v1/models", tag = "models", operation_id = "list_models",
    responses((status = 200, description = "Models", body = ModelList)))]
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<ModelList>, ApiError> {
    models(&state).await.map(Json)
}

/// A model. Its name may have slashes in it.
#[utoipa::path(get, path = "/v1/models/{id}", tag = "models", operation_id = "retrieve_model", params(("id" = String, Path)),
    responses((status = 200, description = "The model", body = ModelObject)))]
pub(crate) async fn retrieve(State(state): State<AppState>, Name(id): Name) -> Result<Json<ModelObject>, ApiError> {
    let found = models(&state).await?.data.into_iter().find(|model| model.id == id);
    found.map(Json).ok_or_else(|| {
        let message = format!("The model `{id}` does not exist here.");
        ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).with_param("model")
    })
}
