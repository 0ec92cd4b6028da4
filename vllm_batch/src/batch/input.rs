//! What is in the input, and is it still the same when it is read again?
//!
//! A run reads its input twice: once to count, to find duplicates, to know every row's key and to plan, once to run it.
//! Between the two it holds tens of bytes a line, never a body.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::CancellationToken;
use super::contract::Contract;
use super::error::{LineErrorKind, RunError};
use super::key::RowKey;
use super::line::{LineParser, ParsedLine};
use super::plan::{Draft, Facts, Plan, PlanOptions};
use super::reader::LineReader;
use super::validate::{Common, Validator};

const BUFFER_BYTES: usize = 1 << 18;

/// The input file, open.
#[derive(Debug)]
pub(super) struct Input {
    path: PathBuf,
    file: File,
    stamp: Stamp,
}

/// Tells one content of a file from another, most of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { length: metadata.len(), modified: metadata.modified().ok() })
    }
}

impl Input {
    pub(super) fn open(path: &Path) -> Result<Self, RunError> {
        let open = || {
            let file = File::open(path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is not a regular file, and it has to be read twice"));
            }
            let stamp = Stamp::of(&file)?;
            Ok(Self { path: path.to_owned(), file, stamp })
        };
        open().map_err(|source| RunError::InputUnreadable { path: path.to_owned(), source })
    }

    /// Reads the whole input once, and refuses what the contract does not allow. `None` if it was cancelled meanwhile;
    /// where all rows must be told of a cancellation, the reading goes on to find them.
    pub(super) fn index(
        &self,
        parser: &mut LineParser<'_>,
        cancellation: &CancellationToken,
    ) -> Result<Option<Index>, RunError> {
        let contract = parser.contract();
        let mut validator = contract.limits().map(Validator::new);
        if let Some(validator) = &validator {
            validator.check_size(&self.path, self.stamp.length)?;
        }
        let mut lines = self.lines(parser.max_line_bytes(), BUFFER_BYTES)?;
        let mut scan = Scan::default();
        while let Some(line) = lines.next_line().map_err(|source| self.unreadable(source))? {
            if cancellation.is_cancelled() && !contract.closes_rows() {
                return Ok(None);
            }
            let (number, offset) = (line.number, line.span.start);
            let parsed = parser.parse(&line);
            if let Some(parsed) = &parsed {
                self.check_line(parsed, number, contract, validator.as_mut())?;
            }
            scan.add(offset, parsed);
        }
        let mut index = scan.finish(parser);
        if let Some(validator) = validator {
            index.common = validator.finish(&self.path, index.total, index.duplicate_lines())?;
        }
        if index.total == 0 && !contract.allows_empty() {
            return Err(RunError::EmptyInput { path: self.path.clone() });
        }
        Ok(Some(index))
    }

    fn check_line(
        &self,
        line: &ParsedLine,
        number: u64,
        contract: Contract,
        validator: Option<&mut Validator>,
    ) -> Result<(), RunError> {
        if let Some(validator) = validator {
            validator.check(number, line);
        }
        match &line.result {
            Err(error) if contract.is_fatal(error) => {
                Err(RunError::InvalidLine { path: self.path.clone(), error: error.clone().at(number) })
            }
            _ => Ok(()),
        }
    }

    /// Reads lines, at first from the beginning. Only one such reader is used at a time.
    pub(super) fn lines(
        &self,
        max_line_bytes: usize,
        buffer_bytes: usize,
    ) -> Result<LineReader<BufReader<&File>>, RunError> {
        let mut file = &self.file;
        file.rewind().map_err(|source| self.unreadable(source))?;
        Ok(LineReader::new(BufReader::with_capacity(buffer_bytes, file), max_line_bytes))
    }

    /// The length of the file, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.stamp.length
    }

    pub(super) fn unreadable(&self, source: io::Error) -> RunError {
        RunError::InputUnreadable { path: self.path.clone(), source }
    }

    /// Checks that the file is as it was when it was opened, as far as length and time tell.
    pub(super) fn check_unchanged(&self) -> Result<(), RunError> {
        let stamp = Stamp::of(&self.file).map_err(|source| self.unreadable(source))?;
        if stamp == self.stamp { Ok(()) } else { Err(self.changed(None)) }
    }

    pub(super) fn changed(&self, line: Option<u64>) -> RunError {
        RunError::InputChanged { path: self.path.clone(), line }
    }
}

/// What the first reading found.
#[derive(Debug)]
pub(super) struct Index {
    /// The key of each line; [`RowKey::NONE`] for a blank one.
    keys: Vec<RowKey>,
    /// Where each line begins.
    offsets: Vec<u64>,
    /// Lines whose name an earlier line has: index of the line, index of the first line with the name.
    duplicates: HashMap<usize, usize>,
    /// Where names need not be unique: lines that are equal to earlier ones, and how many of these there are.
    repeats: HashMap<usize, usize>,
    /// What the plan is made of.
    draft: Draft,
    /// Lines that are not blank.
    pub(super) total: usize,
    /// What the requests have in common; known where the contract validates the file as a whole.
    pub(super) common: Option<Common>,
}

impl Index {
    /// How many lines there are, blank ones included.
    pub(super) fn num_lines(&self) -> usize {
        self.keys.len()
    }

    /// Makes the plan, once, of the lines that are neither blank nor done.
    pub(super) fn take_plan(&mut self, options: PlanOptions, done: &[bool]) -> Plan {
        let draft = std::mem::take(&mut self.draft);
        draft.plan(options, |line| self.keys[line] != RowKey::NONE && !done[line])
    }

    /// The key of a line, by its index; [`RowKey::NONE`] for a blank one.
    pub(super) fn key(&self, line: usize) -> RowKey {
        self.keys[line]
    }

    /// Where a line begins, by its index.
    pub(super) fn offset(&self, line: usize) -> u64 {
        self.offsets[line]
    }

    /// The line as it is if an earlier one has its name, or is equal to it.
    pub(super) fn as_duplicate(&self, mut parsed: ParsedLine, line: usize, parser: &LineParser<'_>) -> ParsedLine {
        if let Some(first) = self.duplicates.get(&line) {
            let custom_id = parsed.custom_id.clone().unwrap_or_default();
            let first_line = *first as u64 + 1;
            parsed.key = parser.duplicate_key(parsed.key, line as u64 + 1, first_line);
            parsed.result = Err(LineErrorKind::DuplicateCustomId { custom_id, first_line });
        }
        if let Some(nth) = self.repeats.get(&line) {
            parsed.key = parser.repeat_key(parsed.key, *nth);
        }
        parsed
    }

    /// Number of each line whose name an earlier line has, and of that line.
    fn duplicate_lines(&self) -> impl Iterator<Item = (u64, u64)> {
        self.duplicates.iter().map(|(line, first)| (*line as u64 + 1, *first as u64 + 1))
    }

    /// Lets lines be found by their key.
    pub(super) fn by_key(&self) -> ByKey<'_> {
        let mut order: Vec<_> = (0..self.keys.len()).filter(|line| self.keys[*line] != RowKey::NONE).collect();
        order.sort_unstable_by_key(|line| self.keys[*line]);
        ByKey { keys: &self.keys, order }
    }
}

/// The lines of an index in the order of their keys.
#[derive(Debug)]
pub(super) struct ByKey<'a> {
    keys: &'a [RowKey],
    order: Vec<usize>,
}

impl ByKey<'_> {
    /// The index of the line with this key.
    pub(super) fn line(&self, key: RowKey) -> Option<usize> {
        let place = self.order.binary_search_by_key(&key, |line| self.keys[*line]).ok()?;
        Some(self.order[place])
    }
}

/// The first reading, on its way.
#[derive(Debug, Default)]
struct Scan {
    keys: Vec<RowKey>,
    names: Vec<RowKey>,
    offsets: Vec<u64>,
    draft: Draft,
}

impl Scan {
    fn add(&mut self, offset: u64, line: Option<ParsedLine>) {
        self.offsets.push(offset);
        self.draft.push(line.as_ref().map_or_else(Facts::default, Facts::of));
        let name = line.as_ref().and_then(|line| line.custom_id.as_deref());
        self.names.push(name.map_or(RowKey::NONE, RowKey::of_name));
        self.keys.push(line.map_or(RowKey::NONE, |line| line.key));
    }

    fn finish(mut self, parser: &LineParser<'_>) -> Index {
        let (mut duplicates, mut repeats) = (HashMap::new(), HashMap::new());
        if parser.contract().allows_duplicates() {
            repeats = groups(&self.keys, |_, nth| nth);
        } else {
            duplicates = groups(&self.names, |first, _| first);
        }
        for (line, first) in &duplicates {
            self.keys[*line] = parser.duplicate_key(self.keys[*line], *line as u64 + 1, *first as u64 + 1);
            self.draft.set_unlike(*line);
        }
        for (line, nth) in &repeats {
            self.keys[*line] = parser.repeat_key(self.keys[*line], *nth);
        }
        let total = self.keys.iter().filter(|key| **key != RowKey::NONE).count();
        Index { keys: self.keys, offsets: self.offsets, duplicates, repeats, draft: self.draft, total, common: None }
    }
}

/// For each line that is not the first with its name, what `value` makes of the first line and of how many lines with the
/// name are before it. Sorting takes less memory than a set.
fn groups(names: &[RowKey], value: impl Fn(usize, usize) -> usize) -> HashMap<usize, usize> {
    let mut order: Vec<_> = (0..names.len()).filter(|line| names[*line] != RowKey::NONE).collect();
    order.sort_unstable_by_key(|line| (names[*line], *line));
    let groups = order.chunk_by(|left, right| names[*left] == names[*right]);
    let mut found = HashMap::new();
    for group in groups {
        found.extend(group.iter().enumerate().skip(1).map(|(nth, line)| (*line, value(group[0], nth))));
    }
    found
}
