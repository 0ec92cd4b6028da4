//! An engine that answers from a function of Python, for the tests of those who use the package.

use std::sync::Arc;

use pyo3::prelude::*;
use vllm_batch::testing::ScriptedEngine;
use vllm_batch::{EngineSpec, Prompt, Request, RequestError};

use crate::outputs::to_python;

/// What a script may be told besides its answers.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct ScriptOptions {
    served_model_name: Vec<String>,
    max_model_len: usize,
    max_num_seqs: usize,
    held: bool,
}

impl ScriptOptions {
    pub(crate) fn engine(self, script: Option<Py<PyAny>>) -> Arc<ScriptedEngine> {
        let mut spec = EngineSpec::new("", "scripted-1");
        spec.served_model_names = self.served_model_name;
        (spec.max_model_len, spec.max_num_seqs, spec.vocab_size) = (self.max_model_len, self.max_num_seqs, 1 << 16);
        let engine = match script {
            Some(script) => ScriptedEngine::new(move |request| answer(&script, request)),
            None => ScriptedEngine::echo(),
        };
        let engine = engine.with_spec(spec);
        Arc::new(if self.held { engine.held() } else { engine })
    }
}

/// The other end of a scripted engine.
#[pyclass(frozen, module = "vllm_batch._native")]
pub(crate) struct Script(pub(crate) Arc<ScriptedEngine>);

#[pymethods]
impl Script {
    /// Lets so many more requests be answered.
    fn release(&self, requests: usize) {
        self.0.release(requests);
    }

    /// Lets all requests be answered from now on.
    fn release_all(&self) {
        self.0.release_all();
    }

    /// How many requests were handed over, were answered, failed, were let go, and have not ended.
    fn stats(&self) -> (usize, usize, usize, usize, usize) {
        let stats = self.0.stats();
        (stats.submitted, stats.finished, stats.failed, stats.aborted, stats.running)
    }
}

/// What the function returns for a prompt; what it raises is the request's error.
fn answer(script: &Py<PyAny>, request: &Request) -> Result<String, RequestError> {
    Python::attach(|py| {
        let answer = prompt(py, &request.prompt).and_then(|prompt| script.call1(py, (prompt,))?.extract::<String>(py));
        answer.map_err(|error| RequestError::invalid("prompt", error.value(py).to_string()))
    })
}

/// A text, token ids, or messages as OpenAI writes them.
fn prompt<'py>(py: Python<'py>, prompt: &Prompt) -> PyResult<Bound<'py, PyAny>> {
    match prompt {
        Prompt::Text(text) => to_python(py, text),
        Prompt::TokenIds(ids) => to_python(py, ids),
        Prompt::Messages(messages) => to_python(py, messages),
        _ => to_python(py, &()),
    }
}
