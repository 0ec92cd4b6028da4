//! What are contents called?

use object_store::path::Path as ObjectPath;

use crate::jobs::JobError;
use crate::jobs::id::{BATCH, FILE, is_id};

/// Names a content in a [`FileStore`](super::FileStore). It is made of ids and numbers alone.
///
/// # Example
/// ```
/// use vllm_batch::jobs::FileKey;
///
/// assert!(FileKey::of_file("file-00000000000000000000000000000001").is_ok());
/// assert_eq!(FileKey::of_file("../../etc/passwd").unwrap_err().code(), "not_found");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileKey(ObjectPath);

impl FileKey {
    /// Where all files are.
    pub(in crate::jobs) const FILES: &str = "files";
    /// Where all rows of chunks are.
    pub(in crate::jobs) const BATCHES: &str = "batches";

    /// The content of a file.
    ///
    /// # Errors
    /// [`JobError::NotFound`] if this is not the id of a file.
    pub fn of_file(id: &str) -> Result<Self, JobError> {
        if is_id(FILE, id) {
            Ok(Self(ObjectPath::from_iter([Self::FILES, id])))
        } else {
            Err(JobError::NotFound { what: "file", id: id.to_owned() })
        }
    }

    /// The key of a content that is there.
    pub(super) fn at(path: ObjectPath) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &ObjectPath {
        &self.0
    }

    /// The id of the file whose content it is.
    pub(in crate::jobs) fn file_id(&self) -> Option<String> {
        let name = self.0.filename()?;
        is_id(FILE, name).then(|| name.to_owned())
    }
}

/// The batch to whose chunks a content belongs.
pub(in crate::jobs) fn batch_of(key: &FileKey) -> Option<String> {
    let id = key.0.parts().nth(1)?;
    is_id(BATCH, id.as_ref()).then(|| id.as_ref().to_owned())
}

/// Where the rows of a chunk are, as one try to run it left them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::jobs) struct ChunkRows {
    location: String,
}

impl ChunkRows {
    /// Of a try that begins.
    pub(in crate::jobs) fn new(batch_id: &str, chunk: u64, attempt: i64) -> Self {
        Self { location: format!("{}/{batch_id}/{chunk}-{attempt}", FileKey::BATCHES) }
    }

    /// Of a try that is done.
    pub(in crate::jobs) fn at(location: &str) -> Self {
        Self { location: location.to_owned() }
    }

    /// As it is stored.
    pub(in crate::jobs) fn location(&self) -> &str {
        &self.location
    }

    /// The answers.
    pub(in crate::jobs) fn answers(&self) -> FileKey {
        FileKey(ObjectPath::from(format!("{}.jsonl", self.location)))
    }

    /// The errors.
    pub(in crate::jobs) fn errors(&self) -> FileKey {
        FileKey(ObjectPath::from(format!("{}.errors.jsonl", self.location)))
    }
}
