//! Which rows of an earlier run still hold?
//!
//! The output file is the journal. A row stays if its id belongs to the input as it is now and no row before it has the
//! same id. All other rows move to the file of stale rows: nothing is destroyed but the half of a row that a crash cut
//! off.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::contract::Shape;
use super::error::RunError;
use super::files::{Files, rewrite_path, sync_folder, write_error};
use super::input::{ByKey, Index};
use super::key::RowKey;
use super::reader::{Content, LineReader, RawLine};
use super::shape::is_retryable;

/// Longer rows are never written: an answer is as long as the context at most.
pub(super) const MAX_ROW_BYTES: usize = 1 << 30;

/// What an earlier run left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recovered {
    /// For each line of the input, whether it has its row.
    pub(super) done: Vec<bool>,
    /// Rows that hold.
    pub(super) kept: usize,
    /// Those of `kept` that are errors.
    pub(super) kept_errors: usize,
    /// Rows that were moved to the file of stale rows.
    pub(super) moved: usize,
}

/// Repairs the output and the error file and finds out what is done. Files that do not exist count as empty.
pub(super) fn recover(files: &Files, index: &Index, shape: Shape) -> Result<Recovered, RunError> {
    let rows = KnownRows { by_key: index.by_key(), shape };
    let mut found = Recovered { done: vec![false; index.num_lines()], ..Recovered::default() };
    for path in files.results() {
        if !path.exists() {
            continue;
        }
        let unusable = |source| RunError::OutputUnusable { path: path.clone(), source };
        let survey = Survey::take(path, &rows, &mut found).map_err(unusable)?;
        repair_end(path, &survey).map_err(|source| write_error(path, source))?;
        if !survey.stale.is_empty() {
            move_aside(path, &survey.stale, &files.stale)?;
        }
    }
    if found.kept + found.moved > 0 {
        tracing::info!(kept = found.kept, moved = found.moved, output = %files.output.display(), "resuming");
    }
    Ok(found)
}

/// What is to be done with a file of rows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Survey {
    /// Rows to move, neighbours joined.
    stale: Vec<Range<u64>>,
    /// The last row was cut off here.
    torn_at: Option<u64>,
    /// The last row is whole, but its line end is missing.
    lacks_line_end: bool,
}

/// What becomes of one row.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Keep,
    Move,
    Cut,
}

impl Survey {
    fn take(path: &Path, rows: &KnownRows<'_>, found: &mut Recovered) -> io::Result<Self> {
        let mut lines = LineReader::new(BufReader::new(File::open(path)?), MAX_ROW_BYTES);
        let mut survey = Self::default();
        while let Some(line) = lines.next_line()? {
            match rows.fate(&line, found) {
                Fate::Keep => survey.lacks_line_end = !line.terminated,
                Fate::Cut => survey.torn_at = Some(line.span.start),
                Fate::Move => survey.mark_stale(line.span),
            }
        }
        Ok(survey)
    }

    fn mark_stale(&mut self, span: Range<u64>) {
        match self.stale.last_mut() {
            Some(last) if last.end == span.start => last.end = span.end,
            _ => self.stale.push(span),
        }
    }
}

/// What rows are there to be.
#[derive(Debug)]
struct KnownRows<'a> {
    by_key: ByKey<'a>,
    shape: Shape,
}

impl KnownRows<'_> {
    /// Decides on a row and, if it stays, notes that its line is done.
    fn fate(&self, line: &RawLine<'_>, found: &mut Recovered) -> Fate {
        let bytes = match line.content {
            Content::Bytes(bytes) => bytes,
            Content::TooLong { .. } => &[],
        };
        let row = serde_json::from_slice::<KnownRow>(bytes).ok();
        if row.is_none() && !line.terminated && self.starts_row(bytes) {
            return Fate::Cut;
        }
        let row = row.filter(|row| !row.is_retryable(self.shape));
        let place = row.as_ref().and_then(|row| self.by_key.line(row.key(self.shape)?));
        match (row, place) {
            (Some(row), Some(place)) if !found.done[place] => {
                found.done[place] = true;
                found.kept += 1;
                found.kept_errors += usize::from(row.is_error());
                Fate::Keep
            }
            _ => {
                found.moved += 1;
                Fate::Move
            }
        }
    }

    /// Whether this is the beginning of a row as this crate writes it.
    fn starts_row(&self, bytes: &[u8]) -> bool {
        let start = format!(r#"{{"id":"{}"#, self.shape.id_prefix());
        bytes.starts_with(start.as_bytes()) || start.as_bytes().starts_with(bytes)
    }
}

/// As much of a row as is needed to know whether it holds.
#[derive(Debug, Deserialize)]
struct KnownRow {
    id: String,
    #[serde(default)]
    response: Option<KnownResponse>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct KnownResponse {
    status_code: u16,
}

impl KnownRow {
    fn key(&self, shape: Shape) -> Option<RowKey> {
        RowKey::from_row_id(&self.id, shape)
    }

    fn is_retryable(&self, shape: Shape) -> bool {
        self.error.as_ref().is_some_and(|error| is_retryable(shape, error))
    }

    fn is_error(&self) -> bool {
        self.response.as_ref().is_none_or(|response| response.status_code != 200)
    }
}

/// Makes the file end with a whole line.
fn repair_end(path: &Path, survey: &Survey) -> io::Result<()> {
    if survey.torn_at.is_none() && !survey.lacks_line_end {
        return Ok(());
    }
    let mut file = OpenOptions::new().append(true).open(path)?;
    if let Some(length) = survey.torn_at {
        file.set_len(length)?;
    }
    if survey.lacks_line_end {
        file.write_all(b"\n")?;
    }
    file.sync_all()
}

/// Moves rows to the end of the file of stale rows. They are safe there before they leave `path`, and `path` is replaced
/// as a whole: a crash in between can only leave them in both.
fn move_aside(path: &Path, rows: &[Range<u64>], stale: &Path) -> Result<(), RunError> {
    append_rows(path, rows, stale).map_err(|source| write_error(stale, source))?;
    let rewritten = rewrite_path(path);
    let result = write_others(path, rows, &rewritten).and_then(|()| {
        fs::rename(&rewritten, path)?;
        sync_folder(path)
    });
    result.map_err(|source| {
        // Half a copy is of no use, and takes room where there may be none.
        let _ = fs::remove_file(&rewritten);
        write_error(path, source)
    })
}

fn append_rows(path: &Path, rows: &[Range<u64>], stale: &Path) -> io::Result<()> {
    let mut source = File::open(path)?;
    let mut target = OpenOptions::new().create(true).read(true).append(true).open(stale)?;
    for row in rows {
        end_line(&mut target)?;
        copy_range(&mut source, row.clone(), &mut target)?;
    }
    end_line(&mut target)?;
    target.sync_all()?;
    sync_folder(stale)
}

/// Adds a line feed if the file has content and does not end with one.
pub(crate) fn end_line(file: &mut File) -> io::Result<()> {
    let length = file.seek(SeekFrom::End(0))?;
    if length == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

fn write_others(path: &Path, rows: &[Range<u64>], rewritten: &Path) -> io::Result<()> {
    let mut source = File::open(path)?;
    let metadata = source.metadata()?;
    let mut target = File::create(rewritten)?;
    let mut start = 0;
    for row in rows {
        copy_range(&mut source, start..row.start, &mut target)?;
        start = row.end;
    }
    copy_range(&mut source, start..metadata.len(), &mut target)?;
    target.set_permissions(metadata.permissions())?;
    target.sync_all()
}

fn copy_range(source: &mut File, range: Range<u64>, target: &mut File) -> io::Result<()> {
    source.seek(SeekFrom::Start(range.start))?;
    io::copy(&mut source.take(range.end - range.start), target).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::row::BatchRequestOutput;
    use crate::batch::shape::{CANCELLED, EXPIRED, FAILED, RETRYABLE, VllmRow};
    use crate::error::RequestError;

    #[test]
    fn what_is_tried_again_are_the_retryable_request_errors() {
        let remote = RequestError::Remote { status: None, code: String::new(), message: String::new() };
        let errors = [RequestError::Aborted, remote, RequestError::EngineFailed { message: String::new() }];
        assert!(errors.iter().all(RequestError::is_retryable));
        let codes = errors.iter().map(RequestError::code).chain([EXPIRED.0, CANCELLED.0, FAILED.0]);
        assert_eq!(codes.collect::<Vec<_>>(), RETRYABLE);
        for error in errors {
            let row = BatchRequestOutput::refused(RowKey::NONE, None, &error);
            for (shape, row) in
                [(Shape::OpenAi, serde_json::to_value(&row)), (Shape::Vllm, serde_json::to_value(VllmRow::of(&row)))]
            {
                assert!(is_retryable(shape, &row.expect("rows can be written")["error"]), "{error}");
            }
        }
    }

    #[test]
    fn neighbours_are_joined() {
        let mut survey = Survey::default();
        for span in [0..3, 3..5, 8..9, 9..12] {
            survey.mark_stale(span);
        }
        assert_eq!(survey.stale, [0..5, 8..12]);
    }
}
