//! What is asked?
//!
//! Plain data: a [`Request`] is a [`Prompt`], [`SamplingParams`] in vLLM's names, and an id that comes back with the
//! answer. Nothing here knows a model; limits that depend on one are checked when the engine lowers the request.

mod chat;
mod message;
mod sampling;
mod structured;
mod tools;

pub use chat::ChatOptions;
pub use message::{Message, Role};
pub(crate) use sampling::LEAST_TEMPERATURE;
pub use sampling::{MAX_ANSWERS, RepetitionDetection, SamplingParams};
pub use structured::{OutputFormat, StructuredOutput};
pub use tools::{Tool, ToolCall, ToolChoice};

/// One request to an engine.
///
/// # Example
/// ```
/// use vllm_batch::{Message, Request, SamplingParams};
///
/// let request = Request::new("row-1", vec![Message::user("Name a prime number.")])
///     .with_sampling_params(SamplingParams::greedy().with_max_tokens(8));
/// assert_eq!(request.request_id, "row-1");
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// The caller's name for the request: it comes back in [`RequestOutput`](crate::RequestOutput) and, when
    /// `sampling_params.seed` is absent, takes part in choosing the random numbers.
    pub request_id: String,
    /// What the model reads.
    pub prompt: Prompt,
    /// How the answer is chosen and where it ends.
    pub sampling_params: SamplingParams,
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
    /// A request with default sampling parameters, priority 0, no echo and default chat options.
    pub fn new(request_id: impl Into<String>, prompt: impl Into<Prompt>) -> Self {
        Self {
            request_id: request_id.into(),
            prompt: prompt.into(),
            sampling_params: SamplingParams::default(),
            priority: 0,
            echo: false,
            chat: ChatOptions::default(),
            add_special_tokens: None,
        }
    }

    /// Replaces the sampling parameters.
    #[must_use]
    pub fn with_sampling_params(mut self, sampling_params: SamplingParams) -> Self {
        self.sampling_params = sampling_params;
        self
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
