//! The real demo model against transformers: rendered prompts, token ids, greedy tokens, and the same bits however the
//! requests are batched.

#[path = "../../examples/demo_model/mod.rs"]
mod demo_model;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;
use vllm_batch::{
    BatchEngineExt, CompletionOutput, EngineBuilder, FinishReason, KvCacheDtype, LocalEngine, Message, Prompt, Request,
    RequestOutput, SamplingParams, WeightDtype,
};

/// One line of the reference file.
#[derive(Deserialize)]
struct Reference {
    custom_id: String,
    messages: Vec<Message>,
    prompt_token_ids: Vec<u32>,
    greedy_token_ids: Vec<u32>,
    margin: Vec<f32>,
    first_logprobs: Vec<(u32, f32)>,
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

/// The weights as f32, as transformers has them.
fn reference() -> EngineBuilder {
    builder().dtype(WeightDtype::F32)
}

/// The reference requests: greedy, and as long as the references.
fn requests() -> Vec<Request> {
    let params = SamplingParams::greedy().with_max_tokens(48).with_ignore_eos(true).with_logprobs(5);
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
    let outputs = run(reference(), requests());
    for (reference, output) in references().iter().zip(&outputs) {
        assert_eq!(*output.prompt_token_ids, reference.prompt_token_ids, "{}", reference.custom_id);
        // Beyond a step where two tokens were as good as equal, either continuation is right.
        let clear = reference.margin.iter().position(|margin| *margin < 0.02).unwrap_or(reference.margin.len());
        let (actual, expected) = (&output.outputs[0].token_ids, &reference.greedy_token_ids);
        assert_eq!(actual[..clear], expected[..clear], "{}", reference.custom_id);
        assert_eq!(output.outputs[0].finish_reason, FinishReason::Length);
        check_first_logprobs(reference, &output.outputs[0]);
    }
}

/// The five most likely first tokens; two that are as good as equal may come in either order.
fn check_first_logprobs(reference: &Reference, completion: &CompletionOutput) {
    let first = &completion.logprobs.as_ref().expect("log-probabilities were asked for")[0];
    for (actual, (expected_token, expected)) in first.top.iter().zip(&reference.first_logprobs) {
        let place = format!("{}: {actual:?} for {expected_token} {expected}", reference.custom_id);
        assert!((actual.logprob - expected).abs() <= 2e-3, "{place}");
        assert!(reference.first_logprobs.iter().any(|(token, _)| Some(*token) == actual.token_id), "{place}");
    }
    assert_eq!(first.top.len(), reference.first_logprobs.len());
}

/// The share of positions in the reference answers at which the most likely token, given all tokens before it, is that
/// of transformers.
fn agreement(engine: EngineBuilder) -> f64 {
    let params = SamplingParams::greedy().with_max_tokens(1).with_prompt_logprobs(1);
    let request = |reference: &Reference| {
        let token_ids = [reference.prompt_token_ids.as_slice(), &reference.greedy_token_ids].concat();
        Request::new(reference.custom_id.clone(), Prompt::TokenIds(token_ids)).with_sampling_params(params.clone())
    };
    let outputs = run(engine, references().iter().map(request).collect());
    let (mut same, mut total) = (0, 0);
    for (reference, output) in references().iter().zip(&outputs) {
        let logprobs = output.prompt_logprobs.as_ref().expect("log-probabilities were asked for");
        let answer = &logprobs[reference.prompt_token_ids.len()..];
        for (position, expected) in answer.iter().zip(&reference.greedy_token_ids) {
            let position = position.as_ref().expect("every position but the first has them");
            same += usize::from(position.top[0].token_id == Some(*expected));
            total += 1;
        }
    }
    assert_eq!(total, 24 * 48);
    same as f64 / f64::from(total)
}

#[test]
fn quantised_products_mostly_choose_the_same_tokens() {
    let (exact, quantized) = (agreement(reference()), agreement(builder()));
    assert!(exact >= 0.99, "float32: {exact}");
    // Measured: 0.968, and the same bits everywhere.
    assert!(quantized >= 0.95, "as the file has them: {quantized}");
    let half = agreement(reference().kv_cache_dtype(KvCacheDtype::F16));
    assert!(half >= 0.99, "float32 with keys and values of float16: {half}");
}

/// 32 requests, the references and eight sampled ones, short enough to be run again and again.
fn mixed() -> Vec<Request> {
    let sampled = SamplingParams::default().with_temperature(0.9).with_top_p(0.95).with_ignore_eos(true);
    let own = (0..8).map(|i| {
        let messages = vec![Message::user(format!("Write {i} words about the sea."))];
        Request::new(format!("sampled-{i}"), messages).with_sampling_params(sampled.clone().with_max_tokens(12 + i))
    });
    let short = requests().into_iter().map(|request| {
        let params = request.sampling_params().cloned().expect("a text").with_max_tokens(12);
        request.with_sampling_params(params)
    });
    short.chain(own).collect()
}

/// The tokens of every answer, by request id.
fn tokens(engine: EngineBuilder, requests: Vec<Request>) -> BTreeMap<String, Vec<u32>> {
    run(engine, requests)
        .into_iter()
        .map(|mut output| (output.request_id, output.outputs.remove(0).token_ids))
        .collect()
}

#[test]
fn answers_are_the_same_bits_however_they_were_batched() {
    let reversed: Vec<_> = mixed().into_iter().rev().collect();
    let expected = tokens(builder(), mixed());
    // Blocks of 16 tokens take 360 KiB: about 130 for prompts that need some 900.
    let small = builder().kv_cache_memory(48 << 20);
    let ways = [
        ("in reverse order, eight at a time", builder().max_num_seqs(8), reversed),
        ("in small chunks on one thread", builder().max_num_batched_tokens(100).threads(1), mixed()),
        ("without a prefix cache", builder().enable_prefix_caching(false), mixed()),
        ("with little memory", small.max_model_len(1024).max_num_seqs(32), mixed()),
        ("on two threads", builder().threads(2), mixed()),
    ];
    for (way, engine, requests) in ways {
        assert_eq!(tokens(engine, requests), expected, "{way}");
    }
    let widened = tokens(reference(), mixed());
    assert_eq!(tokens(reference().max_num_batched_tokens(100).threads(1), mixed()), widened, "as f32");
    for request in mixed().into_iter().step_by(5) {
        let id = request.request_id.clone();
        assert_eq!(tokens(builder().max_num_seqs(1), vec![request])[&id], expected[&id], "{id} alone");
    }
}
