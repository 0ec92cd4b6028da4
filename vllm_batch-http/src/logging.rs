//! What is written down of what happens?
//!
//! Lines on standard error, as text or JSON. Of a request: method, path, status, time, who asked and its id; never its query,
//! headers or body, where secrets may be.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::Instant;

use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Starts the log of this process.
pub(crate) fn start(log: &LogConfig) {
    // The level was checked with the configuration.
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}

/// Writes a line for each request, once its answer begins.
pub(crate) async fn log_request(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let client = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.to_string());
    let response = next.run(request).await;
    let request_id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok());
    let (status, millis) = (response.status().as_u16(), started.elapsed().as_millis() as u64);
    // What asks all the time whether the server lives is no news.
    if ["/health", "/ready", "/metrics"].iter().any(|probe| path.ends_with(probe)) && status < 400 {
        tracing::debug!(%method, path, status, millis, client, request_id, "request");
    } else {
        tracing::info!(%method, path, status, millis, client, request_id, "request");
    }
    response
}
