//! Answers a file of OpenAI batch requests with a model in this process.
//!
//! Without options it takes the demo model and `examples/data/review_passages.jsonl`. Kill it whenever you like and run it
//! again: it goes on where it was.
//!
//! Exit codes: 0 all rows were answered, 1 the run failed, 2 wrong options, 3 the run is complete but some rows failed,
//! 4 the deadline came first, 130 cancelled with Ctrl-C (what was done is kept in both cases).
#![allow(clippy::print_stderr)]

mod demo_model;
#[path = "../vllm_batch-http/src/engine_options.rs"]
mod engine_options;
#[path = "../vllm_batch-http/src/run_options.rs"]
mod run_options;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use engine_options::EngineOptions;
use run_options::{Job, Rules, RunOptions};

/// Answer a file of OpenAI batch requests with a model in this process.
#[derive(Parser)]
struct Options {
    /// Requests, one JSON object a line
    #[arg(long, short, default_value = "examples/data/review_passages.jsonl")]
    input: PathBuf,
    /// Answers, one JSON object a line, appended as they come
    #[arg(long, short, default_value = "out/review_passages.output.jsonl")]
    output: PathBuf,
    /// Which rules the input follows: every line fails alone, OpenAI's (one bad line refuses the file), or those of `vllm
    /// run-batch` (one output file, errors in it)
    #[arg(long, value_enum, default_value_t = Rules::Lenient)]
    contract: Rules,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    engine: EngineOptions,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let job = Job { input: &options.input, output: &options.output, rules: options.contract };
    options.run.run(job, || Ok(Arc::new(options.engine.load(|note| eprintln!("{note}"))?)))
}
