//! Answers a file of OpenAI batch requests with a model in this process.
//!
//! Without options it takes the demo model and `examples/data/review_passages.jsonl`. Kill it whenever you like and run it
//! again: it goes on where it was.
//!
//! Exit codes: 0 all rows were answered, 1 the run failed, 2 wrong options, 3 the run is complete but some rows failed,
//! 4 the deadline came first, 130 cancelled with Ctrl-C (what was done is kept in both cases).
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod demo_model;

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{NaiveDate, NaiveTime};
use clap::{ArgAction, Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use vllm_batch::batch::{BatchRequestOutput, Contract, PlanPolicy, RunStatus};
use vllm_batch::{
    BatchReport, BatchRunner, CancellationToken, EngineBuilder, KvCacheDtype, LocalEngine, PoolingType, Progress,
    SpeculativeConfig, WeightDtype,
};

/// Answer a file of OpenAI batch requests with a model in this process.
#[derive(Parser)]
// Each is a switch of its own.
#[allow(clippy::struct_excessive_bools)]
struct Options {
    /// A model's folder, a .gguf file, or a hub id such as owner/name [default: the demo model]
    #[arg(long)]
    model: Option<String>,
    /// A name that requests may use for the model [default: the model's path or id, and its last part]
    #[arg(long)]
    served_model_name: Vec<String>,
    /// Requests, one JSON object a line
    #[arg(long, short, default_value = "examples/data/review_passages.jsonl")]
    input: PathBuf,
    /// Answers, one JSON object a line, appended as they come
    #[arg(long, short, default_value = "out/review_passages.output.jsonl")]
    output: PathBuf,
    /// Rows that failed [default: the output's name with .errors.jsonl]
    #[arg(long)]
    errors: Option<PathBuf>,
    /// Which rules the input follows: every line fails alone, OpenAI's (one bad line refuses the file), or those of `vllm
    /// run-batch` (one output file, errors in it)
    #[arg(long, value_enum, default_value_t = Rules::Lenient)]
    contract: Rules,
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
    /// The most requests that run at the same time [default: 64]
    #[arg(long)]
    max_num_seqs: Option<usize>,
    /// The most tokens that one step computes [default: 512]
    #[arg(long)]
    max_num_batched_tokens: Option<usize>,
    /// Choose the two options above, where they are not given, by measuring the machine
    #[arg(long)]
    auto_tune: bool,
    /// Context length in tokens [default: the model's, or what fits the KV cache]
    #[arg(long)]
    max_model_len: Option<usize>,
    /// Memory for keys and values, in MiB
    #[arg(long, default_value_t = 512)]
    kv_cache_memory: usize,
    /// How keys and values are kept in memory: `auto` is `float32` for weights of float32 and `float16` for all others
    #[arg(long, value_enum, default_value_t = CacheDtype::Auto)]
    kv_cache_dtype: CacheDtype,
    /// Compute every prompt anew instead of sharing common beginnings
    #[arg(long)]
    no_enable_prefix_caching: bool,
    /// The most tokens that are guessed ahead by looking up what was said before, where few requests run; 0 for none. Answers do
    /// not depend on it
    #[arg(long, default_value_t = SpeculativeConfig::default().num_speculative_tokens)]
    num_speculative_tokens: usize,
    /// The most tokens that are looked up
    #[arg(long, default_value_t = SpeculativeConfig::default().prompt_lookup_max)]
    prompt_lookup_max: usize,
    /// The fewest tokens that must match
    #[arg(long, default_value_t = SpeculativeConfig::default().prompt_lookup_min)]
    prompt_lookup_min: usize,
    /// How weights are kept in memory: `auto` leaves quantised tensors as they are, `float32` and the like widen them,
    /// `q8_0` and `q4_0` quantise dense ones as well
    #[arg(long, value_enum, default_value_t = Dtype::Auto)]
    dtype: Dtype,
    /// Which hidden states embeddings are made of: LAST, MEAN or CLS
    #[arg(long, default_value_t = PoolingType::Last)]
    pooling_type: PoolingType,
    /// Threads that compute [default: one for each processor]
    #[arg(long)]
    threads: Option<usize>,
    /// Seed for requests without one of their own
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The day that all prompts of the file say if their template asks for it, such as 2026-01-31 [default: that of the run]
    #[arg(long, value_parser = beginning_of)]
    chat_template_date: Option<SystemTime>,
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

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    Auto,
    Float32,
    Float16,
    Bfloat16,
    #[value(name = "q8_0")]
    Q8,
    #[value(name = "q4_0")]
    Q4,
}

#[derive(Clone, Copy, ValueEnum)]
enum CacheDtype {
    Auto,
    Float32,
    Float16,
}

#[derive(Clone, Copy, ValueEnum)]
enum Rules {
    Lenient,
    Openai,
    Vllm,
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

#[derive(Clone, Copy, ValueEnum)]
enum Plan {
    Prefix,
    Fifo,
}

impl Plan {
    fn policy(self) -> PlanPolicy {
        match self {
            Self::Prefix => PlanPolicy::Prefix,
            Self::Fifo => PlanPolicy::Fifo,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Report {
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Show {
    Bar,
    Json,
    None,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(report) => {
            match options.report {
                Report::Text => {
                    println!("{report}");
                    show_some(&report.output_path);
                }
                Report::Json => println!("{}", serde_json::json!(report)),
            }
            match (report.status, report.failed + report.skipped_failed) {
                (RunStatus::Cancelled, _) => ExitCode::from(130),
                (RunStatus::Expired, _) => ExitCode::from(4),
                (_, 0) => ExitCode::SUCCESS,
                _ => ExitCode::from(3),
            }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<BatchReport, Box<dyn Error>> {
    let engine = engine(options)?;
    if let Some(folder) = options.output.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let token = CancellationToken::new();
    cancel_on_ctrl_c(token.clone())?;
    let default = if std::io::stderr().is_terminal() { Show::Bar } else { Show::None };
    let show = options.progress.unwrap_or(default);
    let bar = if show == Show::Bar { bar()? } else { ProgressBar::hidden() };
    let mut runner = BatchRunner::new(&engine)
        .input(&options.input)
        .output(&options.output)
        .contract(options.contract.contract())
        .resume(options.resume)
        .plan(options.plan.policy())
        .deduplicate(!options.no_deduplicate)
        .cancellation(token)
        .progress_interval(Duration::from_millis(options.progress_interval))
        .on_progress(|progress| {
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done() as u64);
            bar.set_message(progress.to_string());
            if show == Show::Json {
                eprintln!("{}", json(progress));
            }
        });
    if let Some(errors) = &options.errors {
        runner = runner.errors(errors);
    }
    if let Some(seconds) = options.deadline {
        runner = runner.deadline(Duration::from_secs(seconds));
    }
    let report = runner.run()?;
    bar.finish_and_clear();
    Ok(report)
}

fn engine(options: &Options) -> Result<LocalEngine, Box<dyn Error>> {
    match &options.model {
        Some(model) => Ok(configure(options, LocalEngine::builder(model.as_str())).build()?),
        None => demo_model::load(|source| {
            configure(options, LocalEngine::builder(source).served_model_name(demo_model::NAME)).build()
        }),
    }
}

fn configure(options: &Options, mut builder: EngineBuilder) -> EngineBuilder {
    builder = builder
        .auto_tune(options.auto_tune)
        .kv_cache_memory(options.kv_cache_memory.saturating_mul(1 << 20))
        .kv_cache_dtype(match options.kv_cache_dtype {
            CacheDtype::Auto => KvCacheDtype::Auto,
            CacheDtype::Float32 => KvCacheDtype::F32,
            CacheDtype::Float16 => KvCacheDtype::F16,
        })
        .enable_prefix_caching(!options.no_enable_prefix_caching)
        .dtype(match options.dtype {
            Dtype::Auto => WeightDtype::Auto,
            Dtype::Float32 => WeightDtype::F32,
            Dtype::Float16 => WeightDtype::F16,
            Dtype::Bfloat16 => WeightDtype::Bf16,
            Dtype::Q8 => WeightDtype::Q8_0,
            Dtype::Q4 => WeightDtype::Q4_0,
        })
        .speculative_config(speculative_config(options))
        .pooling_type(options.pooling_type)
        .seed(options.seed);
    if let Some(max_num_seqs) = options.max_num_seqs {
        builder = builder.max_num_seqs(max_num_seqs);
    }
    if let Some(max_num_batched_tokens) = options.max_num_batched_tokens {
        builder = builder.max_num_batched_tokens(max_num_batched_tokens);
    }
    if let Some(max_model_len) = options.max_model_len {
        builder = builder.max_model_len(max_model_len);
    }
    if let Some(threads) = options.threads {
        builder = builder.threads(threads);
    }
    if let Some(date) = options.chat_template_date {
        builder = builder.chat_template_time(date);
    }
    options.served_model_name.iter().fold(builder, EngineBuilder::served_model_name)
}

fn speculative_config(options: &Options) -> Option<SpeculativeConfig> {
    let config = SpeculativeConfig::ngram(options.num_speculative_tokens)
        .with_prompt_lookup(options.prompt_lookup_min, options.prompt_lookup_max);
    (options.num_speculative_tokens > 0).then_some(config)
}

fn beginning_of(day: &str) -> Result<SystemTime, String> {
    let day: NaiveDate = day.parse().map_err(|error| format!("{error}; write it as 2026-01-31"))?;
    let seconds = day.and_time(NaiveTime::MIN).and_utc().timestamp();
    u64::try_from(seconds)
        .map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds))
        .map_err(|_| "it is before 1970".into())
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
