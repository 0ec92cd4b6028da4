//! Log-probabilities in the forms that servers give them.

use std::fs;

use futures::executor::block_on;
use serde_json::{Value, json};
use vllm_batch::{
    BatchEngine, BatchRunner, Flavour, Message, RemoteEngine, Request, RequestError, RequestOutput, SamplingParams,
    TokenLogprob, TokenLogprobs,
};

use crate::builder;
use crate::server::{Reaction, Server};

/// "Hé" in the parts "H" and "é", then an end that has no text; asked for with two of the most likely tokens.
fn choices(flavour: Flavour, is_chat: bool) -> Value {
    let usual = json!({"content": [
        {"token": "H", "logprob": -0.5, "bytes": [72], "top_logprobs": [
            {"token": "H", "logprob": -0.5, "bytes": [72]}, {"token": "W", "logprob": -1.5, "bytes": [87]},
        ]},
        {"token": "é", "logprob": -2.5, "bytes": [195, 169], "top_logprobs": [
            {"token": "e", "logprob": -0.25, "bytes": [101]}, {"token": "a", "logprob": -2.0, "bytes": [97]},
        ]},
    ]});
    let lists = json!({
        "tokens": ["H", "é"], "token_logprobs": [-0.5, -2.5], "text_offset": [7, 8],
        "top_logprobs": [{"H": -0.5, "W": -1.5}, {"é": -2.5, "e": -0.25, "a": -2.0}],
    });
    // The chosen token comes first, whatever its rank.
    let vllm_chat = json!({"content": [
        {"token": "H", "logprob": -0.5, "bytes": [72], "top_logprobs": [
            {"token": "H", "logprob": -0.5, "bytes": [72]}, {"token": "W", "logprob": -1.5, "bytes": [87]},
        ]},
        {"token": "é", "logprob": -2.5, "bytes": [195, 169], "top_logprobs": [
            {"token": "é", "logprob": -2.5, "bytes": [195, 169]}, {"token": "e", "logprob": -0.25, "bytes": [101]},
        ]},
    ]});
    // The text is cut to whole characters, and the ids are there.
    let llama = json!({"content": [
        {"id": 39, "token": "H", "bytes": [72], "logprob": -0.5, "top_logprobs": [
            {"id": 39, "token": "H", "bytes": [72], "logprob": -0.5},
            {"id": 54, "token": "W", "bytes": [87], "logprob": -1.5},
        ]},
        {"id": 130, "token": "", "bytes": [195], "logprob": -2.5, "top_logprobs": [
            {"id": 68, "token": "e", "bytes": [101], "logprob": -0.25},
            {"id": 64, "token": "a", "bytes": [97], "logprob": -3.402_823_466_385_288_6e38},
        ]},
    ]});
    let logprobs = match (flavour, is_chat) {
        (Flavour::LlamaCpp, _) => llama,
        (Flavour::Vllm, true) => vllm_chat,
        (_, true) => usual,
        (_, false) => lists,
    };
    let mut choice = json!({"index": 0, "finish_reason": "length", "logprobs": logprobs});
    if is_chat {
        choice["message"] = json!({"role": "assistant", "content": "Hé"});
    } else {
        choice["text"] = json!("Hé");
    }
    if flavour == Flavour::Vllm {
        choice["token_ids"] = json!([39, 2634]);
    }
    json!([choice])
}

fn engine(flavour: Flavour) -> (Server, RemoteEngine) {
    let server = Server::start(move |_, request| {
        let is_chat = request.path.ends_with("/chat/completions");
        let usage = json!({"prompt_tokens": 3, "completion_tokens": 2});
        Reaction::json(200, &json!({"choices": choices(flavour, is_chat), "usage": usage}))
    });
    let engine = builder(&server).flavour(flavour).build().expect("an engine");
    (server, engine)
}

/// What the one choice of each endpoint says in a batch file.
fn rows(engine: &RemoteEngine) -> [Value; 2] {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    let bodies = [
        ("/v1/chat/completions", r#""messages":[{"role":"user","content":"x"}],"logprobs":true,"top_logprobs":2"#),
        ("/v1/completions", r#""prompt":"x","logprobs":2"#),
    ];
    let line = |(url, body): (&str, &str)| {
        format!(r#"{{"custom_id":"{url}","method":"POST","url":"{url}","body":{{"model":"m","max_tokens":2,{body}}}}}"#)
            + "\n"
    };
    fs::write(&input, bodies.map(line).concat()).expect("the folder is writable");
    BatchRunner::new(engine).input(&input).output(&output).run().expect("the run completes");
    let rows = fs::read_to_string(&output).expect("rows");
    let mut rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
    rows.sort_by_key(|row| row["custom_id"].to_string());
    let logprobs = |row: &Value| row["response"]["body"]["choices"][0]["logprobs"].clone();
    [logprobs(&rows[0]), logprobs(&rows[1])]
}

#[test]
fn rows_have_them_in_the_shapes_of_the_endpoints() {
    let top = |text: &str, logprob: f32| json!({"token": text, "logprob": logprob, "bytes": text.as_bytes()});
    let chat = |second: Value| {
        let first =
            json!({"token": "H", "logprob": -0.5, "bytes": [72], "top_logprobs": [top("H", -0.5), top("W", -1.5)]});
        json!({"content": [first, second]})
    };
    let second = |tops: [Value; 2]| json!({"token": "é", "logprob": -2.5, "bytes": [195, 169], "top_logprobs": tops});
    let text = json!({
        "tokens": ["H", "é"], "token_logprobs": [-0.5, -2.5], "text_offset": [0, 1],
        "top_logprobs": [{"H": -0.5, "W": -1.5}, {"é": -2.5, "e": -0.25, "a": -2.0}],
    });
    let half = json!({"token": "\u{fffd}", "logprob": -2.5, "bytes": [195],
        "top_logprobs": [top("e", -0.25), top("a", -9999.0)]});
    let halves = json!({
        "tokens": ["H", "\u{fffd}"], "token_logprobs": [-0.5, -2.5], "text_offset": [0, 1],
        "top_logprobs": [{"H": -0.5, "W": -1.5}, {"\u{fffd}": -2.5, "e": -0.25, "a": -9999.0}],
    });
    let cases = [
        (Flavour::OpenAi, [chat(second([top("e", -0.25), top("a", -2.0)])), text.clone()]),
        (Flavour::Vllm, [chat(second([top("e", -0.25), top("é", -2.5)])), text]),
        (Flavour::LlamaCpp, [chat(half), halves]),
    ];
    for (flavour, expected) in cases {
        let (_server, engine) = engine(flavour);
        assert_eq!(rows(&engine), expected, "{flavour:?}");
    }
}

fn token(id: Option<u32>, logprob: f32, text: &str) -> TokenLogprob {
    TokenLogprob::new(id, logprob, None, text.as_bytes().to_vec())
}

#[test]
fn ids_are_those_that_the_server_says() {
    let params = SamplingParams::default().with_max_tokens(2).with_logprobs(1);
    for (flavour, ids) in [(Flavour::OpenAi, [None, None]), (Flavour::Vllm, [Some(39), Some(2634)])] {
        let (_server, engine) = engine(flavour);
        let request = Request::new("a", "x").with_sampling_params(params.clone());
        let output = block_on(engine.submit(request).output()).expect("an answer");
        let expected = vec![
            TokenLogprobs::new(token(ids[0], -0.5, "H"), vec![token(None, -0.5, "H")]),
            TokenLogprobs::new(token(ids[1], -2.5, "é"), vec![token(None, -0.25, "e")]),
        ];
        assert_eq!(output.outputs[0].logprobs, Some(expected));
        assert_eq!(output.outputs[0].cumulative_logprob, Some(-3.0));
    }
    let (_server, engine) = engine(Flavour::LlamaCpp);
    let request = Request::new("a", "x").with_sampling_params(params.with_logprobs(0));
    let output = block_on(engine.submit(request).output()).expect("an answer");
    let half = TokenLogprob::new(130, -2.5, None, vec![195]);
    let expected = vec![TokenLogprobs::new(token(Some(39), -0.5, "H"), vec![]), TokenLogprobs::new(half, vec![])];
    assert_eq!(output.outputs[0].logprobs, Some(expected));
}

/// Asks a vLLM server, with one of the most likely tokens in each place; `body` is what it answers.
fn ask(request: Request, body: Value) -> Result<RequestOutput, RequestError> {
    let server = Server::start(move |_, _| Reaction::json(200, &body));
    let engine = builder(&server).max_retries(0).build().expect("an engine");
    block_on(engine.submit(request).output())
}

#[test]
fn a_prompt_has_ids_and_ranks() {
    let places = json!([null, {
        "8": {"logprob": -3.0, "rank": 7, "decoded_token": " you"}, "5": {"logprob": -0.5, "rank": 1, "decoded_token": " me"},
    }]);
    let known = |id, logprob, rank, text: &str| TokenLogprob::new(id, logprob, rank, text.as_bytes().to_vec());
    let expected = [None, Some(TokenLogprobs::new(known(8, -3.0, 7, " you"), vec![known(5, -0.5, 1, " me")]))];
    let params = SamplingParams::default().with_prompt_logprobs(1);
    let text = Request::new("a", "Are you").with_sampling_params(params.clone());
    let chat = Request::new("b", vec![Message::user("you")]).with_sampling_params(params);
    let choice = json!({"text": "?", "finish_reason": "stop", "prompt_token_ids": [1, 8], "prompt_logprobs": places});
    let message = json!({"message": {"content": "?"}, "finish_reason": "stop"});
    let echo = Request::new("c", "Are you").with_echo(true);
    let echo = echo.with_sampling_params(SamplingParams::default().with_logprobs(1));
    let mut echoed = choice.clone();
    echoed["logprobs"] = json!({"tokens": ["?"], "token_logprobs": [-1.0], "top_logprobs": [{"?": -1.0}]});
    let bodies = [
        (echo, json!({"choices": [echoed]})),
        (text, json!({"choices": [choice]})),
        (chat, json!({"choices": [message], "prompt_token_ids": [1, 8], "prompt_logprobs": places})),
    ];
    for (request, body) in bodies {
        assert_eq!(ask(request, body).expect("an answer").prompt_logprobs.as_deref(), Some(&expected[..]));
    }
}

#[test]
fn what_is_missing_or_does_not_fit_is_an_error() {
    let answer = |text: &str, logprobs: Value| {
        let choice = json!({"text": text, "finish_reason": "stop", "token_ids": [1], "prompt_token_ids": [1, 8],
            "logprobs": logprobs, "prompt_logprobs": [null, {"9": {"logprob": -1.0, "decoded_token": "x"}}]});
        json!({"choices": [choice]})
    };
    let lists = |tokens: Value, logprobs: Value| json!({"tokens": tokens, "token_logprobs": logprobs});
    let params = SamplingParams::default().with_logprobs(1);
    let cases = [
        (params.clone(), json!(null), "the answer has none"),
        (params.clone(), json!({"content": null}), "the answer has none"),
        (params.clone(), json!({"content": []}), "0 for 1 tokens"),
        (params.clone(), lists(json!(["a", "b"]), json!([-1.0])), "1 for 2 tokens"),
        (params.clone(), lists(json!(["a"]), json!([null])), "invalid type: null, expected f32"),
        (SamplingParams::default().with_prompt_logprobs(1), json!(null), "token 8 of the prompt has none"),
    ];
    for (params, logprobs, expected) in cases {
        let error =
            ask(Request::new("a", "x").with_sampling_params(params), answer("x", logprobs)).expect_err(expected);
        let message = format!("log-probabilities were asked for: {expected}");
        let code = "invalid_response".to_owned();
        assert_eq!(error, RequestError::Remote { status: Some(200), code, message });
    }
    // Nothing is missed where there is no text, and what was not asked for is not looked at.
    let silent = ask(Request::new("a", "x").with_sampling_params(params), answer("", json!(null))).expect("an answer");
    assert_eq!(silent.outputs[0].logprobs, None);
    assert_eq!(ask(Request::new("a", "x"), answer("x", json!("odd"))).expect("an answer").outputs[0].logprobs, None);
}
