//! What do the lines of the input, output and error files look like?
//!
//! The shapes are `OpenAI`'s. All of them can be read as well as written; unknown fields are skipped.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::RequestError;
use crate::output::{self, RequestOutput, TokenLogprobs};
use crate::request::ToolCall;

use super::Endpoint;
use super::contract::Shape;
use super::embeddings::EmbeddingList;
use super::error::LineError;
use super::key::RowKey;
use super::logprobs::{ChatLogprobs, PromptLogprobs, TextLogprobs, prompt_logprobs};
use super::parts::{AnswerForm, PartOutput, RowForm};
use super::score::ScoreList;
use super::shape::AnyError;

type Text = Cow<'static, str>;

/// A line of the input file.
///
/// # Example
/// ```
/// use serde_json::json;
/// use vllm_batch::batch::{BatchRequestInput, Endpoint};
///
/// let body = json!({"model": "tiny", "prompt": "Once"});
/// let line = BatchRequestInput::new("row-1", Endpoint::Completions, body.as_object().cloned().unwrap_or_default());
/// assert_eq!(
///     serde_json::to_string(&line)?,
///     r#"{"custom_id":"row-1","method":"POST","url":"/v1/completions","body":{"model":"tiny","prompt":"Once"}}"#
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BatchRequestInput {
    /// The line's name: unique in its file, not empty.
    pub custom_id: String,
    /// Always `POST`.
    pub method: String,
    /// The endpoint's path, such as `/v1/chat/completions`.
    pub url: String,
    /// The request, as the endpoint takes it.
    pub body: Map<String, Value>,
}

impl BatchRequestInput {
    /// A line for an endpoint.
    pub fn new(custom_id: impl Into<String>, endpoint: Endpoint, body: Map<String, Value>) -> Self {
        Self { custom_id: custom_id.into(), method: "POST".to_owned(), url: endpoint.url().to_owned(), body }
    }
}

/// A line of the output or error file.
///
/// * Answered: `response` with status 200 and the answer as its body, `error` null; in the output file.
/// * The request was refused: `response` with the status and `{"error": …}` as its body, `error` null.
/// * The line held no request, or the engine failed: `response` null, `error` set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BatchRequestOutput {
    /// `batch_req_` and 32 hexadecimal digits. Equal ids mean equal work: the same line for the same engine revision.
    pub id: String,
    /// The line's name, if it had one.
    pub custom_id: Option<String>,
    /// What an `OpenAI`-compatible server would have answered.
    pub response: Option<BatchResponse>,
    /// Why there is no response.
    pub error: Option<BatchError>,
}

impl BatchRequestOutput {
    /// Whether the row holds an answer. To look only at `error` takes a refused request for an answer.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.error.is_none() && self.response.as_ref().is_some_and(|response| response.status_code == 200)
    }

    /// Takes apart what an engine answered, part by part. `None` if that is not what was asked for.
    pub(super) fn answered(work: &Work<'_>, outputs: Vec<PartOutput>) -> Option<Self> {
        let response = BatchResponse::answered(work.key, ResponseBody::new(work, outputs)?);
        Some(Self::of(work.key, Some(work.custom_id.to_owned()), Some(response), None))
    }

    /// A request that got no answer. What may succeed another time is not like an HTTP answer.
    pub(super) fn refused(key: RowKey, custom_id: Option<String>, error: &RequestError) -> Self {
        Self::refused_for(key, custom_id, error, error.param().map(str::to_owned))
    }

    /// The same, where another parameter is at fault than the error says.
    pub(super) fn refused_for(
        key: RowKey,
        custom_id: Option<String>,
        error: &RequestError,
        param: Option<String>,
    ) -> Self {
        if error.is_retryable() {
            let error = BatchError::new(error.code(), error.to_string(), None, param.as_deref());
            return Self::of(key, custom_id, None, Some(error));
        }
        Self::of(key, custom_id, Some(BatchResponse::refused(key, error, param)), None)
    }

    /// A request that was not begun or not finished: code and message.
    pub(super) fn closed(key: RowKey, custom_id: Option<String>, (code, message): (&'static str, &str)) -> Self {
        Self::of(key, custom_id, None, Some(BatchError::new(code, message.to_owned(), None, None)))
    }

    /// A line that held no request.
    pub(super) fn unreadable(key: RowKey, custom_id: Option<String>, error: &LineError) -> Self {
        let error = BatchError::new(error.code(), error.kind.to_string(), Some(error.line), error.param());
        Self::of(key, custom_id, None, Some(error))
    }

    fn of(key: RowKey, custom_id: Option<String>, response: Option<BatchResponse>, error: Option<BatchError>) -> Self {
        Self { id: key.row_id(), custom_id, response, error }
    }
}

/// What a row is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) key: RowKey,
    pub(super) custom_id: &'a str,
    pub(super) form: &'a RowForm,
    pub(super) shape: Shape,
    pub(super) model: &'a str,
    /// Seconds since 1970.
    pub(super) created: u64,
}

/// What an `OpenAI`-compatible server would have answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BatchResponse {
    /// The HTTP status.
    pub status_code: u16,
    /// A name for the request in logs.
    pub request_id: String,
    /// The answer or the refusal.
    pub body: ResponseBody,
}

impl BatchResponse {
    /// An answer.
    pub(super) fn answered(key: RowKey, body: ResponseBody) -> Self {
        Self { status_code: 200, request_id: key.to_string(), body }
    }

    /// A refusal, and the parameter at fault.
    pub(super) fn refused(key: RowKey, error: &RequestError, param: Option<String>) -> Self {
        let body = ResponseBody::Error { error: ErrorBody { param, ..ErrorBody::from(error) } };
        Self { status_code: error.status_code(), request_id: key.to_string(), body }
    }
}

/// The body of a [`BatchResponse`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum ResponseBody {
    /// Answer of `/v1/chat/completions`.
    ChatCompletion(ChatCompletion),
    /// Answer of `/v1/completions`.
    TextCompletion(TextCompletion),
    /// Answer of `/v1/embeddings`.
    Embeddings(EmbeddingList),
    /// Answer of `/v1/score`.
    Scores(ScoreList),
    /// The request was refused.
    Error {
        /// Why.
        error: ErrorBody,
    },
    /// A body that this version does not write.
    Other(Value),
}

impl ResponseBody {
    /// `None` if the engine answered in another kind than was asked for.
    pub(super) fn new(work: &Work<'_>, outputs: Vec<PartOutput>) -> Option<Self> {
        let mut outputs = outputs.into_iter();
        Some(match &work.form.answer {
            AnswerForm::Chat => Self::ChatCompletion(ChatCompletion::new(work, outputs.next()?.into_text()?)),
            AnswerForm::Completions => {
                let outputs = outputs.map(PartOutput::into_text).collect::<Option<_>>()?;
                Self::TextCompletion(TextCompletion::new(work, outputs))
            }
            AnswerForm::Embeddings(format) => {
                let outputs = outputs.map(PartOutput::into_embedding).collect::<Option<_>>()?;
                Self::Embeddings(EmbeddingList::new(work, *format, outputs))
            }
            AnswerForm::Scores(names) => {
                let outputs = outputs.map(PartOutput::into_scores).collect::<Option<Vec<_>>>()?;
                Self::Scores(ScoreList::new(work, names.as_deref(), &outputs))
            }
        })
    }

    /// The text of the first answer; `None` for an error or a body of another kind.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::ChatCompletion(body) => body.choices.first()?.message.content.as_deref(),
            Self::TextCompletion(body) => body.choices.first().map(|choice| choice.text.as_str()),
            Self::Embeddings(_) | Self::Scores(_) | Self::Error { .. } | Self::Other(_) => None,
        }
    }
}

/// Answer of `/v1/chat/completions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChatCompletion {
    /// `chatcmpl-` and the row's digits.
    pub id: String,
    /// Always `chat.completion`.
    pub object: Text,
    /// Seconds since 1970.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// The answers.
    pub choices: Vec<ChatChoice>,
    /// What they cost.
    pub usage: TokenUsage,
    /// Log-probabilities of the prompt, if they were asked for (vLLM's field).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_logprobs: Option<PromptLogprobs>,
}

impl ChatCompletion {
    fn new(work: &Work<'_>, output: RequestOutput) -> Self {
        Self {
            id: format!("chatcmpl-{}", work.key),
            object: Text::Borrowed("chat.completion"),
            created: work.created,
            model: work.model.to_owned(),
            choices: output.outputs.into_iter().map(ChatChoice::from).collect(),
            usage: TokenUsage::from(output.usage),
            prompt_logprobs: output.prompt_logprobs.as_deref().map(prompt_logprobs),
        }
    }
}

/// One answer of a [`ChatCompletion`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChatChoice {
    /// Which of the answers this is, from 0.
    pub index: usize,
    /// The answer.
    pub message: AssistantMessage,
    /// `stop`, `length` or `tool_calls`; `repetition`, vLLM's word, where `repetition_detection` was asked for.
    pub finish_reason: Option<Text>,
    /// The stop string or stop token that ended the answer (vLLM's field).
    #[serde(default)]
    pub stop_reason: Option<StopReason>,
    /// Log-probabilities of the answer, if they were asked for.
    #[serde(default)]
    pub logprobs: Option<ChatLogprobs>,
}

impl From<output::CompletionOutput> for ChatChoice {
    fn from(output: output::CompletionOutput) -> Self {
        Self {
            index: output.index,
            message: AssistantMessage::new(output.text, output.reasoning, output.tool_calls),
            finish_reason: Some(Text::Borrowed(output.finish_reason.as_str())),
            stop_reason: output.stop_reason.map(StopReason::from),
            logprobs: output.logprobs.map(ChatLogprobs::from),
        }
    }
}

/// What the model says in a [`ChatChoice`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AssistantMessage {
    /// Always `assistant`.
    pub role: Text,
    /// The text; absent where there is none besides calls or thoughts.
    pub content: Option<String>,
    /// What the model said to itself (vLLM's field). Also read by its older name `reasoning_content`.
    #[serde(default, alias = "reasoning_content", skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The functions that the model called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}

impl AssistantMessage {
    fn new(text: String, reasoning: Option<String>, tool_calls: Vec<ToolCall>) -> Self {
        let is_absent = text.is_empty() && (reasoning.is_some() || !tool_calls.is_empty());
        let content = if is_absent { None } else { Some(text) };
        Self { role: Text::Borrowed("assistant"), content, reasoning, tool_calls }
    }
}

/// Answer of `/v1/completions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TextCompletion {
    /// `cmpl-` and the row's digits.
    pub id: String,
    /// Always `text_completion`.
    pub object: Text,
    /// Seconds since 1970.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// The answers.
    pub choices: Vec<TextChoice>,
    /// What they cost.
    pub usage: TokenUsage,
}

impl TextCompletion {
    /// The choices of the first prompt come first.
    fn new(work: &Work<'_>, outputs: Vec<RequestOutput>) -> Self {
        let usage: output::Usage = outputs.iter().map(|output| output.usage).sum();
        let mut choices: Vec<_> = outputs.into_iter().flat_map(text_choices).collect();
        choices.iter_mut().enumerate().for_each(|(index, choice)| choice.index = index);
        Self {
            id: format!("cmpl-{}", work.key),
            object: Text::Borrowed("text_completion"),
            created: work.created,
            model: work.model.to_owned(),
            choices,
            usage: TokenUsage::from(usage),
        }
    }
}

/// One answer of a [`TextCompletion`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TextChoice {
    /// Which of the answers this is, from 0; those of the first prompt come first.
    pub index: usize,
    /// The text, after that of the prompt if its echo was asked for.
    pub text: String,
    /// `stop` or `length`; `repetition`, vLLM's word, where `repetition_detection` was asked for.
    pub finish_reason: Option<Text>,
    /// The stop string or stop token that ended the answer (vLLM's field).
    #[serde(default)]
    pub stop_reason: Option<StopReason>,
    /// Log-probabilities of the answer, if they were asked for.
    #[serde(default)]
    pub logprobs: Option<TextLogprobs>,
    /// Log-probabilities of the prompt, if they were asked for (vLLM's field).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_logprobs: Option<PromptLogprobs>,
}

/// What the choices of a completion share.
struct Echo<'a> {
    text: Option<&'a str>,
    logprobs: Option<&'a [Option<TokenLogprobs>]>,
}

pub(super) fn text_choices(output: RequestOutput) -> Vec<TextChoice> {
    let RequestOutput { prompt, prompt_logprobs, outputs, .. } = output;
    let echo = Echo { text: prompt.as_deref(), logprobs: prompt_logprobs.as_deref() };
    outputs.into_iter().map(|output| TextChoice::new(&echo, output)).collect()
}

impl TextChoice {
    fn new(echo: &Echo<'_>, output: output::CompletionOutput) -> Self {
        let before = echo.text.map(|text| (text, echo.logprobs.unwrap_or_default()));
        Self {
            index: output.index,
            text: echo.text.map_or_else(String::new, str::to_owned) + &output.text,
            finish_reason: Some(Text::Borrowed(output.finish_reason.as_str())),
            stop_reason: output.stop_reason.map(StopReason::from),
            logprobs: output.logprobs.map(|answer| TextLogprobs::new(before, &answer)),
            prompt_logprobs: echo.logprobs.map(prompt_logprobs),
        }
    }
}

/// What ended an answer: a stop token's id, or a stop string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum StopReason {
    /// One of `stop_token_ids`.
    Token(u32),
    /// One of the `stop` strings.
    String(String),
}

impl From<output::StopReason> for StopReason {
    fn from(reason: output::StopReason) -> Self {
        match reason {
            output::StopReason::Token(id) => Self::Token(id),
            output::StopReason::String(text) => Self::String(text),
        }
    }
}

/// Token counts of one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TokenUsage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens generated.
    pub completion_tokens: usize,
    /// Both together.
    pub total_tokens: usize,
    /// More about the prompt's tokens.
    #[serde(default)]
    pub prompt_tokens_details: Option<PromptTokensDetails>,
}

impl From<output::Usage> for TokenUsage {
    fn from(usage: output::Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.total_tokens(),
            prompt_tokens_details: Some(PromptTokensDetails { cached_tokens: usage.cached_tokens }),
        }
    }
}

/// More about a prompt's tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PromptTokensDetails {
    /// Tokens that were not computed again, because the prefix cache held them.
    pub cached_tokens: usize,
}

/// Why a request was refused, as `OpenAI` says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorBody {
    /// A sentence for people.
    pub message: String,
    /// `invalid_request_error` or `server_error`.
    #[serde(rename = "type")]
    pub kind: Text,
    /// The parameter at fault, as a path inside the request body.
    pub param: Option<String>,
    /// A stable name for programs: [`RequestError::code`].
    pub code: Option<Text>,
}

impl From<&RequestError> for ErrorBody {
    fn from(error: &RequestError) -> Self {
        let kind = if error.status_code() < 500 { "invalid_request_error" } else { "server_error" };
        Self {
            message: error.to_string(),
            kind: Text::Borrowed(kind),
            param: error.param().map(str::to_owned),
            code: Some(Text::Borrowed(error.code())),
        }
    }
}

/// Why a row has no response.
///
/// Rows of `vllm run-batch` can be read too: their errors may be a text or lie in an object, and their code may be the HTTP
/// status; a code that is absent is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "AnyError")]
#[non_exhaustive]
pub struct BatchError {
    /// A stable name for programs: [`LineError::code`], [`RequestError::code`], `batch_expired`,
    /// `batch_cancelled` or `batch_failed`.
    pub code: Text,
    /// A sentence for people.
    pub message: String,
    /// The line in the input, counted from 1, where the line is at fault.
    pub line: Option<u64>,
    /// The field of the line that is at fault.
    pub param: Option<String>,
}

impl BatchError {
    fn new(code: &'static str, message: String, line: Option<u64>, param: Option<&str>) -> Self {
        Self { code: Text::Borrowed(code), message, line, param: param.map(str::to_owned) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::parts::PromptPath;
    use crate::output::{CompletionOutput, FinishReason, Usage};

    fn output(stop_reason: Option<output::StopReason>) -> RequestOutput {
        let answer = CompletionOutput::new("Hi".to_owned(), vec![1, 2], FinishReason::Stop, stop_reason);
        RequestOutput::new("a".to_owned(), vec![7; 5].into(), vec![answer], Usage::new(5, 2, 4))
    }

    #[test]
    fn rows_have_openais_shape_and_can_be_read_back() {
        let key =
            RowKey::from_row_id("batch_req_000102030405060708090a0b0c0d0e0f", super::super::contract::Shape::OpenAi)
                .expect("a valid id");
        let [chat, text] = [(AnswerForm::Chat, "messages"), (AnswerForm::Completions, "prompt")]
            .map(|(answer, param)| RowForm::new(answer, PromptPath::single(param)));
        let chat = Work { key, custom_id: "a", form: &chat, shape: Shape::OpenAi, model: "m", created: 1_700_000_000 };
        let text = Work { form: &text, ..chat };
        let answered = |work, stop_reason| {
            let parts = vec![PartOutput::Text(output(Some(stop_reason)))];
            BatchRequestOutput::answered(work, parts).expect("a text was asked for")
        };
        let duplicate = super::super::error::LineErrorKind::MissingCustomId.at(7);
        let cases = [
            (
                answered(&chat, output::StopReason::Token(2)),
                r#"{"id":"batch_req_000102030405060708090a0b0c0d0e0f","custom_id":"a","response":{"status_code":200,"request_id":"000102030405060708090a0b0c0d0e0f","body":{"id":"chatcmpl-000102030405060708090a0b0c0d0e0f","object":"chat.completion","created":1700000000,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop","stop_reason":2,"logprobs":null}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":4}}}},"error":null}"#,
            ),
            (
                answered(&text, output::StopReason::String("\n".to_owned())),
                r#"{"id":"batch_req_000102030405060708090a0b0c0d0e0f","custom_id":"a","response":{"status_code":200,"request_id":"000102030405060708090a0b0c0d0e0f","body":{"id":"cmpl-000102030405060708090a0b0c0d0e0f","object":"text_completion","created":1700000000,"model":"m","choices":[{"index":0,"text":"Hi","finish_reason":"stop","stop_reason":"\n","logprobs":null}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":4}}}},"error":null}"#,
            ),
            (
                BatchRequestOutput::refused(key, Some("a".to_owned()), &RequestError::invalid("top_p", "too large")),
                r#"{"id":"batch_req_000102030405060708090a0b0c0d0e0f","custom_id":"a","response":{"status_code":400,"request_id":"000102030405060708090a0b0c0d0e0f","body":{"error":{"message":"invalid value for `top_p`: too large","type":"invalid_request_error","param":"top_p","code":"invalid_value"}}},"error":null}"#,
            ),
            (
                BatchRequestOutput::refused(key, Some("a".to_owned()), &RequestError::Aborted),
                r#"{"id":"batch_req_000102030405060708090a0b0c0d0e0f","custom_id":"a","response":null,"error":{"code":"request_aborted","message":"the request was aborted before it was complete","line":null,"param":null}}"#,
            ),
            (
                BatchRequestOutput::unreadable(key, None, &duplicate),
                r#"{"id":"batch_req_000102030405060708090a0b0c0d0e0f","custom_id":null,"response":null,"error":{"code":"missing_custom_id","message":"`custom_id` is missing: every line needs a name of its own","line":7,"param":"custom_id"}}"#,
            ),
        ];
        for (index, (row, expected)) in cases.into_iter().enumerate() {
            assert_eq!(serde_json::to_string(&row).expect("rows can be written"), expected);
            assert_eq!(serde_json::from_str::<BatchRequestOutput>(expected).expect("rows can be read"), row);
            assert_eq!(row.is_success(), index < 2);
        }
    }
}
