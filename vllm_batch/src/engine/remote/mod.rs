//! Another server as the engine: anything that speaks `OpenAI`'s HTTP API.
//!
//! * `builder.rs`: the options, checked once.
//! * `queue.rs`: which request is sent next, and which nobody waits for any more.
//! * `worker.rs`: one request from the queue to its answer, over all tries.
//! * `client.rs`: one try over HTTP.
//! * `body.rs`, `answer.rs`, `refusal.rs`: the wire format, in this order: of requests, answers and errors;
//!   `embedding.rs`: that of embeddings, both ways; `logprobs.rs`: log-probabilities in answers.

mod answer;
mod body;
mod builder;
mod client;
mod embedding;
mod logprobs;
mod queue;
mod refusal;
mod worker;

pub use body::Flavour;
pub use builder::RemoteEngineBuilder;

use std::fmt;
use std::sync::Arc;

use self::queue::Queue;
use self::worker::Worker;
use super::{BatchEngine, EngineSpec, OutputStream};
use crate::error::LoadError;
use crate::request::Request;

/// A server that speaks `OpenAI`'s HTTP API (vLLM, `SGLang`, llama.cpp and others) as an engine.
///
/// At most `max_num_seqs` requests are at the server at a time, each on a thread and a connection of its own; the others
/// wait here, by priority and arrival. What the server refuses for the moment (429, 5xx), and what the network loses, is
/// sent again, with growing pauses of random length; generating text has no side effects, so that this is safe.
///
/// * Dropping a stream takes a waiting request back before it is sent, and ends the pause before another try; of one that
///   the server has, the answer is discarded.
/// * A parameter that the server's [`Flavour`] does not have is
///   [`UnsupportedParam`](crate::RequestError::UnsupportedParam). What this crate and servers may have different defaults
///   for, such as `temperature`, is always sent, so that the server's defaults play no part.
/// * Answers come whole: one `Delta` for each, then `Finished`. Token ids are empty where the server does not say them;
///   then only [`Usage`](crate::Usage) counts tokens. Scores of labels cannot be asked for.
/// * Log-probabilities are the server's, and an answer without those that were asked for is an error. What the server does
///   not say of a token is `None` in [`TokenLogprob`](crate::TokenLogprob): ids are known of the chosen tokens with vLLM,
///   and of all with llama.cpp's own server; ids and ranks of the prompt's tokens with vLLM; other ranks with none.
/// * Embeddings are asked for one by one. How a server pools is the server's choice.
/// * A server that cannot be reached, or that refuses the key, fails every request. A
///   [`BatchRunner`](crate::BatchRunner) stops then, and does those rows again when it resumes.
///
/// Dropping the engine ends the streams that are still open with
/// [`EngineFailed`](crate::RequestError::EngineFailed), and its threads once the tries that they are in have ended.
///
/// # Example
/// ```no_run
/// use vllm_batch::{BatchRunner, Flavour, RemoteEngine};
///
/// let engine = RemoteEngine::builder("http://127.0.0.1:8000/v1").flavour(Flavour::Vllm).discover(true).build()?;
/// let report = BatchRunner::new(&engine).input("in.jsonl").output("out.jsonl").resume(true).run()?;
/// println!("{report}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RemoteEngine {
    spec: EngineSpec,
    queue: Arc<Queue>,
}

impl RemoteEngine {
    /// The options of an engine for the server whose API begins at `base_url`, such as `http://127.0.0.1:8000/v1`.
    pub fn builder(base_url: impl Into<String>) -> RemoteEngineBuilder {
        RemoteEngineBuilder::new(base_url.into())
    }

    fn start(spec: EngineSpec, worker: Worker) -> Result<Self, LoadError> {
        let engine = Self { queue: Arc::new(Queue::default()), spec };
        let worker = Arc::new(worker);
        for index in 0..engine.spec.max_num_seqs {
            let (worker, queue) = (Arc::clone(&worker), Arc::clone(&engine.queue));
            std::thread::Builder::new()
                .name(format!("vllm_batch-remote-{index}"))
                .spawn(move || worker.run(&queue))
                .map_err(|error| LoadError::Threads { message: error.to_string() })?;
        }
        Ok(engine)
    }
}

impl BatchEngine for RemoteEngine {
    fn spec(&self) -> &EngineSpec {
        &self.spec
    }

    fn submit(&self, request: Request) -> OutputStream {
        if let Some(Err(error)) = request.model.as_ref().map(|model| self.spec.check_model(model)) {
            return OutputStream::failed(error);
        }
        self.queue.push(request)
    }
}

impl Drop for RemoteEngine {
    fn drop(&mut self) {
        // No joining: a thread may wait for the server for minutes, and what it gets is discarded.
        self.queue.close();
    }
}

impl fmt::Debug for RemoteEngine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RemoteEngine").field("spec", &self.spec).finish_non_exhaustive()
    }
}
