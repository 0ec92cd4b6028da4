//! How does a row get to the disk so that nothing is lost?
//!
//! Each row is one `write` of a whole line, made as soon as the row is known: killing the process loses no row that was
//! written. Rows are synced in groups: a power cut loses at most one group. If a write fails half-way, the half is taken
//! back, so that the file always ends with a whole row.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::contract::Shape;
use super::error::RunError;
use super::files::{Files, sync_folder, write_error};
use super::row::BatchRequestOutput;
use super::shape::VllmRow;

/// When rows are synced to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SyncPolicy {
    /// After this many rows.
    pub(super) rows: usize,
    /// With the first row after this time.
    pub(super) interval: Duration,
}

impl Default for SyncPolicy {
    fn default() -> Self {
        Self { rows: 1024, interval: Duration::from_secs(1) }
    }
}

/// The output and the error file, if there is one, open at their ends.
#[derive(Debug)]
pub(super) struct Journal<S = File> {
    output: RowFile<S>,
    errors: Option<RowFile<S>>,
    shape: Shape,
    policy: SyncPolicy,
    unsynced: usize,
    last_sync: Instant,
    line: Vec<u8>,
}

impl Journal {
    /// Opens the files, and creates them where they are missing.
    pub(super) fn open(files: &Files, policy: SyncPolicy, shape: Shape) -> Result<Self, RunError> {
        let errors = files.errors.as_deref().map(RowFile::open).transpose()?;
        Ok(Self::new(RowFile::open(&files.output)?, errors, policy, shape))
    }
}

impl<S: Sink> Journal<S> {
    fn new(output: RowFile<S>, errors: Option<RowFile<S>>, policy: SyncPolicy, shape: Shape) -> Self {
        Self { output, errors, shape, policy, unsynced: 0, last_sync: Instant::now(), line: Vec::new() }
    }

    /// Appends a row to the file where it belongs.
    pub(super) fn write(&mut self, row: &BatchRequestOutput) -> Result<(), RunError> {
        self.line.clear();
        self.line.shrink_to(1 << 20);
        let written = match self.shape {
            Shape::OpenAi => serde_json::to_writer(&mut self.line, row),
            Shape::Vllm => serde_json::to_writer(&mut self.line, &VllmRow::of(row)),
        };
        written.expect("rows can be written to memory");
        self.line.push(b'\n');
        match &mut self.errors {
            Some(errors) if !row.is_success() => errors.append(&self.line)?,
            _ => self.output.append(&self.line)?,
        }
        self.unsynced += 1;
        self.sync_if_due()
    }

    /// Syncs if enough rows or enough time have passed.
    pub(super) fn sync_if_due(&mut self) -> Result<(), RunError> {
        let is_due = self.unsynced >= self.policy.rows.max(1) || self.last_sync.elapsed() >= self.policy.interval;
        if is_due && self.unsynced > 0 { self.sync() } else { Ok(()) }
    }

    /// Waits until the disk has every row.
    pub(super) fn sync(&mut self) -> Result<(), RunError> {
        self.output.sync()?;
        self.errors.as_mut().map_or(Ok(()), RowFile::sync)?;
        self.unsynced = 0;
        self.last_sync = Instant::now();
        Ok(())
    }
}

/// Where lines end up: a file, or a test's idea of one.
pub(super) trait Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}

impl Sink for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A file of whole lines.
#[derive(Debug)]
struct RowFile<S> {
    path: PathBuf,
    sink: S,
    /// Bytes of whole lines.
    length: u64,
    has_news: bool,
}

impl RowFile<File> {
    fn open(path: &Path) -> Result<Self, RunError> {
        let open = || {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            sync_folder(path)?;
            let length = file.metadata()?.len();
            Ok(Self { path: path.to_owned(), sink: file, length, has_news: false })
        };
        open().map_err(|source| RunError::OutputUnusable { path: path.to_owned(), source })
    }
}

impl<S: Sink> RowFile<S> {
    fn append(&mut self, line: &[u8]) -> Result<(), RunError> {
        if let Err(source) = write_all(&mut self.sink, line) {
            // If this fails too, the next run finds the half of a row and cuts it off.
            let _ = self.sink.truncate(self.length);
            return Err(write_error(&self.path, source));
        }
        self.length += line.len() as u64;
        self.has_news = true;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), RunError> {
        if self.has_news {
            self.sink.sync().map_err(|source| write_error(&self.path, source))?;
            self.has_news = false;
        }
        Ok(())
    }
}

fn write_all(sink: &mut impl Sink, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::key::RowKey;
    use crate::error::RequestError;

    /// A disk of limited size that remembers how it was used.
    #[derive(Debug, Default)]
    struct Disk {
        bytes: Vec<u8>,
        capacity: usize,
        writes: usize,
        synced: usize,
    }

    impl Sink for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.writes += 1;
            let room = (self.capacity - self.bytes.len()).min(bytes.len());
            if room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.bytes.extend_from_slice(&bytes[..room]);
            Ok(room)
        }

        fn truncate(&mut self, length: u64) -> io::Result<()> {
            self.bytes.truncate(length as usize);
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            self.synced = self.bytes.len();
            Ok(())
        }
    }

    fn journal(capacity: usize, rows: usize) -> Journal<Disk> {
        let file = |name: &str| RowFile {
            path: PathBuf::from(name),
            sink: Disk { capacity, ..Disk::default() },
            length: 0,
            has_news: false,
        };
        Journal::new(file("out"), Some(file("errors")), SyncPolicy { rows, interval: Duration::MAX }, Shape::OpenAi)
    }

    fn errors(journal: &Journal<Disk>) -> &Disk {
        &journal.errors.as_ref().expect("there is an error file").sink
    }

    fn row(name: &str) -> BatchRequestOutput {
        BatchRequestOutput::refused(RowKey::of_name(name), Some(name.to_owned()), &RequestError::Aborted)
    }

    #[test]
    fn a_full_disk_leaves_whole_rows_only() {
        let line_bytes = serde_json::to_vec(&row("a")).expect("rows can be written").len() + 1;
        for spare in 0..line_bytes {
            let mut journal = journal(2 * line_bytes + spare, 1);
            journal.write(&row("a")).expect("there is room");
            journal.write(&row("b")).expect("there is room");
            let error = journal.write(&row("c")).expect_err("the disk is full");
            assert_eq!((error.code(), error.path()), ("disk_full", Some(Path::new("errors"))));
            let expected: Vec<u8> = [row("a"), row("b")]
                .iter()
                .flat_map(|row| [serde_json::to_vec(row).expect("rows can be written"), b"\n".to_vec()].concat())
                .collect();
            assert_eq!(errors(&journal).bytes, expected, "{spare} bytes to spare");
        }
    }

    #[test]
    fn a_row_is_one_write_and_rows_are_synced_in_groups() {
        let mut journal = journal(usize::MAX, 3);
        let mut synced = Vec::new();
        for name in ["a", "b", "c", "d", "e", "f", "g"] {
            journal.write(&row(name)).expect("there is room");
            synced.push(errors(&journal).synced > 0 && journal.unsynced == 0);
        }
        assert_eq!(synced, [false, false, true, false, false, true, false]);
        assert_eq!((errors(&journal).writes, journal.output.sink.writes), (7, 0));
        journal.sync().expect("disks can sync");
        assert_eq!(errors(&journal).synced, errors(&journal).bytes.len());
    }
}
