//! The program as whoever runs it meets it: its configuration, `run-batch`, and a server that is killed, starved and told to stop.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, clippy::too_many_lines)]
#![cfg(unix)]

mod connections;
mod crash;
mod run_batch;
mod serve;
mod settings;
mod support;
