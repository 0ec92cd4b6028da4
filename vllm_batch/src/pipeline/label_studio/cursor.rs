//! Which tasks of an import are known to be there?
//!
//! A file that only grows, one JSON object a line, synced line by line: what is about to be sent, what is there, what was
//! refused. A line that a crash cut off says nothing.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::LabelStudioError;

type Result<T> = std::result::Result<T, LabelStudioError>;

/// What is known of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TaskState {
    /// It may be there.
    Sent,
    /// It is there.
    Done,
    /// The server does not take it.
    Rejected(String),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The first line.
    Import {
        url: String,
        project: u64,
        /// The project had no tasks when the import began: what was never sent is not there.
        empty: bool,
    },
    Sent(Vec<String>),
    Done(Vec<String>),
    Rejected(String, String),
}

/// What is known of the tasks of an import, in a file if there is one.
#[derive(Debug)]
pub(super) struct Cursor {
    file: Option<(PathBuf, File)>,
    states: HashMap<String, TaskState>,
    /// What was never sent is not there.
    pub(super) began_empty: bool,
}

impl Cursor {
    /// Goes on with a file, or begins one. `is_empty` says whether the project has no tasks.
    pub(super) fn open(
        path: Option<&Path>,
        (url, project): (&str, u64),
        is_empty: impl FnOnce() -> Result<bool>,
    ) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self { file: None, states: HashMap::new(), began_empty: is_empty()? });
        };
        let io = |source| LabelStudioError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path).map_err(io)?;
        let lines = read_lines(&mut file).map_err(io)?;
        let mut cursor = Self { file: Some((path.to_owned(), file)), states: HashMap::new(), began_empty: false };
        let mut lines = lines.into_iter();
        match lines.next() {
            Some(Line::Import { url: of, project: at, empty }) if of == url && at == project => {
                cursor.began_empty = empty;
                lines.for_each(|line| cursor.learn(line));
            }
            Some(_) => {
                let message = format!("this is not the cursor of an import into project {project} of {url}");
                return Err(LabelStudioError::InvalidCursor { path: path.to_owned(), message });
            }
            None => {
                cursor.began_empty = is_empty()?;
                cursor.append(&Line::Import { url: url.to_owned(), project, empty: cursor.began_empty })?;
            }
        }
        Ok(cursor)
    }

    pub(super) fn state(&self, key: &str) -> Option<&TaskState> {
        self.states.get(key)
    }

    /// Notes that tasks are about to be sent.
    pub(super) fn sent<'a>(&mut self, keys: impl Iterator<Item = &'a str>) -> Result<()> {
        self.note(Line::Sent(keys.map(str::to_owned).collect()))
    }

    /// Notes that tasks are there.
    pub(super) fn done<'a>(&mut self, keys: impl Iterator<Item = &'a str>) -> Result<()> {
        self.note(Line::Done(keys.map(str::to_owned).collect()))
    }

    /// Notes that a task is not taken.
    pub(super) fn rejected(&mut self, key: &str, message: &str) -> Result<()> {
        self.note(Line::Rejected(key.to_owned(), message.to_owned()))
    }

    fn note(&mut self, line: Line) -> Result<()> {
        self.append(&line)?;
        self.learn(line);
        Ok(())
    }

    fn learn(&mut self, line: Line) {
        match line {
            Line::Import { .. } => {}
            Line::Sent(keys) => self.states.extend(keys.into_iter().map(|key| (key, TaskState::Sent))),
            Line::Done(keys) => self.states.extend(keys.into_iter().map(|key| (key, TaskState::Done))),
            Line::Rejected(key, message) => {
                self.states.insert(key, TaskState::Rejected(message));
            }
        }
    }

    fn append(&mut self, line: &Line) -> Result<()> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        let mut write = || {
            let mut bytes = serde_json::to_vec(line)?;
            bytes.push(b'\n');
            file.write_all(&bytes)?;
            file.sync_data()
        };
        write().map_err(|source| LabelStudioError::Io { path: path.clone(), source })
    }
}

/// The lines of a file. What is behind the last line that is whole is cut off.
fn read_lines(file: &mut File) -> io::Result<Vec<Line>> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    if whole < text.len() {
        file.set_len(whole as u64)?;
    }
    let line = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(io::Error::from);
    text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: (&str, u64) = ("http://host", 7);

    #[test]
    fn what_is_noted_is_read_again_and_a_torn_line_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor.jsonl");
        let mut cursor = Cursor::open(Some(&path), PLACE, || Ok(true)).unwrap();
        cursor.sent(["a", "b", "c"].into_iter()).unwrap();
        cursor.done(["a"].into_iter()).unwrap();
        cursor.rejected("c", "bad").unwrap();
        let expected = |key: &str| match key {
            "a" => Some(TaskState::Done),
            "b" => Some(TaskState::Sent),
            "c" => Some(TaskState::Rejected("bad".to_owned())),
            _ => None,
        };
        let whole = std::fs::read(&path).unwrap();
        for torn in ["", "{\"done\":[\"b\"", "{\"done\":[\"b\"]}"] {
            std::fs::write(&path, [&whole, torn.as_bytes()].concat()).unwrap();
            let cursor = Cursor::open(Some(&path), PLACE, || panic!("it is known")).unwrap();
            assert!(cursor.began_empty);
            for key in ["a", "b", "c", "d"] {
                assert_eq!(cursor.state(key), expected(key).as_ref(), "{key} {torn}");
            }
            drop(cursor);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn the_cursor_of_another_import_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor.jsonl");
        Cursor::open(Some(&path), PLACE, || Ok(false)).unwrap();
        for place in [("http://host", 8), ("http://other", 7)] {
            let error = Cursor::open(Some(&path), place, || Ok(false)).unwrap_err();
            assert_eq!(error.code(), "invalid_cursor");
        }
        std::fs::write(&path, "hello\n").unwrap();
        assert_eq!(Cursor::open(Some(&path), PLACE, || Ok(false)).unwrap_err().code(), "io");
    }
}
