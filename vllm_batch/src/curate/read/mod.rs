//! What does a schema's file say?
//!
//! A document is read as a whole: everything that is wrong with it is reported, each with the JSON pointer of its place. Whether
//! what it says makes sense is another question, which [`TaskSchema::compile`] answers.

mod field;
mod json;
mod node;
mod option;
mod question;
mod schema;

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use super::{Diagnostic, InvalidSchema, TaskSchema};
use node::{Node, Read, Report};

/// The longest document, in bytes.
const MAX_BYTES: usize = 4 << 20;

/// The version of schema documents that is written. 0 is the older system's, without `format`.
const FORMAT: u64 = 1;

/// A schema, and what is strange about its file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ReadSchema {
    /// The schema.
    pub schema: TaskSchema,
    /// Keys that are not known, and what had to be guessed, in the order of the document.
    pub warnings: Vec<Diagnostic>,
}

/// What the stored value of an option is where a file of the older system has only its text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OptionValues {
    /// The text in lower case, with `_` between words: `Strong Yes` becomes `strong_yes`. The text is its label, and a synonym.
    #[default]
    Slug,
    /// The text itself: for answers that were stored with it.
    Text,
}

/// Reads schemas from JSON.
///
/// # Example
/// ```
/// use vllm_batch::curate::{OptionValues, SchemaReader};
///
/// let older = r#"{"id": "hiring", "version": "1.0.0", "name": "Hiring", "dataSources": [],
///     "questions": [{"id": "hire", "text": "Hire?", "type": "choice", "options": ["Strong Yes", "No"]}]}"#;
/// let values = |reader: SchemaReader| -> Result<Vec<String>, vllm_batch::curate::InvalidSchema> {
///     let schema = reader.read_json(older)?.schema;
///     Ok(schema.questions[0].kind.options().iter().map(|option| option.value.clone()).collect())
/// };
/// assert_eq!(values(SchemaReader::new())?, ["strong_yes", "no"]);
/// assert_eq!(values(SchemaReader::new().option_values(OptionValues::Text))?, ["Strong Yes", "No"]);
/// # Ok::<(), vllm_batch::curate::InvalidSchema>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct SchemaReader {
    option_values: OptionValues,
}

impl SchemaReader {
    /// A reader that makes values of options of their texts where it must.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the values of options are in files of the older system.
    #[must_use]
    pub fn option_values(mut self, values: OptionValues) -> Self {
        self.option_values = values;
        self
    }

    /// Reads a document. A byte order mark at its start is passed over.
    ///
    /// # Errors
    /// Everything that is wrong with the document, warnings included, in its order.
    pub fn read_json(self, json: &str) -> Result<ReadSchema, InvalidSchema> {
        if json.len() > MAX_BYTES {
            let message = format!("the document has {} bytes, more than {MAX_BYTES}", json.len());
            return Err(InvalidSchema::of(Diagnostic::error("too_large", "", message)));
        }
        let (document, twice) = json::parse(json).map_err(InvalidSchema::of)?;
        self.read(&document, twice)
    }

    /// Reads a document that is JSON already.
    ///
    /// # Errors
    /// As [`read_json`](Self::read_json), but for keys that an object has twice: a [`Value`] has the last of them only.
    pub fn read_value(self, document: &Value) -> Result<ReadSchema, InvalidSchema> {
        if json::is_too_deep(document) {
            return Err(InvalidSchema::of(json::too_deep(String::new())));
        }
        self.read(document, Vec::new())
    }

    fn read(self, document: &Value, found: Vec<Diagnostic>) -> Result<ReadSchema, InvalidSchema> {
        let format = document.get("format");
        let legacy = format.is_none_or(|format| format.is_null() || *format == 0);
        let report = Report::new(legacy, self.option_values, found);
        if let Some(format) = format.filter(|format| !legacy && **format != FORMAT) {
            let message = format!("the format is {format}; this version of the library reads 0 and {FORMAT}");
            report.push(Diagnostic::error("unsupported_format", "/format", message));
        }
        let schema = TaskSchema::read(&Node { value: document, path: String::new(), report: &report });
        let found = report.into_diagnostics(document);
        match schema {
            Some(schema) if !found.iter().any(Diagnostic::is_error) => Ok(ReadSchema { schema, warnings: found }),
            _ => Err(InvalidSchema::new(found)),
        }
    }
}

impl TaskSchema {
    /// Reads a schema's file: the present format, or that of the system whose files have `dataSources`.
    ///
    /// # Errors
    /// Everything that is wrong with the document, each with its place. What it says is not weighed: that is
    /// [`compile`](Self::compile)'s.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::curate::TaskSchema;
    ///
    /// let error = TaskSchema::from_json(
    ///     r#"{"format": 1, "id": "Mail", "version": "1.0.0", "name": "Mail", "fields": [],
    ///         "questions": [{"id": "tone", "type": "choise", "optoins": []}]}"#,
    /// ).unwrap_err();
    ///
    /// let found: Vec<_> = error.diagnostics().iter().map(|one| (one.code, one.path.as_str())).collect();
    /// assert_eq!(found, [("invalid_id", "/id"), ("unknown_word", "/questions/0/type")]);
    /// assert_eq!(error.diagnostics()[1].help.as_deref(), Some("`choice` is meant?"));
    /// ```
    pub fn from_json(json: &str) -> Result<ReadSchema, InvalidSchema> {
        SchemaReader::new().read_json(json)
    }

    /// As [`from_json`](Self::from_json), of a value.
    ///
    /// # Errors
    /// As there; keys that an object has twice cannot be seen any more.
    pub fn from_value(document: &Value) -> Result<ReadSchema, InvalidSchema> {
        SchemaReader::new().read_value(document)
    }
}

impl<'de> Deserialize<'de> for TaskSchema {
    /// Reads a schema as [`from_json`](Self::from_json) does; warnings are lost.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (document, twice) = json::deserialize(deserializer)?;
        SchemaReader::new().read(&document, twice).map(|read| read.schema).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
