//! The server: `serve`, `worker`, `run-batch` and what belongs to them.

mod cli;
mod commands;
mod connection;
mod demo_model;
mod engine_options;
mod logging;
mod run_options;
mod settings;
mod shutdown;
mod tls;

use std::process::ExitCode;

fn main() -> ExitCode {
    let matches = cli::command().get_matches();
    match matches.subcommand() {
        Some((name, matches)) => commands::run(name, matches),
        None => ExitCode::from(commands::WRONG_OPTIONS),
    }
}
