//! The engine on a tiny model: the same bits however requests are batched, preemption, abort, limits, every way an
//! answer can end, and every way a request can be wrong.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{BLOCK, builder, model};
use futures::StreamExt;
use futures::executor::block_on;
use vllm_batch::{
    BatchEngine, BatchEngineExt, ChatOptions, EngineBuilder, FinishReason, KvCacheDtype, LocalEngine, Message,
    OutputEvent, Prompt, Request, RequestError, RequestOutput, SamplingParams, StopReason,
};

/// 40 requests of mixed lengths: greedy and sampled, with and without a common beginning.
fn requests() -> Vec<Request> {
    (0..40u32)
        .map(|i| {
            let shared = if i % 2 == 0 { 35 } else { 0 };
            let own = 1 + (i * 7) % 60;
            let token_ids: Vec<u32> = (0..shared).chain((0..own).map(|j| (i * 31 + j * 17) % 512)).collect();
            let params = match i % 3 {
                0 => SamplingParams::greedy(),
                1 => SamplingParams::default().with_seed(u64::from(i)),
                _ => SamplingParams::default().with_temperature(0.8).with_top_p(0.9).with_top_k(50).with_min_p(0.01),
            };
            let params = params.with_max_tokens(5 + i % 30).with_ignore_eos(true);
            Request::new(format!("row-{i}"), Prompt::TokenIds(token_ids)).with_sampling_params(params)
        })
        .collect()
}

/// The answers, by request id.
fn answers(engine: EngineBuilder, requests: Vec<Request>) -> Vec<(String, Vec<u32>, String)> {
    let engine = engine.build().unwrap();
    let outputs = engine.generate(requests).into_iter().map(Result::unwrap);
    let mut answers: Vec<_> = outputs
        .map(|mut output| {
            let completion = output.outputs.remove(0);
            (output.request_id, completion.token_ids, completion.text)
        })
        .collect();
    answers.sort();
    answers
}

fn shuffled(mut requests: Vec<Request>) -> Vec<Request> {
    requests.sort_by_key(|request| {
        request.request_id.bytes().rev().map(u64::from).fold(7, |hash, byte| hash * 131 % 1009 + byte)
    });
    requests
}

/// What a cache may hold, and the bytes of a block of the tiny model.
const CACHES: [(KvCacheDtype, usize); 2] = [(KvCacheDtype::F32, BLOCK), (KvCacheDtype::F16, BLOCK / 2)];

#[test]
fn answers_do_not_depend_on_how_requests_are_batched() {
    CACHES.into_iter().for_each(check_batching);
}

fn check_batching((cache, block): (KvCacheDtype, usize)) {
    let builder = || builder().kv_cache_dtype(cache);
    let expected = answers(builder().max_num_seqs(1).enable_prefix_caching(false), requests());
    let ways = [
        ("batched", builder().max_num_seqs(64), requests()),
        ("shuffled", builder().max_num_seqs(7), shuffled(requests())),
        ("in small chunks", builder().max_num_batched_tokens(3), requests()),
        ("in measured steps", builder().auto_tune(true), requests()),
        ("without prefix cache", builder().enable_prefix_caching(false), requests()),
        ("preempted", builder().max_model_len(160).kv_cache_memory(10 * block), requests()),
        ("on two threads", builder().threads(2), requests()),
        ("on five threads, shuffled", builder().threads(5), shuffled(requests())),
    ];
    for (name, engine, requests) in ways {
        assert_eq!(answers(engine, requests), expected, "{name}, {cache:?}");
    }
    for (request, expected) in requests().into_iter().step_by(9).map(|request| {
        let id = request.request_id.clone();
        (request, expected.iter().find(|answer| answer.0 == id).unwrap())
    }) {
        assert_eq!(&answers(builder(), vec![request])[0], expected, "alone, {cache:?}");
    }
}

#[test]
fn a_small_cache_preempts_and_every_request_is_answered_all_the_same() {
    let mut core = builder().max_model_len(160).kv_cache_memory(10 * BLOCK).build_core().unwrap();
    for request in requests() {
        core.add_request(request).unwrap();
    }
    let mut finished = 0;
    while core.has_unfinished() {
        finished += core.step().unwrap().iter().filter(|(_, event)| matches!(event, OutputEvent::Finished(_))).count();
    }
    assert_eq!(finished, 40);
    assert!(core.num_preemptions() > 0, "ten blocks are too few for forty requests at once");
}

#[test]
fn a_repeated_prompt_is_cached_but_for_its_last_block() {
    let prompt: Vec<u32> = (0..50).collect();
    let request = |id: &str| {
        Request::new(id, Prompt::TokenIds(prompt.clone()))
            .with_sampling_params(SamplingParams::greedy().with_max_tokens(2))
    };
    let cached = |engine: &LocalEngine| -> Vec<usize> {
        ["a", "b"].iter().map(|id| engine.generate([request(id)])[0].as_ref().unwrap().usage.cached_tokens).collect()
    };
    assert_eq!(cached(&builder().build().unwrap()), [0, 48]);
    assert_eq!(cached(&builder().enable_prefix_caching(false).build().unwrap()), [0, 0]);
}

/// A tiny model whose layers all have a window of 16 tokens; its blocks are as large as those of the other one.
fn windowed() -> tempfile::TempDir {
    let (folder, arch) = (tempfile::tempdir().unwrap(), model().parent().unwrap().to_owned());
    for file in ["mistral_swa/config.json", "mistral_swa/model.safetensors", "llama/tokenizer.json"] {
        let name = Path::new(file).file_name().unwrap();
        std::fs::copy(arch.join(file), folder.path().join(name)).unwrap();
    }
    folder
}

/// Requests of up to some 250 tokens, far more than a window.
fn long_requests() -> Vec<Request> {
    let request = |i: u32| {
        let (shared, own) = (if i.is_multiple_of(2) { 70 } else { 0 }, 20 + (i * 37) % 90);
        let token_ids: Vec<u32> = (0..shared).chain((0..own).map(|j| (i * 31 + j * 17) % 512)).collect();
        let params = SamplingParams::default().with_seed(u64::from(i)).with_temperature((i % 2) as f32);
        let params = params.with_max_tokens(20 + (i * 29) % 70).with_ignore_eos(true);
        Request::new(format!("row-{i}"), Prompt::TokenIds(token_ids)).with_sampling_params(params)
    };
    (0..12).map(request).collect()
}

#[test]
fn a_window_needs_its_own_blocks_only_and_answers_stay_the_same() {
    let folder = windowed();
    for (cache, block) in CACHES {
        let builder = || LocalEngine::builder(folder.path()).threads(1).kv_cache_dtype(cache);
        let all = builder().max_num_seqs(1).enable_prefix_caching(false).max_num_batched_tokens(300);
        let expected = answers(all, long_requests());
        let ways = [
            ("batched", builder()),
            ("in two blocks", builder().max_model_len(400).kv_cache_memory(2 * block)),
            ("in five blocks", builder().max_model_len(400).kv_cache_memory(5 * block)),
            ("in five blocks and small chunks", builder().max_num_batched_tokens(7).kv_cache_memory(5 * block)),
            ("in thirty blocks", builder().max_num_batched_tokens(40).kv_cache_memory(30 * block)),
            ("without prefix cache", builder().enable_prefix_caching(false).kv_cache_memory(30 * block)),
        ];
        for (way, engine) in ways {
            assert_eq!(answers(engine, long_requests()), expected, "{way}, {cache:?}");
        }
        let context = |builder: EngineBuilder| builder.build().map(|engine| engine.spec().max_model_len);
        assert_eq!(context(builder().kv_cache_memory(2 * block)).unwrap(), 512);
        assert_eq!(context(builder().kv_cache_memory(block)).unwrap(), 16);
        let error = context(builder().max_model_len(17).kv_cache_memory(block)).unwrap_err().to_string();
        assert!(error.contains(&format!("needs {} bytes", 2 * block)) && error.contains("fits is 16"), "{error}");
    }
}

/// The greedy answer to a fixed prompt, without any stop.
fn free_answer(engine: &LocalEngine) -> RequestOutput {
    let params = SamplingParams::greedy().with_max_tokens(12).with_ignore_eos(true);
    engine.generate([prompt().with_sampling_params(params)]).remove(0).unwrap()
}

fn prompt() -> Request {
    Request::new("x", Prompt::TokenIds(vec![5, 300, 17, 220, 81]))
}

#[test]
fn an_answer_ends_where_it_should() {
    let engine = builder().build().unwrap();
    let free = free_answer(&engine).outputs.remove(0);
    let nth = free.token_ids[4];
    let first = free.token_ids.iter().position(|token| *token == nth).unwrap() + 1;
    let base = SamplingParams::greedy().with_max_tokens(12).with_ignore_eos(true);
    let stop_token = Some(StopReason::Token(nth));
    let cases = [
        (base.clone(), 12, FinishReason::Length, None),
        (base.clone().with_max_tokens(1), 1, FinishReason::Length, None),
        (base.clone().with_stop_token_ids(vec![nth]), first, FinishReason::Stop, stop_token),
    ];
    for (params, len, finish_reason, stop_reason) in cases {
        let output = engine.generate([prompt().with_sampling_params(params.clone())]).remove(0).unwrap();
        let completion = &output.outputs[0];
        assert_eq!(completion.token_ids, free.token_ids[..len], "{params:?}");
        assert_eq!((completion.finish_reason, &completion.stop_reason), (finish_reason, &stop_reason), "{params:?}");
        assert_eq!(output.usage.completion_tokens, len);
        assert!(free.text.starts_with(&completion.text), "{params:?}");
    }
}

#[test]
fn min_tokens_keeps_stop_tokens_away() {
    let engine = builder().build().unwrap();
    let nth = free_answer(&engine).outputs[0].token_ids[0];
    let params = SamplingParams::greedy().with_max_tokens(9).with_stop_token_ids(vec![nth]).with_min_tokens(6);
    let output = engine.generate([prompt().with_sampling_params(params)]).remove(0).unwrap();
    let tokens = &output.outputs[0].token_ids;
    assert!(tokens.len() > 6 && !tokens[..6].contains(&nth), "{tokens:?}");
}

#[test]
fn a_stop_string_over_several_tokens_never_leaks() {
    let engine = builder().build().unwrap();
    let text = free_answer(&engine).outputs.remove(0).text;
    let starts: Vec<usize> = text.char_indices().map(|(start, _)| start).collect();
    for window in starts.windows(4) {
        let stop = text[window[0]..window[3]].to_owned();
        let params = SamplingParams::greedy().with_max_tokens(12).with_ignore_eos(true).with_stop(vec![stop.clone()]);
        let events: Vec<_> = block_on(engine.submit(prompt().with_sampling_params(params)).collect());
        let mut streamed = String::new();
        for event in &events {
            match event {
                OutputEvent::Delta(delta) => streamed += &delta.text,
                OutputEvent::Finished(output) => {
                    let completion = &output.outputs[0];
                    assert_eq!(completion.text, streamed, "{stop:?}");
                    assert_eq!(completion.text, text[..text.find(&stop).unwrap()], "{stop:?}");
                    assert_eq!(completion.stop_reason, Some(StopReason::String(stop.clone())));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn without_max_tokens_an_answer_goes_to_the_context_limit() {
    let engine = builder().max_model_len(40).build().unwrap();
    let params = SamplingParams::greedy().with_ignore_eos(true);
    let output = engine.generate([prompt().with_sampling_params(params)]).remove(0).unwrap();
    assert_eq!((output.usage.total_tokens(), output.outputs[0].finish_reason), (40, FinishReason::Length));
}

#[test]
fn bad_requests_fail_alone_and_are_named() {
    let engine = builder().max_model_len(64).build().unwrap();
    let greedy = SamplingParams::greedy().with_max_tokens(3);
    let with = |prompt: Prompt, params: SamplingParams| Request::new("bad", prompt).with_sampling_params(params);
    let ids = |len: u32| Prompt::TokenIds((0..len).collect());
    let cases = [
        (with(ids(64), greedy.clone()), RequestError::PromptTooLong { prompt_tokens: 64, max_model_len: 64 }),
        (with(ids(0), greedy.clone()), RequestError::EmptyPrompt),
        (
            with(Prompt::TokenIds(vec![1, 512]), greedy.clone()),
            RequestError::UnknownToken { token_id: 512, vocab_size: 512 },
        ),
        (with(Prompt::Messages(vec![Message::user("hi")]), greedy.clone()), RequestError::NoChatTemplate),
        (
            with(Prompt::Messages(vec![]), greedy.clone()),
            RequestError::invalid("messages", "must hold at least one message"),
        ),
        (with(ids(3), greedy.clone().with_top_p(2.0)), RequestError::invalid("top_p", "must be above 0 and at most 1")),
        (
            with(ids(3), greedy.clone().with_stop_token_ids(vec![9999])),
            RequestError::invalid("stop_token_ids", "9999 is outside the vocabulary of 512"),
        ),
    ];
    let good = || with(ids(5), greedy.clone());
    let mixed: Vec<_> = cases.iter().flat_map(|(request, _)| [request.clone(), good()]).collect();
    let results = engine.generate(mixed);
    let expected_good = engine.generate([good()]).remove(0).unwrap().outputs;
    for (pair, (_, error)) in results.chunks(2).zip(&cases) {
        assert_eq!(pair[0].as_ref().unwrap_err(), error);
        assert_eq!(pair[1].as_ref().unwrap().outputs, expected_good);
    }
}

#[test]
fn a_dropped_stream_frees_its_place() {
    let engine = builder().max_num_seqs(1).build().unwrap();
    let endless = || prompt().with_sampling_params(SamplingParams::greedy().with_ignore_eos(true));
    let mut running = engine.submit(endless());
    assert!(matches!(block_on(running.next()), Some(OutputEvent::Delta(_))));
    let waiting = engine.submit(endless());
    drop((running, waiting));
    let params = SamplingParams::greedy().with_max_tokens(2);
    assert!(engine.generate([prompt().with_sampling_params(params)])[0].is_ok());
}

#[test]
fn a_lower_priority_number_is_served_first() {
    let mut core = builder().max_num_seqs(1).build_core().unwrap();
    let params = SamplingParams::greedy().with_max_tokens(2);
    let ids: Vec<_> = [3, 1, -2, 1]
        .map(|priority| {
            core.add_request(prompt().with_sampling_params(params.clone()).with_priority(priority)).unwrap()
        })
        .to_vec();
    let mut order = Vec::new();
    while core.has_unfinished() {
        for (id, event) in core.step().unwrap() {
            if matches!(event, OutputEvent::Finished(_)) {
                order.push(ids.iter().position(|other| *other == id).unwrap());
            }
        }
    }
    assert_eq!(order, [2, 1, 3, 0]);
}

#[test]
fn streams_end_with_an_error_when_the_engine_is_dropped() {
    let engine = builder().build().unwrap();
    let stream = engine.submit(prompt().with_sampling_params(SamplingParams::greedy().with_ignore_eos(true)));
    drop(engine);
    let result = block_on(stream.output());
    // The engine may have finished the request before it noticed.
    assert!(result.is_ok() || result.unwrap_err().code() == "engine_failed");
}

#[test]
fn options_outside_their_domain_are_named() {
    let cases = [
        (builder().threads(0), "invalid_option", "threads"),
        (builder().max_num_seqs(0), "invalid_option", "max_num_seqs"),
        (builder().max_num_batched_tokens(0), "invalid_option", "max_num_batched_tokens"),
        (builder().max_model_len(513), "invalid_option", "max_model_len"),
        (builder().max_model_len(1), "invalid_option", "max_model_len"),
        (builder().kv_cache_memory(0), "kv_cache_too_small", "largest max_model_len that fits is 0"),
        (builder().max_model_len(512).kv_cache_memory(2 * BLOCK), "kv_cache_too_small", "that fits is 32"),
        (builder().kv_cache_memory(usize::MAX), "invalid_option", "kv_cache_memory"),
    ];
    for (builder, code, place) in cases {
        let error = builder.build().expect_err(place);
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(place), "{error}");
    }
}

#[test]
fn the_context_is_shortened_to_what_fits_unless_a_length_was_asked_for() {
    for (cache, block) in CACHES {
        let engine = builder().kv_cache_dtype(cache).kv_cache_memory(2 * block).build().unwrap();
        assert_eq!(engine.spec().max_model_len, 32);
        let error =
            builder().kv_cache_dtype(cache).max_model_len(48).kv_cache_memory(3 * block - 1).build().unwrap_err();
        assert!(error.to_string().contains(&format!("needs {} bytes", 3 * block)), "{error}");
    }
}

#[test]
fn each_kind_of_cache_has_its_own_revision_and_automatic_is_that_of_the_weights() {
    use vllm_batch::WeightDtype::{self, Auto, Bf16, F16, F32, Q4_0, Q8_0};
    let revision = |dtype: WeightDtype, cache| {
        let engine = builder().dtype(dtype).kv_cache_dtype(cache).build().unwrap();
        engine.spec().revision.clone()
    };
    for (dtype, automatic) in [Auto, F32]
        .map(|dtype| (dtype, KvCacheDtype::F32))
        .into_iter()
        .chain([F16, Bf16, Q8_0, Q4_0].map(|dtype| (dtype, KvCacheDtype::F16)))
    {
        assert_eq!(revision(dtype, KvCacheDtype::Auto), revision(dtype, automatic), "{dtype:?}");
        assert_ne!(revision(dtype, KvCacheDtype::F32), revision(dtype, KvCacheDtype::F16), "{dtype:?}");
    }
}

#[test]
fn each_way_to_keep_weights_has_its_own_revision() {
    use vllm_batch::WeightDtype::{Auto, Bf16, F16, F32, Q4_0, Q8_0};
    let mut revisions = std::collections::HashSet::new();
    for dtype in [Auto, F32, F16, Bf16, Q8_0, Q4_0] {
        let engine = builder().dtype(dtype).build().unwrap();
        assert_eq!(free_answer(&engine).outputs[0].token_ids.len(), 12, "{dtype:?}");
        assert!(revisions.insert(engine.spec().revision.clone()), "{dtype:?}");
    }
}

#[test]
fn run_streams_requests_through_a_bounded_window() {
    let engine = builder().build().unwrap();
    let params = SamplingParams::greedy().with_max_tokens(3);
    let requests = futures::stream::iter(0..100)
        .map(|i: u32| Request::new(i.to_string(), Prompt::TokenIds(vec![i])).with_sampling_params(params.clone()));
    let mut ids: Vec<u32> = block_on(
        engine.run(requests, 8).map(|(id, result)| result.map(|_| id.parse::<u32>().unwrap()).unwrap()).collect(),
    );
    ids.sort_unstable();
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
}

/// A copy of the tiny model whose tokenizer knows one token more than the network.
fn model_with_a_token_too_many() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "generation_config.json", "model.safetensors"] {
        std::fs::copy(model().join(name), folder.path().join(name)).unwrap();
    }
    let text = std::fs::read_to_string(model().join("tokenizer.json")).unwrap();
    let mut tokenizer: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut token = tokenizer["added_tokens"][0].clone();
    (token["id"], token["content"]) = (512.into(), "<extra>".into());
    tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    folder
}

#[test]
fn a_token_that_the_network_does_not_have_fails_its_own_request() {
    let folder = model_with_a_token_too_many();
    let engine = LocalEngine::builder(folder.path()).build().unwrap();
    let params = SamplingParams::greedy().with_max_tokens(3);
    let request = |text: &str| Request::new("x", text).with_sampling_params(params.clone());
    let results = engine.generate([request("one <extra> two"), request("one two")]);
    assert_eq!(results[0], Err(RequestError::UnknownToken { token_id: 512, vocab_size: 512 }));
    assert!(results[1].is_ok());
}

#[test]
fn every_byte_of_a_model_is_part_of_its_revision() {
    let revision = |path: &Path| LocalEngine::builder(path).build().unwrap().spec().revision.clone();
    let folder = model_with_a_token_too_many();
    let before = revision(folder.path());
    let weights = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    assert_ne!(revision(folder.path()), before);
    assert_ne!(revision(&model()), before);
}

/// Templates see one time for the life of an engine, and one that is set is part of the revision.
#[test]
fn the_day_in_a_prompt_is_that_of_the_engine() {
    let day = |number: u64| UNIX_EPOCH + Duration::from_hours(24 * number);
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(model().join(name), folder.path().join(name)).unwrap();
    }
    let template = |source: &str| std::fs::write(folder.path().join("chat_template.jinja"), source).unwrap();
    let engine = |time: Option<SystemTime>| {
        let builder = LocalEngine::builder(folder.path()).threads(1);
        time.map_or(builder.clone(), |time| builder.chat_template_time(time)).build().unwrap()
    };
    let revision = |time| engine(time).spec().revision.clone();

    template("{{ strftime_now('%Y-%m-%d %H:%M') }}");
    let one = SamplingParams::greedy().with_max_tokens(1);
    let chat = || Request::new("x", vec![Message::user("x")]).with_sampling_params(one.clone());
    let text = |text: &str| Request::new("x", text).with_add_special_tokens(false).with_sampling_params(one.clone());
    let own = ChatOptions::default().with_chat_template("{{ strftime_now('%j') }}");
    let requests = [chat(), text("2025-03-07 00:00"), chat().with_chat(own), text("066")];
    let outputs = engine(Some(day(20_154))).generate(requests);
    let prompts: Vec<_> = outputs.into_iter().map(|output| output.unwrap().prompt_token_ids).collect();
    assert_eq!([&prompts[0], &prompts[2]], [&prompts[1], &prompts[3]]);
    assert_ne!(revision(Some(day(1))), revision(Some(day(2))));
    assert!(revision(Some(day(1))).starts_with(&revision(None)), "what was done on another day counts");
}

#[test]
fn measured_options_give_way_to_those_that_are_set_and_leave_the_revision_alone() {
    let plain = builder().build_core().unwrap();
    let tuned = builder().auto_tune(true).kv_cache_memory(9 * 8 * BLOCK).max_model_len(64).build_core().unwrap();
    // Nine times 128 tokens fit the cache.
    assert_eq!((plain.spec().max_num_seqs, tuned.spec().max_num_seqs), (64, 9));
    let set = builder().auto_tune(true).max_num_seqs(3).build_core().unwrap();
    assert_eq!((set.spec().max_num_seqs, &set.spec().revision), (3, &plain.spec().revision));
}
