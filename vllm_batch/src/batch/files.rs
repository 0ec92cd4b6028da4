//! Which files does a run touch, and may it?

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::contract::Shape;
use super::error::RunError;

/// Ending of the file whose lock stands for another file.
const LOCK: &str = ".lock";
/// Ending of the file that is about to replace another file.
const REWRITE: &str = ".rewrite";

/// The files of a run, by their real names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    /// The requests; only read.
    pub(super) input: PathBuf,
    /// The answers.
    pub(super) output: PathBuf,
    /// The errors; `None` if they are among the answers.
    pub(super) errors: Option<PathBuf>,
    /// Where rows go that are not results of the input as it is now.
    pub(super) stale: PathBuf,
}

impl Files {
    /// Follows links and checks that no two files are the same one. `errors` lies next to the output if it is not
    /// given: `answers.jsonl` has `answers.errors.jsonl` and `answers.stale.jsonl`. vLLM's shape has no error file.
    pub(super) fn resolve(input: &Path, output: &Path, errors: Option<&Path>, shape: Shape) -> Result<Self, RunError> {
        let input =
            input.canonicalize().map_err(|source| RunError::InputUnreadable { path: input.to_owned(), source })?;
        let output = real_path(output)?;
        let errors = match (shape, errors) {
            (Shape::OpenAi, None) => Some(output.with_extension("errors.jsonl")),
            (Shape::OpenAi, Some(errors)) => Some(real_path(errors)?),
            (Shape::Vllm, None) => None,
            (Shape::Vllm, Some(_)) => return Err(RunError::UnusedOption { option: "errors" }),
        };
        let stale = output.with_extension("stale.jsonl");
        let files = Self { input, output, errors, stale };
        files.check_distinct()?;
        Ok(files)
    }

    /// Takes the files for this run alone.
    pub(super) fn lock(&self) -> Result<Vec<FileLock>, RunError> {
        self.results().map(|path| FileLock::acquire(path)).collect()
    }

    /// The files that rows go to.
    pub(super) fn results(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.output).chain(&self.errors)
    }

    /// Refuses files that hold rows already.
    pub(super) fn check_new(&self) -> Result<(), RunError> {
        for path in self.results() {
            if fs::metadata(path).is_ok_and(|file| file.len() > 0) {
                return Err(RunError::OutputExists { path: path.clone() });
            }
        }
        Ok(())
    }

    fn check_distinct(&self) -> Result<(), RunError> {
        let mut files = vec![(self.input.clone(), "the input"), (self.output.clone(), "the output")];
        files.extend(self.errors.clone().map(|errors| (errors, "the error file")));
        files.push((self.stale.clone(), "the file of stale rows"));
        for (ending, of_output, of_errors) in [
            (LOCK, "the output's lock", "the error file's lock"),
            (REWRITE, "the output's rewrite", "the error file's rewrite"),
        ] {
            files.push((beside(&self.output, ending), of_output));
            files.extend(self.errors.as_ref().map(|errors| (beside(errors, ending), of_errors)));
        }
        for (index, (path, second)) in files.iter().enumerate() {
            if let Some((_, first)) = files[..index].iter().find(|(other, _)| other == path) {
                return Err(RunError::SameFile { path: path.clone(), first, second });
            }
        }
        Ok(())
    }
}

/// The real name of a file that need not exist yet; its folder must.
fn real_path(path: &Path) -> Result<PathBuf, RunError> {
    let unusable = |source| RunError::OutputUnusable { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(file) if file.is_file() => path.canonicalize().map_err(unusable),
        Ok(_) => Err(unusable(io::Error::other("it is not a regular file"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => new_path(path).map_err(unusable),
        Err(error) => Err(unusable(error)),
    }
}

fn new_path(path: &Path) -> io::Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::other("the path has no file name"));
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let no_folder = |error| io::Error::other(format!("its folder {}: {error}", folder.display()));
    Ok(folder.canonicalize().map_err(no_folder)?.join(name))
}

/// Keeps other runs off a file for as long as it lives. The lock is on a file of its own, `<file>.lock`, since the file
/// itself may be replaced; on Unix that one is removed when the lock is given back.
#[derive(Debug)]
pub(super) struct FileLock {
    path: PathBuf,
    file: File,
}

impl FileLock {
    fn acquire(target: &Path) -> Result<Self, RunError> {
        let path = beside(target, LOCK);
        let unusable = |source| RunError::OutputUnusable { path: target.to_owned(), source };
        loop {
            let file = OpenOptions::new().create(true).append(true).open(&path).map_err(unusable)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(RunError::Locked { path: target.to_owned() }),
                Err(TryLockError::Error(source)) => return Err(unusable(source)),
            }
            let lock = Self { path: path.clone(), file };
            if lock.is_current() {
                return Ok(lock);
            }
        }
    }

    /// Whether the locked file still has its name: its last holder may have removed it just before it was locked.
    #[cfg(unix)]
    fn is_current(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        match (self.file.metadata(), fs::metadata(&self.path)) {
            (Ok(locked), Ok(named)) => (locked.dev(), locked.ino()) == (named.dev(), named.ino()),
            _ => false,
        }
    }

    /// Elsewhere lock files are never removed.
    #[cfg(not(unix))]
    fn is_current(&self) -> bool {
        let _ = &self.file;
        true
    }
}

/// A lock file that stays does no harm: the next run locks it again.
#[cfg(unix)]
impl Drop for FileLock {
    fn drop(&mut self) {
        if self.is_current() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where the file is written that is to replace `target`.
pub(super) fn rewrite_path(target: &Path) -> PathBuf {
    beside(target, REWRITE)
}

fn beside(target: &Path, ending: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Makes a new or renamed file's name survive a power cut.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Which of the two write errors this is.
pub(super) fn write_error(path: &Path, source: io::Error) -> RunError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            RunError::DiskFull { path, source }
        }
        _ => RunError::WriteFailed { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_output() {
        let folder = tempfile::tempdir().expect("a folder");
        let real = folder.path().canonicalize().expect("it exists");
        let input = real.join("in.jsonl");
        fs::write(&input, "x").expect("it is writable");
        for (output, stem) in [("out.jsonl", "out"), ("out", "out"), ("a.v2.jsonl", "a.v2")] {
            let files =
                Files::resolve(&input, &folder.path().join(output), None, Shape::OpenAi).expect("the files are fine");
            let expected = Files {
                input: input.clone(),
                output: real.join(output),
                errors: Some(real.join(format!("{stem}.errors.jsonl"))),
                stale: real.join(format!("{stem}.stale.jsonl")),
            };
            assert_eq!(files, expected);
        }
    }

    #[test]
    fn a_lock_is_exclusive_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("out.jsonl");
        for _ in 0..2 {
            let lock = FileLock::acquire(&target).expect("nobody holds it");
            let error = FileLock::acquire(&target).expect_err("it is held");
            assert_eq!((error.code(), error.path()), ("output_locked", Some(target.as_path())));
            drop(lock);
            assert_eq!(fs::read_dir(folder.path()).expect("it exists").count(), 0);
        }
    }

    #[test]
    fn a_removed_lock_file_is_not_a_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let lock = FileLock::acquire(&folder.path().join("out.jsonl")).expect("nobody holds it");
        assert!(lock.is_current());
        fs::remove_file(&lock.path).expect("it is there");
        assert_eq!(lock.is_current(), !cfg!(unix));
    }

    #[test]
    fn a_full_disk_is_told_from_other_write_errors() {
        let cases = [
            (io::ErrorKind::StorageFull, "disk_full"),
            (io::ErrorKind::QuotaExceeded, "disk_full"),
            (io::ErrorKind::FileTooLarge, "disk_full"),
            (io::ErrorKind::PermissionDenied, "write_failed"),
        ];
        for (kind, code) in cases {
            assert_eq!(write_error(Path::new("x"), kind.into()).code(), code);
        }
    }
}
