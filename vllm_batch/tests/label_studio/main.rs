//! The Label Studio client: against a server on loopback that does what real ones do on bad days, and against a real one.
#![cfg(feature = "label-studio")]
#![allow(clippy::unwrap_used)]

mod base64;
mod client;
#[path = "../../../examples/demo_model/mod.rs"]
mod demo_model;
mod fake;
mod import;
mod pipeline;
mod real;
#[path = "../remote/server.rs"]
#[allow(dead_code)] // What it has for engines.
mod server;
