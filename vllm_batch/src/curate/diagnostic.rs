//! What is wrong with a schema or a record, and where.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

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

/// A schema that cannot be used, and everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSchema {
    diagnostics: Vec<Diagnostic>,
}

impl InvalidSchema {
    pub(super) fn new(diagnostics: Vec<Diagnostic>) -> Self {
        Self { diagnostics }
    }

    pub(super) fn of(diagnostic: Diagnostic) -> Self {
        Self::new(vec![diagnostic])
    }

    /// What is wrong, and what is strange, in the order of the document. At least one is an error.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// What is wrong alone.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error())
    }

    /// A word for the kind of error, which stays the same.
    pub fn code(&self) -> &'static str {
        "invalid_schema"
    }
}

impl fmt::Display for InvalidSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the schema cannot be used:")?;
        self.errors().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for InvalidSchema {}

/// Brings diagnostics into the order of the document that they are about.
pub(super) fn sort_by_place(diagnostics: &mut [Diagnostic], document: &Value) {
    diagnostics.sort_by_cached_key(|diagnostic| positions(document, &diagnostic.path));
}

/// Where a pointer leads: the position in each object or list on the way.
fn positions(document: &Value, pointer: &str) -> Vec<usize> {
    let mut place = Some(document);
    let steps = pointer.split('/').skip(1).map(|step| {
        let step = step.replace("~1", "/").replace("~0", "~");
        let (position, below) = match place {
            Some(Value::Object(members)) => {
                (members.keys().position(|key| *key == step).unwrap_or(usize::MAX), members.get(&step))
            }
            Some(Value::Array(items)) => {
                let position = step.parse().unwrap_or(usize::MAX);
                (position, items.get(position))
            }
            _ => (usize::MAX, None),
        };
        place = below;
        position
    });
    steps.collect()
}

/// A key as a step of a JSON pointer.
pub(super) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
