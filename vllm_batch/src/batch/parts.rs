//! Which requests does one row come to, and whose answer is which part of the row's?
//!
//! A body may hold several prompts. Each is a request of its own to the engine; the row has its answer when all of them
//! have theirs, and fails with the first of them, by place, that fails.

use serde_json::Value;

use super::embeddings::EncodingFormat;
use super::format::as_written;
use super::json::{string, token_ids, wrong_type};
use super::score::LabelName;
use crate::engine::EngineSpec;
use crate::error::RequestError;
use crate::output::{EmbeddingRequestOutput, OutputEvent, RequestOutput, ScoringRequestOutput, TextDelta, Usage};
use crate::request::{Prompt, Request};

/// What a body asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RowRequests {
    /// At least one, in the order of the row's parts.
    pub(super) requests: Vec<Request>,
    pub(super) form: RowForm,
}

/// What is needed to make a row of answers, or of an error.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RowForm {
    pub(super) answer: AnswerForm,
    /// Where the body asks for the answer's format, if not in `structured_outputs`.
    pub(super) format_param: Option<&'static str>,
    pub(super) prompts: PromptPath,
    /// The name of the adapter that answers, if it is not the model itself.
    pub(super) adapter: Option<String>,
}

/// What the row's answer looks like.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AnswerForm {
    Chat,
    Completions,
    Embeddings(EncodingFormat),
    /// The names of the labels; none where there is one score for each pair of texts.
    Scores(Option<Vec<LabelName>>),
}

/// Where the prompts are in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PromptPath {
    pub(super) param: &'static str,
    /// Whether that is a list with one entry for each part.
    pub(super) is_list: bool,
}

/// Says of an engine that it misunderstood.
pub(super) fn wrong_kind() -> RequestError {
    RequestError::EngineFailed { message: "it answered in another kind than was asked for".to_owned() }
}

/// News about one part.
#[derive(Debug)]
pub(super) enum PartEvent {
    /// More of its text.
    Delta(TextDelta),
    /// What came of it; nothing follows.
    Ended(Result<PartOutput, RequestError>),
}

impl From<OutputEvent> for PartEvent {
    fn from(event: OutputEvent) -> Self {
        Self::Ended(match event {
            OutputEvent::Delta(delta) => return Self::Delta(delta),
            OutputEvent::Finished(output) => Ok(PartOutput::Text(output)),
            OutputEvent::Embedded(output) => Ok(PartOutput::Embedding(output)),
            OutputEvent::Scored(output) => Ok(PartOutput::Scores(output)),
            OutputEvent::Failed(error) => Err(error),
        })
    }
}

/// What came of one part.
#[derive(Debug, Clone)]
pub(super) enum PartOutput {
    Text(RequestOutput),
    Embedding(EmbeddingRequestOutput),
    Scores(ScoringRequestOutput),
}

impl RowRequests {
    /// One request for each prompt, all alike but for their ids: the row's name, and where there are several, the place.
    pub(super) fn new(request: Request, mut prompts: Vec<Prompt>, form: RowForm) -> Self {
        if prompts.len() == 1 {
            let prompt = prompts.swap_remove(0);
            return Self { requests: vec![Request { prompt, ..request }], form };
        }
        let part = |(index, prompt)| {
            let request_id = format!("{}-{index}", request.request_id);
            Request { request_id, prompt, ..request.clone() }
        };
        Self { requests: prompts.into_iter().enumerate().map(part).collect(), form }
    }

    /// Lets an adapter answer.
    pub(super) fn with_adapter(mut self, adapter: &str) -> Self {
        self.requests.iter_mut().for_each(|request| request.model = Some(adapter.to_owned()));
        self.form.adapter = Some(adapter.to_owned());
        self
    }
}

impl RowForm {
    pub(super) fn new(answer: AnswerForm, prompts: PromptPath) -> Self {
        Self { answer, format_param: None, prompts, adapter: None }
    }

    /// The name that the answer carries.
    pub(super) fn model<'a>(&'a self, spec: &'a EngineSpec) -> &'a str {
        self.adapter.as_deref().unwrap_or_else(|| spec.model())
    }

    /// What an engine says of a request, said of the body that it is a part of; and the path at fault.
    pub(super) fn in_body(&self, error: RequestError, index: usize) -> (RequestError, Option<String>) {
        let error = as_written(error, self.format_param);
        let Some(param) = error.param() else { return (error, None) };
        let path = match param {
            // So engines call a text or token ids, wherever they are in the body.
            "prompt" if self.prompts.param != "messages" => self.prompts.of_part(index),
            param => self.label_path(param).unwrap_or_else(|| param.to_owned()),
        };
        let error = match error {
            RequestError::InvalidParam { message, .. } => RequestError::InvalidParam { param: path.clone(), message },
            other => other,
        };
        (error, Some(path))
    }

    /// Where the label is that engines know by its number.
    fn label_path(&self, param: &str) -> Option<String> {
        let AnswerForm::Scores(Some(names)) = &self.answer else { return None };
        let index: usize = param.strip_prefix("labels[")?.strip_suffix(']')?.parse().ok()?;
        let num_texts = names.iter().filter(|name| matches!(name, LabelName::Text(_))).count();
        Some(format!("label_token_ids[{}]", index.checked_sub(num_texts)?))
    }
}

impl PromptPath {
    pub(super) fn single(param: &'static str) -> Self {
        Self { param, is_list: false }
    }

    /// The path of one part.
    fn of_part(self, index: usize) -> String {
        if self.is_list { format!("{}[{index}]", self.param) } else { self.param.to_owned() }
    }
}

impl PartOutput {
    pub(super) fn usage(&self) -> Usage {
        match self {
            Self::Text(output) => output.usage,
            Self::Embedding(output) => output.usage,
            Self::Scores(output) => output.usage,
        }
    }

    /// The same for a prompt that was not computed at all: it is billed, as if all of it had been in the cache.
    pub(super) fn repeated(&self) -> Self {
        let mut output = self.clone();
        let usage = match &mut output {
            Self::Text(output) => &mut output.usage,
            Self::Embedding(output) => &mut output.usage,
            Self::Scores(output) => &mut output.usage,
        };
        usage.cached_tokens = usage.prompt_tokens;
        output
    }

    pub(super) fn into_text(self) -> Option<RequestOutput> {
        if let Self::Text(output) = self { Some(output) } else { None }
    }

    pub(super) fn into_embedding(self) -> Option<EmbeddingRequestOutput> {
        if let Self::Embedding(output) = self { Some(output) } else { None }
    }

    pub(super) fn into_scores(self) -> Option<ScoringRequestOutput> {
        if let Self::Scores(output) = self { Some(output) } else { None }
    }
}

/// One text, one list of token ids, or a list of either: the prompts, and whether they are in a list. Token ids in a list
/// count as one prompt.
pub(super) fn prompts(value: Value, param: &'static str) -> Result<(Vec<Prompt>, PromptPath), RequestError> {
    let single = PromptPath::single(param);
    match value {
        Value::String(text) => Ok((vec![Prompt::Text(text)], single)),
        Value::Array(items) => match items.first() {
            Some(Value::String(_) | Value::Array(_)) => {
                let prompt = |(index, item)| prompt(item, &format!("{param}[{index}]"));
                let prompts = items.into_iter().enumerate().map(prompt).collect::<Result<_, _>>()?;
                Ok((prompts, PromptPath { param, is_list: true }))
            }
            _ => Ok((vec![Prompt::TokenIds(token_ids(&items, param)?)], single)),
        },
        other => Err(wrong_type(param, "a string, an array of token ids, or an array of those", &other)),
    }
}

fn prompt(value: Value, param: &str) -> Result<Prompt, RequestError> {
    match value {
        Value::Array(items) => token_ids(&items, param).map(Prompt::TokenIds),
        text => string(text, param).map(Prompt::Text),
    }
}
