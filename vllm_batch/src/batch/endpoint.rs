//! What does the body of a request ask for?

use serde_json::{Map, Value};

use super::json::{string, token_ids, unsupported, wrong_type};
use super::message::messages;
use super::params::Draft;
use crate::engine::EngineSpec;
use crate::error::RequestError;
use crate::request::{Prompt, Request};

/// `max_tokens` of a `/v1/completions` request that does not say (OpenAI's and vLLM's default).
const COMPLETIONS_MAX_TOKENS: u32 = 16;

/// An endpoint of the `OpenAI` interface that a batch line can name in its `url`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `/v1/chat/completions`: a conversation, rendered by the model's chat template.
    ChatCompletions,
    /// `/v1/completions`: a text or token ids, taken as they are.
    Completions,
}

impl Endpoint {
    /// Every endpoint that is supported.
    pub const ALL: [Self; 2] = [Self::ChatCompletions, Self::Completions];

    /// The path that a line's `url` must be.
    #[must_use]
    pub fn url(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
        }
    }

    /// The endpoint with this url.
    #[must_use]
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.url() == url)
    }

    /// Reads a request body.
    ///
    /// `null` counts as absent. Where `max_tokens` is absent, a conversation may be answered up to the context limit
    /// and a completion has 16 tokens, as with `OpenAI` and vLLM; `max_completion_tokens` goes before `max_tokens`. Text
    /// parts of a message are joined with line feeds, as in vLLM. `logprobs`, `top_logprobs` and `prompt_logprobs` go up to
    /// 20. Several answers (`n`, `best_of`) need a temperature above 0. `user`, `metadata`, `store`, `safety_identifier`,
    /// `prompt_cache_key` and `service_tier` say nothing about the answer and are accepted; every other parameter that
    /// is not implemented is accepted only at a value that switches it off.
    ///
    /// # Errors
    /// [`RequestError`] for the first parameter that is missing, wrong or not supported, `model` and the prompt first,
    /// then in the order of their names.
    ///
    /// # Example
    /// ```
    /// use serde_json::json;
    /// use vllm_batch::batch::Endpoint;
    /// use vllm_batch::{EngineSpec, Request, SamplingParams};
    ///
    /// let spec = EngineSpec::new("tiny", "r1");
    /// let body = json!({"model": "tiny", "prompt": "Once", "temperature": 0, "max_tokens": 8});
    /// let request = Endpoint::Completions.parse_body("row-1", body.as_object().cloned().unwrap_or_default(), &spec)?;
    /// let expected = SamplingParams::greedy().with_max_tokens(8);
    /// assert_eq!(request, Request::new("row-1", "Once").with_sampling_params(expected));
    /// # Ok::<(), vllm_batch::RequestError>(())
    /// ```
    pub fn parse_body(
        self,
        request_id: &str,
        body: Map<String, Value>,
        spec: &EngineSpec,
    ) -> Result<Request, RequestError> {
        self.parse_written(request_id, body, spec).map(|(request, _)| request)
    }

    /// Reads a request body; with the request comes where the body asks for its format, if not in `structured_outputs`.
    pub(super) fn parse_written(
        self,
        request_id: &str,
        mut body: Map<String, Value>,
        spec: &EngineSpec,
    ) -> Result<(Request, Option<&'static str>), RequestError> {
        check_model(required(&mut body, "model")?, spec)?;
        let prompt = match self {
            Self::ChatCompletions => Prompt::Messages(messages(required(&mut body, "messages")?)?),
            Self::Completions => prompt(required(&mut body, "prompt")?)?,
        };
        self.parse_params(body)?.into_request(Request::new(request_id, prompt), self.default_max_tokens())
    }

    pub(super) fn supported_urls() -> String {
        Self::ALL.map(Self::url).join(", ")
    }

    fn default_max_tokens(self) -> Option<u32> {
        match self {
            Self::ChatCompletions => None,
            Self::Completions => Some(COMPLETIONS_MAX_TOKENS),
        }
    }

    /// In the order of the names, so that of two faults always the same one is reported.
    fn parse_params(self, body: Map<String, Value>) -> Result<Draft, RequestError> {
        let mut entries: Vec<_> = body.into_iter().collect();
        entries.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        let mut draft = Draft::default();
        for (name, value) in entries {
            draft.set(self, &name, value)?;
        }
        Ok(draft)
    }
}

fn required(body: &mut Map<String, Value>, param: &str) -> Result<Value, RequestError> {
    body.remove(param)
        .filter(|value| !value.is_null())
        .ok_or_else(|| RequestError::MissingParam { param: param.to_owned() })
}

fn check_model(model: Value, spec: &EngineSpec) -> Result<(), RequestError> {
    let model = string(model, "model")?;
    if spec.served_model_names.contains(&model) {
        return Ok(());
    }
    Err(RequestError::ModelNotFound { model, served: spec.served_model_names.clone() })
}

/// One text, one list of token ids, or a list that holds one of them.
fn prompt(value: Value) -> Result<Prompt, RequestError> {
    match value {
        Value::String(text) => Ok(Prompt::Text(text)),
        Value::Array(mut items) => match items.first() {
            Some(Value::String(_) | Value::Array(_)) if items.len() > 1 => {
                Err(unsupported("prompt", "several prompts in one request: write one line for each"))
            }
            Some(Value::String(_) | Value::Array(_)) => one_prompt(items.swap_remove(0)),
            _ => token_ids(&items, "prompt").map(Prompt::TokenIds),
        },
        other => Err(wrong_type("prompt", "a string or an array of token ids", &other)),
    }
}

fn one_prompt(value: Value) -> Result<Prompt, RequestError> {
    match value {
        Value::Array(items) => token_ids(&items, "prompt[0]").map(Prompt::TokenIds),
        text => string(text, "prompt[0]").map(Prompt::Text),
    }
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
