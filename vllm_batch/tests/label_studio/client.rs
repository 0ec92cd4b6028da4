//! Tokens, tries, and what servers answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use vllm_batch::curate::{SchemaRegistry, Version};
use vllm_batch::pipeline::label_studio::{ExportFilter, LabelStudio, LabelStudioBuilder, ProjectSpec, WebhookReceiver};

use crate::base64;
use crate::server::{Reaction, Received, Server};

fn builder(server: &Server, token: &str) -> LabelStudioBuilder {
    let url = server.url();
    LabelStudio::builder(url.trim_end_matches("/v1"), token).retry_base(Duration::ZERO).max_retries(2)
}

fn jwt(kind: &str, expires: u64, nonce: u64) -> String {
    let claims = json!({"token_type": kind, "exp": expires, "jti": nonce});
    format!("{}.{}.sig", base64::encode(b"{}"), base64::encode(claims.to_string().as_bytes()))
}

#[test]
fn each_kind_of_token_is_shown_as_it_must_be() {
    let server = Server::start(|_, request| Reaction::json(200, &json!({"email": request.authorization})));
    let access = jwt("access", 8_000_000_000, 0);
    for (token, shown) in [("abc", "Token abc".to_owned()), (access.as_str(), format!("Bearer {access}"))] {
        assert_eq!(builder(&server, token).build().unwrap().whoami().unwrap(), shown);
    }
}

#[test]
fn a_personal_token_gets_access_tokens_as_they_end() {
    let now = Arc::new(AtomicU64::new(1_000_000));
    let clock = Arc::clone(&now);
    // The server forgets the second access token at once.
    let server = Server::start(move |number, request| {
        if request.path == "/api/token/refresh/" {
            let (expires, nonce) = (clock.load(Ordering::Relaxed) + 300, number as u64);
            return Reaction::json(200, &json!({"access": jwt("access", expires, nonce)}));
        }
        if number == 6 {
            return Reaction::json(401, &json!({"detail": "Token is invalid or expired"}));
        }
        Reaction::json(200, &json!({"email": "ann@example.org"}))
    });
    let personal = jwt("refresh", 8_000_000_000, 1);
    let clock = Arc::clone(&now);
    let time = move || SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::Relaxed));
    let client = builder(&server, &personal).clock(time).build().unwrap();
    for seconds in [0, 200, 269, 271, 300] {
        now.store(1_000_000 + seconds, Ordering::Relaxed);
        assert_eq!(client.whoami().unwrap(), "ann@example.org", "{seconds}");
    }
    let paths: Vec<_> = server
        .received()
        .iter()
        .map(|one| one.path.rsplit('/').find(|part| !part.is_empty()).unwrap().to_owned())
        .collect();
    assert_eq!(paths, ["refresh", "whoami", "whoami", "whoami", "refresh", "whoami", "whoami", "refresh", "whoami"]);
    let received = server.received();
    assert_eq!((received[0].authorization.clone(), &received[0].body), (None, &json!({"refresh": personal})));
    assert!(received.iter().all(|one| one.authorization.as_deref() != Some(&format!("Bearer {personal}"))));
    assert_ne!(received[6].authorization, received[8].authorization);
}

#[test]
fn a_token_that_is_refused_is_an_error_and_not_shown() {
    let server = Server::start(|_, _| Reaction::json(401, &json!({"detail": "Invalid token."})));
    for token in ["hunter2".to_owned(), jwt("refresh", 8_000_000_000, 1)] {
        let client = builder(&server, &token).build().unwrap();
        let error = client.whoami().unwrap_err();
        assert_eq!((error.code(), error.status()), ("unauthorized", Some(401)));
        assert!(!format!("{error} {error:?} {client:?} {:?}", builder(&server, &token)).contains(&token));
    }
}

#[test]
fn only_what_changes_nothing_is_tried_again() {
    let server = Server::start(|number, _| match number {
        0 => Reaction::Reply(503, "retry-after: 0\r\n", "busy".to_owned()),
        1 => Reaction::Raw(String::new()),
        2 => Reaction::json(200, &json!({"release": "1.23.2"})),
        _ => Reaction::Reply(502, "", "<html><title>Bad Gateway</title></html>".to_owned()),
    });
    let client = builder(&server, "abc").build().unwrap();
    assert_eq!(client.version().unwrap(), "1.23.2");
    let error = client.annotate(5, &[], false).unwrap_err();
    assert_eq!(error.to_string(), "the server failed with HTTP 502: Bad Gateway");
    assert_eq!(server.received().len(), 4);
    assert_eq!(client.version().unwrap_err().status(), Some(502));
    assert_eq!(server.received().len(), 7);
}

#[test]
fn answers_that_are_none_are_typed_errors() {
    type Case = (fn() -> Reaction, &'static str, Option<u16>);
    let page = || Reaction::Reply(404, "", "<html><head><title>Page not found</title></head></html>".to_owned());
    let cases: [Case; 6] = [
        (|| Reaction::Reply(200, "", "{".to_owned()), "invalid_response", Some(200)),
        (|| Reaction::json(200, &json!({})), "invalid_response", Some(200)),
        (|| Reaction::Reply(302, "location: /login\r\n", String::new()), "invalid_response", Some(302)),
        (|| Reaction::Reply(200, "", "x".repeat(2000)), "response_too_large", None),
        (|| Reaction::Silence, "timeout", None),
        (|| Reaction::Raw(String::new()), "connection_failed", None),
    ];
    for (reaction, code, status) in cases {
        let server = Server::start(move |_, _| reaction());
        let client =
            builder(&server, "abc").timeout(Duration::from_millis(200)).max_response_bytes(1000).build().unwrap();
        let error = client.version().unwrap_err();
        assert_eq!((error.code(), error.status()), (code, status), "{error}");
    }
    let server = Server::start(move |_, _| page());
    let error = builder(&server, "abc").build().unwrap().project(9).unwrap_err();
    assert_eq!(error.to_string(), "there is no /api/projects/9/: Page not found");
    // Behind the last page there are no tasks, and that is no error.
    assert_eq!(builder(&server, "abc").build().unwrap().tasks_page(9, 3, 10).unwrap(), None);
}

#[test]
fn options_that_cannot_be_used_are_named() {
    let cases = [
        (LabelStudio::builder("nonsense", "abc"), "url"),
        (LabelStudio::builder("http://ann:hunter2@host", "abc"), "url"),
        (LabelStudio::builder("http://host", ""), "token"),
        (LabelStudio::builder("http://host", "a b"), "token"),
        (LabelStudio::builder("http://host", "a").timeout(Duration::ZERO), "timeout"),
    ];
    for (builder, option) in cases {
        let error = builder.build().unwrap_err();
        assert!(error.code() == "invalid_option" && error.to_string().starts_with(option), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

/// The projects of a server that keeps them.
fn projects(request: &Received, projects: &mut Vec<Value>) -> Reaction {
    let path = request.path.split('?').next().unwrap();
    match (request.method.as_str(), path) {
        ("GET", "/api/projects/") => Reaction::json(200, &json!({"results": projects, "next": null})),
        ("POST", "/api/projects/") => {
            let mut project = request.body.clone();
            project["id"] = json!(projects.len() + 1);
            projects.push(project.clone());
            Reaction::json(201, &project)
        }
        ("POST", path) if path.ends_with("/validate/") => Reaction::json(200, &json!({})),
        ("PATCH", path) => {
            let id: usize = path.rsplit('/').nth(1).unwrap().parse().unwrap();
            let project = &mut projects[id - 1];
            request.body.as_object().unwrap().iter().for_each(|(key, value)| project[key] = value.clone());
            Reaction::json(200, project)
        }
        _ => Reaction::json(404, &json!({})),
    }
}

#[test]
fn a_schema_has_one_project_for_each_major_version() {
    let state = std::sync::Mutex::new(Vec::new());
    let server = Server::start(move |number, request| {
        let reaction = projects(request, &mut state.lock().unwrap());
        // The answer to the first creation gets lost.
        if number == 1 { Reaction::Raw(String::new()) } else { reaction }
    });
    let client = builder(&server, "abc").build().unwrap();
    let mut registry = SchemaRegistry::builtin();
    let first = registry.get("email_evaluation").unwrap();
    let ensure = |schema, config: &str, registry: &SchemaRegistry| {
        let project = client.ensure_project(&ProjectSpec::new(schema, config), registry);
        project.map(|project| (project.id, project.label_config, project.schema.unwrap().1))
    };
    let version = |text: &str| text.parse::<Version>().unwrap();
    for _ in 0..2 {
        assert_eq!(ensure(&first, "<a/>", &registry).unwrap(), (1, "<a/>".to_owned(), version("1.0.0")));
    }
    let mut minor = first.schema().clone();
    minor.version = version("1.1.0");
    minor.questions[0].required = false;
    let minor = registry.register(minor).unwrap();
    assert_eq!(ensure(&minor, "<b/>", &registry).unwrap(), (1, "<b/>".to_owned(), version("1.1.0")));
    // Back is no way, and what the registry does not know cannot be compared.
    assert_eq!(ensure(&first, "<a/>", &registry).unwrap_err().code(), "schema_conflict");
    let mut patch = minor.schema().clone();
    patch.version = version("1.2.0");
    let patch = patch.compile().unwrap();
    assert_eq!(ensure(&patch, "<b/>", &SchemaRegistry::new()).unwrap_err().code(), "schema_conflict");
    let mut major = minor.schema().clone();
    major.version = version("2.0.0");
    major.questions.remove(0);
    let major = registry.register(major).unwrap();
    assert_eq!(ensure(&major, "<c/>", &registry).unwrap(), (2, "<c/>".to_owned(), version("2.0.0")));
    assert_eq!(client.find_project(&first).unwrap().unwrap().id, 1);
}

#[test]
fn an_export_is_read_task_by_task() {
    let tasks: Vec<_> = (0..1000).map(|id| json!({"id": id, "data": {"text": "x".repeat(100)}})).collect();
    let body = Value::from(tasks).to_string();
    let server = Server::start(move |_, request| match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/api/projects/3/exports/") => Reaction::json(201, &json!({"id": 9, "status": "created"})),
        ("GET", "/api/projects/3/exports/9") => Reaction::json(200, &json!({"id": 9, "status": "completed"})),
        ("GET", "/api/projects/3/exports/9/download?exportType=JSON") => Reaction::Reply(200, "", body.clone()),
        ("DELETE", "/api/projects/3/exports/9") => Reaction::Reply(204, "", String::new()),
        _ => Reaction::json(404, &json!({})),
    });
    // The whole is longer than what may be in memory.
    let client = builder(&server, "abc").max_response_bytes(1000).build().unwrap();
    let mut ids = Vec::new();
    let count = client.export(3, ExportFilter::Gold, |task| ids.push(task["id"].as_u64().unwrap())).unwrap();
    assert_eq!((count, ids), (1000, (0..1000).collect()));
    let options = &server.received()[0].body;
    assert_eq!(options["annotation_filter_options"], json!({"usual": false, "ground_truth": true, "skipped": false}));
    assert_eq!(server.received().last().unwrap().method, "DELETE");
}

#[test]
fn a_webhook_is_made_once() {
    let hooks = std::sync::Mutex::new(Vec::<Value>::new());
    let server = Server::start(move |number, request| {
        let mut hooks = hooks.lock().unwrap();
        let reaction = match request.method.as_str() {
            "GET" => Reaction::json(200, &json!(*hooks)),
            "POST" => {
                let mut hook = request.body.clone();
                hook["id"] = json!(4);
                hooks.push(hook.clone());
                Reaction::json(201, &hook)
            }
            _ => Reaction::json(200, &hooks[0]),
        };
        if number == 1 { Reaction::Raw(String::new()) } else { reaction }
    });
    let client = builder(&server, "abc").build().unwrap();
    let receiver = WebhookReceiver::new("X-Secret", "s3cret");
    for _ in 0..2 {
        assert_eq!(client.create_webhook(2, "http://127.0.0.1:1/hook", &receiver).unwrap(), 4);
    }
    let posts: Vec<_> = server.received().into_iter().filter(|one| one.method == "POST").collect();
    assert_eq!((posts.len(), &posts[0].body["headers"]), (1, &json!({"X-Secret": "s3cret"})));
}
