//! Records in, rows out.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::sample::{Sample, Sampler};
use super::training::Training;
use super::{Conflict, ExportError, ExportFormat, ExportOptions, SkipReason, Split, argilla, render};
use crate::curate::{CompiledSchema, GoldDecision, Ident, Record, TaskSchema};

/// Makes rows of training data of records. Nothing is kept of a record but a hash of its rows' names, so that no two rows
/// have the same name.
///
/// What goes in: the fields of the schema's `export.inputs` (else those in the prompt), masked or left out as their
/// [`Pii`](crate::curate::Pii) says. What is learnt: the answers to `export.outputs` (else to all questions with the role
/// `output`), as the line of JSON that [`CompiledSchema::answer_text`] writes. Questions that are private, and those about
/// parts of fields that do not go in as they are, are left out.
///
/// # Example
/// ```
/// use vllm_batch::curate::export::{ExportFormat, ExportOptions, Exporter};
/// use vllm_batch::curate::{
///     Answer, Answers, Field, FieldKind, Question, QuestionKind, Record, Response, TaskSchema, TextFormat, Version,
/// };
///
/// let spam = QuestionKind::Boolean { yes: "yes".into(), no: "no".into() };
/// let schema = TaskSchema::new("mail".parse()?, Version::new(1, 0, 0))
///     .with_field(Field::new("subject".parse()?, FieldKind::Text { format: TextFormat::Plain }))
///     .with_question(Question::new("spam".parse()?, spam));
/// let schema = schema.compile()?;
///
/// let mut record = Record::new("mail-1").with_field("subject", "You won!");
/// record.responses.push(Response::submitted("ann", Answers::from_iter([("spam".parse()?, Answer::Boolean(true))])));
/// record.gold = Some(true);
///
/// let mut file = Vec::new();
/// let mut exporter = Exporter::new(&schema, ExportOptions::new(ExportFormat::Alpaca))?;
/// let report = exporter.write(&[record], &mut file)?;
/// assert_eq!(report.num_rows, 1);
/// let row: serde_json::Value = serde_json::from_slice(&file)?;
/// assert_eq!((&row["input"], &row["output"]), (&"subject: You won!".into(), &r#"{"spam":true}"#.into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Exporter<'s> {
    sampler: Sampler<'s>,
    names: HashSet<[u8; 16]>,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Exported {
    /// Its rows: one, or in formats that have them one for each answer of a model.
    Rows(Vec<ExportRow>),
    /// Why there are none.
    Skipped(SkipReason),
}

/// A row.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ExportRow {
    /// Its name: that of its record; in formats with several rows of a record, with `#` and a number from 1.
    pub id: String,
    /// What goes into the file.
    pub row: Map<String, Value>,
    /// Where it comes from, as flat columns that have the same type in each row. They are part of [`row`](Self::row) too,
    /// unless the format has no room for them.
    pub source: Map<String, Value>,
    /// What a model reads about the record.
    pub(super) text: String,
}

impl ExportRow {
    /// The row as it stands in the file, with its line end.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, format: ExportFormat, mut file: impl Write) -> std::io::Result<()> {
        if format == ExportFormat::IclText {
            return file.write_all(self.row["text"].as_str().unwrap_or_default().as_bytes());
        }
        serde_json::to_writer(&mut file, &self.row)?;
        file.write_all(b"\n")
    }
}

/// What became of all records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExportReport {
    /// Rows that were written.
    pub num_rows: usize,
    /// Records that gave rows.
    pub num_records: usize,
    /// Records that gave none, by the [code](SkipReason::code) of the reason.
    pub skipped: BTreeMap<&'static str, usize>,
    /// Questions that are learnt and that people answered differently, each with the number of records; those without rows
    /// count, too.
    pub conflicts: BTreeMap<Ident, usize>,
}

impl ExportReport {
    /// Counts what people said differently.
    pub fn count_conflicts(&mut self, conflicts: &[Conflict]) {
        for conflict in conflicts {
            *self.conflicts.entry(conflict.question.clone()).or_default() += 1;
        }
    }

    /// Counts what became of a record.
    pub fn count(&mut self, exported: &Exported) {
        match exported {
            Exported::Rows(rows) => {
                self.num_records += 1;
                self.num_rows += rows.len();
            }
            Exported::Skipped(reason) => *self.skipped.entry(reason.code()).or_default() += 1,
        }
    }
}

impl<'s> Exporter<'s> {
    /// Makes what all rows have in common.
    ///
    /// # Errors
    /// Nothing is left to learn; a listed output is private; the format cannot have examples.
    pub fn new(schema: &'s CompiledSchema, options: ExportOptions) -> Result<Self, ExportError> {
        Ok(Self { sampler: Sampler::new(schema, options)?, names: HashSet::new() })
    }

    /// The schema of what is learnt: by it the trained model must be asked, and its answers read.
    pub fn schema(&self) -> &CompiledSchema {
        &self.sampler.training.compiled
    }

    /// The options.
    pub fn options(&self) -> &ExportOptions {
        &self.sampler.options
    }

    /// The schema that was given.
    pub(crate) fn full_schema(&self) -> &TaskSchema {
        self.sampler.schema.schema()
    }

    pub(super) fn full_sha256(&self) -> &str {
        self.sampler.schema.sha256()
    }

    /// What counts as right, by the schema that was given.
    pub(super) fn decide_gold(&self, record: &Record) -> GoldDecision {
        self.sampler.schema.decide_gold(record)
    }

    pub(super) fn training(&self) -> &Training {
        &self.sampler.training
    }

    /// The rows of a record.
    ///
    /// # Errors
    /// A row of this name was made before; an example is of the record itself or of its group; a template fails.
    pub fn rows(&mut self, record: &Record) -> Result<Exported, ExportError> {
        self.rows_for(record, self.sampler.options.split)
    }

    /// The rows of a record that is in this split.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub fn rows_for(&mut self, record: &Record, split: Split) -> Result<Exported, ExportError> {
        let samples = match self.sampler.samples(record, split)? {
            Ok(samples) => samples,
            Err(reason) => return Ok(Exported::Skipped(reason)),
        };
        let mut rows = Vec::new();
        for sample in samples {
            let name: [u8; 16] = std::array::from_fn({
                let hash = Sha256::digest(&sample.source.id);
                move |at| hash[at]
            });
            if !self.names.insert(name) {
                return Err(ExportError::DuplicateId { id: sample.source.id });
            }
            rows.push(self.row(record, &sample));
        }
        Ok(Exported::Rows(rows))
    }

    fn row(&self, record: &Record, sample: &Sample) -> ExportRow {
        let format = self.sampler.options.format;
        let source = sample.source.columns();
        let row = match format {
            ExportFormat::Argilla => argilla::record(&self.sampler, record, sample),
            _ => render::body(format, sample),
        };
        let mut whole = row;
        if !format.is_strict() && format != ExportFormat::Argilla {
            for (name, value) in &source {
                whole.entry(name).or_insert_with(|| value.clone());
            }
        }
        let text = sample.prompt.last().map_or_else(String::new, |message| message.content.clone());
        ExportRow { id: sample.source.id.clone(), row: whole, source, text }
    }

    /// Writes the rows of records one by one.
    ///
    /// # Errors
    /// As [`rows`](Self::rows), or the writer fails. What was written until then stays.
    pub fn write<'r>(
        &mut self,
        records: impl IntoIterator<Item = &'r Record>,
        mut file: impl Write,
    ) -> Result<ExportReport, ExportError> {
        let mut report = ExportReport::default();
        for record in records {
            let exported = self.rows(record)?;
            report.count(&exported);
            report.count_conflicts(&self.conflicts(record));
            let Exported::Rows(rows) = exported else { continue };
            for row in rows {
                let written = row.write(self.sampler.options.format, &mut file);
                written.map_err(|source| ExportError::Io { path: PathBuf::new(), source })?;
            }
        }
        Ok(report)
    }
}
