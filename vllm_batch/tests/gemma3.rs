//! Gemma 3 270M as a GGUF file against llama.cpp: token ids of prompts, and greedy tokens.

#![allow(clippy::unwrap_used)]

#[path = "../../examples/demo_model/mod.rs"]
mod demo_model;

use serde::Deserialize;
use vllm_batch::{BatchEngineExt, LocalEngine, Request, SamplingParams, WeightDtype};

/// One line of the reference file, which `scripts/make_gemma3_reference.py` writes.
#[derive(Deserialize)]
struct Reference {
    prompt: String,
    prompt_token_ids: Vec<u32>,
    greedy: Vec<u32>,
    /// By how much the best logit of a step is above the second.
    margins: Vec<f32>,
}

/// Where two tokens are nearly as good as each other, another order of sums may choose the other one.
const CLEAR: f32 = 0.05;

#[test]
fn prompts_and_greedy_tokens_are_those_of_llama_cpp() {
    let lines = include_str!("data/gemma3_reference.jsonl").lines();
    let references: Vec<Reference> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let path = demo_model::gemma3().expect("the model");
    let engine = LocalEngine::builder(path).dtype(WeightDtype::F32).max_model_len(1024).build().unwrap();
    let requests = references.iter().enumerate().map(|(i, reference)| {
        let params = SamplingParams::greedy().with_max_tokens(reference.greedy.len() as u32).with_ignore_eos(true);
        Request::new(format!("{i}"), reference.prompt.as_str()).with_sampling_params(params)
    });
    let mut compared = 0;
    for (output, reference) in engine.generate(requests).into_iter().zip(&references) {
        let output = output.unwrap();
        let clear = reference.margins.iter().take_while(|margin| **margin >= CLEAR).count();
        compared += clear;
        assert_eq!(*output.prompt_token_ids, reference.prompt_token_ids, "{}", reference.prompt);
        assert_eq!(output.outputs[0].token_ids[..clear], reference.greedy[..clear], "{}", reference.prompt);
    }
    assert!(references.len() == 8 && compared >= 8 * 8, "{compared} tokens were compared");
}
