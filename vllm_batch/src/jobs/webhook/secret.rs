//! How does a receiver know who sent a message?

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::batch::base64;

/// What texts of secrets begin with.
const PREFIX: &str = "whsec_";
/// What signatures of this kind begin with.
const VERSION: &str = "v1";
/// Bytes of a key, after the specification.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret of [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md):
/// `whsec_` and 24 to 64 bytes in base64. It is never printed.
///
/// # Example
/// ```
/// use vllm_batch::jobs::{WebhookSecret, verify_webhook};
///
/// let secret: WebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?;
/// let body = br#"{"test": 2432232314}"#;
/// let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
/// assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
///
/// let headers = [
///     ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
///     ("webhook-timestamp", "1614265330"),
///     ("webhook-signature", &signature),
/// ];
/// verify_webhook(headers, body, &[secret], 1_614_265_400, 300)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret {
    key: Vec<u8>,
}

/// A text that is no secret. It is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a webhook secret is whsec_ and 24 to 64 bytes in base64")]
pub struct InvalidSecret;

impl FromStr for WebhookSecret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let key = text.strip_prefix(PREFIX).and_then(base64::decode_bytes).ok_or(InvalidSecret)?;
        if KEY_BYTES.contains(&key.len()) { Ok(Self { key }) } else { Err(InvalidSecret) }
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WebhookSecret")
    }
}

impl WebhookSecret {
    /// One signature of a message: `v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signature = self.mac(id, &timestamp.to_string(), body).finalize().into_bytes();
        format!("{VERSION},{}", base64::encode_bytes(&signature))
    }

    /// # Panics
    /// Never: HMAC takes keys of any length.
    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key of any length");
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }
}

/// Why a message does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// A header that each message has is not there.
    #[error("the header {header} is missing")]
    MissingHeader {
        /// The header.
        header: &'static str,
    },
    /// The timestamp is no number of seconds, or too far from now: somebody may be repeating an old message.
    #[error("the timestamp is not within {tolerance} seconds of now")]
    Timestamp {
        /// How far it may be away.
        tolerance: i64,
    },
    /// No signature is one by a known secret.
    #[error("no signature is by a known secret")]
    NoMatch,
}

impl SignatureError {
    /// A stable word for it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingHeader { .. } => "missing_header",
            Self::Timestamp { .. } => "timestamp_out_of_tolerance",
            Self::NoMatch => "no_matching_signature",
        }
    }
}

/// Checks that a message was signed with one of the secrets, at most `tolerance` seconds away from `now`: what receivers do.
/// How long it takes does not depend on how much of a signature is right. `body` is what was received, byte by byte.
///
/// # Errors
/// [`SignatureError`].
pub fn verify_webhook<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    body: &[u8],
    secrets: &[WebhookSecret],
    now: i64,
    tolerance: i64,
) -> Result<(), SignatureError> {
    let [mut id, mut timestamp, mut signatures] = [None; 3];
    for (name, value) in headers {
        match name.to_ascii_lowercase().as_str() {
            "webhook-id" => id = Some(value),
            "webhook-timestamp" => timestamp = Some(value),
            "webhook-signature" => signatures = Some(value),
            _ => {}
        }
    }
    let missing = |header| SignatureError::MissingHeader { header };
    let id = id.ok_or_else(|| missing("webhook-id"))?;
    let timestamp = timestamp.ok_or_else(|| missing("webhook-timestamp"))?;
    let signatures = signatures.ok_or_else(|| missing("webhook-signature"))?;
    let sent: i64 = timestamp.parse().map_err(|_| SignatureError::Timestamp { tolerance })?;
    if sent.abs_diff(now) > tolerance.unsigned_abs() {
        return Err(SignatureError::Timestamp { tolerance });
    }
    let ours = signatures.split(' ').filter_map(|one| one.strip_prefix(VERSION)?.strip_prefix(','));
    for signature in ours.filter_map(base64::decode_bytes) {
        let is_right = |secret: &WebhookSecret| secret.mac(id, timestamp, body).verify_slice(&signature).is_ok();
        if secrets.iter().any(is_right) {
            return Ok(());
        }
    }
    Err(SignatureError::NoMatch)
}
