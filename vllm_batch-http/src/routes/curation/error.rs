//! Which status does an error of a task store have?

use axum::http::StatusCode;
use serde_json::json;
use vllm_batch::pipeline::tasks::TaskStoreError;

use crate::error::ApiError;

/// The statuses by the codes of [`TaskStoreError`] and of its parts: the one table of them. All others are those of the request (400).
const STATUSES: &[(&str, StatusCode)] = &[
    ("unknown_task", StatusCode::NOT_FOUND),
    ("unknown_schema", StatusCode::NOT_FOUND),
    ("version_conflict", StatusCode::CONFLICT),
    ("schema_conflict", StatusCode::CONFLICT),
    ("bump_too_small", StatusCode::CONFLICT),
    ("migration_backwards", StatusCode::CONFLICT),
    ("damaged_task", StatusCode::INTERNAL_SERVER_ERROR),
    ("unreadable_schema", StatusCode::INTERNAL_SERVER_ERROR),
    ("export_io", StatusCode::INTERNAL_SERVER_ERROR),
];

impl From<TaskStoreError> for ApiError {
    fn from(error: TaskStoreError) -> Self {
        let code = error.code();
        let status =
            STATUSES.iter().find(|(known, _)| *known == code).map_or(StatusCode::BAD_REQUEST, |(_, status)| *status);
        if status.is_server_error() {
            return Self::internal(error);
        }
        match error {
            TaskStoreError::Job(error) => error.into(),
            TaskStoreError::InvalidParameter { param, message } => Self::new(status, code, message).with_param(param),
            TaskStoreError::InvalidAnswers { ref errors } => {
                let detail = |error: &vllm_batch::curate::AnswerError| {
                    json!({
                        "question": error.question, "path": error.path, "code": error.code(), "message": error.to_string(),
                    })
                };
                let details = errors.iter().map(detail).collect();
                Self::new(status, code, error.to_string()).with_param("answers").with_details(details)
            }
            other => Self::new(status, code, other.to_string()),
        }
    }
}
