//! The remote engine against a server on loopback that does what real ones do on bad days.
#![cfg(feature = "remote")]

mod logprobs;
mod real;
mod runner;
mod server;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::executor::block_on;
use serde_json::json;
use server::{Reaction, Received, Server};
use vllm_batch::engine::RemoteEngineBuilder;
use vllm_batch::{
    BatchEngine, BatchEngineExt, CompletionOutput, FinishReason, Flavour, LoadError, Message, OutputEvent,
    RemoteEngine, Request, RequestError, RequestOutput, TextDelta, Usage,
};

/// An engine for the server that tries again at once.
fn builder(server: &Server) -> RemoteEngineBuilder {
    RemoteEngine::builder(server.url())
        .model("m")
        .flavour(Flavour::Vllm)
        .max_num_seqs(1)
        .max_retries(2)
        .retry_base(Duration::ZERO)
}

fn text_of(result: Result<RequestOutput, RequestError>) -> Result<String, RequestError> {
    result.map(|output| output.outputs[0].text.clone())
}

fn ask(engine: &RemoteEngine, prompt: &str) -> Result<String, RequestError> {
    text_of(block_on(engine.submit(Request::new(prompt, prompt)).output()))
}

fn remote(status: Option<u16>, code: &str, message: &str) -> RequestError {
    RequestError::Remote { status, code: code.to_owned(), message: message.to_owned() }
}

#[test]
fn both_endpoints_answer_with_a_delta_and_the_whole() {
    let server = Server::start(|_, request| request.answer());
    let engine = builder(&server).build().expect("an engine");
    let cases = [
        (Request::new("a", "hi"), "/v1/completions"),
        (Request::new("b", vec![Message::system("Be kind."), Message::user("hi")]), "/v1/chat/completions"),
    ];
    for (index, (request, path)) in cases.into_iter().enumerate() {
        let answer = CompletionOutput::new("HI".to_owned(), vec![], FinishReason::Stop, None);
        let output = RequestOutput::new(request.request_id.clone(), [].into(), vec![answer], Usage::new(3, 2, 1));
        let events: Vec<_> = block_on(engine.submit(request).collect());
        let delta = TextDelta::new("HI".to_owned(), 2);
        assert_eq!(events, [OutputEvent::Delta(delta), OutputEvent::Finished(output)]);
        let received = &server.received()[index];
        assert_eq!((received.path.as_str(), &received.body["model"]), (path, &json!("m")));
    }
}

#[test]
fn what_a_server_does_becomes_an_answer_or_a_typed_error() {
    use Reaction::{Raw, Reply};
    type Case = (&'static str, fn(usize, &Received) -> Reaction, Result<&'static str, RequestError>, usize);
    let limited = remote(Some(429), "rate_limit_exceeded", "Wait.");
    let cases: [Case; 11] = [
        ("429 twice", |n, r| if n < 2 { rate_limit("retry-after: 0\r\n") } else { r.answer() }, Ok("HI"), 3),
        ("429 for ever", |_, _| rate_limit("retry-after: 0\r\n"), Err(limited.clone()), 3),
        ("429 beyond the deadline", |_, _| rate_limit("retry-after: 90000\r\n"), Err(limited), 1),
        ("500 for ever", |_, _| Reply(500, "", "oops".to_owned()), Err(remote(Some(500), "http_500", "oops")), 3),
        ("400", |_, _| bad_request(), Err(RequestError::invalid("top_p", "No.")), 1),
        ("closed within the body, once", |n, r| if n < 1 { Raw(cut_off()) } else { r.answer() }, Ok("HI"), 2),
        ("closed without an answer, twice", |n, r| if n < 2 { Raw(String::new()) } else { r.answer() }, Ok("HI"), 3),
        ("no HTTP, once", |n, r| if n < 1 { Raw("SSH-2.0\r\n\r\n".to_owned()) } else { r.answer() }, Ok("HI"), 2),
        (
            "JSON that ends early",
            |_, _| Reply(200, "", "{".to_owned()),
            Err(remote(Some(200), "invalid_response", "EOF while parsing an object at line 1 column 1")),
            3,
        ),
        (
            "another API",
            |_, _| Reaction::json(200, &json!({"choices": []})),
            Err(remote(Some(200), "invalid_response", "0 choices, where 1 were asked for")),
            3,
        ),
        (
            "a body without end",
            |_, _| Reply(200, "", "x".repeat(100_000)),
            Err(remote(Some(200), "response_too_large", "the body is longer than max_response_bytes, which is 50000")),
            1,
        ),
    ];
    for (name, script, expected, tries) in cases {
        let server = Server::start(script);
        let engine = builder(&server).max_response_bytes(50_000).build().expect("an engine");
        assert_eq!(ask(&engine, "hi"), expected.map(str::to_owned), "{name}");
        assert_eq!(server.received().len(), tries, "{name}");
    }
}

fn rate_limit(headers: &'static str) -> Reaction {
    let body = json!({"error": {"message": "Wait.", "code": "rate_limit_exceeded"}});
    Reaction::Reply(429, headers, body.to_string())
}

fn bad_request() -> Reaction {
    Reaction::json(400, &json!({"error": {"message": "No.", "type": "t", "param": "top_p", "code": "c"}}))
}

fn cut_off() -> String {
    "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"choices\": [".to_owned()
}

#[test]
fn a_server_that_says_nothing_or_is_not_there_is_no_answer() {
    let silent = Server::start(|_, _| Reaction::Silence);
    let gone = Server::start(|_, _| Reaction::Silence).url();
    let cases = [(silent.url(), "timeout"), (gone, "connection_failed")];
    for (url, expected) in cases {
        let builder = RemoteEngine::builder(url).model("m").flavour(Flavour::Vllm).retry_base(Duration::ZERO);
        let engine = builder.max_retries(1).timeout(Duration::from_millis(50)).build().expect("an engine");
        match ask(&engine, "hi") {
            Err(error @ RequestError::Remote { .. }) => {
                assert!(error.is_retryable() && error.to_string().contains(expected), "{error}");
                assert_eq!((error.code(), error.status_code()), ("remote_error", 502));
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn as_many_requests_are_at_the_server_as_allowed() {
    // Nobody passes before four are there, so there are four; and there must never be more.
    let barrier = Barrier::new(4);
    let server = Server::start(move |_, request| {
        barrier.wait();
        request.answer()
    });
    let engine = builder(&server).max_num_seqs(4).build().expect("an engine");
    let ids: Vec<_> = (0..20).map(|index| format!("r{index}")).collect();
    let results = engine.generate(ids.iter().map(|id| Request::new(id, id.as_str())));
    let texts: Vec<_> = results.into_iter().map(|result| text_of(result).expect("an answer")).collect();
    assert_eq!(texts, ids.iter().map(|id| id.to_uppercase()).collect::<Vec<_>>());
    assert_eq!((server.max_in_flight(), server.received().len()), (4, 20));
}

/// A server that says when a request is there, and answers when told to.
fn gated_server() -> (Server, Receiver<()>, Sender<()>) {
    let (arrived, arrivals) = channel();
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = Server::start(move |_, request| {
        let _ = arrived.send(());
        let _ = wait.lock().expect("no panic").recv();
        request.answer()
    });
    (server, arrivals, go)
}

#[test]
fn a_request_that_is_dropped_before_it_is_sent_never_is() {
    let (server, arrivals, go) = gated_server();
    let engine = builder(&server).build().expect("an engine");
    let first = engine.submit(Request::new("first", "first"));
    arrivals.recv().expect("the first request");
    let second = engine.submit(Request::new("second", "second"));
    let third = engine.submit(Request::new("third", "third"));
    drop((first, second));
    drop(go);
    assert_eq!(text_of(block_on(third.output())), Ok("THIRD".to_owned()));
    assert_eq!(server.prompts(), ["first", "third"]);
}

#[test]
fn a_dropped_stream_ends_the_pause_before_another_try() {
    let (arrived, arrivals) = channel();
    let server = Server::start(move |number, request| {
        let _ = arrived.send(());
        if number == 0 { rate_limit("retry-after: 3000\r\n") } else { request.answer() }
    });
    let engine = builder(&server).build().expect("an engine");
    let first = engine.submit(Request::new("first", "first"));
    arrivals.recv().expect("the first request");
    drop(first);
    // The one thread does not stay with the first request for fifty minutes.
    assert_eq!(ask(&engine, "second"), Ok("SECOND".to_owned()));
    assert_eq!(server.prompts(), ["first", "second"]);
}

#[test]
fn dropping_the_engine_ends_all_streams() {
    let (server, arrivals, _go) = gated_server();
    let engine = builder(&server).build().expect("an engine");
    let streams = ["sent", "waiting"].map(|id| engine.submit(Request::new(id, id)));
    arrivals.recv().expect("the first request");
    drop(engine);
    for stream in streams {
        assert_eq!(block_on(stream.output()).map_err(|error| error.code()), Err("engine_failed"));
    }
}

#[test]
fn the_key_is_sent_and_never_shown() {
    const KEY: &str = "sk-very-secret";
    let server = Server::start(|_, request| {
        let message = format!("bad key: {}", request.authorization.as_deref().unwrap_or_default());
        Reaction::json(401, &json!({"error": {"message": message, "code": "invalid_api_key"}}))
    });
    let builder = builder(&server).api_key(KEY);
    let engine = builder.clone().build().expect("an engine");
    let error = ask(&engine, "hi").expect_err("a refusal");
    let message = "the server answered with HTTP 401 (check the API key): bad key: Bearer [key]".to_owned();
    assert_eq!(error, RequestError::EngineFailed { message });
    assert_eq!(server.received()[0].authorization, Some(format!("Bearer {KEY}")));
    let discovery = builder.clone().discover(true).build().expect_err("a refusal");
    for shown in [format!("{builder:?}"), format!("{engine:?}"), format!("{discovery:?} {discovery}")] {
        assert!(!shown.contains(KEY), "{shown}");
    }
}

#[test]
fn the_server_is_asked_for_its_models() {
    let one = json!({"data": [{"id": "a", "max_model_len": 512}]});
    let two = json!({"data": [{"id": "a"}, {"id": "b", "max_model_len": null}]});
    let cases = [
        (200, one.clone(), None, Ok(("a", 512))),
        (200, one, Some("b"), Err("invalid_option")),
        (200, two.clone(), Some("b"), Ok(("b", usize::MAX))),
        (200, two, None, Err("invalid_option")),
        (200, json!({"data": []}), None, Err("invalid_option")),
        (200, json!("hello"), None, Err("server_unreachable")),
        (404, json!({"detail": "Not Found"}), None, Err("server_unreachable")),
    ];
    for (status, body, model, expected) in cases {
        let name = format!("{status} {body} {model:?}");
        let server = Server::start(move |_, _| Reaction::json(status, &body));
        let builder = RemoteEngine::builder(server.url()).discover(true);
        let builder = if let Some(model) = model { builder.model(model) } else { builder };
        let found = builder.build().map(|engine| (engine.spec().model().to_owned(), engine.spec().max_model_len));
        let found = found.map_err(|error| error.code());
        assert_eq!(found, expected.map(|(model, length)| (model.to_owned(), length)), "{name}");
        assert_eq!(server.received()[0].path, "/v1/models");
    }
}

#[test]
fn options_outside_their_domain_are_named() {
    let good = || RemoteEngine::builder("http://127.0.0.1:1/v1/").model("m");
    let url = |url: &str| RemoteEngine::builder(url).model("m");
    let cases = [
        (url("not a url"), "base_url"),
        (url("127.0.0.1:8000/v1"), "base_url"),
        (url("ftp://host/v1"), "base_url"),
        (url("http://"), "base_url"),
        (url("http://user:hunter2@host/v1"), "base_url"),
        (url("http://host/v1?key=hunter2"), "base_url"),
        (RemoteEngine::builder("http://host/v1"), "model"),
        (good().model(""), "model"),
        (good().api_key("line\nbreak"), "api_key"),
        (good().max_num_seqs(0), "max_num_seqs"),
        (good().max_num_seqs(5000), "max_num_seqs"),
        (good().timeout(Duration::ZERO), "timeout"),
        (good().connect_timeout(Duration::MAX), "connect_timeout"),
        (good().deadline(Duration::MAX), "deadline"),
        (good().max_response_bytes(0), "max_response_bytes"),
        (good().max_model_len(0), "max_model_len"),
    ];
    for (builder, expected) in cases {
        let error = builder.build().expect_err(expected);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        assert!(matches!(error, LoadError::InvalidOption { option, .. } if option == expected), "{error:?}");
    }
    let spec = good().max_num_seqs(2).max_model_len(9).build().expect("an engine").spec().clone();
    assert_eq!((spec.model(), spec.max_num_seqs, spec.max_model_len), ("m", 2, 9));
    assert_eq!(spec.revision, "remote http://127.0.0.1:1/v1 m OpenAi");
    assert_eq!(good().revision("r").build().expect("an engine").spec().revision, "r");
}
