//! What only HTTP has of batches.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vllm_batch::batch::{BatchRequestOutput, ResponseBody};
use vllm_batch::jobs::{NewBatch, OutputExpiry, Page, WebhookConfig, WebhookEvent};

/// A batch to be created.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateBatch {
    /// An uploaded file with the purpose `batch`.
    input_file_id: String,
    /// The url of all its lines.
    #[schema(example = "/v1/chat/completions")]
    endpoint: String,
    /// How long the batch may take: `24h`, or another number of hours or days from `1h` to `30d`.
    #[schema(example = "24h")]
    completion_window: String,
    /// Up to 16 pairs: keys of 64, values of 512 characters.
    metadata: Option<BTreeMap<String, String>>,
    /// When the result files are to be deleted.
    output_expires_after: Option<ExpiresAfter>,
    /// Larger runs first. An extension.
    #[schema(minimum = -100, maximum = 100, default = 0)]
    priority: Option<i32>,
    /// Who is told how the batch goes. An extension.
    webhook: Option<NewWebhook>,
}

/// When files are to be deleted.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpiresAfter {
    /// From when the seconds count.
    #[schema(inline)]
    #[allow(dead_code, reason = "there is one anchor")]
    anchor: ExpiryAnchor,
    /// From one hour to 30 days.
    #[schema(minimum = 3600, maximum = 2_592_000)]
    seconds: u64,
}

/// From when seconds count.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExpiryAnchor {
    /// From the creation of the file.
    CreatedAt,
}

/// A receiver of messages (Standard Webhooks).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewWebhook {
    /// Where to send them.
    #[schema(example = "https://example.com/hooks")]
    url: String,
    /// The secret that they are signed with, `whsec_` and base64; by default the server's own.
    secret: Option<String>,
    /// Which events; by default all but `batch.progress`.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    events: Vec<WebhookEvent>,
}

impl std::fmt::Debug for NewWebhook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("NewWebhook")
            .field("url", &self.url)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

impl CreateBatch {
    pub(crate) fn into_new_batch(self, owner: &str) -> NewBatch {
        let mut new = NewBatch::new(self.input_file_id, self.endpoint);
        new.completion_window = self.completion_window;
        new.metadata = self.metadata.unwrap_or_default();
        new.priority = self.priority.unwrap_or_default();
        new.output_expires_after = self.output_expires_after.map(|expiry| OutputExpiry { seconds: expiry.seconds });
        new.webhook = self.webhook.map(|webhook| WebhookConfig {
            url: webhook.url,
            secret: webhook.secret,
            events: webhook.events,
        });
        owner.clone_into(&mut new.owner);
        new
    }
}

/// A part of the rows that failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FailedList {
    /// Always `list`.
    object: &'static str,
    /// The rows, in the order of the error file.
    data: Vec<FailedRow>,
    /// Whether there are more.
    has_more: bool,
}

/// A row that failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FailedRow {
    /// The name of its line.
    #[schema(required)]
    custom_id: Option<String>,
    /// The number of its line, where the line is at fault.
    #[schema(required)]
    line: Option<u64>,
    /// The HTTP status of its answer, if it was answered.
    #[schema(required)]
    status_code: Option<u16>,
    /// A stable name for programs.
    #[schema(required)]
    code: Option<String>,
    /// The parameter at fault.
    #[schema(required)]
    param: Option<String>,
    /// A sentence for people.
    message: String,
}

impl FailedList {
    pub(crate) fn new(page: Page<BatchRequestOutput>) -> Self {
        Self { object: "list", data: page.data.into_iter().map(FailedRow::from).collect(), has_more: page.has_more }
    }
}

impl From<BatchRequestOutput> for FailedRow {
    fn from(row: BatchRequestOutput) -> Self {
        let (custom_id, status_code) = (row.custom_id, row.response.as_ref().map(|response| response.status_code));
        let nothing = Self { custom_id, line: None, status_code, code: None, param: None, message: String::new() };
        match (row.error, row.response.map(|response| response.body)) {
            (Some(error), _) => Self {
                line: error.line,
                code: Some(error.code.into()),
                param: error.param,
                message: error.message,
                ..nothing
            },
            (None, Some(ResponseBody::Error { error })) => {
                Self { code: error.code.map(String::from), param: error.param, message: error.message, ..nothing }
            }
            (None, _) => nothing,
        }
    }
}
