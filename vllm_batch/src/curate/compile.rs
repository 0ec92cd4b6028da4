//! From a document to something that can be used.

use std::collections::HashSet;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::check::Checkers;
use super::decode::Formats;
use super::prompt::Templates;
use super::{Diagnostic, TaskSchema};

/// A schema that was checked as a whole, with all that follows from it.
#[derive(Debug)]
#[non_exhaustive]
pub struct CompiledSchema {
    schema: TaskSchema,
    sha256: String,
    checkers: Checkers,
    formats: Formats,
    templates: Templates,
    warnings: Vec<Diagnostic>,
}

impl TaskSchema {
    /// Checks the whole document and makes what follows from it.
    ///
    /// # Errors
    /// Everything that is wrong with it, warnings included, in the order of the document.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::curate::{Question, QuestionKind, TaskSchema, TextQuestion, Version};
    ///
    /// let question = Question::new("tone".parse()?, QuestionKind::Text(TextQuestion::default()));
    /// let schema = TaskSchema::new("email".parse()?, Version::new(1, 0, 0));
    /// let twice = schema.clone().with_question(question.clone()).with_question(question.clone());
    ///
    /// let diagnostics = twice.compile().unwrap_err();
    /// assert_eq!((diagnostics[0].code, diagnostics[0].path.as_str()), ("duplicate_id", "/questions/1/id"));
    /// assert!(schema.with_question(question).compile().is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compile(self) -> Result<CompiledSchema, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        check_ids(&self, &mut diagnostics);
        let checkers = Checkers::new(&self, &mut diagnostics);
        let templates = Templates::new(&self, &mut diagnostics);
        if diagnostics.iter().any(Diagnostic::is_error) {
            return Err(diagnostics);
        }
        Ok(CompiledSchema {
            sha256: sha256(&self),
            checkers,
            formats: Formats::new(&self),
            templates,
            schema: self,
            warnings: diagnostics,
        })
    }
}

impl CompiledSchema {
    /// The document.
    pub fn schema(&self) -> &TaskSchema {
        &self.schema
    }

    /// SHA-256 of the document's canonical JSON, in hexadecimal digits.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What checks its questions and fields.
    pub(super) fn checkers(&self) -> &Checkers {
        &self.checkers
    }

    /// The JSON Schemas of its answers.
    pub(super) fn formats(&self) -> &Formats {
        &self.formats
    }

    /// Its own templates.
    pub(super) fn templates(&self) -> &Templates {
        &self.templates
    }

    /// What may not be as it was meant.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }
}

fn check_ids(schema: &TaskSchema, diagnostics: &mut Vec<Diagnostic>) {
    let mut seen = HashSet::new();
    let fields = schema.fields.iter().enumerate().map(|(at, field)| (format!("/fields/{at}/id"), &field.id));
    for (path, id) in fields {
        if !seen.insert(id) {
            diagnostics.push(Diagnostic::error("duplicate_id", path, format!("there are two fields {id:?}")));
        }
    }
    let mut seen = HashSet::new();
    let questions = schema.questions.iter().enumerate().map(|(at, one)| (format!("/questions/{at}/id"), &one.id));
    for (path, id) in questions {
        if !seen.insert(id) {
            diagnostics.push(Diagnostic::error("duplicate_id", path, format!("there are two questions {id:?}")));
        }
    }
}

fn sha256(schema: &TaskSchema) -> String {
    let json = serde_json::to_vec(schema).unwrap_or_default();
    hex(&Sha256::digest(json))
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
