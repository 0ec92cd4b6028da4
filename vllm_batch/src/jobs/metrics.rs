//! What is measured?
//!
//! Through the facade of the `metrics` crate: whoever embeds this chooses the recorder, and without one nothing is kept.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::{BatchStatus, BatchUsage, JobStats, RequestCounts};

/// Gauge, label `status`: batches.
pub const BATCHES: &str = "vllm_batch_batches";
/// Gauge: batches that have not ended.
pub const QUEUE_DEPTH: &str = "vllm_batch_queue_depth";
/// Gauge: workers that were heard of lately.
pub const WORKERS: &str = "vllm_batch_workers";
/// Gauge, label `worker`: seconds since a worker was heard of.
pub const HEARTBEAT_AGE: &str = "vllm_batch_heartbeat_age_seconds";
/// Gauge, label `worker`: generated tokens a second.
pub const TOKENS_PER_SECOND: &str = "vllm_batch_tokens_per_second";
/// Counter, label `outcome` (`completed`, `failed`): rows in result files.
pub const ROWS: &str = "vllm_batch_rows_total";
/// Counter, label `kind` (`input`, `cached`, `output`): tokens of rows in result files.
pub const TOKENS: &str = "vllm_batch_tokens_total";
/// Counter, labels `kind` (`validate`, `run`, `finalize`) and `outcome` (`done`, `failed`, `released`, `lost`): tasks.
pub const TASKS: &str = "vllm_batch_tasks_total";
/// Histogram: seconds that a chunk ran.
pub const CHUNK_SECONDS: &str = "vllm_batch_chunk_seconds";

/// Tells the recorder what the names mean. Call it once a recorder is installed.
pub fn describe() {
    describe_gauge!(BATCHES, "Batches of each status");
    describe_gauge!(QUEUE_DEPTH, "Batches that have not ended");
    describe_gauge!(WORKERS, "Workers that were heard of lately");
    describe_gauge!(HEARTBEAT_AGE, Unit::Seconds, "Seconds since a worker was heard of");
    describe_gauge!(TOKENS_PER_SECOND, "Generated tokens a second of a worker");
    describe_counter!(ROWS, "Rows in result files");
    describe_counter!(TOKENS, "Tokens of rows in result files");
    describe_counter!(TASKS, "Tasks of batches that ended");
    describe_histogram!(CHUNK_SECONDS, Unit::Seconds, "Seconds that a chunk ran");
}

/// How things stand.
pub(super) fn note_stats(stats: &JobStats, now: i64) {
    let mut waiting = 0;
    for status in BatchStatus::ALL {
        let count = stats.batches.iter().find(|(found, _)| *found == status).map_or(0, |(_, count)| *count);
        waiting += if status.is_terminal() { 0 } else { count };
        gauge!(BATCHES, "status" => status.as_str()).set(count as f64);
    }
    gauge!(QUEUE_DEPTH).set(waiting as f64);
    gauge!(WORKERS).set(stats.workers.len() as f64);
    for worker in &stats.workers {
        gauge!(HEARTBEAT_AGE, "worker" => worker.name.clone()).set((now - worker.last_seen).max(0) as f64);
        gauge!(TOKENS_PER_SECOND, "worker" => worker.name.clone()).set(worker.tokens_per_second);
    }
}

/// A batch has its result files.
pub(super) fn note_results(counts: RequestCounts, usage: BatchUsage) {
    counter!(ROWS, "outcome" => "completed").increment(counts.completed);
    counter!(ROWS, "outcome" => "failed").increment(counts.failed);
    counter!(TOKENS, "kind" => "input").increment(usage.input_tokens);
    counter!(TOKENS, "kind" => "cached").increment(usage.cached_tokens);
    counter!(TOKENS, "kind" => "output").increment(usage.output_tokens);
}

/// A task ended.
pub(super) fn note_task(kind: &'static str, outcome: &'static str) {
    counter!(TASKS, "kind" => kind, "outcome" => outcome).increment(1);
}

/// A chunk ran.
pub(super) fn note_chunk(elapsed: Duration) {
    histogram!(CHUNK_SECONDS).record(elapsed);
}
