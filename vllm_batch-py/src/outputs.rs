//! Answers of the library as objects of `vllm_batch.outputs`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};
use serde::Serialize;
use vllm_batch::{
    BatchReport, CompletionOutput, EmbeddingRequestOutput, OutputEvent, Progress, RequestError, RequestOutput,
    ScoringRequestOutput, StopReason, TokenLogprob, TokenLogprobs, ToolCall, Usage,
};

use crate::errors::request_error;

/// The classes of `vllm_batch.outputs`, looked up once.
struct Classes {
    request: Py<PyAny>,
    completion: Py<PyAny>,
    embedding: Py<PyAny>,
    scoring: Py<PyAny>,
    logprob: Py<PyAny>,
    usage: Py<PyAny>,
    report: Py<PyAny>,
    progress: Py<PyAny>,
}

static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();

fn classes(py: Python<'_>) -> PyResult<&Classes> {
    CLASSES.get_or_try_init(py, || {
        let module = py.import("vllm_batch.outputs")?;
        let class = |name: &str| module.getattr(name).map(Bound::unbind);
        Ok(Classes {
            request: class("RequestOutput")?,
            completion: class("CompletionOutput")?,
            embedding: class("EmbeddingRequestOutput")?,
            scoring: class("ScoringRequestOutput")?,
            logprob: class("Logprob")?,
            usage: class("Usage")?,
            report: class("BatchReport")?,
            progress: class("Progress")?,
        })
    })
}

/// How a request ended: its output, or a `RequestError`.
pub(crate) fn ended(py: Python<'_>, event: &OutputEvent) -> PyResult<Py<PyAny>> {
    let classes = classes(py)?;
    match event {
        OutputEvent::Finished(output) => request_output(py, classes, output),
        OutputEvent::Embedded(output) => embedding(py, classes, output),
        OutputEvent::Scored(output) => scores(py, classes, output),
        OutputEvent::Failed(error) => request_error(py, error).map(Bound::unbind),
        // Only ends come here.
        _ => request_error(py, &RequestError::Aborted).map(Bound::unbind),
    }
}

/// What a batch run came to.
pub(crate) fn report(py: Python<'_>, report: &BatchReport) -> PyResult<Py<PyAny>> {
    let fields = to_python(py, report)?.cast_into::<PyDict>()?;
    fields.set_item("text", report.to_string())?;
    classes(py)?.report.call(py, (), Some(&fields))
}

/// How far a batch run is.
pub(crate) fn progress(py: Python<'_>, progress: &Progress) -> PyResult<Py<PyAny>> {
    let rows = (
        progress.total,
        progress.completed,
        progress.failed,
        progress.skipped,
        progress.deduplicated,
        progress.running,
        progress.prompt_tokens,
        progress.cached_tokens,
        progress.generated_tokens,
        progress.elapsed.as_secs_f64(),
        progress.tokens_per_second,
        progress.eta.map(|eta| eta.as_secs_f64()),
    );
    classes(py)?.progress.call1(py, rows)
}

/// Anything that can be written as JSON, as Python's `json` reads it.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value).map_err(|error| PyValueError::new_err(error.to_string()))?;
    py.import("json")?.call_method1("loads", (text,))
}

fn request_output(py: Python<'_>, classes: &Classes, output: &RequestOutput) -> PyResult<Py<PyAny>> {
    let prompt_logprobs = output.prompt_logprobs.as_ref().map(|places| {
        let place =
            |place: &Option<TokenLogprobs>| place.as_ref().map(|place| logprobs(py, classes, place)).transpose();
        places.iter().map(place).collect::<PyResult<Vec<_>>>()
    });
    let outputs = output.outputs.iter().map(|output| completion(py, classes, output));
    let fields = (
        &output.request_id,
        &output.prompt,
        &*output.prompt_token_ids,
        prompt_logprobs.transpose()?,
        outputs.collect::<PyResult<Vec<_>>>()?,
        true,
        usage(py, classes, output.usage)?,
    );
    classes.request.call1(py, fields)
}

fn completion(py: Python<'_>, classes: &Classes, output: &CompletionOutput) -> PyResult<Py<PyAny>> {
    let places = output
        .logprobs
        .as_ref()
        .map(|places| places.iter().map(|place| logprobs(py, classes, place)).collect::<PyResult<Vec<_>>>());
    let stop_reason = match &output.stop_reason {
        Some(StopReason::Token(id)) => Some(id.into_pyobject(py)?.into_any()),
        Some(StopReason::String(text)) => Some(text.into_pyobject(py)?.into_any()),
        _ => None,
    };
    let fields = (
        output.index,
        &output.text,
        &output.token_ids,
        output.cumulative_logprob,
        places.transpose()?,
        output.finish_reason.as_str(),
        stop_reason,
        &output.reasoning,
        tool_calls(py, &output.tool_calls)?,
    );
    classes.completion.call1(py, fields)
}

/// Calls are few, and most answers have none.
fn tool_calls<'py>(py: Python<'py>, calls: &[ToolCall]) -> PyResult<Bound<'py, PyAny>> {
    if calls.is_empty() { Ok(PyList::empty(py).into_any()) } else { to_python(py, &calls) }
}

/// Token ids, or the text where a remote server says no id, to their log-probabilities: the token that is there first.
fn logprobs(py: Python<'_>, classes: &Classes, place: &TokenLogprobs) -> PyResult<Py<PyDict>> {
    let entries = PyDict::new(py);
    for token in std::iter::once(&place.chosen).chain(&place.top) {
        let key = match token.token_id {
            Some(id) => id.into_pyobject(py)?.into_any(),
            None => token.text().into_pyobject(py)?.into_any(),
        };
        entries.set_item(key, logprob(py, classes, token)?)?;
    }
    Ok(entries.unbind())
}

fn logprob(py: Python<'_>, classes: &Classes, token: &TokenLogprob) -> PyResult<Py<PyAny>> {
    classes.logprob.call1(py, (token.logprob, token.rank, token.text()))
}

fn embedding(py: Python<'_>, classes: &Classes, output: &EmbeddingRequestOutput) -> PyResult<Py<PyAny>> {
    let usage = usage(py, classes, output.usage)?;
    let fields = (&output.request_id, &output.embedding, &*output.prompt_token_ids, usage);
    classes.embedding.call_method1(py, "of", fields)
}

fn scores(py: Python<'_>, classes: &Classes, output: &ScoringRequestOutput) -> PyResult<Py<PyAny>> {
    let usage = usage(py, classes, output.usage)?;
    let labels: Vec<_> = output.labels.iter().map(|label| (label.logprob, label.probability)).collect();
    classes.scoring.call_method1(py, "of", (&output.request_id, labels, &*output.prompt_token_ids, usage))
}

fn usage(py: Python<'_>, classes: &Classes, usage: Usage) -> PyResult<Py<PyAny>> {
    classes.usage.call1(py, (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens))
}
