//! The decoder against transformers' own numbers.

mod encoder;
mod gguf;
mod table;

use std::path::{Path, PathBuf};

use candle_core::safetensors::load;
use candle_core::{DType, Device, Tensor};

use serde_json::{Map, Value};

use super::config::Config;
use super::families::spec_from_hugging_face;
use super::safetensors::SafetensorsFiles;
use super::weights::WeightLoader;
use super::*;
use crate::kernels::{CacheDtype, Team, WeightDtype};

/// A tiny random model, with what transformers computes for it in f32.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/arch").join(name)
}

/// Every fixture.
fn fixtures() -> Vec<String> {
    let folders =
        std::fs::read_dir(fixture("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = folders.collect();
    names.sort();
    assert!(names.len() >= 12, "{names:?}");
    names
}

const MAX_LEN: usize = 128;
const CACHES: [CacheDtype; 2] = [CacheDtype::F32, CacheDtype::F16];

fn decoder(name: &str) -> Decoder {
    decoder_as(name, WeightDtype::F32)
}

fn decoder_as(name: &str, dtype: WeightDtype) -> Decoder {
    let config = std::fs::read(fixture(name).join("config.json")).unwrap();
    load_decoder(name, &serde_json::from_slice(&config).unwrap(), dtype)
}

/// The weights of a fixture under another configuration.
fn decoder_with(name: &str, config: &Map<String, Value>) -> Decoder {
    load_decoder(name, config, WeightDtype::F32)
}

fn load_decoder(name: &str, config: &Map<String, Value>, dtype: WeightDtype) -> Decoder {
    let (spec, names) =
        spec_from_hugging_face(&Config::new("", config)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let tensors = SafetensorsFiles::open(&fixture(name)).unwrap();
    let loader = WeightLoader { source: &tensors, names, dtype, head_dim: spec.head_dim };
    Decoder::load(spec, &loader, MAX_LEN).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A prompt, the logits after each of its tokens, and the greedy tokens that follow, if any, with their margins.
struct Expected {
    input_ids: Vec<u32>,
    logits: Vec<Vec<f32>>,
    greedy: Vec<u32>,
    margin: Vec<f32>,
}

fn expected(name: &str) -> Vec<Expected> {
    let tensors = load(fixture(name).join("expected.safetensors"), &Device::Cpu).unwrap();
    let ids = |tensor: &Tensor| tensor.to_dtype(DType::U32).unwrap().to_vec1().unwrap();
    let list = |name: String| tensors.get(&name);
    let prompts = (0..).map_while(|i| Some((i, list(format!("p{i}.input_ids"))?)));
    let cases = prompts.map(|(i, input_ids)| Expected {
        input_ids: ids(input_ids),
        logits: tensors[&format!("p{i}.logits")].to_vec2().unwrap(),
        greedy: list(format!("p{i}.greedy")).map(ids).unwrap_or_default(),
        margin: list(format!("p{i}.margin")).map(|margin| margin.to_vec1().unwrap()).unwrap_or_default(),
    });
    let cases: Vec<_> = cases.collect();
    assert!(!cases.is_empty(), "{name}");
    cases
}

/// Logits after each token, computed `chunk` tokens at a time, in blocks of f32 that are not neighbours, without those
/// that no token to come sees.
fn logits(decoder: &Decoder, token_ids: &[u32], chunk: usize) -> Vec<Vec<f32>> {
    logits_with(decoder, CacheDtype::F32, token_ids, chunk)
}

fn logits_with(decoder: &Decoder, cache: CacheDtype, token_ids: &[u32], chunk: usize) -> Vec<Vec<f32>> {
    let blocks = token_ids.len().div_ceil(BLOCK_SIZE) as u32;
    let table: Vec<u32> = (0..blocks).map(|i| (blocks - 1 - i) * 2).collect();
    let mut cache = KvCache::new(&decoder.spec, cache, blocks as usize * 2).unwrap();
    let mut rows = Vec::new();
    for (i, chunk_ids) in token_ids.chunks(chunk).enumerate() {
        let mut input = ModelInput::default();
        let first =
            decoder.spec.sliding_window().map_or(0, |window| (i * chunk + 1).saturating_sub(window)) / BLOCK_SIZE;
        let held = HeldBlocks { first, ids: table[first..].to_vec() };
        input.push(chunk_ids, i * chunk, held, 0..chunk_ids.len());
        rows.extend(forward(decoder, &input, &mut cache));
    }
    rows
}

fn forward(decoder: &Decoder, input: &ModelInput, cache: &mut KvCache) -> Vec<Vec<f32>> {
    let mut work = Workspace::default();
    let hidden = decoder.forward(input, cache, &mut work).unwrap();
    decoder.logits(&hidden, &mut work).unwrap().to_vec2().unwrap()
}

fn argmax(row: &[f32]) -> u32 {
    row.iter().enumerate().fold(0, |best, (i, x)| if *x > row[best] { i } else { best }) as u32
}

/// Fails where a number differs by more than 1e-4 of the largest.
fn assert_close(actual: &[Vec<f32>], expected: &[Vec<f32>], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let scale = expected.iter().flatten().fold(0f32, |max, x| max.max(x.abs()));
    let differences = actual.iter().flatten().zip(expected.iter().flatten()).map(|(a, b)| (a - b).abs());
    let largest = differences.fold(0f32, |max, x| if x <= max { max } else { x });
    assert!(largest <= 1e-4 * scale, "{what}: off by {largest} of {scale}");
}

#[test]
fn logits_are_those_of_transformers() {
    for name in fixtures() {
        let decoder = decoder(&name);
        for (i, case) in expected(&name).iter().enumerate() {
            assert_close(&logits(&decoder, &case.input_ids, 1000), &case.logits, &format!("{name} p{i}"));
        }
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    for name in fixtures() {
        let decoder = decoder(&name);
        for (i, case) in expected(&name).iter().enumerate() {
            let token_ids: Vec<u32> = case.input_ids.iter().chain(&case.greedy).copied().collect();
            let logits = logits(&decoder, &token_ids, 7);
            let steps = case.greedy.iter().zip(&case.margin).enumerate().filter(|(_, (_, margin))| **margin > 1e-3);
            for (step, (token, margin)) in steps {
                let next = argmax(&logits[case.input_ids.len() + step - 1]);
                assert_eq!(next, *token, "{name} p{i} step {step}, margin {margin}");
            }
        }
    }
}

#[test]
fn logits_with_keys_and_values_of_half_precision_are_close() {
    for name in fixtures() {
        let decoder = decoder(&name);
        for (i, case) in expected(&name).iter().enumerate() {
            let logits = logits_with(&decoder, CacheDtype::F16, &case.input_ids, 1000);
            let cosine = cosine(&logits.concat(), &case.logits.concat());
            assert!(cosine >= 0.99999, "{name} p{i}: {cosine}");
        }
    }
}

#[test]
fn logits_of_quantised_weights_point_the_same_way() {
    // Random weights of width 64 are a hard case: real ones have more numbers to average over.
    for (dtype, bound) in [(WeightDtype::Q8_0, 0.998), (WeightDtype::Q4_0, 0.9)] {
        let decoder = decoder_as("llama", dtype);
        for (i, case) in expected("llama").iter().enumerate() {
            let cosine = cosine(&logits(&decoder, &case.input_ids, 1000).concat(), &case.logits.concat());
            assert!(cosine >= bound, "{dtype:?} p{i}: {cosine}");
        }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn chunks_and_threads_do_not_change_a_bit() {
    for name in fixtures() {
        let decoder = decoder(&name);
        for cache in CACHES {
            check_chunks_and_threads(&name, &decoder, cache);
        }
    }
    for dtype in [WeightDtype::Q8_0, WeightDtype::Q4_0] {
        check_chunks_and_threads(dtype.as_str(), &decoder_as("llama", dtype), CacheDtype::F16);
    }
}

fn check_chunks_and_threads(name: &str, decoder: &Decoder, cache: CacheDtype) {
    let vocab = decoder.spec.vocab_size as u32;
    let token_ids: Vec<u32> = (0..117).map(|i| (i * 37 + 5) % vocab).collect();
    let all = logits_with(decoder, cache, &token_ids, 1000);
    assert!(all.iter().flatten().all(|x| x.is_finite()), "{name}");
    for threads in [1, 3] {
        let team = Team::new(threads).unwrap();
        for chunk in [1, 7, 117] {
            let chunked = team.install(|| logits_with(decoder, cache, &token_ids, chunk));
            assert!(chunked == all, "{name}, {cache:?}: chunk {chunk}, {threads} threads");
        }
    }
}

#[test]
fn neither_spans_nor_other_rows_change_a_bit() {
    for (name, dtype) in fixtures().into_iter().flat_map(|name| CACHES.map(|cache| (name.clone(), cache))) {
        let decoder = decoder(&name);
        let vocab = decoder.spec.vocab_size as u32;
        let token_ids: Vec<u32> = (0..61).map(|i| (i * 91 + 5) % vocab).collect();
        let all = logits_with(&decoder, dtype, &token_ids, 1000);
        let table: Vec<u32> = (0..4).collect();
        let mut cache = KvCache::new(&decoder.spec, dtype, 4).unwrap();
        let mut one_by_one = ModelInput::default();
        for (i, token) in token_ids.iter().enumerate() {
            one_by_one.push(&[*token], i, table.clone(), 0..1);
        }
        assert!(forward(&decoder, &one_by_one, &mut cache) == all, "{name} {dtype:?}");
        for rows in [60..61, 7..20, 0..1] {
            let mut input = ModelInput::default();
            input.push(&token_ids, 0, table.clone(), rows.clone());
            assert!(forward(&decoder, &input, &mut cache) == all[rows], "{name} {dtype:?}");
        }
    }
}

#[test]
fn a_tensor_that_nothing_uses_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(fixture("llama").join(name), folder.path().join(name)).unwrap();
    }
    let mut tensors = load(fixture("llama").join("model.safetensors"), &Device::Cpu).unwrap();
    let load_with = |tensors: &std::collections::HashMap<String, Tensor>| {
        candle_core::safetensors::save(tensors, folder.path().join("model.safetensors")).unwrap();
        let files = ModelFiles::open(&ModelSource::Directory(folder.path().to_owned())).unwrap();
        files.load(WeightDtype::F32, 128).map(|_| ())
    };
    assert!(load_with(&tensors).is_ok());
    let norm = "model.layers.1.self_attn.q_norm.weight";
    tensors.insert(norm.to_owned(), Tensor::zeros(16, DType::F32, &Device::Cpu).unwrap());
    let error = load_with(&tensors).unwrap_err();
    assert_eq!(error.code(), "unsupported_config");
    assert!(error.to_string().contains(norm), "{error}");
    tensors.remove(norm);
    tensors.remove("model.layers.2.mlp.up_proj.weight");
    assert_eq!(load_with(&tensors).unwrap_err().code(), "missing_tensor");
}
