//! Where a model comes from.

use std::path::{Path, PathBuf};

use crate::error::LoadError;

/// Where to find a model's weights, tokenizer and configuration.
///
/// # Example
/// ```
/// use vllm_batch::ModelSource;
///
/// assert!(matches!(ModelSource::from("models/smol.gguf"), ModelSource::Gguf(_)));
/// assert!(matches!(ModelSource::from("HuggingFaceTB/SmolLM2-135M-Instruct"), ModelSource::Hub(_)));
/// assert!(matches!(ModelSource::from("./my-model"), ModelSource::Directory(_)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelSource {
    /// A folder as on the Hugging Face hub: `config.json`, `tokenizer.json`, one or sharded safetensors files.
    Directory(PathBuf),
    /// One GGUF file, which carries everything.
    Gguf(PathBuf),
    /// A repository on the Hugging Face hub (feature `hub`).
    Hub(HubModel),
}

/// A model repository on the Hugging Face hub.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubModel {
    /// The repository, as in `HuggingFaceTB/SmolLM2-135M-Instruct`.
    pub repo: String,
    /// A branch, tag or commit. Default `main`.
    pub revision: String,
    /// The GGUF file to take, for repositories of GGUF files. Default: safetensors.
    pub gguf_file: Option<String>,
    /// The hub's cache folder. Default: `~/.cache/huggingface/hub`, shared with every other tool.
    pub cache_dir: Option<PathBuf>,
}

impl HubModel {
    /// The safetensors of a repository's main branch.
    pub fn new(repo: impl Into<String>) -> Self {
        Self { repo: repo.into(), revision: "main".to_owned(), gguf_file: None, cache_dir: None }
    }

    /// Takes a branch, tag or commit instead of `main`.
    #[must_use]
    pub fn with_revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = revision.into();
        self
    }

    /// Takes a GGUF file of the repository instead of its safetensors.
    #[must_use]
    pub fn with_gguf_file(mut self, file: impl Into<String>) -> Self {
        self.gguf_file = Some(file.into());
        self
    }

    /// Uses another cache folder.
    #[must_use]
    pub fn with_cache_dir(mut self, cache_dir: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(cache_dir.into());
        self
    }
}

impl From<HubModel> for ModelSource {
    fn from(model: HubModel) -> Self {
        Self::Hub(model)
    }
}

/// A path that exists is a folder or a GGUF file; else `owner/name` is a repository on the hub.
impl From<&str> for ModelSource {
    fn from(model: &str) -> Self {
        let path = Path::new(model);
        let is_gguf = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        if is_gguf || path.is_file() {
            Self::Gguf(path.to_owned())
        } else if !path.exists() && is_repo(model) {
            Self::Hub(HubModel::new(model))
        } else {
            Self::Directory(path.to_owned())
        }
    }
}

impl From<String> for ModelSource {
    fn from(model: String) -> Self {
        Self::from(model.as_str())
    }
}

impl From<&Path> for ModelSource {
    fn from(path: &Path) -> Self {
        if path.is_dir() { Self::Directory(path.to_owned()) } else { Self::Gguf(path.to_owned()) }
    }
}

impl From<PathBuf> for ModelSource {
    fn from(path: PathBuf) -> Self {
        Self::from(path.as_path())
    }
}

fn is_repo(model: &str) -> bool {
    let mut parts = model.split('/');
    let valid = |part: Option<&str>| part.is_some_and(|part| !part.is_empty() && !part.starts_with(['.', '~']));
    valid(parts.next()) && valid(parts.next()) && parts.next().is_none() && !model.contains('\\')
}

/// A model on this machine's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LocalFiles {
    Directory(PathBuf),
    Gguf(PathBuf),
}

impl ModelSource {
    /// Downloads what is not here yet.
    ///
    /// # Errors
    /// [`LoadError::Hub`] if the model is neither in the hub's cache nor to be had from the hub.
    pub(super) fn resolve(&self) -> Result<LocalFiles, LoadError> {
        match self {
            Self::Directory(path) => Ok(LocalFiles::Directory(path.clone())),
            Self::Gguf(path) => Ok(LocalFiles::Gguf(path.clone())),
            Self::Hub(model) => fetch(model),
        }
    }

    /// The names that a request may use for the model: what the user wrote, and its last part.
    pub(super) fn names(&self) -> Vec<String> {
        let (full, last) = match self {
            Self::Directory(path) => (path.display().to_string(), path.file_name()),
            Self::Gguf(path) => (path.display().to_string(), path.file_stem()),
            Self::Hub(model) => (model.repo.clone(), Path::new(&model.repo).file_name()),
        };
        let last = last.map(|last| last.to_string_lossy().into_owned()).filter(|last| *last != full);
        last.into_iter().chain([full]).collect()
    }
}

#[cfg(feature = "hub")]
use super::hub::fetch;

#[cfg(not(feature = "hub"))]
fn fetch(model: &HubModel) -> Result<LocalFiles, LoadError> {
    Err(LoadError::Hub {
        repo: model.repo.clone(),
        file: "config.json".to_owned(),
        message: "this build has no hub client: enable the feature `hub`, or give a local folder or .gguf file"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_says_where_the_model_is() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("a");
        std::fs::create_dir(&inside).unwrap();
        let path = inside.to_str().unwrap();
        let cases = [
            ("owner/name", ModelSource::Hub(HubModel::new("owner/name"))),
            ("owner/name.gguf", ModelSource::Gguf("owner/name.gguf".into())),
            ("./owner/name", ModelSource::Directory("./owner/name".into())),
            ("../name", ModelSource::Directory("../name".into())),
            ("~/name", ModelSource::Directory("~/name".into())),
            ("/name", ModelSource::Directory("/name".into())),
            ("name", ModelSource::Directory("name".into())),
            ("a/b/c", ModelSource::Directory("a/b/c".into())),
            (path, ModelSource::Directory(inside.clone())),
        ];
        for (text, expected) in cases {
            assert_eq!(ModelSource::from(text), expected, "{text}");
        }
    }

    #[test]
    fn names_are_the_last_part_and_the_whole() {
        assert_eq!(ModelSource::from("owner/name").names(), ["name", "owner/name"]);
        assert_eq!(ModelSource::from("models/smol.Q4_1.gguf").names(), ["smol.Q4_1", "models/smol.Q4_1.gguf"]);
        assert_eq!(ModelSource::from("smol").names(), ["smol"]);
    }
}
