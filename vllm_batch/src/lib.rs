//! An embeddable engine for LLM batch jobs: a file of requests in, each comes back exactly once, as a result or as a typed
//! error, from a model in this process. Continuous batching over a paged KV cache with prefix sharing; the output file
//! is the journal, so `kill -9` loses nothing; and a row's answer is the same bits however it was batched.
//!
//! # Key types
//! * [`LocalEngine`]: a model in this process, made by an [`EngineBuilder`] from a [`ModelSource`]: a Hugging Face folder, a
//!   GGUF file or a hub id.
//! * [`Request`] with [`SamplingParams`] in, [`RequestOutput`] or [`RequestError`] out; vLLM's names. With [`PoolingParams`]
//!   the answer is an [`EmbeddingRequestOutput`], with [`ScoringParams`] a [`ScoringRequestOutput`].
//! * [`BatchEngine`]: the contract of two methods between those who have requests and those who answer them;
//!   [`BatchEngineExt`] has the conveniences.
//! * [`BatchRunner`]: files of OpenAI batch requests, durable and resumable.
//! * [`curate`] and [`pipeline`]: schemas of questions about records, and the way from records to reviewed training data.
//!
//! # Usage
//! 1. Build an engine. Loading takes about a second for a small model; do it once.
//! 2. For requests in memory, call [`generate`](BatchEngineExt::generate), [`chat`](BatchEngineExt::chat),
//!    [`embed`](BatchEngineExt::embed) or [`score`](BatchEngineExt::score), which block,
//!    or [`submit`](BatchEngine::submit) each request and poll its [`OutputStream`] on any runtime.
//! 3. For files, hand the engine to a [`BatchRunner`].
//! 4. Drop the engine to end its threads and give the memory back. Dropping a stream aborts its request.
//!
//! ```no_run
//! use vllm_batch::{BatchEngineExt, BatchRunner, LocalEngine, Message, SamplingParams};
//!
//! let engine = LocalEngine::builder("HuggingFaceTB/SmolLM2-135M-Instruct").build()?;
//!
//! let questions = ["Why is the sky blue?", "Name three primes."].map(|text| vec![Message::user(text)]);
//! for answer in engine.chat(questions, &SamplingParams::greedy().with_max_tokens(64)) {
//!     println!("{}", answer?.outputs[0].text);
//! }
//!
//! let report = BatchRunner::new(&engine).input("in.jsonl").output("out.jsonl").resume(true).run()?;
//! println!("{report}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//! * `hub` (default): models by hub id; brings an HTTP client. Without it nothing in the crate touches a network.
//! * `parquet`: training data as Parquet files ([`FolderOptions`](curate::export::FolderOptions)).
//! * `remote`: [`RemoteEngine`](https://docs.rs/vllm_batch/latest/vllm_batch/struct.RemoteEngine.html), a server that speaks
//!   OpenAI's HTTP API as an engine; brings an HTTP client, and no async runtime.
//! * `label-studio`: [`pipeline::label_studio`](https://docs.rs/vllm_batch/latest/vllm_batch/pipeline/label_studio/), a client for
//!   the server where people review what models said; brings the same HTTP client.
//! * `jobs`: [`jobs`](https://docs.rs/vllm_batch/latest/vllm_batch/jobs/), many batches and many workers, on SQLite or
//!   PostgreSQL; brings tokio.
//! * `testing`: [`ScriptedEngine`](https://docs.rs/vllm_batch/latest/vllm_batch/testing/), for the tests of programs that
//!   embed an engine.
//!
//! # What the crate does not do
//! It reads no environment variable, installs no logger, signal handler or global thread pool, and needs no async
//! runtime. It logs through [`tracing`](https://docs.rs/tracing).
//!
//! [`kv`], [`sched`], [`sample`] and [`text`] are public for those who build an engine of their own.

pub mod batch;
pub mod curate;
pub mod engine;
pub mod error;
pub mod guide;
#[cfg(any(feature = "jobs", feature = "label-studio", feature = "remote"))]
// Messages of jobs need less of it than the clients do.
#[cfg_attr(not(any(feature = "label-studio", feature = "remote")), allow(dead_code, unused_imports))]
mod http;
#[cfg(feature = "jobs")]
pub mod jobs;
mod kernels;
pub mod kv;
mod model;
pub mod output;
pub mod pipeline;
pub mod request;
pub mod sample;
pub mod sched;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;

pub use batch::{BatchReport, BatchRunner, CancellationToken, Progress, RunError};
pub use engine::{
    BatchEngine, BatchEngineExt, Device, EngineBuilder, EngineCore, EngineSpec, LocalEngine, OutputStream,
    SpeculativeConfig,
};
#[cfg(feature = "remote")]
pub use engine::{Flavour, RemoteEngine, RemoteEngineBuilder};
pub use error::{EngineError, LoadError, RequestError};
#[cfg(feature = "bench")]
#[doc(hidden)]
pub use kernels::bench;
pub use kernels::{KvCacheDtype, WeightDtype};
pub use model::{HubModel, ModelSource};
pub use output::{
    CompletionOutput, EmbeddingRequestOutput, FinishReason, LabelScore, OutputEvent, RequestOutput,
    ScoringRequestOutput, StopReason, TextDelta, TokenLogprob, TokenLogprobs, Usage,
};
pub use request::{
    ChatOptions, Label, Message, OutputFormat, PoolingParams, PoolingType, Prompt, RepetitionDetection, Request, Role,
    SamplingParams, ScoringParams, StructuredOutput, Task, TaskKind, Tool, ToolCall, ToolChoice,
};

/// The README's examples, so that they are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
