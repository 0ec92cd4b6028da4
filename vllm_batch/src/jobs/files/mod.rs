//! Where are the contents of files?
//!
//! In an [`ObjectStore`](object_store::ObjectStore): a folder by default, or any other. What a content is called is made of ids alone
//! ([`FileKey`]), so no name that came from outside is ever part of a path. A content is there as a whole or not at all.

mod key;
mod lines;
mod local;
mod transfer;

use std::fmt::Display;
use std::ops::Range;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{BoxStream, Stream, StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, WriteMultipart};
use sha2::{Digest as _, Sha256};

pub use self::key::FileKey;
pub(super) use self::key::{ChunkRows, batch_of};
pub(crate) use self::lines::Lines;
pub(super) use self::transfer::read_file;
use super::JobError;

/// Contents are sent in parts of this size; stores of the cloud want 5 MiB at least.
const PART_BYTES: usize = 8 << 20;
/// Parts of one content that are on their way at a time.
const PARTS_AT_ONCE: usize = 2;

/// A content, piece by piece.
pub type ByteStream = BoxStream<'static, Result<Bytes, JobError>>;

/// Keeps the contents of files. Clones share them.
///
/// # Example
/// ```
/// use futures::{TryStreamExt, stream};
/// use vllm_batch::jobs::{FileKey, FileStore};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path();
/// let files = FileStore::in_folder(path)?;
/// let key = FileKey::of_file("file-00000000000000000000000000000001")?;
/// let content = stream::iter([Ok::<_, std::io::Error>("Hel".into()), Ok("lo".into())]);
/// let written = files.put(&key, content, 1000).await?;
/// assert_eq!(written.bytes, 5);
/// assert!(written.sha256.starts_with("185f8db3"));
///
/// let part: Vec<_> = files.get_range(&key, 1..4).await?.try_collect().await?;
/// assert_eq!(part.concat(), b"ell");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct FileStore {
    objects: Arc<dyn ObjectStore>,
    /// Where they are, if it is a folder of this machine.
    folder: Option<Arc<Path>>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// The length of the content.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

impl FileStore {
    /// Keeps contents in any store of objects.
    pub fn new(objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects, folder: None }
    }

    /// Keeps contents in a folder, which is created if it is not there. What was written survives a power cut.
    ///
    /// # Errors
    /// [`JobError::Files`] if the folder cannot be used.
    pub fn in_folder(path: impl AsRef<Path>) -> Result<Self, JobError> {
        let path = path.as_ref();
        let failed = |message: String| files_error("use the folder", &path.display(), message);
        std::fs::create_dir_all(path).map_err(|error| failed(error.to_string()))?;
        let objects = LocalFileSystem::new_with_prefix(path).map_err(|error| failed(error.to_string()))?;
        Ok(Self { objects: Arc::new(objects.with_fsync(true)), folder: Some(path.into()) })
    }

    /// Writes a content, replacing what was there. Nothing is written if the stream ends with an error, if there are more than
    /// `max_bytes`, or if the future is dropped. It holds two parts of 8 MiB at most.
    ///
    /// # Errors
    /// [`JobError::FileTooLarge`]; [`JobError::Files`] if the stream fails, or the store does.
    pub async fn put<S, E>(&self, key: &FileKey, content: S, max_bytes: u64) -> Result<Written, JobError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Display,
    {
        let path = key.path();
        let failed = |error: object_store::Error| store_error("write", path, &error);
        let upload = self.objects.put_multipart(path).await.map_err(failed)?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let (mut bytes, mut digest) = (0_u64, Sha256::new());
        let mut content = pin!(content);
        let error = loop {
            let piece = match content.next().await {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => break files_error("receive", path, error.to_string()),
                None => {
                    writer.finish().await.map_err(failed)?;
                    return Ok(Written { bytes, sha256: format!("{:x}", digest.finalize()) });
                }
            };
            bytes += piece.len() as u64;
            if bytes > max_bytes {
                break JobError::FileTooLarge { limit: max_bytes };
            }
            digest.update(&piece);
            writer.put(piece);
            if let Err(error) = writer.wait_for_capacity(PARTS_AT_ONCE).await {
                break failed(error);
            }
        };
        // What is left of it is no file, and the error that led here says more.
        let _ = writer.abort().await;
        Err(error)
    }

    /// Reads a content.
    ///
    /// # Errors
    /// [`JobError::NotFound`]; [`JobError::Files`], also from the stream.
    pub async fn get(&self, key: &FileKey) -> Result<ByteStream, JobError> {
        self.read(key, None).await
    }

    /// Reads a part of a content; what is beyond its end is left out.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_range(&self, key: &FileKey, range: Range<u64>) -> Result<ByteStream, JobError> {
        // Stores refuse ranges without a byte.
        if range.is_empty() { Ok(futures::stream::empty().boxed()) } else { self.read(key, Some(range)).await }
    }

    async fn read(&self, key: &FileKey, range: Option<Range<u64>>) -> Result<ByteStream, JobError> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let found = self.objects.get_opts(key.path(), options).await;
        let found = found.map_err(|error| store_error("read", key.path(), &error))?;
        let path = key.path().clone();
        Ok(found.into_stream().map_err(move |error| store_error("read", &path, &error)).boxed())
    }

    /// Whether there is such a content.
    ///
    /// # Errors
    /// [`JobError::Files`].
    pub async fn exists(&self, key: &FileKey) -> Result<bool, JobError> {
        match self.objects.head(key.path()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(store_error("look for", key.path(), &error)),
        }
    }

    /// Deletes a content. One that is not there is not missed.
    ///
    /// # Errors
    /// [`JobError::Files`].
    pub async fn delete(&self, key: &FileKey) -> Result<(), JobError> {
        match self.objects.delete(key.path()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(store_error("delete", key.path(), &error)),
        }
    }

    /// The contents whose keys begin with these parts of a path, and when each was written, in Unix seconds.
    pub(super) fn list(&self, prefix: &str) -> BoxStream<'static, Result<(FileKey, i64), JobError>> {
        let prefix = ObjectPath::from(prefix);
        let found = self.objects.list(Some(&prefix));
        let found = found.map_ok(|object| (FileKey::at(object.location), object.last_modified.timestamp()));
        found.map_err(move |error| store_error("list", &prefix, &error)).boxed()
    }
}

fn store_error(action: &'static str, path: &ObjectPath, error: &object_store::Error) -> JobError {
    match error {
        object_store::Error::NotFound { .. } => JobError::NotFound { what: "content", id: path.to_string() },
        error => files_error(action, path, error.to_string()),
    }
}

fn files_error(action: &'static str, path: &impl Display, message: String) -> JobError {
    JobError::Files { action, path: path.to_string(), message }
}

#[cfg(test)]
mod tests;
