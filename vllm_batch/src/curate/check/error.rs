//! Why an answer does not hold.

use super::super::DateGranularity;

/// What is wrong with the answer to one question.
///
/// # Example
/// ```
/// use serde_json::json;
/// use vllm_batch::curate::{Question, QuestionKind, Scale};
///
/// let clarity = Question::new("clarity".parse()?, QuestionKind::Rating { scale: Scale::Range { min: 1, max: 5 } });
/// let error = clarity.read_answer(&json!(6)).unwrap_err();
/// assert_eq!(error.kind.code(), "out_of_range");
/// assert_eq!(error.to_string(), "clarity: 6 is not between 1 and 5");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{question}{path}: {kind}")]
#[non_exhaustive]
pub struct AnswerError {
    /// The question, as it was named: there need not be one of that name.
    pub question: String,
    /// Where in the answer, as a JSON pointer (RFC 6901); empty for the whole of it.
    pub path: String,
    /// What is wrong.
    pub kind: AnswerErrorKind,
}

impl AnswerError {
    /// Something that is wrong with the whole of an answer.
    pub fn new(question: impl Into<String>, kind: AnswerErrorKind) -> Self {
        Self { question: question.into(), path: String::new(), kind }
    }

    /// A stable word for what is wrong: that of [`kind`](Self::kind).
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }
}

/// What can be wrong with an answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerErrorKind {
    /// It is of another type.
    #[error("{found} where {expected} is expected")]
    WrongType {
        /// What is expected.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// It is none of those that are allowed.
    #[error("{value:?} is none of {allowed:?}{}", meant(nearest.as_deref()))]
    UnknownOption {
        /// The answer.
        value: String,
        /// What is allowed.
        allowed: Vec<String>,
        /// The one of them that is written most like it, if one is near.
        nearest: Option<String>,
    },
    /// It is there twice.
    #[error("{value:?} is there twice")]
    Duplicate {
        /// What is.
        value: String,
    },
    /// It has too few or too many parts.
    #[error("{found} items are not {}", count(*min, *max))]
    WrongCount {
        /// The fewest.
        min: usize,
        /// The most.
        max: Option<usize>,
        /// How many there are.
        found: usize,
    },
    /// It is too small or too large a number.
    #[error("{value} is not {}", range(*min, *max))]
    OutOfRange {
        /// The number.
        value: f64,
        /// The least.
        min: Option<f64>,
        /// The greatest.
        max: Option<f64>,
    },
    /// It is not whole, but should be.
    #[error("{value} is not a whole number")]
    NotInteger {
        /// The number.
        value: f64,
    },
    /// It is no multiple of the step.
    #[error("{value} is not a multiple of {step}")]
    NotMultiple {
        /// The number.
        value: f64,
        /// The step.
        step: f64,
    },
    /// It is too short or too long a text.
    #[error("a text of {found} characters is not one of {}", count(*min, *max))]
    WrongLength {
        /// The fewest characters.
        min: usize,
        /// The most characters.
        max: Option<usize>,
        /// How many there are.
        found: usize,
    },
    /// It has more than one line.
    #[error("the text has more than one line")]
    LineEnd,
    /// It does not match the question's expression.
    #[error("the text does not match {pattern:?}")]
    PatternMismatch {
        /// The expression.
        pattern: String,
    },
    /// It is no date of the kind that is asked for.
    #[error("{text:?} is not {}", date(*expected))]
    NotADate {
        /// The answer.
        text: String,
        /// What is expected.
        expected: DateGranularity,
    },
    /// It breaks the question's JSON Schema.
    #[error("{message}")]
    SchemaMismatch {
        /// What is wrong, in the validator's words.
        message: String,
    },
    /// It is not the items of the record's field, each once.
    #[error("the ranking leaves out {missing:?} and has {unexpected:?}, which are no items")]
    NotAPermutation {
        /// Items that are not ranked.
        missing: Vec<String>,
        /// What is ranked and is no item.
        unexpected: Vec<String>,
    },
    /// A stretch of text that has no character or ends behind the text.
    #[error("the stretch {start}..{end} is not in a text of {len} characters", len = length(*len))]
    InvalidSpan {
        /// Its beginning.
        start: usize,
        /// Its end.
        end: usize,
        /// Characters of the text, where it is known.
        len: Option<usize>,
    },
    /// Two stretches of text overlap, and must not.
    #[error("the stretches that begin at {first} and at {second} overlap")]
    Overlap {
        /// The beginning of the one.
        first: usize,
        /// The beginning of the other.
        second: usize,
    },
    /// The record has not got the field that the question is about.
    #[error("the record has no usable field {field:?}")]
    MissingField {
        /// The field.
        field: String,
    },
    /// There is no answer, and there must be one.
    #[error("an answer is required")]
    Missing,
    /// The question is not asked of this record.
    #[error("the question is hidden here, and must not be answered")]
    Hidden,
    /// There is no such question.
    #[error("there is no such question")]
    UnknownQuestion {
        /// The one that is written most like it, if one is near.
        nearest: Option<String>,
    },
    /// The question itself has an expression or a JSON Schema that cannot be used.
    #[error("the question cannot be used: {message}")]
    InvalidQuestion {
        /// Why not.
        message: String,
    },
}

impl AnswerErrorKind {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::WrongType { .. } => "wrong_type",
            Self::UnknownOption { .. } => "unknown_option",
            Self::Duplicate { .. } => "duplicate_value",
            Self::WrongCount { .. } => "wrong_count",
            Self::OutOfRange { .. } => "out_of_range",
            Self::NotInteger { .. } => "not_an_integer",
            Self::NotMultiple { .. } => "not_a_multiple",
            Self::WrongLength { .. } => "wrong_length",
            Self::LineEnd => "line_end",
            Self::PatternMismatch { .. } => "pattern_mismatch",
            Self::NotADate { .. } => "not_a_date",
            Self::SchemaMismatch { .. } => "schema_mismatch",
            Self::NotAPermutation { .. } => "not_a_permutation",
            Self::InvalidSpan { .. } => "invalid_span",
            Self::Overlap { .. } => "overlapping_spans",
            Self::MissingField { .. } => "missing_field",
            Self::Missing => "missing_answer",
            Self::Hidden => "hidden_question",
            Self::UnknownQuestion { .. } => "unknown_question",
            Self::InvalidQuestion { .. } => "invalid_question",
        }
    }
}

fn meant(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest:?}?"))
}

fn count(min: usize, max: Option<usize>) -> String {
    match max {
        Some(max) if max == min => format!("{min}"),
        Some(max) => format!("between {min} and {max}"),
        None => format!("at least {min}"),
    }
}

fn range(min: Option<f64>, max: Option<f64>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("between {min} and {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => "a finite number".to_owned(),
    }
}

fn date(granularity: DateGranularity) -> &'static str {
    match granularity {
        DateGranularity::Date => "a date like 2026-01-31",
        DateGranularity::DateTime => "a time like 2026-01-31T12:30:00Z",
        DateGranularity::Year => "a year like 2026",
    }
}

fn length(len: Option<usize>) -> String {
    len.map_or_else(|| "any number of".to_owned(), |len| len.to_string())
}
