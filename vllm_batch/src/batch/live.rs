//! How is one request answered at once?

use std::fmt;

use futures::future::ready;
use futures::stream::{self, BoxStream, FuturesUnordered};
use futures::{Stream, StreamExt};
use serde_json::{Map, Value};

use super::Endpoint;
use super::chunk::{Chunks, CompletionChunk, StreamOptions};
use super::contract::Shape;
use super::key::{Keyer, RowKey};
use super::line::BatchLine;
use super::open::OpenRow;
use super::parts::{PartEvent, PartOutput, RowForm, RowRequests, wrong_kind};
use super::row::{BatchResponse, ResponseBody, Work};
use crate::engine::{BatchEngine, EngineSpec};
use crate::error::RequestError;
use crate::request::Request;

/// A request that waits for its answer: the body of a `POST` to an endpoint, as a server gets it.
///
/// Its answer is the one that a batch gives to a line with the same body, whose `custom_id` is the name of the request, byte for
/// byte. Besides, `stream` and `stream_options` may be there: then the answer comes [in chunks](Self::stream).
///
/// # Example
/// ```
/// use serde_json::json;
/// use vllm_batch::BatchEngine;
/// use vllm_batch::batch::{Endpoint, LiveRequest};
/// use vllm_batch::testing::ScriptedEngine;
///
/// let engine = ScriptedEngine::echo();
/// let body = json!({"model": "scripted", "prompt": "Once upon a time"});
/// let body = body.as_object().cloned().unwrap_or_default();
/// let request = LiveRequest::parse(Endpoint::Completions, "request-1", body, engine.spec())?;
/// let answer = futures::executor::block_on(request.answer(&engine, 1_700_000_000));
/// assert_eq!((answer.status_code, answer.body.text()), (200, Some("Once upon a time")));
/// # Ok::<(), vllm_batch::RequestError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LiveRequest {
    name: String,
    key: RowKey,
    endpoint: Endpoint,
    requests: Vec<Request>,
    form: RowForm,
    model: String,
    stream: Option<StreamOptions>,
}

/// An answer in chunks, as it is written. Dropping it aborts the request.
///
/// An error is the last item; one that comes first, before any chunk, can still be told with its HTTP status.
#[must_use = "dropping the stream aborts the request"]
pub struct LiveStream(BoxStream<'static, Result<CompletionChunk, BatchResponse>>);

impl LiveRequest {
    /// Reads a body. The ids in the answer, and the random numbers of answers without a `seed`, follow from `name`.
    ///
    /// # Errors
    /// As [`Endpoint::parse_body`]; and for what an answer in chunks cannot have: several answers of which the best are
    /// chosen, and log-probabilities of the prompt.
    pub fn parse(
        endpoint: Endpoint,
        name: &str,
        mut body: Map<String, Value>,
        spec: &EngineSpec,
    ) -> Result<Self, RequestError> {
        let (key, _) = Keyer::new(&spec.revision).request(name, endpoint.url(), &body);
        let stream = StreamOptions::take(endpoint, &mut body)?;
        let RowRequests { requests, form } = endpoint.parse_row(name, body, spec)?;
        if stream.is_some() {
            requests.iter().try_for_each(StreamOptions::check)?;
        }
        let model = form.model(spec).to_owned();
        Ok(Self { name: name.to_owned(), key, endpoint, requests, form, model, stream })
    }

    /// Whether the answer is wanted in chunks.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// The whole answer, or the refusal, as a server sends it. `created` is the time in seconds since 1970. Dropping the future
    /// aborts the request.
    pub async fn answer(self, engine: &dyn BatchEngine, created: u64) -> BatchResponse {
        let Self { name, key, endpoint, requests, form, model, .. } = self;
        let line = BatchLine { custom_id: name, endpoint, requests, form };
        let OpenRow { custom_id, form, outcome, .. } = run(OpenRow::new(key, line), engine).await;
        let outputs = match outcome {
            Ok(outputs) => outputs.into_values().collect(),
            Err((index, error)) => return refused(key, &form, (index, error)),
        };
        let work = Work { key, custom_id: &custom_id, form: &form, shape: Shape::OpenAi, model: &model, created };
        match ResponseBody::new(&work, outputs) {
            Some(body) => BatchResponse::answered(key, body),
            None => BatchResponse::refused(key, &wrong_kind(), None),
        }
    }

    /// The answer in chunks, whether that was asked for or not. Only texts come in chunks: an answer of another kind is refused.
    pub fn stream(self, engine: &dyn BatchEngine, created: u64) -> LiveStream {
        let Self { key, endpoint, requests, form, model, stream, .. } = self;
        let chunks = Chunks::new((endpoint, key), (model, created), &requests, stream.unwrap_or_default());
        let parts = requests.into_iter().enumerate();
        let events = stream::select_all(
            parts.map(|(index, request)| engine.submit(request).map(move |event| (index, PartEvent::from(event)))),
        );
        let chunks = events.scan(Some(chunks), move |state, (index, event)| {
            let Some(chunks) = state else { return ready(None) };
            let items = match event {
                PartEvent::Delta(delta) => chunks.grow(index, delta).into_iter().map(Ok).collect(),
                PartEvent::Ended(Ok(PartOutput::Text(output))) => {
                    chunks.end(index, output).into_iter().map(Ok).collect()
                }
                PartEvent::Ended(result) => {
                    *state = None;
                    let error = result.err().unwrap_or_else(wrong_kind);
                    vec![Err(refused(key, &form, (index, error)))]
                }
            };
            ready(Some(stream::iter(items)))
        });
        LiveStream(chunks.flatten().boxed())
    }
}

/// Lets an engine answer all parts of a row.
async fn run(mut row: OpenRow, engine: &dyn BatchEngine) -> OpenRow {
    let mut in_flight = FuturesUnordered::new();
    while let Some(part) = row.submit_next(1, engine) {
        in_flight.push(part.into_future());
    }
    while let Some((event, part)) = in_flight.next().await {
        match event {
            Some(PartEvent::Delta(_)) => in_flight.push(part.into_future()),
            Some(PartEvent::Ended(result)) => row.end_part(part.index, result),
            // An earlier part failed.
            None => {}
        }
    }
    row
}

fn refused(key: RowKey, form: &RowForm, (index, error): (usize, RequestError)) -> BatchResponse {
    let (error, param) = form.in_body(error, index);
    BatchResponse::refused(key, &error, param)
}

impl Stream for LiveStream {
    type Item = Result<CompletionChunk, BatchResponse>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

impl fmt::Debug for LiveStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LiveStream").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
