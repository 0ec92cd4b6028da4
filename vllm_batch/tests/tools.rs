//! Calls of functions on the demo model, whose template knows nothing of them, and thoughts on a tiny model.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "other tests need more of it")]
mod common;
#[path = "../../examples/demo_model/mod.rs"]
mod demo_model;

use std::collections::{BTreeMap, BTreeSet};

use common::builder;
use serde_json::{Value, json};
use vllm_batch::text::ReasoningFormat;
use vllm_batch::{
    BatchEngineExt, ChatOptions, CompletionOutput, FinishReason, LocalEngine, Message, Prompt, Request, RequestError,
    SamplingParams, StructuredOutput, Tool, ToolCall, ToolChoice,
};

fn tools() -> Vec<Tool> {
    let weather = json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 20},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
            "unit": {"enum": ["celsius", "fahrenheit"]}
        },
        "required": ["city", "unit"]
    });
    let email = json!({
        "properties": {
            "to": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 1, "maxItems": 2},
            "urgent": {"type": "boolean"}
        },
        "required": ["to", "urgent"]
    });
    vec![
        Tool::new("get_weather").with_description("The weather in a city.").with_parameters(weather),
        Tool::new("send_email").with_description("Sends an email.").with_parameters(email),
        Tool::new("now").with_description("The time."),
    ]
}

/// Checks a call against its function's schema.
fn check(call: &ToolCall) {
    let tool = tools().into_iter().find(|tool| tool.name == call.name).expect("a function that there is");
    let nothing = || json!({"type": "object", "maxProperties": 0});
    let schema = tool.parameters.unwrap_or_else(nothing);
    let arguments: Value = serde_json::from_str(&call.arguments).expect("JSON");
    assert_eq!(arguments.to_string(), call.arguments, "compact");
    assert!(jsonschema::validator_for(&schema).unwrap().is_valid(&arguments), "{call:?}");
}

fn questions(choice: &ToolChoice, temperature: f32) -> Vec<Request> {
    let texts =
        ["Is it warm in Rome?", "Write to Ann and Bob.", "How late is it?", "Tell me about the weather in Oslo."];
    let request = |text: &&str| {
        let chat = ChatOptions::default().with_tools(tools()).with_tool_choice(choice.clone());
        let params = SamplingParams::default().with_temperature(temperature).with_max_tokens(160);
        Request::new(format!("{text} {temperature}"), vec![Message::user(*text)])
            .with_chat(chat)
            .with_sampling_params(params)
    };
    texts.iter().map(request).collect()
}

/// The demo model, with room for some answers at a time.
fn demo_model() -> LocalEngine {
    let path = demo_model::gguf().expect("the demo model");
    LocalEngine::builder(path).max_model_len(2048).build().expect("the model loads")
}

fn answers(engine: &LocalEngine, requests: Vec<Request>) -> Vec<CompletionOutput> {
    engine.generate(requests).into_iter().map(|result| result.unwrap().outputs.swap_remove(0)).collect()
}

#[test]
fn calls_of_the_demo_model_follow_their_schemas() {
    let engine = demo_model();
    let named = ToolChoice::Function("get_weather".to_owned());
    let some = ToolChoice::Allowed { is_required: true, names: vec!["now".to_owned(), "send_email".to_owned()] };
    let mut ids = BTreeSet::new();
    let mut num_whole = BTreeMap::new();
    for (choice, reason) in [
        (ToolChoice::Required, FinishReason::ToolCalls),
        (named.clone(), FinishReason::Stop),
        (some.clone(), FinishReason::ToolCalls),
    ] {
        let requests = [0.0, 1.5].map(|temperature| questions(&choice, temperature)).concat();
        for single in [false, true] {
            let alone = |request: &Request| {
                let mut request = request.clone();
                request.request_id = format!("{} {single} {choice:?}", request.request_id);
                request.chat.parallel_tool_calls = !single;
                request
            };
            for answer in answers(&engine, requests.iter().map(alone).collect()) {
                if answer.finish_reason == FinishReason::Length {
                    assert!(!single && choice != named, "one call fits: {answer:?}");
                    continue;
                }
                assert_eq!((answer.finish_reason, answer.text.as_str()), (reason, ""));
                assert!(!answer.tool_calls.is_empty() && (!single || answer.tool_calls.len() == 1));
                *num_whole.entry(format!("{choice:?}")).or_insert(0) += 1;
                for call in answer.tool_calls {
                    check(&call);
                    assert!(choice.allows(&call.name));
                    assert!(call.id.starts_with("call_") && call.id.len() == 29 && ids.insert(call.id));
                }
            }
        }
    }
    assert!(num_whole.values().all(|count| *count >= 8), "{num_whole:?}");
}

/// A conversation that the model goes on with in the middle of a call.
fn begun(mut request: Request, beginning: &str) -> Request {
    request.chat = request.chat.with_add_generation_prompt(false).with_continue_final_message(true);
    if let Prompt::Messages(messages) = &mut request.prompt {
        messages.push(Message::assistant(beginning));
    }
    request
}

#[test]
fn answers_of_the_demo_model_are_free_until_a_call_begins() {
    let engine = demo_model();
    let auto = [0.0, 1.5].map(|temperature| questions(&ToolChoice::Auto, temperature)).concat();
    let beginnings = ["Let me see.\n<tool_call", "<tool_call>"];
    let calling = auto.iter().flat_map(|request| beginnings.map(|beginning| begun(request.clone(), beginning)));
    let requests: Vec<Request> = auto.iter().cloned().chain(calling).collect();
    let (mut plain, mut expected) = (Vec::new(), Vec::new());
    for (request, result) in requests.clone().into_iter().zip(engine.generate(requests)) {
        let mut output = result.unwrap();
        let answer = output.outputs.swap_remove(0);
        answer.tool_calls.iter().for_each(check);
        assert_eq!(answer.finish_reason == FinishReason::ToolCalls, !answer.tool_calls.is_empty(), "{answer:?}");
        if answer.tool_calls.is_empty() && !answer.text.contains("<tool_call>") {
            let prompt = output.prompt_token_ids.to_vec();
            let params = request.sampling_params().unwrap().clone();
            plain.push(Request::new(request.request_id, prompt).with_sampling_params(params));
            expected.push(answer);
        }
    }
    // As if there were no grammar at all.
    assert!(!expected.is_empty());
    assert_eq!(answers(&engine, plain), expected);
}

#[test]
fn ids_and_calls_do_not_depend_on_the_batch() {
    let engine = demo_model();
    let requests = questions(&ToolChoice::Required, 1.5);
    let together = answers(&engine, requests.clone());
    for (request, expected) in requests.into_iter().zip(together) {
        assert_eq!(answers(&engine, vec![request]), [expected]);
    }
}

#[test]
fn an_answer_may_be_followed_by_the_result() {
    let engine = demo_model();
    let first = questions(&ToolChoice::Function("now".to_owned()), 0.0).remove(2);
    let call = answers(&engine, vec![first.clone()]).remove(0).tool_calls;
    let id = call[0].id.clone();
    let messages = vec![
        Message::user("How late is it?"),
        Message::assistant("").with_tool_calls(call),
        Message::tool(&id, "{\"time\":\"noon\"}"),
    ];
    let params = first.sampling_params().unwrap().clone();
    let second = Request::new(first.request_id, messages).with_chat(first.chat).with_sampling_params(params);
    let answer = answers(&engine, vec![second]).remove(0);
    assert_ne!(answer.tool_calls[0].id, id, "ids are unique in a conversation");
}

/// A template that opens the thoughts, closes them, or leaves them to the model.
fn template(opening: &str) -> ChatOptions {
    let template = "{{ messages[0].content }}{% if add_generation_prompt %}OPENING{% endif %}";
    ChatOptions::default().with_chat_template(template.replace("OPENING", opening))
}

#[test]
fn formats_hold_after_the_thoughts() {
    let qwen3 = || "qwen3".parse::<ReasoningFormat>().unwrap();
    let engine = builder().reasoning_parser(qwen3()).build().unwrap();
    let yes = StructuredOutput::choice(["yes, certainly"]);
    let request = |chat: ChatOptions, params: SamplingParams| {
        Request::new("x", vec![Message::user("Say something.")]).with_chat(chat).with_sampling_params(params)
    };
    let answer = |request| answers(&engine, vec![request]).remove(0);
    let sampled = || SamplingParams::default().with_temperature(1.5).with_max_tokens(60).with_ignore_eos(true);
    for seed in 0..10 {
        for budget in [0, 1, 9] {
            let params = sampled().with_seed(seed).with_thinking_token_budget(budget);
            for opening in ["<think>", ""] {
                for params in [params.clone(), params.clone().with_logprobs(0)] {
                    let params = params.with_structured_outputs(yes.clone());
                    let held = request(template(opening), params.clone());
                    let found = answer(held.clone());
                    assert_eq!((found.text.as_str(), found.finish_reason), ("yes, certainly", FinishReason::Stop));
                    let thoughts = found.reasoning.unwrap();
                    assert_eq!(thoughts.is_empty(), budget == 0, "{thoughts}");
                    let hidden = answer(request(held.chat.with_include_reasoning(false), params));
                    assert_eq!((hidden.text.as_str(), hidden.reasoning), ("yes, certainly", None));
                }
            }
        }
        let over = request(template("<think></think>"), sampled().with_seed(seed).with_structured_outputs(yes.clone()));
        let over = answer(over);
        assert_eq!((over.text.as_str(), over.reasoning), ("yes, certainly", None));
        let open = answer(request(template(""), sampled().with_seed(seed).with_structured_outputs(yes.clone())));
        assert_eq!((open.text.as_str(), open.finish_reason), ("", FinishReason::Length), "no mark came");
        assert!(!open.reasoning.unwrap().is_empty());
    }
}

#[test]
fn what_cannot_be_asked_for_is_refused() {
    let engine = builder().build().unwrap();
    let unknown = "{{ tools }}{{ messages[0].content }}";
    let known = "{% if tools %}<tool_call>{% endif %}{{ messages[0].content }}";
    let chat = || ChatOptions::default().with_chat_template(known).with_tools(tools());
    let params = || SamplingParams::default().with_max_tokens(4);
    let format = || params().with_structured_outputs(StructuredOutput::json_object());
    let bad = Tool::new("f").with_parameters(json!({"properties": {"a": {"type": "strin"}}}));
    let cases = [
        (chat(), format(), ("invalid_value", Some("tool_choice"))),
        (chat().with_chat_template(unknown), params(), ("unsupported_parameter", Some("tools"))),
        (chat(), params().with_thinking_token_budget(3), ("unsupported_parameter", Some("thinking_token_budget"))),
        (
            chat().with_tools(vec![Tool::new("g"), bad]),
            params(),
            ("invalid_schema", Some("tools[1].function.parameters")),
        ),
        (
            chat().with_tool_choice(ToolChoice::Function("g".to_owned())),
            params(),
            ("invalid_value", Some("tool_choice.function.name")),
        ),
    ];
    for (chat, params, expected) in cases {
        let request = Request::new("x", vec![Message::user("Hi")]).with_chat(chat).with_sampling_params(params);
        let error = engine.generate([request]).remove(0).unwrap_err();
        assert_eq!((error.code(), error.param()), expected, "{error}");
    }
    let calls = vec![ToolCall::new("1", "f", "[]")];
    let request = Request::new("x", vec![Message::user("Hi"), Message::assistant("").with_tool_calls(calls)]);
    let error: RequestError = engine.generate([request.with_chat(chat())]).remove(0).unwrap_err();
    assert_eq!(error.param(), Some("messages[1].tool_calls[0].function.arguments"));
    let fine = Request::new("x", vec![Message::user("Hi")]).with_sampling_params(format());
    let fine = fine.with_chat(chat().with_tool_choice(ToolChoice::None));
    assert!(engine.generate([fine]).remove(0).is_ok());
}

#[test]
fn the_parsers_are_part_of_the_revision() {
    use vllm_batch::BatchEngine;
    let revision = |engine: LocalEngine| engine.spec().revision.clone();
    let plain = revision(builder().build().unwrap());
    let reasoning = revision(builder().reasoning_parser("qwen3".parse().unwrap()).build().unwrap());
    let calls = revision(builder().tool_call_parser("mistral".parse().unwrap()).build().unwrap());
    assert!(reasoning.starts_with(&plain) && calls.starts_with(&plain));
    assert_eq!(BTreeSet::from([plain, reasoning, calls]).len(), 3);
}
