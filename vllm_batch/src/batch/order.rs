//! How do rows come into the order of their requests?
//!
//! A run writes rows as they end. Here they are put into the order of the input, and requests that have no row get one that says
//! why. Rows are found by their names, so the input has to be valid, or to have no rows at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::contract::Shape;
use super::error::RunError;
use super::files::write_error;
use super::key::{Keyer, RowKey};
use super::reader::{Content, LineReader};
use super::recover::MAX_ROW_BYTES;
use super::row::BatchRequestOutput;
use super::runner::MAX_LINE_BYTES;
use super::shape::{CANCELLED, EXPIRED, FAILED, is_retryable};
use crate::output::Usage;

/// Why requests have no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// The batch was cancelled.
    Cancelled,
    /// Its completion window was over.
    Expired,
    /// It failed.
    Failed,
}

impl Unfinished {
    fn reason(self) -> (&'static str, &'static str) {
        match self {
            Self::Cancelled => CANCELLED,
            Self::Expired => EXPIRED,
            Self::Failed => FAILED,
        }
    }
}

/// Where rows and requests are, and what is to be said of requests without a row.
#[derive(Debug)]
pub(crate) struct RowOrder<'a> {
    /// The requests.
    pub(crate) input: &'a Path,
    /// The number of the input's first line in the file that it was cut from.
    pub(crate) first_line: u64,
    /// Files of rows; those that do not exist count as empty.
    pub(crate) rows: &'a [PathBuf],
    /// Why some requests may have no row.
    pub(crate) unfinished: Unfinished,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OrderedRows {
    /// Answers.
    pub(crate) completed: u64,
    /// Errors, those of requests without a row included.
    pub(crate) failed: u64,
    /// Those of `failed` that had no row.
    pub(crate) missing: u64,
    /// Those of `failed` that had a row, and may end differently another time.
    pub(crate) retryable: u64,
    /// Tokens of the answers.
    pub(crate) usage: Usage,
}

impl RowOrder<'_> {
    /// Writes a row for each request, in the order of the requests: answers to one new file, errors to the other.
    ///
    /// # Errors
    /// [`RunError`] if one of the files cannot be read or written.
    pub(crate) fn write(&self, answers: &Path, errors: &Path) -> Result<OrderedRows, RunError> {
        let mut rows = RowFiles::open(self.rows)?;
        let mut targets = Targets { answers: Target::create(answers)?, errors: Target::create(errors)? };
        let keyer = Keyer::new("");
        let mut found = OrderedRows::default();
        let unreadable = |source| RunError::InputUnreadable { path: self.input.to_owned(), source };
        let input = File::open(self.input).map_err(unreadable)?;
        let mut lines = LineReader::new(BufReader::new(input), MAX_LINE_BYTES);
        while let Some(line) = lines.next_line().map_err(unreadable)? {
            let bytes = match line.content {
                Content::Bytes(bytes) if bytes.trim_ascii().is_empty() => continue,
                Content::Bytes(bytes) => bytes,
                Content::TooLong { .. } => &[],
            };
            let name = name_of(bytes);
            if let Some(row) = name.as_deref().and_then(|name| rows.take(name)) {
                found.count(&row);
                let bytes = rows.read(&row)?;
                targets.write(row.is_success, bytes)?;
            } else {
                found.failed += 1;
                found.missing += 1;
                let key = keyer.raw_line(self.first_line + line.number - 1, bytes);
                let row = BatchRequestOutput::closed(key, name, self.unfinished.reason());
                targets.write(false, &serde_json::to_vec(&row).expect("rows can be written to memory"))?;
            }
        }
        targets.answers.finish()?;
        targets.errors.finish()?;
        Ok(found)
    }
}

impl OrderedRows {
    fn count(&mut self, row: &Place) {
        self.completed += u64::from(row.is_success);
        self.failed += u64::from(!row.is_success);
        self.retryable += u64::from(row.is_retryable);
        self.usage += row.usage;
    }
}

/// The name of a request, as far as the line has one.
pub(crate) fn name_of(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        custom_id: String,
    }
    serde_json::from_slice::<Named>(line).ok().map(|line| line.custom_id)
}

/// Where a row is, and what is known of it.
#[derive(Debug, Clone, Copy)]
struct Place {
    file: usize,
    start: u64,
    /// Without its line end.
    length: usize,
    is_success: bool,
    is_retryable: bool,
    usage: Usage,
}

/// Files of rows, by the names of the rows.
#[derive(Debug)]
struct RowFiles<'a> {
    files: Vec<(&'a Path, Option<File>)>,
    places: BTreeMap<RowKey, Place>,
    row: Vec<u8>,
}

impl<'a> RowFiles<'a> {
    fn open(paths: &'a [PathBuf]) -> Result<Self, RunError> {
        let mut found = Self { files: Vec::new(), places: BTreeMap::new(), row: Vec::new() };
        for path in paths {
            let file = found.survey(path).map_err(|source| unusable(path, source))?;
            found.files.push((path, file));
        }
        Ok(found)
    }

    /// Notes the rows of a file. Of rows with the same name the first one counts.
    fn survey(&mut self, path: &Path) -> io::Result<Option<File>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut lines = LineReader::new(BufReader::new(&file), MAX_ROW_BYTES);
        while let Some(line) = lines.next_line()? {
            let Content::Bytes(bytes) = line.content else { continue };
            let Ok(row) = serde_json::from_slice::<FoundRow>(bytes) else { continue };
            let place = row.at(self.files.len(), line.span.start, bytes.len());
            self.places.entry(RowKey::of_name(&row.custom_id)).or_insert(place);
        }
        Ok(Some(file))
    }

    /// The row of this name, the first time that it is asked for.
    fn take(&mut self, name: &str) -> Option<Place> {
        self.places.remove(&RowKey::of_name(name))
    }

    fn read(&mut self, place: &Place) -> Result<&[u8], RunError> {
        let (path, file) = &mut self.files[place.file];
        let mut read = || -> io::Result<()> {
            let file = file.as_mut().ok_or(io::ErrorKind::NotFound)?;
            file.seek(SeekFrom::Start(place.start))?;
            self.row.resize(place.length, 0);
            file.read_exact(&mut self.row)
        };
        read().map_err(|source| unusable(path, source))?;
        Ok(&self.row)
    }
}

fn unusable(path: &Path, source: io::Error) -> RunError {
    RunError::OutputUnusable { path: path.to_owned(), source }
}

/// As much of a row as is needed.
#[derive(Debug, Deserialize)]
struct FoundRow {
    custom_id: String,
    #[serde(default)]
    response: Option<FoundResponse>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct FoundResponse {
    status_code: u16,
    body: FoundBody,
}

#[derive(Debug, Deserialize)]
struct FoundBody {
    #[serde(default)]
    usage: FoundUsage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FoundUsage {
    prompt_tokens: usize,
    completion_tokens: usize,
    prompt_tokens_details: Option<FoundDetails>,
}

#[derive(Debug, Deserialize)]
struct FoundDetails {
    cached_tokens: usize,
}

impl FoundRow {
    fn at(&self, file: usize, start: u64, length: usize) -> Place {
        let answer = self.response.as_ref().filter(|response| response.status_code == 200 && self.error.is_none());
        Place {
            file,
            start,
            length,
            is_success: answer.is_some(),
            is_retryable: self.error.as_ref().is_some_and(|error| is_retryable(Shape::OpenAi, error)),
            usage: answer.map_or_else(Usage::default, |response| response.body.usage.total()),
        }
    }
}

impl FoundUsage {
    fn total(&self) -> Usage {
        let cached = self.prompt_tokens_details.as_ref().map_or(0, |details| details.cached_tokens);
        Usage::new(self.prompt_tokens, self.completion_tokens, cached)
    }
}

/// The files that are written.
struct Targets<'a> {
    answers: Target<'a>,
    errors: Target<'a>,
}

impl Targets<'_> {
    fn write(&mut self, is_success: bool, row: &[u8]) -> Result<(), RunError> {
        if is_success { self.answers.write(row) } else { self.errors.write(row) }
    }
}

struct Target<'a> {
    path: &'a Path,
    file: BufWriter<File>,
}

impl<'a> Target<'a> {
    fn create(path: &'a Path) -> Result<Self, RunError> {
        let file = File::create(path).map_err(|source| write_error(path, source))?;
        Ok(Self { path, file: BufWriter::new(file) })
    }

    fn write(&mut self, row: &[u8]) -> Result<(), RunError> {
        let written = self.file.write_all(row).and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|source| write_error(self.path, source))
    }

    fn finish(mut self) -> Result<(), RunError> {
        self.file.flush().map_err(|source| write_error(self.path, source))
    }
}
