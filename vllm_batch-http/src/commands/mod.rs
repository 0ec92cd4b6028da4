//! What can the program do?

#![allow(clippy::print_stdout, clippy::print_stderr)] // Commands print what they were asked for, and why they failed.

mod hash_key;
mod jobs;
mod migrate;
mod run_batch;
mod serve;
mod worker;

use std::error::Error;
use std::process::ExitCode;

use clap::ArgMatches;
use tokio::runtime::Runtime;

use crate::cli;
use crate::logging;
use crate::settings::{Config, Problem};

/// The exit code for wrong options and configurations, as clap has it.
pub(crate) const WRONG_OPTIONS: u8 = 2;

/// Why a command could not do what it should.
type Failure = Box<dyn Error + Send + Sync>;

/// Runs a command to its end.
pub(crate) fn run(name: &str, matches: &ArgMatches) -> ExitCode {
    match name {
        "openapi" => finished(print_openapi()),
        "hash-key" => finished(hash_key::run(matches)),
        _ => configured(name, matches),
    }
}

/// Runs a command that needs a configuration.
fn configured(name: &str, matches: &ArgMatches) -> ExitCode {
    let config = cli::origin(name, matches).map_err(|problem| vec![problem]).and_then(Config::load);
    let config = match config {
        Ok(config) => config,
        Err(problems) => return wrong(&problems),
    };
    if matches.get_flag("print-config") {
        print!("{}", config.to_toml());
        return ExitCode::SUCCESS;
    }
    logging::start(&config.log);
    match name {
        "serve" => finished(serve::run(&config)),
        "worker" => finished(worker::run(&config)),
        "migrate" => finished(migrate::run(&config)),
        _ => run_batch::run(&config, matches),
    }
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn print_openapi() -> Result<(), Failure> {
    println!("{}", serde_json::to_string_pretty(&vllm_batch_http::openapi())?);
    Ok(())
}

fn finished(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wrong(problems: &[Problem]) -> ExitCode {
    match problems {
        [_] => eprintln!("error: the configuration is wrong:"),
        problems => eprintln!("error: the configuration has {} problems:", problems.len()),
    }
    for problem in problems {
        eprintln!("  {problem}");
    }
    ExitCode::from(WRONG_OPTIONS)
}
