//! Files: the inputs of batches, and their results.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use vllm_batch::jobs::FileObject;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Id, Params};
use crate::ranges::{Part, disposition, entity_tag, wanted_part};
use crate::state::AppState;
use crate::upload;
use crate::wire::{DeletedFile, FileListQuery, ObjectList};

/// Uploads the input of a batch.
#[utoipa::path(post, path = "/v1/files", tag = "files", operation_id = "create_file",
    request_body(content = ref("#/components/schemas/UploadFile"), content_type = "multipart/form-data"),
    responses((status = 200, description = "The file", body = ref("#/components/schemas/File"))))]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let file = upload::receive(&state, &caller, request).await?;
    Ok(Json(file.to_object()))
}

/// Lists files.
#[utoipa::path(get, path = "/v1/files", tag = "files", operation_id = "list_files", params(FileListQuery),
    responses((status = 200, description = "Files", body = ref("#/components/schemas/FileList"))))]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Params(query): Params<FileListQuery>,
) -> Result<Json<ObjectList>, ApiError> {
    let page = state.jobs().files(&query.into_query(caller.owner())?).await?;
    Ok(Json(ObjectList::new(&page, FileObject::to_object)))
}

/// What is known of a file.
#[utoipa::path(get, path = "/v1/files/{id}", tag = "files", operation_id = "retrieve_file", params(("id" = String, Path)),
    responses((status = 200, description = "The file", body = ref("#/components/schemas/File"))))]
pub(crate) async fn retrieve(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(state.jobs().file(caller.owner(), &id).await?.to_object()))
}

/// Deletes a file. One that a batch which has not ended reads is kept: 409.
#[utoipa::path(delete, path = "/v1/files/{id}", tag = "files", operation_id = "delete_file", params(("id" = String, Path)),
    responses((status = 200, description = "What was deleted", body = DeletedFile)))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<DeletedFile>, ApiError> {
    state.jobs().delete_file(caller.owner(), &id).await?;
    Ok(Json(DeletedFile::new(id)))
}

/// The content of a file, or the part of it that `Range` asks for.
#[utoipa::path(get, path = "/v1/files/{id}/content", tag = "files", operation_id = "retrieve_file_content",
    params(("id" = String, Path), ("range" = Option<String>, Header, description = "One range of bytes, such as `bytes=0-99`"),
        ("if-none-match" = Option<String>, Header, description = "The entity tag of what is there already")),
    responses((status = 200, description = "The content", body = String, content_type = "application/jsonl"),
        (status = 206, description = "A part of the content", body = String, content_type = "application/jsonl"),
        (status = 304, description = "The content is what is there already"),
        (status = 416, description = "There is no such part", body = crate::ErrorEnvelope)))]
pub(crate) async fn content(
    State(state): State<AppState>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let file = state.jobs().file(caller.owner(), &id).await?;
    let (status, range) = match wanted_part(&headers, &file) {
        Part::Unchanged => return Ok((StatusCode::NOT_MODIFIED, [(ETAG, entity_tag(&file))]).into_response()),
        Part::Nothing => return Ok(no_such_part(&file)),
        Part::All => (StatusCode::OK, None),
        Part::Of(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
    };
    let (start, end) = range.as_ref().map_or((0, file.bytes), |range| (range.start, range.end));
    let content = state.jobs().content(caller.owner(), &id, range).await?.content;
    let head = [
        (CONTENT_TYPE, "application/jsonl".to_owned()),
        (CONTENT_LENGTH, (end - start).to_string()),
        (CONTENT_DISPOSITION, disposition(&file.filename)),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (ETAG, entity_tag(&file)),
    ];
    let mut response = (status, head, Body::from_stream(content)).into_response();
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(place) = format!("bytes {start}-{}/{}", end.saturating_sub(1), file.bytes).parse()
    {
        response.headers_mut().insert(CONTENT_RANGE, place);
    }
    Ok(response)
}

fn no_such_part(file: &FileObject) -> Response {
    let message = format!("The file has {} bytes.", file.bytes);
    let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "invalid_range", message);
    ([(CONTENT_RANGE, format!("bytes */{}", file.bytes))], error).into_response()
}
