//! All that a model's files say: architecture, tokenizer, chat template, end-of-sequence tokens, and the weights.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::config::Config;
use super::decoder::Decoder;
use super::encoder::Encoder;
use super::families::{model_from_hugging_face, spec_from_gguf};
use super::gguf::GgufFile;
use super::lora::{LoraAdapter, Merged};
use super::network::{ModelSpec, Network};
use super::safetensors::SafetensorsFiles;
use super::sentence::SentenceConfig;
use super::slots::{Format, TensorNames};
use super::source::{LocalFiles, ModelSource};
use super::weights::{TensorSource, WeightLoader, read_range};
use crate::error::LoadError;
use crate::kernels::{CacheDtype, KvCacheDtype, WeightDtype};
use crate::text::{ChatTemplate, GgufVocabulary, SpecialTokens, Tokenizer};

/// A model whose small files were read; the weights are read by [`load`](Self::load).
pub(crate) struct ModelFiles {
    /// What the network will compute.
    pub(crate) spec: ModelSpec,
    /// How embeddings are made, if the model says so.
    pub(crate) sentence: SentenceConfig,
    /// Text to tokens and back.
    pub(crate) tokenizer: Tokenizer,
    /// How conversations are written down, if the model says so.
    pub(crate) chat_template: Option<ChatTemplate>,
    /// What templates may write.
    pub(crate) special_tokens: SpecialTokens,
    /// Tokens that end an answer.
    pub(crate) eos_token_ids: Vec<u32>,
    /// Names that requests may use.
    pub(crate) names: Vec<String>,
    /// Fingerprint of everything above and of the weights.
    pub(crate) revision: String,
    tensors: Box<dyn TensorSource + Send>,
    tensor_names: TensorNames,
    /// The adapters that are merged into the weights.
    merged: Vec<LoraAdapter>,
    /// Those that sequences ask for.
    adapters: Vec<LoraAdapter>,
}

impl ModelFiles {
    /// Finds the model, reads its configuration, tokenizer and template, and checks the headers of its weights.
    ///
    /// # Errors
    /// Any [`LoadError`] but those of the engine's options.
    pub(crate) fn open(source: &ModelSource) -> Result<Self, LoadError> {
        let mut files = match source.resolve()? {
            LocalFiles::Directory(path) => open_directory(&path)?,
            LocalFiles::Gguf(path) => open_gguf(&path)?,
        };
        files.names = source.names();
        Ok(files)
    }

    /// Adds a PEFT adapter to the weights that [`load`](Self::load) reads. What it changes is part of the revision.
    ///
    /// # Errors
    /// Any [`LoadError`] for a file of the adapter; [`LoadError::InvalidOption`] if the model is a GGUF file, whose tensors
    /// stay quantised.
    pub(crate) fn merge_lora(&mut self, folder: &Path) -> Result<(), LoadError> {
        if self.tensor_names.format == Format::Gguf {
            let message = "adapters are not merged into GGUF files: use lora_adapter".to_owned();
            return Err(LoadError::InvalidOption { option: "lora_path", message });
        }
        let adapter = LoraAdapter::open(folder)?;
        adapter.check(|tensor| self.tensors.shape(tensor))?;
        self.revision = format!("{}+{}", self.revision, fingerprint(adapter.files().iter().cloned())?);
        self.merged.push(adapter);
        Ok(())
    }

    /// Adds a PEFT adapter for the sequences that ask for it, with the next number from 0 on.
    ///
    /// # Errors
    /// Any [`LoadError`] for a file of the adapter; [`LoadError::InvalidOption`] if the model is an encoder.
    pub(crate) fn add_lora(&mut self, name: &str, folder: &Path) -> Result<(), LoadError> {
        let ModelSpec::Decoder(spec) = &self.spec else {
            let message = "an encoder takes adapters through lora_path only".to_owned();
            return Err(LoadError::InvalidOption { option: "lora_adapter", message });
        };
        let adapter = LoraAdapter::open(folder)?;
        let names = self.tensor_names;
        let slots = names.slots(spec).into_iter().filter(|slot| names.part_of_stack(*slot).is_none());
        let own: HashMap<String, String> =
            slots.map(|slot| (names.of_adapters().name(slot), names.name(slot))).collect();
        adapter.check(|tensor| self.tensors.shape(own.get(tensor)?))?;
        self.revision = format!("{}+{name:?}={}", self.revision, fingerprint(adapter.files().iter().cloned())?);
        self.adapters.push(adapter);
        Ok(())
    }

    /// What the numbers of a cache are, for weights that are kept as `dtype` says.
    pub(crate) fn cache_dtype(&self, kv_cache: KvCacheDtype, dtype: WeightDtype) -> CacheDtype {
        let all_f32 = match dtype {
            WeightDtype::Auto => !self.tensors.has_quantized(),
            other => other == WeightDtype::F32,
        };
        kv_cache.resolve(all_f32)
    }

    /// Reads and packs the weights on the current thread pool.
    ///
    /// # Errors
    /// If a tensor is missing, has a wrong shape, or cannot be read.
    pub(crate) fn load(&self, dtype: WeightDtype, max_model_len: usize) -> Result<Network, LoadError> {
        let merged = Merged { model: &*self.tensors, adapters: &self.merged };
        let source: &dyn TensorSource = if self.merged.is_empty() { &*self.tensors } else { &merged };
        let loader = |head_dim| WeightLoader { source, names: self.tensor_names, dtype, head_dim };
        match self.spec.clone() {
            ModelSpec::Decoder(spec) => {
                let loader = loader(spec.head_dim);
                let mut decoder = Decoder::load(spec, &loader, max_model_len)?;
                self.adapters
                    .iter()
                    .try_for_each(|adapter| decoder.add_adapter(adapter, self.tensor_names.of_adapters()))?;
                Ok(Network::Decoder(Box::new(decoder)))
            }
            ModelSpec::Encoder(spec) => Ok(Network::Encoder(Box::new(Encoder::load(spec, loader(0))?))),
        }
    }
}

fn open_directory(folder: &Path) -> Result<ModelFiles, LoadError> {
    let config = read_json(folder, "config.json")?.ok_or_else(|| missing(folder, "config.json"))?;
    let (spec, tensor_names) = model_from_hugging_face(&Config::new("", &config))?;
    let tensors = SafetensorsFiles::open(folder)?;
    let tokenizer_path = folder.join("tokenizer.json");
    if !tokenizer_path.is_file() {
        return Err(missing(folder, "tokenizer.json"));
    }
    let tokenizer = Tokenizer::from_json(&read(&tokenizer_path)?)?;
    let tokenizer_config = read_json(folder, "tokenizer_config.json")?.unwrap_or_default();
    let generation_config = read_json(folder, "generation_config.json")?.unwrap_or_default();
    let eos = |config: &Map<String, Value>| config.get("eos_token_id").filter(|ids| !ids.is_null()).cloned();
    let eos = eos(&generation_config).or_else(|| eos(&config));
    let small = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", TEMPLATE_FILE];
    let small = small.map(|name| folder.join(name)).into_iter().filter(|path| path.is_file());
    let special_tokens = special_tokens(&tokenizer_config);
    let (sentence, sentence_files) = SentenceConfig::open(folder)?;
    Ok(ModelFiles {
        spec,
        sentence,
        chat_template: directory_template(folder, &tokenizer_config, &special_tokens)?,
        special_tokens,
        eos_token_ids: token_ids("eos_token_id", eos.as_ref(), &tokenizer)?,
        tokenizer,
        names: Vec::new(),
        revision: fingerprint(small.chain(sentence_files).chain(tensors.files().iter().cloned()))?,
        tensors: Box::new(tensors),
        tensor_names,
        merged: Vec::new(),
        adapters: Vec::new(),
    })
}

const TEMPLATE_FILE: &str = "chat_template.jinja";

/// The template of its own file, else of `tokenizer_config.json`.
fn directory_template(
    folder: &Path,
    config: &Map<String, Value>,
    tokens: &SpecialTokens,
) -> Result<Option<ChatTemplate>, LoadError> {
    let path = folder.join(TEMPLATE_FILE);
    let source = if path.is_file() {
        Some(String::from_utf8_lossy(&read(&path)?).into_owned())
    } else {
        template_in(config.get("chat_template"))
    };
    source.map(|source| ChatTemplate::new(&source, tokens.clone())).transpose()
}

fn special_tokens(config: &Map<String, Value>) -> SpecialTokens {
    let token = |key: &str| match config.get(key)? {
        Value::Object(token) => token.get("content")?.as_str().map(str::to_owned),
        token => token.as_str().map(str::to_owned),
    };
    let mut tokens = SpecialTokens::new(token("bos_token"), token("eos_token"));
    (tokens.unk_token, tokens.pad_token) = (token("unk_token"), token("pad_token"));
    tokens
}

/// One template, or the one called `default` of several.
fn template_in(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(template) => Some(template.clone()),
        Value::Array(templates) => {
            let default = templates.iter().find(|template| template["name"] == "default")?;
            default["template"].as_str().map(str::to_owned)
        }
        _ => None,
    }
}

fn open_gguf(path: &Path) -> Result<ModelFiles, LoadError> {
    let file = GgufFile::open(path)?;
    let architecture = file.get("general.architecture").and_then(Value::as_str).ok_or_else(|| {
        let message = "it is missing, or not a string".to_owned();
        LoadError::BrokenConfig { key: "general.architecture".to_owned(), message }
    })?;
    let values = architecture_values(&file, architecture);
    let (spec, tensor_names) = spec_from_gguf(architecture, &Config::new("", &values), &file)?;
    let tokenizer = Tokenizer::from_gguf(vocabulary(&file)?)?;
    let token = |key: &str| file.get(key).and_then(Value::as_u64).and_then(|id| tokenizer.id_to_token(id as u32));
    let special_tokens = SpecialTokens::new(token("tokenizer.ggml.bos_token_id"), token("tokenizer.ggml.eos_token_id"));
    let template = file.get("tokenizer.chat_template").and_then(Value::as_str);
    let chat_template = template.map(|source| ChatTemplate::new(source, special_tokens.clone())).transpose()?;
    let mut eos_token_ids = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
        eos_token_ids.extend(token_ids(key, file.get(key), &tokenizer)?);
    }
    Ok(ModelFiles {
        spec: ModelSpec::Decoder(spec),
        sentence: SentenceConfig::default(),
        chat_template,
        special_tokens,
        eos_token_ids,
        tokenizer,
        names: Vec::new(),
        revision: fingerprint(std::iter::once(path.to_owned()))?,
        tensors: Box::new(file),
        tensor_names,
        merged: Vec::new(),
        adapters: Vec::new(),
    })
}

/// The metadata below `{architecture}.`, and the vocabulary's size where it is only implied.
pub(super) fn architecture_values(file: &GgufFile, architecture: &str) -> Map<String, Value> {
    let prefix = format!("{architecture}.");
    let own =
        file.metadata.iter().filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?.to_owned(), value.clone())));
    let mut values: Map<String, Value> = own.collect();
    if let Some(tokens) = file.get("tokenizer.ggml.tokens").and_then(Value::as_array) {
        values.entry("vocab_size").or_insert(tokens.len().into());
    }
    values
}

fn vocabulary(file: &GgufFile) -> Result<GgufVocabulary, LoadError> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let text = |name: &str| file.get(&key(name)).and_then(Value::as_str).map(str::to_owned);
    let id = |name: &str| file.get(&key(name)).and_then(Value::as_u64).map(|id| id as u32);
    let flag = |name: &str| file.get(&key(name)).and_then(Value::as_bool);
    Ok(GgufVocabulary {
        model: text("model").ok_or_else(|| LoadError::Tokenizer {
            message: "the file has no `tokenizer.ggml.model`, so it carries no tokenizer".to_owned(),
        })?,
        pre: text("pre"),
        tokens: list(file, &key("tokens"), |token| token.as_str().map(str::to_owned))?,
        token_types: list(file, &key("token_type"), |kind| kind.as_i64().map(|kind| kind as i32))?,
        merges: list(file, &key("merges"), |merge| merge.as_str().map(str::to_owned))?,
        scores: list(file, &key("scores"), |score| score.as_f64().map(|score| score as f32))?,
        bos_token_id: id("bos_token_id"),
        eos_token_id: id("eos_token_id"),
        unknown_token_id: id("unknown_token_id"),
        add_bos_token: flag("add_bos_token"),
        add_eos_token: flag("add_eos_token"),
        add_space_prefix: flag("add_space_prefix"),
    })
}

/// A list of the metadata; an absent one is empty.
fn list<T>(file: &GgufFile, key: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, LoadError> {
    let broken = |message: String| LoadError::Tokenizer { message: format!("`{key}` {message}") };
    match file.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(values)) => values
            .iter()
            .enumerate()
            .map(|(index, value)| {
                read(value).ok_or_else(|| broken(format!("has the element {value} at index {index}")))
            })
            .collect(),
        Some(_) => Err(broken("is not a list".to_owned())),
    }
}

/// One id or a list of ids, all within the vocabulary.
fn token_ids(key: &str, value: Option<&Value>, tokenizer: &Tokenizer) -> Result<Vec<u32>, LoadError> {
    let broken = |value: &Value| LoadError::BrokenConfig {
        key: key.to_owned(),
        message: format!("{value} is not a token of the vocabulary's {}", tokenizer.vocab_size()),
    };
    let id = |value: &Value| {
        let id = value.as_u64().filter(|id| (*id as usize) < tokenizer.vocab_size());
        id.map(|id| id as u32).ok_or_else(|| broken(value))
    };
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => values.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}

pub(super) fn read_json(folder: &Path, name: &str) -> Result<Option<Map<String, Value>>, LoadError> {
    let path = folder.join(name);
    if !path.is_file() {
        return Ok(None);
    }
    let broken = |message: String| LoadError::BrokenFile { path: path.clone(), format: "JSON", message };
    match serde_json::from_slice(&read(&path)?).map_err(|error| broken(error.to_string()))? {
        Value::Object(values) => Ok(Some(values)),
        _ => Err(broken("it is not an object".to_owned())),
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|source| LoadError::Io { path: path.to_owned(), source })
}

fn missing(folder: &Path, file: &'static str) -> LoadError {
    let hint = "a model's folder needs config.json, tokenizer.json and safetensors files";
    LoadError::MissingFile { path: folder.to_owned(), file, hint }
}

/// Files are read for their fingerprint in pieces of this many bytes, several at a time.
const PIECE: u64 = 16 << 20;

/// Tells one set of files from another: SHA-256 over the SHA-256 of each piece of each file, in order. Pieces are hashed
/// in parallel on the current thread pool.
fn fingerprint(paths: impl Iterator<Item = PathBuf>) -> Result<String, LoadError> {
    let mut hash = Sha256::new();
    for path in paths {
        let io = |source| LoadError::Io { path: path.clone(), source };
        let len = std::fs::metadata(&path).map_err(io)?.len();
        let pieces: Vec<u64> = (0..len).step_by(PIECE as usize).collect();
        let hash_piece = |start: &u64| {
            let piece = read_range(&path, *start, PIECE.min(len - start) as usize)?;
            Ok(Sha256::digest(piece))
        };
        let digests = pieces.par_iter().map(hash_piece).collect::<Result<Vec<_>, LoadError>>()?;
        hash.update(len.to_le_bytes());
        for digest in digests {
            hash.update(digest);
        }
    }
    Ok(hash.finalize().iter().take(16).fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}
