//! What comes back?
//!
//! vLLM's names: a [`RequestOutput`] holds one [`CompletionOutput`] per answer. While a request runs its stream yields
//! [`OutputEvent`]s; the last one says how the request ended, and there is exactly one of those: `Finished`, `Embedded` or
//! `Scored`, whichever was asked for, or `Failed`.

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::RequestError;
use crate::request::ToolCall;

/// The complete answer to one request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RequestOutput {
    /// The id that the request carried.
    pub request_id: String,
    /// The prompt as the model read it.
    pub prompt_token_ids: Arc<[u32]>,
    /// The prompt's text, special tokens included, if the request asked for its echo.
    pub prompt: Option<String>,
    /// One entry for each token of the prompt, if asked for. The first is absent: nothing comes before it.
    pub prompt_logprobs: Option<Vec<Option<TokenLogprobs>>>,
    /// The `n` answers, by index.
    pub outputs: Vec<CompletionOutput>,
    /// What the request cost.
    pub usage: Usage,
}

impl RequestOutput {
    /// An answer of its parts, without the prompt's text and log-probabilities.
    #[must_use]
    pub fn new(request_id: String, prompt_token_ids: Arc<[u32]>, outputs: Vec<CompletionOutput>, usage: Usage) -> Self {
        Self { request_id, prompt_token_ids, prompt: None, prompt_logprobs: None, outputs, usage }
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CompletionOutput {
    /// Which of the request's answers this is, from 0.
    pub index: usize,
    /// The text; unless asked for, without stop strings and special tokens. Without what is in [`reasoning`](Self::reasoning)
    /// and [`tool_calls`](Self::tool_calls).
    pub text: String,
    /// What the model said to itself, if the engine knows how it is marked and the request wants it.
    pub reasoning: Option<String>,
    /// The functions that it called.
    pub tool_calls: Vec<ToolCall>,
    /// The tokens, the one that ended the answer included.
    pub token_ids: Vec<u32>,
    /// Why the answer ended.
    pub finish_reason: FinishReason,
    /// What exactly ended it, if a stop string or one of `stop_token_ids` did.
    pub stop_reason: Option<StopReason>,
    /// One entry for each token, if asked for. Absent, too, where a remote server says none for calls of functions.
    pub logprobs: Option<Vec<TokenLogprobs>>,
    /// The sum of the tokens' log-probabilities, if `logprobs` or `best_of` was asked for.
    pub cumulative_logprob: Option<f64>,
}

impl CompletionOutput {
    /// An answer of its parts, with index 0 and without log-probabilities.
    #[must_use]
    pub fn new(
        text: String,
        token_ids: Vec<u32>,
        finish_reason: FinishReason,
        stop_reason: Option<StopReason>,
    ) -> Self {
        Self {
            index: 0,
            text,
            reasoning: None,
            tool_calls: Vec::new(),
            token_ids,
            finish_reason,
            stop_reason,
            logprobs: None,
            cumulative_logprob: None,
        }
    }
}

/// How likely the model found a token, and which tokens it found most likely there.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TokenLogprobs {
    /// The token that is there.
    pub chosen: TokenLogprob,
    /// As many of the most likely tokens as were asked for, best first; `chosen` may be one of them.
    pub top: Vec<TokenLogprob>,
}

impl TokenLogprobs {
    /// An entry of its parts.
    #[must_use]
    pub fn new(chosen: TokenLogprob, top: Vec<TokenLogprob>) -> Self {
        Self { chosen, top }
    }
}

/// A token with its log-probability.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TokenLogprob {
    /// The token. Absent where a remote server says its text only.
    pub token_id: Option<u32>,
    /// The natural logarithm of its probability, as the model has it: temperature, penalties, bias and the like do not
    /// count. Negative infinity for an impossible token; never NaN.
    pub logprob: f32,
    /// Its place among all tokens, from 1; of equally likely ones the lower id comes first. Absent where a remote server does
    /// not say it.
    pub rank: Option<u32>,
    /// The bytes that it stands for. They need not be whole characters; where a remote server says its text only, they are
    /// that text's.
    pub bytes: Vec<u8>,
}

impl TokenLogprob {
    /// A token of its parts; `None` for an id or a rank that is not known.
    #[must_use]
    pub fn new(token_id: impl Into<Option<u32>>, logprob: f32, rank: impl Into<Option<u32>>, bytes: Vec<u8>) -> Self {
        Self { token_id: token_id.into(), logprob, rank: rank.into(), bytes }
    }

    /// The bytes as text; what is not whole characters becomes U+FFFD.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
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
    /// As `Stop`, of an answer that calls functions, unless `tool_choice` named the function.
    ToolCalls,
    /// The answer went round in circles, as `repetition_detection` says.
    Repetition,
}

impl FinishReason {
    /// OpenAI's word for it, or vLLM's where OpenAI has none.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::Repetition => "repetition",
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

/// The embedding of one prompt.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EmbeddingRequestOutput {
    /// The id that the request carried.
    pub request_id: String,
    /// The prompt as the model read it.
    pub prompt_token_ids: Arc<[u32]>,
    /// One number for each dimension.
    pub embedding: Vec<f32>,
    /// What the request cost. No token is generated.
    pub usage: Usage,
}

impl EmbeddingRequestOutput {
    /// An answer of its parts.
    #[must_use]
    pub fn new(request_id: String, prompt_token_ids: Arc<[u32]>, embedding: Vec<f32>, usage: Usage) -> Self {
        Self { request_id, prompt_token_ids, embedding, usage }
    }
}

/// How likely the labels of one request are.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ScoringRequestOutput {
    /// The id that the request carried.
    pub request_id: String,
    /// The prompt as the model read it.
    pub prompt_token_ids: Arc<[u32]>,
    /// One entry for each label, in the order of the request.
    pub labels: Vec<LabelScore>,
    /// What the request cost. No token is generated, and those of the labels do not count.
    pub usage: Usage,
}

impl ScoringRequestOutput {
    /// An answer of each label's log-probability and number of tokens. The probabilities follow from these; if no label is
    /// possible, all are equally likely.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::{ScoringRequestOutput, Usage};
    ///
    /// let labels = [(0.1f64.ln(), 1), (0.3f64.ln(), 2)];
    /// let output = ScoringRequestOutput::new("a".to_owned(), [7].into(), labels, Usage::new(1, 0, 0));
    /// assert_eq!(output.best(), Some(1));
    /// assert!((output.labels[1].probability - 0.75).abs() < 1e-12);
    /// ```
    #[must_use]
    pub fn new(
        request_id: String,
        prompt_token_ids: Arc<[u32]>,
        labels: impl IntoIterator<Item = (f64, usize)>,
        usage: Usage,
    ) -> Self {
        let label = |(logprob, num_tokens)| LabelScore { logprob, probability: 0.0, num_tokens };
        let mut labels: Vec<_> = labels.into_iter().map(label).collect();
        let most = labels.iter().map(|label| label.logprob).fold(f64::NEG_INFINITY, f64::max);
        let weight = |label: &LabelScore| if most.is_finite() { (label.logprob - most).exp() } else { 1.0 };
        let total: f64 = labels.iter().map(weight).sum();
        for label in &mut labels {
            label.probability = weight(label) / total;
        }
        Self { request_id, prompt_token_ids, labels, usage }
    }

    /// Index of the most likely label; of equally likely ones the first. `None` without labels.
    #[must_use]
    pub fn best(&self) -> Option<usize> {
        let better = |best: usize, index: usize| self.labels[index].logprob > self.labels[best].logprob;
        (0..self.labels.len()).reduce(|best, index| if better(best, index) { index } else { best })
    }
}

/// How likely one label is.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LabelScore {
    /// The natural logarithm of the probability that the model's answer begins with the label's tokens. Negative infinity for
    /// what is impossible; never NaN.
    pub logprob: f64,
    /// Its share among the labels of the request; together they have 1.
    pub probability: f64,
    /// Tokens of the label.
    pub num_tokens: usize,
}

/// Token counts of one request, all its answers together. The prompt counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens generated, also for answers that `best_of` left out.
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

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(usages: I) -> Self {
        usages.fold(Self::default(), |mut sum, usage| {
            sum += usage;
            sum
        })
    }
}

/// News about one running request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum OutputEvent {
    /// More of the answer.
    Delta(TextDelta),
    /// The text is complete; nothing follows.
    Finished(RequestOutput),
    /// The embedding is there; nothing follows.
    Embedded(EmbeddingRequestOutput),
    /// The labels are scored; nothing follows.
    Scored(ScoringRequestOutput),
    /// The request failed; nothing follows.
    Failed(RequestError),
}

/// More of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TextDelta {
    /// Which answer, in the order of their random numbers. Under `best_of` this is not the index at the end, because the
    /// order changes then.
    pub index: usize,
    /// New text; may be empty while a character, a possible stop string or a possible mark is incomplete. Put together, it is the
    /// text of the answer: what the model thinks and calls is not in it.
    pub text: String,
    /// More of what the model says to itself, if the engine knows how it is marked and the request wants it.
    pub reasoning: String,
    /// New tokens.
    pub num_tokens: usize,
}

impl TextDelta {
    /// A delta of its parts, with index 0.
    #[must_use]
    pub fn new(text: String, num_tokens: usize) -> Self {
        Self { index: 0, text, reasoning: String::new(), num_tokens }
    }

    /// Adds thoughts.
    #[must_use]
    pub fn with_reasoning(mut self, reasoning: String) -> Self {
        self.reasoning = reasoning;
        self
    }

    /// Replaces the index.
    #[must_use]
    pub fn with_index(mut self, index: usize) -> Self {
        self.index = index;
        self
    }
}
