//! The second reading of the input: row by row, in the order of the plan.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;

use super::error::RunError;
use super::input::{Index, Input};
use super::key::RowKey;
use super::line::{LineParser, ParsedLine};
use super::plan::Plan;
use super::reader::LineReader;

/// Rows are read from all over the file, a few at a time.
const BUFFER_BYTES: usize = 1 << 12;

/// The lines that are not done, each of which is given out once.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    input: &'a Input,
    lines: LineReader<BufReader<&'a File>>,
    parser: LineParser<'a>,
    index: &'a Index,
    plan: Plan,
    /// How much of the plan's order is given out.
    place: usize,
    /// Lines that go before the rest of the plan.
    promoted: VecDeque<usize>,
    /// By index of the line: whether it is done or given out.
    taken: Vec<bool>,
    /// All lines before this one are taken.
    left_from: usize,
}

/// A row that was given out: the number of its line, and what is in it.
pub(super) type Row = (u64, ParsedLine);

impl<'a> Rows<'a> {
    /// The rows that are not done, in the order of the plan.
    pub(super) fn new(
        input: &'a Input,
        parser: LineParser<'a>,
        index: &'a Index,
        (plan, done): (Plan, Vec<bool>),
    ) -> Result<Self, RunError> {
        let lines = input.lines(parser.max_line_bytes(), BUFFER_BYTES)?;
        let promoted = VecDeque::new();
        Ok(Self { lines, input, parser, index, plan, place: 0, promoted, taken: done, left_from: 0 })
    }

    /// The next row that is to run; `None` if there is none left.
    pub(super) fn next_row(&mut self) -> Result<Option<Row>, RunError> {
        let next = self.promoted.pop_front().or_else(|| self.next_planned());
        next.map(|line| self.read(line)).transpose()
    }

    /// Whether other rows have the same answer as this one.
    pub(super) fn has_same(&self, number: u64) -> bool {
        self.plan.next_same(index_of(number)).is_some()
    }

    /// The next row that has the same answer as this one.
    pub(super) fn next_same(&mut self, number: u64) -> Result<Option<Row>, RunError> {
        self.plan.next_same(index_of(number)).map(|line| self.read(line)).transpose()
    }

    /// Lets the next of the rows with the same answer run, and the others after it: this one came to nothing.
    pub(super) fn promote_same(&mut self, number: u64) {
        self.promoted.extend(self.plan.next_same(index_of(number)));
    }

    /// The next row in the order of the file that was not given out, whether it was to run or not.
    pub(super) fn next_left(&mut self) -> Result<Option<Row>, RunError> {
        let is_left = |line: &usize| !self.taken[*line] && self.index.key(*line) != RowKey::NONE;
        let Some(line) = (self.left_from..self.taken.len()).find(is_left) else { return Ok(None) };
        self.left_from = line + 1;
        self.read(line).map(Some)
    }

    /// Checks that the input is what was planned.
    pub(super) fn check_unchanged(&self) -> Result<(), RunError> {
        self.input.check_unchanged()
    }

    fn next_planned(&mut self) -> Option<usize> {
        let line = self.plan.order.get(self.place).copied()?;
        self.place += 1;
        Some(line)
    }

    fn read(&mut self, line: usize) -> Result<Row, RunError> {
        let number = line as u64 + 1;
        let read = |lines: &'_ mut LineReader<_>, parser: &mut LineParser<'_>| {
            lines.seek(number, self.index.offset(line))?;
            Ok(lines.next_line()?.and_then(|line| parser.parse(&line)))
        };
        let parsed = read(&mut self.lines, &mut self.parser).map_err(|source| self.input.unreadable(source))?;
        let parsed = parsed.map(|parsed| self.index.as_duplicate(parsed, line, &self.parser));
        let row = parsed.filter(|parsed| parsed.key == self.index.key(line));
        self.taken[line] = true;
        row.map(|row| (number, row)).ok_or_else(|| self.input.changed(Some(number)))
    }
}

fn index_of(number: u64) -> usize {
    (number - 1) as usize
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::batch::CancellationToken;
    use crate::batch::contract::Contract;
    use crate::batch::plan::{PlanOptions, PlanPolicy};
    use crate::engine::EngineSpec;

    const LIMIT: usize = 1000;

    fn line(name: &str, prompt: &str) -> String {
        let body = format!(r#"{{"model":"m","prompt":"{prompt}"}}"#);
        format!(r#"{{"custom_id":"{name}","method":"POST","url":"/v1/completions","body":{body}}}"#)
    }

    fn read(input: &Input, index: &mut Index, spec: &EngineSpec) -> Result<Vec<(u64, String)>, RunError> {
        let done = vec![false; index.num_lines()];
        let plan = index.take_plan(PlanOptions { policy: PlanPolicy::Fifo, deduplicate: true }, &done);
        let mut rows = Rows::new(input, LineParser::new(spec, LIMIT, Contract::Lenient), index, (plan, done))?;
        let mut found = Vec::new();
        while let Some((number, row)) = rows.next_row()? {
            found.push((number, row.result.map_or_else(|error| error.to_string(), |row| row.custom_id)));
        }
        rows.check_unchanged()?;
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
        let mut index = input
            .index(&mut LineParser::new(&spec, LIMIT, Contract::Lenient), &CancellationToken::new())
            .expect("it is readable")
            .expect("nobody cancelled");
        assert_eq!((index.total, index.num_lines()), (5, 6));
        let by_key = index.by_key();
        let found: Vec<_> = (0..6).map(|line| by_key.line(index.key(line))).collect();
        assert_eq!(found, [Some(0), None, Some(2), Some(3), Some(4), Some(5)]);
        let duplicate = || "the custom_id `a` is a duplicate of that in line 1".to_owned();
        let oops = || "not parseable as JSON at column 1: expected value".to_owned();
        assert_eq!(
            read(&input, &mut index, &spec).expect("it is unchanged"),
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
            (format!("{before}{}\n", line("c", "z")), None),
            (format!("{}\n", line("a", "x")), Some(2)),
        ];
        for (after, expected) in cases {
            std::fs::write(&path, &before).expect("it is writable");
            let input = Input::open(&path).expect("it is readable");
            let index = input.index(&mut LineParser::new(&spec, LIMIT, Contract::Lenient), &CancellationToken::new());
            let mut index = index.expect("it is readable").expect("nobody cancelled");
            let mut file = File::create(&path).expect("it is writable");
            file.write_all(after.as_bytes()).expect("it is writable");
            match read(&input, &mut index, &spec) {
                Err(RunError::InputChanged { line, .. }) => assert_eq!(line, expected),
                other => panic!("expected a change in line {expected:?}, found {other:?}"),
            }
        }
    }
}
