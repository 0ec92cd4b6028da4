//! What is wrong with a schema or a record, and where.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong or strange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Diagnostic {
    /// A stable word for the kind of mistake.
    pub code: &'static str,
    /// Whether it is a mistake or a doubt.
    pub severity: Severity,
    /// Where, as a JSON pointer (RFC 6901); empty for the whole document.
    pub path: String,
    /// What is wrong, for people.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// Whether a diagnostic is a mistake or a doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It can be used, but perhaps not as it was meant.
    Warning,
    /// It cannot be used.
    Error,
}

impl Diagnostic {
    /// A mistake.
    pub fn error(code: &'static str, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, path: path.into(), message: message.into(), help: None }
    }

    /// A doubt.
    pub fn warning(code: &'static str, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, path, message) }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Whether it is a mistake.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.is_error() { "error" } else { "warning" };
        let place = if self.path.is_empty() { "/" } else { &self.path };
        write!(f, "{severity}[{}] at {place}: {}", self.code, self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}
