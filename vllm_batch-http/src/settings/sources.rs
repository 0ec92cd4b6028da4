//! Where do settings come from?
//!
//! From a TOML file, the environment and flags; each later one wins. [`Layers`] remembers of every value who gave it.

use std::path::PathBuf;

use figment::providers::{Env, Format, Toml};
use figment::util::nest;
use figment::value::{Dict, Map, Tag, Value};
use figment::{Error, Figment, Metadata, Profile, Provider, Source};

/// What the names of variables begin with.
const PREFIX: &str = "VLLM_BATCH_";

/// A setting that was given outside a file.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    /// Its key: section and name, with a dot between.
    pub(crate) key: String,
    /// Its value: a text, or several.
    pub(crate) value: Value,
    /// Who gave it: `--port`, `VLLM_BATCH_SERVER__PORT`.
    pub(crate) source: String,
}

impl Provider for Given {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let nested = nest(&self.key, self.value.clone());
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

/// All that was given, merged.
#[derive(Debug)]
pub(super) struct Layers {
    figment: Figment,
    pub(super) root: Value,
    /// What is wrong with a file as a whole: its name, and why.
    pub(super) broken_file: Option<(String, String)>,
}

impl Layers {
    /// Merges a file, the environment and flags, in this order.
    pub(super) fn read(file: Option<PathBuf>, flags: Vec<Given>) -> Self {
        let (mut figment, mut broken_file) = (Figment::new(), None);
        if let Some(path) = file {
            let provider = Toml::file_exact(&path);
            match provider.data() {
                Ok(_) => figment = figment.merge(provider),
                Err(error) => broken_file = Some((path.display().to_string(), error.to_string())),
            }
        }
        let figment = variables().into_iter().chain(flags).fold(figment, Figment::merge);
        let root = figment.find_value("").unwrap_or_else(|_| Value::Dict(Tag::Default, Dict::new()));
        Self { figment, root, broken_file }
    }

    /// Who gave a value.
    pub(super) fn source(&self, tag: Tag) -> String {
        let Some(metadata) = self.figment.get_metadata(tag) else { return "default".to_owned() };
        match &metadata.source {
            Some(Source::File(path)) => path.display().to_string(),
            _ => metadata.name.to_string(),
        }
    }
}

/// The file that the environment names.
pub(super) fn file_of_environment() -> Option<PathBuf> {
    std::env::var_os(format!("{PREFIX}CONFIG")).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The variables that are settings, in the order of their names. Empty ones count as unset.
fn variables() -> Vec<Given> {
    let mut variables: Vec<Given> = Env::prefixed(PREFIX)
        .ignore(&["config"])
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| Given {
            key: name.as_str().to_lowercase().replace("__", "."),
            value: value.into(),
            source: format!("{PREFIX}{}", name.as_str().to_uppercase()),
        })
        .collect();
    variables.sort_by(|a, b| a.source.cmp(&b.source));
    variables
}
