//! Whether a store keeps to the contract of all stores of jobs.

mod batches;
mod deliveries;
mod ends;
mod events;
mod files;
mod leases;
mod tasks;
mod work;

use std::future::Future;
use std::sync::Arc;

use crate::jobs::JobStore;

pub use events::check_job_events;

/// Runs the whole contract of [`JobStore`] on a store: files, batches, leases, every way for a batch to end, queue limits,
/// messages; one after the other, at once, and in random order.
///
/// `make` returns an empty store, each time another one. It takes some seconds on a database on a disk.
///
/// # Panics
/// Where the store does not keep to the contract; the message says how.
///
/// # Example
/// ```no_run
/// use std::sync::Arc;
///
/// use vllm_batch::jobs::{JobStore, SqlStore};
/// use vllm_batch::testing::check_job_store;
///
/// # async fn check() {
/// check_job_store(|| async {
///     Arc::new(SqlStore::connect("sqlite::memory:").await.expect("SQLite")) as Arc<dyn JobStore>
/// })
/// .await;
/// # }
/// ```
pub async fn check_job_store<F, S>(make: F)
where
    F: Fn() -> S,
    S: Future<Output = Arc<dyn JobStore>>,
{
    files::check(&make).await;
    batches::check(&make).await;
    tasks::check(&make).await;
    leases::check(&make).await;
    ends::check(&make).await;
    deliveries::check(&make).await;
    events::check(&make).await;
}
