//! Guessing tokens ahead changes how many steps an answer takes, and nothing else: on a tiny model with every parameter
//! that has a say in which token comes next, or whether, and on the demo model.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../examples/demo_model/mod.rs"]
mod demo_model;

use std::collections::BTreeMap;

use common::{BLOCK, builder};
use serde_json::{Value, json};
use vllm_batch::sched::SequenceId;
use vllm_batch::{
    EngineBuilder, EngineCore, LoadError, LocalEngine, Message, OutputEvent, Prompt, RepetitionDetection, Request,
    RequestOutput, SamplingParams, SpeculativeConfig, StructuredOutput,
};

/// Many guesses, right and wrong.
fn eager() -> SpeculativeConfig {
    SpeculativeConfig::ngram(5).with_prompt_lookup(1, 5)
}

/// Whatever decides on tokens and on the ends of answers.
fn all_params() -> Vec<SamplingParams> {
    let greedy = || SamplingParams::greedy().with_ignore_eos(true);
    let seeded = |seed| SamplingParams::default().with_seed(seed).with_ignore_eos(true);
    // So few tokens that guesses come true at any temperature.
    let few = |seed| seeded(seed).with_allowed_token_ids(vec![40, 41, 42, 300]);
    let review = json!({
        "type": "object",
        "properties": {"title": {"enum": ["abcabcabcabc", "abcabcabd"]}, "grades": {
            "type": "array", "items": {"enum": ["very good", "very bad"]}, "minItems": 4, "maxItems": 6
        }},
        "required": ["title", "grades"],
        "additionalProperties": false
    });
    vec![
        greedy(),
        seeded(1),
        few(2),
        few(3).with_temperature(0.4).with_top_k(3).with_top_p(0.9).with_min_p(0.01),
        few(4).with_repetition_penalty(1.2).with_frequency_penalty(0.2).with_presence_penalty(0.1),
        few(5).with_logprobs(3).with_prompt_logprobs(2),
        greedy().with_logprobs(2),
        few(6).with_n(3),
        few(7).with_n(2).with_best_of(4),
        few(8).with_stop_token_ids(vec![300]).with_min_tokens(7),
        few(9).with_stop(vec!["((".to_owned(), "))".to_owned(), "I".to_owned()]),
        few(10).with_logit_bias(BTreeMap::from([(41, 3.0), (42, -2.0)])),
        greedy().with_repetition_detection(RepetitionDetection::new(8, 4)),
        few(11).with_bad_words(vec!["((".to_owned()]),
        greedy().with_structured_outputs(StructuredOutput::json_schema(review.clone())),
        seeded(12).with_structured_outputs(StructuredOutput::json_schema(review)).with_n(2),
        seeded(13).with_structured_outputs(StructuredOutput::regex("(ab|cd){4,30}")).with_logprobs(1),
        seeded(14).with_structured_outputs(StructuredOutput::regex("(ab){20}c?")),
    ]
}

/// One request for each, with a prompt that repeats itself.
fn requests() -> Vec<Request> {
    let request = |(i, params): (u32, SamplingParams)| {
        let prompt = (0..24 + i).map(|j| (j % (5 + i % 4)) * 7 + i % 3).collect();
        let params = params.with_max_tokens(30 + i % 7);
        Request::new(format!("row-{i}"), Prompt::TokenIds(prompt)).with_sampling_params(params)
    };
    (0..).zip(all_params()).map(request).collect()
}

/// What a run came to.
#[derive(Default)]
struct Run {
    outputs: BTreeMap<String, RequestOutput>,
    /// All events, in order, as text.
    events: Vec<String>,
    num_steps: usize,
}

/// Computes all that there is. How much the prefix cache held depends on when requests run, and is left out.
fn drain(core: &mut EngineCore) -> Run {
    let mut run = Run::default();
    while core.has_unfinished() {
        run.num_steps += 1;
        for (id, event) in core.step().unwrap() {
            match event {
                OutputEvent::Finished(mut output) => {
                    output.usage.cached_tokens = 0;
                    run.events.push(format!("{id:?} {output:?}"));
                    run.outputs.insert(output.request_id.clone(), output);
                }
                OutputEvent::Failed(error) => panic!("{id:?}: {error}"),
                event => run.events.push(format!("{id:?} {event:?}")),
            }
        }
    }
    run
}

fn add(core: &mut EngineCore, requests: Vec<Request>) -> Vec<SequenceId> {
    requests.into_iter().map(|request| core.add_request(request).unwrap()).collect()
}

fn run(builder: EngineBuilder, requests: Vec<Request>) -> (EngineCore, Run) {
    let mut core = builder.build_core().unwrap();
    add(&mut core, requests);
    let run = drain(&mut core);
    (core, run)
}

#[test]
fn answers_are_the_same_to_the_bit() {
    let (_, expected) = run(builder().speculative_config(None), requests());
    assert_eq!(expected.outputs.len(), all_params().len());
    let ways = [
        ("with the default numbers", builder().max_num_seqs(3).speculative_config(SpeculativeConfig::default())),
        ("one at a time", builder().max_num_seqs(1).speculative_config(eager())),
        ("four at a time", builder().max_num_seqs(4).speculative_config(eager())),
        ("all at once", builder().speculative_config(eager())),
        ("in small chunks", builder().max_num_seqs(2).max_num_batched_tokens(5).speculative_config(eager())),
        ("without prefix cache", builder().max_num_seqs(4).enable_prefix_caching(false).speculative_config(eager())),
        (
            "preempted",
            builder().max_num_seqs(6).max_model_len(96).kv_cache_memory(9 * BLOCK).speculative_config(eager()),
        ),
        ("on two threads", builder().threads(2).max_num_seqs(4).speculative_config(eager())),
    ];
    for (name, builder) in ways {
        let (core, found) = run(builder, requests());
        assert_eq!(found.outputs, expected.outputs, "{name}");
        let (num_drafts, num_accepted) = (core.num_draft_tokens(), core.num_accepted_tokens());
        assert!(0 < num_accepted && num_accepted < num_drafts, "{name}: {num_accepted} of {num_drafts}");
        assert_eq!(core.num_preemptions() > 0, name == "preempted", "{name}");
    }
}

#[test]
fn events_are_the_same_in_fewer_steps() {
    for request in requests() {
        let id = request.request_id.clone();
        let (_, expected) = run(builder().speculative_config(None), vec![request.clone()]);
        let (core, found) = run(builder().speculative_config(eager()), vec![request]);
        assert_eq!(sorted(found.events), sorted(expected.events), "{id}");
        assert!(found.num_steps <= expected.num_steps, "{id}");
        let num_saved = (expected.num_steps - found.num_steps) as u64;
        assert!(num_saved <= core.num_accepted_tokens(), "{id}");
        if id == "row-2" {
            assert_eq!(num_saved, core.num_accepted_tokens());
            assert!(num_saved > 0, "a single answer needs one step less for each guess that came true");
        }
    }
}

/// Several answers to a request may come forward at another pace.
fn sorted(mut events: Vec<String>) -> Vec<String> {
    events.sort();
    events
}

#[test]
fn guesses_can_be_switched_off() {
    let drafts = |builder| run(builder, requests()).0.num_draft_tokens();
    assert!(drafts(builder().max_num_seqs(1)) > 0);
    assert_eq!(drafts(builder().max_num_seqs(1).speculative_config(None)), 0);
}

#[test]
fn an_aborted_request_leaves_the_others_as_they_are() {
    let (_, expected) = run(builder().speculative_config(None), requests());
    for num_steps in [1, 4, 9] {
        let mut core = builder().max_num_seqs(3).speculative_config(eager()).build_core().unwrap();
        let ids = add(&mut core, requests());
        let mut outputs = BTreeMap::new();
        for _ in 0..num_steps {
            let finished = core.step().unwrap().into_iter().filter_map(|(_, event)| match event {
                OutputEvent::Finished(output) => Some(output),
                _ => None,
            });
            outputs.extend(finished.map(|output| (output.request_id.clone(), output)));
        }
        let aborted: Vec<usize> = (0..ids.len()).step_by(2).filter(|index| core.abort(ids[*index])).collect();
        outputs.extend(drain(&mut core).outputs);
        assert_eq!(outputs.len() + aborted.len(), ids.len(), "{num_steps}");
        for (id, mut output) in outputs {
            output.usage.cached_tokens = 0;
            assert_eq!(output, expected.outputs[&id], "{num_steps}");
        }
    }
}

#[test]
fn a_repeated_conversation_is_cached_as_far_as_without_guesses() {
    let cached = |config: Option<SpeculativeConfig>| -> usize {
        let mut core = builder().speculative_config(config).build_core().unwrap();
        let params = || SamplingParams::greedy().with_ignore_eos(true).with_allowed_token_ids(vec![40]);
        let prompt: Vec<u32> = (0..20).map(|i| i % 5).collect();
        let first = Request::new("first", Prompt::TokenIds(prompt.clone()));
        add(&mut core, vec![first.with_sampling_params(params().with_max_tokens(29))]);
        let answer = drain(&mut core).outputs["first"].outputs[0].token_ids.clone();
        let second = Request::new("second", Prompt::TokenIds([prompt, answer, vec![1; 9]].concat()));
        core.add_request(second.with_sampling_params(params().with_max_tokens(1))).unwrap();
        loop {
            for (_, event) in core.step().unwrap() {
                if let OutputEvent::Finished(output) = event {
                    return output.usage.cached_tokens;
                }
            }
        }
    };
    assert_eq!((cached(None), cached(Some(eager()))), (48, 48));
}

#[test]
fn wrong_options_are_refused() {
    let build = builder().speculative_config(SpeculativeConfig::ngram(0)).build_core();
    let error = build.expect_err("nothing to guess");
    assert!(matches!(error, LoadError::InvalidOption { option: "num_speculative_tokens", .. }), "{error}");
}

#[test]
fn the_revision_is_the_same() {
    let revision = |builder: EngineBuilder| builder.build_core().unwrap().spec().revision.clone();
    assert_eq!(revision(builder().speculative_config(None)), revision(builder().speculative_config(eager())));
}

#[test]
fn the_demo_model_says_the_same_and_repeats_itself_enough() {
    let lines = include_str!("data/smollm2_reference.jsonl").lines().take(8);
    let requests: Vec<Request> = lines
        .enumerate()
        .map(|(index, line)| {
            let row: Value = serde_json::from_str(line).unwrap();
            let messages: Vec<Message> = serde_json::from_value(row["messages"].clone()).unwrap();
            let params = match index % 3 {
                0 => SamplingParams::greedy(),
                1 => SamplingParams::greedy().with_repetition_penalty(1.1).with_logprobs(4),
                _ => SamplingParams::default().with_temperature(1.0).with_seed(index as u64),
            };
            let params = params.with_max_tokens(80).with_ignore_eos(true);
            Request::new(index.to_string(), messages).with_sampling_params(params)
        })
        .collect();
    let model = demo_model::gguf().unwrap();
    let demo = |config: Option<SpeculativeConfig>, max_num_seqs| {
        let builder = LocalEngine::builder(model.clone()).max_model_len(2048).max_num_seqs(max_num_seqs);
        run(builder.speculative_config(config), requests.clone())
    };
    let (_, expected) = demo(None, 8);
    for max_num_seqs in [1, 4] {
        let (core, found) = demo(Some(eager()), max_num_seqs);
        assert_eq!(found.outputs, expected.outputs, "{max_num_seqs}");
        assert!(core.num_accepted_tokens() > 0, "{max_num_seqs}");
    }
}
