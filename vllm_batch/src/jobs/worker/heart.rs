//! Does a task still belong to this worker, and is it still wanted?

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
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
    expires_at: Arc<AtomicI64>,
    beats: JoinHandle<()>,
}

/// Until when a task is this worker's, as far as the worker knows. It is gone with the heart, and no heartbeat keeps it.
#[derive(Debug)]
pub(super) struct HeldUntil(Weak<AtomicI64>);

impl HeldUntil {
    fn renew(&self, until: i64) {
        if let Some(expires_at) = self.0.upgrade() {
            expires_at.store(until, Ordering::Relaxed);
        }
    }

    /// Whether the lease holds at this time; `None` once the task has ended.
    pub(super) fn is_good(&self, now: i64) -> Option<bool> {
        self.0.upgrade().map(|expires_at| now < expires_at.load(Ordering::Relaxed))
    }
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
        let expires_at = Arc::new(AtomicI64::new(lease.expires_at));
        let beats = Beats {
            worker: worker.clone(),
            lease: lease.clone(),
            progress: progress.clone(),
            state: state.clone(),
            held_until: HeldUntil(Arc::downgrade(&expires_at)),
            drain: drain.clone(),
            stop: stop.clone(),
            draining_since: None,
        };
        Self { progress, drain, stop, state, expires_at, beats: tokio::spawn(beats.run()) }
    }

    /// Until when the task is this worker's.
    pub(super) fn held_until(&self) -> HeldUntil {
        HeldUntil(Arc::downgrade(&self.expires_at))
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
    held_until: HeldUntil,
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
            let (now, ttl) = (service.now(), self.worker.options().lease_seconds());
            match service.store().heartbeat(&self.lease, &progress, now, ttl).await {
                Ok(LeaseState::Lost) => {
                    *lock(&self.state) = LeaseState::Lost;
                    // Whose it is, is known: other tasks need not wait until this one has stopped.
                    self.held_until.renew(i64::MAX);
                    self.stop.cancel();
                    return;
                }
                Ok(state) => self.renewed(state, now.saturating_add(ttl)),
                // A lease is not lost before another worker takes the task.
                Err(error) => tracing::warn!(%error, batch = self.lease.batch.id, "a heartbeat was not heard"),
            }
            self.stop_if_it_takes_too_long();
        }
    }

    fn renewed(&self, state: LeaseState, expires_at: i64) {
        self.held_until.renew(expires_at);
        if state != LeaseState::Held {
            *lock(&self.state) = state;
            self.drain.cancel();
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
