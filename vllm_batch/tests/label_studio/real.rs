//! A real server: `scripts/test_label_studio.sh` starts one, strict and lenient, and runs this.

use std::env;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use vllm_batch::LocalEngine;
use vllm_batch::curate::label_studio::{LabelConfigOptions, TaskOptions, harvest, label_config, regions, task};
use vllm_batch::curate::{
    CompiledSchema, FieldKind, GoldSnapshot, Record, RequestOptions, SchemaRegistry, Suggestion, Version,
};
use vllm_batch::pipeline::CurationPipeline;
use vllm_batch::pipeline::label_studio::{
    ExportFilter, ImportOptions, LabelStudio, Project, ProjectSpec, Reconciliation, WebhookReceiver,
};

use crate::demo_model;

const HARD: &str = "]]> & <b>\"'</b> 😀 עברית\u{202e} ½";

fn read(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} says where Label Studio is"))
}

fn server() -> LabelStudio {
    LabelStudio::builder(read("VLLM_BATCH_LABEL_STUDIO_URL"), read("VLLM_BATCH_LABEL_STUDIO_TOKEN")).build().unwrap()
}

fn config(schema: &CompiledSchema) -> String {
    label_config(schema, &LabelConfigOptions::default()).unwrap().xml.trim().to_owned()
}

fn record(schema: &CompiledSchema, at: usize) -> Record {
    let mut record = Record::new(format!("{HARD}-{at}"));
    for field in schema.schema().fields.iter().filter(|field| field.required || at == 0) {
        let value = match &field.kind {
            FieldKind::Number => json!(at),
            FieldKind::Boolean => json!(true),
            FieldKind::Structured { .. } => json!([{"role": "engineer", "years": at}]),
            FieldKind::Chat => json!([{"role": "user", "content": HARD}]),
            _ => json!(format!("Ann, engineer number {at}. {HARD}")),
        };
        record = record.with_field(field.id.as_str(), value);
    }
    record
}

/// The project of a schema, without what a run that failed has left.
fn new_project(server: &LabelStudio, schema: &CompiledSchema) -> Project {
    while let Some(old) = server.find_project(schema).unwrap() {
        server.delete_project(old.id).unwrap();
    }
    server.ensure_project(&ProjectSpec::new(schema, &config(schema)), &SchemaRegistry::new()).unwrap()
}

/// All tasks of a project.
fn tasks(server: &LabelStudio, project: u64) -> Vec<Value> {
    let pages = (1..).map_while(|page| server.tasks_page(project, page, 2).unwrap());
    pages.flat_map(|page| page.tasks).collect()
}

/// The demo model's answers to one schema: every one holds, the server takes every one, and they come back as they were; people
/// correct them, and that comes back as gold.
fn there_and_back(server: &LabelStudio, engine: &LocalEngine, schema: &CompiledSchema) {
    const RECORDS: usize = 3;
    let folder = tempfile::tempdir().unwrap();
    let records: Vec<_> = (0..RECORDS).map(|at| serde_json::to_string(&record(schema, at)).unwrap()).collect();
    std::fs::write(folder.path().join("records.jsonl"), records.join("\n")).unwrap();
    // Long answers are cut off; what there is of them holds too.
    let options = RequestOptions::default().with_logprobs(true).with_max_tokens(250);
    let pipeline = CurationPipeline::new(schema, engine).records(folder.path().join("records.jsonl"));
    let pipeline = pipeline.folder(folder.path()).options(options).batch_id("b1");
    let report = pipeline.run().unwrap();
    let rejections = std::fs::read_to_string(&report.rejections_path).unwrap();
    assert_eq!((report.suggested, report.rejected), (RECORDS, 0), "{rejections}");
    only_what_was_cut_off_lacks_answers(&pipeline, &rejections);

    let registry = SchemaRegistry::builtin();
    let project = new_project(server, schema);
    assert_eq!(server.ensure_project(&ProjectSpec::new(schema, &config(schema)), &registry).unwrap(), project);
    for (imported, present) in [(RECORDS, 0), (0, RECORDS)] {
        let review = pipeline.import_into(server, project.id, &ImportOptions::default()).unwrap();
        assert_eq!((review.import.imported, review.import.present), (imported, present));
        assert_eq!((review.rejected.len(), &*review.import.rejected), (0, &[][..]));
    }
    let suggested: Vec<Record> = pipeline.suggested().unwrap().map(Result::unwrap).collect();
    let there = tasks(server, project.id);
    assert_eq!(there.len(), RECORDS);
    for record in &suggested {
        let sent = task(schema, record, &TaskOptions::default()).unwrap();
        let found = there.iter().find(|task| task["data"]["vb_key"] == sent["data"]["vb_key"]).unwrap();
        assert_eq!((&found["data"], found["predictions"].as_array().unwrap().len()), (&sent["data"], 1));
        assert_eq!(found["predictions"][0]["result"], sent["predictions"][0]["result"]);
        // What a person makes of it: the model's answers, without the last one.
        let mut kept: Vec<Suggestion> = record.suggestions[0].suggestions.clone();
        kept.truncate(kept.len().saturating_sub(1).max(1));
        let result = regions(schema, &record.fields, &kept).unwrap();
        let result: Vec<_> = result.iter().map(vllm_batch::curate::label_studio::Region::to_json).collect();
        let annotation = server.annotate(found["id"].as_u64().unwrap(), &result, false).unwrap();
        server.set_ground_truth(annotation, true).unwrap();
    }
    they_come_back_as_gold((server, project.id), schema, &suggested);

    // A whole export goes in again, and brings nothing twice.
    let mut exported = Vec::new();
    server.export(project.id, ExportFilter::All, |task| exported.push(task)).unwrap();
    let again = server.import(project.id, exported, &ImportOptions::default()).unwrap();
    assert_eq!((again.imported, again.present), (0, RECORDS));
    let keys: Vec<_> = there.iter().map(|task| task["data"]["vb_key"].as_str().unwrap()).collect();
    assert_eq!(server.reconcile(project.id, keys.iter().copied()).unwrap(), Reconciliation::default());
    server.delete_project(project.id).unwrap();
}

/// Only an answer that was cut off lacks something.
fn only_what_was_cut_off_lacks_answers(pipeline: &CurationPipeline<'_>, rejections: &str) {
    let cut_off = |record: &Record| record.suggestions[0].provenance.finish_reason.as_deref() == Some("length");
    let all = pipeline.suggested().unwrap().map(Result::unwrap);
    let cut_off: Vec<_> = all.filter(cut_off).map(|record| record.id).collect();
    for line in rejections.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let is_cut_off = cut_off.iter().any(|id| *id == line["id"].as_str().unwrap());
        assert!(line["code"] == "missing_answer" && is_cut_off, "{line}");
    }
}

fn they_come_back_as_gold((server, project): (&LabelStudio, u64), schema: &CompiledSchema, suggested: &[Record]) {
    let mut harvested = Vec::new();
    let count = server.harvest(project, schema, ExportFilter::Gold, |one| harvested.push(one)).unwrap();
    assert_eq!(count, suggested.len());
    for one in &harvested {
        assert_eq!(one.errors, []);
        let record = suggested.iter().find(|record| record.id == one.record.id).unwrap();
        // What is about a person stays here.
        let mut fields = record.fields.clone();
        one.withheld.iter().for_each(|field| drop(fields.remove(field.as_str())));
        assert_eq!((&one.record.fields, one.record.gold), (&fields, Some(true)));
        let expected = record.suggestions[0].answers();
        assert_eq!(one.record.suggestions[0].answers(), expected);
        let said = &one.record.responses[0].answers;
        assert!(
            said.is_empty() == expected.is_empty() && said.iter().all(|(id, answer)| expected.get(id) == Some(answer))
        );
    }
    let records: Vec<_> = harvested.into_iter().map(|one| one.record).collect();
    let (snapshot, others) = GoldSnapshot::freeze(schema, &records).unwrap();
    assert_eq!(snapshot.rows().len() + others.len(), suggested.len());
}

#[test]
#[ignore = "needs Label Studio: scripts/test_label_studio.sh starts one"]
fn what_the_demo_model_says_goes_there_and_back() {
    let engine = LocalEngine::builder(demo_model::gguf().unwrap()).max_model_len(8192).build().unwrap();
    let server = server();
    for schema in SchemaRegistry::builtin().iter() {
        there_and_back(&server, &engine, schema);
    }
}

#[test]
#[ignore = "needs Label Studio: scripts/test_label_studio.sh starts one"]
fn the_server_s_refusals_are_understood() {
    let server = server();
    assert!(server.version().unwrap().starts_with("1."));
    assert_eq!(server.whoami().unwrap(), "admin@localhost.local");
    let error = server.validate_config("<View><Choices name=\"a\" toName=\"b\"/></View>").unwrap_err();
    assert_eq!((error.code(), error.status()), ("refused", Some(400)));
    assert!(error.to_string().contains("label_config"), "{error}");
    assert_eq!(server.project(99_999_999).unwrap_err().code(), "not_found");
    let stranger = LabelStudio::builder(server.url(), "0000").build().unwrap();
    assert_eq!(stranger.whoami().unwrap_err().code(), "unauthorized");
}

/// A schema of its own, so that tests can run side by side.
fn schema(id: &str) -> CompiledSchema {
    let mut schema = SchemaRegistry::builtin().get("email_evaluation").unwrap().schema().clone();
    schema.id = id.parse().unwrap();
    schema.compile().unwrap()
}

fn plain_tasks(schema: &CompiledSchema, count: usize) -> Vec<Value> {
    (0..count).map(|at| task(schema, &record(schema, at), &TaskOptions::default()).unwrap()).collect()
}

fn keys(tasks: &[Value]) -> Vec<&str> {
    tasks.iter().map(|task| task["data"]["vb_key"].as_str().unwrap()).collect()
}

#[test]
#[ignore = "needs Label Studio: scripts/test_label_studio.sh starts one"]
fn a_strict_server_names_bad_predictions_and_a_lenient_one_takes_them() {
    let (server, schema) = (server(), schema("bad_predictions"));
    let project = new_project(&server, &schema).id;
    let mut tasks = plain_tasks(&schema, 20);
    let good =
        json!({"from_name": "tone", "to_name": "src_subject", "type": "choices", "value": {"choices": ["formal"]}});
    for task in &mut tasks {
        let mut region = good.clone();
        region["to_name"] = config_object(&schema).into();
        task["predictions"] = json!([{"model_version": "m", "result": [region]}]);
    }
    for bad in [3, 17] {
        tasks[bad]["predictions"][0]["result"][0]["value"] = json!({"choices": ["no such tone"]});
    }
    let missing = tasks[5]["data"].as_object_mut().unwrap().remove("subject");
    assert!(missing.is_some());
    let report = server.import(project, tasks.clone(), &ImportOptions::default()).unwrap();
    let rejected: Vec<_> = report.rejected.iter().map(|one| one.index).collect();
    let is_strict = rejected.contains(&3);
    let expected: &[usize] = if is_strict { &[3, 17, 5] } else { &[5] };
    let mut sorted = (rejected.clone(), expected.to_vec());
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    assert_eq!(sorted.0, sorted.1, "{:?}", report.rejected);
    assert_eq!(report.imported, 20 - rejected.len());
    let found = server.reconcile(project, keys(&tasks)).unwrap();
    assert_eq!((found.missing.len(), found.duplicated.len(), found.unknown.len()), (rejected.len(), 0, 0));
    // Another model's answer to one of them.
    let id = self::tasks(&server, project)[0]["id"].as_u64().unwrap();
    let result = &tasks[0]["predictions"][0]["result"];
    let prediction = json!({"task": id, "model_version": "other", "score": 0.25, "result": result});
    assert_eq!(server.import_predictions(project, &[prediction]).unwrap(), 1);
    let predictions = server.task(id).unwrap()["predictions"].as_array().unwrap().clone();
    let other = predictions.iter().find(|one| one["model_version"] == "other").unwrap();
    assert_eq!((predictions.len(), &other["score"], &other["result"]), (2, &json!(0.25), result));
    server.delete_project(project).unwrap();
}

/// The object that the control of `tone` belongs to.
fn config_object(schema: &CompiledSchema) -> String {
    let xml = config(schema);
    let (_, rest) = xml.split_once("name=\"tone\" toName=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

#[test]
#[ignore = "needs Label Studio: scripts/test_label_studio.sh starts one"]
fn a_minor_version_changes_the_project_and_a_major_one_has_its_own() {
    let server = server();
    let mut registry = SchemaRegistry::new();
    let first = registry.register(schema("growing").schema().clone()).unwrap();
    let ensure = |schema: &CompiledSchema, registry: &SchemaRegistry| {
        server.ensure_project(&ProjectSpec::new(schema, &config(schema)), registry)
    };
    let project = new_project(&server, &first);
    server.import(project.id, plain_tasks(&first, 2), &ImportOptions::default()).unwrap();
    let mut minor = first.schema().clone();
    minor.version = Version::new(1, 1, 0);
    minor.questions[0].required = false;
    let minor = registry.register(minor).unwrap();
    let changed = ensure(&minor, &registry).unwrap();
    assert_eq!((changed.id, changed.label_config), (project.id, config(&minor)));
    assert_eq!(ensure(&first, &registry).unwrap_err().code(), "schema_conflict");
    let mut major = minor.schema().clone();
    major.version = Version::new(2, 0, 0);
    major.questions.remove(0);
    let major = registry.register(major).unwrap();
    let other = new_project(&server, &major);
    assert_eq!(ensure(&major, &registry).unwrap(), other);
    assert_ne!(other.id, project.id);
    for id in [project.id, other.id] {
        server.delete_project(id).unwrap();
    }
}

/// Calls that the client does not have.
fn call(method: &str, path: &str, body: &Value) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{}{path}", read("VLLM_BATCH_LABEL_STUDIO_URL")))
        .header("Authorization", format!("Token {}", read("VLLM_BATCH_LABEL_STUDIO_TOKEN")))
        .header("Content-Type", "application/json");
    let mut response = agent.run(request.body(body.to_string()).unwrap()).unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    (response.status().as_u16(), serde_json::from_str(&text).unwrap_or_default())
}

#[test]
#[ignore = "needs Label Studio: scripts/test_label_studio.sh starts one"]
fn a_personal_access_token_works() {
    let settings = json!({"api_tokens_enabled": true, "legacy_api_tokens_enabled": true});
    call("POST", "/api/jwt/settings", &settings);
    let (status, answer) = call("POST", "/api/token/", &json!({}));
    assert_eq!(status, 201, "{answer}");
    let token = answer["token"].as_str().unwrap();
    let server = LabelStudio::builder(read("VLLM_BATCH_LABEL_STUDIO_URL"), token).build().unwrap();
    assert_eq!(server.whoami().unwrap(), "admin@localhost.local");
    // There can be one only: the next run gets a new one.
    let (status, answer) = call("POST", "/api/token/blacklist/", &json!({"refresh": token}));
    assert!((200..300).contains(&status), "{status} {answer}");
    let fresh = LabelStudio::builder(read("VLLM_BATCH_LABEL_STUDIO_URL"), token).build().unwrap();
    assert_eq!(fresh.whoami().unwrap_err().code(), "unauthorized");
}

#[test]
#[ignore = "needs Label Studio: scripts/test_label_studio.sh starts one"]
fn events_arrive_with_the_secret() {
    let (server, schema) = (server(), schema("events"));
    let project = new_project(&server, &schema).id;
    server.import(project, plain_tasks(&schema, 1), &ImportOptions::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let receiver = WebhookReceiver::new("X-Secret", "s3cret");
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let hook = server.create_webhook(project, &url, &receiver).unwrap();
    assert_eq!(server.create_webhook(project, &url, &receiver).unwrap(), hook);
    let received = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let count = stream.read(&mut buffer).unwrap();
            text.extend_from_slice(&buffer[..count]);
            let whole = String::from_utf8_lossy(&text).into_owned();
            if let Some((head, body)) = whole.split_once("\r\n\r\n") {
                let mut headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
                let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length")).unwrap().1;
                if body.len() >= length.parse().unwrap() {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                    return whole;
                }
            }
        }
    });
    let task = tasks(&server, project)[0]["id"].as_u64().unwrap();
    let annotation = server.annotate(task, &[], false).unwrap();
    let whole = received.join().unwrap();
    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
    let headers: Vec<_> = head.lines().filter_map(|line| line.split_once(": ")).collect();
    let event = receiver.verify(headers.iter().copied(), body.as_bytes()).unwrap();
    assert_eq!((event.action.as_str(), event.project), ("ANNOTATION_CREATED", Some(project)));
    assert_eq!((event.tasks, event.annotations), (vec![task], vec![annotation]));
    let other = WebhookReceiver::new("X-Secret", "secret");
    assert_eq!(other.verify(headers, body.as_bytes()).unwrap_err().code(), "wrong_secret");
    server.delete_project(project).unwrap();
}

/// A port that stays the same while the server behind it is killed and started again, and that says when a request comes.
fn proxy(backend: Arc<Mutex<String>>, on_request: impl Fn(usize) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (count, on_request) = (Arc::new(AtomicUsize::new(0)), Arc::new(on_request));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let address = backend.lock().unwrap().trim_start_matches("http://").to_owned();
            let Ok(server) = TcpStream::connect(address) else { continue };
            let (count, on_request) = (Arc::clone(&count), Arc::clone(&on_request));
            let pipes = [(client.try_clone().unwrap(), server.try_clone().unwrap(), true), (server, client, false)];
            for (mut from, mut to, is_up) in pipes {
                let (count, on_request) = (Arc::clone(&count), Arc::clone(&on_request));
                std::thread::spawn(move || {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(length @ 1..) = from.read(&mut buffer) {
                        let is_import = buffer[..length].starts_with(b"POST /api/projects/");
                        if to.write_all(&buffer[..length]).is_err() {
                            break;
                        }
                        if is_up && is_import {
                            on_request(count.fetch_add(1, Ordering::SeqCst));
                        }
                    }
                    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                });
            }
        }
    });
    url
}

#[test]
#[ignore = "needs Label Studio, which it kills: scripts/test_label_studio.sh starts one"]
fn last_the_server_is_killed_in_the_middle_of_an_import() {
    const TASKS: usize = 400;
    let (direct, schema) = (server(), schema("killed"));
    let project = new_project(&direct, &schema).id;
    let pid = read("VLLM_BATCH_LABEL_STUDIO_PID");
    let backend = Arc::new(Mutex::new(direct.url().to_owned()));
    let url = proxy(Arc::clone(&backend), move |number| {
        if number == 3 {
            assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let options = ImportOptions::default().with_max_tasks(50).with_cursor(folder.path().join("cursor.jsonl"));
    let client = || {
        let builder = LabelStudio::builder(&url, read("VLLM_BATCH_LABEL_STUDIO_TOKEN"));
        builder.max_retries(1).retry_base(Duration::ZERO).build().unwrap()
    };
    let tasks = plain_tasks(&schema, TASKS);
    let error = client().import(project, tasks.clone(), &options).unwrap_err();
    assert!(error.is_retryable(), "{error}");

    let start = read("VLLM_BATCH_LABEL_STUDIO_START");
    let output = Command::new("sh").args(["-c", &start]).current_dir("..").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let url = said.lines().find_map(|line| line.strip_prefix("url=")).unwrap_or_else(|| panic!("{said}"));
    url.clone_into(&mut backend.lock().unwrap());
    let report = client().import(project, tasks.clone(), &options).unwrap();
    assert_eq!((report.imported + report.present, report.rejected.len()), (TASKS, 0));
    assert!(report.present >= 150 && report.imported >= 200, "{report:?}");
    assert_eq!(client().reconcile(project, keys(&tasks)).unwrap(), Reconciliation::default());
    let harvested = harvest(&schema, &client().tasks_page(project, 1, 1).unwrap().unwrap().tasks[0]);
    assert_eq!(harvested.errors, []);
    client().delete_project(project).unwrap();
}
