//! Which model answers, and how is it run?
//!
//! The options of an engine, in vLLM's names: the only place where they are described. The commands of the server and the
//! example `run_batch` take them as flags, and a configuration file as keys of its section `[engine]`.

#![allow(unreachable_pub)] // The example includes this file, too.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{NaiveDate, NaiveTime};
use clap::{Args, ValueEnum};
use vllm_batch::text::{ReasoningFormat, ToolCallFormat};
use vllm_batch::{EngineBuilder, KvCacheDtype, LocalEngine, PoolingType, SpeculativeConfig, WeightDtype};

use crate::demo_model;

/// The options of an engine in this process.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineOptions {
    /// A model's folder, a .gguf file, or a hub id such as owner/name [default: the demo model]
    #[arg(long)]
    pub model: Option<String>,
    /// A name that requests may use for the model [default: the model's path or id, and its last part]
    #[arg(long)]
    pub served_model_name: Vec<String>,
    /// The most requests that run at the same time [default: 64]
    #[arg(long)]
    pub max_num_seqs: Option<usize>,
    /// The most tokens that one step computes [default: 512]
    #[arg(long)]
    pub max_num_batched_tokens: Option<usize>,
    /// Choose the two options above, where they are not given, by measuring the machine
    #[arg(long)]
    pub auto_tune: bool,
    /// Context length in tokens [default: the model's, or what fits the KV cache]
    #[arg(long)]
    pub max_model_len: Option<usize>,
    /// Memory for keys and values, in MiB
    #[arg(long, default_value_t = 512)]
    pub kv_cache_memory: usize,
    /// How keys and values are kept in memory: `auto` is `float32` for weights of float32 and `float16` for all others
    #[arg(long, value_enum, default_value_t = CacheDtype::Auto)]
    pub kv_cache_dtype: CacheDtype,
    /// Compute every prompt anew instead of sharing common beginnings
    #[arg(long)]
    pub no_enable_prefix_caching: bool,
    /// The most tokens that are guessed ahead by looking up what was said before, where few requests run; 0 for none. Answers do
    /// not depend on it
    #[arg(long, default_value_t = SpeculativeConfig::default().num_speculative_tokens)]
    pub num_speculative_tokens: usize,
    /// The most tokens that are looked up
    #[arg(long, default_value_t = SpeculativeConfig::default().prompt_lookup_max)]
    pub prompt_lookup_max: usize,
    /// The fewest tokens that must match
    #[arg(long, default_value_t = SpeculativeConfig::default().prompt_lookup_min)]
    pub prompt_lookup_min: usize,
    /// How weights are kept in memory: `auto` leaves quantised tensors as they are, `float32` and the like widen them,
    /// `q8_0` and `q4_0` quantise dense ones as well
    #[arg(long, value_enum, default_value_t = Dtype::Auto)]
    pub dtype: Dtype,
    /// Which hidden states embeddings are made of: LAST, MEAN or CLS [default: as the model says]
    #[arg(long)]
    pub pooling_type: Option<PoolingType>,
    /// How the model marks its thoughts, which then come back apart from the answer: qwen3, `deepseek_r1` or mistral
    /// [default: they are part of the text]
    #[arg(long)]
    pub reasoning_parser: Option<ReasoningFormat>,
    /// How the model writes calls of functions: hermes, `llama3_json` or mistral [default: as its chat template says]
    #[arg(long)]
    pub tool_call_parser: Option<ToolCallFormat>,
    /// An adapter in PEFT's format, and the name by which requests ask for it: NAME=FOLDER
    #[arg(long, value_parser = named_folder)]
    pub lora_modules: Vec<(String, PathBuf)>,
    /// Threads that compute [default: one for each processor]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Seed for requests without one of their own
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The day that prompts say if their template asks for it, such as 2026-01-31 [default: that of the start]
    #[arg(long, value_parser = beginning_of)]
    pub chat_template_date: Option<SystemTime>,
}

/// How weights are kept in memory, in the names of `--dtype`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Dtype {
    Auto,
    Float32,
    Float16,
    Bfloat16,
    #[value(name = "q8_0")]
    Q8,
    #[value(name = "q4_0")]
    Q4,
}

/// How keys and values are kept in memory, in the names of `--kv-cache-dtype`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum CacheDtype {
    Auto,
    Float32,
    Float16,
}

impl EngineOptions {
    /// Loads the model; notes are for people who wait.
    pub fn load(&self, note: impl Fn(&str)) -> Result<LocalEngine, Box<dyn Error>> {
        if let Some(model) = &self.model {
            Ok(self.configure(LocalEngine::builder(model.as_str())).build()?)
        } else {
            let named = |source| LocalEngine::builder(source).served_model_name(demo_model::NAME);
            demo_model::load_with_notes(|source| self.configure(named(source)).build(), note)
        }
    }

    fn configure(&self, builder: EngineBuilder) -> EngineBuilder {
        let mut builder = self
            .limits(builder)
            .kv_cache_dtype(self.kv_cache_dtype.dtype())
            .dtype(self.dtype.dtype())
            .enable_prefix_caching(!self.no_enable_prefix_caching)
            .speculative_config(self.speculative_config())
            .seed(self.seed);
        if let Some(pooling_type) = self.pooling_type {
            builder = builder.pooling_type(pooling_type);
        }
        if let Some(format) = &self.reasoning_parser {
            builder = builder.reasoning_parser(format.clone());
        }
        if let Some(format) = &self.tool_call_parser {
            builder = builder.tool_call_parser(format.clone());
        }
        if let Some(date) = self.chat_template_date {
            builder = builder.chat_template_time(date);
        }
        builder = self.served_model_name.iter().fold(builder, EngineBuilder::served_model_name);
        self.lora_modules.iter().fold(builder, |builder, (name, folder)| builder.lora_adapter(name, folder))
    }

    fn limits(&self, builder: EngineBuilder) -> EngineBuilder {
        let mut builder =
            builder.auto_tune(self.auto_tune).kv_cache_memory(self.kv_cache_memory.saturating_mul(1 << 20));
        if let Some(max_num_seqs) = self.max_num_seqs {
            builder = builder.max_num_seqs(max_num_seqs);
        }
        if let Some(max_num_batched_tokens) = self.max_num_batched_tokens {
            builder = builder.max_num_batched_tokens(max_num_batched_tokens);
        }
        if let Some(max_model_len) = self.max_model_len {
            builder = builder.max_model_len(max_model_len);
        }
        if let Some(threads) = self.threads {
            builder = builder.threads(threads);
        }
        builder
    }

    fn speculative_config(&self) -> Option<SpeculativeConfig> {
        let config = SpeculativeConfig::ngram(self.num_speculative_tokens)
            .with_prompt_lookup(self.prompt_lookup_min, self.prompt_lookup_max);
        (self.num_speculative_tokens > 0).then_some(config)
    }
}

impl Dtype {
    fn dtype(self) -> WeightDtype {
        match self {
            Self::Auto => WeightDtype::Auto,
            Self::Float32 => WeightDtype::F32,
            Self::Float16 => WeightDtype::F16,
            Self::Bfloat16 => WeightDtype::Bf16,
            Self::Q8 => WeightDtype::Q8_0,
            Self::Q4 => WeightDtype::Q4_0,
        }
    }
}

impl CacheDtype {
    fn dtype(self) -> KvCacheDtype {
        match self {
            Self::Auto => KvCacheDtype::Auto,
            Self::Float32 => KvCacheDtype::F32,
            Self::Float16 => KvCacheDtype::F16,
        }
    }
}

fn named_folder(text: &str) -> Result<(String, PathBuf), String> {
    let (name, folder) = text.split_once('=').ok_or("write it as NAME=FOLDER")?;
    Ok((name.to_owned(), folder.into()))
}

fn beginning_of(day: &str) -> Result<SystemTime, String> {
    let day: NaiveDate = day.parse().map_err(|error| format!("{error}; write it as 2026-01-31"))?;
    let seconds = day.and_time(NaiveTime::MIN).and_utc().timestamp();
    u64::try_from(seconds)
        .map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds))
        .map_err(|_| "it is before 1970".into())
}
