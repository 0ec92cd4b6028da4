//! The program as whoever runs it meets it: its configuration, `run-batch`, and a server that is killed, starved and told to stop.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod connections;
mod crash;
mod run_batch;
mod serve;
mod settings;
mod support;
