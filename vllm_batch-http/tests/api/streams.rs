//! Answers that are written while they are sent.

use axum::body::{Body, HttpBody};
use axum::http::{Request, header};
use futures::FutureExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use vllm_batch::testing::ScriptedEngine;
use vllm_batch::{BatchEngine, EngineSpec, OutputEvent, OutputStream, RequestError, TextDelta};
use vllm_batch_http::{Service, ServiceConfig};

use crate::App;

fn body(content: &str) -> Value {
    json!({"model": "scripted", "messages": [{"role": "user", "content": content}], "stream": true})
}

/// The data of all events; what else there is, is no event.
fn events(text: &str) -> Vec<String> {
    let events = text.split("\n\n").filter(|event| !event.is_empty());
    events.map(|event| event.strip_prefix("data: ").unwrap_or_else(|| panic!("{event:?}")).to_owned()).collect()
}

#[tokio::test]
async fn a_transcript_byte_for_byte() {
    let app = App::new().await;
    let request = Request::post("/v1/chat/completions")
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-request-id", "row-1");
    let mut body = body("Hello, you!");
    body["stream_options"] = json!({"include_usage": true});
    let answer = app.send(request.body(Body::from(body.to_string())).unwrap()).await;
    let events = events(answer.text());
    let id = serde_json::from_str::<Value>(&events[0]).unwrap()["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("chatcmpl-") && id.len() == 41, "{id}");
    let chunk = |choices: &str, usage: &str| {
        let head = format!(r#"{{"id":"{id}","object":"chat.completion.chunk","created":1700000000,"model":"scripted""#);
        format!(r#"{head},"choices":[{choices}],"usage":{usage}}}"#)
    };
    let of = |delta: &str, reason: &str| {
        chunk(&format!(r#"{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}"#), "null")
    };
    let usage =
        r#"{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4,"prompt_tokens_details":{"cached_tokens":0}}"#;
    let expected = [
        of(r#"{"role":"assistant","content":""}"#, "null"),
        of(r#"{"content":"Hello, "}"#, "null"),
        of(r#"{"content":"you!"}"#, "null"),
        of("{}", r#""stop""#),
        chunk("", usage),
        "[DONE]".to_owned(),
    ];
    assert_eq!(events, expected);
    assert_eq!((answer.header("content-type"), answer.header("x-accel-buffering")), ("text/event-stream", "no"));
}

#[tokio::test]
async fn what_fails_before_a_word_has_its_status() {
    let app = App::with(ScriptedEngine::new(|_| Err(RequestError::NoChatTemplate)), |_| ()).await;
    assert_eq!(app.post("/v1/chat/completions", &body("x")).await.error(), (400, "no_chat_template".to_owned()));
    let refused = app.post("/v1/chat/completions", &json!({"model": "scripted", "messages": [], "stream": true})).await;
    assert_eq!(refused.error(), (400, "invalid_value".to_owned()));
}

/// An engine that dies after a word.
#[derive(Debug)]
struct Dying(EngineSpec);

impl BatchEngine for Dying {
    fn spec(&self) -> &EngineSpec {
        &self.0
    }

    fn submit(&self, _: vllm_batch::Request) -> OutputStream {
        OutputStream::new(futures::stream::iter([
            OutputEvent::Delta(TextDelta::new("Well".to_owned(), 1)),
            OutputEvent::Failed(RequestError::EngineFailed { message: "/dev/secret0 is gone".to_owned() }),
        ]))
    }
}

#[tokio::test]
async fn what_fails_later_is_an_event() {
    let mut app = App::new().await;
    let engine = Dying(EngineSpec::new("scripted", "r"));
    app.router =
        Service::new(app.jobs.clone(), ServiceConfig::default()).with_engine(std::sync::Arc::new(engine)).router();
    let answer = app.post("/v1/chat/completions", &body("x")).await;
    assert_eq!(answer.status, 200);
    let events = events(answer.text());
    let [.., error, done] = &events[..] else { panic!("{events:?}") };
    let error: Value = serde_json::from_str(error).unwrap();
    assert_eq!(
        (&error["error"]["code"], &error["error"]["type"], done.as_str()),
        (&json!("engine_failed"), &json!("server_error"), "[DONE]")
    );
    assert!(!answer.text().contains("secret"));
}

#[tokio::test]
async fn who_goes_away_is_noticed() {
    let app = App::with(ScriptedEngine::echo().held(), |config| config.max_live_requests = 2).await;
    let whole = json!({"model": "scripted", "prompt": "x"});
    for (path, body) in [("/v1/completions", &whole), ("/v1/chat/completions", &body("x"))] {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        let waiting = app.router.clone().oneshot(request.body(Body::from(body.to_string())).unwrap());
        let mut waiting = Box::pin(waiting);
        assert!((&mut waiting).now_or_never().is_none());
        while app.engine.stats().running == 0 {
            assert!((&mut waiting).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        drop(waiting);
        assert_eq!(app.engine.stats().running, 0);
    }
    // One that was heard a word of.
    app.engine.release(1);
    let request = Request::post("/v1/chat/completions").header(header::CONTENT_TYPE, "application/json");
    let response =
        app.router.clone().oneshot(request.body(Body::from(body("one two").to_string())).unwrap()).await.unwrap();
    let mut answer = response.into_body();
    let frame = std::future::poll_fn(|context| std::pin::Pin::new(&mut answer).poll_frame(context)).await;
    assert!(frame.is_some_and(|frame| frame.is_ok()));
    assert_eq!(app.engine.stats().running, 1);
    drop(answer);
    let stats = app.engine.stats();
    assert_eq!((stats.submitted, stats.aborted, stats.running), (3, 3, 0));
    // The places are free again.
    app.engine.release_all();
    assert_eq!(app.post("/v1/completions", &whole).await.status, 200);
}
