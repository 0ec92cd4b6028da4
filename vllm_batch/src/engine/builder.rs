//! From options to an engine, everything checked once.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::ThreadPool;

use super::EngineSpec;
use super::conversation::Parsers;
use super::core::EngineCore;
use super::local::LocalEngine;
use super::lower::Lowering;
use super::speculate::SpeculativeConfig;
use super::tune::{Tuned, tune};
use crate::error::LoadError;
use crate::kernels::{KvCacheDtype, Team, WeightDtype};
use crate::model::{BLOCK_SIZE, KvCache, ModelFiles, ModelSource, ModelSpec, Network};
use crate::request::{PoolingType, TaskKind};
use crate::sched::{Scheduler, SchedulerConfig};
use crate::text::{ReasoningFormat, ToolCallFormat};

/// Where the model is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
}

/// The options of a [`LocalEngine`], in vLLM's names.
///
/// # Example
/// ```no_run
/// use vllm_batch::LocalEngine;
///
/// let engine = LocalEngine::builder("HuggingFaceTB/SmolLM2-135M-Instruct")
///     .max_num_seqs(64)
///     .kv_cache_memory(1 << 30)
///     .build()?;
/// # Ok::<(), vllm_batch::LoadError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct EngineBuilder {
    source: ModelSource,
    device: Device,
    dtype: WeightDtype,
    max_num_seqs: Option<usize>,
    max_num_batched_tokens: Option<usize>,
    auto_tune: bool,
    max_model_len: Option<usize>,
    kv_cache_dtype: KvCacheDtype,
    kv_cache_memory: usize,
    enable_prefix_caching: bool,
    speculative_config: Option<SpeculativeConfig>,
    threads: Option<usize>,
    seed: u64,
    pooling_type: Option<PoolingType>,
    served_model_names: Vec<String>,
    lora_paths: Vec<PathBuf>,
    lora_adapters: Vec<(String, PathBuf)>,
    parsers: Parsers,
    chat_template_time: Option<SystemTime>,
}

/// Bytes of KV cache unless [`EngineBuilder::kv_cache_memory`] says otherwise.
const DEFAULT_KV_CACHE_MEMORY: usize = 512 << 20;
/// The options that [`EngineBuilder::auto_tune`] would choose, without it.
const DEFAULTS: Tuned = Tuned { max_num_seqs: 64, max_num_batched_tokens: 512 };
/// Part of every revision: raised when the same options and weights come to give other answers.
const NUMERICS_VERSION: u32 = 1;

impl EngineBuilder {
    pub(super) fn new(source: ModelSource) -> Self {
        Self {
            source,
            device: Device::default(),
            dtype: WeightDtype::default(),
            max_num_seqs: None,
            max_num_batched_tokens: None,
            auto_tune: false,
            max_model_len: None,
            kv_cache_dtype: KvCacheDtype::default(),
            kv_cache_memory: DEFAULT_KV_CACHE_MEMORY,
            enable_prefix_caching: true,
            speculative_config: Some(SpeculativeConfig::default()),
            threads: None,
            seed: 0,
            pooling_type: None,
            served_model_names: Vec::new(),
            lora_paths: Vec::new(),
            lora_adapters: Vec::new(),
            parsers: Parsers::default(),
            chat_template_time: None,
        }
    }

    /// Where to compute. Default: [`Device::Cpu`].
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// How weights are kept in memory and multiplied. Default: [`WeightDtype::Auto`].
    pub fn dtype(mut self, dtype: WeightDtype) -> Self {
        self.dtype = dtype;
        self
    }

    /// The most requests that are worked on at the same time. Default 64.
    pub fn max_num_seqs(mut self, max_num_seqs: usize) -> Self {
        self.max_num_seqs = Some(max_num_seqs);
        self
    }

    /// The most tokens that one step computes: larger steps are more efficient, smaller ones hold running requests up
    /// less. Default 512. An encoder computes texts whole: there it is at least the context length.
    pub fn max_num_batched_tokens(mut self, max_num_batched_tokens: usize) -> Self {
        self.max_num_batched_tokens = Some(max_num_batched_tokens);
        self
    }

    /// Whether [`max_num_seqs`](Self::max_num_seqs) and [`max_num_batched_tokens`](Self::max_num_batched_tokens), if they are
    /// not set, are chosen when the model is loaded: the smallest steps that reach 95 % of the tokens a second that
    /// the largest would, which a few forward passes tell in about a second, and as many requests as the KV cache holds
    /// with 128 tokens each. Default false. Answers do not depend on it; how long they take may differ from one load to
    /// the next.
    pub fn auto_tune(mut self, auto_tune: bool) -> Self {
        self.auto_tune = auto_tune;
        self
    }

    /// The context length in tokens, prompt and answer together. Default: the model's own (that of its
    /// `sentence_bert_config.json`, if it has one), or what fits [`kv_cache_memory`](Self::kv_cache_memory) if that is less.
    pub fn max_model_len(mut self, max_model_len: usize) -> Self {
        self.max_model_len = Some(max_model_len);
        self
    }

    /// How keys and values are kept in memory: two bytes a number hold twice the tokens of four. Default:
    /// [`KvCacheDtype::Auto`]. An encoder keeps none.
    pub fn kv_cache_dtype(mut self, kv_cache_dtype: KvCacheDtype) -> Self {
        self.kv_cache_dtype = kv_cache_dtype;
        self
    }

    /// Bytes of memory for keys and values; it is taken from the system as it is first used. Default 512 MiB. An encoder
    /// keeps none.
    pub fn kv_cache_memory(mut self, bytes: usize) -> Self {
        self.kv_cache_memory = bytes;
        self
    }

    /// Whether requests that begin with the same tokens share their keys and values. Default true.
    pub fn enable_prefix_caching(mut self, enable_prefix_caching: bool) -> Self {
        self.enable_prefix_caching = enable_prefix_caching;
        self
    }

    /// How tokens are guessed ahead where few requests run: a guess that comes true saves a step. Default:
    /// [`SpeculativeConfig::default`]; `None` guesses nothing. Answers do not depend on it, to the bit.
    ///
    /// # Example
    /// ```no_run
    /// use vllm_batch::{LocalEngine, SpeculativeConfig};
    ///
    /// let config = SpeculativeConfig::ngram(4).with_prompt_lookup(2, 4);
    /// let engine = LocalEngine::builder("model.gguf").speculative_config(config).build()?;
    /// # Ok::<(), vllm_batch::LoadError>(())
    /// ```
    pub fn speculative_config(mut self, config: impl Into<Option<SpeculativeConfig>>) -> Self {
        self.speculative_config = config.into();
        self
    }

    /// Threads that compute. Default: one for each processor that this process may use.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Seed for the requests that bring none of their own. Default 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Which hidden states embeddings are made of, unless their request says. Default: as the model's `modules.json` says,
    /// which was written for how it was trained; without one, [`PoolingType::Last`] for a decoder and
    /// [`PoolingType::Mean`] for an encoder.
    pub fn pooling_type(mut self, pooling_type: PoolingType) -> Self {
        self.pooling_type = Some(pooling_type);
        self
    }

    /// Adds a name that requests may use for the model; the first one added is the name that answers carry. Default: the
    /// last part of the model's path or repository, and the whole of it.
    pub fn served_model_name(mut self, name: impl Into<String>) -> Self {
        self.served_model_names.push(name.into());
        self
    }

    /// Adds a LoRA adapter in PEFT's format, a folder with `adapter_config.json` and `adapter_model.safetensors`, to the
    /// weights as they are loaded: `W + lora_alpha / r · B · A`, in f32, before they are packed. All requests see the sum,
    /// at the speed of the model alone. May be called several times. The model must be in Hugging Face's format.
    ///
    /// # Example
    /// ```no_run
    /// use vllm_batch::LocalEngine;
    ///
    /// let engine = LocalEngine::builder("models/base").lora_path("adapters/reviews").build()?;
    /// # Ok::<(), vllm_batch::LoadError>(())
    /// ```
    pub fn lora_path(mut self, folder: impl Into<PathBuf>) -> Self {
        self.lora_paths.push(folder.into());
        self
    }

    /// Serves the model with a LoRA adapter in PEFT's format under another name, beside the model itself: requests with this
    /// [`model`](crate::Request::model) are answered with the adapter, in the same steps as the others. May be called
    /// several times. The model must be a decoder, in Hugging Face's format or a GGUF file, which stays as it is; adapters of
    /// embeddings, heads or experts can only be [merged](Self::lora_path).
    pub fn lora_adapter(mut self, name: impl Into<String>, folder: impl Into<PathBuf>) -> Self {
        self.lora_adapters.push((name.into(), folder.into()));
        self
    }

    /// How the model writes calls of functions. Default: as its chat template says, see [`ToolCallFormat::detect`].
    ///
    /// # Example
    /// ```no_run
    /// # use vllm_batch::LocalEngine;
    /// let builder = LocalEngine::builder("mistralai/Mistral-7B-Instruct-v0.3").tool_call_parser("mistral".parse()?);
    /// # Ok::<(), vllm_batch::LoadError>(())
    /// ```
    pub fn tool_call_parser(mut self, format: ToolCallFormat) -> Self {
        self.parsers.tool_calls = Some(format);
        self
    }

    /// How the model marks what it says to itself: it then comes back in
    /// [`CompletionOutput::reasoning`](crate::CompletionOutput::reasoning), and formats hold only for what follows. Default:
    /// thoughts are part of the text.
    pub fn reasoning_parser(mut self, format: ReasoningFormat) -> Self {
        self.parsers.reasoning = Some(format);
        self
    }

    /// The time that chat templates see through `strftime_now`: some, such as those of Llama 3.2 and Granite 3.3, write the
    /// day into the prompt. Default: the beginning of the day, in UTC, on which the engine is built. It stays the same for
    /// the whole life of the engine, so that a row's prompt does not depend on when the row runs. If it is set, it is part of
    /// the revision, so that a run that goes on with another time does all rows again; if not, rows that were done on
    /// another day count, although their prompts say that day.
    ///
    /// # Example
    /// ```no_run
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use vllm_batch::LocalEngine;
    ///
    /// // 2026-01-01, in seconds since 1970.
    /// let day = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    /// let engine = LocalEngine::builder("models/llama-3.2").chat_template_time(day).build()?;
    /// # Ok::<(), vllm_batch::LoadError>(())
    /// ```
    pub fn chat_template_time(mut self, time: SystemTime) -> Self {
        self.chat_template_time = Some(time);
        self
    }

    /// Loads the model and starts the engine's threads.
    ///
    /// # Errors
    /// [`LoadError`]: the model cannot be loaded, or an option is outside its domain.
    pub fn build(self) -> Result<LocalEngine, LoadError> {
        LocalEngine::start(self.build_core()?)
    }

    /// Loads the model for a program that calls [`EngineCore::step`] itself.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_core(self) -> Result<EngineCore, LoadError> {
        let threads = self.thread_pool()?;
        self.speculative_config.map_or(Ok(()), |config| config.validate())?;
        let failed = |error: std::io::Error| LoadError::Threads { message: error.to_string() };
        let team = Team::new(threads.current_num_threads()).map_err(failed)?;
        let mut files = threads.install(|| ModelFiles::open(&self.source))?;
        self.lora_paths.iter().try_for_each(|folder| files.merge_lora(folder))?;
        self.lora_adapters.iter().try_for_each(|(name, folder)| files.add_lora(name, folder))?;
        let names = self.names(&files)?;
        let limits = self.limits(&files)?;
        let mut cache = match &files.spec {
            ModelSpec::Decoder(spec) => {
                KvCache::new(spec, files.cache_dtype(self.kv_cache_dtype, self.dtype), limits.num_blocks)?
            }
            ModelSpec::Encoder(_) => KvCache::empty(),
        };
        // Before the weights are read, so that a wrong option is told at once.
        let mut scheduler = Scheduler::new(self.scheduler_config(&limits, &files.spec))?;
        let network = threads.install(|| files.load(self.dtype, limits.max_model_len))?;
        if self.auto_tune && !files.spec.is_encoder() {
            let tuned = threads.install(|| team.install(|| tune(&network, &mut cache, limits.num_blocks)))?;
            let limits = Limits { steps: self.steps(tuned), ..limits };
            scheduler = Scheduler::new(self.scheduler_config(&limits, &files.spec))?;
        }
        let time = self.chat_template_time.unwrap_or_else(|| beginning_of_day(SystemTime::now()));
        let mut spec = self.spec(&files, names, limits.max_model_len, scheduler.max_num_seqs());
        if self.chat_template_time.is_some() {
            spec.revision = format!("{}-at{}", spec.revision, since_epoch(time).as_secs());
        }
        let pooling_type = self.pooling_type.unwrap_or_else(|| own_pooling_type(&files));
        let lowering = Lowering::new(files, spec.clone(), (self.parsers, self.seed, pooling_type, time));
        let speculative_config = self.speculative_config;
        Ok(EngineCore::new(Loaded { spec, lowering, network, cache, scheduler, speculative_config, team, threads }))
    }

    /// The options that are set, and otherwise what is given.
    fn steps(&self, otherwise: Tuned) -> Tuned {
        Tuned {
            max_num_seqs: self.max_num_seqs.unwrap_or(otherwise.max_num_seqs),
            max_num_batched_tokens: self.max_num_batched_tokens.unwrap_or(otherwise.max_num_batched_tokens),
        }
    }

    fn scheduler_config(&self, limits: &Limits, spec: &ModelSpec) -> SchedulerConfig {
        SchedulerConfig {
            max_num_seqs: limits.steps.max_num_seqs,
            max_num_batched_tokens: limits.steps.max_num_batched_tokens,
            block_size: BLOCK_SIZE,
            num_blocks: limits.num_blocks,
            enable_prefix_caching: self.enable_prefix_caching && !spec.is_encoder(),
            enable_chunked_prefill: !spec.is_encoder(),
            sliding_window: spec.sliding_window().filter(|window| *window < limits.max_model_len),
        }
    }

    fn thread_pool(&self) -> Result<ThreadPool, LoadError> {
        let available = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = self.threads.unwrap_or_else(available);
        if threads == 0 {
            return Err(LoadError::InvalidOption { option: "threads", message: "must be at least 1".to_owned() });
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("vllm_batch-{index}"))
            .build()
            .map_err(|error| LoadError::Threads { message: error.to_string() })
    }

    /// What follows from the options and the model's own limits.
    fn limits(&self, files: &ModelFiles) -> Result<Limits, LoadError> {
        let trained = files.spec.max_len();
        let own = files.sentence.max_seq_length.map_or(trained, |len| len.min(trained));
        let wanted = self.max_model_len.unwrap_or(own);
        if !(2..=trained).contains(&wanted) {
            let message = format!("{wanted} is not between 2 and the {trained} tokens that the model was made for");
            return Err(LoadError::InvalidOption { option: "max_model_len", message });
        }
        match &files.spec {
            ModelSpec::Decoder(spec) => {
                let dtype = files.cache_dtype(self.kv_cache_dtype, self.dtype);
                self.decoder_limits(KvCache::bytes_per_block(spec, dtype), wanted, &files.spec)
            }
            ModelSpec::Encoder(_) => Ok(self.encoder_limits(wanted)),
        }
    }

    /// Texts are computed whole, and keep their blocks for one step only.
    fn encoder_limits(&self, max_model_len: usize) -> Limits {
        /// Far more than a step can use, and little memory.
        const MOST: usize = 1 << 20;
        let Tuned { max_num_seqs, max_num_batched_tokens } = self.steps(DEFAULTS);
        let max_num_batched_tokens = match max_num_batched_tokens {
            0 => 0,
            tokens => tokens.max(max_model_len),
        };
        let num_blocks = (max_num_batched_tokens / BLOCK_SIZE).saturating_add(max_num_seqs);
        let num_blocks = num_blocks.min(MOST).max(max_model_len.div_ceil(BLOCK_SIZE));
        Limits { max_model_len, num_blocks, steps: Tuned { max_num_seqs, max_num_batched_tokens } }
    }

    fn decoder_limits(&self, bytes_per_block: usize, wanted: usize, spec: &ModelSpec) -> Result<Limits, LoadError> {
        let steps = self.steps(DEFAULTS);
        // A token's slot in the cache is a number of 32 bits.
        let num_blocks = (self.kv_cache_memory / bytes_per_block).min(u32::MAX as usize / BLOCK_SIZE);
        let limits = Limits { max_model_len: wanted, num_blocks, steps };
        let needed = self.scheduler_config(&limits, spec).min_blocks_for(wanted);
        if needed <= num_blocks {
            return Ok(limits);
        }
        // Where a window does not fit, a sequence that is no longer than the cache does.
        let fits = num_blocks * BLOCK_SIZE;
        if self.max_model_len.is_some() || fits < 2 {
            return Err(LoadError::KvCacheTooSmall {
                max_model_len: wanted,
                needed: needed.saturating_mul(bytes_per_block),
                available: self.kv_cache_memory,
                largest_max_model_len: fits,
            });
        }
        tracing::warn!(max_model_len = fits, wanted, "the context is shortened to what fits kv_cache_memory");
        Ok(Limits { max_model_len: fits, num_blocks, steps })
    }

    /// The names of the model, then those of the adapters.
    fn names(&self, files: &ModelFiles) -> Result<Vec<String>, LoadError> {
        let mut names =
            if self.served_model_names.is_empty() { &files.names } else { &self.served_model_names }.clone();
        for (name, _) in &self.lora_adapters {
            if names.contains(name) {
                let message = format!("the name {name:?} is taken: served are {}", names.join(", "));
                return Err(LoadError::InvalidOption { option: "lora_adapter", message });
            }
            names.push(name.clone());
        }
        Ok(names)
    }

    fn spec(
        &self,
        files: &ModelFiles,
        served_model_names: Vec<String>,
        max_model_len: usize,
        max_num_seqs: usize,
    ) -> EngineSpec {
        let (revision, dtype, seed) = (&files.revision, self.dtype.as_str(), self.seed);
        // The model's own adds nothing, so that what was made before there was a choice still holds.
        let other = self.pooling_type.filter(|pooling_type| *pooling_type != own_pooling_type(files));
        let pooling_type = other.map_or_else(String::new, |other| format!("-{other}"));
        let encodes = files.spec.is_encoder();
        let cache = if encodes { "" } else { files.cache_dtype(self.kv_cache_dtype, self.dtype).revision() };
        EngineSpec {
            served_model_names,
            adapters: self.lora_adapters.iter().map(|(name, _)| name.clone()).collect(),
            revision: format!(
                "{revision}-{dtype}-{max_model_len}-{seed}-{NUMERICS_VERSION}{cache}{pooling_type}{}",
                self.parsers.revision()
            ),
            max_model_len,
            vocab_size: files.spec.vocab_size(),
            max_num_seqs,
            supported_tasks: if encodes { vec![TaskKind::Embed] } else { TaskKind::ALL.to_vec() },
        }
    }
}

/// Which hidden states embeddings are made of unless anyone says otherwise. Without a word from the model it is the mean
/// for an encoder, as in sentence-transformers, and the last for a decoder, as in vLLM.
fn own_pooling_type(files: &ModelFiles) -> PoolingType {
    let of_kind = if files.spec.is_encoder() { PoolingType::Mean } else { PoolingType::Last };
    files.sentence.pooling_type.unwrap_or(of_kind)
}

/// No time before 1970 is of any use.
fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn beginning_of_day(time: SystemTime) -> SystemTime {
    const DAY: u64 = 24 * 60 * 60;
    UNIX_EPOCH + Duration::from_secs(since_epoch(time).as_secs() / DAY * DAY)
}

struct Limits {
    max_model_len: usize,
    num_blocks: usize,
    steps: Tuned,
}

/// All parts of an engine.
pub(super) struct Loaded {
    pub(super) spec: EngineSpec,
    pub(super) lowering: Lowering,
    pub(super) network: Network,
    pub(super) cache: KvCache,
    pub(super) scheduler: Scheduler,
    pub(super) speculative_config: Option<SpeculativeConfig>,
    pub(super) team: Team,
    pub(super) threads: ThreadPool,
}
