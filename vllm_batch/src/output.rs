//! What comes back?
//!
//! vLLM's names: a [`RequestOutput`] holds one [`CompletionOutput`] per answer. While a request runs its stream yields
//! [`OutputEvent`]s; the last one is always `Finished` or `Failed`, and there is exactly one of those.

use std::sync::Arc;

use crate::error::RequestError;

/// The complete answer to one request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RequestOutput {
    /// The id that the request carried.
    pub request_id: String,
    /// The prompt as the model read it.
    pub prompt_token_ids: Arc<[u32]>,
    /// The answers; one, since `n` is 1.
    pub outputs: Vec<CompletionOutput>,
    /// What the request cost.
    pub usage: Usage,
}

impl RequestOutput {
    /// An answer of its parts.
    #[must_use]
    pub fn new(request_id: String, prompt_token_ids: Arc<[u32]>, outputs: Vec<CompletionOutput>, usage: Usage) -> Self {
        Self { request_id, prompt_token_ids, outputs, usage }
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompletionOutput {
    /// Which of the request's answers this is, from 0.
    pub index: usize,
    /// The text, without stop strings and, unless asked for, without special tokens.
    pub text: String,
    /// The tokens, the one that ended the answer included.
    pub token_ids: Vec<u32>,
    /// Why the answer ended.
    pub finish_reason: FinishReason,
    /// What exactly ended it, if a stop string or one of `stop_token_ids` did.
    pub stop_reason: Option<StopReason>,
}

impl CompletionOutput {
    /// An answer of its parts, with index 0.
    #[must_use]
    pub fn new(
        text: String,
        token_ids: Vec<u32>,
        finish_reason: FinishReason,
        stop_reason: Option<StopReason>,
    ) -> Self {
        Self { index: 0, text, token_ids, finish_reason, stop_reason }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FinishReason {
    /// An end-of-sequence token, a stop token or a stop string.
    Stop,
    /// `max_tokens` or the context limit.
    Length,
}

impl FinishReason {
    /// OpenAI's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// What exactly ended an answer with [`FinishReason::Stop`]; absent for the model's own end-of-sequence token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// One of `stop_token_ids`.
    Token(u32),
    /// One of the `stop` strings.
    String(String),
}

/// Token counts of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens generated.
    pub completion_tokens: usize,
    /// Those of `prompt_tokens` that were not computed again, because the prefix cache held them.
    pub cached_tokens: usize,
}

impl Usage {
    /// Counts of their parts.
    #[must_use]
    pub fn new(prompt_tokens: usize, completion_tokens: usize, cached_tokens: usize) -> Self {
        Self { prompt_tokens, completion_tokens, cached_tokens }
    }

    /// Prompt and generated tokens together.
    #[must_use]
    pub fn total_tokens(&self) -> usize {
        self.prompt_tokens + self.completion_tokens
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.cached_tokens += other.cached_tokens;
    }
}

/// News about one running request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum OutputEvent {
    /// More of the answer.
    Delta(TextDelta),
    /// The answer is complete; nothing follows.
    Finished(RequestOutput),
    /// The request failed; nothing follows.
    Failed(RequestError),
}

/// More of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TextDelta {
    /// New text; may be empty while a character or a possible stop string is incomplete.
    pub text: String,
    /// New tokens.
    pub num_tokens: usize,
}

impl TextDelta {
    /// A delta of its parts.
    #[must_use]
    pub fn new(text: String, num_tokens: usize) -> Self {
        Self { text, num_tokens }
    }
}
