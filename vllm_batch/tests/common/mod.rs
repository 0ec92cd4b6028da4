//! The tiny model that the engine's tests run on.

use std::path::{Path, PathBuf};

use vllm_batch::{EngineBuilder, LocalEngine};

/// Bytes of one KV block of 16 tokens: 3 layers, keys and values of 2 heads of 16 numbers.
pub(crate) const BLOCK: usize = 16 * 3 * 2 * 2 * 16 * 4;

pub(crate) fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/arch/llama")
}

pub(crate) fn builder() -> EngineBuilder {
    LocalEngine::builder(model()).threads(1)
}
