//! What is answered when something goes wrong?
//!
//! Always `OpenAI`'s envelope, `{"error": {"message", "type", "param", "code"}}`. What went wrong inside the server is written to
//! its log and not told: the answer carries the request's id, by which it is found there.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::extract::multipart::{MultipartError, MultipartRejection};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tower_http::timeout::TimeoutError;
use utoipa::ToSchema;
use vllm_batch::RequestError;
use vllm_batch::batch::ErrorBody;
use vllm_batch::jobs::JobError;

type Text = Cow<'static, str>;

/// A request that was not done, and why.
///
/// # Example
/// ```
/// use axum::http::StatusCode;
/// use vllm_batch_http::ApiError;
///
/// let error = ApiError::invalid("limit", "expected an integer from 1 to 100");
/// assert_eq!((error.status(), error.code()), (StatusCode::BAD_REQUEST, "invalid_value"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    error: ErrorObject,
    retry_after: Option<Duration>,
    /// Said only to the log.
    internal: Option<String>,
}

/// The envelope of every error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[non_exhaustive]
pub struct ErrorEnvelope {
    /// What went wrong.
    pub error: ErrorObject,
}

/// What went wrong, in `OpenAI`'s words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[non_exhaustive]
pub struct ErrorObject {
    /// A sentence for people.
    #[schema(value_type = String)]
    pub message: Text,
    /// The kind of the error.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "invalid_request_error")]
    pub kind: Text,
    /// The parameter at fault.
    #[schema(required)]
    pub param: Option<String>,
    /// A stable name for programs.
    #[schema(value_type = Option<String>, required)]
    pub code: Option<Text>,
    /// What is wrong with single parts of the request, where several can be wrong at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub details: Vec<serde_json::Value>,
}

/// What people are told of a fault that is the server's.
const INTERNAL: &str =
    "The server failed. Its log says why, by the id that the header `x-request-id` of this answer has.";

impl ApiError {
    /// An error of its parts. Its type follows from the status.
    pub fn new(status: StatusCode, code: impl Into<Text>, message: impl Into<Text>) -> Self {
        let error = ErrorObject {
            message: message.into(),
            kind: Cow::Borrowed(kind_of(status)),
            param: None,
            code: Some(code.into()),
            details: Vec::new(),
        };
        Self { status, error, retry_after: None, internal: None }
    }

    /// A parameter that is missing or wrong.
    pub fn invalid(param: impl Into<String>, message: impl Into<Text>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_value", message).with_param(param)
    }

    /// A parameter that is not there.
    pub fn missing(param: &str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self::new(StatusCode::BAD_REQUEST, "missing_required_parameter", message).with_param(param)
    }

    /// There is nothing of that id, or it is somebody else's.
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("No {what} has the id {id:?}.")).with_param("id")
    }

    /// Something is missing that requests like this need; another one may succeed later.
    pub fn unavailable(code: &'static str, message: impl Into<Text>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message).with_retry_after(Duration::from_secs(5))
    }

    /// A fault of the server: `internal` is said to the log alone.
    pub fn internal(internal: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", INTERNAL).hiding(internal)
    }

    /// Names the parameter at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.error.param = Some(param.into());
        self
    }

    /// Says what is wrong with single parts of the request.
    #[must_use]
    pub fn with_details(mut self, details: Vec<serde_json::Value>) -> Self {
        self.error.details = details;
        self
    }

    /// Says when to try again: `Retry-After`, in whole seconds, rounded up.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable name.
    pub fn code(&self) -> &str {
        self.error.code.as_deref().unwrap_or_default()
    }

    /// The envelope, as it is sent.
    pub fn into_envelope(self) -> ErrorEnvelope {
        ErrorEnvelope { error: self.error }
    }

    /// Notes what only the log is told.
    fn hiding(mut self, internal: impl std::fmt::Display) -> Self {
        self.internal = Some(internal.to_string());
        self
    }

    /// Tells the log what the caller is not told.
    pub(crate) fn log(&self) {
        if let Some(internal) = &self.internal {
            tracing::error!(code = self.code(), internal, "request failed");
        }
    }

    /// An error that an endpoint of the core answers with, as it stands in rows of batches; faults of the server are hidden.
    pub(crate) fn of_answer(status: u16, body: ErrorBody) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let ErrorBody { message, kind, param, code, .. } = body;
        if status.is_server_error() {
            return Self::new(status, code.unwrap_or(Cow::Borrowed("internal_error")), INTERNAL).hiding(message);
        }
        let error = ErrorObject { message: message.into(), kind, param, code, details: Vec::new() };
        Self { status, error, retry_after: None, internal: None }
    }
}

/// `OpenAI`'s types by the HTTP status.
fn kind_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    }
}

/// The statuses of the errors of jobs, by their codes: the one table of them.
const JOB_STATUSES: &[(&str, StatusCode)] = &[
    ("not_found", StatusCode::NOT_FOUND),
    ("invalid_parameter", StatusCode::BAD_REQUEST),
    ("invalid_status", StatusCode::CONFLICT),
    ("file_in_use", StatusCode::CONFLICT),
    ("queue_full", StatusCode::TOO_MANY_REQUESTS),
    ("file_too_large", StatusCode::PAYLOAD_TOO_LARGE),
    ("store_unavailable", StatusCode::SERVICE_UNAVAILABLE),
    ("file_store_unavailable", StatusCode::SERVICE_UNAVAILABLE),
];

impl From<JobError> for ApiError {
    fn from(error: JobError) -> Self {
        let code = error.code();
        let found = JOB_STATUSES.iter().find(|(known, _)| *known == code);
        let status = found.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(_, status)| *status);
        if status.is_server_error() {
            let message = "The files or the database of this server cannot be reached now.";
            return Self::new(status, code, message).with_retry_after(Duration::from_secs(5)).hiding(error);
        }
        match error {
            JobError::InvalidParameter { param, message } => Self::new(status, code, message).with_param(param),
            JobError::NotFound { what, id } => Self::not_found(what, &id),
            JobError::QueueFull { .. } => {
                Self::new(status, code, error.to_string()).with_retry_after(Duration::from_secs(30))
            }
            other => Self::new(status, code, other.to_string()),
        }
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        Self::of_answer(error.status_code(), ErrorBody::from(&error))
    }
}

impl From<MultipartError> for ApiError {
    fn from(error: MultipartError) -> Self {
        Self::of_body(&error, error.status(), error.body_text())
    }
}

impl From<MultipartRejection> for ApiError {
    fn from(rejection: MultipartRejection) -> Self {
        let message = "Send the file as multipart/form-data with a boundary, in the fields `purpose` and `file`.";
        let status = match rejection.status() {
            StatusCode::BAD_REQUEST => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            other => other,
        };
        Self::new(status, "unsupported_media_type", message)
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        Self::of_body(&rejection, rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_value", rejection.body_text())
    }
}

impl ApiError {
    /// A body that was too long, did not come, broke off, or is not what its header says. None of it is the server's fault.
    fn of_body(error: &(dyn std::error::Error + 'static), status: StatusCode, message: String) -> Self {
        if std::iter::successors(Some(error), |error| error.source()).any(<dyn std::error::Error>::is::<TimeoutError>) {
            let message = "Nothing came of the body for too long.";
            return Self::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message);
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            let message = "The body is longer than this server allows.";
            return Self::new(status, "body_too_large", message);
        }
        Self::new(StatusCode::BAD_REQUEST, "invalid_body", message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let (status, retry_after) = (self.status, self.retry_after);
        let mut response = (status, Json(self.into_envelope())).into_response();
        if let Some(retry_after) = retry_after {
            let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One error of each kind, with what is told of it.
    fn job_errors() -> Vec<(JobError, u16, &'static str)> {
        vec![
            (JobError::NotFound { what: "file", id: "x".into() }, 404, "No file has the id \"x\"."),
            (JobError::InvalidParameter { param: "limit", message: "too large".into() }, 400, "too large"),
            (
                JobError::InvalidStatus { id: "b".into(), status: "completed", wanted: "cancelled" },
                409,
                "batch b is completed and cannot be cancelled",
            ),
            (
                JobError::FileInUse { id: "f".into(), batch_id: "b".into() },
                409,
                "file f is the input of batch b, which has not ended",
            ),
            (
                JobError::QueueFull { what: "batches", value: 3, limit: 2 },
                429,
                "the queue is full: batches would be 3, and the limit is 2",
            ),
            (JobError::FileTooLarge { limit: 7 }, 413, "the file has more than 7 bytes"),
            (
                JobError::Store { message: "password=hunter2".into(), is_transient: true },
                503,
                "The files or the database of this server cannot be reached now.",
            ),
            (
                JobError::Files { action: "read", path: "/srv/secret".into(), message: "gone".into() },
                503,
                "The files or the database of this server cannot be reached now.",
            ),
        ]
    }

    #[test]
    fn every_error_of_jobs_has_a_status_and_hides_what_is_inside() {
        for (error, status, message) in job_errors() {
            let code = error.code();
            assert!(JOB_STATUSES.iter().any(|(known, _)| *known == code), "{code} has no status");
            let api = ApiError::from(error);
            assert_eq!((api.status().as_u16(), api.code(), &*api.error.message), (status, code, message));
        }
        assert_eq!(job_errors().len(), JOB_STATUSES.len());
    }

    #[test]
    fn faults_of_the_engine_are_hidden_and_those_of_the_caller_are_not() {
        let broken = ApiError::from(RequestError::EngineFailed { message: "/dev/secret".to_owned() });
        assert_eq!((broken.status().as_u16(), broken.code(), &*broken.error.message), (500, "engine_failed", INTERNAL));
        let wrong = ApiError::from(RequestError::invalid("top_p", "too large"));
        let expected = ErrorObject {
            message: "invalid value for `top_p`: too large".into(),
            kind: "invalid_request_error".into(),
            param: Some("top_p".to_owned()),
            code: Some("invalid_value".into()),
            details: Vec::new(),
        };
        assert_eq!((wrong.status().as_u16(), wrong.into_envelope().error), (400, expected));
    }

    #[test]
    fn pauses_are_whole_seconds_and_never_none() {
        for (pause, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2")] {
            let error = ApiError::unavailable("x", "y").with_retry_after(Duration::from_millis(pause));
            assert_eq!(error.into_response().headers()[header::RETRY_AFTER], seconds);
        }
    }
}
