//! The options of a remote engine, checked once.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::RemoteEngine;
use super::body::Flavour;
use super::client::{Client, Connection};
use super::worker::{Failure, Worker};
use crate::engine::EngineSpec;
use crate::error::LoadError;
use crate::http::{RetryPolicy, checked_url};
use crate::request::TaskKind;

/// Each request at the server costs a thread here.
const MOST_SEQS: usize = 4096;
/// Points in time further away cannot be told on every system.
const LONGEST: Duration = Duration::from_hours(24 * 366);
const TIME: &str = "must be above zero and at most a year";

/// The options of a [`RemoteEngine`].
#[derive(Clone)]
pub struct RemoteEngineBuilder {
    connection: Connection,
    model: Option<String>,
    flavour: Flavour,
    revision: Option<String>,
    max_model_len: Option<usize>,
    policy: RetryPolicy,
    discover: bool,
}

impl RemoteEngineBuilder {
    pub(super) fn new(base_url: String) -> Self {
        let connection = Connection {
            base_url,
            api_key: None,
            timeout: Duration::from_mins(10),
            connect_timeout: Duration::from_secs(10),
            max_response_bytes: 64 << 20,
            max_connections: 64,
        };
        let policy = RetryPolicy {
            max_retries: 5,
            base: Duration::from_millis(500),
            max_pause: Duration::from_mins(1),
            deadline: Duration::from_hours(1),
        };
        let (model, revision, max_model_len) = (None, None, None);
        Self { connection, model, flavour: Flavour::default(), revision, max_model_len, policy, discover: false }
    }

    /// The model's name at the server. Needed unless the server is asked with [`discover`](Self::discover).
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// The key that the server wants, sent as `Authorization: Bearer …`. It is never shown or logged.
    #[must_use]
    pub fn api_key(mut self, api_key: impl Into<String>) -> Self {
        self.connection.api_key = Some(api_key.into());
        self
    }

    /// Which parameters the server has. Default: `OpenAI`'s.
    #[must_use]
    pub fn flavour(mut self, flavour: Flavour) -> Self {
        self.flavour = flavour;
        self
    }

    /// Asks the server for its models (`/models`) when the engine is built: for the name, if none is given and the server
    /// has one model only; else whether it has that name; and for the context length, if it says it. Default false: the
    /// server is not asked, and need not run yet.
    #[must_use]
    pub fn discover(mut self, discover: bool) -> Self {
        self.discover = discover;
        self
    }

    /// Identifies what answers: rows of a journal are reused for the same revision only. Default: made of the URL, the
    /// model's name and the flavour. Give one of your own if the same model moves to another address, or if another model
    /// may come under the same name.
    #[must_use]
    pub fn revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = Some(revision.into());
        self
    }

    /// The context length to state in the [`EngineSpec`]. Default: what the server says, else unlimited; the server checks
    /// it in any case.
    #[must_use]
    pub fn max_model_len(mut self, max_model_len: usize) -> Self {
        self.max_model_len = Some(max_model_len);
        self
    }

    /// How many requests are at the server at a time, from 1 to 4096. Default 64.
    #[must_use]
    pub fn max_num_seqs(mut self, max_num_seqs: usize) -> Self {
        self.connection.max_connections = max_num_seqs;
        self
    }

    /// How long one try may take, from the connection to the last byte. Default 10 minutes.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.connection.timeout = timeout;
        self
    }

    /// How long a connection may take to be made. Default 10 seconds.
    #[must_use]
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connection.connect_timeout = connect_timeout;
        self
    }

    /// How often a request is tried again. Default 5.
    #[must_use]
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.policy.max_retries = max_retries;
        self
    }

    /// The longest pause before the second try; it doubles with each further one, and a random part of it is waited.
    /// Default half a second. What the server asks for with `Retry-After` is added.
    #[must_use]
    pub fn retry_base(mut self, retry_base: Duration) -> Self {
        self.policy.base = retry_base;
        self
    }

    /// No pause is longer than this, unless the server asks for it. Default one minute.
    #[must_use]
    pub fn max_retry_pause(mut self, max_retry_pause: Duration) -> Self {
        self.policy.max_pause = max_retry_pause;
        self
    }

    /// How long all tries and pauses of one request may take together, from the first try on. A pause that would end later
    /// is not begun. Default one hour.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.policy.deadline = deadline;
        self
    }

    /// The longest answer that is read. Default 64 MiB.
    #[must_use]
    pub fn max_response_bytes(mut self, max_response_bytes: u64) -> Self {
        self.connection.max_response_bytes = max_response_bytes;
        self
    }

    /// Checks the options, asks the server if it is to be asked, and starts the threads.
    ///
    /// # Errors
    /// [`LoadError::InvalidOption`], [`LoadError::Server`] if the server was asked in vain, [`LoadError::Threads`].
    pub fn build(mut self) -> Result<RemoteEngine, LoadError> {
        self.connection.base_url =
            checked_url(&self.connection.base_url).map_err(|message| invalid("base_url", message))?;
        self.check_ranges()?;
        let client = Client::new(self.connection.clone())
            .ok_or_else(|| invalid("api_key", "must consist of visible ASCII characters"))?;
        let (model, max_model_len) = if self.discover {
            let models = self.models(&client)?;
            let entry = self.choose(models)?;
            (entry.id, entry.max_model_len)
        } else {
            let message = "must be given, unless the server is asked for it with discover";
            (self.model.clone().ok_or_else(|| invalid("model", message))?, None)
        };
        let spec = self.spec(&model, max_model_len);
        RemoteEngine::start(spec, Worker { client, model, flavour: self.flavour, policy: self.policy })
    }

    fn check_ranges(&self) -> Result<(), LoadError> {
        let is_time = |duration: Duration| !duration.is_zero() && duration <= LONGEST;
        let checks = [
            ("max_num_seqs", (1..=MOST_SEQS).contains(&self.connection.max_connections), "must be from 1 to 4096"),
            ("timeout", is_time(self.connection.timeout), TIME),
            ("connect_timeout", is_time(self.connection.connect_timeout), TIME),
            ("deadline", is_time(self.policy.deadline), TIME),
            ("max_response_bytes", self.connection.max_response_bytes > 0, "must not be zero"),
            ("max_model_len", self.max_model_len != Some(0), "must not be zero"),
            ("model", self.model.as_deref() != Some(""), "must not be empty"),
        ];
        match checks.into_iter().find(|(_, is_right, _)| !is_right) {
            Some((option, _, message)) => Err(invalid(option, message)),
            None => Ok(()),
        }
    }

    fn models(&self, client: &Client) -> Result<Vec<ModelEntry>, LoadError> {
        let failed = |message: String| LoadError::Server { url: self.connection.base_url.clone(), message };
        let reply = client.get("/models").map_err(|failure| match failure {
            Failure::Transient { error, .. } | Failure::Final(error) => failed(error.to_string()),
        })?;
        if reply.status != 200 {
            let body: String = String::from_utf8_lossy(&reply.body).chars().take(500).collect();
            return Err(failed(format!("`/models` answered with HTTP {}: {body}", reply.status)));
        }
        let list = serde_json::from_slice::<ModelList>(&reply.body);
        list.map(|list| list.data).map_err(|error| failed(format!("`/models` has no list of models: {error}")))
    }

    fn choose(&self, mut models: Vec<ModelEntry>) -> Result<ModelEntry, LoadError> {
        let wanted = |entry: &ModelEntry| self.model.as_ref().is_none_or(|model| *model == entry.id);
        let names = models.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>().join(", ");
        let message = format!("the server has these: {names}");
        models.retain(wanted);
        match models.pop() {
            Some(entry) if models.is_empty() || self.model.is_some() => Ok(entry),
            _ => Err(LoadError::InvalidOption { option: "model", message }),
        }
    }

    fn spec(&self, model: &str, max_model_len: Option<usize>) -> EngineSpec {
        let made = || format!("remote {} {model} {:?}", self.connection.base_url, self.flavour);
        let mut spec = EngineSpec::new(model, self.revision.clone().unwrap_or_else(made));
        spec.supported_tasks.retain(|task| *task != TaskKind::Score);
        spec.max_num_seqs = self.connection.max_connections;
        spec.max_model_len = self.max_model_len.or(max_model_len).unwrap_or(spec.max_model_len);
        spec
    }
}

impl fmt::Debug for RemoteEngineBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connection = &self.connection;
        // A URL that has not been checked may hold a password.
        formatter
            .debug_struct("RemoteEngineBuilder")
            .field("model", &self.model)
            .field("flavour", &self.flavour)
            .field("max_num_seqs", &connection.max_connections)
            .field("timeout", &connection.timeout)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<ModelEntry>,
}

#[derive(Deserialize)]
struct ModelEntry {
    id: String,
    /// vLLM says it.
    #[serde(default)]
    max_model_len: Option<usize>,
}

fn invalid(option: &'static str, message: &str) -> LoadError {
    LoadError::InvalidOption { option, message: message.to_owned() }
}
