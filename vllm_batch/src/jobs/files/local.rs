//! What does a folder need that other stores of objects do not?
//!
//! A content is written to a file of another name first, `CONTENT#1`, which a killed process leaves behind and lists do not show.

use std::fs;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::{FileKey, FileStore, files_error};
use crate::jobs::JobError;

impl FileStore {
    /// Deletes the folder in which the rows of a batch were.
    pub(in crate::jobs) async fn delete_rows_folder(&self, batch_id: &str) -> Result<(), JobError> {
        let path = Path::new(FileKey::BATCHES).join(batch_id);
        self.in_its_folder(move |folder| match fs::remove_dir_all(folder.join(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(0),
        })
        .await
        .map(drop)
    }

    /// Deletes contents that were never written to their ends, if nothing was added to them since then; says how many.
    pub(in crate::jobs) async fn delete_torn(&self, before: i64) -> Result<u64, JobError> {
        let delete = move |folder: &Path| {
            let deleted = [FileKey::FILES, FileKey::BATCHES].map(|name| delete_torn_below(&folder.join(name), before));
            deleted.into_iter().sum()
        };
        self.in_its_folder(delete).await
    }

    async fn in_its_folder(
        &self,
        work: impl FnOnce(&Path) -> io::Result<u64> + Send + 'static,
    ) -> Result<u64, JobError> {
        let Some(folder) = self.folder.clone() else { return Ok(0) };
        let name = folder.display().to_string();
        let done = tokio::task::spawn_blocking(move || work(&folder)).await.unwrap_or_else(|error| Err(error.into()));
        done.map_err(|error| files_error("clean up", &name, error.to_string()))
    }
}

fn delete_torn_below(folder: &Path, before: i64) -> io::Result<u64> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let mut deleted = 0;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            deleted += delete_torn_below(&entry.path(), before)?;
        } else if is_torn(&entry.file_name().to_string_lossy()) && is_older(&entry, before) {
            fs::remove_file(entry.path())?;
            deleted += 1;
        }
    }
    Ok(deleted)
}

fn is_torn(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

fn is_older(entry: &fs::DirEntry, before: i64) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    age.is_some_and(|age| (age.as_secs() as i64) < before)
}
