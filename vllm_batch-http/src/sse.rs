//! How do answers come that are written while they are sent?
//!
//! As server-sent events, each with a chunk in JSON, and `[DONE]` at the end. An error that comes before any chunk is answered
//! with its HTTP status; a later one is an event, and the last. Who goes away is noticed: the stream is dropped, which aborts
//! the request.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, future, stream};
use serde::Serialize;
use vllm_batch::batch::{BatchResponse, CompletionChunk, LiveStream, ResponseBody};

use crate::error::ApiError;
use crate::limits::LivePermit;

/// Answers with chunks; `permit` is kept until the last of them.
///
/// # Errors
/// That of the request, if it comes before any chunk.
pub(crate) async fn answer(
    mut chunks: LiveStream,
    permit: LivePermit,
    keep_alive: Duration,
) -> Result<Response, ApiError> {
    let first = match chunks.next().await {
        Some(Err(refused)) => return Err(error_of(refused)),
        first => first,
    };
    let events = events(stream::iter(first).chain(chunks)).map(move |event| {
        let _held = &permit;
        Ok::<_, Infallible>(event)
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(keep_alive)).into_response();
    // Proxies must not collect what is to be seen at once.
    let headers = response.headers_mut();
    headers.insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    Ok(response)
}

/// The chunks as events, and what stands after the last of them.
fn events(
    chunks: impl Stream<Item = Result<CompletionChunk, BatchResponse>> + Send,
) -> impl Stream<Item = Event> + Send {
    let done = stream::once(future::ready(Event::default().data("[DONE]")));
    let events = chunks.map(|chunk| match chunk {
        Ok(chunk) => event(&chunk),
        Err(refused) => {
            let error = error_of(refused);
            error.log();
            event(&error.into_envelope())
        }
    });
    events.chain(done)
}

fn event(data: &impl Serialize) -> Event {
    Event::default().json_data(data).unwrap_or_else(|error| Event::default().comment(error.to_string()))
}

fn error_of(refused: BatchResponse) -> ApiError {
    match refused.body {
        ResponseBody::Error { error } => ApiError::of_answer(refused.status_code, error),
        _ => ApiError::internal("a stream ended with an answer"),
    }
}
