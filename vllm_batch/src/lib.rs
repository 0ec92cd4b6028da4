//! An embeddable engine for LLM batch jobs.

pub mod batch;
pub mod engine;
pub mod error;
pub mod output;
pub mod request;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use batch::{BatchReport, BatchRunner, CancellationToken, Progress, RunError};
pub use engine::{BatchEngine, BatchEngineExt, EngineSpec, OutputStream};
pub use error::{EngineError, LoadError, RequestError};
pub use output::{CompletionOutput, FinishReason, OutputEvent, RequestOutput, StopReason, TextDelta, Usage};
pub use request::{Message, Prompt, Request, Role, SamplingParams};
