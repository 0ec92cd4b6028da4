//! What the files of sentence-transformers say about a model's embeddings.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::config::Config;
use super::files::{read, read_json};
use crate::error::LoadError;
use crate::request::PoolingType;

const MODULES: &str = "modules.json";
const SETTINGS: &str = "sentence_bert_config.json";

/// How a model was trained to make embeddings. What its files do not say is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SentenceConfig {
    /// Which hidden states they are made of.
    pub(crate) pooling_type: Option<PoolingType>,
    /// Whether they are scaled to length 1.
    pub(crate) normalize: Option<bool>,
    /// The longest text that the model was meant for, in tokens.
    pub(crate) max_seq_length: Option<usize>,
}

impl SentenceConfig {
    /// Reads `modules.json`, the configuration of the pooling that it names, and `sentence_bert_config.json`; returns the
    /// files that were read, too. A folder may have none of them.
    ///
    /// # Errors
    /// [`LoadError::UnsupportedConfig`] for a step that is not implemented, [`LoadError::BrokenConfig`],
    /// [`LoadError::BrokenFile`] or [`LoadError::Io`] for a file that is not usable.
    pub(super) fn open(folder: &Path) -> Result<(Self, Vec<PathBuf>), LoadError> {
        let (mut sentence, mut files) = (Self::default(), Vec::new());
        if folder.join(MODULES).is_file() {
            sentence.normalize = Some(false);
            files.push(folder.join(MODULES));
            for module in modules(&folder.join(MODULES))? {
                files.extend(sentence.add(folder, &module)?);
            }
        }
        if let Some(settings) = read_json(folder, SETTINGS)? {
            files.push(folder.join(SETTINGS));
            let settings = Config::new("sentence_bert_config.json ", &settings);
            sentence.max_seq_length = settings.optional_size("max_seq_length")?;
            settings.only("do_lower_case", &Value::Bool(false))?;
        }
        Ok((sentence, files))
    }

    /// Takes what a module says; the file that it was read from, if it has one.
    fn add(&mut self, folder: &Path, module: &Map<String, Value>) -> Result<Option<PathBuf>, LoadError> {
        let module = Config::new("modules.json ", module);
        let (kind, path) = (module.string("type")?, module.string("path")?);
        match kind.rsplit('.').next() {
            Some("Transformer") if path.is_empty() => Ok(None),
            Some("Pooling") => {
                let Some(pooling) = read_json(&folder.join(plain(&module, &path)?), "config.json")? else {
                    return Err(module.broken("path", format!("{path:?} has no config.json")));
                };
                self.pooling_type = Some(pooling_type(&Config::new("pooling ", &pooling))?);
                Ok(Some(folder.join(path).join("config.json")))
            }
            Some("Normalize") => {
                self.normalize = Some(true);
                Ok(None)
            }
            _ => {
                Err(module.unsupported("type", format!("{kind:?} in {path:?}; Transformer, Pooling and Normalize are")))
            }
        }
    }
}

/// The modules, in order.
fn modules(path: &Path) -> Result<Vec<Map<String, Value>>, LoadError> {
    serde_json::from_slice(&read(path)?).map_err(|error| LoadError::BrokenFile {
        path: path.to_owned(),
        format: "JSON",
        message: error.to_string(),
    })
}

/// A folder's name: a longer path could lead anywhere.
fn plain<'a>(module: &Config<'_>, path: &'a str) -> Result<&'a str, LoadError> {
    match Path::new(path).file_name() {
        Some(name) if name == path => Ok(path),
        _ => Err(module.broken("path", format!("{path:?} is not a folder beside modules.json"))),
    }
}

/// The older keys, and how the newer one `pooling_mode` calls the same.
const MODES: &[(&str, &str, Option<PoolingType>)] = &[
    ("pooling_mode_cls_token", "cls", Some(PoolingType::Cls)),
    ("pooling_mode_max_tokens", "max", None),
    ("pooling_mode_mean_tokens", "mean", Some(PoolingType::Mean)),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", None),
    ("pooling_mode_weightedmean_tokens", "weightedmean", None),
    ("pooling_mode_lasttoken", "lasttoken", Some(PoolingType::Last)),
];

/// One way of pooling; without any, sentence-transformers takes the mean.
fn pooling_type(config: &Config<'_>) -> Result<PoolingType, LoadError> {
    config.without_effect(&["word_embedding_dimension", "embedding_dimension", "include_prompt"]);
    let mut chosen = Vec::new();
    for (key, name, _) in MODES {
        if config.flag_or(key, false)? {
            chosen.push(*name);
        }
    }
    match config.get("pooling_mode") {
        Some(Value::String(name)) => chosen = vec![name],
        Some(_) => chosen = config.strings("pooling_mode")?.unwrap_or_default(),
        None if chosen.is_empty() => chosen.push("mean"),
        None => {}
    }
    config.finish()?;
    let known = |name: &str| MODES.iter().find(|(_, mode, _)| *mode == name)?.2;
    let only = if let [name] = chosen[..] { known(name) } else { None };
    only.ok_or_else(|| config.unsupported("pooling_mode", format!("{chosen:?}; one of cls, mean and lasttoken is")))
}
