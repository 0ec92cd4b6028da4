//! Batch files: the library's runner.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, UNIX_EPOCH};

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use vllm_batch::batch::{Contract, PlanPolicy};
use vllm_batch::{BatchEngine, BatchReport, BatchRunner, CancellationToken, Progress, RunError};

use crate::errors::raise_run;
use crate::llm::{Engine, chosen, set};
use crate::outputs::report;
use crate::watch::{Cancellation, watched};

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
    let engine = engine.shared.engine(py)?;
    let work = |token: &CancellationToken, told: &Sender<Progress>| {
        run(&engine, options, (contract, plan, token.clone()), told)
    };
    let (done, raised) = watched(py, cancellation, on_progress, work, |error| raise_run(py, error))?;
    Ok((report(py, &done)?, raised))
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
