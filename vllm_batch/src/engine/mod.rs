//! The loop: requests in, steps, answers out.
//!
//! [`BatchEngine`] is the contract between those who bring requests and those who answer them; sugar over it is
//! [`BatchEngineExt`].

mod active;
mod answer;
mod builder;
mod conversation;
mod core;
mod ext;
mod guided;
mod local;
mod lower;
mod pool;
#[cfg(feature = "remote")]
mod remote;
mod score;
mod speculate;
mod stream;
mod thinking;
mod tune;

pub use builder::{Device, EngineBuilder};
pub use core::EngineCore;
pub use ext::BatchEngineExt;
pub use local::LocalEngine;
#[cfg(feature = "remote")]
pub use remote::{Flavour, RemoteEngine, RemoteEngineBuilder};
pub use speculate::SpeculativeConfig;
pub use stream::OutputStream;

use crate::error::RequestError;
use crate::request::{Request, TaskKind};

/// Something that answers requests: a model in this process, a remote server, a script for tests.
///
/// # Contract
/// * `submit` returns at once: it neither computes nor waits for a place in the batch.
/// * Every stream ends with exactly one final event: [`Finished`](crate::OutputEvent::Finished),
///   [`Embedded`](crate::OutputEvent::Embedded) or [`Scored`](crate::OutputEvent::Scored), as the request's
///   [`Task`](crate::Task) says, or [`Failed`](crate::OutputEvent::Failed); a bad request fails alone.
/// * Dropping a stream aborts its request and gives back what it held.
/// * What a request yields depends on the request and on the engine's [`EngineSpec`], not on other requests.
pub trait BatchEngine: Send + Sync {
    /// What this engine serves.
    fn spec(&self) -> &EngineSpec;

    /// Hands a request over.
    fn submit(&self, request: Request) -> OutputStream;
}

/// What an engine serves, and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineSpec {
    /// The names that a request's `model` may have; the first is the one that answers carry, but those of
    /// [`adapters`](Self::adapters).
    pub served_model_names: Vec<String>,
    /// Those of the names that stand for the model with an adapter.
    pub adapters: Vec<String>,
    /// Identifies weights, tokenizer, template and every option that changes results: two engines with equal revisions
    /// give equal answers. A journal row is only reused for the same revision.
    pub revision: String,
    /// Context length in tokens, prompt and answer together.
    pub max_model_len: usize,
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// How many requests are worked on at the same time.
    pub max_num_seqs: usize,
    /// What requests may ask for; others fail with [`UnsupportedTask`](crate::RequestError::UnsupportedTask).
    pub supported_tasks: Vec<TaskKind>,
}

impl EngineSpec {
    /// A specification of its parts, of an engine for all tasks.
    #[must_use]
    pub fn new(served_model_name: impl Into<String>, revision: impl Into<String>) -> Self {
        Self {
            served_model_names: vec![served_model_name.into()],
            adapters: Vec::new(),
            revision: revision.into(),
            max_model_len: usize::MAX,
            vocab_size: 0,
            max_num_seqs: 1,
            supported_tasks: TaskKind::ALL.to_vec(),
        }
    }

    /// Refuses a request that names another model, or asks for a task that the engine does not have.
    ///
    /// # Errors
    /// [`RequestError::ModelNotFound`] or [`RequestError::UnsupportedTask`].
    ///
    /// # Example
    /// ```
    /// use vllm_batch::{EngineSpec, Request};
    ///
    /// let spec = EngineSpec::new("tiny", "r1");
    /// assert!(spec.check(&Request::new("1", "Once")).is_ok());
    /// assert!(spec.check(&Request::new("2", "Once").with_model("huge")).is_err());
    /// ```
    pub fn check(&self, request: &Request) -> Result<(), RequestError> {
        request.model.as_ref().map_or(Ok(()), |model| self.check_model(model))?;
        let task = request.task.kind();
        if self.supported_tasks.contains(&task) {
            return Ok(());
        }
        let supported = self.supported_tasks.iter().map(|task| task.as_str()).collect();
        Err(RequestError::UnsupportedTask { task: task.as_str(), supported })
    }

    /// Refuses the name of another model.
    ///
    /// # Errors
    /// [`RequestError::ModelNotFound`].
    pub fn check_model(&self, model: &str) -> Result<(), RequestError> {
        if self.served_model_names.iter().any(|name| name == model) {
            return Ok(());
        }
        Err(RequestError::ModelNotFound { model: model.to_owned(), served: self.served_model_names.clone() })
    }

    /// The name that answers carry.
    #[must_use]
    pub fn model(&self) -> &str {
        self.served_model_names.first().map_or("", String::as_str)
    }
}
