//! What does the body of a request ask for?

use serde_json::{Map, Value};

use super::embeddings;
use super::json::{optional, string};
use super::message::messages;
use super::params::Draft;
use super::parts::{AnswerForm, PromptPath, RowForm, RowRequests, prompts};
use super::score;
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
    /// `/v1/completions`: texts or token ids, taken as they are.
    Completions,
    /// `/v1/embeddings`: a vector for each text or list of token ids.
    Embeddings,
    /// `/v1/score`: how likely labels are as the answer, or whether documents answer a query. vLLM has it, `OpenAI` does not.
    Score,
}

impl Endpoint {
    /// Every endpoint that is supported.
    pub const ALL: [Self; 4] = [Self::ChatCompletions, Self::Completions, Self::Embeddings, Self::Score];

    /// The path that a line's `url` must be.
    #[must_use]
    pub fn url(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Score => "/v1/score",
        }
    }

    /// The endpoint with this url. `/score` is another one of [`Score`](Self::Score), as in vLLM.
    #[must_use]
    pub fn from_url(url: &str) -> Option<Self> {
        let url = if url == "/score" { Self::Score.url() } else { url };
        Self::ALL.into_iter().find(|endpoint| endpoint.url() == url)
    }

    /// Reads a request body: one request for each prompt, input, or pair of texts in it, in order. Where there are several,
    /// their ids are `request_id` and their place: `row-1-0`, `row-1-1`.
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
    /// let requests = Endpoint::Completions.parse_body("row-1", body.as_object().cloned().unwrap_or_default(), &spec)?;
    /// let expected = SamplingParams::greedy().with_max_tokens(8);
    /// assert_eq!(requests, [Request::new("row-1", "Once").with_sampling_params(expected)]);
    /// # Ok::<(), vllm_batch::RequestError>(())
    /// ```
    pub fn parse_body(
        self,
        request_id: &str,
        body: Map<String, Value>,
        spec: &EngineSpec,
    ) -> Result<Vec<Request>, RequestError> {
        self.parse_row(request_id, body, spec).map(|row| row.requests)
    }

    /// Reads a request body; with the requests comes what is needed to make one row of their answers.
    pub(super) fn parse_row(
        self,
        request_id: &str,
        mut body: Map<String, Value>,
        spec: &EngineSpec,
    ) -> Result<RowRequests, RequestError> {
        let model = string(required(&mut body, "model")?, "model")?;
        spec.check_model(&model)?;
        let row = self.parse_parts(request_id, body)?;
        Ok(if spec.adapters.contains(&model) { row.with_adapter(&model) } else { row })
    }

    /// Reads what is left of a body besides its model.
    fn parse_parts(self, request_id: &str, mut body: Map<String, Value>) -> Result<RowRequests, RequestError> {
        let (prompts, form) = match self {
            Self::ChatCompletions => {
                let messages = messages(required(&mut body, "messages")?)?;
                (vec![Prompt::Messages(messages)], RowForm::new(AnswerForm::Chat, PromptPath::single("messages")))
            }
            Self::Completions => {
                let (prompts, path) = prompts(required(&mut body, "prompt")?, "prompt")?;
                (prompts, RowForm::new(AnswerForm::Completions, path))
            }
            Self::Embeddings => return embeddings::parse(request_id, required(&mut body, "input")?, body),
            Self::Score => return score::parse(request_id, body),
        };
        let request = Request::new(request_id, String::new());
        let (request, format_param) = self.parse_params(body)?.into_request(request, self.default_max_tokens())?;
        Ok(RowRequests::new(request, prompts, RowForm { format_param, ..form }))
    }

    pub(super) fn supported_urls() -> String {
        Self::ALL.map(Self::url).join(", ")
    }

    fn default_max_tokens(self) -> Option<u32> {
        match self {
            Self::Completions => Some(COMPLETIONS_MAX_TOKENS),
            Self::ChatCompletions | Self::Embeddings | Self::Score => None,
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
    optional(body, param).ok_or_else(|| RequestError::MissingParam { param: param.to_owned() })
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
