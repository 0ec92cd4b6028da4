//! Requests and what they ask for, as the library's own parser of request bodies reads them.

use pyo3::prelude::*;
use serde_json::{Map, Value, json};
use vllm_batch::batch::Endpoint;
use vllm_batch::{EngineSpec, PoolingParams, Prompt, RequestError, SamplingParams, ScoringParams};

use crate::errors::raise_request;

/// The name that stands for the model while a body is read.
const MODEL: &str = "model";
/// Parameters of `SamplingParams` that no body of a conversation has, or that have a smaller domain there.
const INTEGERS: [&str; 3] = ["best_of", "logprobs", "prompt_logprobs"];

/// What is asked of a prompt: a text, an embedding or scores, with all parameters.
#[pyclass(frozen, module = "vllm_batch._native")]
pub(crate) struct Task(vllm_batch::Task);

#[pymethods]
impl Task {
    /// A text, by the JSON of sampling parameters.
    #[staticmethod]
    fn generate(py: Python<'_>, params: &str) -> PyResult<Self> {
        let params = sampling_params(params).map_err(|error| raise_request(py, &error))?;
        Ok(Self(vllm_batch::Task::Generate(params)))
    }

    /// An embedding, by the JSON of pooling parameters.
    #[staticmethod]
    fn embed(py: Python<'_>, params: &str) -> PyResult<Self> {
        let params = pooling_params(params).map_err(|error| raise_request(py, &error))?;
        Ok(Self(vllm_batch::Task::Embed(params)))
    }

    /// Scores, by the JSON of `labels`, `label_token_ids` and `truncate_prompt_tokens`.
    #[staticmethod]
    fn score(py: Python<'_>, params: &str) -> PyResult<Self> {
        let params = scoring_params(params).map_err(|error| raise_request(py, &error))?;
        Ok(Self(vllm_batch::Task::Score(params)))
    }
}

/// A text or token ids, as Python has them.
#[derive(FromPyObject)]
pub(crate) enum TextOrIds {
    #[pyo3(transparent)]
    Text(String),
    #[pyo3(transparent)]
    TokenIds(Vec<u32>),
}

impl From<TextOrIds> for Prompt {
    fn from(prompt: TextOrIds) -> Self {
        match prompt {
            TextOrIds::Text(text) => Self::Text(text),
            TextOrIds::TokenIds(ids) => Self::TokenIds(ids),
        }
    }
}

/// One request, ready to be submitted.
#[pyclass(frozen, module = "vllm_batch._native")]
pub(crate) struct Request(pub(crate) vllm_batch::Request);

impl Request {
    fn of(mut request: vllm_batch::Request, task: &Task, priority: i32, model: Option<String>) -> Self {
        (request.task, request.model, request.priority) = (task.0.clone(), model, priority);
        Self(request)
    }
}

#[pymethods]
impl Request {
    /// Asks for a task with a text or token ids.
    #[new]
    #[pyo3(signature = (request_id, prompt, task, priority = 0, model = None))]
    fn new(request_id: &str, prompt: TextOrIds, task: &Task, priority: i32, model: Option<String>) -> Self {
        Self::of(vllm_batch::Request::new(request_id, prompt), task, priority, model)
    }

    /// Asks for a task with a conversation: the JSON of a body of `/v1/chat/completions` without its sampling parameters.
    #[staticmethod]
    #[pyo3(signature = (request_id, body, task, priority = 0, model = None))]
    // Python passes them by name.
    #[allow(clippy::too_many_arguments)]
    fn chat(
        py: Python<'_>,
        request_id: &str,
        body: &str,
        task: &Task,
        priority: i32,
        model: Option<String>,
    ) -> PyResult<Self> {
        let request = one(Endpoint::ChatCompletions, request_id, body).map_err(|error| raise_request(py, &error))?;
        Ok(Self::of(request, task, priority, model))
    }

    /// Asks how well documents answer queries: the JSON of a body of `/v1/score`, one request for each pair in it.
    #[staticmethod]
    fn pairs(py: Python<'_>, request_id: &str, body: &str) -> PyResult<Vec<Self>> {
        let requests = parsed(Endpoint::Score, request_id, fields(body).map_err(|error| raise_request(py, &error))?);
        requests.map(|requests| requests.into_iter().map(Self).collect()).map_err(|error| raise_request(py, &error))
    }

    /// The name that comes back with the answer.
    #[getter]
    fn request_id(&self) -> &str {
        &self.0.request_id
    }
}

/// Read as the parameters of a conversation, where `max_tokens` has no default.
fn sampling_params(params: &str) -> Result<SamplingParams, RequestError> {
    let mut fields = fields(params)?;
    let [best_of, logprobs, prompt_logprobs] = INTEGERS.map(|name| integer(name, fields.remove(name)));
    fields.insert("messages".to_owned(), json!([{"role": "user", "content": ""}]));
    let request = first(parsed(Endpoint::ChatCompletions, "", fields)?)?;
    let mut params = request.sampling_params().cloned().unwrap_or_default();
    params.best_of = best_of?.map(|best_of| u32::try_from(best_of).unwrap_or(0));
    (params.logprobs, params.prompt_logprobs) = (logprobs?, prompt_logprobs?);
    params.validate()?;
    Ok(params)
}

/// `pooling_type` is no parameter of a body.
fn pooling_params(params: &str) -> Result<PoolingParams, RequestError> {
    let mut fields = fields(params)?;
    let pooling_type = fields.remove("pooling_type");
    fields.insert("input".to_owned(), json!("-"));
    match first(parsed(Endpoint::Embeddings, "", fields)?)?.task {
        vllm_batch::Task::Embed(mut params) => {
            params.pooling_type = pooling_type.as_ref().and_then(Value::as_str).map(str::parse).transpose()?;
            Ok(params)
        }
        _ => Ok(PoolingParams::default()),
    }
}

fn scoring_params(params: &str) -> Result<ScoringParams, RequestError> {
    let mut fields = fields(params)?;
    fields.insert("prompt".to_owned(), json!("-"));
    match first(parsed(Endpoint::Score, "", fields)?)?.task {
        vllm_batch::Task::Score(params) => Ok(params),
        _ => Ok(ScoringParams::new([""; 0])),
    }
}

fn one(endpoint: Endpoint, request_id: &str, body: &str) -> Result<vllm_batch::Request, RequestError> {
    first(parsed(endpoint, request_id, fields(body)?)?)
}

fn first(requests: Vec<vllm_batch::Request>) -> Result<vllm_batch::Request, RequestError> {
    requests.into_iter().next().ok_or(RequestError::EmptyPrompt)
}

/// What an endpoint makes of a body that names no model.
fn parsed(
    endpoint: Endpoint,
    request_id: &str,
    mut body: Map<String, Value>,
) -> Result<Vec<vllm_batch::Request>, RequestError> {
    body.insert("model".to_owned(), MODEL.into());
    endpoint.parse_body(request_id, body, &EngineSpec::new(MODEL, ""))
}

/// Python writes what JSON has no word for, such as half a surrogate pair.
fn fields(text: &str) -> Result<Map<String, Value>, RequestError> {
    serde_json::from_str(text).map_err(|error| RequestError::invalid("body", error.to_string()))
}

fn integer(name: &str, value: Option<Value>) -> Result<Option<i32>, RequestError> {
    let number = |value: Value| value.as_i64().and_then(|number| i32::try_from(number).ok());
    let wrong = || RequestError::invalid(name, "expected an integer of 32 bits");
    value.map(|value| number(value).ok_or_else(wrong)).transpose()
}
