//! What waits, who works, and what there has been.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use vllm_batch::jobs::{Batch, BatchStatus, JobStats, Page, QueueReport, QueuedBatch, WorkerInfo};

/// What waits and what is worked on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueObject {
    /// Always `queue`.
    object: &'static str,
    /// When this was so, in seconds since 1970.
    now: i64,
    /// The caller's batches that have not ended, in the order in which workers take them.
    data: Vec<QueueEntry>,
    /// The workers that were heard of lately.
    workers: Vec<WorkerObject>,
    /// Generated tokens a second, of all workers together.
    tokens_per_second: f64,
}

/// A batch that has not ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueEntry {
    /// The batch.
    batch_id: String,
    /// 0 if some of its rows are done, else its place among all that wait, from 1.
    position: u64,
    /// How far it is.
    status: &'static str,
    /// The model that its rows name, once that is known.
    #[schema(required)]
    model: Option<String>,
    /// Larger runs first.
    priority: i32,
    /// How many requests it has, and how many are done.
    #[schema(value_type = Object)]
    request_counts: Value,
    /// Requests that are not done; not known before the file was read.
    #[schema(required)]
    requests_left: Option<u64>,
    /// In how many seconds its first request begins, from measured rates; not known while nothing was measured.
    #[schema(required)]
    starts_in_seconds: Option<f64>,
    /// In how many seconds its last request is done, from measured rates; not known while nothing was measured.
    #[schema(required)]
    eta_seconds: Option<f64>,
}

/// A worker.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerObject {
    /// Its name.
    name: String,
    /// The models that it serves.
    models: Vec<String>,
    /// When it began, in seconds since 1970.
    started_at: i64,
    /// When it was heard of last.
    last_seen: i64,
    /// Generated tokens a second, now.
    tokens_per_second: f64,
    /// Requests a second, once it has measured any.
    #[schema(required)]
    rows_per_second: Option<f64>,
}

impl From<QueueReport> for QueueObject {
    fn from(report: QueueReport) -> Self {
        let tokens_per_second = report.workers.iter().map(|worker| worker.tokens_per_second).sum();
        Self {
            object: "queue",
            now: report.now,
            data: report.batches.into_iter().map(QueueEntry::from).collect(),
            workers: report.workers.into_iter().map(WorkerObject::from).collect(),
            tokens_per_second,
        }
    }
}

impl From<QueuedBatch> for QueueEntry {
    fn from(queued: QueuedBatch) -> Self {
        let QueuedBatch { batch, position, rows_left, starts_in, ends_in, .. } = queued;
        Self {
            batch_id: batch.id,
            position,
            status: batch.status.as_str(),
            model: batch.model,
            priority: batch.priority,
            request_counts: json!(batch.request_counts),
            requests_left: rows_left,
            starts_in_seconds: starts_in,
            eta_seconds: ends_in,
        }
    }
}

impl From<WorkerInfo> for WorkerObject {
    fn from(worker: WorkerInfo) -> Self {
        Self {
            name: worker.name,
            models: worker.models,
            started_at: worker.started_at,
            last_seen: worker.last_seen,
            tokens_per_second: worker.tokens_per_second,
            rows_per_second: worker.rows_per_second,
        }
    }
}

/// How many batches there are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatsObject {
    /// Always `jobs.stats`.
    object: &'static str,
    /// The caller's batches.
    total_batches: u64,
    /// The same, by status.
    by_status: BTreeMap<&'static str, u64>,
    /// Of those that have ended, the share that is completed; not known while none has.
    #[schema(required)]
    success_rate: Option<f64>,
    /// The workers that were heard of lately.
    workers: Vec<WorkerObject>,
}

impl From<JobStats> for StatsObject {
    fn from(stats: JobStats) -> Self {
        let count = |wanted: &dyn Fn(BatchStatus) -> bool| {
            stats.batches.iter().filter(|(status, _)| wanted(*status)).map(|(_, count)| count).sum::<u64>()
        };
        let ended = count(&BatchStatus::is_terminal);
        let completed = count(&|status| status == BatchStatus::Completed);
        Self {
            object: "jobs.stats",
            total_batches: count(&|_| true),
            by_status: stats.batches.iter().map(|(status, count)| (status.as_str(), *count)).collect(),
            success_rate: (ended > 0).then(|| completed as f64 / ended as f64),
            workers: stats.workers.into_iter().map(WorkerObject::from).collect(),
        }
    }
}

/// A part of the batches that there have been.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct History {
    /// Always `list`.
    object: &'static str,
    /// The batches.
    data: Vec<HistoryEntry>,
    /// The last of them, for `after`.
    #[schema(required)]
    last_id: Option<String>,
    /// Whether there are more.
    has_more: bool,
}

/// A batch in numbers, also one that waits or runs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryEntry {
    /// The batch.
    batch_id: String,
    /// How far it is, or how it ended.
    status: &'static str,
    /// The url of its lines.
    endpoint: String,
    /// The model that its rows name.
    #[schema(required)]
    model: Option<String>,
    /// When it was created, in seconds since 1970.
    created_at: i64,
    /// When it ended.
    #[schema(required)]
    ended_at: Option<i64>,
    /// Seconds that it waited for its first request.
    #[schema(required)]
    waited_seconds: Option<i64>,
    /// Seconds from the first request to the end.
    #[schema(required)]
    ran_seconds: Option<i64>,
    /// How many requests it had, and what became of them.
    #[schema(value_type = Object)]
    request_counts: Value,
    /// Generated tokens.
    output_tokens: u64,
    /// The same a second, while it ran.
    #[schema(required)]
    tokens_per_second: Option<f64>,
    /// Requests a second, while it ran.
    #[schema(required)]
    requests_per_second: Option<f64>,
}

impl From<Page<Batch>> for History {
    fn from(page: Page<Batch>) -> Self {
        let data: Vec<_> = page.data.into_iter().map(HistoryEntry::from).collect();
        let last_id = data.last().map(|entry| entry.batch_id.clone());
        Self { object: "list", data, last_id, has_more: page.has_more }
    }
}

impl From<Batch> for HistoryEntry {
    fn from(batch: Batch) -> Self {
        let ended_at = batch.completed_at.or(batch.failed_at).or(batch.cancelled_at).or(batch.expired_at);
        let ran = ended_at.zip(batch.in_progress_at).map(|(end, start)| end - start);
        let done = batch.request_counts.completed + batch.request_counts.failed;
        let rate = |count: u64| ran.filter(|seconds| *seconds > 0).map(|seconds| count as f64 / seconds as f64);
        Self {
            status: batch.status.as_str(),
            endpoint: batch.endpoint,
            model: batch.model,
            created_at: batch.created_at,
            ended_at,
            waited_seconds: batch.in_progress_at.map(|start| start - batch.created_at),
            ran_seconds: ran,
            request_counts: json!(batch.request_counts),
            output_tokens: batch.usage.output_tokens,
            tokens_per_second: rate(batch.usage.output_tokens),
            requests_per_second: rate(done),
            batch_id: batch.id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_time_that_it_ran() {
        let mut batch = Batch::new("batch_1", "/v1/completions", "file-1", 1000);
        batch.advance(BatchStatus::InProgress, 1010).unwrap();
        batch.request_counts.total = 10;
        batch.request_counts.completed = 6;
        batch.request_counts.failed = 2;
        batch.usage.output_tokens = 100;
        batch.advance(BatchStatus::Cancelling, 1020).unwrap();
        let told = |batch: &Batch| {
            let entry = HistoryEntry::from(batch.clone());
            (entry.waited_seconds, entry.ran_seconds, entry.tokens_per_second, entry.requests_per_second)
        };
        assert_eq!(told(&batch), (Some(10), None, None, None));
        batch.advance(BatchStatus::Cancelled, 1050).unwrap();
        assert_eq!(told(&batch), (Some(10), Some(40), Some(2.5), Some(0.2)));
    }
}
