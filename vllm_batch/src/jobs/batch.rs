//! What is a job, and what may become of it?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::JobError;
use super::webhook::WebhookConfig;

/// How far a batch is, in `OpenAI`'s words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BatchStatus {
    /// The input file is being read.
    Validating,
    /// The input file was refused; `errors` says why.
    Failed,
    /// Rows are being answered.
    InProgress,
    /// All rows are done; the result files are being written.
    Finalizing,
    /// The result files are there.
    Completed,
    /// The completion window is over; rows that were not done are in the error file.
    Expired,
    /// Rows in flight end, the others are dropped.
    Cancelling,
    /// Was cancelled; rows that were not done are in the error file.
    Cancelled,
}

impl BatchStatus {
    /// Every status.
    pub const ALL: [Self; 8] = [
        Self::Validating,
        Self::Failed,
        Self::InProgress,
        Self::Finalizing,
        Self::Completed,
        Self::Expired,
        Self::Cancelling,
        Self::Cancelled,
    ];

    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validating => "validating",
            Self::Failed => "failed",
            Self::InProgress => "in_progress",
            Self::Finalizing => "finalizing",
            Self::Completed => "completed",
            Self::Expired => "expired",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether nothing can become of it any more.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Failed | Self::Completed | Self::Expired | Self::Cancelled)
    }

    /// Whether a batch of this status may become one of the other.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::jobs::BatchStatus;
    ///
    /// assert!(BatchStatus::InProgress.can_become(BatchStatus::Cancelling));
    /// assert!(!BatchStatus::Completed.can_become(BatchStatus::Cancelling));
    /// ```
    pub fn can_become(self, next: Self) -> bool {
        use BatchStatus::{Cancelled, Cancelling, Completed, Expired, Failed, Finalizing, InProgress, Validating};
        matches!(
            (self, next),
            (Validating, InProgress | Failed | Cancelling | Expired)
                | (InProgress, Finalizing | Cancelling | Expired | Failed)
                | (Finalizing, Completed | Cancelling | Expired | Failed)
                | (Cancelling, Cancelled | Failed)
        )
    }
}

/// How many requests a batch has, and how many are done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RequestCounts {
    /// Requests in the input.
    pub total: u64,
    /// Those that were answered.
    pub completed: u64,
    /// Those that ended with an error.
    pub failed: u64,
}

/// The tokens of a batch, over all its rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BatchUsage {
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Those of `input_tokens` that were not computed again.
    pub cached_tokens: u64,
    /// Generated tokens.
    pub output_tokens: u64,
}

/// When result files are deleted: so many seconds after they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputExpiry {
    /// From one hour to 30 days, as with `OpenAI`.
    pub seconds: u64,
}

/// A job: the rows of one file.
///
/// It is stored as it is. As `OpenAI`'s batch object, with `object`, `errors` as a list and `usage` with details, it is
/// what [`Batch::to_object`] makes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Batch {
    /// `batch_` and 32 hexadecimal digits.
    pub id: String,
    /// The url of all its rows, such as `/v1/chat/completions`.
    pub endpoint: String,
    /// The model that its rows name, once they were read.
    pub model: Option<String>,
    /// What is wrong with the input, as objects with `code`, `message`, `param` and `line`.
    pub errors: Vec<serde_json::Value>,
    /// The input.
    pub input_file_id: String,
    /// How long it may take: `24h` with `OpenAI`; here any number of hours or days, as `1h` or `7d`.
    pub completion_window: String,
    /// How far it is.
    pub status: BatchStatus,
    /// The answers, once there are any.
    pub output_file_id: Option<String>,
    /// The rows that failed, once there are any.
    pub error_file_id: Option<String>,
    /// When it was created.
    pub created_at: i64,
    /// When its first row could run.
    pub in_progress_at: Option<i64>,
    /// When its completion window is over.
    pub expires_at: i64,
    /// When its last row was done.
    pub finalizing_at: Option<i64>,
    /// When it was complete.
    pub completed_at: Option<i64>,
    /// When it failed.
    pub failed_at: Option<i64>,
    /// When its completion window was found to be over.
    pub expired_at: Option<i64>,
    /// When somebody asked to cancel it.
    pub cancelling_at: Option<i64>,
    /// When it was cancelled.
    pub cancelled_at: Option<i64>,
    /// How many rows it has.
    pub request_counts: RequestCounts,
    /// Its tokens.
    pub usage: BatchUsage,
    /// Up to 16 pairs of the caller's own: keys of 64, values of 512 characters.
    pub metadata: BTreeMap<String, String>,
    /// Larger runs first. An extension of `OpenAI`'s object.
    pub priority: i32,
    /// When its result files are deleted, if that was asked for.
    pub output_expires_after: Option<OutputExpiry>,
    /// Who is told how it goes. An extension.
    pub webhook: Option<WebhookConfig>,
    /// The key that it was created with; empty without keys.
    pub owner: String,
    /// Counts the changes: a change names the version that it changes.
    pub version: i64,
}

impl Batch {
    /// A batch that waits to be validated, for 24 hours at most. All else can be set on it.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::jobs::{Batch, BatchStatus};
    ///
    /// let mut batch = Batch::new("batch_1", "/v1/chat/completions", "file-1", 1_700_000_000);
    /// batch.priority = 10;
    /// assert_eq!((batch.status, batch.expires_at), (BatchStatus::Validating, 1_700_086_400));
    /// ```
    pub fn new(
        id: impl Into<String>,
        endpoint: impl Into<String>,
        input_file_id: impl Into<String>,
        created_at: i64,
    ) -> Self {
        Self {
            id: id.into(),
            endpoint: endpoint.into(),
            model: None,
            errors: Vec::new(),
            input_file_id: input_file_id.into(),
            completion_window: "24h".to_owned(),
            status: BatchStatus::Validating,
            output_file_id: None,
            error_file_id: None,
            created_at,
            in_progress_at: None,
            expires_at: created_at.saturating_add(DAY),
            finalizing_at: None,
            completed_at: None,
            failed_at: None,
            expired_at: None,
            cancelling_at: None,
            cancelled_at: None,
            request_counts: RequestCounts::default(),
            usage: BatchUsage::default(),
            metadata: BTreeMap::new(),
            priority: 0,
            output_expires_after: None,
            webhook: None,
            owner: String::new(),
            version: 0,
        }
    }

    /// Makes it one of the next status, and notes when that was.
    ///
    /// # Errors
    /// [`JobError::InvalidStatus`] if it [cannot become](BatchStatus::can_become) one.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::jobs::{Batch, BatchStatus};
    ///
    /// let mut batch = Batch::new("batch_1", "/v1/embeddings", "file-1", 100);
    /// batch.advance(BatchStatus::InProgress, 107)?;
    /// assert_eq!(batch.in_progress_at, Some(107));
    /// assert_eq!(batch.advance(BatchStatus::Completed, 108).unwrap_err().code(), "invalid_status");
    /// # Ok::<(), vllm_batch::jobs::JobError>(())
    /// ```
    pub fn advance(&mut self, next: BatchStatus, now: i64) -> Result<(), JobError> {
        if !self.status.can_become(next) {
            return Err(self.cannot_be(next.as_str()));
        }
        let since = match next {
            // Nothing becomes this.
            BatchStatus::Validating => return Ok(()),
            BatchStatus::InProgress => &mut self.in_progress_at,
            BatchStatus::Finalizing => &mut self.finalizing_at,
            BatchStatus::Completed => &mut self.completed_at,
            BatchStatus::Failed => &mut self.failed_at,
            BatchStatus::Expired => &mut self.expired_at,
            BatchStatus::Cancelling => &mut self.cancelling_at,
            BatchStatus::Cancelled => &mut self.cancelled_at,
        };
        since.get_or_insert(now);
        self.status = next;
        Ok(())
    }

    /// What it will end as, if it is to end before all its rows are done: because somebody cancelled it, because a part of it
    /// failed for good (then `errors` says why), or because its completion window is over. None of its rows begins any more.
    pub fn ends_early_as(&self) -> Option<BatchStatus> {
        if self.status.is_terminal() {
            None
        } else if self.status == BatchStatus::Cancelling {
            Some(BatchStatus::Cancelled)
        } else if !self.errors.is_empty() {
            Some(BatchStatus::Failed)
        } else {
            self.expired_at.map(|_| BatchStatus::Expired)
        }
    }

    /// As `OpenAI`'s batch object, and its `priority`. The secret of its webhook is not in it.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::jobs::Batch;
    ///
    /// let object = Batch::new("batch_1", "/v1/chat/completions", "file-1", 1_700_000_000).to_object();
    /// assert_eq!((&object["object"], &object["status"]), (&"batch".into(), &"validating".into()));
    /// assert!(object["errors"].is_null());
    /// ```
    pub fn to_object(&self) -> serde_json::Value {
        let errors = (!self.errors.is_empty()).then(|| json!({"object": "list", "data": self.errors}));
        let metadata = (!self.metadata.is_empty()).then_some(&self.metadata);
        json!({
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.model,
            "errors": errors,
            "input_file_id": self.input_file_id,
            "completion_window": self.completion_window,
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "in_progress_at": self.in_progress_at,
            "expires_at": self.expires_at,
            "finalizing_at": self.finalizing_at,
            "completed_at": self.completed_at,
            "failed_at": self.failed_at,
            // It is known before the batch has ended, and there would be two ends.
            "expired_at": self.expired_at.filter(|_| self.status == BatchStatus::Expired),
            "cancelling_at": self.cancelling_at,
            "cancelled_at": self.cancelled_at,
            "request_counts": self.request_counts,
            "usage": self.usage.to_object(),
            "metadata": metadata,
            "priority": self.priority,
        })
    }

    /// Why something is refused.
    pub(super) fn cannot_be(&self, wanted: &'static str) -> JobError {
        JobError::InvalidStatus { id: self.id.clone(), status: self.status.as_str(), wanted }
    }
}

impl BatchUsage {
    /// As `OpenAI`'s usage object. Thoughts are not counted apart.
    fn to_object(self) -> serde_json::Value {
        json!({
            "input_tokens": self.input_tokens,
            "input_tokens_details": {"cached_tokens": self.cached_tokens},
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.input_tokens + self.output_tokens,
        })
    }
}

/// Seconds of a day: the completion window that `OpenAI` has.
const DAY: i64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use async_openai::types::batches as openai;

    use super::*;

    /// What becomes of a batch by itself, until it has ended.
    const WAYS: [&[BatchStatus]; 6] = [
        &[BatchStatus::Failed],
        &[BatchStatus::InProgress, BatchStatus::Finalizing, BatchStatus::Completed],
        &[BatchStatus::InProgress, BatchStatus::Expired],
        &[BatchStatus::InProgress, BatchStatus::Cancelling, BatchStatus::Cancelled],
        &[BatchStatus::InProgress, BatchStatus::Finalizing, BatchStatus::Cancelling, BatchStatus::Cancelled],
        &[BatchStatus::Cancelling, BatchStatus::Failed],
    ];

    #[test]
    fn names_are_those_of_the_api() {
        for status in BatchStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
            assert_eq!(BatchStatus::from_name(status.as_str()), Some(status));
        }
        assert_eq!(BatchStatus::from_name("done"), None);
    }

    #[test]
    fn what_has_ended_becomes_nothing_and_all_else_can_end() {
        for status in BatchStatus::ALL {
            let next: Vec<_> = BatchStatus::ALL.into_iter().filter(|next| status.can_become(*next)).collect();
            assert_eq!(status.is_terminal(), next.is_empty(), "{status:?}");
            assert!(!next.contains(&status) && !next.contains(&BatchStatus::Validating), "{status:?}");
        }
    }

    #[test]
    fn every_way_is_an_object_of_openai() {
        for way in WAYS {
            let mut batch = Batch::new("batch_1", "/v1/chat/completions", "file-1", 1000);
            for (index, next) in way.iter().enumerate() {
                batch.advance(*next, 1001 + index as i64).unwrap();
                let object: openai::Batch = serde_json::from_value(batch.to_object()).unwrap();
                assert_eq!(serde_json::to_value(&object.status).unwrap(), next.as_str());
            }
            assert!(batch.status.is_terminal(), "{way:?}");
        }
    }

    #[test]
    fn the_object_is_the_one_that_openai_describes() {
        let mut batch = Batch::new("batch_1", "/v1/chat/completions", "file-1", 1000);
        batch.model = Some("m".to_owned());
        batch.errors = vec![json!({"code": "invalid_json_line", "message": "no JSON", "param": null, "line": 3})];
        batch.request_counts = RequestCounts { total: 7, completed: 4, failed: 2 };
        batch.usage = BatchUsage { input_tokens: 50, cached_tokens: 20, output_tokens: 9 };
        batch.metadata = BTreeMap::from([("team".to_owned(), "red".to_owned())]);
        batch.advance(BatchStatus::Failed, 1001).unwrap();
        let object: openai::Batch = serde_json::from_value(batch.to_object()).unwrap();
        let expected = json!({
            "id": "batch_1",
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "model": "m",
            "errors": {"object": "list", "data": [{"code": "invalid_json_line", "message": "no JSON", "param": null, "line": 3}]},
            "input_file_id": "file-1",
            "completion_window": "24h",
            "status": "failed",
            "output_file_id": null,
            "error_file_id": null,
            "created_at": 1000,
            "in_progress_at": null,
            "expires_at": 87400,
            "finalizing_at": null,
            "completed_at": null,
            "failed_at": 1001,
            "expired_at": null,
            "cancelling_at": null,
            "cancelled_at": null,
            "request_counts": {"total": 7, "completed": 4, "failed": 2},
            "usage": {
                "input_tokens": 50,
                "input_tokens_details": {"cached_tokens": 20},
                "output_tokens": 9,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 59,
            },
            "metadata": {"team": "red"},
        });
        assert_eq!(serde_json::to_value(object).unwrap(), expected);
    }

    #[test]
    fn the_first_reason_to_end_early_counts_and_no_end_is_shown_before_it_is_there() {
        let mut batch = Batch::new("batch_1", "/v1/embeddings", "file-1", 1000);
        assert_eq!(batch.ends_early_as(), None);
        batch.expired_at = Some(87_400);
        assert_eq!(batch.ends_early_as(), Some(BatchStatus::Expired));
        assert!(batch.to_object()["expired_at"].is_null());
        batch.advance(BatchStatus::Expired, 87_500).unwrap();
        assert_eq!((batch.ends_early_as(), &batch.to_object()["expired_at"]), (None, &87_400.into()));
        assert_eq!(batch.advance(BatchStatus::Cancelling, 1).unwrap_err().code(), "invalid_status");
        assert_eq!(batch.cancelling_at, None);
    }
}
