//! Whose rules does a batch file follow?

use serde_json::{Map, Value};

use super::Endpoint;
use super::error::LineErrorKind;
use crate::engine::EngineSpec;
use crate::error::RequestError;

/// What a batch file may hold, and what its rows look like. `docs/contracts.md` shows the three side by side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contract {
    /// `OpenAI`'s shapes, and every line fails alone: a bad line becomes an error row, and the others are answered.
    #[default]
    Lenient,
    /// `OpenAI`'s shapes and `OpenAI`'s rules: the whole file is validated before anything is asked of the engine, and
    /// one bad line refuses all. Rows of a run that was cancelled or expired are in the error file.
    OpenAi(OpenAiLimits),
    /// What `vllm run-batch` does: one output file with the errors in it, duplicate names and mixed urls.
    Vllm,
}

/// How much a file of [`Contract::OpenAi`] may hold. By default as much as with `OpenAI`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenAiLimits {
    /// The most requests. Default 50,000.
    pub max_requests: usize,
    /// The most bytes. Default 200 MiB.
    pub max_file_bytes: u64,
    /// The most inputs of `/v1/embeddings` in all requests together. Default 50,000.
    pub max_embedding_inputs: usize,
    /// The most problems that are listed; the others are counted. Default 10,000.
    pub max_problems: usize,
    /// The endpoint that all requests must be for. Default: that of the first one.
    pub endpoint: Option<Endpoint>,
}

impl Default for OpenAiLimits {
    fn default() -> Self {
        Self {
            max_requests: 50_000,
            max_file_bytes: 200 << 20,
            max_embedding_inputs: 50_000,
            max_problems: 10_000,
            endpoint: None,
        }
    }
}

impl OpenAiLimits {
    /// Sets the most requests.
    #[must_use]
    pub fn with_max_requests(mut self, max_requests: usize) -> Self {
        self.max_requests = max_requests;
        self
    }

    /// Sets the most bytes.
    #[must_use]
    pub fn with_max_file_bytes(mut self, max_file_bytes: u64) -> Self {
        self.max_file_bytes = max_file_bytes;
        self
    }

    /// Sets the most inputs of `/v1/embeddings`.
    #[must_use]
    pub fn with_max_embedding_inputs(mut self, max_embedding_inputs: usize) -> Self {
        self.max_embedding_inputs = max_embedding_inputs;
        self
    }

    /// Sets the most problems that are listed.
    #[must_use]
    pub fn with_max_problems(mut self, max_problems: usize) -> Self {
        self.max_problems = max_problems;
        self
    }

    /// Sets the endpoint that all requests must be for.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }
}

impl Contract {
    /// Strict, with `OpenAI`'s limits.
    #[must_use]
    pub fn open_ai() -> Self {
        Self::OpenAi(OpenAiLimits::default())
    }

    /// What rows look like.
    pub(super) fn shape(self) -> Shape {
        if self == Self::Vllm { Shape::Vllm } else { Shape::OpenAi }
    }

    /// The limits, where all lines are validated before the run.
    pub(super) fn limits(self) -> Option<OpenAiLimits> {
        match self {
            Self::OpenAi(limits) => Some(limits),
            Self::Lenient | Self::Vllm => None,
        }
    }

    /// Whether rows that were not done at a cancellation or a deadline get a row that says so.
    pub(super) fn closes_rows(self) -> bool {
        matches!(self, Self::OpenAi(_))
    }

    /// Whether two lines may have the same name.
    pub(super) fn allows_duplicates(self) -> bool {
        self == Self::Vllm
    }

    /// Whether a run without a request is a success.
    pub(super) fn allows_empty(self) -> bool {
        self == Self::Vllm
    }

    /// Whether a `custom_id` may be the empty text, and `method` any text.
    pub(super) fn is_lax_about_fields(self) -> bool {
        self == Self::Vllm
    }

    /// Whether a line like this stops the run before it begins. In vLLM's file every line must be a request; only what
    /// the request asks for may be wrong.
    pub(super) fn is_fatal(self, error: &LineErrorKind) -> bool {
        self == Self::Vllm && !matches!(error, LineErrorKind::UrlMismatch { .. } | LineErrorKind::Request(_))
    }

    /// Makes a body what [`Endpoint::parse_body`](super::Endpoint::parse_body) expects: with vLLM, `model` may be absent.
    pub(super) fn prepare(self, body: &mut Map<String, Value>, spec: &EngineSpec) -> Result<(), RequestError> {
        if self != Self::Vllm {
            return Ok(());
        }
        if body.get("stream").is_some_and(is_on) {
            let message = "Request must not be sent in stream mode".to_owned();
            return Err(RequestError::UnsupportedParam { param: "stream".to_owned(), message });
        }
        if body.get("model").is_none_or(Value::is_null) {
            body.insert("model".to_owned(), spec.model().into());
        }
        Ok(())
    }
}

/// vLLM takes texts and numbers for booleans.
fn is_on(value: &Value) -> bool {
    match value {
        Value::Bool(is_on) => *is_on,
        Value::String(text) => ["true", "1", "yes", "on", "t", "y"].contains(&text.to_lowercase().as_str()),
        Value::Number(number) => number.as_f64() == Some(1.0),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// What rows look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Answers and errors in files of their own.
    OpenAi,
    /// Both in one file.
    Vllm,
}

impl Shape {
    /// What the `id` of a row begins with.
    pub(super) fn id_prefix(self) -> &'static str {
        match self {
            Self::OpenAi => "batch_req_",
            Self::Vllm => "vllm-",
        }
    }
}
