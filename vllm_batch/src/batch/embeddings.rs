//! What does a body of `/v1/embeddings` ask for, and what does its answer look like?

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Endpoint;
use super::base64;
use super::contract::Shape;
use super::parts::{AnswerForm, RowForm, RowRequests, prompts};
use super::pooled_params::PooledDraft;
use super::row::{PromptTokensDetails, Work};
use crate::error::RequestError;
use crate::output::{EmbeddingRequestOutput, Usage};
use crate::request::{Prompt, Request};

/// The most inputs of one body (OpenAI's limit), and the most texts that one body can score.
pub(super) const MAX_INPUTS: usize = 2048;

/// Reads what is left of a body besides its model.
pub(super) fn parse(request_id: &str, input: Value, body: Map<String, Value>) -> Result<RowRequests, RequestError> {
    let (inputs, path) = prompts(input, "input")?;
    if inputs.len() > MAX_INPUTS {
        let message = format!("must hold at most {MAX_INPUTS} inputs, found {}", inputs.len());
        return Err(RequestError::invalid("input", message));
    }
    let is_empty = |input: &Prompt| match input {
        Prompt::Text(text) => text.is_empty(),
        Prompt::TokenIds(token_ids) => token_ids.is_empty(),
        Prompt::Messages(_) => false,
    };
    if let Some(index) = inputs.iter().position(is_empty) {
        let param = if path.is_list { format!("input[{index}]") } else { "input".to_owned() };
        return Err(RequestError::invalid(param, "must not be empty"));
    }
    let draft = PooledDraft::parse(Endpoint::Embeddings, body)?;
    draft.pooling.validate()?;
    let request =
        Request::new(request_id, String::new()).with_pooling_params(draft.pooling).with_priority(draft.priority);
    let request = Request { add_special_tokens: draft.add_special_tokens, ..request };
    let form = RowForm::new(AnswerForm::Embeddings(draft.encoding_format), path);
    Ok(RowRequests::new(request, inputs, form))
}

/// How the numbers of an embedding are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum EncodingFormat {
    #[default]
    Float,
    Base64,
}

/// Answer of `/v1/embeddings`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EmbeddingList {
    /// `embd-` and the row's digits (vLLM's field; absent in `OpenAI`'s shape).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Always `list`.
    pub object: Cow<'static, str>,
    /// Seconds since 1970 (vLLM's field; absent in `OpenAI`'s shape).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<u64>,
    /// One embedding for each input, in order.
    pub data: Vec<Embedding>,
    /// The model that answered.
    pub model: String,
    /// What they cost, together.
    pub usage: PoolingUsage,
}

impl EmbeddingList {
    pub(super) fn new(work: &Work<'_>, format: EncodingFormat, outputs: Vec<EmbeddingRequestOutput>) -> Self {
        let is_vllm = work.shape == Shape::Vllm;
        let usage = outputs.iter().map(|output| output.usage).sum();
        let data =
            outputs.into_iter().enumerate().map(|(index, output)| Embedding::new(index, format, output.embedding));
        Self {
            id: is_vllm.then(|| format!("embd-{}", work.key)),
            object: Cow::Borrowed("list"),
            created: is_vllm.then_some(work.created),
            data: data.collect(),
            model: work.model.to_owned(),
            usage: PoolingUsage::new(usage, is_vllm),
        }
    }
}

/// One embedding of an [`EmbeddingList`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Embedding {
    /// Always `embedding`.
    pub object: Cow<'static, str>,
    /// Which of the inputs this is, from 0.
    pub index: usize,
    /// The vector.
    pub embedding: EmbeddingVector,
}

impl Embedding {
    fn new(index: usize, format: EncodingFormat, embedding: Vec<f32>) -> Self {
        let embedding = match format {
            EncodingFormat::Float => EmbeddingVector::Float(embedding),
            EncodingFormat::Base64 => EmbeddingVector::Base64(base64::encode(&embedding)),
        };
        Self { object: Cow::Borrowed("embedding"), index, embedding }
    }
}

/// The vector of an [`Embedding`], as it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum EmbeddingVector {
    /// The numbers.
    Float(Vec<f32>),
    /// The numbers' bytes, four each in little-endian order, in base64.
    Base64(String),
}

impl EmbeddingVector {
    /// The numbers, however they are written; `None` for a text that is no vector.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::batch::EmbeddingVector;
    ///
    /// assert_eq!(EmbeddingVector::Base64("AACAPw==".to_owned()).to_floats(), Some(vec![1.0]));
    /// ```
    #[must_use]
    pub fn to_floats(&self) -> Option<Vec<f32>> {
        match self {
            Self::Float(numbers) => Some(numbers.clone()),
            Self::Base64(text) => base64::decode(text),
        }
    }
}

/// Token counts of an answer that has no generated tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PoolingUsage {
    /// Tokens of all prompts.
    pub prompt_tokens: usize,
    /// The same.
    pub total_tokens: usize,
    /// Always 0 (vLLM's field; absent in `OpenAI`'s shape).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<usize>,
    /// More about the tokens (vLLM's field; absent in `OpenAI`'s shape).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_details: Option<PromptTokensDetails>,
}

impl PoolingUsage {
    pub(super) fn new(usage: Usage, is_vllm: bool) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            total_tokens: usage.total_tokens(),
            completion_tokens: is_vllm.then_some(usage.completion_tokens),
            prompt_tokens_details: is_vllm.then_some(PromptTokensDetails { cached_tokens: usage.cached_tokens }),
        }
    }
}
