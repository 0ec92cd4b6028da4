//! What of a task is on this machine?
//!
//! `WORK/BATCH/chunk-INDEX/ATTEMPT/` holds a try to run a chunk: its part of the input, and the runner's journal. Whoever held the
//! chunk before may not know yet that its lease is over, so what it writes to stays its own: the next try copies what is there,
//! then removes it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::batch::{end_line, sync_folder};

/// The journal of a run: its answers and its errors.
const JOURNAL: [&str; 2] = ["out.jsonl", "out.errors.jsonl"];
/// Ending of a folder that is not complete.
const NEW: &str = ".new";

/// The folder of a try to run a chunk.
#[derive(Debug, Clone)]
pub(super) struct ChunkFolder {
    path: PathBuf,
    /// Rows of earlier tries.
    rows: u64,
}

impl ChunkFolder {
    /// Makes the folder of a try in that of its chunk, with the rows of all tries before it.
    pub(super) fn open(chunk: &Path, attempt: i64) -> io::Result<Self> {
        fs::create_dir_all(chunk)?;
        let path = chunk.join(attempt.to_string());
        let earlier = earlier_tries(chunk, attempt)?;
        if !path.is_dir() {
            adopt(&earlier, &path)?;
        }
        for folder in earlier {
            fs::remove_dir_all(folder)?;
        }
        let rows = JOURNAL.iter().map(|name| count_lines(&path.join(name))).sum::<io::Result<u64>>()?;
        Ok(Self { path, rows })
    }

    /// Rows that earlier tries left; one that was cut off counts.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The chunk's part of the input.
    pub(super) fn input(&self) -> PathBuf {
        self.path.join("in.jsonl")
    }

    /// The journal of the run: answers and errors.
    pub(super) fn journal(&self) -> [PathBuf; 2] {
        JOURNAL.map(|name| self.path.join(name))
    }

    /// Rows in the order of the requests: answers and errors.
    pub(super) fn ordered(&self) -> [PathBuf; 2] {
        ["rows.jsonl", "rows.errors.jsonl"].map(|name| self.path.join(name))
    }
}

/// The journals of all tries to run a chunk, those of the last one first. None if there is no such folder.
pub(super) fn journals(chunk: &Path) -> io::Result<Vec<PathBuf>> {
    if !chunk.is_dir() {
        return Ok(Vec::new());
    }
    let tries = earlier_tries(chunk, i64::MAX)?;
    Ok(tries.iter().rev().flat_map(|path| JOURNAL.map(|name| path.join(name))).collect())
}

/// Folders of tries before this one, the first one first, and what is left of tries to make such folders.
fn earlier_tries(chunk: &Path, attempt: i64) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(chunk)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match name.parse::<i64>() {
            Ok(earlier) if earlier < attempt => found.push((earlier, path)),
            Err(_) if name.ends_with(NEW) => fs::remove_dir_all(path)?,
            Ok(_) | Err(_) => {}
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Makes a folder with the rows of others. It is there when it is complete.
fn adopt(others: &[PathBuf], path: &Path) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(NEW);
    let new = PathBuf::from(new);
    fs::create_dir_all(&new)?;
    for name in JOURNAL {
        let mut target = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(new.join(name))?;
        for other in others {
            append(&other.join(name), &mut target)?;
        }
        target.sync_all()?;
    }
    fs::rename(&new, path)?;
    sync_folder(path)
}

/// Appends whole lines: a row that a crash cut off is a line of its own, which the runner moves aside.
fn append(source: &Path, target: &mut File) -> io::Result<()> {
    let mut source = match File::open(source) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    io::copy(&mut source, target)?;
    end_line(target)
}

fn count_lines(path: &Path) -> io::Result<u64> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => BufReader::new(other?),
    };
    let mut lines = 0;
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(lines),
            length => lines += super::count_lines(&piece[..length]) as u64,
        }
    }
}

/// What happened to a task on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct History {
    /// How often it failed.
    pub(super) failures: i64,
    /// How often it was begun since a row was done last.
    idle_starts: u64,
    /// Rows that were there when it was begun last.
    rows: u64,
}

impl History {
    /// As it was noted; new if it was not, or if nobody can read it.
    pub(super) fn read(path: &Path) -> Self {
        fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Notes it as a whole.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(new, path)
    }

    /// The task begins with so many rows. Says how often it was begun without getting any further, this time included.
    pub(super) fn begin(&mut self, rows: u64) -> u64 {
        self.idle_starts = if rows == self.rows { self.idle_starts + 1 } else { 1 };
        self.rows = rows;
        self.idle_starts
    }

    /// Whoever began it could tell how it ended: it was not what its worker died of.
    pub(super) fn end(&mut self) {
        self.idle_starts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(folder: &ChunkFolder) -> [String; 2] {
        folder.journal().map(|path| fs::read_to_string(path).unwrap())
    }

    #[test]
    fn a_try_begins_with_the_rows_of_all_before_it() {
        let chunk = tempfile::tempdir().unwrap();
        let open = |attempt| ChunkFolder::open(chunk.path(), attempt).unwrap();
        let first = open(1);
        assert_eq!((first.rows(), journal(&first)), (0, [String::new(), String::new()]));
        fs::write(&first.journal()[0], "a\nb\nc").unwrap();
        let second = open(2);
        assert_eq!((second.rows(), journal(&second)), (3, ["a\nb\nc\n".to_owned(), String::new()]));
        fs::write(&second.journal()[1], "d\n").unwrap();
        // A crash between the two steps of an earlier one, and another in the middle of the first.
        fs::create_dir(chunk.path().join("1")).unwrap();
        fs::write(chunk.path().join("1/out.jsonl"), "e\n").unwrap();
        fs::create_dir(chunk.path().join("4.new")).unwrap();
        fs::write(chunk.path().join("4.new/out.jsonl"), "x\n").unwrap();
        let fourth = open(4);
        assert_eq!((fourth.rows(), journal(&fourth)), (5, ["e\na\nb\nc\n".to_owned(), "d\n".to_owned()]));
        // The same try again, after it was given back.
        assert_eq!(journal(&open(4)), journal(&fourth));
        let names: Vec<_> = fs::read_dir(chunk.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["4"]);
    }

    #[test]
    fn starts_count_until_there_is_a_new_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("task.json");
        let begin = |rows| {
            let mut history = History::read(&path);
            let starts = history.begin(rows);
            history.write(&path).unwrap();
            starts
        };
        assert_eq!([0, 0, 3, 3, 3, 4].map(begin), [1, 2, 1, 2, 3, 1]);
        let mut history = History::read(&path);
        history.end();
        history.write(&path).unwrap();
        assert_eq!(begin(4), 1);
        fs::write(&path, "torn").unwrap();
        assert_eq!(History::read(&path), History::default());
    }
}
