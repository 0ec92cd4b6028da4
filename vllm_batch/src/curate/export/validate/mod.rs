//! What would a reader make of a file?

mod chat;
mod records;
mod rules;
mod table;
#[cfg(test)]
pub(super) mod tests;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::ExportFormat;
use crate::curate::check::type_name;
use table::Columns;

/// What readers of a format would make of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DatasetReport {
    /// Rows, good or not.
    pub num_rows: usize,
    /// All that is wrong, by lines.
    pub problems: Vec<DatasetProblem>,
}

impl DatasetReport {
    /// Whether nothing is wrong.
    pub fn is_valid(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DatasetProblem {
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// JSON pointer of the value within its row.
    pub path: String,
    /// A stable word for it.
    pub code: &'static str,
    /// What the reader would do.
    pub effect: Effect,
    /// What is wrong, in words.
    pub message: String,
}

/// What a reader does about something that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Effect {
    /// It stops with an error.
    Refused,
    /// It leaves the row out, and goes on without a word or with a warning.
    Skipped,
    /// It cuts the row off.
    Truncated,
    /// It reads something else than what was meant, or trains on it.
    Misread,
}

/// Reads a file as the readers of a format would, and says everything that is wrong with it and what they would do: OpenAI's
/// fine-tuning, TRL with `datasets`, LLaMA-Factory (Alpaca and `ShareGPT`), Axolotl, distilabel, Argilla. For examples for
/// prompts: what this library writes.
///
/// # Errors
/// The file cannot be read.
///
/// # Example
/// ```
/// use vllm_batch::curate::export::{Effect, ExportFormat, validate_dataset};
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("train.jsonl");
/// std::fs::write(&path, "{\"instruction\": \"Rate it.\", \"input\": \"Lunch?\", \"output\": {\"clarity\": 4}}\n")?;
///
/// let report = validate_dataset(&path, ExportFormat::Alpaca)?;
/// let problem = &report.problems[0];
/// // LLaMA-Factory drops such rows with a warning.
/// assert_eq!((problem.line, problem.code, problem.effect), (1, "not_a_text", Effect::Skipped));
/// assert_eq!(problem.path, "/output");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn validate_dataset(path: impl AsRef<Path>, format: ExportFormat) -> io::Result<DatasetReport> {
    validate(BufReader::new(File::open(path)?), format)
}

pub(super) fn validate(mut file: impl BufRead, format: ExportFormat) -> io::Result<DatasetReport> {
    let mut checker = Checker::new(format);
    if format == ExportFormat::IclText {
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        records::check_text(&mut checker, &text);
        return Ok(checker.report);
    }
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line)? > 0 {
        checker.read_line(&line);
        line.clear();
    }
    checker.finish();
    Ok(checker.report)
}

/// Reads line by line.
struct Checker {
    format: ExportFormat,
    report: DatasetReport,
    line: usize,
    num_bytes: u64,
    ids: HashSet<String>,
    columns: Columns,
}

impl Checker {
    fn new(format: ExportFormat) -> Self {
        Self {
            format,
            report: DatasetReport::default(),
            line: 0,
            num_bytes: 0,
            ids: HashSet::new(),
            columns: Columns::default(),
        }
    }

    fn problem(&mut self, path: impl Into<String>, code: &'static str, effect: Effect, message: impl Into<String>) {
        let (path, message) = (path.into(), message.into());
        self.report.problems.push(DatasetProblem { line: self.line, path, code, effect, message });
    }

    fn read_line(&mut self, line: &[u8]) {
        self.line += 1;
        self.num_bytes += line.len() as u64;
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if self.line == 1 => {
                self.problem("", "byte_order_mark", Effect::Refused, "the file begins with a byte order mark");
                rest
            }
            _ => line,
        };
        if line.iter().all(u8::is_ascii_whitespace) {
            // `datasets` and servers differ: some skip them, some count them as rows that are no JSON.
            return self.problem("", "blank_line", Effect::Refused, "the line is empty");
        }
        self.report.num_rows += 1;
        match serde_json::from_slice::<Value>(line) {
            Ok(Value::Object(row)) => self.check_row(&row),
            Ok(other) => {
                let message = format!("the line is {}, not an object", type_name(&other));
                self.problem("", "not_an_object", Effect::Refused, message);
            }
            Err(error) => self.problem("", "invalid_json", Effect::Refused, error.to_string()),
        }
    }

    fn check_row(&mut self, row: &Map<String, Value>) {
        if let Some(Value::String(id)) = row.get("id")
            && !self.ids.insert(id.clone())
        {
            // Argilla takes the later one for a new version of the earlier one.
            self.problem("/id", "duplicate_id", Effect::Misread, format!("an earlier row is called {id:?} too"));
        }
        if self.format.is_table() {
            for problem in self.columns.add(row) {
                self.problem(problem.path, problem.code, problem.effect, problem.message);
            }
        }
        rules::check_row(self, row);
    }

    fn finish(&mut self) {
        self.line = 0;
        if self.report.num_rows == 0 {
            return self.problem("", "no_rows", Effect::Refused, "there are no rows");
        }
        rules::check_file(self);
    }
}
