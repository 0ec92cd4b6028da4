//! One try over HTTP.

use std::fmt;
use std::time::{Duration, SystemTime};

use ureq::http::{HeaderValue, Response};
use ureq::{Agent, Body};

use super::refusal;
use super::worker::Failure;
use crate::http;

/// How to reach the server.
#[derive(Clone)]
pub(super) struct Connection {
    /// Where the API begins, without a slash at the end.
    pub(super) base_url: String,
    /// Never shown.
    pub(super) api_key: Option<String>,
    /// Of one try, from the connection to the last byte.
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) max_response_bytes: u64,
    pub(super) max_connections: usize,
}

/// Speaks HTTP with one server, over a pool of connections.
pub(super) struct Client {
    agent: Agent,
    connection: Connection,
    authorization: Option<HeaderValue>,
}

/// What the server answered, whatever its status.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

impl Client {
    /// `None` if the key has characters that a header cannot carry.
    pub(super) fn new(connection: Connection) -> Option<Self> {
        let authorization = match &connection.api_key {
            None => None,
            Some(key) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {key}")).ok()?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let agent = http::agent(connection.connect_timeout, connection.max_connections);
        Some(Self { agent, connection, authorization })
    }

    /// Sends a JSON body. The try takes `time_left` at most.
    pub(super) fn post(&self, path: &str, body: &[u8], time_left: Duration) -> Result<Reply, Failure> {
        let mut request = self.agent.post(self.url(path)).header("content-type", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization.clone());
        }
        let timeout = self.connection.timeout.min(time_left);
        let sent = request.config().timeout_global(Some(timeout)).build().send(body);
        self.receive(sent)
    }

    /// Asks for what is at a path.
    pub(super) fn get(&self, path: &str) -> Result<Reply, Failure> {
        let mut request = self.agent.get(self.url(path));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization.clone());
        }
        self.receive(request.config().timeout_global(Some(self.connection.timeout)).build().call())
    }

    /// Takes the key out of a text that comes from elsewhere: some servers repeat it when they refuse it.
    fn without_key(&self, text: String) -> String {
        match &self.connection.api_key {
            Some(key) if !key.is_empty() => text.replace(key, "[key]"),
            _ => text,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.connection.base_url)
    }

    fn receive(&self, sent: Result<Response<Body>, ureq::Error>) -> Result<Reply, Failure> {
        let response = sent.map_err(|error| self.failure(&error, None))?;
        let status = response.status().as_u16();
        let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = header.and_then(|header| http::retry_after(header, SystemTime::now()));
        let body = response.into_body().into_with_config().limit(self.connection.max_response_bytes).read_to_vec();
        let body = body.map_err(|error| self.failure(&error, Some(status)))?;
        // Errors are shown and kept, answers are not.
        let body = if status == 200 {
            body
        } else {
            self.without_key(String::from_utf8_lossy(&body).into_owned()).into_bytes()
        };
        Ok(Reply { status, retry_after, body })
    }

    fn failure(&self, error: &ureq::Error, status: Option<u16>) -> Failure {
        if let (ureq::Error::BodyExceedsLimit(limit), Some(status)) = (error, status) {
            return Failure::Final(refusal::too_large(status, *limit));
        }
        let code = if matches!(error, ureq::Error::Timeout(_)) { "timeout" } else { "connection_failed" };
        let message = self.without_key(error.to_string());
        Failure::Transient { error: refusal::no_answer(code, message), retry_after: None }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("base_url", &self.connection.base_url).finish_non_exhaustive()
    }
}
