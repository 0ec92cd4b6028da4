//! What is in the input, and is it still the same when it is read again?
//!
//! A run reads its input twice: once to count, to find duplicates and to know every row's key, once to run it. Between
//! the two it holds tens of bytes a line, never a body.

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
use super::reader::LineReader;
use super::validate::Validator;

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
        let mut lines = self.lines(parser.max_line_bytes())?;
        let mut scan = Scan::default();
        while let Some(line) = lines.next_line().map_err(|source| self.unreadable(source))? {
            if cancellation.is_cancelled() && !contract.closes_rows() {
                return Ok(None);
            }
            let number = line.number;
            let parsed = parser.parse(&line);
            if let Some(parsed) = &parsed {
                self.check_line(parsed, number, contract, validator.as_mut())?;
            }
            scan.add(parsed);
        }
        let index = scan.finish(parser);
        if let Some(validator) = validator {
            validator.finish(&self.path, index.total, index.duplicate_lines())?;
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

    fn lines(&self, max_line_bytes: usize) -> Result<LineReader<BufReader<&File>>, RunError> {
        let mut file = &self.file;
        file.rewind().map_err(|source| self.unreadable(source))?;
        Ok(LineReader::new(BufReader::with_capacity(BUFFER_BYTES, file), max_line_bytes))
    }

    fn unreadable(&self, source: io::Error) -> RunError {
        RunError::InputUnreadable { path: self.path.clone(), source }
    }

    fn changed(&self, line: Option<u64>) -> RunError {
        RunError::InputChanged { path: self.path.clone(), line }
    }
}

/// What the first reading found.
#[derive(Debug)]
pub(super) struct Index {
    /// The key of each line; [`RowKey::NONE`] for a blank one.
    keys: Vec<RowKey>,
    /// Lines whose name an earlier line has: index of the line, index of the first line with the name.
    duplicates: HashMap<usize, usize>,
    /// Where names need not be unique: lines that are equal to earlier ones, and how many of these there are.
    repeats: HashMap<usize, usize>,
    /// Lines that are not blank.
    pub(super) total: usize,
}

impl Index {
    /// How many lines there are, blank ones included.
    pub(super) fn num_lines(&self) -> usize {
        self.keys.len()
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
}

impl Scan {
    fn add(&mut self, line: Option<ParsedLine>) {
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
        }
        for (line, nth) in &repeats {
            self.keys[*line] = parser.repeat_key(self.keys[*line], *nth);
        }
        let total = self.keys.iter().filter(|key| **key != RowKey::NONE).count();
        Index { keys: self.keys, duplicates, repeats, total }
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

/// The second reading: the lines that are not done, one at a time.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    input: &'a Input,
    lines: LineReader<BufReader<&'a File>>,
    parser: LineParser<'a>,
    index: &'a Index,
    /// By index of the line.
    done: Vec<bool>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(
        input: &'a Input,
        parser: LineParser<'a>,
        index: &'a Index,
        done: Vec<bool>,
    ) -> Result<Self, RunError> {
        Ok(Self { lines: input.lines(parser.max_line_bytes())?, input, parser, index, done })
    }

    /// The next line that is not done, with its number; `None` at the end of the input.
    pub(super) fn next_row(&mut self) -> Result<Option<(u64, ParsedLine)>, RunError> {
        while let Some(line) = self.lines.next_line().map_err(|source| self.input.unreadable(source))? {
            let number = line.number;
            let place = (number - 1) as usize;
            if self.done.get(place).copied().unwrap_or(false) {
                continue;
            }
            let parsed = as_duplicate(self.parser.parse(&line), number, &self.parser, self.index);
            let key = parsed.as_ref().map_or(RowKey::NONE, |parsed| parsed.key);
            if self.index.keys.get(place) != Some(&key) {
                return Err(self.input.changed(Some(number)));
            }
            if let Some(parsed) = parsed {
                return Ok(Some((number, parsed)));
            }
        }
        self.check_unchanged()?;
        Ok(None)
    }

    fn check_unchanged(&self) -> Result<(), RunError> {
        let stamp = Stamp::of(&self.input.file).map_err(|source| self.input.unreadable(source))?;
        if stamp == self.input.stamp { Ok(()) } else { Err(self.input.changed(None)) }
    }
}

/// The line as it is if an earlier one has its name, or is equal to it.
fn as_duplicate(parsed: Option<ParsedLine>, number: u64, parser: &LineParser<'_>, index: &Index) -> Option<ParsedLine> {
    let mut parsed = parsed?;
    if let Some(first) = index.duplicates.get(&((number - 1) as usize)) {
        let custom_id = parsed.custom_id.clone().unwrap_or_default();
        let first_line = *first as u64 + 1;
        parsed.key = parser.duplicate_key(parsed.key, number, first_line);
        parsed.result = Err(LineErrorKind::DuplicateCustomId { custom_id, first_line });
    }
    if let Some(nth) = index.repeats.get(&((number - 1) as usize)) {
        parsed.key = parser.repeat_key(parsed.key, *nth);
    }
    Some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineSpec;
    use std::io::Write;

    const LIMIT: usize = 1000;

    fn line(name: &str, prompt: &str) -> String {
        let body = format!(r#"{{"model":"m","prompt":"{prompt}"}}"#);
        format!(r#"{{"custom_id":"{name}","method":"POST","url":"/v1/completions","body":{body}}}"#)
    }

    fn read(input: &Input, index: &Index, spec: &EngineSpec) -> Result<Vec<(u64, String)>, RunError> {
        let done = vec![false; index.num_lines()];
        let mut rows = Rows::new(input, LineParser::new(spec, LIMIT, Contract::Lenient), index, done)?;
        let mut found = Vec::new();
        while let Some((number, row)) = rows.next_row()? {
            found.push((number, row.result.map_or_else(|error| error.to_string(), |row| row.custom_id)));
        }
        Ok(found)
    }

    #[test]
    fn duplicates_are_found_and_every_line_has_a_key_of_its_own() {
        let spec = EngineSpec::new("m", "r");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("in.jsonl");
        let lines =
            [line("a", "x"), String::new(), line("a", "x"), "oops".to_owned(), "oops".to_owned(), line("a", "x")];
        std::fs::write(&path, lines.join("\n")).expect("it is writable");
        let input = Input::open(&path).expect("it is readable");
        let index = input
            .index(&mut LineParser::new(&spec, LIMIT, Contract::Lenient), &CancellationToken::new())
            .expect("it is readable")
            .expect("nobody cancelled");
        assert_eq!((index.total, index.num_lines()), (5, 6));
        let by_key = index.by_key();
        let found: Vec<_> = index.keys.iter().map(|key| by_key.line(*key)).collect();
        assert_eq!(found, [Some(0), None, Some(2), Some(3), Some(4), Some(5)]);
        let duplicate = || "the custom_id `a` is a duplicate of that in line 1".to_owned();
        let oops = || "not parseable as JSON at column 1: expected value".to_owned();
        assert_eq!(
            read(&input, &index, &spec).expect("it is unchanged"),
            [(1, "a".to_owned()), (3, duplicate()), (4, oops()), (5, oops()), (6, duplicate())]
        );
    }

    #[test]
    fn a_change_between_the_readings_is_noticed() {
        let spec = EngineSpec::new("m", "r");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("in.jsonl");
        let before = format!("{}\n{}\n", line("a", "x"), line("b", "y"));
        let cases = [
            (format!("{}\n{}\n", line("a", "x"), line("b", "z")), Some(2)),
            (format!("{}\n\n{}\n", line("a", "x"), line("b", "y")), Some(2)),
            (format!("{before}{}\n", line("c", "z")), Some(3)),
            (format!("{}\n", line("a", "x")), None),
        ];
        for (after, expected) in cases {
            std::fs::write(&path, &before).expect("it is writable");
            let input = Input::open(&path).expect("it is readable");
            let index = input.index(&mut LineParser::new(&spec, LIMIT, Contract::Lenient), &CancellationToken::new());
            let index = index.expect("it is readable").expect("nobody cancelled");
            let mut file = File::create(&path).expect("it is writable");
            file.write_all(after.as_bytes()).expect("it is writable");
            match read(&input, &index, &spec) {
                Err(RunError::InputChanged { line, .. }) => assert_eq!(line, expected),
                other => panic!("expected a change in line {expected:?}, found {other:?}"),
            }
        }
    }
}
