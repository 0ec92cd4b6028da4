//! Models of each kind of architecture through the engine, from their folders: the tokens are those of transformers.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use candle_core::safetensors::load;
use candle_core::{DType, Device};
use vllm_batch::{BatchEngine, BatchEngineExt, LoadError, LocalEngine, Request, SamplingParams};

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/arch").join(name)
}

/// The fixture with the tokenizer of another: all of them have 512 tokens.
fn model(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (from, file) in [(name, "config.json"), (name, "model.safetensors"), ("llama", "tokenizer.json")] {
        std::fs::copy(fixture(from).join(file), folder.path().join(file)).unwrap();
    }
    folder
}

/// Prompts of the fixture, and their greedy tokens up to where two are as good as equal.
fn expected(name: &str) -> Vec<(Vec<u32>, Vec<u32>)> {
    let tensors = load(fixture(name).join("expected.safetensors"), &Device::Cpu).unwrap();
    let ids = |name: String| tensors[&name].to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap();
    let case = |i: usize| {
        let margins = tensors[&format!("p{i}.margin")].to_vec1::<f32>().unwrap();
        let clear = margins.iter().take_while(|margin| **margin > 1e-3).count();
        (ids(format!("p{i}.input_ids")), ids(format!("p{i}.greedy"))[..clear].to_vec())
    };
    (0..3).map(case).collect()
}

#[test]
fn families_give_the_tokens_of_transformers_from_a_folder() {
    let names =
        ["mistral_swa", "smollm3", "qwen2", "qwen3", "qwen3_moe", "gemma2", "gemma3", "phi3", "olmo2", "granite"];
    for name in names {
        let folder = model(name);
        let engine = LocalEngine::builder(folder.path()).threads(2).max_num_batched_tokens(20).build().unwrap();
        let cases = expected(name);
        let requests = cases.iter().enumerate().map(|(i, (prompt, greedy))| {
            let params = SamplingParams::greedy().with_ignore_eos(true).with_max_tokens(greedy.len() as u32);
            Request::new(format!("{i}"), prompt.clone()).with_sampling_params(params)
        });
        let outputs = engine.generate(requests);
        for (output, (_, greedy)) in outputs.into_iter().zip(&cases) {
            assert!(greedy.len() > 4, "{name} has something to compare");
            assert_eq!(output.unwrap().outputs[0].token_ids, *greedy, "{name}");
        }
    }
}

/// Keys and values of one block of 16 tokens: layers, both, heads, width of a head, tokens, bytes of a number.
const BLOCK: usize = 3 * 2 * 2 * 16 * 16 * 4;

#[test]
fn too_little_memory_for_the_context_names_the_largest_that_fits() {
    let built = LocalEngine::builder(fixture("llama")).max_model_len(512).kv_cache_memory(5 * BLOCK + 17).build();
    let Err(LoadError::KvCacheTooSmall { max_model_len, needed, available, largest_max_model_len }) = built else {
        panic!("{built:?}")
    };
    assert_eq!((max_model_len, needed, available), (512, 32 * BLOCK, 5 * BLOCK + 17));
    assert_eq!(largest_max_model_len, 80);
    let builder = LocalEngine::builder(fixture("llama")).kv_cache_memory(5 * BLOCK + 17);
    let engine = builder.max_model_len(largest_max_model_len).build().unwrap();
    assert_eq!(engine.spec().max_model_len, 80);
}
