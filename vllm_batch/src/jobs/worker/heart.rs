//! Does a task still belong to this worker, and is it still wanted?

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::task::JoinHandle;

use super::Worker;
use crate::batch::CancellationToken;
use crate::jobs::{ChunkProgress, Lease, LeaseState};

/// Sends heartbeats for a task for as long as it lives.
#[derive(Debug)]
pub(super) struct Heart {
    /// What heartbeats say.
    pub(super) progress: Arc<Mutex<ChunkProgress>>,
    /// Rows that are in flight may end, and no other may begin.
    pub(super) drain: CancellationToken,
    /// Nothing of the task is wanted any more, or there is no more time.
    pub(super) stop: CancellationToken,
    state: Arc<Mutex<LeaseState>>,
    beats: JoinHandle<()>,
}

impl Heart {
    /// Of a task that was just taken.
    pub(super) fn start(worker: &Worker, lease: &Lease) -> Self {
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let progress = Arc::<Mutex<ChunkProgress>>::default();
        let state = Arc::new(Mutex::new(lease.state()));
        if lease.state() != LeaseState::Held {
            drain.cancel();
        }
        let beats = Beats {
            worker: worker.clone(),
            lease: lease.clone(),
            progress: progress.clone(),
            state: state.clone(),
            drain: drain.clone(),
            stop: stop.clone(),
            draining_since: None,
        };
        Self { progress, drain, stop, state, beats: tokio::spawn(beats.run()) }
    }

    /// What the last heartbeat was answered.
    pub(super) fn state(&self) -> LeaseState {
        *lock(&self.state)
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.beats.abort();
        // Whoever ran the task may have been dropped, and what runs on another thread was not.
        self.stop.cancel();
    }
}

struct Beats {
    worker: Worker,
    lease: Lease,
    progress: Arc<Mutex<ChunkProgress>>,
    state: Arc<Mutex<LeaseState>>,
    drain: CancellationToken,
    stop: CancellationToken,
    draining_since: Option<Instant>,
}

impl Beats {
    async fn run(mut self) {
        let mut ticks = tokio::time::interval(self.worker.options().heartbeat_interval.max(MIN_INTERVAL));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first one comes at once.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let progress = *lock(&self.progress);
            let service = self.worker.service();
            let ttl = self.worker.options().lease_seconds();
            match service.store().heartbeat(&self.lease, &progress, service.now(), ttl).await {
                Ok(LeaseState::Held) => {}
                Ok(LeaseState::Lost) => {
                    *lock(&self.state) = LeaseState::Lost;
                    self.stop.cancel();
                    return;
                }
                Ok(state) => {
                    *lock(&self.state) = state;
                    self.drain.cancel();
                }
                // A lease is not lost before another worker takes the task.
                Err(error) => tracing::warn!(%error, batch = self.lease.batch.id, "a heartbeat was not heard"),
            }
            self.stop_if_it_takes_too_long();
        }
    }

    fn stop_if_it_takes_too_long(&mut self) {
        if self.drain.is_cancelled() {
            let since = *self.draining_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= self.worker.options().cancel_time {
                self.stop.cancel();
            }
        }
    }
}

/// A timer without a period would never let anything else run.
const MIN_INTERVAL: std::time::Duration = std::time::Duration::from_millis(1);

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
