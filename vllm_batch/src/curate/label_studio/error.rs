//! What cannot be sent for review, and what comes back and cannot be read.

use super::super::{AnswerError, FieldError};

/// Why a record cannot become a task: all that is wrong with it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("record {record:?} cannot be reviewed: {}", list(problems))]
#[non_exhaustive]
pub struct TaskError {
    /// The record.
    pub record: String,
    /// What is wrong.
    pub problems: Vec<TaskProblem>,
}

/// One thing for which a record cannot become a task.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskProblem {
    /// A field is missing, or has a wrong value.
    #[error("field {0}")]
    Field(FieldError),
    /// A field has a name that tasks use for something else: the schema has no [`label_config`](super::label_config).
    #[error("{field} is a name that tasks use for themselves")]
    ReservedField {
        /// The field.
        field: String,
    },
    /// The schema's own labelling configuration cannot be used: [`label_config`](super::label_config) says why.
    #[error("the schema's labelling configuration cannot be used: {message}")]
    LabelConfig {
        /// Why not.
        message: String,
    },
    /// An answer does not hold.
    #[error("the answer of {agent}: {error}")]
    Answer {
        /// Who gave it.
        agent: String,
        /// What is wrong.
        error: AnswerError,
    },
    /// A score does not lie between 0 and 1.
    #[error("the score {score} of {question} by {agent} does not lie between 0 and 1")]
    Score {
        /// Who gave it.
        agent: String,
        /// The question.
        question: String,
        /// The score.
        score: f64,
    },
}

impl TaskProblem {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Field(_) => "invalid_field",
            Self::ReservedField { .. } => "reserved_field",
            Self::LabelConfig { .. } => "invalid_label_config",
            Self::Answer { .. } => "invalid_answer",
            Self::Score { .. } => "invalid_score",
        }
    }
}

fn list(problems: &[TaskProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Something in a task that was left out, or that is not as it should be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{path}: {kind}")]
#[non_exhaustive]
pub struct HarvestError {
    /// Where, as a JSON pointer (RFC 6901) into what was read.
    pub path: String,
    /// What is wrong.
    pub kind: HarvestErrorKind,
}

impl HarvestError {
    pub(super) fn new(path: impl Into<String>, kind: impl Into<HarvestErrorKind>) -> Self {
        Self { path: path.into(), kind: kind.into() }
    }

    /// The same, in something larger.
    pub(super) fn under(self, path: &str) -> Self {
        Self { path: format!("{path}{}", self.path), kind: self.kind }
    }

    /// A stable word for what is wrong: that of [`kind`](Self::kind).
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }
}

/// What can be wrong with a task.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HarvestErrorKind {
    /// It has not got the form that Label Studio gives it.
    #[error("{found} where {expected} is expected")]
    Malformed {
        /// What is expected.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// The task is none of this schema: its name is another, or its major version.
    #[error("the task belongs to {found:?}")]
    OtherSchema {
        /// The schema that it names.
        found: String,
    },
    /// Predictions are there by their numbers alone.
    #[error("the prediction is only its number: export with full predictions")]
    PredictionById,
    /// No question has this control.
    #[error("no question is called {control:?}{}", nearest.as_ref().map_or_else(String::new, |one| format!("; did you mean {one:?}?")))]
    UnknownControl {
        /// The control.
        control: String,
        /// The question that is written most like it, if one is near.
        nearest: Option<String>,
    },
    /// A region is of another type than its control.
    #[error("a region of the type {found:?} where {expected:?} is expected")]
    WrongRegionType {
        /// The type.
        expected: &'static str,
        /// The type that it says.
        found: String,
    },
    /// A region is about something else than its control.
    #[error("the region is about {found:?}, its control about {expected:?}")]
    WrongObject {
        /// What its control is about.
        expected: Vec<String>,
        /// What it says that it is about.
        found: String,
    },
    /// Two regions answer the same question otherwise.
    #[error("there is another answer to {question}")]
    Conflict {
        /// The question.
        question: String,
    },
    /// The text is no JSON, and should be.
    #[error("the answer to {question} is no JSON: {message}")]
    NotJson {
        /// The question.
        question: String,
        /// What is wrong with it.
        message: String,
    },
    /// A stretch does not begin and end at characters of the text.
    #[error("the stretch {start}..{end} (in UTF-16 code units) is not one of the text's")]
    NotInText {
        /// Its beginning.
        start: usize,
        /// Its end.
        end: usize,
    },
    /// An answer does not hold.
    #[error("{0}")]
    Answer(#[from] AnswerError),
    /// The score is no number from 0 to 1.
    #[error("the score {found} is no number from 0 to 1")]
    Score {
        /// The score, as JSON.
        found: String,
    },
}

impl HarvestErrorKind {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::OtherSchema { .. } => "other_schema",
            Self::PredictionById => "prediction_by_id",
            Self::UnknownControl { .. } => "unknown_control",
            Self::WrongRegionType { .. } => "wrong_region_type",
            Self::WrongObject { .. } => "wrong_object",
            Self::Conflict { .. } => "conflict",
            Self::NotJson { .. } => "not_json",
            Self::NotInText { .. } => "not_in_text",
            Self::Answer(_) => "invalid_answer",
            Self::Score { .. } => "invalid_score",
        }
    }
}
