//! Work on a thread of its own, so that this one may look after Python.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use vllm_batch::{CancellationToken, Progress};

use crate::outputs::progress;

/// How often one looks whether the work was interrupted.
const TICK: Duration = Duration::from_millis(100);

/// Stops work from another thread.
#[pyclass(frozen, module = "vllm_batch._native")]
pub(crate) struct Cancellation(CancellationToken);

#[pymethods]
impl Cancellation {
    #[new]
    fn new() -> Self {
        Self(CancellationToken::new())
    }

    /// Stops the work that has this; what is done is kept.
    fn cancel(&self) {
        self.0.cancel();
    }
}

/// What the work came to, and what `on_progress` or a signal handler raised, which ends the work as a cancellation does. Where
/// the work fails after that, what was raised is the error, not what `raise` makes of the failure.
pub(crate) fn watched<T: Send, E: Send>(
    py: Python<'_>,
    cancellation: &Cancellation,
    on_progress: Option<Py<PyAny>>,
    work: impl FnOnce(&CancellationToken, &Sender<Progress>) -> Result<T, E> + Send,
    raise: impl FnOnce(&E) -> PyErr,
) -> PyResult<(T, Option<Py<PyBaseException>>)> {
    let token = &cancellation.0;
    let (sender, told) = channel();
    let (result, raised) = py.detach(move || {
        thread::scope(|scope| {
            // The sender goes with the work: its end is the end of what is told.
            let run = scope.spawn(move || work(token, &sender));
            let raised = look_after(&told, token, on_progress.as_ref());
            (run.join().unwrap_or_else(|panic| resume_unwind(panic)), raised)
        })
    });
    match (result, raised) {
        (Ok(done), raised) => Ok((done, raised.map(|error| error.into_value(py)))),
        (Err(_), Some(raised)) => Err(raised),
        (Err(error), None) => Err(raise(&error)),
    }
}

/// Until the work has ended: tells Python of its progress, and cancels it at the first thing that is raised.
fn look_after(told: &Receiver<Progress>, token: &CancellationToken, on_progress: Option<&Py<PyAny>>) -> Option<PyErr> {
    let mut raised = None;
    loop {
        let news = match told.recv_timeout(TICK) {
            Ok(news) => Some(news),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return raised,
        };
        if let (None, Err(error)) = (&raised, Python::attach(|py| tell(py, news.as_ref(), on_progress))) {
            token.cancel();
            raised = Some(error);
        }
    }
}

fn tell(py: Python<'_>, news: Option<&Progress>, on_progress: Option<&Py<PyAny>>) -> PyResult<()> {
    py.check_signals()?;
    if let (Some(news), Some(on_progress)) = (news, on_progress) {
        on_progress.call1(py, (progress(py, news)?,))?;
    }
    Ok(())
}
