//! An embeddable engine for LLM batch jobs.

pub mod engine;
pub mod error;
pub mod guide;
pub mod kernels;
pub mod kv;
pub mod model;
pub mod output;
pub mod request;
pub mod sample;
pub mod sched;
pub mod text;

pub use engine::{
    BatchEngine, BatchEngineExt, Device, EngineBuilder, EngineCore, EngineSpec, LocalEngine, OutputStream,
};
pub use error::{EngineError, LoadError, RequestError};
pub use kernels::WeightDtype;
pub use model::{HubModel, ModelSource};
pub use output::{CompletionOutput, FinishReason, OutputEvent, RequestOutput, StopReason, TextDelta, Usage};
pub use request::{Message, OutputFormat, Prompt, Request, Role, SamplingParams, StructuredOutput};
