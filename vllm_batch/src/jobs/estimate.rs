//! When will a batch be done?
//!
//! From what was measured, and never from a guess: workers say how many rows a second they did. What is not known is `None`.

use super::{Batch, BatchStatus, JobError, JobService, WorkerInfo};

/// Batches among which those of an owner are looked for.
const MAX_SEARCHED: usize = 10_000;

/// What waits and what is worked on.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QueueReport {
    /// When this was so, in Unix seconds.
    pub now: i64,
    /// Batches that have not ended, in the order in which workers take them.
    pub batches: Vec<QueuedBatch>,
    /// The workers that were heard of lately.
    pub workers: Vec<WorkerInfo>,
}

/// A batch that has not ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QueuedBatch {
    /// The batch.
    pub batch: Batch,
    /// 0 if some of its rows are done, else its place among those that wait, from 1.
    pub position: u64,
    /// Rows that are not done; `None` while they are not counted.
    pub rows_left: Option<u64>,
    /// In how many seconds its first row begins. Batches of the same model before it take their time.
    pub starts_in: Option<f64>,
    /// In how many seconds its last row is done.
    pub ends_in: Option<f64>,
}

impl QueueReport {
    /// What follows from the queue, in its order, and from the workers that there are.
    pub(super) fn new(now: i64, queue: Vec<Batch>, workers: Vec<WorkerInfo>) -> Self {
        let mut position = 0;
        // Of each model that was met: seconds until its workers are free for the next batch.
        let mut busy: Vec<(Option<String>, Option<f64>)> = Vec::new();
        let batches = queue.into_iter().map(|batch| {
            let is_running = batch.request_counts.completed + batch.request_counts.failed > 0;
            position += u64::from(!is_running);
            let index = busy.iter().position(|(model, _)| *model == batch.model).unwrap_or_else(|| {
                busy.push((batch.model.clone(), Some(0.0)));
                busy.len() - 1
            });
            let rows_left = rows_left(&batch);
            let starts_in = busy[index].1.filter(|_| rate(&batch, &workers).is_some());
            let takes = rows_left.zip(rate(&batch, &workers)).map(|(rows, rate)| rows as f64 / rate);
            let ends_in = starts_in.zip(takes).map(|(start, takes)| start + takes);
            busy[index].1 = ends_in;
            let position = if is_running { 0 } else { position };
            let starts_in = if is_running { Some(0.0) } else { starts_in };
            QueuedBatch { batch, position, rows_left, starts_in, ends_in }
        });
        let batches = batches.collect();
        Self { now, batches, workers }
    }
}

fn rows_left(batch: &Batch) -> Option<u64> {
    let counts = batch.request_counts;
    match batch.status {
        BatchStatus::Validating => None,
        _ if batch.ends_early_as().is_some() => Some(0),
        _ => Some(counts.total.saturating_sub(counts.completed + counts.failed)),
    }
}

/// Rows a second of the workers that serve the batch's model; `None` if none of them has measured any.
fn rate(batch: &Batch, workers: &[WorkerInfo]) -> Option<f64> {
    let model = batch.model.as_ref()?;
    let serving = workers.iter().filter(|worker| worker.models.contains(model));
    let rate: f64 = serving.filter_map(|worker| worker.rows_per_second).sum();
    (rate > 0.0).then_some(rate)
}

impl JobService {
    /// The first `limit` batches of the queue, or of those in it that are an owner's. Places and times count all batches. Of an owner,
    /// those are looked for among the first 10,000 in the queue, or the first `limit` if that is more.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub async fn queue(&self, owner: Option<&str>, limit: usize) -> Result<QueueReport, JobError> {
        let is_theirs = |batch: &Batch| owner.is_none_or(|owner| batch.owner == owner);
        let most = limit.max(MAX_SEARCHED);
        // Most often the owner has all that there is, or the queue is short.
        let mut looked_at = limit;
        let queue = loop {
            let queue = self.store().queue(looked_at).await?;
            let is_all = queue.len() < looked_at || looked_at == most;
            if is_all || queue.iter().filter(|batch| is_theirs(batch)).count() >= limit {
                break queue;
            }
            looked_at = looked_at.saturating_mul(8).min(most);
        };
        let mut report = QueueReport::new(self.now(), queue, self.workers().await?);
        report.batches.retain(|queued| is_theirs(&queued.batch));
        report.batches.truncate(limit);
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(id: &str, model: Option<&str>, (total, done): (u64, u64)) -> Batch {
        let mut batch = Batch::new(id, "/v1/completions", "file-1", 0);
        if let Some(model) = model {
            batch.model = Some(model.to_owned());
            batch.advance(BatchStatus::InProgress, 1).unwrap();
        }
        batch.request_counts.total = total;
        batch.request_counts.completed = done;
        batch
    }

    fn worker(models: &[&str], rows_per_second: Option<f64>) -> WorkerInfo {
        WorkerInfo {
            name: models.concat(),
            models: models.iter().map(|model| (*model).to_owned()).collect(),
            started_at: 0,
            last_seen: 0,
            tokens_per_second: 0.0,
            rows_per_second,
        }
    }

    type Expected = (u64, Option<u64>, Option<f64>, Option<f64>);

    fn report(queue: Vec<Batch>, workers: Vec<WorkerInfo>) -> Vec<Expected> {
        let report = QueueReport::new(5, queue, workers);
        report.batches.iter().map(|found| (found.position, found.rows_left, found.starts_in, found.ends_in)).collect()
    }

    #[test]
    fn batches_of_a_model_follow_each_other_at_the_rate_of_its_workers() {
        let queue =
            vec![batch("a", Some("x"), (100, 40)), batch("b", Some("y"), (10, 0)), batch("c", Some("x"), (30, 0))];
        let workers = vec![worker(&["x"], Some(2.0)), worker(&["x", "y"], Some(1.0)), worker(&["x"], None)];
        let expected = [
            (0, Some(60), Some(0.0), Some(20.0)),
            (1, Some(10), Some(0.0), Some(10.0)),
            (2, Some(30), Some(20.0), Some(30.0)),
        ];
        assert_eq!(report(queue, workers), expected);
    }

    #[test]
    fn what_was_not_measured_is_not_known() {
        let queue = vec![batch("a", Some("x"), (100, 40)), batch("b", None, (0, 0)), batch("c", Some("x"), (30, 0))];
        let expected = [(0, Some(60), Some(0.0), None), (1, None, None, None), (2, Some(30), None, None)];
        for workers in
            [vec![], vec![worker(&["x"], None)], vec![worker(&["y"], Some(3.0))], vec![worker(&["x"], Some(0.0))]]
        {
            assert_eq!(report(queue.clone(), workers), expected);
        }
    }

    #[test]
    fn a_batch_that_ends_early_has_no_rows_left() {
        let mut cancelling = batch("a", Some("x"), (100, 40));
        cancelling.advance(BatchStatus::Cancelling, 4).unwrap();
        let found = report(vec![cancelling, batch("b", Some("x"), (10, 0))], vec![worker(&["x"], Some(1.0))]);
        assert_eq!(found, [(0, Some(0), Some(0.0), Some(0.0)), (1, Some(10), Some(0.0), Some(10.0))]);
    }
}
