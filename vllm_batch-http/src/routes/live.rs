//! Requests that are answered at once.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use vllm_batch::batch::{BatchResponse, Endpoint, LiveRequest, ResponseBody};

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::JsonBody;
use crate::observe::RequestName;
use crate::sse;
use crate::state::AppState;

/// The body of a request.
type Body = JsonBody<Map<String, Value>>;

/// Answers a conversation.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "live", operation_id = "create_chat_completion",
    request_body = ref("#/components/schemas/ChatCompletionRequest"),
    responses((status = 200, description = "The answer; with `stream` in chunks", content(
        (ref("#/components/schemas/ChatCompletion") = "application/json"),
        (ref("#/components/schemas/ChatCompletionChunk") = "text/event-stream")))))]
pub(crate) async fn chat_completions(
    state: State<AppState>,
    caller: Caller,
    name: Extension<RequestName>,
    body: Body,
) -> Response {
    answer(&state, &caller, (Endpoint::ChatCompletions, &name), body).await.into_response()
}

/// Goes on with a text.
#[utoipa::path(post, path = "/v1/completions", tag = "live", operation_id = "create_completion",
    request_body = ref("#/components/schemas/CompletionRequest"),
    responses((status = 200, description = "The answer; with `stream` in chunks", content(
        (ref("#/components/schemas/Completion") = "application/json"),
        (ref("#/components/schemas/CompletionChunk") = "text/event-stream")))))]
pub(crate) async fn completions(
    state: State<AppState>,
    caller: Caller,
    name: Extension<RequestName>,
    body: Body,
) -> Response {
    answer(&state, &caller, (Endpoint::Completions, &name), body).await.into_response()
}

/// Makes vectors of texts.
#[utoipa::path(post, path = "/v1/embeddings", tag = "live", operation_id = "create_embedding",
    request_body = ref("#/components/schemas/EmbeddingRequest"),
    responses((status = 200, description = "The vectors", body = ref("#/components/schemas/EmbeddingList"))))]
pub(crate) async fn embeddings(
    state: State<AppState>,
    caller: Caller,
    name: Extension<RequestName>,
    body: Body,
) -> Response {
    answer(&state, &caller, (Endpoint::Embeddings, &name), body).await.into_response()
}

/// Says how likely labels are, or whether documents answer a query. vLLM's; also at `/score`.
#[utoipa::path(post, path = "/v1/score", tag = "live", operation_id = "create_score",
    request_body = ref("#/components/schemas/ScoreRequest"),
    responses((status = 200, description = "The scores", body = ref("#/components/schemas/ScoreList"))))]
pub(crate) async fn score(
    state: State<AppState>,
    caller: Caller,
    name: Extension<RequestName>,
    body: Body,
) -> Response {
    answer(&state, &caller, (Endpoint::Score, &name), body).await.into_response()
}

async fn answer(
    state: &AppState,
    caller: &Caller,
    (endpoint, name): (Endpoint, &RequestName),
    JsonBody(body): Body,
) -> Result<Response, ApiError> {
    let engine = state.engine()?;
    let request = LiveRequest::parse(endpoint, name.as_str(), body, engine.spec())?;
    let permit = state.live().take(caller.allowance())?;
    let created = state.config().clock.now();
    if request.is_stream() {
        return sse::answer(request.stream(&**engine, created), permit, state.config().keep_alive).await;
    }
    let BatchResponse { status_code, body, .. } = request.answer(&**engine, created).await;
    drop(permit);
    match body {
        ResponseBody::Error { error } => Err(ApiError::of_answer(status_code, error)),
        body => Ok((StatusCode::OK, Json(body)).into_response()),
    }
}
