//! What is a job, and what may become of it?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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

/// When result files are deleted: so many seconds after the batch was created.
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
    /// When it expired.
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
