//! The one map from the library's errors to the exceptions of `vllm_batch.errors`.

use std::fmt::Display;
use std::path::Path;

use pyo3::prelude::*;
use serde_json::json;
use vllm_batch::curate::label_studio::TaskError;
use vllm_batch::curate::{InvalidSchema, RegistryError};
use vllm_batch::pipeline::CurationError;
use vllm_batch::pipeline::label_studio::LabelStudioError;
use vllm_batch::{LoadError, RequestError, RunError};

use crate::outputs::to_python;

/// The exception of a request, to be raised or to be the `error` of its output.
pub(crate) fn request_error<'py>(py: Python<'py>, error: &RequestError) -> PyResult<Bound<'py, PyAny>> {
    let told = (error.to_string(), error.code(), error.param(), error.status_code(), error.is_retryable());
    class(py, "RequestError")?.call1(told)
}

/// Raises the exception of a request.
pub(crate) fn raise_request(py: Python<'_>, error: &RequestError) -> PyErr {
    raised(request_error(py, error))
}

/// Raises that no engine came to be.
pub(crate) fn raise_load(py: Python<'_>, error: &LoadError) -> PyErr {
    raised(class(py, "LoadError").and_then(|class| class.call1((error.to_string(), error.code()))))
}

/// Raises that a batch run could not start, or had to stop.
pub(crate) fn raise_run(py: Python<'_>, error: &RunError) -> PyErr {
    let problems = match error {
        RunError::ValidationFailed { errors, .. } => to_python(py, &errors.data),
        _ => to_python(py, &[(); 0]),
    };
    let told = |problems| class(py, "RunError")?.call1((error.to_string(), error.code(), problems));
    raised(problems.and_then(told))
}

/// Raises that there is no engine here any more.
pub(crate) fn raise_engine(py: Python<'_>, message: &str, code: &str) -> PyErr {
    raised(class(py, "EngineError").and_then(|class| class.call1((message, code))))
}

/// Raises that a document is no schema that can be used.
pub(crate) fn raise_schema(py: Python<'_>, error: &InvalidSchema) -> PyErr {
    let told = |diagnostics| class(py, "SchemaError")?.call1((error.to_string(), error.code(), diagnostics));
    raised(to_python(py, &error.diagnostics()).and_then(told))
}

/// Raises that a schema was not registered, or answers were not migrated.
pub(crate) fn raise_registry(py: Python<'_>, error: &RegistryError) -> PyErr {
    match error {
        RegistryError::Invalid(invalid) => raise_schema(py, invalid),
        _ => raised(class(py, "SchemaError").and_then(|class| class.call1((error.to_string(), error.code())))),
    }
}

/// Raises that something cannot be curated, with a stable word for the reason.
pub(crate) fn raise_curation(py: Python<'_>, error: &impl Display, code: &str) -> PyErr {
    raised(class(py, "CurationError").and_then(|class| class.call1((error.to_string(), code))))
}

/// Raises that a file cannot be read or written.
pub(crate) fn raise_io(py: Python<'_>, path: &Path, error: &std::io::Error) -> PyErr {
    raise_curation(py, &format_args!("{}: {error}", path.display()), "io")
}

/// Raises that a record cannot be reviewed, with all reasons.
pub(crate) fn raise_task(py: Python<'_>, error: &TaskError) -> PyErr {
    let problems = error.problems.iter().map(|problem| json!({"code": problem.code(), "message": problem.to_string()}));
    let told = |problems| class(py, "CurationError")?.call1((error.to_string(), "unusable_record", problems));
    raised(to_python(py, &problems.collect::<Vec<_>>()).and_then(told))
}

/// Raises what the network or a review server has against a call.
pub(crate) fn raise_label_studio(py: Python<'_>, error: &LabelStudioError) -> PyErr {
    let told = (error.to_string(), error.code(), error.status(), error.is_retryable());
    raised(class(py, "LabelStudioError").and_then(|class| class.call1(told)))
}

/// Raises why a pipeline stopped.
pub(crate) fn raise_pipeline(py: Python<'_>, error: &CurationError) -> PyErr {
    match error {
        CurationError::Run(error) => raise_run(py, error),
        CurationError::Registry(error) => raise_registry(py, error),
        CurationError::LabelStudio(error) => raise_label_studio(py, error),
        _ => raise_curation(py, error, error.code()),
    }
}

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("vllm_batch.errors")?.getattr(name)
}

fn raised(error: PyResult<Bound<'_, PyAny>>) -> PyErr {
    error.map_or_else(|error| error, PyErr::from_value)
}
