//! When does the process stop, and how fast?
//!
//! At the first SIGINT or SIGTERM it stops to take work, ends what runs and exits with 0; at the second one it exits at once,
//! with 128 and the number of the signal.

use std::io;

use vllm_batch::CancellationToken;

/// Cancels the token at the first signal, and ends the process at the second.
///
/// # Errors
/// Signals cannot be waited for.
pub(crate) fn cancel_on_signals(token: CancellationToken) -> io::Result<()> {
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        let signal = signals.next().await;
        tracing::info!(signal, "stopping; a second signal ends the process at once");
        token.cancel();
        let signal = signals.next().await;
        tracing::warn!(signal, "stopped at once");
        std::process::exit(128 + signal);
    });
    Ok(())
}

/// The signals that end a process.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The number of the next one.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}

/// Ctrl-C, where there is nothing else.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> i32 {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        2
    }
}
