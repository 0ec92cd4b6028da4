//! How does one message go to its receiver, once?

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ureq::Agent;
use ureq::unversioned::resolver::{DefaultResolver, Resolver};
use ureq::unversioned::transport::DefaultConnector;

use super::policy::CheckedResolver;
use super::{Delivery, WebhookConfig, WebhookPolicy, WebhookSecret};
use crate::http;

/// How a try went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The receiver took it.
    Delivered,
    /// The receiver wants no more messages.
    Gone,
    /// It may work later, not before the pause that the receiver asked for.
    Failed { message: String, retry_after: Option<Duration> },
}

impl Attempt {
    fn failed(message: &impl ToString) -> Self {
        Self::Failed { message: message.to_string(), retry_after: None }
    }
}

/// Sends messages. Blocks the thread.
#[derive(Debug)]
pub(super) struct Poster {
    agent: Agent,
    policy: Arc<WebhookPolicy>,
    timeout: Duration,
}

impl Poster {
    pub(super) fn new(policy: Arc<WebhookPolicy>, timeout: Duration) -> Self {
        Self::with_resolver(policy, timeout, DefaultResolver::default())
    }

    /// A poster that looks names up in its own way.
    pub(super) fn with_resolver(policy: Arc<WebhookPolicy>, timeout: Duration, inner: impl Resolver) -> Self {
        // No connection is kept: receivers are many and get a message now and then.
        let config = http::config(timeout, 0);
        let resolver = CheckedResolver { inner, policy: policy.clone() };
        let agent = Agent::with_parts(config, DefaultConnector::default(), resolver);
        Self { agent, policy, timeout }
    }

    /// Sends a message once, signed at this time. What the receiver says besides its status is not read: it is not for whoever
    /// made the batch, who may not be able to call the receiver.
    pub(super) fn post(&self, receiver: &WebhookConfig, delivery: &Delivery, now: i64) -> Attempt {
        let url = match self.policy.check_url(&receiver.url) {
            Ok(url) => url,
            Err(error) => return Attempt::failed(&error),
        };
        let signature = match self.sign(receiver, delivery, now) {
            Ok(signature) => signature,
            Err(message) => return Attempt::failed(&message),
        };
        let request = self.agent.post(url.as_str()).header("content-type", "application/json");
        let request = request.header("webhook-id", &delivery.id).header("webhook-timestamp", now.to_string());
        let request = request.header("webhook-signature", signature);
        let sent = request.config().timeout_global(Some(self.timeout)).build().send(delivery.body.as_str());
        match sent {
            Ok(response) if response.status().is_success() => Attempt::Delivered,
            Ok(response) if response.status() == 410 => Attempt::Gone,
            Ok(response) => {
                let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
                let retry_after = header.and_then(|header| http::retry_after(header, SystemTime::now()));
                Attempt::Failed { message: format!("status {}", response.status().as_u16()), retry_after }
            }
            Err(error) => Attempt::failed(&error),
        }
    }

    /// A signature by each secret, with spaces between them.
    fn sign(&self, receiver: &WebhookConfig, delivery: &Delivery, now: i64) -> Result<String, String> {
        let own = receiver.secret.as_ref().map(|secret| secret.parse::<WebhookSecret>());
        let own = own.transpose().map_err(|error| error.to_string())?;
        let secrets = own.as_ref().map_or(&self.policy.secrets[..], std::slice::from_ref);
        let signatures: Vec<_> =
            secrets.iter().map(|secret| secret.sign(&delivery.id, now, delivery.body.as_bytes())).collect();
        if signatures.is_empty() { Err("there is no secret to sign with".to_owned()) } else { Ok(signatures.join(" ")) }
    }
}
