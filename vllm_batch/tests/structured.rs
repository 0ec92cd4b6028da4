//! Answers that are held to a format, on a tiny model: the same however they are batched and whether or not forced
//! tokens are sampled, every way they can end, and every way they can be wrong. On the demo model: answers are valid.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../examples/demo_model/mod.rs"]
mod demo_model;

use std::collections::BTreeMap;

use common::{BLOCK, builder};
use futures::StreamExt;
use futures::executor::block_on;
use serde_json::{Value, json};
use vllm_batch::{
    BatchEngine, BatchEngineExt, EngineBuilder, FinishReason, LocalEngine, Message, OutputEvent, Request, RequestError,
    RequestOutput, SamplingParams, StopReason, StructuredOutput,
};

fn formats() -> Vec<StructuredOutput> {
    let review = json!({
        "type": "object",
        "properties": {
            "audience": {"enum": ["beginner", "working programmer", "mixed"]},
            "has_example": {"type": "boolean"},
            "terms": {"type": "array", "items": {"type": "string", "maxLength": 6}, "maxItems": 2},
            "grade": {"type": "integer", "minimum": 1, "maximum": 5}
        },
        "required": ["audience", "has_example", "terms", "grade"],
        "additionalProperties": false
    });
    vec![
        StructuredOutput::json_schema(review),
        StructuredOutput::json_schema(json!({"const": {"a long name of a property": "and its value"}})),
        StructuredOutput::json_object(),
        StructuredOutput::json_schema(json!({"type": "array", "items": {"type": "number"}, "minItems": 2})),
        StructuredOutput::regex("[a-c]{3,9} (and|or) so on[.!]"),
        StructuredOutput::choice(["positive", "negative", "neutral"]),
        StructuredOutput::grammar("start: \"let \" /[a-z]{2,8}/ \" = \" /[0-9]+/ \";\""),
    ]
}

/// Greedy and sampled requests for all formats, some with several answers, stops and penalties.
fn requests() -> Vec<Request> {
    let params = |i: u32| match i % 4 {
        0 => SamplingParams::greedy(),
        1 => SamplingParams::default().with_temperature(1.5).with_n(3),
        2 => SamplingParams::default().with_stop(vec!["nd".to_owned(), "5".to_owned()]).with_repetition_penalty(1.3),
        _ => SamplingParams::default().with_min_tokens(12).with_ignore_eos(true).with_top_p(0.9),
    };
    let request = |(i, format): (u32, &StructuredOutput)| {
        let params = params(i).with_max_tokens(20 + i % 30).with_structured_outputs(format.clone());
        Request::new(format!("row-{i}"), "Say something. ".repeat(1 + i as usize % 5)).with_sampling_params(params)
    };
    (0..).zip(formats().iter().cycle().take(42)).map(request).collect()
}

/// What an answer is: tokens, text, and why it ended.
type Answer = (Vec<u32>, String, FinishReason, Option<StopReason>);

fn answers_of(output: RequestOutput) -> Vec<Answer> {
    let num_tokens: usize = output.outputs.iter().map(|answer| answer.token_ids.len()).sum();
    assert_eq!(output.usage.completion_tokens, num_tokens);
    let parts = output.outputs.into_iter();
    parts.map(|answer| (answer.token_ids, answer.text, answer.finish_reason, answer.stop_reason)).collect()
}

/// The answers, by request id.
fn answers(engine: EngineBuilder, requests: Vec<Request>) -> BTreeMap<String, Vec<Answer>> {
    let outputs = engine.build().unwrap().generate(requests).into_iter().map(Result::unwrap);
    outputs.map(|output| (output.request_id.clone(), answers_of(output))).collect()
}

fn answer(engine: &LocalEngine, params: SamplingParams) -> Result<Answer, RequestError> {
    let request = Request::new("x", "Say something.").with_sampling_params(params);
    engine.generate([request]).remove(0).map(|output| answers_of(output).remove(0))
}

#[test]
fn answers_do_not_depend_on_how_requests_are_batched() {
    let expected = answers(builder().max_num_seqs(1).enable_prefix_caching(false), requests());
    let ways = [
        ("batched", builder().max_num_seqs(64), requests()),
        ("in reverse order", builder().max_num_seqs(7), requests().into_iter().rev().collect()),
        ("in small chunks", builder().max_num_batched_tokens(3), requests()),
        ("preempted", builder().max_model_len(160).kv_cache_memory(10 * BLOCK), requests()),
        ("on two threads", builder().threads(2), requests()),
    ];
    for (name, engine, requests) in ways {
        assert_eq!(answers(engine, requests), expected, "{name}");
    }
    for request in requests().into_iter().step_by(5) {
        let id = request.request_id.clone();
        assert_eq!(answers(builder(), vec![request])[&id], expected[&id], "{id} alone");
    }
    let completed = expected.values().flatten().filter(|answer| answer.2 == FinishReason::Stop).count();
    assert!(completed > 20, "only {completed} answers came to an end");
}

/// All answers of a core, and how many of their tokens were forced and how many requests were preempted.
fn run_core(engine: EngineBuilder, requests: Vec<Request>) -> (BTreeMap<String, Vec<Answer>>, u64, u64) {
    let mut core = engine.build_core().unwrap();
    for request in requests {
        core.add_request(request).unwrap();
    }
    let mut answers = BTreeMap::new();
    while core.has_unfinished() {
        for (_, event) in core.step().unwrap() {
            match event {
                OutputEvent::Finished(output) => drop(answers.insert(output.request_id.clone(), answers_of(output))),
                OutputEvent::Failed(error) => panic!("{error}"),
                _ => {}
            }
        }
    }
    (answers, core.num_forced_tokens(), core.num_preemptions())
}

#[test]
fn forced_tokens_are_those_that_would_be_sampled() {
    let with = |change: fn(SamplingParams) -> SamplingParams| -> Vec<Request> {
        let change = |request: Request| {
            let params = change(request.sampling_params().cloned().unwrap());
            request.with_sampling_params(params)
        };
        requests().into_iter().map(change).collect()
    };
    let (expected, num_forced, _) = run_core(builder(), requests());
    let num_tokens: usize = expected.values().flatten().map(|answer| answer.0.len()).sum();
    assert!(num_forced as usize > num_tokens / 10, "{num_forced} of {num_tokens} tokens");
    let changes: [fn(SamplingParams) -> SamplingParams; 2] =
        [|params| params.with_logprobs(2), |params| params.with_prompt_logprobs(0)];
    for change in changes {
        let (answers, num_forced, _) = run_core(builder(), with(change));
        assert_eq!((answers, num_forced), (expected.clone(), 0));
    }
    let tight = builder().max_model_len(160).kv_cache_memory(10 * BLOCK);
    let (answers, num_forced_again, num_preemptions) = run_core(tight, requests());
    assert_eq!((answers, num_forced_again), (expected, num_forced));
    assert!(num_preemptions > 0);
}

#[test]
fn an_answer_ends_where_it_should() {
    let engine = builder().build().unwrap();
    let eager = SamplingParams::greedy().with_max_tokens(60).with_ignore_eos(true);
    let late = eager.clone().with_min_tokens(50);
    let long = || StructuredOutput::json_schema(json!({"const": {"name": "a long value"}}));
    let stop = || Some(StopReason::String("g va".to_owned()));
    let stopping = eager.clone().with_stop(vec!["g va".to_owned()]);
    let whole = r#"{"name":"a long value"}"#;
    let cases = [
        (eager.clone(), StructuredOutput::choice(["yes"]), "yes", FinishReason::Stop, None),
        (late.clone(), StructuredOutput::choice(["yes"]), "yes", FinishReason::Stop, None),
        (late.clone(), StructuredOutput::grammar("start:"), "", FinishReason::Stop, None),
        (late.clone(), StructuredOutput::regex("a{4}"), "aaaa", FinishReason::Stop, None),
        (late, long(), whole, FinishReason::Stop, None),
        (eager.with_seed(3), long(), whole, FinishReason::Stop, None),
        (stopping.clone(), long(), r#"{"name":"a lon"#, FinishReason::Stop, stop()),
        (stopping.with_include_stop_str_in_output(true), long(), r#"{"name":"a long va"#, FinishReason::Stop, stop()),
    ];
    for (params, format, text, finish_reason, stop_reason) in cases {
        for params in [params.clone(), params.clone().with_logprobs(0)] {
            let params = params.with_structured_outputs(format.clone());
            let (_, actual, reason, stop) = answer(&engine, params.clone()).unwrap();
            let actual = (actual.as_str(), reason, stop);
            assert_eq!(actual, (text, finish_reason, stop_reason.clone()), "{params:?}");
        }
    }
}

#[test]
fn forced_tokens_count_for_the_length() {
    let engine = builder().build().unwrap();
    let params =
        SamplingParams::greedy().with_structured_outputs(StructuredOutput::choice(["a rather long text, this is"]));
    let (whole, ..) = answer(&engine, params.clone()).unwrap();
    for len in 1..=whole.len() {
        let (token_ids, text, reason, _) = answer(&engine, params.clone().with_max_tokens(len as u32)).unwrap();
        let expected = if len < whole.len() { FinishReason::Length } else { FinishReason::Stop };
        assert_eq!((token_ids.as_slice(), reason), (&whole[..len], expected), "{text}");
    }
}

#[test]
fn streams_say_how_many_tokens_came() {
    let engine = builder().build().unwrap();
    for request in requests() {
        let events: Vec<_> = block_on(engine.submit(request).collect());
        let mut streamed: BTreeMap<usize, (usize, String)> = BTreeMap::new();
        for event in &events {
            match event {
                OutputEvent::Delta(delta) => {
                    let (num_tokens, text) = streamed.entry(delta.index).or_default();
                    *num_tokens += delta.num_tokens;
                    *text += &delta.text;
                }
                OutputEvent::Finished(output) => {
                    let whole =
                        |index: usize| (output.outputs[index].token_ids.len(), output.outputs[index].text.clone());
                    assert_eq!(streamed, (0..output.outputs.len()).map(|index| (index, whole(index))).collect());
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(events.last(), Some(OutputEvent::Finished(_))));
    }
}

#[test]
fn forced_tokens_are_no_part_of_the_prompt() {
    let engine = builder().build().unwrap();
    let format = StructuredOutput::json_schema(json!({"const": ["x".repeat(100), {"type": "boolean"}]}));
    let open = StructuredOutput::regex(format!("{}[ab]", "x".repeat(100)));
    for format in [format, open] {
        let params = SamplingParams::greedy().with_max_tokens(200).with_structured_outputs(format);
        let run =
            || engine.generate([Request::new("x", "abc").with_sampling_params(params.clone())]).remove(0).unwrap();
        let (first, second) = (run(), run());
        assert_eq!(first.outputs, second.outputs);
        assert!(second.usage.cached_tokens <= second.usage.prompt_tokens, "{:?}", second.usage);
    }
}

#[test]
fn what_cannot_be_kept_to_is_refused_and_others_go_on() {
    let engine = builder().build().unwrap();
    let greedy = SamplingParams::greedy().with_max_tokens(9);
    let bad_type = StructuredOutput::json_schema(json!({"properties": {"a": {"type": "strin"}}}));
    let yes = StructuredOutput::choice(["yes"]);
    let cases = [
        (greedy.clone().with_structured_outputs(bad_type), "invalid_schema", Some("/properties/a/type")),
        (greedy.clone().with_structured_outputs(StructuredOutput::regex("(")), "invalid_grammar", None),
        (greedy.clone().with_structured_outputs(StructuredOutput::choice([""; 0])), "invalid_value", None),
        (greedy.clone().with_structured_outputs(StructuredOutput::grammar("start: x")), "invalid_grammar", None),
        (
            greedy.clone().with_structured_outputs(yes.clone()).with_allowed_token_ids(vec![1, 2]),
            "constraint_dead_end",
            None,
        ),
        (
            greedy.clone().with_structured_outputs(yes.clone()).with_bad_words(vec!["yes".into()]),
            "constraint_dead_end",
            None,
        ),
    ];
    let good =
        || Request::new("good", "Yes or no?").with_sampling_params(greedy.clone().with_structured_outputs(yes.clone()));
    let bad = cases.iter().flat_map(|(params, ..)| [params.clone(), params.clone().with_logprobs(0)]);
    let mixed = bad.flat_map(|params| [Request::new("bad", "No?").with_sampling_params(params), good()]);
    let mut results = engine.generate(mixed.collect::<Vec<_>>()).into_iter();
    for (params, code, place) in cases {
        for _ in 0..2 {
            let error = results.next().unwrap().unwrap_err();
            let pointer =
                if let RequestError::InvalidGrammar { pointer, .. } = &error { pointer.as_deref() } else { None };
            assert_eq!((error.code(), pointer), (code, place), "{error}: {params:?}");
            assert_eq!(results.next().unwrap().unwrap().outputs[0].text, "yes");
        }
    }
}

/// The demo model, with room for 64 answers of some 120 tokens.
fn demo_model() -> LocalEngine {
    let path = demo_model::gguf().expect("the demo model");
    LocalEngine::builder(path).max_model_len(2048).build().expect("the model loads")
}

/// Checks that an answer that came to its end is what the schema says, and returns whether it did.
fn check(schema: &Value, result: Result<RequestOutput, RequestError>) -> bool {
    let output = result.unwrap_or_else(|error| panic!("{error}: {schema}"));
    let answer = &output.outputs[0];
    if answer.finish_reason == FinishReason::Length {
        return false;
    }
    let value = serde_json::from_str(&answer.text).unwrap_or_else(|error| panic!("{error}: {} {schema}", answer.text));
    let validator = jsonschema::options().should_validate_formats(true).build(schema).expect("a schema");
    assert!(validator.is_valid(&value), "{value} {schema}");
    true
}

#[test]
fn answers_of_the_demo_model_are_valid() {
    let lines = include_str!("data/schemas/valid.jsonl").lines().step_by(7);
    let schemas: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let cases: Vec<_> = schemas.iter().flat_map(|schema| [(schema, 0.0), (schema, 1.5)]).collect();
    let request = |(schema, temperature): &(&Value, f32)| {
        let format = StructuredOutput::json_schema((*schema).clone());
        let params = SamplingParams::default().with_temperature(*temperature).with_max_tokens(120);
        let messages = vec![Message::user(format!("Give an example of this JSON Schema: {schema:.200}"))];
        Request::new(format!("{schema} {temperature}"), messages)
            .with_sampling_params(params.with_structured_outputs(format))
    };
    let results = demo_model().generate(cases.iter().map(request));
    let num_whole = cases.iter().zip(results).map(|((schema, _), result)| check(schema, result));
    let num_whole = num_whole.filter(|is_whole| *is_whole).count();
    assert!(num_whole * 4 > cases.len() * 3, "{num_whole} of {} answers came to an end", cases.len());
}

#[test]
fn reviews_of_the_demo_model_are_valid_and_need_not_be_sampled_whole() {
    let lines = include_str!("data/structured_requests.jsonl").lines();
    let bodies: Vec<Value> = lines.map(|line| serde_json::from_str::<Value>(line).unwrap()["body"].take()).collect();
    let schema = &bodies[0]["response_format"]["json_schema"]["schema"];
    let params = SamplingParams::greedy().with_max_tokens(200);
    let params = params.with_structured_outputs(StructuredOutput::json_schema(schema.clone()));
    let request = |body: &Value| {
        let messages: Vec<Message> = serde_json::from_value(body["messages"].clone()).unwrap();
        Request::new("review", messages).with_sampling_params(params.clone())
    };
    for result in demo_model().generate(bodies.iter().map(request)) {
        assert!(check(schema, result), "each answer comes to its end");
    }
}
