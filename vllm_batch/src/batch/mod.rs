//! How does a job survive a crash?
//!
//! A batch file in `OpenAI`'s format goes through an engine, and each of its rows comes back exactly once. The output file
//! is the journal: a row's `id` says which work it is the result of, rows are appended as they end, and a run that is
//! resumed does what has no row yet. [`BatchRunner`] is the way in.
//!
//! What a file may hold and what rows look like is the [`Contract`]: `OpenAI`'s (`validate`), vLLM's (`shape`), or
//! `OpenAI`'s shapes with every line failing alone.
//!
//! A request that waits for its answer goes the same way without a file: [`LiveRequest`], for servers.
//!
//! The way of a row: a line of the input (`reader`) is parsed (`line`, `endpoint`, `params`, `format`, `embeddings`, `score`)
//! to one or several requests (`parts`), gets its key (`key`), is looked up among what is done (`input`, `recover`), has
//! its turn (`plan`, `prefix`) and is read again (`rows`), its requests wait for a place in the window (`run`, `open`), and
//! its answer (`row`) is appended (`journal`).
//!
//! # Invariants
//! * In a run that completed, output ∪ error file = input, each row once; with [`Contract::OpenAi`] also in one that was
//!   cancelled or expired.
//! * Nothing that was in the output or the error file is destroyed: what does not hold any longer is moved aside.
//! * A row that was written survives `kill -9`; a row that was synced survives a power cut.
//! * Of each line tens of bytes are held, and bodies only of those in flight.

pub(crate) mod base64;
mod cancel;
mod chunk;
mod contract;
mod deadline;
mod embeddings;
mod endpoint;
mod error;
mod files;
mod format;
mod input;
mod journal;
mod json;
mod key;
mod line;
mod live;
mod logprobs;
mod message;
mod open;
#[cfg(feature = "jobs")]
mod order;
mod params;
mod parts;
mod plan;
mod pooled_params;
mod prefix;
mod progress;
mod reader;
mod recover;
mod report;
mod row;
mod rows;
mod run;
mod runner;
mod score;
mod shape;
mod tools;
mod validate;
mod validated;
mod values;

pub use cancel::CancellationToken;
pub use chunk::{ChatChunkChoice, ChatDelta, ChunkChoice, CompletionChunk, ToolCallDelta};
pub use contract::{Contract, OpenAiLimits};
pub use embeddings::{Embedding, EmbeddingList, EmbeddingVector, PoolingUsage};
pub use endpoint::Endpoint;
pub use error::{LineError, LineErrorKind, RunError};
#[cfg(feature = "jobs")]
pub(crate) use files::sync_folder;
pub use line::BatchLine;
pub use live::{LiveRequest, LiveStream};
pub use logprobs::{
    ChatLogprobs, ChatTokenLogprob, LEAST_LOGPROB, PromptLogprob, PromptLogprobs, TextLogprobs, TopLogprob,
};
#[cfg(feature = "jobs")]
pub(crate) use order::{OrderedRows, RowOrder, Unfinished, name_of};
pub use plan::PlanPolicy;
pub use progress::Progress;
#[cfg(feature = "jobs")]
pub(crate) use recover::end_line;
pub use report::{BatchReport, RunStatus};
pub use row::{
    AssistantMessage, BatchError, BatchRequestInput, BatchRequestOutput, BatchResponse, ChatChoice, ChatCompletion,
    ErrorBody, PromptTokensDetails, ResponseBody, StopReason, TextChoice, TextCompletion, TokenUsage,
};
pub use runner::BatchRunner;
pub use score::{LabelName, Score, ScoreList, ScoredLabel};
pub use validate::{ValidationError, ValidationErrors};
pub use validated::{FileChunk, ValidatedFile, validate_file};
