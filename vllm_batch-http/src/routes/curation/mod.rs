//! How is curated through HTTP?
//!
//! Handlers read what is asked, call a [`TaskStore`](vllm_batch::pipeline::tasks::TaskStore), and write what it says. What answers
//! may be, what is gold and who is next is decided there.

mod error;
pub(crate) mod export;
pub(crate) mod requests;
pub(crate) mod tasks;

use axum::Json;

use crate::error::ApiError;

/// What most handlers answer.
pub(crate) type Reply<T> = Result<Json<T>, ApiError>;
