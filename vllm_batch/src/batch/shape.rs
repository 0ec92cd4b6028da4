//! How does vLLM write rows, and how are rows of all kinds read?

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Endpoint;
use super::contract::Shape;
use super::key::RowKey;
use super::row::{BatchError, BatchRequestOutput, ErrorBody, ResponseBody};

/// HTTP status of a vLLM row whose request was let go.
const ABORTED: u16 = 499;
/// HTTP status of a vLLM row at which the engine failed.
const UNAVAILABLE: u16 = 503;
/// Codes of rows that are worth another try: those of retryable request errors, and of rows that were not begun.
pub(super) const RETRYABLE: [&str; 6] =
    ["request_aborted", "remote_error", "engine_failed", EXPIRED.0, CANCELLED.0, FAILED.0];
/// Code and message of rows that a deadline came before (`OpenAI`'s).
pub(super) const EXPIRED: (&str, &str) =
    ("batch_expired", "This request could not be executed before the completion window expired.");
/// Code and message of rows that a cancellation came before.
pub(super) const CANCELLED: (&str, &str) =
    ("batch_cancelled", "This request was not executed because the batch was cancelled.");
/// Code and message of rows that the end of a failed batch came before.
pub(super) const FAILED: (&str, &str) = ("batch_failed", "This request was not executed because the batch failed.");

/// Whether a row's error, in the shape as it is written, is worth another try.
pub(super) fn is_retryable(shape: Shape, error: &Value) -> bool {
    match shape {
        Shape::OpenAi => error["code"].as_str().is_some_and(|code| RETRYABLE.contains(&code)),
        Shape::Vllm => error["code"].as_u64().is_some_and(|code| [ABORTED.into(), UNAVAILABLE.into()].contains(&code)),
    }
}

/// A row as `vllm run-batch` writes it: errors have a response without a body.
#[derive(Debug, Serialize)]
pub(super) struct VllmRow<'a> {
    id: String,
    custom_id: Option<&'a str>,
    response: VllmResponse<'a>,
    error: Option<VllmError<'a>>,
}

#[derive(Debug, Serialize)]
struct VllmResponse<'a> {
    status_code: u16,
    request_id: String,
    body: Option<&'a ResponseBody>,
}

/// vLLM's `ErrorInfo`; its code is the HTTP status.
#[derive(Debug, Serialize)]
struct VllmError<'a> {
    message: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: u16,
}

impl<'a> VllmRow<'a> {
    pub(super) fn of(row: &'a BatchRequestOutput) -> Self {
        let digits = row.id.strip_prefix(Shape::OpenAi.id_prefix()).unwrap_or(&row.id);
        let error = error_of(row);
        let body = row.response.as_ref().map(|response| &response.body).filter(|_| error.is_none());
        let status_code = error.as_ref().map_or(200, |error| error.code);
        let request_id = format!("vllm-batch-{digits}");
        Self {
            id: format!("{}{digits}", Shape::Vllm.id_prefix()),
            custom_id: row.custom_id.as_deref(),
            response: VllmResponse { status_code, request_id, body },
            error,
        }
    }
}

fn error_of(row: &BatchRequestOutput) -> Option<VllmError<'_>> {
    if let Some(error) = &row.error {
        let status = match &*error.code {
            "request_aborted" => ABORTED,
            "engine_failed" | "remote_error" => UNAVAILABLE,
            _ => 400,
        };
        return Some(vllm_error(status, Cow::Borrowed(&error.message), error.param.as_deref()));
    }
    let response = row.response.as_ref()?;
    match &response.body {
        ResponseBody::Error { error: ErrorBody { message, param, .. } } => {
            Some(vllm_error(response.status_code, Cow::Borrowed(message), param.as_deref()))
        }
        _ => None,
    }
}

fn vllm_error<'a>(code: u16, message: Cow<'a, str>, param: Option<&'a str>) -> VllmError<'a> {
    let kind = match code {
        404 => "NotFoundError",
        ABORTED => "RequestAbortedError",
        UNAVAILABLE => "ServiceUnavailableError",
        500.. => "InternalServerError",
        _ => "BadRequestError",
    };
    VllmError { message, kind, param, code }
}

/// The row of a line with a url that is not supported, in vLLM's words.
pub(super) fn url_row(key: RowKey, custom_id: Option<String>, url: &str) -> BatchRequestOutput {
    let message = format!("URL {url} was used. Supported endpoints: {}", Endpoint::supported_urls());
    BatchRequestOutput::closed(key, custom_id, ("url_mismatch", &message))
}

/// The `error` of a row, in each form there is: a text, `OpenAI`'s object, vLLM's object, or that in an object.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum AnyError {
    Message(String),
    Nested { error: Box<AnyError> },
    Object(ErrorObject),
}

#[derive(Debug, Deserialize)]
pub(super) struct ErrorObject {
    #[serde(default)]
    code: Option<Code>,
    message: String,
    #[serde(default)]
    line: Option<u64>,
    #[serde(default)]
    param: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Code {
    Name(String),
    Status(u64),
}

impl From<AnyError> for BatchError {
    fn from(error: AnyError) -> Self {
        match error {
            AnyError::Message(message) => Self { code: Cow::Borrowed(""), message, line: None, param: None },
            AnyError::Nested { error } => (*error).into(),
            AnyError::Object(ErrorObject { code, message, line, param }) => {
                let code = match code {
                    Some(Code::Name(code)) => Cow::Owned(code),
                    Some(Code::Status(status)) => Cow::Owned(status.to_string()),
                    None => Cow::Borrowed(""),
                };
                Self { code, message, line, param }
            }
        }
    }
}
