//! What happened on the server, as it says itself?
//!
//! Label Studio signs no event, sends none twice and waits a second for an answer. So an event is a hint: it says what to read
//! again, and a snapshot now and then finds what no event told.

use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{encode, number};
use super::{LabelStudio, LabelStudioError};

/// Checks events that a server sends, and reads what they are about.
///
/// # Example
/// ```
/// use vllm_batch::pipeline::label_studio::WebhookReceiver;
///
/// let receiver = WebhookReceiver::new("X-Secret", "abc");
/// let body = br#"{"action": "ANNOTATION_CREATED", "annotation": {"id": 7}, "task": {"id": 5}, "project": {"id": 2}}"#;
/// let event = receiver.verify([("x-secret", "abc")], body)?;
/// assert_eq!((event.action.as_str(), event.project, event.tasks, event.annotations), ("ANNOTATION_CREATED", Some(2), vec![5], vec![7]));
/// assert_eq!(receiver.verify([("x-secret", "abd")], body).unwrap_err().code(), "wrong_secret");
/// # Ok::<(), vllm_batch::pipeline::label_studio::WebhookError>(())
/// ```
#[derive(Clone)]
pub struct WebhookReceiver {
    header: String,
    secret: String,
}

/// What an event is about. All else is to be read again: it may be old, and come twice or never.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebhookEvent {
    /// What happened, such as `ANNOTATION_UPDATED` or `TASKS_DELETED`.
    pub action: String,
    /// In which project.
    pub project: Option<u64>,
    /// With which tasks.
    pub tasks: Vec<u64>,
    /// With which annotations.
    pub annotations: Vec<u64>,
}

/// Why an event does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// It does not have the secret.
    #[error("the header {header} does not have the secret")]
    WrongSecret {
        /// The header.
        header: String,
    },
    /// It is not an event of Label Studio.
    #[error("this is not an event of Label Studio: {message}")]
    Malformed {
        /// What is wrong.
        message: String,
    },
}

impl WebhookError {
    /// A stable word for it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::WrongSecret { .. } => "wrong_secret",
            Self::Malformed { .. } => "malformed_event",
        }
    }
}

impl WebhookReceiver {
    /// A receiver of events that have a secret in a header; see [`LabelStudio::create_webhook`].
    pub fn new(header: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { header: header.into(), secret: secret.into() }
    }

    /// Reads an event, if it has the secret. How long that takes does not depend on how much of the secret is right. An empty
    /// secret is never right.
    ///
    /// # Errors
    /// [`WebhookError`].
    pub fn verify<'a>(
        &self,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: &[u8],
    ) -> Result<WebhookEvent, WebhookError> {
        let mut values = headers.into_iter().filter(|(name, _)| name.eq_ignore_ascii_case(&self.header));
        let value = values.next().map_or("", |(_, value)| value);
        if self.secret.is_empty() || !is_equal(value.as_bytes(), self.secret.as_bytes()) {
            return Err(WebhookError::WrongSecret { header: self.header.clone() });
        }
        let malformed = |message: String| WebhookError::Malformed { message };
        let event: Value = serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))?;
        let action = event["action"].as_str().ok_or_else(|| malformed("it has no action".to_owned()))?;
        Ok(WebhookEvent {
            action: action.to_owned(),
            project: event["project"]["id"].as_u64().or_else(|| event["project"].as_u64()),
            tasks: ids(&event, ["task", "tasks"]),
            annotations: ids(&event, ["annotation", "annotations"]),
        })
    }
}

impl std::fmt::Debug for WebhookReceiver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WebhookReceiver").field("header", &self.header).finish_non_exhaustive()
    }
}

/// The ids of one thing or of a list of things: numbers, or objects that have one.
fn ids(event: &Value, keys: [&str; 2]) -> Vec<u64> {
    let id = |value: &Value| value.as_u64().or_else(|| value["id"].as_u64());
    let mut all: Vec<u64> = Vec::new();
    for value in keys.into_iter().filter_map(|key| event.get(key)) {
        match value {
            Value::Array(items) => all.extend(items.iter().filter_map(id)),
            one => all.extend(id(one)),
        }
    }
    all
}

/// Compares all bytes, wherever the first difference is.
fn is_equal(left: &[u8], right: &[u8]) -> bool {
    let difference = left.iter().zip(right).fold(0, |all, (left, right)| all | std::hint::black_box(left ^ right));
    left.len() == right.len() && difference == 0
}

impl LabelStudio {
    /// Lets the server send all events of a project to a URL, with a secret in a header. One that sends to this URL already is
    /// replaced. Says its number.
    ///
    /// # Errors
    /// As all calls.
    pub fn create_webhook(&self, project: u64, url: &str, receiver: &WebhookReceiver) -> Result<u64, LabelStudioError> {
        let body = json!({
            "project": project, "url": url, "send_payload": true, "send_for_all_actions": true, "is_active": true,
            "headers": {receiver.header.as_str(): receiver.secret},
        });
        let mut is_lost = false;
        self.again(|| {
            let hooks = self.get(&format!("/api/webhooks/?project={}", encode(&project.to_string())))?;
            let old = hooks.as_array().into_iter().flatten().find(|hook| hook["url"] == url);
            match old {
                Some(hook) if is_lost => number(hook, "id"),
                Some(hook) => {
                    let path = format!("/api/webhooks/{}/", number(hook, "id")?);
                    number(&self.send(&Method::PATCH, &path, &body)?, "id")
                }
                None => {
                    is_lost = true;
                    number(&self.send(&Method::POST, "/api/webhooks/", &body)?, "id")
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(headers: &[(&str, &str)], body: &str) -> Result<WebhookEvent, &'static str> {
        let receiver = WebhookReceiver::new("X-Secret", "abc");
        receiver.verify(headers.iter().copied(), body.as_bytes()).map_err(|error| error.code())
    }

    #[test]
    fn only_the_whole_secret_counts() {
        let body = r#"{"action": "TASKS_DELETED", "tasks": [{"id": 1}, {"id": 2}], "project": {"id": 3}}"#;
        for headers in
            [&[][..], &[("X-Secret", "")], &[("X-Secret", "ab")], &[("X-Secret", "abcd")], &[("Other", "abc")]]
        {
            assert_eq!(verify(headers, body), Err("wrong_secret"), "{headers:?}");
        }
        let event = verify(&[("x-SECRET", "abc")], body).unwrap();
        assert_eq!((event.project, event.tasks, event.annotations), (Some(3), vec![1, 2], vec![]));
        assert_eq!(
            WebhookReceiver::new("a", "").verify([("a", "")], body.as_bytes()).unwrap_err().code(),
            "wrong_secret"
        );
        assert!(!format!("{:?}", WebhookReceiver::new("a", "hunter2")).contains("hunter2"));
    }

    #[test]
    fn what_is_no_event_is_named() {
        for body in ["", "[]", "{}", "{\"action\": 1}", "null"] {
            assert_eq!(verify(&[("X-Secret", "abc")], body), Err("malformed_event"), "{body}");
        }
    }
}
