//! How do contents become files on this machine, and back?

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::stream::{Stream, try_unfold};
use tokio::fs::File;
use tokio::io::{self, AsyncReadExt as _, AsyncWriteExt as _};

use super::{FileKey, FileStore, Written, files_error};
use crate::jobs::JobError;

/// How much of a file is read at a time.
const PIECE_BYTES: usize = 256 << 10;

impl FileStore {
    /// Writes a content, or a part of it, to a file.
    pub(in crate::jobs) async fn download(
        &self,
        key: &FileKey,
        range: Option<Range<u64>>,
        path: &Path,
    ) -> Result<(), JobError> {
        let mut content = match range {
            Some(range) => self.get_range(key, range).await?,
            None => self.get(key).await?,
        };
        let failed = |error: io::Error| files_error("write", &path.display(), error.to_string());
        let mut file = File::create(path).await.map_err(failed)?;
        while let Some(piece) = content.try_next().await? {
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)
    }

    /// Makes a content of a file.
    pub(in crate::jobs) async fn upload(&self, path: &Path, key: &FileKey) -> Result<Written, JobError> {
        self.put(key, read_file(path), u64::MAX).await
    }
}

/// The bytes of a file, piece by piece.
pub(in crate::jobs) fn read_file(path: &Path) -> impl Stream<Item = Result<Bytes, JobError>> + Send + 'static {
    let path = path.to_owned();
    try_unfold((path, None), |(path, file)| async move {
        let failed = |error: io::Error| files_error("read", &path.display(), error.to_string());
        let mut file = match file {
            Some(file) => file,
            None => File::open(&path).await.map_err(failed)?,
        };
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let read = (&mut file).take(PIECE_BYTES as u64).read_to_end(&mut piece).await.map_err(failed)?;
        Ok((read > 0).then(|| (Bytes::from(piece), (path, Some(file)))))
    })
}
