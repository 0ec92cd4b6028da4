//! Requests that an engine is answering, for those who wait and for those who are called.
//!
//! Whoever waits (`wait`) sleeps on this thread, without the interpreter, until a request ends or the time is up. Whoever
//! must not wait (`poll`) leaves a function that is called when there is more. Both add what ended to a list of the
//! caller's, so that an interrupt between two instructions of Python loses nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use pyo3::prelude::*;
use pyo3::types::PyList;
use vllm_batch::{BatchEngine, OutputEvent, OutputStream, RequestError};

use crate::llm::Shared;
use crate::outputs::ended;
use crate::requests::Request;
use crate::wake::Notifier;

/// The number that the caller gave a request, and how it ended.
type End = (usize, OutputEvent);

/// Requests that an engine is answering. Each is known by a number of the caller's.
#[pyclass(frozen, module = "vllm_batch._native")]
pub(crate) struct InFlight {
    shared: Arc<Shared>,
    pending: Mutex<FuturesUnordered<BoxFuture<'static, End>>>,
}

impl InFlight {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, pending: Mutex::default() }
    }

    fn pending(&self) -> MutexGuard<'_, FuturesUnordered<BoxFuture<'static, End>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has ended; the waker is called when there is more.
    fn take_ended(&self, waker: &Waker) -> Vec<End> {
        let (mut context, mut pending, mut ended) = (Context::from_waker(waker), self.pending(), Vec::new());
        while let Poll::Ready(Some(end)) = pending.poll_next_unpin(&mut context) {
            ended.push(end);
        }
        ended
    }

    /// Sleeps until something has ended, nothing is left, or the time is up.
    fn await_ended(&self, timeout: Duration) -> Vec<End> {
        let (started, waker) = (Instant::now(), Waker::from(Arc::new(Unpark(thread::current()))));
        loop {
            let ended = self.take_ended(&waker);
            let left = timeout.saturating_sub(started.elapsed());
            if !ended.is_empty() || left.is_zero() || self.pending().is_empty() {
                return ended;
            }
            thread::park_timeout(left);
        }
    }
}

#[pymethods]
impl InFlight {
    /// Hands a request to the engine.
    fn submit(&self, key: usize, request: &Bound<'_, Request>) -> PyResult<()> {
        let stream = self.shared.engine(request.py())?.submit(request.get().0.clone());
        self.pending().push(Box::pin(end_of(key, stream)));
        Ok(())
    }

    /// Adds to a list `(key, output or RequestError)` of each request that has ended, after the first one has, or after so
    /// many seconds. Other threads run meanwhile.
    fn wait(&self, py: Python<'_>, into: &Bound<'_, PyList>, seconds: f64) -> PyResult<()> {
        let timeout = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
        add(into, py.detach(|| self.await_ended(timeout)))?;
        py.check_signals()
    }

    /// The same without waiting. If nothing has ended, `notify` is called, on another thread, when something does.
    fn poll(&self, py: Python<'_>, into: &Bound<'_, PyList>, notify: Py<PyAny>) -> PyResult<()> {
        let waker = self.shared.notifier(|notifier: &Notifier| notifier.waker(notify));
        add(into, py.detach(|| self.take_ended(&waker)))
    }

    /// Lets all requests go that have not ended.
    fn cancel(&self, py: Python<'_>) {
        let pending = std::mem::take(&mut *self.pending());
        py.detach(|| drop(pending));
    }

    /// How many requests have not ended.
    fn __len__(&self) -> usize {
        self.pending().len()
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

async fn end_of(key: usize, mut stream: OutputStream) -> End {
    loop {
        match stream.next().await {
            Some(OutputEvent::Delta(_)) => {}
            Some(end) => return (key, end),
            None => return (key, OutputEvent::Failed(RequestError::Aborted)),
        }
    }
}

fn add(list: &Bound<'_, PyList>, ends: Vec<End>) -> PyResult<()> {
    ends.into_iter().try_for_each(|(key, event)| list.append((key, ended(list.py(), event)?)))
}
