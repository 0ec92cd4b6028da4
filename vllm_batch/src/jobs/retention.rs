//! What is deleted, and when?

use futures::TryStreamExt as _;

use super::files::{FileKey, batch_of};
use super::{Batch, JobError, JobService};

/// Files or batches that one call looks after. What is left is for the next one.
const AT_ONCE: usize = 256;
/// Seconds after which a content that belongs to nothing is an orphan, and not one that is about to belong to something.
const ORPHAN_AGE: i64 = 86_400;

/// What was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Maintenance {
    /// Files whose time was over, and result files of batches that were forgotten.
    pub files: u64,
    /// Batches that ended long ago.
    pub batches: u64,
    /// Contents that belonged to nothing.
    pub orphans: u64,
}

impl JobService {
    /// Deletes files whose time is over, and forgets batches that ended longer ago than
    /// [`batch_retention`](super::ServiceOptions::batch_retention) with their result files, some at a time: call it now and then.
    /// Workers do. Two that do so at once do no harm.
    ///
    /// # Errors
    /// [`JobError::Store`]; [`JobError::Files`].
    pub async fn maintain(&self) -> Result<Maintenance, JobError> {
        let mut done = Maintenance::default();
        for file in self.store().expired_files(self.now(), AT_ONCE).await? {
            done.files += self.forget_if_there(&file.id).await?;
        }
        if let Some(retention) = self.options().batch_retention {
            let before = self.now().saturating_sub(retention);
            for batch in self.store().ended_batches(before, AT_ONCE).await? {
                done.files += self.forget_results(&batch).await?;
                done.batches += u64::from(self.store().delete_batch(&batch.id).await?);
            }
        }
        Ok(done)
    }

    /// Deletes contents that a crash left behind: uploads that no file came of, and rows of chunks of batches that have ended. It
    /// looks at every content that there is: call it once a day, say. Workers do.
    ///
    /// # Errors
    /// [`JobError::Store`]; [`JobError::Files`].
    pub async fn delete_orphans(&self) -> Result<Maintenance, JobError> {
        let before = self.now().saturating_sub(ORPHAN_AGE);
        let mut done = Maintenance { orphans: self.files_store().delete_torn(before).await?, ..Maintenance::default() };
        for prefix in [FileKey::FILES, FileKey::BATCHES] {
            let mut found = self.files_store().list(prefix);
            while let Some((key, written_at)) = found.try_next().await? {
                if written_at < before && self.is_orphan(&key).await? {
                    self.files_store().delete(&key).await?;
                    done.orphans += 1;
                }
            }
        }
        Ok(done)
    }

    async fn is_orphan(&self, key: &FileKey) -> Result<bool, JobError> {
        if let Some(id) = key.file_id() {
            return Ok(self.store().file(&id).await?.is_none());
        }
        match batch_of(key) {
            Some(id) => self.has_ended(&id).await,
            None => Ok(false),
        }
    }

    /// Whether nothing more becomes of a batch, or there is none.
    pub(super) async fn has_ended(&self, batch_id: &str) -> Result<bool, JobError> {
        Ok(self.store().batch(batch_id).await?.is_none_or(|batch| batch.status.is_terminal()))
    }

    async fn forget_results(&self, batch: &Batch) -> Result<u64, JobError> {
        let mut forgotten = 0;
        for id in [&batch.output_file_id, &batch.error_file_id].into_iter().flatten() {
            forgotten += self.forget_if_there(id).await?;
        }
        Ok(forgotten)
    }

    /// Another one may be faster, or its owner.
    async fn forget_if_there(&self, id: &str) -> Result<u64, JobError> {
        match self.forget_file(id).await {
            Ok(()) => Ok(1),
            Err(JobError::NotFound { .. } | JobError::FileInUse { .. }) => Ok(0),
            Err(error) => Err(error),
        }
    }
}
