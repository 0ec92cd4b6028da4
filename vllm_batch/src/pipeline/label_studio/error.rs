//! What can go wrong between this library and a server?

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a call did not do what it was to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelStudioError {
    /// An option of the client cannot be used.
    #[error("{option} {message}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// There was no answer: no connection, or one that broke.
    #[error("no answer: {message}")]
    Connection {
        /// What the network says.
        message: String,
    },
    /// There was no answer in time.
    #[error("no answer in time: {message}")]
    Timeout {
        /// What the client waited for.
        message: String,
    },
    /// The answer is longer than the client reads.
    #[error("the answer is longer than max_response_bytes, which is {limit}")]
    ResponseTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The token is refused, or does not allow this.
    #[error("the server refused the token with HTTP {status}: {message}")]
    Unauthorized {
        /// 401 or 403.
        status: u16,
        /// What the server says.
        message: String,
    },
    /// There is no such thing on the server. It says so with a page of HTML where a project is missing.
    #[error("there is no {path}: {message}")]
    NotFound {
        /// The path that was asked for.
        path: String,
        /// What the server says.
        message: String,
    },
    /// What was sent breaks the server's rules.
    #[error("HTTP {status}: {message}{}", list(errors))]
    Refused {
        /// The HTTP status, such as 400.
        status: u16,
        /// What the server says of the whole.
        message: String,
        /// What it says in detail: the name of a field, or empty, and a sentence.
        errors: Vec<(String, String)>,
    },
    /// The server could not do it, perhaps for the moment. It may have done it nevertheless.
    #[error("the server failed with HTTP {status}: {message}")]
    Server {
        /// The HTTP status: 408, 425, 429 or 5xx.
        status: u16,
        /// What the server says.
        message: String,
        /// How long the server wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// The answer is not what this call gets from Label Studio.
    #[error("HTTP {status}, but the answer is not Label Studio's: {message}")]
    InvalidResponse {
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        message: String,
    },
    /// The project has a schema that this one does not follow.
    #[error("project {project} has {found}, which {schema} cannot replace: {message}")]
    SchemaConflict {
        /// The project.
        project: u64,
        /// The schema and version that the project has.
        found: String,
        /// The schema and version that it was to have.
        schema: String,
        /// Why not.
        message: String,
    },
    /// A file of this machine cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The cursor belongs to another import.
    #[error("{}: {message}", path.display())]
    InvalidCursor {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

impl LabelStudioError {
    /// A stable word for it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidOption { .. } => "invalid_option",
            Self::Connection { .. } => "connection_failed",
            Self::Timeout { .. } => "timeout",
            Self::ResponseTooLarge { .. } => "response_too_large",
            Self::Unauthorized { .. } => "unauthorized",
            Self::NotFound { .. } => "not_found",
            Self::Refused { .. } => "refused",
            Self::Server { .. } => "server_error",
            Self::InvalidResponse { .. } => "invalid_response",
            Self::SchemaConflict { .. } => "schema_conflict",
            Self::Io { .. } => "io",
            Self::InvalidCursor { .. } => "invalid_cursor",
        }
    }

    /// The server's HTTP status, if it answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Unauthorized { status, .. }
            | Self::Refused { status, .. }
            | Self::Server { status, .. }
            | Self::InvalidResponse { status, .. } => Some(*status),
            Self::NotFound { .. } => Some(404),
            _ => None,
        }
    }

    /// Whether the same call may succeed a moment later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Connection { .. } | Self::Timeout { .. } | Self::Server { .. })
    }

    /// How long the server wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Server { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the server may have done what it was asked for, although this is an error.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.is_retryable() || matches!(self, Self::ResponseTooLarge { .. } | Self::InvalidResponse { .. })
    }
}

fn list(errors: &[(String, String)]) -> String {
    use std::fmt::Write as _;
    errors.iter().fold(String::new(), |mut text, (field, message)| {
        let separator = if field.is_empty() { "" } else { ": " };
        let _ = write!(text, "\n  {field}{separator}{message}");
        text
    })
}
