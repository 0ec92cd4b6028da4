//! Why there is no export, or no row.

use std::io;
use std::path::PathBuf;

use super::{ExportFormat, Split};
use crate::curate::{AnswerError, FieldError, Ident, InvalidSchema, PromptError};

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// Nothing is left to learn.
    #[error("there is nothing to learn: all outputs are private, or are about private fields")]
    NoOutputs,
    /// An output of the schema's `export.outputs` is private, or about a field that is.
    #[error("answers to `{question}` are private, or are about a field that is no input: no model is trained on them")]
    PrivateOutput {
        /// The question.
        question: Ident,
    },
    /// What is left of the schema does not compile.
    #[error("what is left of the schema is not sound: {0}")]
    Schema(#[source] InvalidSchema),
    /// Examples would be trained on with each row.
    #[error("in {format}, models are trained on each message: a prompt can have no examples")]
    ExamplesNotSupported {
        /// The format.
        format: ExportFormat,
    },
    /// The format has no columns of one type each.
    #[error("{format} is no table: it cannot be a Parquet file")]
    NotATable {
        /// The format.
        format: ExportFormat,
    },
    /// The prompt would have the answer.
    #[error(
        "record {record:?} has an example of its own record or group, {example:?}: the answer would stand in the prompt"
    )]
    LeakedExample {
        /// The record.
        record: String,
        /// The record that the example is of.
        example: String,
    },
    /// Two rows have the same name.
    #[error("several rows are called {id:?}: names must be unique")]
    DuplicateId {
        /// The name.
        id: String,
    },
    /// Records of one group are for training and for tests.
    #[error("records of one group, {record:?} among them, are in {first} and in {second}")]
    SplitGroup {
        /// The later record.
        record: String,
        /// Where the others are.
        first: Split,
        /// Where the later one is.
        second: Split,
    },
    /// A record says that it is part of a split that there is not.
    #[error("record {record:?} is in {found:?}: there are train, validation and test")]
    UnknownSplit {
        /// The record.
        record: String,
        /// What it says.
        found: String,
    },
    /// A template of the schema fails.
    #[error("record {record:?}: {source}")]
    Prompt {
        /// The record.
        record: String,
        /// Why.
        source: PromptError,
    },
    /// A file cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file; empty for a writer of the caller's own.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl ExportError {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoOutputs => "no_outputs",
            Self::PrivateOutput { .. } => "private_output",
            Self::Schema(_) => "unsound_training_schema",
            Self::ExamplesNotSupported { .. } => "examples_not_supported",
            Self::NotATable { .. } => "not_a_table",
            Self::LeakedExample { .. } => "leaked_example",
            Self::DuplicateId { .. } => "duplicate_id",
            Self::SplitGroup { .. } => "split_group",
            Self::UnknownSplit { .. } => "unknown_split",
            Self::Prompt { .. } => "prompt_error",
            Self::Io { .. } => "export_io",
        }
    }
}

/// Why a record gives no row.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SkipReason {
    /// It is not gold.
    #[error("it is not gold: {}", reasons.join("; "))]
    NotGold {
        /// What speaks against it.
        reasons: Vec<String>,
    },
    /// There is not the one person's answer that was asked for.
    #[error("{found} people answered, not one")]
    NotOneResponse {
        /// How many did.
        found: usize,
    },
    /// Its fields cannot be used.
    #[error("its fields cannot be used")]
    InvalidFields {
        /// What is wrong.
        errors: Vec<FieldError>,
    },
    /// The right answers do not hold.
    #[error("the answers do not hold")]
    InvalidAnswers {
        /// What is wrong.
        errors: Vec<AnswerError>,
    },
    /// No question that is learnt has an answer.
    #[error("no question that is learnt has an answer")]
    NoAnswers,
    /// There is nothing to read: no field that goes in has a value.
    #[error("no field that goes in has a value")]
    EmptyPrompt,
    /// There is no model's answer to compare with.
    #[error("no model answered")]
    NoModelAnswer,
    /// Models answered like people.
    #[error("models answered like people: at most {strength:.2} of the answers differ")]
    NotDifferent {
        /// The greatest weighted share of questions that were answered otherwise.
        strength: f64,
    },
    /// Another record says the same.
    #[error("it says the same as {of:?} (similarity {similarity:.2})")]
    Duplicate {
        /// The other record.
        of: String,
        /// How much, from 0 to 1.
        similarity: f64,
    },
}

impl SkipReason {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotGold { .. } => "not_gold",
            Self::NotOneResponse { .. } => "not_one_response",
            Self::InvalidFields { .. } => "invalid_fields",
            Self::InvalidAnswers { .. } => "invalid_answers",
            Self::NoAnswers => "no_answers",
            Self::EmptyPrompt => "empty_prompt",
            Self::NoModelAnswer => "no_model_answer",
            Self::NotDifferent { .. } => "not_different",
            Self::Duplicate { .. } => "duplicate",
        }
    }
}
