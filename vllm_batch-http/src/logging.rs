//! What is written down of what happens?
//!
//! Lines on standard error, as text or JSON. What stands in them of a request is the router's choice: neither its query nor its
//! headers or body, where secrets may be.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::settings::{LogConfig, LogFormat};

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
