//! How does a task begin and end?

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::folder::History;
use super::heart::Heart;
use crate::batch::CancellationToken;
use crate::jobs::files::FileKey;
use crate::jobs::{JobError, Lease, LeaseState, TaskId, TaskKind, TaskOutcome, metrics};

/// The pause before the end of a task is told again, where the store does not answer.
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What the end of a task says about the engine.
#[derive(Debug)]
pub(super) enum End {
    /// It ran a chunk.
    Ran,
    /// It failed at this task.
    EngineFailed(TaskId, String),
    /// Nothing.
    Other,
}

/// What came of a task.
#[derive(Debug)]
// There is one for each task, and it is moved once.
#[allow(clippy::large_enum_variant)]
pub(super) enum Ended {
    /// This is to be told, and if nobody wants to hear it, these contents were written for nothing.
    Done(TaskOutcome, Vec<FileKey>),
    /// It could not be done, or not now.
    Failed(Failure),
    /// It is for the next one.
    Released,
    /// It belongs to another worker.
    Lost,
}

/// Why a task could not be done.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) is_of_engine: bool,
    /// Another try would end the same way.
    pub(super) is_final: bool,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { message, is_of_engine: false, is_final: false }
    }
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        error.to_string().into()
    }
}

/// A task that this worker holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) lease: Arc<Lease>,
    pub(super) heart: Heart,
    pub(super) history: History,
}

impl Worker {
    /// Does a task, and tells how it ended.
    pub(super) async fn do_task(self, lease: Lease, heart: Heart, stop: &CancellationToken) -> End {
        let lease = Arc::new(lease);
        let history = History::read(&self.history_path(&lease));
        let mut held = Held { lease, heart, history };
        let ended = match held.lease.task.kind {
            TaskKind::Validate => self.validate(&held).await,
            TaskKind::Run(chunk) => self.run_chunk(&mut held, chunk, stop).await,
            TaskKind::Finalize => self.finalize(&held).await,
        };
        let ended = ended.unwrap_or_else(|error| Ended::Failed(error.into()));
        self.tell(held, ended).await
    }

    async fn tell(&self, mut held: Held, ended: Ended) -> End {
        let is_run = matches!(held.lease.task.kind, TaskKind::Run(_));
        held.history.end();
        let (outcome, contents, label, end) = match ended {
            _ if held.heart.state() == LeaseState::Lost => (None, Vec::new(), "lost", End::Other),
            Ended::Lost => (None, Vec::new(), "lost", End::Other),
            Ended::Released => (Some(TaskOutcome::Released), Vec::new(), "released", End::Other),
            Ended::Done(outcome, contents) => {
                (Some(outcome), contents, "done", if is_run { End::Ran } else { End::Other })
            }
            Ended::Failed(failure) => {
                let outcome = self.failed(&mut held.history, &failure);
                let end = if failure.is_of_engine {
                    End::EngineFailed(held.lease.task.id, failure.message)
                } else {
                    End::Other
                };
                (Some(outcome), Vec::new(), "failed", end)
            }
        };
        self.note_history(&held).await;
        let kind = kind_name(&held.lease.task.kind);
        let is_told = match &outcome {
            Some(outcome) => self.finish(&held, outcome).await,
            None => Some(false),
        };
        metrics::note_task(kind, if is_told == Some(true) { label } else { "lost" });
        match is_told {
            Some(true) => self.clean_up(&held, outcome.as_ref()).await,
            Some(false) => {
                for key in contents {
                    self.delete_content(&key).await;
                }
            }
            // The contents may count; those that do not are found as orphans.
            None => {}
        }
        end
    }

    /// Tells the store how the task ended, until it answers. False if the task belongs to another worker, and `None` if it is not
    /// known whether the store has heard it.
    async fn finish(&self, held: &Held, outcome: &TaskOutcome) -> Option<bool> {
        let lease = &held.lease;
        loop {
            match self.service().store().finish(lease, outcome, self.service().now()).await {
                Ok(is_told) => return Some(is_told),
                Err(error @ JobError::Store { is_transient: true, .. }) if held.heart.state() != LeaseState::Lost => {
                    tracing::warn!(%error, batch = lease.batch.id, "the end of a task was not heard");
                    tokio::time::sleep(TELL_AGAIN_AFTER).await;
                }
                Err(error) => {
                    // Its lease will be over, and another try is made.
                    tracing::error!(%error, batch = lease.batch.id, "the end of a task was refused");
                    return None;
                }
            }
        }
    }

    fn failed(&self, history: &mut History, failure: &Failure) -> TaskOutcome {
        history.failures += 1;
        tracing::warn!(failures = history.failures, message = failure.message, "a task failed");
        let is_given_up = failure.is_final || history.failures >= self.options().max_failures.max(1);
        TaskOutcome::Failed {
            message: failure.message.clone(),
            retry_at: self.service().now().saturating_add(self.options().pause_after(history.failures)),
            // Tries that ended because their worker died count for the store, and not here.
            max_attempts: if is_given_up { 1 } else { i64::MAX },
        }
    }

    /// Deletes what nobody needs any more.
    async fn clean_up(&self, held: &Held, outcome: Option<&TaskOutcome>) {
        match (&held.lease.task.kind, outcome) {
            (TaskKind::Run(chunk), Some(TaskOutcome::Ran { .. })) => {
                self.delete_folder(self.chunk_folder(&held.lease.batch.id, chunk.index)).await;
            }
            (TaskKind::Finalize, Some(TaskOutcome::Finalized { counts, usage, .. })) => {
                metrics::note_results(*counts, *usage);
                self.forget_chunks(&held.lease.batch.id).await;
            }
            _ => {}
        }
    }

    /// Where everything of a batch is on this machine.
    pub(super) fn batch_folder(&self, batch_id: &str) -> PathBuf {
        self.options().work_folder.join(batch_id)
    }

    /// Where everything of a chunk is on this machine.
    pub(super) fn chunk_folder(&self, batch_id: &str, index: u64) -> PathBuf {
        self.batch_folder(batch_id).join(format!("chunk-{index}"))
    }

    fn history_path(&self, lease: &Lease) -> PathBuf {
        self.batch_folder(&lease.batch.id).join(format!("task-{}.json", lease.task.id.0))
    }

    /// Without it, a task may be tried more often than it should.
    pub(super) async fn note_history(&self, held: &Held) {
        let (history, path) = (held.history.clone(), self.history_path(&held.lease));
        let noted = self.in_folder(&held.lease.batch.id, move |_| history.write(&path)).await;
        if let Err(error) = noted {
            tracing::warn!(%error, "what happened to a task is not noted");
        }
    }

    pub(super) async fn delete_folder(&self, path: PathBuf) {
        let deleted = blocking(path, |path| std::fs::remove_dir_all(path)).await;
        if let Err(error) = deleted {
            tracing::debug!(%error, "a folder stays");
        }
    }

    pub(super) async fn delete_content(&self, key: &FileKey) {
        if let Err(error) = self.service().files_store().delete(key).await {
            tracing::warn!(%error, "a content that nobody needs stays until orphans are looked for");
        }
    }

    /// Does something in the folder of a batch, which is there then, on a thread that may wait.
    pub(super) async fn in_folder<T: Send + 'static>(
        &self,
        batch_id: &str,
        work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, JobError> {
        let make = |path: &Path| std::fs::create_dir_all(path).and_then(|()| work(path));
        blocking(self.batch_folder(batch_id), make).await
    }
}

/// Does something with a path on a thread that may wait.
pub(super) async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
) -> Result<T, JobError> {
    let name = path.display().to_string();
    let done = tokio::task::spawn_blocking(move || work(&path)).await.unwrap_or_else(|error| Err(error.into()));
    done.map_err(|error| JobError::Files { action: "work in", path: name, message: error.to_string() })
}

fn kind_name(kind: &TaskKind) -> &'static str {
    match kind {
        TaskKind::Validate => "validate",
        TaskKind::Run(_) => "run",
        TaskKind::Finalize => "finalize",
    }
}
