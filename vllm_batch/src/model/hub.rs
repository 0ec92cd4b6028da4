//! Models from the Hugging Face hub, by way of the cache that all of the hub's tools share.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use sha2::{Digest, Sha256};

use super::safetensors::shard_names;
use super::source::{HubModel, LocalFiles};
use crate::error::LoadError;

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Almost every repository has them; they say where answers end and how conversations are written.
const SETTINGS: &[&str] = &["generation_config.json", "tokenizer_config.json"];
/// Newer repositories have the template in a file of its own.
const TEMPLATE: &str = "chat_template.jinja";
/// How sentence-transformers makes embeddings.
const SENTENCE: &[&str] = &["modules.json", "1_Pooling/config.json", "sentence_bert_config.json"];

/// The model's files, from the cache if it holds all of them, else from the hub, else from the cache if it holds at least
/// what cannot be done without. The cache is the one that `HF_HOME` names, as for all of the hub's tools.
///
/// # Errors
/// [`LoadError::Hub`] with what to do.
pub(super) fn fetch(model: &HubModel) -> Result<LocalFiles, LoadError> {
    let cache = cache(model)?;
    let repo = Repo::with_revision(model.repo.clone(), RepoType::Model, model.revision.clone());
    let found = cached(model, &cache.repo(repo.clone()));
    if let Some(files) = found.clone().filter(is_complete) {
        return Ok(files);
    }
    match (download(model, &cache, repo), found) {
        (Err(error), Some(files)) => {
            tracing::warn!(%error, "the hub's cache lacks the model's settings, and the hub is out of reach");
            Ok(files)
        }
        (result, _) => result,
    }
}

fn cache(model: &HubModel) -> Result<Cache, LoadError> {
    if let Some(folder) = &model.cache_dir {
        return Ok(Cache::new(folder.clone()));
    }
    // It panics where there is neither `HF_HOME` nor a home folder.
    std::panic::catch_unwind(Cache::from_env).map_err(|_| LoadError::Hub {
        repo: model.repo.clone(),
        file: CONFIG.to_owned(),
        message: "there is no folder for the hub's cache: set HF_HOME, or give `cache_dir`".to_owned(),
    })
}

/// Whether nothing is missing that could change answers.
fn is_complete(files: &LocalFiles) -> bool {
    match files {
        LocalFiles::Gguf(_) => true,
        LocalFiles::Directory(folder) => SETTINGS.iter().all(|file| folder.join(file).is_file()),
    }
}

/// What is needed, if the cache has all of it.
fn cached(model: &HubModel, cache: &CacheRepo) -> Option<LocalFiles> {
    if let Some(file) = &model.gguf_file {
        return cache.get(file).map(LocalFiles::Gguf);
    }
    let folder = cache.get(CONFIG)?.parent()?.to_owned();
    cache.get("tokenizer.json")?;
    let complete = match cache.get(SINGLE) {
        Some(_) => true,
        None => shard_names(&cache.get(INDEX)?).ok()?.iter().all(|shard| cache.get(shard).is_some()),
    };
    complete.then_some(LocalFiles::Directory(folder))
}

fn download(model: &HubModel, cache: &Cache, repo: Repo) -> Result<LocalFiles, LoadError> {
    let api = ApiBuilder::from_env().with_cache_dir(cache.path().clone()).with_progress(false).build();
    let api = api.map_err(|error| failed(model, CONFIG, &error))?.repo(repo);
    match &model.gguf_file {
        Some(file) => Ok(LocalFiles::Gguf(get(model, &api, file)?)),
        None => download_folder(model, &api),
    }
}

fn download_folder(model: &HubModel, api: &ApiRepo) -> Result<LocalFiles, LoadError> {
    let info = api.info().map_err(|error| failed(model, CONFIG, &error))?;
    let has = |name: &str| info.siblings.iter().any(|sibling| sibling.rfilename == name);
    let config = get(model, api, CONFIG)?;
    get(model, api, "tokenizer.json")?;
    for file in SETTINGS.iter().chain(&[TEMPLATE]).chain(SENTENCE).filter(|file| has(file)) {
        get(model, api, file)?;
    }
    if has(SINGLE) {
        get(model, api, SINGLE)?;
    } else {
        for shard in shard_names(&get(model, api, INDEX)?)? {
            get(model, api, &shard)?;
        }
    }
    Ok(LocalFiles::Directory(config.parent().map_or_else(PathBuf::new, Path::to_owned)))
}

fn get(model: &HubModel, api: &ApiRepo, file: &str) -> Result<PathBuf, LoadError> {
    let path = api.get(file).map_err(|error| failed(model, file, &error))?;
    match mismatch(&path) {
        None => Ok(path),
        Some(message) => Err(LoadError::Hub { repo: model.repo.clone(), file: file.to_owned(), message }),
    }
}

/// What is wrong with a downloaded file. The cache names the content of a large file after its SHA-256.
fn mismatch(path: &Path) -> Option<String> {
    let blob = path.canonicalize().ok()?;
    let expected = blob.file_name()?.to_str()?;
    if expected.len() != 64 || !expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = Sha256::new();
    std::io::copy(&mut std::fs::File::open(&blob).ok()?, &mut hash).ok()?;
    let found = format!("{:x}", hash.finalize());
    let broken = format!("the download {} has the SHA-256 {found}: delete it and try again", blob.display());
    (found != expected).then_some(broken)
}

fn failed(model: &HubModel, file: &str, error: &ApiError) -> LoadError {
    LoadError::Hub {
        repo: model.repo.clone(),
        file: file.to_owned(),
        message: format!("{error}; check the name and the network, or give a local folder or .gguf file instead"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache as the hub's tools lay it out, with these files in its one snapshot.
    fn cache_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let repo = root.path().join("models--owner--name");
        let snapshot = repo.join("snapshots/abc");
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(repo.join("refs")).unwrap();
        std::fs::write(repo.join("refs/main"), "abc").unwrap();
        for (name, text) in files {
            std::fs::write(snapshot.join(name), text).unwrap();
        }
        root
    }

    #[test]
    fn a_complete_snapshot_in_the_cache_needs_no_network() {
        let index = r#"{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#;
        let tokenizer = ("tokenizer.json", "{}");
        let settings = [("generation_config.json", "{}"), ("tokenizer_config.json", "{}")];
        let complete: [&[(&str, &str)]; 2] = [
            &[(CONFIG, "{}"), tokenizer, (SINGLE, "")],
            &[(CONFIG, "{}"), tokenizer, (INDEX, index), ("one.safetensors", ""), ("two.safetensors", "")],
        ];
        for files in complete {
            let root = cache_with(&[files, &settings].concat());
            let model = HubModel::new("owner/name").with_cache_dir(root.path());
            let folder = root.path().join("models--owner--name/snapshots/abc");
            assert_eq!(fetch(&model).unwrap(), LocalFiles::Directory(folder));
        }
        let root = cache_with(&[("smol.gguf", "")]);
        let model = HubModel::new("owner/name").with_cache_dir(root.path()).with_gguf_file("smol.gguf");
        let file = root.path().join("models--owner--name/snapshots/abc/smol.gguf");
        assert_eq!(fetch(&model).unwrap(), LocalFiles::Gguf(file));
    }

    #[test]
    fn an_incomplete_snapshot_is_not_taken_for_the_model() {
        let index = r#"{"weight_map": {"a": "one.safetensors"}}"#;
        let incomplete: [&[(&str, &str)]; 3] = [
            &[(CONFIG, "{}")],
            &[(CONFIG, "{}"), ("tokenizer.json", "{}")],
            &[(CONFIG, "{}"), ("tokenizer.json", "{}"), (INDEX, index)],
        ];
        for files in incomplete {
            let root = cache_with(files);
            let model = HubModel::new("owner/name");
            let repo = Repo::with_revision(model.repo.clone(), RepoType::Model, model.revision.clone());
            assert_eq!(cached(&model, &Cache::new(root.path().to_owned()).repo(repo)), None);
        }
    }

    #[test]
    fn a_blob_must_have_the_hash_that_is_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let sha256_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let cases =
            [(sha256_of_abc, "abc", false), (sha256_of_abc, "abd", true), ("etag-of-a-small-file", "abd", false)];
        for (name, text, is_broken) in cases {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert_eq!(mismatch(&path).is_some(), is_broken, "{name} with {text}");
        }
    }
}
