//! Who is told how a batch goes?
//!
//! A [`Delivery`] is a message that the store keeps until it was taken: it is written in the transaction that ends the batch.
//! A [`WebhookSender`] signs it ([`WebhookSecret`], after [Standard Webhooks](https://www.standardwebhooks.com)) and sends it,
//! to addresses that the [`WebhookPolicy`] allows, until it is taken or has no more tries.
//!
//! # Invariants
//! * The bytes that are signed are the bytes that are sent, and never change between tries.
//! * A connection goes to an address that was checked, never to what a name came to mean later.

mod event;
mod host;
mod policy;
mod post;
mod secret;
mod sender;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::BatchStatus;

pub use host::{AllowedHost, InvalidHost};
pub use policy::{WebhookPolicy, WebhookUrlError, validate_webhook};
pub use secret::{InvalidSecret, SignatureError, WebhookSecret, verify_webhook};
pub use sender::{SenderOptions, WebhookSender};

/// What a receiver may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WebhookEvent {
    /// `batch.completed`
    #[serde(rename = "batch.completed")]
    Completed,
    /// `batch.failed`
    #[serde(rename = "batch.failed")]
    Failed,
    /// `batch.cancelled`
    #[serde(rename = "batch.cancelled")]
    Cancelled,
    /// `batch.expired`
    #[serde(rename = "batch.expired")]
    Expired,
    /// `batch.progress`
    #[serde(rename = "batch.progress")]
    Progress,
}

impl WebhookEvent {
    /// Every event.
    pub const ALL: [Self; 5] = [Self::Completed, Self::Failed, Self::Cancelled, Self::Expired, Self::Progress];

    /// As messages write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "batch.completed",
            Self::Failed => "batch.failed",
            Self::Cancelled => "batch.cancelled",
            Self::Expired => "batch.expired",
            Self::Progress => "batch.progress",
        }
    }

    /// What is told when a batch gets this status; `None` if it goes on.
    pub fn of_status(status: BatchStatus) -> Option<Self> {
        match status {
            BatchStatus::Completed => Some(Self::Completed),
            BatchStatus::Failed => Some(Self::Failed),
            BatchStatus::Cancelled => Some(Self::Cancelled),
            BatchStatus::Expired => Some(Self::Expired),
            _ => None,
        }
    }
}

/// Where events of a batch go.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookConfig {
    /// An `https` address, or `http` where that is allowed.
    pub url: String,
    /// The secret of Standard Webhooks, `whsec_` and base64; without one the server's own is used.
    pub secret: Option<String>,
    /// The events; all but progress if it is empty.
    #[serde(default)]
    pub events: Vec<WebhookEvent>,
}

impl WebhookConfig {
    /// Whether the receiver wants to be told of it.
    pub fn wants(&self, event: WebhookEvent) -> bool {
        if self.events.is_empty() { event != WebhookEvent::Progress } else { self.events.contains(&event) }
    }
}

impl std::fmt::Debug for WebhookConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out of logs.
        formatter
            .debug_struct("WebhookConfig")
            .field("url", &self.url)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

/// How a message to a receiver stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeliveryState {
    /// It waits for its next try.
    Pending,
    /// It was taken.
    Delivered,
    /// No more tries are made.
    Dead,
}

/// A message to a receiver, as it is sent: the body never changes between tries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Delivery {
    /// The `webhook-id`: the same in each try.
    pub id: String,
    /// The batch.
    pub batch_id: String,
    /// The event.
    pub event: WebhookEvent,
    /// The bytes that are signed and sent.
    pub body: String,
    /// How it stands.
    pub state: DeliveryState,
    /// Tries so far.
    pub attempts: i64,
    /// When the next try is due.
    pub next_attempt_at: i64,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When the event happened.
    pub created_at: i64,
}
