//! Batch files: the library's runner on a thread of its own, so that this one may look after Python.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use pyo3::exceptions::{PyBaseException, PyValueError};
use pyo3::prelude::*;
use vllm_batch::batch::{Contract, PlanPolicy};
use vllm_batch::{BatchEngine, BatchReport, BatchRunner, CancellationToken, Progress, RunError};

use crate::errors::raise_run;
use crate::llm::{Engine, named, set};
use crate::outputs::{progress, report};

/// How often a run looks whether it was interrupted.
const TICK: Duration = Duration::from_millis(100);

/// Stops batch runs from another thread.
#[pyclass(frozen, module = "vllm_batch._native")]
pub(crate) struct Cancellation(CancellationToken);

#[pymethods]
impl Cancellation {
    #[new]
    fn new() -> Self {
        Self(CancellationToken::new())
    }

    /// Stops the runs that have this; what is done is kept.
    fn cancel(&self) {
        self.0.cancel();
    }
}

/// The options of a run.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct RunOptions {
    input: PathBuf,
    output: PathBuf,
    errors: Option<PathBuf>,
    contract: String,
    resume: bool,
    deadline: Option<f64>,
    window: Option<usize>,
    max_line_bytes: Option<usize>,
    plan: String,
    deduplicate: bool,
    progress_interval: f64,
    created: Option<u64>,
}

fn chosen<T: Copy>(option: &str, name: &str, names: &[(&str, T)]) -> PyResult<T> {
    let refused = |message| PyValueError::new_err(format!("invalid value for `{option}`: {message}"));
    named(name, names).map_err(refused)
}

/// Takes a batch file through an engine. Returns the report, and what `on_progress` or a signal handler raised, which ends
/// the run as a cancellation does.
#[pyfunction]
pub(crate) fn run_batch(
    py: Python<'_>,
    engine: &Engine,
    options: RunOptions,
    cancellation: &Cancellation,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<(Py<PyAny>, Option<Py<PyBaseException>>)> {
    let contracts = [("lenient", Contract::Lenient), ("openai", Contract::open_ai()), ("vllm", Contract::Vllm)];
    let contract = chosen("contract", &options.contract, &contracts)?;
    let plan = chosen("plan", &options.plan, &[("prefix", PlanPolicy::Prefix), ("fifo", PlanPolicy::Fifo)])?;
    let (engine, token) = (engine.shared.engine(py)?, cancellation.0.clone());
    let (sender, told) = channel();
    let (result, raised) = py.detach(move || {
        thread::scope(|scope| {
            let its_token = token.clone();
            let run = scope.spawn(move || run(&engine, options, (contract, plan, its_token), &sender));
            let raised = look_after(&told, &token, on_progress.as_ref());
            (run.join().unwrap_or_else(|panic| resume_unwind(panic)), raised)
        })
    });
    let report = report(py, &result.map_err(|error| raise_run(py, &error))?)?;
    Ok((report, raised.map(|error| error.into_value(py))))
}

fn run(
    engine: &Arc<dyn BatchEngine>,
    options: RunOptions,
    (contract, plan, token): (Contract, PlanPolicy, CancellationToken),
    told: &Sender<Progress>,
) -> Result<BatchReport, RunError> {
    let seconds = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
    let mut runner = BatchRunner::new(&**engine)
        .input(options.input)
        .output(options.output)
        .contract(contract)
        .resume(options.resume)
        .plan(plan)
        .deduplicate(options.deduplicate)
        .cancellation(token)
        .progress_interval(seconds(options.progress_interval))
        // Nobody listens any more only if the process ends.
        .on_progress(|progress| drop(told.send(progress.clone())));
    runner = set(runner, options.errors, BatchRunner::errors);
    runner = set(runner, options.deadline.map(seconds), BatchRunner::deadline);
    runner = set(runner, options.window, BatchRunner::window);
    runner = set(runner, options.max_line_bytes, BatchRunner::max_line_bytes);
    let clock = options.created.map(|created| move || UNIX_EPOCH + Duration::from_secs(created));
    set(runner, clock, BatchRunner::clock).run()
}

/// Until the run has ended: tells Python of its progress, and cancels it at the first thing that is raised.
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
