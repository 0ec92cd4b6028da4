//! The engine behind an `LLM`: loading, what it serves, and when it goes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use vllm_batch::text::{ReasoningFormat, Tokenizer, ToolCallFormat};
use vllm_batch::{
    BatchEngine, EngineBuilder, EngineSpec, Flavour, KvCacheDtype, LoadError, LocalEngine, ModelSource, PoolingType,
    RemoteEngine, RemoteEngineBuilder, SpeculativeConfig, TaskKind, WeightDtype,
};

use crate::errors::{raise_engine, raise_load};
use crate::in_flight::InFlight;
use crate::testing::{Script, ScriptOptions};
use crate::tokenizer;
use crate::wake::Notifier;

/// An engine, as long as it is open, in the process that opened it.
pub(crate) struct Shared {
    running: Mutex<Option<Running>>,
    notifier: OnceLock<Notifier>,
    process: u32,
}

struct Running {
    engine: Arc<dyn BatchEngine>,
    tokenizer: Option<Arc<Tokenizer>>,
}

impl Shared {
    fn new(engine: Arc<dyn BatchEngine>, tokenizer: Option<Arc<Tokenizer>>) -> Self {
        let running = Mutex::new(Some(Running { engine, tokenizer }));
        Self { running, notifier: OnceLock::new(), process: std::process::id() }
    }

    /// The engine.
    ///
    /// # Errors
    /// `EngineError` after `close`, and in a process that was forked: threads are not.
    pub(crate) fn engine(&self, py: Python<'_>) -> PyResult<Arc<dyn BatchEngine>> {
        if self.process != std::process::id() {
            let message = "this process was forked, and the engine's threads were not: load the model here, or start \
                           processes with the method spawn";
            return Err(raise_engine(py, message, "engine_forked"));
        }
        let engine = self.running().as_ref().map(|running| Arc::clone(&running.engine));
        engine.ok_or_else(|| raise_engine(py, "the engine was closed", "engine_closed"))
    }

    /// The one who calls functions of Python; started when it is first needed.
    pub(crate) fn notifier(&self) -> &Notifier {
        self.notifier.get_or_init(Notifier::start)
    }

    /// Ends the engine's threads and gives its memory back. In a forked process there are no threads to wait for.
    fn close(&self) {
        let running = self.running().take();
        if self.process == std::process::id() {
            drop(running);
        } else {
            std::mem::forget(running);
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

/// A model that answers requests.
#[pyclass(frozen, module = "vllm_batch._native")]
pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    spec: EngineSpec,
}

impl Engine {
    pub(crate) fn new(engine: Arc<dyn BatchEngine>, tokenizer: Option<Arc<Tokenizer>>) -> Self {
        let spec = engine.spec().clone();
        Self { shared: Arc::new(Shared::new(engine, tokenizer)), spec }
    }
}

#[pymethods]
impl Engine {
    /// Loads a model into this process. `options` has every field of `LLM`.
    #[staticmethod]
    fn load(py: Python<'_>, model: &str, options: LocalOptions) -> PyResult<Self> {
        let engine = py.detach(|| options.builder(model)?.build()).map_err(|error| raise_load(py, &error))?;
        let tokenizer = Arc::clone(engine.tokenizer());
        Ok(Self::new(Arc::new(engine), Some(tokenizer)))
    }

    /// Connects to a server that speaks OpenAI's HTTP API. `options` has every field of `RemoteLLM`.
    #[staticmethod]
    fn remote(py: Python<'_>, url: &str, options: RemoteOptions) -> PyResult<Self> {
        let engine = py.detach(|| options.build(url)).map_err(|error| raise_load(py, &error))?;
        Ok(Self::new(Arc::new(engine), None))
    }

    /// Answers from a script, for tests. `options` has every field of `ScriptedLLM`.
    #[staticmethod]
    fn scripted(script: Option<Py<PyAny>>, options: ScriptOptions) -> (Self, Script) {
        let engine = options.engine(script);
        (Self::new(Arc::clone(&engine) as Arc<dyn BatchEngine>, None), Script(engine))
    }

    /// The names that requests may use for the model, the one that answers carry first.
    #[getter]
    fn served_model_names(&self) -> Vec<String> {
        self.spec.served_model_names.clone()
    }

    /// Identifies weights, tokenizer, template and options: engines with equal revisions give equal answers.
    #[getter]
    fn revision(&self) -> &str {
        &self.spec.revision
    }

    /// Context length in tokens, prompt and answer together.
    #[getter]
    fn max_model_len(&self) -> usize {
        self.spec.max_model_len
    }

    /// How many requests are worked on at the same time.
    #[getter]
    fn max_num_seqs(&self) -> usize {
        self.spec.max_num_seqs
    }

    /// What requests may ask for: `generate`, `embed`, `score`.
    #[getter]
    fn supported_tasks(&self) -> Vec<&'static str> {
        self.spec.supported_tasks.iter().map(|task: &TaskKind| task.as_str()).collect()
    }

    /// Whether `close` was not called yet.
    #[getter]
    fn is_open(&self) -> bool {
        self.shared.running().is_some()
    }

    /// The model's tokenizer, if it is in this process.
    fn tokenizer(&self, py: Python<'_>) -> PyResult<Option<tokenizer::Tokenizer>> {
        self.shared.engine(py)?;
        let tokenizer = self.shared.running().as_ref().and_then(|running| running.tokenizer.clone());
        Ok(tokenizer.map(tokenizer::Tokenizer))
    }

    /// A place for requests.
    fn open(&self, py: Python<'_>) -> PyResult<InFlight> {
        self.shared.engine(py)?;
        Ok(InFlight::new(Arc::clone(&self.shared)))
    }

    /// Ends the engine's threads and gives its memory back. What it was answering fails with `engine_failed`; a batch file
    /// that is running ends first.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.shared.close());
    }
}

/// The options of a model in this process.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct LocalOptions {
    dtype: String,
    kv_cache_dtype: String,
    max_model_len: Option<usize>,
    max_num_seqs: Option<usize>,
    max_num_batched_tokens: Option<usize>,
    auto_tune: bool,
    kv_cache_memory_bytes: Option<usize>,
    enable_prefix_caching: bool,
    speculative_config: Option<Speculation>,
    threads: Option<usize>,
    seed: u64,
    pooling_type: Option<String>,
    served_model_name: Vec<String>,
    lora_paths: Vec<PathBuf>,
    lora_modules: Vec<(String, PathBuf)>,
    tool_call_parser: Option<String>,
    reasoning_parser: Option<String>,
    chat_template_time: Option<std::time::SystemTime>,
    revision: Option<String>,
    gguf_file: Option<String>,
    download_dir: Option<PathBuf>,
}

/// What is absent is as by default.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Speculation {
    num_speculative_tokens: Option<usize>,
    #[pyo3(default)]
    prompt_lookup_min: Option<usize>,
    #[pyo3(default)]
    prompt_lookup_max: Option<usize>,
}

impl From<Speculation> for SpeculativeConfig {
    fn from(given: Speculation) -> Self {
        let default = Self::default();
        let (min, max) = (default.prompt_lookup_min, default.prompt_lookup_max);
        Self::ngram(given.num_speculative_tokens.unwrap_or(default.num_speculative_tokens))
            .with_prompt_lookup(given.prompt_lookup_min.unwrap_or(min), given.prompt_lookup_max.unwrap_or(max))
    }
}

impl LocalOptions {
    fn builder(self, model: &str) -> Result<EngineBuilder, LoadError> {
        let dtypes = {
            use WeightDtype::{Auto, Bf16, F16, F32, Q4_0, Q8_0};
            [Auto, F32, F16, Bf16, Q8_0, Q4_0].map(|dtype| (dtype.as_str(), dtype))
        };
        let cache_dtypes =
            [KvCacheDtype::Auto, KvCacheDtype::F32, KvCacheDtype::F16].map(|dtype| (dtype.as_str(), dtype));
        let pooling_type = self.pooling_type.as_deref().map(str::parse::<PoolingType>).transpose();
        let pooling_type = pooling_type.map_err(|error| invalid("pooling_type", &error))?;
        let mut builder = LocalEngine::builder(source(model, self.revision, self.gguf_file, self.download_dir))
            .dtype(named(&self.dtype, &dtypes).map_err(|message| invalid("dtype", &message))?)
            .kv_cache_dtype(
                named(&self.kv_cache_dtype, &cache_dtypes).map_err(|message| invalid("kv_cache_dtype", &message))?,
            )
            .auto_tune(self.auto_tune)
            .enable_prefix_caching(self.enable_prefix_caching)
            .speculative_config(self.speculative_config.map(SpeculativeConfig::from))
            .seed(self.seed);
        builder = set(builder, self.max_model_len, EngineBuilder::max_model_len);
        builder = set(builder, self.max_num_seqs, EngineBuilder::max_num_seqs);
        builder = set(builder, self.max_num_batched_tokens, EngineBuilder::max_num_batched_tokens);
        builder = set(builder, self.kv_cache_memory_bytes, EngineBuilder::kv_cache_memory);
        builder = set(builder, self.threads, EngineBuilder::threads);
        builder = set(builder, pooling_type, EngineBuilder::pooling_type);
        builder = set(builder, self.chat_template_time, EngineBuilder::chat_template_time);
        let tool_call_parser = self.tool_call_parser.as_deref().map(str::parse::<ToolCallFormat>).transpose()?;
        builder = set(builder, tool_call_parser, EngineBuilder::tool_call_parser);
        let reasoning_parser = self.reasoning_parser.as_deref().map(str::parse::<ReasoningFormat>).transpose()?;
        builder = set(builder, reasoning_parser, EngineBuilder::reasoning_parser);
        builder = self.served_model_name.into_iter().fold(builder, EngineBuilder::served_model_name);
        builder = self.lora_paths.into_iter().fold(builder, EngineBuilder::lora_path);
        let add = |builder: EngineBuilder, (name, path): (String, PathBuf)| builder.lora_adapter(name, path);
        Ok(self.lora_modules.into_iter().fold(builder, add))
    }
}

/// The options of a server.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct RemoteOptions {
    model: Option<String>,
    api_key: Option<String>,
    flavour: String,
    max_model_len: Option<usize>,
    max_num_seqs: Option<usize>,
    timeout: Option<f64>,
    max_retries: Option<u32>,
}

impl RemoteOptions {
    fn build(self, url: &str) -> Result<RemoteEngine, LoadError> {
        let timeout = self.timeout.map(Duration::try_from_secs_f64).transpose();
        let timeout = timeout.map_err(|error| invalid("timeout", &error))?;
        let flavours = [("openai", Flavour::OpenAi), ("vllm", Flavour::Vllm), ("llama_cpp", Flavour::LlamaCpp)];
        let flavour = named(&self.flavour, &flavours).map_err(|message| invalid("flavour", &message))?;
        let builder = RemoteEngine::builder(url).discover(self.model.is_none()).flavour(flavour);
        let builder = set(builder, self.model, RemoteEngineBuilder::model);
        let builder = set(builder, self.api_key, RemoteEngineBuilder::api_key);
        let builder = set(builder, self.max_model_len, RemoteEngineBuilder::max_model_len);
        let builder = set(builder, self.max_num_seqs, RemoteEngineBuilder::max_num_seqs);
        let builder = set(builder, timeout, RemoteEngineBuilder::timeout);
        let builder = set(builder, self.max_retries, RemoteEngineBuilder::max_retries);
        builder.build()
    }
}

/// What is only said of a model on the hub says nothing of a path.
fn source(model: &str, revision: Option<String>, gguf_file: Option<String>, cache_dir: Option<PathBuf>) -> ModelSource {
    match ModelSource::from(model) {
        ModelSource::Hub(mut model) => {
            model.revision = revision.unwrap_or(model.revision);
            (model.gguf_file, model.cache_dir) = (gguf_file, cache_dir);
            ModelSource::Hub(model)
        }
        path => path,
    }
}

/// What a name stands for, or which names there are.
pub(crate) fn named<T: Copy>(name: &str, names: &[(&str, T)]) -> Result<T, String> {
    names.iter().find(|(other, _)| *other == name).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        format!("expected {}, found `{name}`", names.join(", "))
    })
}

/// What a name stands for, as the value of an option.
pub(crate) fn chosen<T: Copy>(option: &str, name: &str, names: &[(&str, T)]) -> PyResult<T> {
    let refused = |message| PyValueError::new_err(format!("invalid value for `{option}`: {message}"));
    named(name, names).map_err(refused)
}

pub(crate) fn set<B, T>(builder: B, value: Option<T>, set: impl FnOnce(B, T) -> B) -> B {
    match value {
        Some(value) => set(builder, value),
        None => builder,
    }
}

fn invalid(option: &'static str, message: &impl ToString) -> LoadError {
    LoadError::InvalidOption { option, message: message.to_string() }
}
