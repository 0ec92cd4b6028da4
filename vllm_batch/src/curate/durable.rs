//! How does a file appear under its name as a whole?

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Gives a file that was written its name, so that after a crash the name stands for the whole file, or for what it stood for
/// before: the content is on the disk before the name, and the name when this returns.
pub(crate) fn rename_synced(file: &File, part: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(part, path)?;
    sync_folder(path)
}

/// Names are part of their folder.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Elsewhere folders cannot be opened.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_takes_the_place_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let (part, path) = (folder.path().join("a.part"), folder.path().join("a"));
        fs::write(&path, "old").unwrap();
        let mut file = File::create(&part).unwrap();
        file.write_all(b"new").unwrap();
        rename_synced(&file, &part, &path).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), part.exists()), ("new", false));
        assert_eq!(rename_synced(&file, &part, &path).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
