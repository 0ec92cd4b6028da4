//! What do models learn from?
//!
//! [`Exporter`] makes rows of training data of records whose answers are settled, in the form that a trainer reads
//! ([`ExportFormat`]), row by row. [`Splits`] says which rows are for training and which for tests, [`Duplicates`] which records
//! say the same as another one, [`pick_examples`] which gold records stand in a prompt, and [`validate_dataset`] what a
//! trainer would make of a file.
//!
//! The questions that a model is trained on may be fewer than those of the schema: what people say about answers
//! (`review`) is left out, and so is what is private. [`Exporter::schema`] is the schema of what is left, by which the
//! trained model must be asked.

mod argilla;
mod card;
mod conflicts;
mod duplicates;
mod error;
mod examples;
mod exporter;
mod folder;
mod format;
mod options;
#[cfg(feature = "parquet")]
mod parquet;
mod provenance;
mod render;
mod sample;
mod side_files;
mod split;
#[cfg(test)]
mod tests;
mod training;
mod validate;

pub use conflicts::{Conflict, ConflictingAnswer};
pub use duplicates::{Duplicate, DuplicateOptions, Duplicates};
pub use error::{ExportError, SkipReason};
pub use examples::{ExampleOptions, PickedExample, pick_examples};
pub use exporter::{ExportReport, ExportRow, Exported, Exporter};
pub use folder::{DataFile, ExportedFolder, FolderOptions};
pub use format::ExportFormat;
pub use options::{AnnotatorNames, AnswerSource, ExportOptions};
pub use split::{InvalidSplits, Split, Splits};
pub use validate::{DatasetProblem, DatasetReport, Effect, validate_dataset};
