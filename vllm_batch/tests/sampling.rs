//! Sampling parameters through the whole engine: several answers to a request, log-probabilities, masks and penalties,
//! the ways to stop, and the same bits however it all was batched.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use candle_core::Device;
use common::{BLOCK, builder, model};
use futures::StreamExt;
use futures::executor::block_on;
use vllm_batch::{
    BatchEngine, BatchEngineExt, CompletionOutput, EngineBuilder, FinishReason, LocalEngine, OutputEvent, Prompt,
    RepetitionDetection, Request, RequestError, RequestOutput, SamplingParams, StopReason, TokenLogprobs, Usage,
};

fn request(id: &str, prompt: &[u32], params: SamplingParams) -> Request {
    Request::new(id, Prompt::TokenIds(prompt.to_vec())).with_sampling_params(params)
}

const PROMPT: [u32; 5] = [5, 300, 17, 220, 81];

fn run(engine: &LocalEngine, request: Request) -> RequestOutput {
    engine.generate([request]).remove(0).unwrap()
}

fn answer(engine: &LocalEngine, params: SamplingParams) -> CompletionOutput {
    run(engine, request("x", &PROMPT, params)).outputs.remove(0)
}

/// Random answers of twelve tokens.
fn sampled() -> SamplingParams {
    SamplingParams::default().with_seed(11).with_max_tokens(12).with_ignore_eos(true)
}

fn greedy() -> SamplingParams {
    SamplingParams::greedy().with_max_tokens(12).with_ignore_eos(true)
}

/// All that an output has but what it cost.
type Answers = (String, Option<String>, Option<Vec<Option<TokenLogprobs>>>, Vec<CompletionOutput>);

fn answers(engine: EngineBuilder, requests: Vec<Request>) -> Vec<Answers> {
    let outputs = engine.build().unwrap().generate(requests).into_iter().map(Result::unwrap);
    let mut answers: Vec<Answers> =
        outputs.map(|output| (output.request_id, output.prompt, output.prompt_logprobs, output.outputs)).collect();
    answers.sort_by(|a, b| a.0.cmp(&b.0));
    answers
}

/// Requests with every parameter that changes or reports what is chosen, over prompts with and without a common
/// beginning.
fn requests() -> Vec<Request> {
    let params = [
        sampled().with_n(3),
        sampled().with_n(2).with_best_of(4),
        sampled().with_n(3).with_logprobs(2).with_prompt_logprobs(1),
        greedy().with_presence_penalty(1.5).with_frequency_penalty(0.5).with_logprobs(0),
        sampled().with_repetition_penalty(1.7).with_n(2),
        greedy().with_logit_bias(BTreeMap::from([(7, 3.0), (300, -100.0)])).with_prompt_logprobs(0),
        sampled().with_allowed_token_ids((0..200).collect()).with_logprobs(5),
        greedy().with_bad_words(vec!["the".to_owned(), "of".to_owned()]).with_min_tokens(4),
        sampled().with_repetition_detection(RepetitionDetection::new(2, 2)).with_temperature(0.2),
        greedy().with_truncate_prompt_tokens(20).with_logprobs(-1),
    ];
    let prompt = |i: u32| (0..(i % 2) * 35).chain((0..=(i * 7) % 60).map(move |j| (i * 31 + j * 17) % 512));
    (0..30u32)
        .zip(params.iter().cycle())
        .map(|(i, params)| {
            let params = params.clone().with_max_tokens(5 + i % 20);
            let token_ids: Vec<u32> = prompt(i).collect();
            request(&format!("row-{i}"), &token_ids, params).with_echo(i % 4 == 0)
        })
        .collect()
}

#[test]
fn no_parameter_makes_answers_depend_on_how_requests_are_batched() {
    let expected = answers(builder().max_num_seqs(1).enable_prefix_caching(false), requests());
    let reversed = || requests().into_iter().rev().collect::<Vec<_>>();
    let ways = [
        ("batched", builder().max_num_seqs(64), requests()),
        ("reversed", builder().max_num_seqs(7), reversed()),
        ("in small chunks", builder().max_num_batched_tokens(3), requests()),
        ("without prefix cache", builder().enable_prefix_caching(false), requests()),
        ("preempted", builder().max_model_len(160).kv_cache_memory(10 * BLOCK), requests()),
        ("on three threads", builder().threads(3), reversed()),
    ];
    for (name, engine, requests) in ways {
        assert_eq!(answers(engine, requests), expected, "{name}");
    }
    for (request, expected) in requests().into_iter().map(|request| {
        let id = request.request_id.clone();
        (request, expected.iter().find(|answers| answers.0 == id).unwrap())
    }) {
        assert_eq!(&answers(builder(), vec![request])[0], expected, "alone");
    }
}

#[test]
fn the_requests_above_do_preempt() {
    let mut core = builder().max_model_len(160).kv_cache_memory(10 * BLOCK).build_core().unwrap();
    for request in requests() {
        core.add_request(request).unwrap();
    }
    while core.has_unfinished() {
        core.step().unwrap();
    }
    assert!(core.num_preemptions() > 0);
}

#[test]
fn more_answers_do_not_change_the_first_ones() {
    let engine = builder().build().unwrap();
    let outputs = |n| run(&engine, request("x", &PROMPT, sampled().with_n(n)));
    let four = outputs(4);
    for n in 1..4 {
        let output = outputs(n);
        assert_eq!(output.outputs, four.outputs[..n as usize]);
        assert_eq!(output.usage, Usage::new(5, 12 * n as usize, 0));
    }
    let indexes: Vec<usize> = four.outputs.iter().map(|output| output.index).collect();
    assert_eq!(indexes, [0, 1, 2, 3]);
    let mut texts: Vec<&str> = four.outputs.iter().map(|output| output.text.as_str()).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), 4, "each has random numbers of its own");
}

#[test]
fn deltas_say_which_answer_they_belong_to() {
    let engine = builder().build().unwrap();
    let params = sampled().with_n(3);
    let events: Vec<OutputEvent> = block_on(engine.submit(request("x", &PROMPT, params)).collect());
    let (mut texts, mut num_tokens) = (vec![String::new(); 3], [0; 3]);
    let (last, deltas) = events.split_last().unwrap();
    for event in deltas {
        let OutputEvent::Delta(delta) = event else { panic!("{event:?}") };
        texts[delta.index] += &delta.text;
        num_tokens[delta.index] += delta.num_tokens;
    }
    let OutputEvent::Finished(output) = last else { panic!("{last:?}") };
    let finished: Vec<_> = output.outputs.iter().map(|output| (output.text.clone(), output.token_ids.len())).collect();
    assert_eq!(texts.into_iter().zip(num_tokens).collect::<Vec<_>>(), finished);
}

#[test]
fn best_of_gives_the_answers_with_the_largest_mean_logprob() {
    let engine = builder().build().unwrap();
    let params = sampled().with_temperature(1.5).with_logprobs(0);
    let mean = |output: &CompletionOutput| {
        let logprobs = output.logprobs.as_ref().unwrap();
        assert_eq!(logprobs.len(), output.token_ids.len());
        let sum: f64 = logprobs.iter().map(|logprobs| f64::from(logprobs.chosen.logprob)).sum();
        assert_eq!(output.cumulative_logprob, Some(sum));
        sum / logprobs.len() as f64
    };
    // Stop strings make the lengths differ.
    let params = params.with_stop(vec!["e".to_owned(), "t".to_owned()]);
    let mut all = run(&engine, request("x", &PROMPT, params.clone().with_n(6))).outputs;
    all.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    all.iter_mut().enumerate().for_each(|(index, output)| output.index = index);
    for n in [1, 2, 6] {
        let best = run(&engine, request("x", &PROMPT, params.clone().with_n(n).with_best_of(6)));
        assert_eq!(best.outputs, all[..n as usize]);
        let num_tokens: usize = all.iter().map(|output| output.token_ids.len()).sum();
        assert_eq!(best.usage.completion_tokens, num_tokens, "what was left out was paid for");
    }
    let mut without = params.with_best_of(6);
    without.logprobs = None;
    let best = run(&engine, request("x", &PROMPT, without)).outputs;
    let mut expected = all[0].clone();
    expected.logprobs = None;
    assert_eq!(best, [expected]);
}

#[test]
fn siblings_share_the_blocks_of_their_prompt() {
    let prompt: Vec<u32> = (0..100).collect();
    let run = |enable_prefix_caching| {
        let builder = builder().max_model_len(128).kv_cache_memory(16 * BLOCK);
        let mut core = builder.enable_prefix_caching(enable_prefix_caching).build_core().unwrap();
        core.add_request(request("x", &prompt, sampled().with_n(8))).unwrap();
        let (mut num_steps, mut outputs) = (0, Vec::new());
        while core.has_unfinished() {
            num_steps += 1;
            outputs.extend(core.step().unwrap().into_iter().filter_map(|(_, event)| match event {
                OutputEvent::Finished(output) => Some(output),
                _ => None,
            }));
        }
        assert_eq!(outputs.len(), 1);
        (num_steps, outputs.remove(0))
    };
    let ((shared_steps, shared), (steps, alone)) = (run(true), run(false));
    assert_eq!(shared, alone);
    // Six of seven blocks are shared: eight answers fit together, but only two without sharing.
    assert_eq!((shared_steps, steps), (12, 48));
}

#[test]
fn a_request_with_several_answers_is_aborted_or_fails_as_a_whole() {
    let mut core = builder().build_core().unwrap();
    let id = core.add_request(request("x", &PROMPT, sampled().with_n(5))).unwrap();
    let other = core.add_request(request("y", &PROMPT, sampled())).unwrap();
    core.step().unwrap();
    assert_eq!((core.abort(id), core.abort(id)), (true, false));
    while core.has_unfinished() {
        assert!(core.step().unwrap().iter().all(|(id, _)| *id == other));
    }

    // Token 277 ("ed") once, and then there is nothing left.
    let params = sampled().with_allowed_token_ids(vec![277]).with_bad_words(vec!["eded".to_owned()]).with_n(3);
    let engine = builder().build().unwrap();
    let events: Vec<_> = block_on(engine.submit(request("x", &PROMPT, params)).collect());
    let message = "together with the other parameters, it leaves no token after 1 tokens";
    let failed = OutputEvent::Failed(RequestError::invalid("allowed_token_ids", message));
    assert_eq!((events.len(), events.last()), (4, Some(&failed)));
    assert_eq!(answer(&engine, greedy()).token_ids.len(), 12);
}

#[test]
fn logprobs_of_an_answer_are_those_of_the_same_tokens_in_a_prompt() {
    let engine = builder().build().unwrap();
    let first = run(&engine, request("x", &PROMPT, sampled().with_logprobs(3).with_prompt_logprobs(3)));
    let completion = &first.outputs[0];
    let whole = [&PROMPT[..], &completion.token_ids].concat();
    let again = run(&engine, request("x", &whole, greedy().with_prompt_logprobs(3)));
    let expected: Vec<Option<TokenLogprobs>> = (first.prompt_logprobs.clone().unwrap().into_iter())
        .chain(completion.logprobs.clone().unwrap().into_iter().map(Some))
        .collect();
    assert_eq!(again.prompt_logprobs, Some(expected));
    assert_eq!(again.prompt_logprobs.unwrap()[0], None);
    for (logprobs, token_id) in completion.logprobs.as_ref().unwrap().iter().zip(&completion.token_ids) {
        assert_eq!((logprobs.chosen.token_id, logprobs.top.len()), (Some(*token_id), 3));
        assert_eq!(logprobs.top.iter().filter_map(|token| token.rank).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(logprobs.top.iter().all(|token| token.rank != logprobs.chosen.rank || *token == logprobs.chosen));
    }
}

#[test]
fn the_bytes_of_the_tokens_make_the_text() {
    let engine = builder().build().unwrap();
    // Tokens of parts of characters.
    let bytes: Vec<u32> = (3..259).chain([0, 267]).collect();
    let output = answer(&engine, sampled().with_logprobs(-1).with_allowed_token_ids(bytes).with_max_tokens(40));
    let logprobs = output.logprobs.unwrap();
    let bytes =
        logprobs.iter().filter(|logprobs| logprobs.chosen.token_id > Some(2)).map(|logprobs| &logprobs.chosen.bytes);
    assert_eq!(String::from_utf8_lossy(&bytes.flatten().copied().collect::<Vec<u8>>()), output.text);
    let named = |token_id: u32| &logprobs[0].top.iter().find(|token| token.token_id == Some(token_id)).unwrap().bytes;
    assert_eq!([named(0), named(267)].map(Vec::as_slice), [&b"<pad>"[..], b" the"]);
    assert!(logprobs[0].top.iter().any(|token| std::str::from_utf8(&token.bytes).is_err()));
}

#[test]
fn prompt_logprobs_are_the_log_softmax_of_the_reference() {
    let tensors = candle_core::safetensors::load(model().join("expected.safetensors"), &Device::Cpu).unwrap();
    let engine = builder().build().unwrap();
    for i in 0..3 {
        let ids = tensors[&format!("p{i}.input_ids")].to_dtype(candle_core::DType::U32).unwrap();
        let ids: Vec<u32> = ids.to_vec1().unwrap();
        let logits: Vec<Vec<f32>> = tensors[&format!("p{i}.logits")].to_vec2().unwrap();
        let output = run(&engine, request("x", &ids, greedy().with_prompt_logprobs(-1)));
        let entries = output.prompt_logprobs.unwrap();
        assert_eq!(entries.len(), ids.len());
        for ((entry, logits), token_id) in entries[1..].iter().zip(&logits).zip(&ids[1..]) {
            let entry = entry.as_ref().unwrap();
            let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
            assert_eq!((entry.chosen.token_id, entry.top.len()), (Some(*token_id), 512));
            for token in entry.top.iter().chain([&entry.chosen]) {
                let expected = f64::from(logits[token.token_id.unwrap() as usize]) - total.ln();
                assert!((f64::from(token.logprob) - expected).abs() < 1e-3, "{token:?}, not {expected}");
            }
        }
    }
}

#[test]
fn prompt_logprobs_are_complete_where_the_prompt_is_cached() {
    let engine = builder().build().unwrap();
    let prompt: Vec<u32> = (0..50).collect();
    let with = || request("x", &prompt, greedy().with_prompt_logprobs(1));
    let first = run(&engine, with());
    run(&engine, request("x", &prompt, greedy()));
    assert_eq!(run(&engine, with()), first);
    assert_eq!((first.usage.cached_tokens, first.prompt_logprobs.unwrap().len()), (0, 50));
    assert_eq!(run(&engine, request("x", &prompt, greedy())).usage.cached_tokens, 48);
}

#[test]
fn an_echo_has_the_text_and_the_logprobs_of_the_prompt() {
    let engine = builder().build().unwrap();
    let output = |prompt: Prompt, params: SamplingParams| {
        run(&engine, Request::new("x", prompt).with_sampling_params(params).with_echo(true))
    };
    let text = "the License";
    let plain = output(text.into(), greedy());
    assert_eq!((plain.prompt.as_deref(), &plain.prompt_logprobs), (Some(text), &None));
    let as_ids = output(Prompt::TokenIds(plain.prompt_token_ids.to_vec()), greedy().with_logprobs(2));
    assert_eq!(as_ids.prompt.as_deref(), Some(text));
    let entries = as_ids.prompt_logprobs.unwrap();
    let texts: Vec<String> = entries[1..].iter().map(|entry| entry.as_ref().unwrap().chosen.text().into()).collect();
    assert!(text.ends_with(&texts.concat()) && entries.len() == plain.prompt_token_ids.len(), "{texts:?}");
    assert_eq!(entries[1].as_ref().unwrap().top.len(), 2);
    let cut = output(text.into(), greedy().with_truncate_prompt_tokens(1));
    assert_eq!(cut.prompt.as_deref(), Some(" License"));
    assert_eq!(run(&engine, Request::new("x", text).with_sampling_params(greedy())).prompt, None);
}

#[test]
fn prompts_are_truncated_to_their_last_tokens() {
    let engine = builder().max_model_len(64).build().unwrap();
    let prompt: Vec<u32> = (0..100).collect();
    let cases = [
        (greedy().with_truncate_prompt_tokens(7), 7),
        (greedy().with_truncate_prompt_tokens(52), 52),
        (greedy().with_truncate_prompt_tokens(-1), 52),
        (SamplingParams::greedy().with_ignore_eos(true).with_truncate_prompt_tokens(-1), 63),
        (greedy().with_truncate_prompt_tokens(-1).with_max_tokens(63), 1),
    ];
    for (params, len) in cases {
        let output = run(&engine, request("x", &prompt, params.clone()));
        assert_eq!(*output.prompt_token_ids, prompt[100 - len..], "{params:?}");
    }
    let short = run(&engine, request("x", &prompt[..3], greedy().with_truncate_prompt_tokens(7)));
    assert_eq!(short.prompt_token_ids.len(), 3);
}

#[test]
fn masks_and_biases_decide_which_tokens_come() {
    let engine = builder().build().unwrap();
    let free = answer(&engine, greedy());
    let first = free.token_ids[0];
    let allowed = answer(&engine, sampled().with_allowed_token_ids(vec![3, 4, 5])).token_ids;
    assert!(allowed.iter().all(|token_id| (3..6).contains(token_id)), "{allowed:?}");
    let forced = answer(&engine, greedy().with_logit_bias(BTreeMap::from([(9, 100.0)]))).token_ids;
    assert_eq!(forced, [9; 12]);
    let banned = answer(&engine, greedy().with_logit_bias(BTreeMap::from([(first, -100.0)]))).token_ids;
    assert!(!banned.contains(&first), "{banned:?}");
    // " the" for ever, until the penalty on it is more than it has before the others.
    let the = greedy().with_logit_bias(BTreeMap::from([(267, 30.0)]));
    let count = |params: SamplingParams| answer(&engine, params).token_ids.iter().filter(|id| **id == 267).count();
    assert_eq!([count(the.clone()), count(the.clone().with_repetition_penalty(1e3))], [12, 1]);
    let frequency = count(the.clone().with_logit_bias(BTreeMap::from([(267, 12.0)])).with_frequency_penalty(2.0));
    assert!((2..12).contains(&frequency), "{frequency}");
    // A prompt counts for the repetition penalty alone: tokens of it come all the more where the penalty rewards.
    let rewarded = answer(&engine, greedy().with_repetition_penalty(1e-3)).token_ids;
    assert!(rewarded.iter().all(|token_id| PROMPT.contains(token_id)), "{rewarded:?}");
}

#[test]
fn bad_words_do_not_occur_at_the_beginning_or_after_a_space() {
    let engine = builder().build().unwrap();
    let boost: BTreeMap<u32, f32> = [(267, 100.0), (361, 70.0), (282, 40.0)].into();
    let params = greedy().with_logit_bias(boost);
    assert_eq!(answer(&engine, params.clone()).text, " the".repeat(12));
    let one = params.clone().with_bad_words(vec!["the".to_owned()]);
    assert_eq!(answer(&engine, one.clone()).text, " with".repeat(12));
    let two = one.with_bad_words(vec!["the".to_owned(), " with".to_owned()]);
    assert_eq!(answer(&engine, two).text, "    ".repeat(12));
}

#[test]
fn answers_stop_as_vllm_stops_them() {
    let engine = builder().build().unwrap();
    // " the" for ever.
    let the = greedy().with_logit_bias([(267, 60.0)].into());
    let stop = the.clone().with_stop(vec!["he t".to_owned()]);
    let by = |stop: &str| Some(StopReason::String(stop.to_owned()));
    let circles = |detection| the.clone().with_repetition_detection(detection);
    let token = Some(StopReason::Token(267));
    let cases = [
        (the.clone(), 12, " the".repeat(12), FinishReason::Length, None),
        (stop.clone(), 2, " t".to_owned(), FinishReason::Stop, by("he t")),
        (stop.clone().with_include_stop_str_in_output(true), 2, " the t".to_owned(), FinishReason::Stop, by("he t")),
        (stop.clone().with_min_tokens(4), 5, " the the the t".to_owned(), FinishReason::Stop, by("he t")),
        (stop.with_min_tokens(12), 12, " the".repeat(12), FinishReason::Length, None),
        (the.clone().with_stop_token_ids(vec![267]), 1, String::new(), FinishReason::Stop, token.clone()),
        (
            the.clone().with_stop_token_ids(vec![267]).with_include_stop_str_in_output(true),
            1,
            " the".to_owned(),
            FinishReason::Stop,
            token,
        ),
        (circles(RepetitionDetection::new(1, 3)), 3, " the".repeat(3), FinishReason::Repetition, None),
        (
            circles(RepetitionDetection::new(9, 2).with_min_pattern_size(4)),
            8,
            " the".repeat(8),
            FinishReason::Repetition,
            None,
        ),
        (
            circles(RepetitionDetection::new(1, 3)).with_min_tokens(7),
            7,
            " the".repeat(7),
            FinishReason::Repetition,
            None,
        ),
        (circles(RepetitionDetection::new(0, 0)), 12, " the".repeat(12), FinishReason::Length, None),
    ];
    for (params, num_tokens, text, finish_reason, stop_reason) in cases {
        let expected = CompletionOutput::new(text, vec![267; num_tokens], finish_reason, stop_reason);
        assert_eq!(answer(&engine, params.clone()), expected, "{params:?}");
    }
}

#[test]
fn parameters_that_do_not_fit_the_model_or_each_other_are_named() {
    let engine = builder().max_model_len(64).build().unwrap();
    let cases = [
        (greedy().with_n(2), "n", "must be 1 at temperature 0, where all answers would be equal"),
        (greedy().with_best_of(2), "best_of", "must be 1 at temperature 0, where all answers would be equal"),
        (sampled().with_n(3).with_best_of(2), "best_of", "must be between n and 128"),
        (greedy().with_logit_bias([(512, 1.0)].into()), "logit_bias", "512 is outside the vocabulary of 512"),
        (greedy().with_allowed_token_ids(vec![1, 600]), "allowed_token_ids", "600 is outside the vocabulary of 512"),
        (greedy().with_bad_words(vec![" \t".to_owned()]), "bad_words", "each word must have at least one token"),
        (
            greedy().with_max_tokens(64).with_truncate_prompt_tokens(-1),
            "max_tokens",
            "leaves no room for a prompt in the context of 64 tokens",
        ),
    ];
    for (params, param, message) in cases {
        let result = engine.generate([request("x", &PROMPT, params)]).remove(0);
        assert_eq!(result, Err(RequestError::invalid(param, message)));
    }
    let too_long = request("x", &[7; 80], greedy().with_truncate_prompt_tokens(70));
    let expected = RequestError::PromptTooLong { prompt_tokens: 70, max_model_len: 64 };
    assert_eq!(engine.generate([too_long]).remove(0), Err(expected));
}
