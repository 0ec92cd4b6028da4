//! What is asked?
//!
//! Plain data: a [`Request`] is a [`Prompt`], a [`Task`] with parameters in vLLM's names, and an id that comes back with
//! the answer. Nothing here knows a model; limits that depend on one are checked when the engine lowers the request.

mod chat;
mod message;
mod pooling;
mod sampling;
mod scoring;
mod structured;
mod tools;

pub use chat::ChatOptions;
pub use message::{Message, Role};
pub use pooling::{PoolingParams, PoolingType};
pub(crate) use sampling::LEAST_TEMPERATURE;
pub use sampling::{MAX_ANSWERS, RepetitionDetection, SamplingParams};
pub use scoring::{Label, MAX_LABELS, ScoringParams};
pub use structured::{OutputFormat, StructuredOutput};
pub use tools::{Tool, ToolCall, ToolChoice};

/// One request to an engine.
///
/// # Example
/// ```
/// use vllm_batch::{Message, PoolingParams, Request, SamplingParams, ScoringParams};
///
/// let request = Request::new("row-1", vec![Message::user("Name a prime number.")])
///     .with_sampling_params(SamplingParams::greedy().with_max_tokens(8));
/// assert_eq!(request.request_id, "row-1");
///
/// let embedding = Request::new("row-2", "A text.").with_pooling_params(PoolingParams::default());
/// let scores = Request::new("row-3", "Is 7 prime? Answer:").with_scoring_params(ScoringParams::new([" yes", " no"]));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// The caller's name for the request: it comes back with the answer and, when
    /// [`seed`](SamplingParams::seed) is absent, takes part in choosing the random numbers.
    pub request_id: String,
    /// What the model reads.
    pub prompt: Prompt,
    /// What to do with the prompt.
    pub task: Task,
    /// Requests with a lower number are served first (vLLM's sense); equal ones in order of arrival.
    pub priority: i32,
    /// Whether the prompt's text comes back with the answer, and, if `logprobs` are asked for, the log-probabilities of
    /// its tokens, too.
    pub echo: bool,
    /// How a conversation becomes a prompt.
    pub chat: ChatOptions,
    /// Whether the tokenizer adds its special tokens to the prompt. Absent: to a text, but not to a conversation, whose
    /// template writes them.
    pub add_special_tokens: Option<bool>,
}

impl Request {
    /// A request for text with default sampling parameters, priority 0, no echo and default chat options.
    pub fn new(request_id: impl Into<String>, prompt: impl Into<Prompt>) -> Self {
        Self {
            request_id: request_id.into(),
            prompt: prompt.into(),
            task: Task::default(),
            priority: 0,
            echo: false,
            chat: ChatOptions::default(),
            add_special_tokens: None,
        }
    }

    /// Asks for text, chosen with these parameters, in place of whatever was asked for before.
    #[must_use]
    pub fn with_sampling_params(mut self, sampling_params: SamplingParams) -> Self {
        self.task = Task::Generate(sampling_params);
        self
    }

    /// Asks for an embedding, in place of whatever was asked for before.
    #[must_use]
    pub fn with_pooling_params(mut self, pooling_params: PoolingParams) -> Self {
        self.task = Task::Embed(pooling_params);
        self
    }

    /// Asks for the log-probabilities of labels, in place of whatever was asked for before.
    #[must_use]
    pub fn with_scoring_params(mut self, scoring_params: ScoringParams) -> Self {
        self.task = Task::Score(scoring_params);
        self
    }

    /// The sampling parameters, if the request asks for text.
    #[must_use]
    pub fn sampling_params(&self) -> Option<&SamplingParams> {
        match &self.task {
            Task::Generate(params) => Some(params),
            Task::Embed(_) | Task::Score(_) => None,
        }
    }

    /// Replaces the priority; lower is served first.
    #[must_use]
    pub fn with_priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Asks for the prompt's text, too.
    #[must_use]
    pub fn with_echo(mut self, echo: bool) -> Self {
        self.echo = echo;
        self
    }

    /// Replaces the chat options.
    #[must_use]
    pub fn with_chat(mut self, chat: ChatOptions) -> Self {
        self.chat = chat;
        self
    }

    /// Says whether the tokenizer adds its special tokens to the prompt.
    #[must_use]
    pub fn with_add_special_tokens(mut self, add_special_tokens: bool) -> Self {
        self.add_special_tokens = Some(add_special_tokens);
        self
    }
}

/// What to do with a prompt, and how.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
// Nearly all requests are of the large kind.
#[allow(clippy::large_enum_variant)]
pub enum Task {
    /// Continue it: the answer is a [`RequestOutput`](crate::RequestOutput).
    Generate(SamplingParams),
    /// Make one vector of it: the answer is an [`EmbeddingRequestOutput`](crate::EmbeddingRequestOutput).
    Embed(PoolingParams),
    /// Say how likely given texts come next: the answer is a [`ScoringRequestOutput`](crate::ScoringRequestOutput).
    Score(ScoringParams),
}

impl Default for Task {
    /// Text, with default sampling parameters.
    fn default() -> Self {
        Self::Generate(SamplingParams::default())
    }
}

/// What the model reads.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prompt {
    /// Plain text; the tokenizer adds its special tokens, such as a leading BOS where the model has one.
    Text(String),
    /// Token ids, taken as they are.
    TokenIds(Vec<u32>),
    /// A conversation, rendered by a chat template as [`ChatOptions`] say.
    Messages(Vec<Message>),
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u32>> for Prompt {
    fn from(token_ids: Vec<u32>) -> Self {
        Self::TokenIds(token_ids)
    }
}

impl From<Vec<Message>> for Prompt {
    fn from(messages: Vec<Message>) -> Self {
        Self::Messages(messages)
    }
}
