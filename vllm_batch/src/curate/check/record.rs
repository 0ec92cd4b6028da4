//! Does a record have the fields that the schema shows?

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::super::{Answer, CompiledSchema, DateGranularity, Field, FieldKind, QuestionKind, Record};
use super::values::{check_schema, is_date};
use super::{AnswerErrorKind, Checker, Wrong, nearest, read};

/// What is wrong with one field of a record.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}{path}: {kind}")]
#[non_exhaustive]
pub struct FieldError {
    /// The field, as the record or the schema names it.
    pub field: String,
    /// Where in its value, as a JSON pointer (RFC 6901); empty for the whole of it.
    pub path: String,
    /// What is wrong.
    pub kind: FieldErrorKind,
}

impl FieldError {
    /// A stable word for what is wrong: that of [`kind`](Self::kind).
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// Whether the record cannot be used. A field that the schema does not know is only left out.
    pub fn is_fatal(&self) -> bool {
        !matches!(self.kind, FieldErrorKind::Unknown { .. })
    }
}

/// What can be wrong with a field of a record.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldErrorKind {
    /// It is required, and absent or null.
    #[error("the field is required")]
    Missing,
    /// Its value is of another type.
    #[error("{found} where {expected} is expected")]
    WrongType {
        /// What is expected.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// Its value breaks the field's JSON Schema.
    #[error("{message}")]
    SchemaMismatch {
        /// What is wrong, in the validator's words.
        message: String,
    },
    /// The schema has no such field.
    #[error("the schema has no such field; what is not shown belongs in the metadata")]
    Unknown {
        /// The one that is written most like it, if one is near.
        nearest: Option<String>,
    },
}

impl FieldErrorKind {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "missing_field",
            Self::WrongType { .. } => "wrong_type",
            Self::SchemaMismatch { .. } => "schema_mismatch",
            Self::Unknown { .. } => "unknown_field",
        }
    }
}

impl Field {
    /// Its value in a record: that of the record, else its default. Null is no value.
    pub fn value_in<'a>(&'a self, fields: &'a Map<String, Value>) -> Option<&'a Value> {
        let own = fields.get(self.id.as_str()).filter(|value| !value.is_null());
        own.or_else(|| self.default.as_ref().filter(|value| !value.is_null()))
    }
}

impl CompiledSchema {
    /// Checks the fields of a record: everything that is wrong with them, in the order of the schema, then what it does not
    /// know.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::curate::{Field, FieldKind, Question, QuestionKind, Record, TaskSchema, Version};
    ///
    /// let spam = QuestionKind::Boolean { yes: "Yes".into(), no: "No".into() };
    /// let schema = TaskSchema::new("mail".parse()?, Version::new(1, 0, 0))
    ///     .with_question(Question::new("spam".parse()?, spam))
    ///     .with_field(Field::new("words".parse()?, FieldKind::Number))
    ///     .with_field(Field::new("urgent".parse()?, FieldKind::Boolean));
    /// let schema = schema.compile().expect("a sound schema");
    ///
    /// let errors = schema.check_record(&Record::new("1").with_field("words", "12").with_field("urgnt", true));
    /// let messages: Vec<_> = errors.iter().map(|error| (error.field.as_str(), error.code())).collect();
    /// assert_eq!(messages, [("words", "wrong_type"), ("urgent", "missing_field"), ("urgnt", "unknown_field")]);
    /// # Ok::<(), vllm_batch::curate::InvalidIdent>(())
    /// ```
    pub fn check_record(&self, record: &Record) -> Vec<FieldError> {
        self.check_fields(&record.fields)
    }

    /// [`check_record`](Self::check_record) of the fields alone.
    pub(in crate::curate) fn check_fields(&self, values: &Map<String, Value>) -> Vec<FieldError> {
        let fields = &self.schema().fields;
        let pairs = fields.iter().zip(self.checkers().fields());
        let mut errors: Vec<_> = pairs.filter_map(|(field, checker)| check_field(field, checker, values)).collect();
        for name in values.keys().filter(|name| self.schema().field(name).is_none()) {
            let nearest = nearest(name, fields.iter().map(|field| field.id.as_str()));
            let kind = FieldErrorKind::Unknown { nearest };
            errors.push(FieldError { field: name.clone(), path: String::new(), kind });
        }
        errors
    }
}

fn check_field(field: &Field, checker: &Checker, fields: &Map<String, Value>) -> Option<FieldError> {
    let (path, kind) = match field.value_in(fields) {
        None => (String::new(), field.required.then_some(FieldErrorKind::Missing)?),
        Some(value) => check_value(&field.kind, checker, value).err()?,
    };
    Some(FieldError { field: field.id.to_string(), path, kind })
}

fn check_value(kind: &FieldKind, checker: &Checker, value: &Value) -> Result<(), (String, FieldErrorKind)> {
    let (holds, expected) = match kind {
        FieldKind::Text { .. } | FieldKind::File { .. } => (value.is_string(), "a text"),
        FieldKind::Chat => (is_chat(value), "a list of objects with texts `role` and `content`"),
        FieldKind::Number => (value.is_number(), "a number"),
        FieldKind::Boolean => (value.is_boolean(), "true or false"),
        FieldKind::Date => {
            (value.as_str().is_some_and(is_some_date), "a date like 2026-01-31 or a time after RFC 3339")
        }
        FieldKind::Structured { .. } => {
            return check_schema(checker, value)
                .map_err(|(path, message)| (path, FieldErrorKind::SchemaMismatch { message }));
        }
    };
    let found = read::type_name(value);
    if holds { Ok(()) } else { Err((String::new(), FieldErrorKind::WrongType { expected, found })) }
}

fn is_chat(value: &Value) -> bool {
    let is_turn = |turn: &Value| turn["role"].is_string() && turn["content"].is_string();
    value.as_array().is_some_and(|turns| turns.iter().all(is_turn))
}

fn is_some_date(text: &str) -> bool {
    is_date(DateGranularity::Date, text) || is_date(DateGranularity::DateTime, text)
}

/// Checks of an answer what depends on the record: stretches lie in the field's text, a ranking has the field's items.
pub(super) fn check_with_fields<'a>(
    kind: &QuestionKind,
    answer: &Answer,
    value_of: impl Fn(&str) -> Option<&'a Value>,
) -> Result<(), Wrong> {
    let missing = |field: &str| AnswerErrorKind::MissingField { field: field.to_owned() };
    match (kind, answer) {
        (QuestionKind::Span { field, .. }, Answer::Spans(spans)) => {
            let text = value_of(field).and_then(Value::as_str).map(|text| text.chars().count());
            let len = text.ok_or_else(|| missing(field))?;
            match spans.iter().enumerate().find(|(_, span)| span.end > len) {
                Some((index, span)) => Err(Wrong::at(
                    index,
                    AnswerErrorKind::InvalidSpan { start: span.start, end: span.end, len: Some(len) },
                )),
                None => Ok(()),
            }
        }
        (QuestionKind::Ranking { field }, Answer::Ranking(ranked)) => {
            let items = value_of(field).and_then(ranking_items).ok_or_else(|| missing(field))?;
            check_permutation(&items, ranked)
        }
        (QuestionKind::Preference { left, right, .. }, Answer::Preference(_)) => {
            let absent = [left, right].into_iter().find(|field| value_of(field).is_none());
            absent.map_or(Ok(()), |field| Err(missing(field).into()))
        }
        _ => Ok(()),
    }
}

/// The names of the items to rank: the `id` of each object, or each text. `None` for anything else.
pub(in crate::curate) fn ranking_items(value: &Value) -> Option<Vec<String>> {
    let name = |item: &Value| match item {
        Value::String(text) => Some(text.clone()),
        Value::Object(object) => object.get("id")?.as_str().map(str::to_owned),
        _ => None,
    };
    value.as_array()?.iter().map(name).collect()
}

fn check_permutation(items: &[String], ranked: &[String]) -> Result<(), Wrong> {
    let without = |from: &[String], these: &[String]| {
        let these: HashSet<_> = these.iter().collect();
        from.iter().filter(|item| !these.contains(item)).cloned().collect::<Vec<_>>()
    };
    let (missing, unexpected) = (without(items, ranked), without(ranked, items));
    if missing.is_empty() && unexpected.is_empty() {
        return Ok(());
    }
    Err(AnswerErrorKind::NotAPermutation { missing, unexpected }.into())
}
