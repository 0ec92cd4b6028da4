//! What does a worker do beside its tasks?

use std::fs;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::Worker;
use crate::jobs::id::{BATCH, is_id};
use crate::jobs::{JobError, metrics};

/// Contents that belong to nothing are looked for this often.
const ORPHANS_INTERVAL: Duration = Duration::from_hours(24);

/// Says that the worker is there and how fast it is, and deletes what is old, for as long as it lives.
#[derive(Debug)]
pub(super) struct Caretaker(JoinHandle<()>);

impl Caretaker {
    pub(super) fn start(worker: &Worker) -> Self {
        Self(tokio::spawn(care(worker.clone())))
    }
}

impl Drop for Caretaker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn care(worker: Worker) {
    let (mut cleaned_at, mut swept_at) = (None::<Instant>, None::<Instant>);
    let is_due = |last: Option<Instant>, interval| last.is_none_or(|last| last.elapsed() >= interval);
    loop {
        told(worker.say_hello().await);
        if is_due(cleaned_at, worker.options().maintenance_interval) {
            cleaned_at = Some(Instant::now());
            told(worker.service().maintain().await.map(drop));
            told(worker.delete_old_folders().await);
        }
        if is_due(swept_at, ORPHANS_INTERVAL) {
            swept_at = Some(Instant::now());
            told(worker.service().delete_orphans().await.map(drop));
        }
        tokio::time::sleep(worker.options().heartbeat_interval).await;
    }
}

/// None of this is worth an end: it is tried again.
fn told(result: Result<(), JobError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "maintenance");
    }
}

impl Worker {
    async fn say_hello(&self) -> Result<(), JobError> {
        self.rates().measure(Instant::now());
        self.service().store().note_worker(&self.info()).await?;
        metrics::note_stats(&self.service().stats(None).await?, self.service().now());
        Ok(())
    }

    /// Deletes what is left on this machine of batches that ended on another one.
    async fn delete_old_folders(&self) -> Result<(), JobError> {
        // Without a folder there is nothing in it.
        let Ok(entries) = fs::read_dir(&self.options().work_folder) else { return Ok(()) };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_id(BATCH, &name) && self.service().has_ended(&name).await? {
                self.delete_folder(entry.path()).await;
            }
        }
        Ok(())
    }
}
