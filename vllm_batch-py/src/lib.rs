//! The native part of the Python package `vllm_batch`: an engine, requests on their way through it, and batch files.
//!
//! What users see (`LLM`, parameters, outputs, tables, progress) is Python, in `python/vllm_batch`. Here is what needs the
//! library: each file is one group of operations, and none decides anything. Bodies and parameters are read by the
//! library's own parser (`requests`), errors become exceptions in one place (`errors`), and whoever waits lets other
//! threads of Python run.

mod batch;
mod errors;
mod in_flight;
mod llm;
mod outputs;
mod requests;
mod testing;
mod tokenizer;
mod wake;

/// The native part of `vllm_batch`; use that instead.
#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::batch::{Cancellation, run_batch};
    #[pymodule_export]
    use crate::in_flight::InFlight;
    #[pymodule_export]
    use crate::llm::Engine;
    #[pymodule_export]
    use crate::requests::{Request, Task};
    #[pymodule_export]
    use crate::testing::Script;
    #[pymodule_export]
    use crate::tokenizer::Tokenizer;

    /// The version of the package.
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
