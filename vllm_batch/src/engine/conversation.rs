//! From a conversation to its prompt.

use sha2::{Digest, Sha256};

use crate::error::RequestError;
use crate::request::{ChatOptions, Message, Request, SamplingParams};
use crate::text::{AnswerFormat, ChatTemplates, ReasoningFormat, ToolCallFormat};

/// What the engine was told of the model's habits.
#[derive(Debug, Clone, Default)]
pub(super) struct Parsers {
    /// How the model writes calls, if not as its template says.
    pub(super) tool_calls: Option<ToolCallFormat>,
    /// How it marks its thoughts.
    pub(super) reasoning: Option<ReasoningFormat>,
}

impl Parsers {
    /// A name for what they say; empty if they say nothing.
    pub(super) fn revision(&self) -> String {
        if self.tool_calls.is_none() && self.reasoning.is_none() {
            return String::new();
        }
        let digest = Sha256::digest(format!("{self:?}"));
        digest[..4].iter().fold("-".to_owned(), |name, byte| format!("{name}{byte:02x}"))
    }
}

/// A conversation that was rendered.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) prompt: String,
    /// How its answers are taken apart.
    pub(super) format: AnswerFormat,
}

impl Conversation {
    /// Renders the conversation of a request.
    ///
    /// # Errors
    /// What is wrong with the messages or the chat options.
    pub(super) fn new(
        messages: &[Message],
        request: &Request,
        (templates, parsers): (&ChatTemplates, &Parsers),
    ) -> Result<Self, RequestError> {
        if messages.is_empty() {
            return Err(RequestError::invalid("messages", "must hold at least one message"));
        }
        for (index, message) in messages.iter().enumerate() {
            message.validate(&format!("messages[{index}]"))?;
        }
        let chat = &request.chat;
        let prompt = templates.render(messages, chat)?;
        let calls = call_format(request, (templates, parsers))?;
        // The opening is a part of the prompt: without the mark in all of it, there is none to look for.
        let is_over = |format: &&ReasoningFormat| {
            prompt.contains(&*format.end) && format.is_over(opening(messages, chat, (templates, &prompt)))
        };
        let reasoning = parsers.reasoning.as_ref().filter(|format| !is_over(format)).cloned();
        Ok(Self { prompt, format: AnswerFormat::new(calls, reasoning) })
    }
}

/// Refuses a format for answers that may be calls.
///
/// # Errors
/// [`RequestError::InvalidParam`] with `tool_choice`.
pub(super) fn check_one_format(chat: &ChatOptions, params: &SamplingParams) -> Result<(), RequestError> {
    if chat.may_call() && params.structured_outputs.is_some() {
        let message = "must be `none` where the answer has a format: an answer is a call or keeps to the format";
        return Err(RequestError::invalid("tool_choice", message));
    }
    Ok(())
}

/// How calls are to be written, if there may be any.
fn call_format(
    request: &Request,
    (templates, parsers): (&ChatTemplates, &Parsers),
) -> Result<Option<ToolCallFormat>, RequestError> {
    let chat = &request.chat;
    if !chat.may_call() {
        return Ok(None);
    }
    let template = templates.find(chat)?;
    let format = parsers.tool_calls.clone().or_else(|| template.tool_call_format().cloned());
    let unknown = || RequestError::UnsupportedParam {
        param: "tools".to_owned(),
        message: "the model's chat template writes calls in a format that is not implemented; the engine's option \
                  `tool_call_parser` names another"
            .to_owned(),
    };
    format.map(Some).ok_or_else(unknown)
}

/// What the template writes of the model's turn, or all of the prompt if that is not known.
fn opening<'a>(messages: &[Message], chat: &ChatOptions, (templates, prompt): (&ChatTemplates, &'a str)) -> &'a str {
    if !chat.add_generation_prompt {
        return prompt;
    }
    let without = templates.render(messages, &chat.clone().with_add_generation_prompt(false));
    without.ok().and_then(|without| prompt.strip_prefix(&without)).unwrap_or(prompt)
}
