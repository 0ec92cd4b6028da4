//! What does a message say?

use serde_json::json;

use super::{Delivery, DeliveryState, WebhookEvent};
use crate::jobs::Batch;

impl Delivery {
    /// The message that tells of a batch, due now; `None` if the batch has no receiver, or one that does not want to be told.
    ///
    /// It has the form of `OpenAI`'s own events (`object`, `id`, `type`, `created_at`, `data.id`), so that
    /// `openai.webhooks.unwrap` reads it; `data` says besides how the batch stands. The id is the same whoever makes the message, and
    /// that of a progress message is the same for all that are made within its `created_at`.
    pub fn of(batch: &Batch, event: WebhookEvent, now: i64) -> Option<Self> {
        if !batch.webhook.as_ref()?.wants(event) {
            return None;
        }
        let id = event_id(batch, event, now);
        let data = json!({
            "id": batch.id,
            "status": batch.status,
            "request_counts": batch.request_counts,
            "input_file_id": batch.input_file_id,
            "output_file_id": batch.output_file_id,
            "error_file_id": batch.error_file_id,
            "metadata": batch.metadata,
        });
        let body = json!({"object": "event", "id": id, "type": event.as_str(), "created_at": now, "data": data});
        Some(Self {
            id,
            batch_id: batch.id.clone(),
            event,
            body: body.to_string(),
            state: DeliveryState::Pending,
            attempts: 0,
            next_attempt_at: now,
            last_error: None,
            created_at: now,
        })
    }
}

/// A batch ends once, so each of its last messages is named by its event; of progress there are many.
fn event_id(batch: &Batch, event: WebhookEvent, now: i64) -> String {
    let batch = batch.id.trim_start_matches("batch_");
    let name = event.as_str().trim_start_matches("batch.");
    if event == WebhookEvent::Progress { format!("evt_{batch}_{name}_{now}") } else { format!("evt_{batch}_{name}") }
}
