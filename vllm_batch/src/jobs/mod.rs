//! Many jobs, many workers: who does what, and what has been done?
//!
//! A [`Batch`] is a job as `OpenAI`'s Batch API has it. A [`JobStore`] holds files, batches, and the tasks that workers
//! lease; whoever holds no lease any longer can change nothing. What a batch may become is a table
//! ([`BatchStatus::can_become`]), and every change is a compare-and-set. [`SqlStore`] is the one in SQLite or PostgreSQL.
//!
//! # Invariants
//! * A task has at most one holder at a time; a holder that sends no heartbeat loses it, and another worker goes on.
//! * A batch ends exactly once. In every end, output ∪ error file = input.
//! * All times are Unix seconds that the caller gives: a store has no clock.

mod batch;
mod error;
mod estimate;
mod file;
pub(crate) mod files;
mod id;
mod limits;
pub mod metrics;
mod retention;
mod retry;
mod service;
pub(crate) mod sql;
mod store;
mod task;
mod webhook;
mod worker;

pub use batch::{Batch, BatchStatus, BatchUsage, OutputExpiry, RequestCounts};
pub use error::JobError;
pub use estimate::{QueueReport, QueuedBatch};
pub use file::{FileObject, FilePurpose};
pub use files::{ByteStream, FileKey, FileStore, Written};
pub use limits::{NewBatch, NewFile};
pub use retention::Maintenance;
pub use retry::RETRY_OF;
pub use service::{Clock, Content, JobService, JobStats, ServiceOptions, WebhookCheck};
pub use sql::SqlStore;
pub use store::{BatchQuery, FileQuery, JobStore, Order, Page, QueueLimits, StoreFuture};
pub use task::{ChunkProgress, Lease, LeaseState, NewChunk, Task, TaskId, TaskKind, TaskOutcome, WorkerInfo};
pub use webhook::{
    AllowedHost, Delivery, DeliveryState, InvalidHost, InvalidSecret, SenderOptions, SignatureError, WebhookConfig,
    WebhookEvent, WebhookPolicy, WebhookSecret, WebhookSender, WebhookUrlError, validate_webhook, verify_webhook,
};
pub use worker::{RowClock, Worker, WorkerOptions};
