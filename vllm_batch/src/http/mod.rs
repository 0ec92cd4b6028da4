//! How does this crate speak HTTP?
//!
//! What all clients have in common: connections, the check of a URL, and pauses between tries. Each client has its own
//! requests and errors.

mod backoff;

use std::time::Duration;

use ureq::Agent;
use ureq::config::{AutoHeaderValue, Config};
use ureq::http::Uri;

#[cfg(feature = "jobs")]
pub(crate) use backoff::random;
pub(crate) use backoff::{RetryPolicy, retry_after};

/// Servers close idle connections; uvicorn, on which many of them run, after five seconds.
const MAX_IDLE_AGE: Duration = Duration::from_secs(4);

/// A pool of connections that keeps every status, follows no redirect and reads no environment variable.
pub(crate) fn agent(connect_timeout: Duration, max_connections: usize) -> Agent {
    config(connect_timeout, max_connections).new_agent()
}

/// What all agents have in common.
pub(crate) fn config(connect_timeout: Duration, max_connections: usize) -> Config {
    Agent::config_builder()
        .http_status_as_error(false)
        // A key must not follow a redirect, nor a POST become a GET.
        .max_redirects(0)
        .max_redirects_will_error(false)
        // By default, environment variables decide.
        .proxy(None)
        .timeout_connect(Some(connect_timeout))
        .max_idle_connections(max_connections)
        .max_idle_connections_per_host(max_connections)
        .max_idle_age(MAX_IDLE_AGE)
        // The limit on a body's length is to hold for what is read.
        .accept_encoding(AutoHeaderValue::None)
        .user_agent(concat!("vllm_batch/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Whether the same request may succeed a moment later.
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 425 | 429) || status >= 500
}

/// The URL without slashes at its end. What is refused is not repeated, only why: it may hold a password.
pub(crate) fn checked_url(url: &str) -> Result<String, &'static str> {
    let url = url.trim_end_matches('/');
    let Ok(uri) = url.parse::<Uri>() else {
        return Err("is not a URL, such as http://127.0.0.1:8000");
    };
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    if !matches!(uri.scheme_str(), Some("http" | "https")) || !has_host {
        return Err("must begin with http:// or https:// and a host");
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("must not hold a user or a password: give the key apart from it");
    }
    if uri.query().is_some() || url.contains('#') {
        return Err("must not have a query or a fragment");
    }
    Ok(url.to_owned())
}
