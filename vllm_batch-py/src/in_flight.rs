//! Requests that an engine is answering, for those who wait and for those who are called.
//!
//! Whoever waits (`wait`) sleeps on this thread, without the interpreter, until a request ends or the time is up. Whoever
//! must not wait (`poll`) leaves a function that is called when there is more. Both add what ended to a list of the
//! caller's and forget it only then, so that an interrupt between two instructions of Python loses nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use pyo3::prelude::*;
use pyo3::types::PyList;
use vllm_batch::{OutputEvent, OutputStream, RequestError};

use crate::llm::Shared;
use crate::outputs::ended;
use crate::requests::Request;

/// The number that the caller gave a request, and how it ended.
type End = (usize, OutputEvent);
type Pending = FuturesUnordered<BoxFuture<'static, End>>;

/// Requests that an engine is answering. Each is known by a number of the caller's.
#[pyclass(frozen, module = "vllm_batch._native")]
pub(crate) struct InFlight {
    shared: Arc<Shared>,
    pending: Mutex<Pending>,
    /// What has ended and was not told yet.
    ended: Mutex<VecDeque<End>>,
}

impl InFlight {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, pending: Mutex::default(), ended: Mutex::default() }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> MutexGuard<'_, VecDeque<End>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks what has ended; the waker is called when there is more.
    fn look(&self, waker: &Waker) {
        let (mut context, mut pending, mut ended) = (Context::from_waker(waker), self.pending(), self.ended());
        while let Poll::Ready(Some(end)) = pending.poll_next_unpin(&mut context) {
            ended.push_back(end);
        }
    }

    /// Sleeps until something has ended, nothing is left, or the time is up.
    fn await_end(&self, timeout: Duration) {
        let (started, waker) = (Instant::now(), Waker::from(Arc::new(Unpark(thread::current()))));
        loop {
            self.look(&waker);
            let (is_told, is_over) = (self.ended().is_empty(), self.pending().is_empty());
            let left = timeout.saturating_sub(started.elapsed());
            if left.is_zero() || !is_told || is_over {
                return;
            }
            thread::park_timeout(left);
        }
    }

    /// Tells what has ended. What an exception comes before is told the next time.
    fn tell(&self, into: &Bound<'_, PyList>) -> PyResult<()> {
        loop {
            let Some((key, end)) = self.ended().pop_front() else { return Ok(()) };
            if let Err(error) = ended(into.py(), &end).and_then(|output| into.append((key, output))) {
                self.ended().push_front((key, end));
                return Err(error);
            }
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
        py.detach(|| self.await_end(timeout));
        self.tell(into)?;
        py.check_signals()
    }

    /// The same without waiting. If nothing has ended, `notify` is called, on another thread, when something does.
    fn poll(&self, py: Python<'_>, into: &Bound<'_, PyList>, notify: Py<PyAny>) -> PyResult<()> {
        let waker = self.shared.notifier().waker(notify);
        py.detach(|| self.look(&waker));
        self.tell(into)
    }

    /// Lets all requests go that have not ended.
    fn cancel(&self, py: Python<'_>) {
        let pending = std::mem::take(&mut *self.pending());
        py.detach(|| drop(pending));
    }

    /// How many requests have not ended, or were not told of.
    fn __len__(&self) -> usize {
        self.pending().len() + self.ended().len()
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
