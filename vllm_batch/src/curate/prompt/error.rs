//! Why a model cannot be asked.

use super::super::FieldError;

/// Why there is no prompt for a record.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// Fields of the record cannot be used.
    #[error("record {record:?} cannot be used: {}", list(errors))]
    Fields {
        /// The record's id, or `example` with its number from 0.
        record: String,
        /// What is wrong.
        errors: Vec<FieldError>,
    },
    /// A template of the schema fails for this record.
    #[error("the template for the {template} message fails: {message}")]
    Template {
        /// Which: `system`, `user` or `assistant`.
        template: &'static str,
        /// Why, in the template engine's words.
        message: String,
    },
    /// The shortest answers are longer than the most tokens.
    #[error("answers take {needed} tokens at least, and max_tokens is {max_tokens}")]
    NoRoom {
        /// The most tokens that there may be.
        max_tokens: u32,
        /// How many it takes, by an estimate that is on the safe side.
        needed: usize,
    },
}

impl PromptError {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fields { .. } => "invalid_fields",
            Self::Template { .. } => "template_error",
            Self::NoRoom { .. } => "no_room",
        }
    }
}

fn list(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
