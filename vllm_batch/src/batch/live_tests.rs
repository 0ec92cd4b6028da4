use futures::StreamExt;
use futures::executor::block_on;
use serde_json::json;

use super::*;
use crate::testing::ScriptedEngine;

const CREATED: u64 = 1_700_000_000;

fn engine() -> ScriptedEngine {
    ScriptedEngine::echo().with_reasoning("qwen3".parse().expect("it is built in"))
}

fn parse(endpoint: Endpoint, body: &Value) -> Result<LiveRequest, RequestError> {
    let fields = body.as_object().cloned().expect("the test's body is an object");
    LiveRequest::parse(endpoint, "a", fields, engine().spec())
}

/// A body with `model`, and with `stream` besides.
fn bodies(mut body: Value) -> (Value, Value) {
    body["model"] = json!("scripted");
    let whole = body.clone();
    body["stream"] = json!(true);
    (whole, body)
}

/// The chunks of an answer.
fn chunks(endpoint: Endpoint, body: &Value) -> Vec<Value> {
    let request = parse(endpoint, body).expect("it is a request");
    assert!(request.is_stream());
    let items: Vec<_> = block_on(request.stream(&engine(), CREATED).collect());
    items.into_iter().map(|item| serde_json::to_value(item.expect("it is answered")).expect("it is JSON")).collect()
}

/// The choices of an answer, put together of chunks as clients do.
fn assembled(chunks: &[Value]) -> Vec<Value> {
    let mut choices: Vec<Value> = Vec::new();
    for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().expect("a list")) {
        let index = choice["index"].as_u64().expect("a number") as usize;
        while choices.len() <= index {
            choices.push(json!({"index": choices.len(), "text": "", "content": "", "reasoning": "", "tool_calls": []}));
        }
        let whole = &mut choices[index];
        for (name, piece) in [
            ("text", &choice["text"]),
            ("content", &choice["delta"]["content"]),
            ("reasoning", &choice["delta"]["reasoning"]),
        ] {
            whole[name] =
                json!(format!("{}{}", whole[name].as_str().expect("a text"), piece.as_str().unwrap_or_default()));
        }
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            whole["tool_calls"].as_array_mut().expect("a list").push(call.clone());
        }
        for name in ["finish_reason", "stop_reason", "logprobs"] {
            assert!(whole[name].is_null(), "nothing comes after the end");
            whole[name] = choice[name].clone();
        }
    }
    choices
}

/// The same of an answer that comes as a whole.
fn whole(endpoint: Endpoint, body: &Value) -> (Vec<Value>, Value) {
    let answer = block_on(parse(endpoint, body).expect("it is a request").answer(&engine(), CREATED));
    let answer = serde_json::to_value(answer.body).expect("it is JSON");
    let choice = |choice: &Value| {
        let message = &choice["message"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let calls = message["tool_calls"].as_array().into_iter().flatten().enumerate();
        let calls: Vec<Value> = calls
            .map(|(index, call)| {
                let mut call = call.clone();
                call["index"] = json!(index);
                call
            })
            .collect();
        json!({
            "index": choice["index"], "text": text(&choice["text"]), "content": text(&message["content"]),
            "reasoning": text(&message["reasoning"]), "tool_calls": calls, "finish_reason": choice["finish_reason"],
            "stop_reason": choice["stop_reason"], "logprobs": choice["logprobs"],
        })
    };
    (answer["choices"].as_array().expect("a list").iter().map(choice).collect(), answer["usage"].clone())
}

fn chat(content: &str) -> Value {
    json!({"messages": [{"role": "user", "content": content}]})
}

fn with(mut body: Value, fields: &Value) -> Value {
    for (name, value) in fields.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

#[test]
fn chunks_come_to_the_whole_answer() {
    let call = "So: <tool_call>\n{\"name\": \"now\", \"arguments\": {\"zone\": \"CET\"}}\n</tool_call>";
    let tools = json!({"tools": [{"type": "function", "function": {"name": "now"}}]});
    let cases = [
        (Endpoint::ChatCompletions, chat("<think>Hm, well</think>Hello, you there!")),
        (
            Endpoint::ChatCompletions,
            with(chat("</think>one two"), &json!({"n": 3, "temperature": 1, "logprobs": true})),
        ),
        (Endpoint::ChatCompletions, with(chat(&format!("Hm</think>{call}")), &tools)),
        (Endpoint::ChatCompletions, with(chat("</think> <tool_call> no call"), &tools)),
        (Endpoint::ChatCompletions, with(chat("<think>all of it"), &json!({"include_reasoning": false}))),
        (Endpoint::ChatCompletions, with(chat("one two three"), &json!({"max_tokens": 2}))),
        (Endpoint::Completions, json!({"prompt": "one two three", "max_tokens": 2, "logprobs": 1})),
        (Endpoint::Completions, json!({"prompt": ["a b", "c d e"], "n": 2, "temperature": 1})),
        (Endpoint::Completions, json!({"prompt": ["a b", "c d e"], "echo": true, "logprobs": 0})),
        (Endpoint::Completions, json!({"prompt": [1, 2, 3], "best_of": 1})),
    ];
    for (endpoint, body) in cases {
        let (body, streamed) = bodies(body);
        let streamed =
            with(streamed, &json!({"stream_options": {"include_usage": true, "include_obfuscation": false}}));
        let (choices, usage) = whole(endpoint, &body);
        let mut chunks = chunks(endpoint, &streamed);
        let last = chunks.pop().expect("the usage");
        assert_eq!((&last["usage"], &last["choices"]), (&usage, &json!([])), "{body}");
        assert!(chunks.iter().all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some()), "{body}");
        assert_eq!(assembled(&chunks), choices, "{body}");
        assert!(chunks.iter().all(|chunk| chunk["id"] == last["id"] && chunk["created"] == CREATED), "{body}");
    }
}

#[test]
fn a_transcript_is_openais() {
    let call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let tools = json!({"tools": [{"type": "function", "function": {"name": "now"}}]});
    let (_, body) = bodies(with(chat(&format!("Hm </think>So: {call}")), &tools));
    let chunks = chunks(Endpoint::ChatCompletions, &body);
    let choices: Vec<Value> = chunks.iter().map(|chunk| chunk["choices"][0].clone()).collect();
    let of = |delta: Value| json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": null});
    let id = chunks.iter().find_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0]["id"].as_str());
    let called = json!({
        "index": 0, "id": id.expect("a call"), "type": "function", "function": {"name": "now", "arguments": "{}"},
    });
    let expected = [
        of(json!({"role": "assistant", "content": ""})),
        of(json!({"reasoning": "Hm "})),
        of(json!({"content": "So: "})),
        of(json!({"tool_calls": [called]})),
        json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": "tool_calls"}),
    ];
    assert_eq!(choices, expected);
    assert_eq!(chunks[0]["object"], "chat.completion.chunk");
    assert!(chunks[0].get("usage").is_none());
}

#[test]
fn what_cannot_be_streamed_is_refused() {
    let completion = |fields: Value| with(json!({"model": "scripted", "prompt": "x"}), &fields);
    let stream = json!({"stream": true});
    let cases = [
        (completion(json!({"stream": "yes"})), "stream"),
        (completion(json!({"stream_options": {}})), "stream_options"),
        (with(completion(json!({"stream_options": 1})), &stream), "stream_options"),
        (with(completion(json!({"stream_options": {"include_usage": 1}})), &stream), "stream_options.include_usage"),
        (
            with(completion(json!({"stream_options": {"continuous_usage_stats": true}})), &stream),
            "stream_options.continuous_usage_stats",
        ),
        (with(completion(json!({"stream_options": {"other": 1}})), &stream), "stream_options.other"),
        (with(completion(json!({"best_of": 2, "temperature": 1})), &stream), "best_of"),
        (with(completion(json!({"prompt_logprobs": 0})), &stream), "prompt_logprobs"),
    ];
    for (body, param) in cases {
        let error = parse(Endpoint::Completions, &body).expect_err("it is refused");
        assert_eq!(error.param(), Some(param), "{body}");
    }
    let body = json!({"model": "scripted", "input": "x", "stream": true});
    assert_eq!(parse(Endpoint::Embeddings, &body).expect_err("it is refused").param(), Some("stream"));
}

#[test]
fn failures_have_the_status_and_the_parameter() {
    let engine = ScriptedEngine::new(|request| match request.request_id.as_str() {
        "a-1" => Err(RequestError::UnknownToken { token_id: 9, vocab_size: 8 }),
        _ => Ok("fine".to_owned()),
    });
    let (body, streamed) = bodies(json!({"prompt": ["x", "y"]}));
    let mut answer = block_on(parse(Endpoint::Completions, &body).expect("a request").answer(&engine, CREATED));
    let ResponseBody::Error { error } = &answer.body else { panic!("{answer:?}") };
    assert_eq!((answer.status_code, error.param.as_deref()), (400, Some("prompt[1]")));
    let request = parse(Endpoint::Completions, &streamed).expect("a request");
    let items: Vec<_> = block_on(request.stream(&engine, CREATED).collect());
    let Some(Err(last)) = items.last() else { panic!("{items:?}") };
    // Each request has an id of its own.
    answer.request_id.clone_from(&last.request_id);
    assert_eq!(last, &answer);
    assert_eq!(items.iter().filter(|item| item.is_err()).count(), 1);
}

#[test]
fn what_is_dropped_is_aborted() {
    let engine = engine().held();
    let (body, streamed) = bodies(json!({"prompt": ["x", "y"]}));
    drop(parse(Endpoint::Completions, &streamed).expect("a request").stream(&engine, CREATED));
    let mut answer = Box::pin(parse(Endpoint::Completions, &body).expect("a request").answer(&engine, CREATED));
    assert!(futures::FutureExt::now_or_never(&mut answer).is_none());
    drop(answer);
    let stats = engine.stats();
    assert_eq!((stats.submitted, stats.aborted, stats.running), (4, 4, 0));
}
