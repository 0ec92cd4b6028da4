//! The one map from the library's errors to the exceptions of `vllm_batch.errors`.

use pyo3::prelude::*;
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

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("vllm_batch.errors")?.getattr(name)
}

fn raised(error: PyResult<Bound<'_, PyAny>>) -> PyErr {
    error.map_or_else(|error| error, PyErr::from_value)
}
