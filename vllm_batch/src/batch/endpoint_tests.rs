//! Bodies and the requests that they are.

use super::*;
use crate::request::{
    ChatOptions, Message, RepetitionDetection, Role, SamplingParams, StructuredOutput, Tool, ToolCall, ToolChoice,
};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

fn parse(endpoint: Endpoint, mut body: Value) -> Result<Request, RequestError> {
    body["model"] = json!("m");
    let Value::Object(body) = body else { panic!("a body is an object") };
    let mut requests = endpoint.parse_body("id", body, &EngineSpec::new("m", "r"))?;
    assert_eq!(requests.len(), 1);
    Ok(requests.remove(0))
}

#[test]
fn every_parameter_reaches_the_request() {
    let body = json!({
        "messages": [
            {"role": "system", "content": "a"}, {"role": "developer", "content": "b", "name": null},
            {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}]},
            {"role": "assistant", "content": "e", "tool_calls": []}, {"role": "tool", "content": "f"},
        ],
        "temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.25, "seed": -1, "max_tokens": 5,
        "max_completion_tokens": 6.0, "min_tokens": 2, "stop": ["x", "y"], "stop_token_ids": [3, 4],
        "ignore_eos": true, "skip_special_tokens": false, "priority": -3, "user": "u", "n": 1, "tools": null,
    });
    let messages = vec![
        Message::system("a"),
        Message::new(Role::Developer, "b"),
        Message::user("c\nd"),
        Message::assistant("e"),
        Message::new(Role::Tool, "f"),
    ];
    let sampling = SamplingParams::default()
        .with_temperature(0.5)
        .with_top_p(0.9)
        .with_top_k(7)
        .with_min_p(0.25)
        .with_seed(u64::MAX)
        .with_max_tokens(6)
        .with_min_tokens(2)
        .with_stop(vec!["x".to_owned(), "y".to_owned()])
        .with_stop_token_ids(vec![3, 4])
        .with_ignore_eos(true)
        .with_skip_special_tokens(false);
    let expected = Request::new("id", messages).with_sampling_params(sampling).with_priority(-3);
    assert_eq!(parse(Endpoint::ChatCompletions, body), Ok(expected));
}

#[test]
fn defaults_follow_the_endpoint() {
    let chat = parse(Endpoint::ChatCompletions, json!({"messages": [{"role": "user", "content": "x"}]}));
    assert_eq!(chat, Ok(Request::new("id", vec![Message::user("x")])));
    let sixteen = SamplingParams::default().with_max_tokens(16);
    let prompts = [
        (json!("x"), Prompt::Text("x".to_owned())),
        (json!(["x"]), Prompt::Text("x".to_owned())),
        (json!([1, 2]), Prompt::TokenIds(vec![1, 2])),
        (json!([[1, 2]]), Prompt::TokenIds(vec![1, 2])),
        (json!([]), Prompt::TokenIds(vec![])),
    ];
    for (body, prompt) in prompts {
        let mut expected = Request::new("id", "").with_sampling_params(sixteen.clone());
        expected.prompt = prompt;
        assert_eq!(parse(Endpoint::Completions, json!({"prompt": body, "top_k": -1})), Ok(expected));
    }
}

fn chat(params: &Value) -> Result<Request, RequestError> {
    let mut body = params.clone();
    body["messages"] = json!([{"role": "user", "content": "x"}]);
    parse(Endpoint::ChatCompletions, body)
}

fn completion(params: &Value) -> Result<Request, RequestError> {
    let mut body = params.clone();
    body["prompt"] = json!("x");
    parse(Endpoint::Completions, body)
}

#[test]
fn the_endpoints_have_parameters_of_their_own() {
    let kwargs = json!({"enable_thinking": false});
    let options = ChatOptions::default()
        .with_chat_template("t")
        .with_chat_template_kwargs(kwargs.as_object().cloned().unwrap_or_default())
        .with_add_generation_prompt(false)
        .with_continue_final_message(true);
    let body = json!({
        "chat_template": "t", "chat_template_kwargs": kwargs, "add_generation_prompt": false,
        "continue_final_message": true, "add_special_tokens": true, "logprobs": true, "top_logprobs": 3,
    });
    let expected = Request::new("id", vec![Message::user("x")])
        .with_sampling_params(SamplingParams::default().with_logprobs(3))
        .with_chat(options)
        .with_add_special_tokens(true);
    assert_eq!(chat(&body), Ok(expected));
    let body = json!({"echo": true, "logprobs": 3, "n": 2, "best_of": 4, "add_special_tokens": false});
    let sampling = SamplingParams::default().with_max_tokens(16).with_logprobs(3).with_n(2).with_best_of(4);
    let expected =
        Request::new("id", "x").with_sampling_params(sampling).with_echo(true).with_add_special_tokens(false);
    assert_eq!(completion(&body), Ok(expected));
}

#[test]
fn tools_calls_and_thoughts_reach_the_request() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    let function = |name: &str| json!({"type": "function", "function": {"name": name}});
    let allowed = json!({"mode": "required", "tools": [function("g")]});
    let body = json!({
        "messages": [
            {"role": "user", "content": "x", "name": "Ann"},
            {"role": "assistant", "content": null, "reasoning_content": "hm", "refusal": null, "annotations": [],
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
            {"role": "tool", "tool_call_id": "1", "name": "f", "content": [{"type": "text", "text": "3"}]},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema, "strict": true}},
            function("g"),
        ],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}, "parallel_tool_calls": false,
        "documents": [{"text": "d"}], "include_reasoning": false, "thinking_token_budget": 7,
        "reasoning_effort": "none", "chat_template_kwargs": {"k": 1}, "functions": [], "function_call": "auto",
    });
    let messages = vec![
        Message::user("x").with_name("Ann"),
        Message::assistant("").with_reasoning("hm").with_tool_calls(vec![ToolCall::new("1", "f", "{\"a\": 1}")]),
        Message::tool("1", "3").with_name("f"),
    ];
    let variables = json!({"k": 1, "enable_thinking": false, "reasoning_effort": "none"});
    let options = ChatOptions::default()
        .with_tools(vec![
            Tool::new("f").with_description("d").with_parameters(schema).with_strict(true),
            Tool::new("g"),
        ])
        .with_tool_choice(ToolChoice::Allowed { is_required: true, names: vec!["g".to_owned()] })
        .with_parallel_tool_calls(false)
        .with_documents(vec![json!({"text": "d"})])
        .with_include_reasoning(false)
        .with_chat_template_kwargs(variables.as_object().cloned().unwrap_or_default());
    let sampling = SamplingParams::default().with_thinking_token_budget(7);
    let expected = Request::new("id", messages).with_sampling_params(sampling).with_chat(options);
    assert_eq!(parse(Endpoint::ChatCompletions, body), Ok(expected));
}

#[test]
fn every_tool_choice_is_understood() {
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": tools}});
    let cases = [
        (json!("none"), ToolChoice::None),
        (json!("auto"), ToolChoice::Auto),
        (json!("required"), ToolChoice::Required),
        (tools[0].clone(), ToolChoice::Function("f".to_owned())),
        (allowed, ToolChoice::Allowed { is_required: false, names: vec!["f".to_owned()] }),
    ];
    for (value, expected) in cases {
        let request = chat(&json!({"tools": tools, "tool_choice": value, "thinking_token_budget": -1})).unwrap();
        assert_eq!(request.chat.tool_choice, expected);
        assert_eq!(request.chat.tool_choice.to_json(), value);
    }
}

#[test]
fn switches_that_are_off_ask_for_nothing() {
    for (body, logprobs) in [
        (json!({"logprobs": false}), None),
        (json!({"logprobs": false, "top_logprobs": 0}), None),
        (json!({"logprobs": true}), Some(0)),
        (json!({"response_format": {"type": "text"}, "structured_outputs": null, "chat_template": null}), None),
    ] {
        let expected = Request::new("id", vec![Message::user("x")]);
        let sampling = SamplingParams { logprobs, ..SamplingParams::default() };
        assert_eq!(chat(&body), Ok(expected.with_sampling_params(sampling)), "{body}");
    }
}

#[test]
fn every_spelling_of_a_format_is_understood() {
    let schema = json!({"type": "object", "properties": {"b": {}, "a": {}}});
    let json_schema = StructuredOutput::json_schema(schema.clone());
    let named = json!({"name": "n", "strict": true, "description": "d", "schema": schema});
    let spaced = StructuredOutput::json_object().with_whitespace_pattern(" ?");
    let all = json!({"choice": ["a"], "regex": null, "json_object": false, "disable_additional_properties": true});
    let grammar = StructuredOutput::grammar("start: \"a\"");
    let cases = [
        (json!({"response_format": {"type": "json_object"}}), StructuredOutput::json_object()),
        (json!({"response_format": {"type": "json_schema", "json_schema": named}}), json_schema.clone()),
        (json!({"structured_outputs": {"json": schema}}), json_schema.clone()),
        (json!({"structured_outputs": {"json": schema.to_string()}}), json_schema.clone()),
        (json!({"structured_outputs": {"json": true}}), StructuredOutput::json_schema(json!(true))),
        (json!({"structured_outputs": {"regex": "a+"}}), StructuredOutput::regex("a+")),
        (json!({"structured_outputs": all}), StructuredOutput::choice(["a"]).with_disable_additional_properties(true)),
        (json!({"structured_outputs": {"grammar": "start: \"a\""}}), grammar.clone()),
        (json!({"structured_outputs": {"json_object": true, "whitespace_pattern": " ?"}}), spaced),
        (
            json!({"structured_outputs": {"json": schema, "disable_any_whitespace": false}}),
            json_schema.clone().with_disable_any_whitespace(false),
        ),
        (json!({"guided_json": schema}), json_schema),
        (json!({"guided_regex": "a+"}), StructuredOutput::regex("a+")),
        (json!({"guided_choice": ["a", "b"]}), StructuredOutput::choice(["a", "b"])),
        (json!({"guided_grammar": "start: \"a\""}), grammar),
        (json!({"guided_regex": "a+", "response_format": {"type": "text"}}), StructuredOutput::regex("a+")),
    ];
    for (body, expected) in cases {
        let sampling = SamplingParams::default().with_structured_outputs(expected);
        let request = Request::new("id", vec![Message::user("x")]).with_sampling_params(sampling.clone());
        assert_eq!(chat(&body), Ok(request), "{body}");
        let request = Request::new("id", "x").with_sampling_params(sampling.with_max_tokens(16));
        assert_eq!(completion(&body), Ok(request), "{body}");
    }
}

#[test]
fn repetition_detection_has_two_forms() {
    let detection = RepetitionDetection::new(5, 3).with_min_pattern_size(2);
    for body in [
        json!({"repetition_detection": {"max_pattern_size": 5, "min_pattern_size": 2, "min_count": 3}}),
        json!({"max_repetition_pattern_size": 5, "min_repetition_pattern_size": 2, "repetition_min_count": 3}),
    ] {
        let sampling = SamplingParams::default().with_repetition_detection(detection);
        assert_eq!(chat(&body), Ok(Request::new("id", vec![Message::user("x")]).with_sampling_params(sampling)));
    }
}

/// Parameters within their domains.
fn any_params() -> impl Strategy<Value = SamplingParams> {
    let choice = (1..=128_u32, 0.1..2.0_f32, 0.01..=1.0_f32, 0..100_u32, 0.0..=1.0_f32, any::<Option<u64>>());
    let logits = (-2.0..=2.0_f32, -2.0..=2.0_f32, 0.1..9.0_f32);
    let tokens = (
        prop::collection::btree_map(any::<u32>(), -100.0..=100.0_f32, 0..4),
        prop::option::of(prop::collection::vec(any::<u32>(), 1..4)),
        prop::collection::vec("[a-zé]{1,3}", 0..3),
    );
    let end = (5..99_u32, 0..5_u32, prop::collection::vec(".{1,3}", 0..3), any::<[bool; 3]>());
    let back = (prop::option::of(0..=20_i32), prop::option::of(0..=20_i32), prop::option::of(1..99_i32));
    (choice, logits, tokens, end, back).prop_map(|(choice, logits, tokens, end, back)| SamplingParams {
        n: choice.0,
        temperature: choice.1,
        top_p: choice.2,
        top_k: choice.3,
        min_p: choice.4,
        seed: choice.5,
        presence_penalty: logits.0,
        frequency_penalty: logits.1,
        repetition_penalty: logits.2,
        logit_bias: tokens.0,
        allowed_token_ids: tokens.1,
        bad_words: tokens.2,
        max_tokens: Some(end.0),
        min_tokens: end.1,
        stop: end.2,
        include_stop_str_in_output: end.3[0],
        ignore_eos: end.3[1],
        skip_special_tokens: end.3[2],
        logprobs: back.0,
        prompt_logprobs: back.1,
        truncate_prompt_tokens: back.2,
        ..SamplingParams::default()
    })
}

/// The body of a completion with these parameters.
fn body_of(params: &SamplingParams) -> Value {
    let bias: BTreeMap<String, f32> = params.logit_bias.iter().map(|(id, bias)| (id.to_string(), *bias)).collect();
    json!({
        "n": params.n, "temperature": params.temperature, "top_p": params.top_p, "top_k": params.top_k,
        "min_p": params.min_p, "seed": params.seed, "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty, "repetition_penalty": params.repetition_penalty,
        "logit_bias": bias, "allowed_token_ids": params.allowed_token_ids, "bad_words": params.bad_words,
        "max_tokens": params.max_tokens, "min_tokens": params.min_tokens, "stop": params.stop,
        "include_stop_str_in_output": params.include_stop_str_in_output, "ignore_eos": params.ignore_eos,
        "skip_special_tokens": params.skip_special_tokens, "logprobs": params.logprobs,
        "prompt_logprobs": params.prompt_logprobs, "truncate_prompt_tokens": params.truncate_prompt_tokens,
    })
}

proptest! {
    #[test]
    fn a_body_comes_to_the_parameters_that_it_was_made_of(params in any_params(), priority in any::<i32>()) {
        let mut body = body_of(&params);
        body["priority"] = json!(priority);
        let expected = Request::new("id", "x").with_sampling_params(params).with_priority(priority);
        prop_assert_eq!(completion(&body), Ok(expected));
    }
}
