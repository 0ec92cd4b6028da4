//! Records to suggestions: the library's pipeline.

use std::path::PathBuf;
use std::sync::mpsc::Sender;

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use vllm_batch::pipeline::{CurationPipeline, CurationReport};
use vllm_batch::{CancellationToken, Progress};

use crate::errors::raise_pipeline;
use crate::llm::{Engine, set};
use crate::outputs::report;
use crate::schema::{AskOptions, Schema};
use crate::watch::{Cancellation, watched};

/// The files of a run, and how the model is asked.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct CurationOptions {
    records: PathBuf,
    folder: PathBuf,
    batch_id: Option<String>,
    model: Option<String>,
    ask: AskOptions,
}

/// Asks about all records that have no answer yet, and writes all suggestions. Returns the report's fields, and what
/// `on_progress` or a signal handler raised, which ends the run as a cancellation does.
#[pyfunction]
// Python passes them by name.
#[allow(clippy::too_many_arguments)]
pub(crate) fn run_curation(
    py: Python<'_>,
    engine: &Engine,
    schema: &Schema,
    options: CurationOptions,
    cancellation: &Cancellation,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<(Py<PyAny>, Option<Py<PyBaseException>>)> {
    let mut ask = options.ask.options(py, &schema.compiled)?;
    ask.model = options.model;
    let engine = engine.shared.engine(py)?;
    let work = |token: &CancellationToken, told: &Sender<Progress>| {
        let pipeline = CurationPipeline::new(&schema.compiled, &*engine)
            .records(options.records)
            .folder(options.folder)
            .options(ask)
            .cancellation(token.clone())
            // Nobody listens any more only if the process ends.
            .on_progress(|progress| drop(told.send(progress.clone())));
        set(pipeline, options.batch_id, CurationPipeline::batch_id).run()
    };
    let (run, raised) = watched(py, cancellation, on_progress, work, |error| raise_pipeline(py, error))?;
    Ok((fields(py, &run)?, raised))
}

fn fields(py: Python<'_>, run: &CurationReport) -> PyResult<Py<PyAny>> {
    let batch = run.batch.as_ref().map(|batch| report(py, batch)).transpose()?;
    let fields = (
        run.records,
        run.suggested,
        run.rejected,
        run.cut_off,
        run.unreadable_answers,
        batch,
        &run.suggestions_path,
        &run.rejections_path,
        run.to_string(),
    );
    Ok(fields.into_pyobject(py)?.into_any().unbind())
}
