//! `worker`: work on batches without serving anything.

use std::sync::Arc;

use vllm_batch::{BatchEngine, CancellationToken};

use super::jobs::Jobs;
use super::{Failure, runtime};
use crate::settings::Config;
use crate::shutdown::cancel_on_signals;

/// Works until a signal comes.
pub(super) fn run(config: &Config) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let stop = CancellationToken::new();
        cancel_on_signals(stop.clone())?;
        let jobs = Jobs::open(config).await?;
        jobs.work(config, Some(|_: &Arc<dyn BatchEngine>| {}), &stop).await
    })
}
