//! Until when may a run take?

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::CancellationToken;

/// Wakes a run when its time is over. Runs need no async runtime, so a thread waits; it ends with the deadline or when
/// this is dropped, whichever is first.
#[derive(Debug)]
pub(super) struct Deadline {
    at: Option<Instant>,
    expired: CancellationToken,
    _alive: Sender<()>,
}

impl Deadline {
    /// Without a time the deadline never comes.
    pub(super) fn start(at: Option<Instant>) -> Self {
        let (alive, dropped) = channel::<()>();
        let expired = CancellationToken::new();
        if let Some(at) = at {
            let token = expired.clone();
            let wait = move || {
                let left = at.saturating_duration_since(Instant::now());
                if dropped.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                    token.cancel();
                }
            };
            // Without the thread the run still ends, with the first event after the deadline.
            if let Err(error) = thread::Builder::new().name("vllm_batch-deadline".to_owned()).spawn(wait) {
                tracing::warn!(%error, "no thread to wait for the deadline");
            }
        }
        Self { at, expired, _alive: alive }
    }

    /// Whether the time is over.
    pub(super) fn is_over(&self) -> bool {
        self.at.is_some_and(|at| Instant::now() >= at)
    }

    /// Is cancelled when the time is over.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.expired
    }

    /// So long from now; `None` if that is beyond all time.
    pub(super) fn after(duration: Duration) -> Option<Instant> {
        Instant::now().checked_add(duration)
    }
}
