//! The real demo model against transformers: rendered prompts, token ids, greedy tokens, and the same bits however the
//! requests are batched.

#[path = "../../examples/demo_model/mod.rs"]
mod demo_model;

use std::sync::OnceLock;

use serde::Deserialize;
use vllm_batch::{
    BatchEngineExt, EngineBuilder, FinishReason, LocalEngine, Message, Request, RequestOutput, SamplingParams,
};

/// One line of the reference file.
#[derive(Deserialize)]
struct Reference {
    custom_id: String,
    messages: Vec<Message>,
    prompt_token_ids: Vec<u32>,
    greedy_token_ids: Vec<u32>,
    margin: Vec<f32>,
}

fn references() -> Vec<Reference> {
    let lines = include_str!("data/smollm2_reference.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).expect("a reference")).collect()
}

fn builder() -> EngineBuilder {
    static PATH: OnceLock<std::path::PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| demo_model::gguf().expect("the demo model"));
    LocalEngine::builder(path.clone()).max_model_len(2048)
}

/// The reference requests: greedy, and as long as the references.
fn requests() -> Vec<Request> {
    let params = SamplingParams::greedy().with_max_tokens(48).with_ignore_eos(true);
    let request = |reference: Reference| {
        Request::new(reference.custom_id, reference.messages).with_sampling_params(params.clone())
    };
    references().into_iter().map(request).collect()
}

fn run(engine: EngineBuilder, requests: Vec<Request>) -> Vec<RequestOutput> {
    let engine = engine.build().expect("the model loads");
    engine.generate(requests).into_iter().map(|result| result.expect("an answer")).collect()
}

#[test]
fn prompts_and_greedy_tokens_are_those_of_transformers() {
    let outputs = run(builder(), requests());
    for (reference, output) in references().iter().zip(&outputs) {
        assert_eq!(*output.prompt_token_ids, reference.prompt_token_ids, "{}", reference.custom_id);
        // Beyond a step where two tokens were as good as equal, either continuation is right.
        let clear = reference.margin.iter().position(|margin| *margin < 0.02).unwrap_or(reference.margin.len());
        let (actual, expected) = (&output.outputs[0].token_ids, &reference.greedy_token_ids);
        assert_eq!(actual[..clear], expected[..clear], "{}", reference.custom_id);
        assert_eq!(output.outputs[0].finish_reason, FinishReason::Length);
    }
}
