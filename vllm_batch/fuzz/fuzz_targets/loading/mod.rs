//! What the targets that load a model share.

#![allow(dead_code, unreachable_pub)] // Each target uses a part of it.

use std::path::{Path, PathBuf};

use vllm_batch::{LocalEngine, Request, SamplingParams};

/// A file of the test data.
pub fn test_data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(path)
}

/// Loads the model: it is refused with a code, or answers a request, whatever its answer is.
pub fn load_and_run(model: &Path) {
    let built = LocalEngine::builder(model)
        .kv_cache_memory(1 << 20)
        .max_num_seqs(2)
        .max_num_batched_tokens(32)
        .threads(1)
        .build_core();
    let mut engine = match built {
        Ok(engine) => engine,
        Err(error) => return assert!(!error.code().is_empty() && !error.to_string().is_empty()),
    };
    let request = Request::new("1", "the fox").with_sampling_params(SamplingParams::greedy().with_max_tokens(2));
    if engine.add_request(request).is_err() {
        return;
    }
    for _ in 0..64 {
        if !engine.has_unfinished() || engine.step().is_err() {
            return;
        }
    }
    assert!(!engine.has_unfinished(), "a request of a few tokens ends");
}

/// The bytes of a file whose end is left out because it is all zeros: `head` and, in four bytes, how many zeros follow, up to
/// a mebibyte.
pub fn with_zeros(input: &[u8]) -> Option<Vec<u8>> {
    let (head, count) = input.split_last_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize % ((1 << 20) + 1);
    let mut file = head.to_vec();
    file.resize(head.len() + count, 0);
    Some(file)
}
