//! How does one test code that uses an engine, or a store of jobs?
//!
//! With [`ScriptedEngine`]: a [`BatchEngine`](crate::BatchEngine) that answers from a function or a table, at once or
//! when it is told to, and remembers what it was asked. With `check_job_store` (and the feature `jobs`): the contract of
//! all stores, as a test. Public under the feature `testing`, so that embedders can use it too.

#[cfg(feature = "jobs")]
mod job_store;
mod pooled;
mod scripted;

#[cfg(feature = "jobs")]
pub use job_store::{check_job_events, check_job_store};
pub use scripted::{ScriptedEngine, ScriptedStats};
