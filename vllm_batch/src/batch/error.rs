//! What is wrong with a line of a batch file, and what stops a whole run?

use std::path::PathBuf;

use super::Endpoint;
use super::validate::ValidationErrors;
use crate::error::RequestError;

/// A line of a batch file holds no request that can be run. The other lines go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
#[non_exhaustive]
pub struct LineError {
    /// The line in the batch file, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub kind: LineErrorKind,
}

impl LineError {
    /// A stable name for programs to branch on; that of the [`RequestError`] where the request is at fault.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// The field of the line, or the parameter inside the request body, that is at fault.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        self.kind.param()
    }
}

/// What is wrong with a line of a batch file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineErrorKind {
    /// The line is not JSON.
    #[error("not parseable as JSON at column {column}: {message}")]
    InvalidJson {
        /// Bytes from the start of the line, counted from 1.
        column: usize,
        /// What the parser said.
        message: String,
    },
    /// The line is JSON, but not an object.
    #[error("expected a JSON object, found {found}")]
    NotAnObject {
        /// What was found, such as `an array`.
        found: &'static str,
    },
    /// The line holds a NUL byte, as files in UTF-16 and files damaged by a crash do.
    #[error("a NUL byte at column {column}: the file must be JSONL in UTF-8")]
    NulByte {
        /// Bytes from the start of the line, counted from 1.
        column: usize,
    },
    /// The line is not UTF-8.
    #[error("not valid UTF-8 at column {column}")]
    InvalidUtf8 {
        /// Bytes from the start of the line, counted from 1.
        column: usize,
    },
    /// The line is longer than the runner's limit.
    #[error("the line has {length} bytes, but the limit is {limit} bytes: shorten it, or raise max_line_bytes")]
    TooLong {
        /// Bytes of the line.
        length: u64,
        /// Bytes allowed.
        limit: usize,
    },
    /// The line has no `custom_id`.
    #[error("`custom_id` is missing: every line needs a name of its own")]
    MissingCustomId,
    /// The `custom_id` is not a text, or is empty.
    #[error("`custom_id` must be a non-empty string, found {found}")]
    InvalidCustomId {
        /// What was found, such as `a number`.
        found: &'static str,
    },
    /// An earlier line has the same `custom_id`.
    #[error("the custom_id `{custom_id}` is a duplicate of that in line {first_line}")]
    DuplicateCustomId {
        /// The name that both lines have.
        custom_id: String,
        /// The first line that has it, counted from 1.
        first_line: u64,
    },
    /// The line lacks `method`, `url` or `body`.
    #[error("`{field}` is missing")]
    MissingField {
        /// The field's name.
        field: &'static str,
    },
    /// A field of the line has a wrong type.
    #[error("`{field}` must be {expected}, found {found}")]
    WrongType {
        /// The field's name.
        field: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What was found.
        found: &'static str,
    },
    /// The `method` is not `POST`.
    #[error("`method` must be `POST`, found `{method}`")]
    MethodNotPost {
        /// The method in the line.
        method: String,
    },
    /// The `url` is not that of an endpoint that is supported.
    #[error("the url `{url}` is not supported; supported: {}", Endpoint::supported_urls())]
    UrlMismatch {
        /// The url in the line.
        url: String,
    },
    /// The request in the line's `body` cannot be answered.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl LineErrorKind {
    /// A stable name for programs to branch on; that of the [`RequestError`] where the request is at fault.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidJson { .. } => "invalid_json_line",
            Self::NotAnObject { .. } => "not_an_object",
            Self::NulByte { .. } => "nul_byte",
            Self::InvalidUtf8 { .. } => "invalid_utf8",
            Self::TooLong { .. } => "line_too_long",
            Self::MissingCustomId => "missing_custom_id",
            Self::InvalidCustomId { .. } => "invalid_custom_id",
            Self::DuplicateCustomId { .. } => "duplicate_custom_id",
            Self::MissingField { .. } => "missing_field",
            Self::WrongType { .. } => "wrong_field_type",
            Self::MethodNotPost { .. } => "method_not_post",
            Self::UrlMismatch { .. } => "url_mismatch",
            Self::Request(error) => error.code(),
        }
    }

    /// The field of the line, or the parameter inside the request body, that is at fault.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::MissingCustomId | Self::InvalidCustomId { .. } | Self::DuplicateCustomId { .. } => Some("custom_id"),
            Self::MissingField { field } | Self::WrongType { field, .. } => Some(field),
            Self::MethodNotPost { .. } => Some("method"),
            Self::UrlMismatch { .. } => Some("url"),
            Self::Request(error) => error.param(),
            Self::InvalidJson { .. }
            | Self::NotAnObject { .. }
            | Self::NulByte { .. }
            | Self::InvalidUtf8 { .. }
            | Self::TooLong { .. } => None,
        }
    }

    pub(super) fn at(self, line: u64) -> LineError {
        LineError { line, kind: self }
    }
}

/// A run could not start or had to stop. What was written stays, and the run can be resumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The runner was given no input, or no output.
    #[error("no {option} was given: call BatchRunner::{option}")]
    MissingPath {
        /// The builder's method.
        option: &'static str,
    },
    /// The input cannot be read.
    #[error("cannot read the input {}: {source}", path.display())]
    InputUnreadable {
        /// The input.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The input holds no request at all.
    #[error("the input {} is empty: it must hold at least one request", path.display())]
    EmptyInput {
        /// The input.
        path: PathBuf,
    },
    /// The input changed while it was read.
    #[error("the input {} changed during the run: leave it alone and resume, what was done is kept", path.display())]
    InputChanged {
        /// The input.
        path: PathBuf,
        /// The first line that differs, counted from 1, where that is known.
        line: Option<u64>,
    },
    /// The input does not keep to the rules of [`Contract::OpenAi`](super::Contract::OpenAi). Nothing was done.
    #[error("the input {} is not valid: {errors}", path.display())]
    ValidationFailed {
        /// The input.
        path: PathBuf,
        /// Everything that is wrong.
        errors: ValidationErrors,
    },
    /// A line of the input holds no request, which [`Contract::Vllm`](super::Contract::Vllm) does not allow. Nothing was
    /// done.
    #[error("the input {} is not valid: {error}", path.display())]
    InvalidLine {
        /// The input.
        path: PathBuf,
        /// The first such line.
        error: LineError,
    },
    /// An option was given that the contract has no use for.
    #[error("{option} was given, but this contract writes one file only: leave BatchRunner::{option} out")]
    UnusedOption {
        /// The builder's method.
        option: &'static str,
    },
    /// Two of the run's files are the same one.
    #[error("{first} and {second} are the same file, {}: give them different paths", path.display())]
    SameFile {
        /// The file.
        path: PathBuf,
        /// What one of them is for.
        first: &'static str,
        /// What the other is for.
        second: &'static str,
    },
    /// The output or error file cannot be opened, read or repaired: a missing folder, a folder in its place, no right.
    #[error("cannot use {} for results: {source}", path.display())]
    OutputUnusable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The output or error file holds rows already, and the run was not asked to resume.
    #[error("{} holds rows already: resume that run, or choose another path", path.display())]
    OutputExists {
        /// The file.
        path: PathBuf,
    },
    /// Another run, in this process or another one, writes to the same files.
    #[error("another run is writing to {}: wait until it ends", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The disk, or the user's share of it, is full.
    #[error("no space left to write {}: free some and resume, what was written is kept ({source})", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A row could not be written for another reason than a full disk.
    #[error("cannot write to {}: {source}; what was written is kept, the run can be resumed", path.display())]
    WriteFailed {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The engine failed at row after row.
    #[error("the engine failed at {failures} rows in a row: {message}; resume when it works again")]
    EngineFailed {
        /// Failures since the last row that came to an answer.
        failures: usize,
        /// What the engine said last.
        message: String,
    },
}

impl RunError {
    /// A stable name for programs to branch on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingPath { .. } => "missing_path",
            Self::InputUnreadable { .. } => "input_unreadable",
            Self::EmptyInput { .. } => "empty_file",
            Self::InputChanged { .. } => "input_changed",
            Self::ValidationFailed { .. } => "validation_failed",
            Self::InvalidLine { .. } => "invalid_line",
            Self::UnusedOption { .. } => "unused_option",
            Self::SameFile { .. } => "same_file",
            Self::OutputUnusable { .. } => "output_unusable",
            Self::OutputExists { .. } => "output_exists",
            Self::Locked { .. } => "output_locked",
            Self::DiskFull { .. } => "disk_full",
            Self::WriteFailed { .. } => "write_failed",
            Self::EngineFailed { .. } => "engine_failed",
        }
    }

    /// The file at fault.
    #[must_use]
    pub fn path(&self) -> Option<&std::path::Path> {
        match self {
            Self::InputUnreadable { path, .. }
            | Self::EmptyInput { path }
            | Self::InputChanged { path, .. }
            | Self::ValidationFailed { path, .. }
            | Self::InvalidLine { path, .. }
            | Self::SameFile { path, .. }
            | Self::OutputUnusable { path, .. }
            | Self::OutputExists { path }
            | Self::Locked { path }
            | Self::DiskFull { path, .. }
            | Self::WriteFailed { path, .. } => Some(path),
            Self::MissingPath { .. } | Self::UnusedOption { .. } | Self::EngineFailed { .. } => None,
        }
    }
}
