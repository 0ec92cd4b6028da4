//! How is a file of batch requests answered without a server?
//!
//! What the command `run-batch` of the server and the example `run_batch` of the library have in common.

#![allow(unreachable_pub, clippy::print_stdout, clippy::print_stderr)] // The example includes this file, too.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use vllm_batch::batch::{BatchRequestOutput, Contract, PlanPolicy, RunStatus};
use vllm_batch::{BatchEngine, BatchReport, BatchRunner, CancellationToken, Progress};

/// How a file is run, besides its contract.
#[derive(Debug, Args)]
pub struct RunOptions {
    /// Rows that failed [default: the output's name with .errors.jsonl]
    #[arg(long)]
    errors: Option<PathBuf>,
    /// Stop after so many seconds [default: never]
    #[arg(long)]
    deadline: Option<u64>,
    /// Go on where an earlier run stopped; with =false an existing output is refused
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    resume: bool,
    /// In which order rows run: those whose prompts begin alike together, or as in the file
    #[arg(long, value_enum, default_value_t = Plan::Prefix)]
    plan: Plan,
    /// Compute rows that ask for the same anew instead of giving them one answer
    #[arg(long)]
    no_deduplicate: bool,
    /// Progress as a bar, as JSON lines on standard error, or not at all [default: a bar on a terminal]
    #[arg(long, value_enum)]
    progress: Option<Show>,
    /// What the run came to: text and the first answers, or one JSON object
    #[arg(long, value_enum, default_value_t = Report::Text)]
    report: Report,
    /// The least time between two reports of progress, in milliseconds
    #[arg(long, default_value_t = 200)]
    progress_interval: u64,
}

/// Whose rules the file follows.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub enum Rules {
    /// Every line fails alone
    Lenient,
    /// OpenAI's: one bad line refuses the file
    Openai,
    /// Those of `vllm run-batch`: one output file, with the errors in it
    Vllm,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Plan {
    Prefix,
    Fifo,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Report {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Show {
    Bar,
    Json,
    None,
}

impl Rules {
    fn contract(self) -> Contract {
        match self {
            Self::Lenient => Contract::Lenient,
            Self::Openai => Contract::open_ai(),
            Self::Vllm => Contract::Vllm,
        }
    }
}

/// A file of requests, and where its answers go.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Requests, one JSON object a line.
    pub input: &'a Path,
    /// Answers, one JSON object a line, appended as they come.
    pub output: &'a Path,
    /// Whose rules the file follows.
    pub rules: Rules,
}

impl RunOptions {
    /// Runs a file, tells how it goes, and says with what the process should end: 0 all rows were answered (in vLLM's rules:
    /// have their row), 1 the run failed, 3 it is complete but some rows failed, 4 the deadline came first, 130 it was
    /// cancelled with Ctrl-C. What is done is kept in each case.
    pub fn run(&self, job: Job<'_>, engine: impl FnOnce() -> Result<Arc<dyn BatchEngine>, Box<dyn Error>>) -> ExitCode {
        match engine().and_then(|engine| self.report(job, engine.as_ref())) {
            Ok(report) => {
                self.print(&report);
                exit_code(&report, job.rules)
            }
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn report(&self, job: Job<'_>, engine: &dyn BatchEngine) -> Result<BatchReport, Box<dyn Error>> {
        if let Some(folder) = job.output.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let token = CancellationToken::new();
        cancel_on_ctrl_c(token.clone())?;
        let default = if std::io::stderr().is_terminal() { Show::Bar } else { Show::None };
        let show = self.progress.unwrap_or(default);
        let bar = if show == Show::Bar { bar()? } else { ProgressBar::hidden() };
        let report = self
            .runner(job, engine)
            .cancellation(token)
            .on_progress(|progress| {
                bar.set_length(progress.total as u64);
                bar.set_position(progress.done() as u64);
                bar.set_message(progress.to_string());
                if show == Show::Json {
                    eprintln!("{}", json(progress));
                }
            })
            .run()?;
        bar.finish_and_clear();
        Ok(report)
    }

    fn runner<'a>(&self, job: Job<'_>, engine: &'a dyn BatchEngine) -> BatchRunner<'a> {
        let mut runner = BatchRunner::new(engine)
            .input(job.input)
            .output(job.output)
            .contract(job.rules.contract())
            .resume(self.resume)
            .plan(match self.plan {
                Plan::Prefix => PlanPolicy::Prefix,
                Plan::Fifo => PlanPolicy::Fifo,
            })
            .deduplicate(!self.no_deduplicate)
            .progress_interval(Duration::from_millis(self.progress_interval));
        if let Some(errors) = &self.errors {
            runner = runner.errors(errors);
        }
        if let Some(seconds) = self.deadline {
            runner = runner.deadline(Duration::from_secs(seconds));
        }
        runner
    }

    fn print(&self, report: &BatchReport) {
        match self.report {
            Report::Text => {
                println!("{report}");
                show_some(&report.output_path);
            }
            Report::Json => println!("{}", serde_json::json!(report)),
        }
    }
}

fn exit_code(report: &BatchReport, rules: Rules) -> ExitCode {
    match (report.status, report.failed + report.skipped_failed) {
        (RunStatus::Cancelled, _) => ExitCode::from(130),
        (RunStatus::Expired, _) => ExitCode::from(4),
        (_, 0) => ExitCode::SUCCESS,
        // Failed rows are no failure to `vllm run-batch`.
        _ if rules == Rules::Vllm => ExitCode::SUCCESS,
        _ => ExitCode::from(3),
    }
}

/// The first Ctrl-C ends the run after the rows that are being written; the second one ends the process.
fn cancel_on_ctrl_c(token: CancellationToken) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(move || {
        if token.is_cancelled() {
            std::process::exit(130);
        }
        eprintln!("Stopping; what is done is kept. Press Ctrl-C again to stop at once.");
        token.cancel();
    })
}

fn bar() -> Result<ProgressBar, Box<dyn Error>> {
    let style = ProgressStyle::with_template("{bar:30} {msg}")?;
    Ok(ProgressBar::new(0).with_style(style))
}

fn json(progress: &Progress) -> serde_json::Value {
    serde_json::json!({
        "total": progress.total,
        "completed": progress.completed,
        "failed": progress.failed,
        "skipped": progress.skipped,
        "deduplicated": progress.deduplicated,
        "running": progress.running,
        "prompt_tokens": progress.prompt_tokens,
        "cached_tokens": progress.cached_tokens,
        "generated_tokens": progress.generated_tokens,
        "elapsed_seconds": progress.elapsed.as_secs_f64(),
        "tokens_per_second": progress.tokens_per_second,
        "eta_seconds": progress.eta.map(|eta| eta.as_secs()),
    })
}

/// The first answers, so that there is something to look at.
fn show_some(output: &Path) {
    let Ok(file) = File::open(output) else { return };
    let lines = BufReader::new(file).lines().map_while(Result::ok).take(3);
    for row in lines.filter_map(|line| serde_json::from_str::<BatchRequestOutput>(&line).ok()) {
        if let Some(answer) = row.response.and_then(|response| response.body.text().map(str::to_owned)) {
            println!("\n{}: {}", row.custom_id.unwrap_or_default(), answer.trim());
        }
    }
}
