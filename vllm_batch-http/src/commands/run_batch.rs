//! `run-batch`: a file of requests, and no server.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, FromArgMatches};

use super::WRONG_OPTIONS;
use crate::run_options::{Job, Rules, RunOptions};
use crate::settings::Config;

/// Answers a file, as `vllm run-batch` does, with its flags.
pub(super) fn run(config: &Config, matches: &ArgMatches) -> ExitCode {
    let (input, output) = (matches.get_one::<PathBuf>("input-file"), matches.get_one::<PathBuf>("output-file"));
    let rules = matches.get_one::<Rules>("contract").copied();
    let (Some(input), Some(output), Some(rules), Ok(options)) =
        (input, output, rules, RunOptions::from_arg_matches(matches))
    else {
        // clap lets nothing through that lacks one of them.
        return ExitCode::from(WRONG_OPTIONS);
    };
    options.run(Job { input, output, rules }, || config.engine.load(|note| tracing::warn!("{note}")))
}
