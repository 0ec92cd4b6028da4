//! One call over HTTP, with the token that it needs, and again where that is safe.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use ureq::http::{HeaderValue, Method, Request, Response};
use ureq::{Agent, Body};

use super::token::{AccessToken, Token};
use super::{LabelStudioError, refusal};
use crate::http::{self, RetryPolicy};

type Result<T> = std::result::Result<T, LabelStudioError>;
type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A client for a Label Studio server (Community Edition 1.20 and later), for any kind of token.
///
/// Calls block. One client may be used by several threads at a time. A GET is tried again where that may help, with growing
/// pauses of random length; what changes something is never sent twice on a guess. The token is never shown, nor sent anywhere
/// else.
///
/// # Example
/// ```no_run
/// use vllm_batch::pipeline::label_studio::LabelStudio;
///
/// let server = LabelStudio::builder("http://127.0.0.1:8080", "0123456789abcdef0123456789abcdef01234567").build()?;
/// println!("Label Studio {} for {}", server.version()?, server.whoami()?);
/// # Ok::<(), vllm_batch::pipeline::label_studio::LabelStudioError>(())
/// ```
pub struct LabelStudio {
    agent: Agent,
    options: LabelStudioBuilder,
    token: Token,
    /// Got for a personal token.
    access: Mutex<Option<AccessToken>>,
}

/// The options of a [`LabelStudio`] client.
#[derive(Clone)]
#[must_use = "`build` makes the client"]
pub struct LabelStudioBuilder {
    url: String,
    token: String,
    timeout: Duration,
    connect_timeout: Duration,
    max_response_bytes: u64,
    policy: RetryPolicy,
    clock: Clock,
}

impl LabelStudioBuilder {
    /// How long one try may take, from the connection to the last byte. Default one minute.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a connection may take to be made. Default 10 seconds.
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// The longest answer that is held in memory; exports are not. Default 256 MiB.
    pub fn max_response_bytes(mut self, max_response_bytes: u64) -> Self {
        self.max_response_bytes = max_response_bytes;
        self
    }

    /// How often a call is tried again. Default 5.
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.policy.max_retries = max_retries;
        self
    }

    /// The longest pause before the second try; it doubles with each further one up to 30 seconds, and a random part of it is
    /// waited. Default half a second. What the server asks for with `Retry-After` is added.
    pub fn retry_base(mut self, retry_base: Duration) -> Self {
        self.policy.base = retry_base;
        self
    }

    /// How long all tries and pauses of one call may take together. Default 10 minutes.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.policy.deadline = deadline;
        self
    }

    /// What says when an access token ends; for tests. Default: the system's clock.
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Checks the options. The server is not asked.
    ///
    /// # Errors
    /// [`LabelStudioError::InvalidOption`].
    pub fn build(mut self) -> Result<LabelStudio> {
        let invalid = |option, message: &str| LabelStudioError::InvalidOption { option, message: message.to_owned() };
        self.url = http::checked_url(&self.url).map_err(|message| invalid("url", message))?;
        let token = Token::of(&self.token);
        if token.secret().is_empty() || !token.secret().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid("token", "must consist of visible ASCII characters"));
        }
        if self.timeout.is_zero() || self.connect_timeout.is_zero() {
            return Err(invalid("timeout", "must be above zero"));
        }
        let agent = http::agent(self.connect_timeout, 4);
        Ok(LabelStudio { agent, token, options: self, access: Mutex::default() })
    }
}

impl fmt::Debug for LabelStudioBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL that has not been checked may hold a password.
        formatter.debug_struct("LabelStudioBuilder").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// What the server answered, whatever its status.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

impl LabelStudio {
    /// The options of a client for the server at `url`, such as `http://127.0.0.1:8080`. `token` is a legacy token, a personal
    /// access token, which is exchanged for access tokens as they end, or an access token.
    pub fn builder(url: impl Into<String>, token: impl Into<String>) -> LabelStudioBuilder {
        LabelStudioBuilder {
            url: url.into(),
            token: token.into(),
            timeout: Duration::from_mins(1),
            connect_timeout: Duration::from_secs(10),
            max_response_bytes: 256 << 20,
            policy: RetryPolicy {
                max_retries: 5,
                base: Duration::from_millis(500),
                max_pause: Duration::from_secs(30),
                deadline: Duration::from_mins(10),
            },
            clock: Arc::new(SystemTime::now),
        }
    }

    /// Where the server is, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.options.url
    }

    /// The server's version, such as `1.23.2`.
    ///
    /// # Errors
    /// As all calls: what the network or the server has against it.
    pub fn version(&self) -> Result<String> {
        let version = self.get("/api/version")?;
        let release = version["release"].as_str().or_else(|| version["label-studio-os-package"]["version"].as_str());
        release.map(str::to_owned).ok_or_else(|| unexpected("no version is there"))
    }

    /// The e-mail address of the token's owner.
    ///
    /// # Errors
    /// As all calls; [`LabelStudioError::Unauthorized`] if the token is no good.
    pub fn whoami(&self) -> Result<String> {
        text(&self.get("/api/current-user/whoami")?, "email")
    }

    /// Asks for JSON, as often as need be.
    pub(super) fn get(&self, path: &str) -> Result<Value> {
        self.again(|| self.once(&Method::GET, path, None).and_then(|reply| json_of(&reply, path)))
    }

    /// Sends something once. An empty answer is null.
    pub(super) fn send(&self, method: &Method, path: &str, body: &Value) -> Result<Value> {
        json_of(&self.once(method, path, Some(&body.to_string()))?, path)
    }

    /// Sends something that may be sent twice.
    pub(super) fn send_again(&self, method: &Method, path: &str, body: &Value) -> Result<Value> {
        self.again(|| self.send(method, path, body))
    }

    /// Asks for something large; what is read of it is for `read`, which is not called twice.
    pub(super) fn download<T>(&self, path: &str, read: impl FnOnce(&mut dyn Read) -> Result<T>) -> Result<T> {
        let response = self.again(|| {
            let response = self.respond(&Method::GET, path, None)?;
            match response.status().as_u16() {
                200..=299 => Ok(response),
                _ => Err(refusal::of_reply(&self.read(response)?, path)),
            }
        })?;
        read(&mut response.into_body().into_reader())
    }

    /// Tries until it works, or may not be expected to.
    pub(super) fn again<T>(&self, mut call: impl FnMut() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let mut tries = 1;
        loop {
            match call() {
                Err(error) if error.is_retryable() && self.pause(tries, started, error.retry_after()) => {
                    tracing::debug!(tries, %error, "trying again");
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    /// Waits before another try; false if there are to be no more of them.
    pub(super) fn pause(&self, tries: u32, started: Instant, retry_after: Option<Duration>) -> bool {
        let policy = &self.options.policy;
        let pause = policy.pause(tries, retry_after);
        if tries > policy.max_retries || started.elapsed().saturating_add(pause) > policy.deadline {
            return false;
        }
        thread::sleep(pause);
        true
    }

    /// One call, and a second one if it was the access token that had ended.
    pub(super) fn once(&self, method: &Method, path: &str, body: Option<&str>) -> Result<Reply> {
        self.read(self.respond(method, path, body)?)
    }

    /// Deletes what is there.
    pub(super) fn delete(&self, path: &str) -> Result<()> {
        json_of(&self.once(&Method::DELETE, path, None)?, path).map(drop)
    }

    fn respond(&self, method: &Method, path: &str, body: Option<&str>) -> Result<Response<Body>> {
        let authorization = self.authorization()?;
        let response = self.exchange(method, path, body, Some(&authorization))?;
        if response.status() != 401 || !matches!(self.token, Token::Personal(_)) {
            return Ok(response);
        }
        self.forget(&authorization);
        self.exchange(method, path, body, Some(&self.authorization()?))
    }

    /// What is sent to show who asks.
    fn authorization(&self) -> Result<String> {
        match &self.token {
            Token::Legacy(token) => Ok(format!("Token {token}")),
            Token::Access(token) => Ok(format!("Bearer {token}")),
            Token::Personal(token) => Ok(format!("Bearer {}", self.access_token(token)?)),
        }
    }

    fn access_token(&self, refresh: &str) -> Result<String> {
        const PATH: &str = "/api/token/refresh/";
        let mut access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = access.as_ref().filter(|token| token.is_good((self.options.clock)())) {
            return Ok(token.text.clone());
        }
        let body = json!({"refresh": refresh}).to_string();
        let answer = self.again(|| {
            let reply = self.read(self.exchange(&Method::POST, PATH, Some(&body), None)?)?;
            json_of(&reply, PATH)
        })?;
        let token = AccessToken::new(text(&answer, "access")?);
        Ok(access.insert(token).text.clone())
    }

    /// Drops an access token that was refused, unless another thread has got a new one.
    fn forget(&self, authorization: &str) {
        let mut access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        access.take_if(|token| authorization.ends_with(&token.text));
    }

    fn exchange(
        &self,
        method: &Method,
        path: &str,
        body: Option<&str>,
        authorization: Option<&str>,
    ) -> Result<Response<Body>> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.options.url));
        if let Some(authorization) = authorization {
            let mut value = HeaderValue::from_str(authorization).map_err(|error| unexpected(&error.to_string()))?;
            value.set_sensitive(true);
            request = request.header("authorization", value);
        }
        let timeout = Some(self.options.timeout);
        let invalid = |error: ureq::http::Error| LabelStudioError::Connection { message: error.to_string() };
        let sent = if let Some(body) = body {
            let request = request.header("content-type", "application/json").body(body).map_err(invalid)?;
            self.agent.run(self.agent.configure_request(request).timeout_global(timeout).build())
        } else {
            let request = request.body(()).map_err(invalid)?;
            self.agent.run(self.agent.configure_request(request).timeout_global(timeout).build())
        };
        sent.map_err(|error| self.failure(&error))
    }

    fn read(&self, response: Response<Body>) -> Result<Reply> {
        let status = response.status().as_u16();
        let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = header.and_then(|header| http::retry_after(header, SystemTime::now()));
        let body = response.into_body().into_with_config().limit(self.options.max_response_bytes).read_to_vec();
        let body = body.map_err(|error| self.failure(&error))?;
        Ok(Reply { status, retry_after, body })
    }

    fn failure(&self, error: &ureq::Error) -> LabelStudioError {
        let message = error.to_string().replace(self.token.secret(), "[token]");
        match error {
            ureq::Error::BodyExceedsLimit(limit) => LabelStudioError::ResponseTooLarge { limit: *limit },
            ureq::Error::Timeout(_) => LabelStudioError::Timeout { message },
            _ => LabelStudioError::Connection { message },
        }
    }
}

impl fmt::Debug for LabelStudio {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LabelStudio").field("url", &self.options.url).finish_non_exhaustive()
    }
}

/// The JSON of an answer that says yes; null if it is empty.
pub(super) fn json_of(reply: &Reply, path: &str) -> Result<Value> {
    if !(200..300).contains(&reply.status) {
        return Err(refusal::of_reply(reply, path));
    }
    if reply.body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&reply.body)
        .map_err(|error| LabelStudioError::InvalidResponse { status: reply.status, message: error.to_string() })
}

/// An answer with something missing.
pub(super) fn unexpected(message: &str) -> LabelStudioError {
    LabelStudioError::InvalidResponse { status: 200, message: message.to_owned() }
}

/// A text of an answer.
pub(super) fn text(value: &Value, key: &str) -> Result<String> {
    value[key].as_str().map(str::to_owned).ok_or_else(|| unexpected(&format!("it has no text {key:?}")))
}

/// A number of an answer.
pub(super) fn number(value: &Value, key: &str) -> Result<u64> {
    value[key].as_u64().ok_or_else(|| unexpected(&format!("it has no number {key:?}")))
}

/// A text as part of a URL's query.
pub(super) fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        use std::fmt::Write as _;
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
        encoded
    })
}
