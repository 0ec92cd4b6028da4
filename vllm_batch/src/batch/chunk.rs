//! What does an answer look like that comes in chunks?
//!
//! In `OpenAI`'s shapes. Each answer begins with a chunk that names its role (of conversations), then come its texts, then its calls, and
//! a chunk that says why it ended. Put together, the chunks are the answer that comes as a whole.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

use super::Endpoint;
use super::json::{boolean, nothing_else, object, optional, unsupported};
use super::key::RowKey;
use super::logprobs::ChatLogprobs;
use super::row::{ChatChoice, StopReason, TextChoice, TokenUsage, text_choices};
use crate::error::RequestError;
use crate::output::{self, RequestOutput, TextDelta};
use crate::request::{Request, ToolCall};

type Text = Cow<'static, str>;

/// A part of an answer of `/v1/chat/completions` or `/v1/completions`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CompletionChunk {
    /// The same in all chunks of an answer, and that of the answer as a whole.
    pub id: String,
    /// `chat.completion.chunk` or `text_completion`.
    pub object: Text,
    /// Seconds since 1970.
    pub created: u64,
    /// The model that answers.
    pub model: String,
    /// What is new, one entry in each chunk; none in the one that has the usage.
    pub choices: Vec<ChunkChoice>,
    /// What the answer cost, in the last chunk, and `null` in the others; not there at all if it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<TokenUsage>>,
}

/// What is new in a [`CompletionChunk`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum ChunkChoice {
    /// Of `/v1/chat/completions`.
    Chat(ChatChunkChoice),
    /// Of `/v1/completions`.
    Text(TextChoice),
}

/// What is new in an answer of `/v1/chat/completions`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ChatChunkChoice {
    /// Which of the answers this is, from 0.
    pub index: usize,
    /// What is new.
    pub delta: ChatDelta,
    /// In the last chunk of the answer: log-probabilities of the whole of it, if they were asked for.
    pub logprobs: Option<ChatLogprobs>,
    /// In the last chunk of the answer: why it ended.
    pub finish_reason: Option<Text>,
    /// In the last chunk of the answer: the stop string or stop token that ended it (vLLM's field).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<StopReason>,
}

/// What the model says that is new.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ChatDelta {
    /// `assistant`, in the first chunk of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Text>,
    /// More of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// More of what the model says to itself (vLLM's field).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The functions that the model calls, each as a whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCallDelta>,
}

/// A call of a function in a [`ChatDelta`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ToolCallDelta {
    /// Which of the answer's calls this is, from 0.
    pub index: usize,
    /// The call.
    #[serde(flatten)]
    pub call: ToolCall,
}

/// How an answer in chunks is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct StreamOptions {
    include_usage: bool,
}

impl StreamOptions {
    /// Takes `stream` and `stream_options` out of a body; `None` if no chunks are wanted.
    pub(super) fn take(endpoint: Endpoint, body: &mut Map<String, Value>) -> Result<Option<Self>, RequestError> {
        if !matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions) {
            return Ok(None);
        }
        let is_stream = optional(body, "stream").map_or(Ok(false), |value| boolean(&value, "stream"))?;
        match optional(body, "stream_options") {
            Some(_) if !is_stream => Err(RequestError::invalid("stream_options", "needs `stream` to be true")),
            Some(options) => Self::parse(options).map(Some),
            None => Ok(is_stream.then(Self::default)),
        }
    }

    fn parse(value: Value) -> Result<Self, RequestError> {
        const PARAM: &str = "stream_options";
        let mut fields = object(value, PARAM)?;
        let mut switch = |name: &str| match optional(&mut fields, name) {
            Some(value) => boolean(&value, &format!("{PARAM}.{name}")),
            None => Ok(false),
        };
        let include_usage = switch("include_usage")?;
        for name in ["include_obfuscation", "continuous_usage_stats"] {
            if switch(name)? {
                return Err(unsupported(&format!("{PARAM}.{name}"), "it is only accepted as false"));
            }
        }
        nothing_else(&fields, PARAM)?;
        Ok(Self { include_usage })
    }

    /// Refuses what is only known at the end of an answer.
    pub(super) fn check(request: &Request) -> Result<(), RequestError> {
        let Some(params) = request.sampling_params() else { return Ok(()) };
        if params.best_of.is_some_and(|best_of| best_of > 1) {
            return Err(RequestError::invalid("best_of", "answers that are chosen at the end cannot be streamed"));
        }
        if params.prompt_logprobs.is_some() {
            return Err(RequestError::invalid("prompt_logprobs", "they cannot be streamed"));
        }
        Ok(())
    }
}

/// Makes chunks of what an engine says.
#[derive(Debug)]
pub(super) struct Chunks {
    is_chat: bool,
    id: String,
    model: String,
    created: u64,
    options: StreamOptions,
    /// Answers to each prompt.
    n: usize,
    /// Whether answers come with their prompts, which are only known at the end.
    echo: bool,
    answers: Vec<Sent>,
    /// Prompts whose answers have not ended.
    open: usize,
    usage: output::Usage,
}

/// How much of an answer was sent.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    has_role: bool,
    text: usize,
    reasoning: usize,
}

impl Chunks {
    /// Chunks of the answers to these prompts.
    pub(super) fn new(
        (endpoint, key): (Endpoint, RowKey),
        (model, created): (String, u64),
        requests: &[Request],
        options: StreamOptions,
    ) -> Self {
        let is_chat = endpoint == Endpoint::ChatCompletions;
        let first = requests.first();
        let n = first.and_then(Request::sampling_params).map_or(1, |params| params.n as usize);
        Self {
            is_chat,
            id: format!("{}-{key}", if is_chat { "chatcmpl" } else { "cmpl" }),
            model,
            created,
            options,
            n,
            echo: first.is_some_and(|request| request.echo),
            answers: vec![Sent::default(); n * requests.len()],
            open: requests.len(),
            usage: output::Usage::default(),
        }
    }

    /// More of an answer to a prompt.
    pub(super) fn grow(&mut self, prompt: usize, delta: TextDelta) -> Vec<CompletionChunk> {
        let index = prompt * self.n + delta.index;
        let Some(sent) = self.answers.get_mut(index) else { return Vec::new() };
        if self.echo || (delta.text.is_empty() && delta.reasoning.is_empty()) {
            return Vec::new();
        }
        sent.text += delta.text.len();
        sent.reasoning += delta.reasoning.len();
        if self.is_chat {
            return self.say(index, delta.reasoning, delta.text).into_iter().collect();
        }
        let choice = TextChoice {
            index,
            text: delta.text,
            finish_reason: None,
            stop_reason: None,
            logprobs: None,
            prompt_logprobs: None,
        };
        vec![self.chunk(ChunkChoice::Text(choice))]
    }

    /// What is left to say of the answers to a prompt, and what all of them cost if these were the last.
    pub(super) fn end(&mut self, prompt: usize, output: RequestOutput) -> Vec<CompletionChunk> {
        self.usage += output.usage;
        self.open = self.open.saturating_sub(1);
        let first = prompt * self.n;
        let mut chunks = Vec::new();
        if self.is_chat {
            let choices = output.outputs.into_iter().map(ChatChoice::from);
            choices.for_each(|choice| chunks.extend(self.end_chat(first + choice.index, choice)));
        } else {
            chunks.extend(text_choices(output).into_iter().map(|choice| self.end_text(first + choice.index, choice)));
        }
        if self.open == 0 && self.options.include_usage {
            let usage = Some(Some(TokenUsage::from(self.usage)));
            chunks.push(CompletionChunk { usage, ..self.of_choices(Vec::new()) });
        }
        chunks
    }

    fn end_chat(&mut self, index: usize, choice: ChatChoice) -> Vec<CompletionChunk> {
        let ChatChoice { message, finish_reason, stop_reason, logprobs, .. } = choice;
        let sent = self.answers.get(index).copied().unwrap_or_default();
        let rest = |text: Option<String>, sent: usize| text.and_then(|text| text.get(sent..).map(str::to_owned));
        let reasoning = rest(message.reasoning, sent.reasoning).unwrap_or_default();
        let mut chunks = self.say(index, reasoning, rest(message.content, sent.text).unwrap_or_default());
        if !message.tool_calls.is_empty() {
            let calls = message.tool_calls.into_iter().enumerate();
            let tool_calls = calls.map(|(index, call)| ToolCallDelta { index, call }).collect();
            chunks.push(self.chat_chunk(index, ChatDelta { tool_calls, ..ChatDelta::default() }));
        }
        let delta = ChatDelta::default();
        let last = ChatChunkChoice { index, delta, logprobs, finish_reason, stop_reason };
        chunks.push(self.chunk(ChunkChoice::Chat(last)));
        chunks
    }

    fn end_text(&self, index: usize, mut choice: TextChoice) -> CompletionChunk {
        let sent = self.answers.get(index).map_or(0, |sent| sent.text);
        choice.text.drain(..sent.min(choice.text.len()));
        choice.index = index;
        self.chunk(ChunkChoice::Text(choice))
    }

    /// What is thought and said, after the role if that was not said yet.
    fn say(&mut self, index: usize, reasoning: String, content: String) -> Vec<CompletionChunk> {
        let has_role = self.answers.get_mut(index).is_none_or(|sent| std::mem::replace(&mut sent.has_role, true));
        let role =
            ChatDelta { role: Some(Text::Borrowed("assistant")), content: Some(String::new()), ..ChatDelta::default() };
        let parts = [
            (!has_role).then_some(role),
            (!reasoning.is_empty()).then(|| ChatDelta { reasoning: Some(reasoning), ..ChatDelta::default() }),
            (!content.is_empty()).then(|| ChatDelta { content: Some(content), ..ChatDelta::default() }),
        ];
        parts.into_iter().flatten().map(|delta| self.chat_chunk(index, delta)).collect()
    }

    fn chat_chunk(&self, index: usize, delta: ChatDelta) -> CompletionChunk {
        let choice = ChatChunkChoice { index, delta, logprobs: None, finish_reason: None, stop_reason: None };
        self.chunk(ChunkChoice::Chat(choice))
    }

    fn chunk(&self, choice: ChunkChoice) -> CompletionChunk {
        self.of_choices(vec![choice])
    }

    fn of_choices(&self, choices: Vec<ChunkChoice>) -> CompletionChunk {
        CompletionChunk {
            id: self.id.clone(),
            object: Text::Borrowed(if self.is_chat { "chat.completion.chunk" } else { "text_completion" }),
            created: self.created,
            model: self.model.clone(),
            choices,
            usage: self.options.include_usage.then_some(None),
        }
    }
}
