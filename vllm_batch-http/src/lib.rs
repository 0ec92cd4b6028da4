//! A self-hosted `OpenAI` Batch API: an axum router over `vllm_batch`, to mount or to serve.
//!
//! [`Service`] makes the router of a [`JobService`](vllm_batch::jobs::JobService) and an engine. It has no global state: a program
//! may mount several, each below its own path, beside routes of its own. What the endpoints are is in `docs/http_api.md`, and, for
//! programs, at `/openapi.json`.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//!
//! use vllm_batch::jobs::{FileStore, JobService, ServiceOptions, SqlStore};
//! use vllm_batch::testing::ScriptedEngine;
//! use vllm_batch_http::{Service, ServiceConfig};
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let store = SqlStore::connect(&format!("sqlite://{}?mode=rwc", folder.join("jobs.db").display())).await?;
//! let jobs = JobService::new(Arc::new(store), FileStore::in_folder(folder)?, ServiceOptions::default());
//! let service = Service::new(jobs, ServiceConfig::default()).with_engine(Arc::new(ScriptedEngine::echo()));
//! let app: axum::Router = axum::Router::new().nest("/llm", service.router());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod auth;
mod config;
mod error;
mod extract;
mod limits;
mod metrics;
mod observe;
mod openapi;
pub mod page;
mod ranges;
mod routes;
mod service;
mod sse;
mod state;
mod upload;
mod wire;

pub use auth::{ApiKey, hash_key};
pub use config::{Clock, ServiceConfig};
pub use error::{ApiError, ErrorEnvelope, ErrorObject};
pub use limits::KeyLimits;
pub use metrics::{HTTP_LIVE, HTTP_REQUESTS, HTTP_SECONDS, install_prometheus};
pub use openapi::openapi;
pub use service::Service;
pub use state::EngineSlot;
