//! Wakers that call functions of Python: how an event loop learns that a request has ended.
//!
//! They are called on a thread of their own. The engine's threads never wait for the interpreter.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Wake, Waker};
use std::thread;

use pyo3::prelude::*;

/// Calls functions of Python from a thread of its own, which ends with it.
pub(crate) struct Notifier {
    calls: Sender<Arc<Notify>>,
}

impl Notifier {
    pub(crate) fn start() -> Self {
        let (calls, receiver) = channel::<Arc<Notify>>();
        let run = move || receiver.into_iter().for_each(|notify| notify.call());
        // Without the thread nothing would wake; the system has none left to give.
        drop(thread::Builder::new().name("vllm_batch-notify".to_owned()).spawn(run));
        Self { calls }
    }

    /// A waker that calls this function, without arguments.
    pub(crate) fn waker(&self, function: Py<PyAny>) -> Waker {
        Waker::from(Arc::new(Notify { function, calls: self.calls.clone() }))
    }
}

struct Notify {
    function: Py<PyAny>,
    calls: Sender<Arc<Notify>>,
}

impl Notify {
    fn call(&self) {
        // None while the interpreter shuts down.
        Python::try_attach(|py| {
            if let Err(error) = self.function.call0(py) {
                error.write_unraisable(py, None);
            }
        });
    }
}

impl Wake for Notify {
    fn wake(self: Arc<Self>) {
        let calls = self.calls.clone();
        // The thread is gone only with the process.
        let _ = calls.send(self);
    }
}
