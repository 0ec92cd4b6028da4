//! What does the router have to know?

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderValue;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::auth::ApiKey;
use crate::limits::KeyLimits;

/// Gives the time in seconds since 1970.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// A clock of one's own, for answers that are the same each time.
    pub fn new(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> u64 {
        (self.0)()
    }
}

impl Default for Clock {
    /// The system's.
    fn default() -> Self {
        Self::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}

/// How a [`Service`](crate::Service) is to behave.
///
/// # Example
/// ```
/// use vllm_batch_http::{ApiKey, KeyLimits, ServiceConfig, hash_key};
///
/// let key = ApiKey::from_sha256("red team", &hash_key("a long secret")).ok_or("no hash")?;
/// let mut config = ServiceConfig::default();
/// config.api_keys = vec![key.with_limits(KeyLimits::default().with_max_live_requests(8))];
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServiceConfig {
    /// Who may ask. Without keys anybody may: such a service must not be reachable from elsewhere.
    pub api_keys: Vec<ApiKey>,
    /// What anybody may do at most, if there are no keys.
    pub anybody: KeyLimits,
    /// Requests of the live endpoints at the same time, of all callers together; more are told to come again. Default 1024.
    pub max_live_requests: usize,
    /// The longest body that is not a file. Default 32 MiB.
    pub max_body_bytes: usize,
    /// How long nothing may come of a body before it is given up. Default 30 seconds.
    pub body_timeout: Duration,
    /// How often a silent stream is shown to be alive, for proxies that would cut it. Default 15 seconds.
    pub keep_alive: Duration,
    /// The web pages, by origin, that may ask from a browser. By default none.
    pub allowed_origins: Vec<HeaderValue>,
    /// Whether people get the web page. Default true.
    pub page: bool,
    /// Where `/metrics` gets its measurements; without it there is no such page.
    pub prometheus: Option<PrometheusHandle>,
    /// Whether callers may register schemas for review. Default false: a schema is there for good.
    pub allow_register_schemas: bool,
    /// Tells answers when they were made.
    pub clock: Clock,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            api_keys: Vec::new(),
            anybody: KeyLimits::default(),
            max_live_requests: 1024,
            max_body_bytes: 32 << 20,
            body_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(15),
            allowed_origins: Vec::new(),
            page: true,
            prometheus: None,
            allow_register_schemas: false,
            clock: Clock::default(),
        }
    }
}
