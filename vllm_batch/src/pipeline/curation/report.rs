//! What became of the records?

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::batch::BatchReport;

/// A record, or an answer about it, that does not go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rejection {
    /// The line of the record, from 1.
    pub line: usize,
    /// Its name, if it has one.
    pub id: Option<String>,
    /// Where it stopped.
    pub stage: Stage,
    /// A stable word for the reason: of records those of [`FieldErrorKind`](crate::curate::FieldErrorKind), `invalid_record` and
    /// `duplicate_id`; of models those of batch rows; of answers those of
    /// [`AnswerErrorKind`](crate::curate::AnswerErrorKind).
    pub code: String,
    /// The reason.
    pub message: String,
}

/// A stage of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// The line is no record that the schema can use.
    Read,
    /// The record cannot be put into a prompt.
    Prompt,
    /// The model gave no answer.
    Model,
    /// The answer to a question could not be read or does not hold. The record goes on without it.
    Answer,
}

/// What a run of the pipeline did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CurationReport {
    /// Records in the file, those included that cannot be used.
    pub records: usize,
    /// Records that a model answered about.
    pub suggested: usize,
    /// Records that go no further. Reasons are in the file of rejections.
    pub rejected: usize,
    /// Records whose answer was cut off at the most tokens, or where the context ended. What was complete of it was kept;
    /// the others' [`finish_reason`](crate::curate::Provenance::finish_reason) is not `length`. Texts and lists that are
    /// short enough prevent it: [`RequestOptions::with_whole_answers`](crate::curate::RequestOptions::with_whole_answers).
    pub cut_off: usize,
    /// Questions whose answer could not be used. Their records go on. Reasons are in the same file.
    pub unreadable_answers: usize,
    /// The engine's part; absent if there was no record to ask about.
    pub batch: Option<BatchReport>,
    /// The records with the models' answers, in the order of the input: one [`Record`](crate::curate::Record) a line.
    pub suggestions_path: PathBuf,
    /// Everything that was left out, one [`Rejection`] a line, in the order of the input.
    pub rejections_path: PathBuf,
}

impl fmt::Display for CurationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} records have suggestions, {} are rejected, {} answers could not be used",
            self.suggested, self.records, self.rejected, self.unreadable_answers
        )?;
        if self.cut_off > 0 { write!(f, ", {} were cut off", self.cut_off) } else { Ok(()) }
    }
}
