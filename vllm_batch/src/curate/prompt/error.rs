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
}

impl PromptError {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fields { .. } => "invalid_fields",
            Self::Template { .. } => "template_error",
        }
    }
}

fn list(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
