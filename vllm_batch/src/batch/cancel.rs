//! Who may stop a run from outside?

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::Shared;

/// Stops a [`BatchRunner`](super::BatchRunner) from another thread, a signal handler's thread, or its own progress
/// callback. Clones stop the same runs. Once cancelled it stays so.
///
/// # Example
/// ```
/// use vllm_batch::batch::CancellationToken;
///
/// let token = CancellationToken::new();
/// let other = token.clone();
/// std::thread::spawn(move || other.cancel()).join().expect("the thread ends");
/// assert!(token.is_cancelled());
/// ```
#[derive(Clone)]
pub struct CancellationToken {
    sender: Arc<Mutex<Option<oneshot::Sender<()>>>>,
    receiver: Shared<oneshot::Receiver<()>>,
}

impl CancellationToken {
    /// A token that nobody has cancelled.
    #[must_use]
    pub fn new() -> Self {
        let (sender, receiver) = oneshot::channel();
        Self { sender: Arc::new(Mutex::new(Some(sender))), receiver: receiver.shared() }
    }

    /// Cancels every run that holds a clone of this token, and wakes those that wait. Does nothing the second time.
    pub fn cancel(&self) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(sender);
    }

    /// Whether [`cancel`](Self::cancel) was called on any clone.
    pub fn is_cancelled(&self) -> bool {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Completes once the token is cancelled.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + Unpin + use<> {
        self.receiver.clone().map(drop)
    }
}

impl Default for CancellationToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancellationToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CancellationToken").field("is_cancelled", &self.is_cancelled()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;

    #[test]
    fn every_waiter_is_woken() {
        let token = CancellationToken::new();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let token = token.clone();
                std::thread::spawn(move || block_on(token.cancelled()))
            })
            .collect();
        assert_eq!(format!("{token:?}"), "CancellationToken { is_cancelled: false }");
        token.cancel();
        token.cancel();
        for waiter in waiters {
            waiter.join().expect("the waiter ends");
        }
        block_on(token.cancelled());
        assert!(token.is_cancelled());
    }
}
