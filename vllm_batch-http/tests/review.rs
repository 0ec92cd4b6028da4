//! Review through the router: schemas, tasks, annotations, gold, imports, exports, events of Label Studio and dead letters.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;
use vllm_batch::curate::SchemaRegistry;
use vllm_batch::jobs::{
    Delivery, DeliveryState, FileStore, JobService, JobStore as _, ServiceOptions, SqlStore, WebhookConfig,
    WebhookEvent, Worker, WorkerOptions,
};
use vllm_batch::pipeline::label_studio::WebhookReceiver;
use vllm_batch::pipeline::tasks::{AutoImport, TaskStore};
use vllm_batch::testing::ScriptedEngine;
use vllm_batch_http::{ApiKey, Service, ServiceConfig, hash_key};

const NOW: i64 = 1_700_000_000;
const SCHEMAS: [&str; 6] =
    ["candidate_evaluation", "cartographer", "cv_parsing", "email_evaluation", "quil_email", "report_evaluation"];

struct App {
    router: Router,
    jobs: JobService,
    store: SqlStore,
    tasks: TaskStore,
    folder: TempDir,
}

impl App {
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut ServiceConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("jobs.db").display());
        let store = SqlStore::connect(&url).await.unwrap();
        let mut options = ServiceOptions::default();
        options.clock = Arc::new(|| NOW);
        let files = FileStore::in_folder(folder.path().join("files")).unwrap();
        let jobs = JobService::new(Arc::new(store.clone()), files, options);
        let tasks = TaskStore::open(&store, SchemaRegistry::builtin()).await.unwrap();
        let mut config = ServiceConfig::default();
        change(&mut config);
        let service = Service::new(jobs.clone(), config).with_tasks(tasks.clone());
        let router = service.with_label_studio(WebhookReceiver::new("X-Secret", "abc")).router();
        Self { router, jobs, store, tasks, folder }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, Vec<u8>) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        (status, to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec())
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let (status, bytes) = self.send(request.body(body).unwrap()).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::String(text)))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(Method::POST, path, Some(body)).await;
        assert!(status.is_success(), "{path}: {answer}");
        answer
    }

    /// The status and the code of an error.
    async fn refused(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, String) {
        let (status, answer) = self.ask(method, path, body).await;
        (status.as_u16(), answer["error"]["code"].as_str().unwrap_or_default().to_owned())
    }
}

fn cv(id: &str) -> Value {
    json!({"id": id, "fields": {"resume_text": format!("{id}, Rust")}})
}

#[tokio::test]
async fn the_library_s_schemas_are_there_with_all_that_follows_from_them() {
    let app = App::new().await;
    let list = app.get("/v1/schemas").await;
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, SCHEMAS);
    for id in SCHEMAS {
        let schema = app.get(&format!("/v1/schemas/{id}")).await;
        let version = schema["version"].as_str().unwrap();
        assert_eq!(app.get(&format!("/v1/schemas/{id}@{version}")).await, schema);
        assert_eq!(app.get(&format!("/v1/schemas/{id}/versions")).await["data"][0]["version"], version);
        let prompt = app.get(&format!("/v1/schemas/{id}/prompt")).await;
        assert_eq!(
            (&prompt["messages"][0]["role"], &prompt["messages"][1]["role"]),
            (&json!("system"), &json!("user")),
            "{id}"
        );
        assert_eq!(app.get(&format!("/v1/schemas/{id}/json_schema")).await["type"], "object");
        assert_eq!(app.get(&format!("/v1/schemas/{id}/json_schema?form=answers")).await["type"], "object");
        let page = app.get(&format!("/v1/schemas/{id}/label_config?locale=de")).await;
        assert!(page["label_config"].as_str().unwrap().starts_with("<View"), "{page}");
        let diff = app.get(&format!("/v1/schemas/{id}/diff?from={version}&to={version}")).await;
        assert_eq!(diff["changes"], json!([]));
    }
    let fields = json!({"fields": {"resume_text": "Ann, Rust"}});
    let prompt = app.post("/v1/schemas/cv_parsing/prompt", &fields).await;
    assert!(prompt["messages"][1]["content"].as_str().unwrap().contains("Ann, Rust"), "{prompt}");
    let cases = [
        (Method::GET, "/v1/schemas/none", None, 404, "unknown_schema"),
        (Method::GET, "/v1/schemas/cv_parsing@9.9.9", None, 404, "unknown_schema"),
        (Method::GET, "/v1/schemas/No%20name", None, 400, "invalid_parameter"),
        (Method::GET, "/v1/schemas/cv_parsing/json_schema?form=x", None, 400, "invalid_value"),
        (Method::GET, "/v1/schemas/cv_parsing/diff?from=1&to=2", None, 400, "invalid_value"),
        (Method::POST, "/v1/schemas", Some(json!({})), 403, "schemas_are_fixed"),
        (Method::POST, "/v1/schemas/cv_parsing/prompt", Some(json!({"fields": {}})), 400, "invalid_fields"),
    ];
    for (method, path, body, status, code) in cases {
        let (found, name) = app.refused(method, path, body.as_ref()).await;
        assert_eq!(found, status, "{path}: {name}");
        if code != "invalid_fields" {
            assert_eq!(name, code, "{path}");
        }
    }
}

#[tokio::test]
async fn a_record_goes_from_its_creation_to_training_data() {
    let app = App::new().await;
    let records = json!({"schema": "cv_parsing", "records": [cv("ann"), cv("bob"), {"id": "no text"}]});
    let created = app.post("/v1/curation/tasks", &records).await;
    assert_eq!(
        (created["created"].as_array().unwrap().len(), &created["rejected"][0]["code"]),
        (2, &json!("missing_field"))
    );
    let id = created["created"][0].as_str().unwrap().to_owned();
    let next = app.get("/v1/curation/tasks/next?schema=cv_parsing&annotator=eve&strategy=random&seed=3").await;
    assert_eq!(next["task"]["object"], "curation.task");

    let wrong = json!({"task_id": id, "annotator": "eve", "answers": {"years_experience": "many"}});
    let (status, answer) = app.ask(Method::POST, "/v1/curation/annotations", Some(&wrong)).await;
    assert_eq!((status.as_u16(), &answer["error"]["code"]), (400, &json!("invalid_answers")));
    let detail = &answer["error"]["details"][0];
    assert_eq!((&detail["question"], &detail["code"]), (&json!("years_experience"), &json!("wrong_type")), "{answer}");

    // What holds is found by asking for the answers of the model, so that this test needs not know the schema.
    let draft = json!({"task_id": id, "annotator": "eve", "status": "draft", "answers": {"years_experience": 8}});
    let task = app.post("/v1/curation/annotations", &draft).await;
    assert_eq!((&task["status"], &task["responses"][0]["status"]), (&json!("pending"), &json!("draft")));
    let stale = json!({"task_id": id, "annotator": "eve", "status": "discarded", "version": 1});
    assert_eq!(
        app.refused(Method::POST, "/v1/curation/annotations", Some(&stale)).await,
        (409, "version_conflict".to_owned())
    );

    let page = app.get("/v1/curation/tasks?schema=cv_parsing&limit=1").await;
    assert_eq!((page["data"].as_array().unwrap().len(), &page["has_more"]), (1, &json!(true)));
    let rest = app
        .get(&format!("/v1/curation/tasks?schema=cv_parsing&limit=9&after={}", page["last_id"].as_str().unwrap()))
        .await;
    assert_eq!((rest["data"][0]["record_id"].as_str(), &rest["has_more"]), (Some("bob"), &json!(false)));
    assert_eq!(app.get("/v1/curation/tasks?annotator=eve").await["data"][0]["id"], id);
    assert_eq!(app.get(&format!("/v1/curation/tasks/{id}")).await, task);

    let gold = json!({"task_ids": [id, "task_x"], "gold": true, "by": "eve"});
    let marks = app.post("/v1/curation/gold", &gold).await;
    assert_eq!(marks, json!({"marked": [id], "unknown": ["task_x"]}));
    let stats = app.get("/v1/curation/stats?schema=cv_parsing").await;
    assert_eq!((&stats["total"], &stats["pending"]), (&json!(2), &json!(2)));
    assert_eq!(app.get("/v1/curation/agreement?schema=cv_parsing&num_resamples=10").await["groups"], json!([]));
    let report =
        app.post("/v1/curation/export", &json!({"schema": "cv_parsing", "format": "alpaca", "report": true})).await;
    assert_eq!(report["num_rows"], 0);
    let withdrawn =
        app.ask(Method::DELETE, &format!("/v1/curation/annotations?task_id={id}&annotator=eve"), None).await.1;
    assert_eq!(withdrawn["responses"], json!([]));
    for (path, body, code) in [
        ("/v1/curation/export", json!({"schema": "cv_parsing", "format": "none"}), "invalid_value"),
        ("/v1/curation/export", json!({"schema": "cv_parsing", "format": "alpaca", "test": 2}), "invalid_value"),
        ("/v1/curation/gold", json!({"task_ids": []}), "invalid_value"),
        ("/v1/curation/tasks", json!({"schema": "none", "records": []}), "unknown_schema"),
        ("/v1/curation/tasks/import", json!({"schema": "cv_parsing", "batch_id": "batch_x"}), "not_found"),
    ] {
        assert_eq!(app.refused(Method::POST, path, Some(&body)).await.1, code, "{path} {body}");
    }
}

#[tokio::test]
async fn a_batch_that_asks_for_it_is_taken_over_once() {
    let app = App::new().await;
    let line = |id: &str| {
        let messages = json!([{"role": "user", "content": format!("{id}, eight years of Rust")}]);
        json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": {"model": "scripted", "messages": messages}}).to_string()
    };
    let content = format!("{}\n{}\n", line("ann"), line("bob"));
    let new = vllm_batch::jobs::NewFile::for_batch();
    let file =
        app.jobs.create_file(new, futures::stream::iter([Ok::<_, std::io::Error>(content.into())])).await.unwrap();
    let mut batch = vllm_batch::jobs::NewBatch::new(&file.id, "/v1/chat/completions");
    batch.metadata.insert("curation_schema".to_owned(), "cv_parsing".to_owned());
    let batch = app.jobs.create_batch(batch).await.unwrap();
    let import = json!({"schema": "cv_parsing", "batch_id": batch.id});
    assert_eq!(app.refused(Method::POST, "/v1/curation/tasks/import", Some(&import)).await.0, 400, "it has not ended");

    let engine = Arc::new(ScriptedEngine::new(|_| Ok(r#"{"years_experience": 8}"#.to_owned())));
    let options = WorkerOptions::new("worker-1", app.folder.path().join("work"));
    Worker::new(app.jobs.clone(), engine, options).run_until_idle().await.unwrap();
    let mut importer = AutoImport::new(app.tasks.clone(), app.jobs.clone());
    let reports = importer.run_once().await.unwrap();
    assert_eq!((reports.len(), reports[0].suggested, reports[0].created), (1, 2, 2));
    assert_eq!(importer.run_once().await.unwrap(), []);
    assert_eq!(app.post("/v1/curation/tasks/import", &import).await, json!(reports[0]));
    let told = app.get(&format!("/v1/curation/imports/{}?schema=cv_parsing", batch.id)).await;
    assert_eq!(told["report"], json!(reports[0]));
    let tasks = app.get("/v1/curation/tasks?schema=cv_parsing").await;
    assert_eq!(tasks["data"][0]["suggestions"][0]["suggestions"][0]["answer"], 8);
    assert_eq!(tasks["data"][0]["fields"]["resume_text"], "ann, eight years of Rust");
}

#[tokio::test]
async fn events_of_label_studio_need_their_secret_and_no_key() {
    let app =
        App::with(|config| config.api_keys = ApiKey::from_sha256("red", &hash_key("r")).into_iter().collect()).await;
    let send = |secret: &'static str, body: &Value| {
        let request = Request::post("/v1/webhooks/label-studio").header("content-type", "application/json");
        let request = request.header("x-secret", secret).body(Body::from(body.to_string())).unwrap();
        app.send(request)
    };
    let event = json!({"action": "PROJECT_UPDATED", "project": {"id": 1}});
    let (status, body) = send("abc", &event).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status.as_u16(), &body["outcomes"][0]), (200, &json!({"status": "ignored", "reason": "other_action"})));
    for secret in ["", "ab", "abcd"] {
        assert_eq!(send(secret, &event).await.0, 401);
    }
    assert_eq!(send("abc", &json!([])).await.0, 400);
    assert_eq!(app.refused(Method::GET, "/v1/curation/tasks", None).await, (401, "invalid_api_key".to_owned()));
}

#[tokio::test]
async fn messages_that_nobody_took_are_listed_sent_again_and_forgotten() {
    let app = App::new().await;
    let file = vllm_batch::jobs::FileObject::new("file-1", vllm_batch::jobs::FilePurpose::Batch, NOW);
    app.store.insert_file(&file).await.unwrap();
    let mut batch = vllm_batch::jobs::Batch::new("batch_1", "/v1/embeddings", "file-1", NOW);
    batch.webhook = Some(WebhookConfig { url: "https://example.com".to_owned(), secret: None, events: vec![] });
    app.store.insert_batch(&batch, vllm_batch::jobs::QueueLimits::default()).await.unwrap();
    let mut dead = Delivery::of(&batch, WebhookEvent::Failed, NOW).unwrap();
    (dead.state, dead.attempts, dead.last_error) = (DeliveryState::Dead, 8, Some("status 500".to_owned()));
    app.store.insert_delivery(&dead).await.unwrap();
    app.store.update_delivery(&dead).await.unwrap();

    let list = app.get("/v1/webhooks/dead-letter").await;
    let expected = json!({
        "id": dead.id, "object": "webhook.delivery", "batch_id": "batch_1", "event": "batch.failed", "state": "dead",
        "attempts": 8, "last_error": "status 500", "created_at": NOW,
    });
    assert_eq!(list, json!({"object": "list", "data": [expected], "has_more": false}));
    let path = format!("/v1/webhooks/dead-letter/{}", dead.id);
    let again = app.post(&format!("{path}/retry"), &json!({})).await;
    assert_eq!((&again["state"], &again["attempts"]), (&json!("pending"), &json!(0)));
    assert_eq!(app.get("/v1/webhooks/dead-letter").await["data"], json!([]));
    let gone = app.ask(Method::DELETE, &path, None).await.1;
    assert_eq!(gone, json!({"id": dead.id, "object": "webhook.delivery.deleted", "deleted": true}));
    for (method, path) in [(Method::DELETE, path.clone()), (Method::POST, format!("{path}/retry"))] {
        assert_eq!(app.refused(method, &path, None).await, (404, "not_found".to_owned()));
    }
    assert_eq!(app.refused(Method::GET, "/v1/webhooks/dead-letter?limit=0", None).await.0, 400);
}

#[tokio::test]
async fn schemas_are_registered_where_that_is_allowed() {
    let app = App::with(|config| config.allow_register_schemas = true).await;
    let document = json!({"format": 1, "id": "spam", "version": "1.0.0", "fields": [], "questions": [{"id": "spam", "type": "boolean"}]});
    let (status, summary) = app.ask(Method::POST, "/v1/schemas", Some(&document)).await;
    assert_eq!((status.as_u16(), &summary["id"], &summary["num_questions"]), (201, &json!("spam"), &json!(1)));
    assert_eq!(app.get("/v1/schemas").await["data"].as_array().unwrap().len(), 7);
    let mut other = document.clone();
    other["questions"][0]["id"] = json!("ham");
    assert_eq!(app.refused(Method::POST, "/v1/schemas", Some(&other)).await, (409, "schema_conflict".to_owned()));
    assert_eq!(
        app.refused(Method::POST, "/v1/schemas", Some(&json!({"id": "x"}))).await,
        (400, "invalid_schema".to_owned())
    );
}
