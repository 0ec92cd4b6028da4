//! The native part of the Python package `vllm_batch`: an engine, requests on their way through it, batch files, and curation.
//!
//! What users see (`LLM`, parameters, outputs, tables, progress) is Python, in `python/vllm_batch`. Here is what needs the
//! library: each file is one group of operations, and none decides anything. Bodies and parameters are read by the
//! library's own parser (`requests`), errors become exceptions in one place (`errors`), and whoever waits lets other
//! threads of Python run. Schemas, records and answers come and go as JSON (`json`): what they mean, the library says.

mod batch;
mod curation;
mod datasets;
mod errors;
mod in_flight;
mod json;
mod label_studio;
mod llm;
mod outputs;
mod registry;
mod requests;
mod review;
mod schema;
mod testing;
mod tokenizer;
mod wake;
mod watch;

/// The native part of `vllm_batch`; use that instead.
#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::batch::run_batch;
    #[pymodule_export]
    use crate::curation::run_curation;
    #[pymodule_export]
    use crate::datasets::{check_dataset, export_formats, export_records};
    #[pymodule_export]
    use crate::in_flight::InFlight;
    #[pymodule_export]
    use crate::label_studio::ReviewServer;
    #[pymodule_export]
    use crate::llm::Engine;
    #[pymodule_export]
    use crate::registry::Registry;
    #[pymodule_export]
    use crate::requests::{Request, Task};
    #[pymodule_export]
    use crate::review::{Snapshot, agree, decide_gold, mark_records, select_records};
    #[pymodule_export]
    use crate::schema::Schema;
    #[pymodule_export]
    use crate::testing::Script;
    #[pymodule_export]
    use crate::tokenizer::Tokenizer;
    #[pymodule_export]
    use crate::watch::Cancellation;

    /// The version of the package.
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
