//! A real server: `scripts/test_label_studio.sh` starts one, strict and lenient, and runs this.

use std::env;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use vllm_batch::LocalEngine;
use vllm_batch::curate::export::{ExportFormat, ExportOptions, Exporter, FolderOptions, validate_dataset};
use vllm_batch::curate::label_studio::{LabelConfigOptions, TaskOptions, harvest, label_config, regions, task};
use vllm_batch::curate::{
    Answer, Answers, CompiledSchema, FieldKind, GoldSnapshot, Migration, QuestionRole, Record, RequestOptions,
    ResponseStatus, SchemaRegistry, Suggestion, Version,
};
use vllm_batch::pipeline::label_studio::{
    ExportFilter, ImportOptions, LabelStudio, Project, ProjectSpec, Reconciliation, WebhookReceiver,
};
use vllm_batch::pipeline::{CarryOptions, CurationPipeline};

use crate::server::{Reaction, Received, Server};
use crate::{base64, demo_model};

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

/// Where the files of one schema's pipeline are. The two modes of the server share them, so that the model answers once.
fn work_folder(schema: &CompiledSchema) -> PathBuf {
    let folder =
        PathBuf::from(read("VLLM_BATCH_LABEL_STUDIO_WORK")).join("pipelines").join(schema.schema().id.as_str());
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The demo model's answers to one schema: every one is whole and holds, the server takes every one, and they come back as they
/// were; people correct them, and that comes back as gold and becomes training data.
fn there_and_back(server: &LabelStudio, engine: &LocalEngine, schema: &CompiledSchema) {
    const RECORDS: usize = 12;
    let folder = work_folder(schema);
    let records: Vec<_> = (0..RECORDS).map(|at| serde_json::to_string(&record(schema, at)).unwrap()).collect();
    std::fs::write(folder.join("records.jsonl"), records.join("\n")).unwrap();
    // So short that the demo model, which goes on until it must stop, is done in a moment.
    let options = RequestOptions::default().with_logprobs(true).with_whole_answers(900);
    let pipeline = CurationPipeline::new(schema, engine).records(folder.join("records.jsonl"));
    let pipeline = pipeline.folder(&folder).options(options).batch_id("b1");
    let report = pipeline.run().unwrap();
    let rejections = std::fs::read_to_string(&report.rejections_path).unwrap();
    assert_eq!((report.suggested, report.rejected, report.cut_off), (RECORDS, 0, 0), "{rejections}");
    assert_eq!(rejections, "", "{}", schema.schema().id);

    let registry = SchemaRegistry::builtin();
    let project = new_project(server, schema);
    assert_eq!(server.ensure_project(&ProjectSpec::new(schema, &config(schema)), &registry).unwrap(), project);
    // Another run's project had another number.
    let cursor = folder.join(format!("import-{}.jsonl", project.id));
    let _ = std::fs::remove_file(cursor);
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
        let result = regions(schema, &record.fields, &reviewed(schema, record)).unwrap();
        let result: Vec<_> = result.iter().map(vllm_batch::curate::label_studio::Region::to_json).collect();
        let annotation = server.annotate(found["id"].as_u64().unwrap(), &result, false).unwrap();
        server.set_ground_truth(annotation, true).unwrap();
    }
    let gold = they_come_back_as_gold(server, project.id, &pipeline, (schema, &suggested));
    they_become_training_data(schema, &gold);

    // A whole export goes in again, and brings nothing twice.
    let mut exported = Vec::new();
    server.export(project.id, ExportFilter::All, |task| exported.push(task)).unwrap();
    let again = server.import(project.id, exported, &ImportOptions::default()).unwrap();
    assert_eq!((again.imported, again.present), (0, RECORDS));
    let keys: Vec<_> = there.iter().map(|task| task["data"]["vb_key"].as_str().unwrap()).collect();
    assert_eq!(server.reconcile(project.id, keys.iter().copied()).unwrap(), Reconciliation::default());
    server.delete_project(project.id).unwrap();
}

/// What a person makes of a model's answers: one is corrected, and what is asked of people alone is answered.
fn reviewed(schema: &CompiledSchema, record: &Record) -> Vec<Suggestion> {
    let mut said = record.suggestions[0].suggestions.clone();
    let corrected = said.iter_mut().find_map(|one| {
        let kind = &schema.schema().question(&one.question).unwrap().kind;
        let answer = match &one.answer {
            Answer::Option(value) => {
                Answer::Option(kind.options().iter().find(|other| other.value != *value)?.value.clone())
            }
            Answer::Boolean(value) => Answer::Boolean(!value),
            Answer::Text(_) => Answer::Text(format!("A better one. {HARD}")),
            _ => return None,
        };
        one.answer = answer;
        Some(())
    });
    assert_eq!(corrected, Some(()));
    let of_people = schema.schema().questions.iter().filter(|one| one.role == QuestionRole::Review && one.required);
    said.extend(
        of_people.map(|one| Suggestion::new(one.id.clone(), Answer::Option(one.kind.options()[0].value.clone()))),
    );
    said
}

fn they_come_back_as_gold(
    server: &LabelStudio,
    project: u64,
    pipeline: &CurationPipeline<'_>,
    (schema, suggested): (&CompiledSchema, &[Record]),
) -> Vec<Record> {
    let mut harvested = Vec::new();
    let count = pipeline.harvest_from(server, project, ExportFilter::Gold, |one| harvested.push(one)).unwrap();
    assert_eq!(count, suggested.len());
    for one in &harvested {
        assert_eq!((&*one.errors, &*one.withheld), (&[][..], &[][..]));
        let record = suggested.iter().find(|record| record.id == one.record.id).unwrap();
        assert_eq!((&one.record.fields, one.record.gold), (&record.fields, Some(true)));
        assert_eq!(one.record.suggestions[0].answers(), record.suggestions[0].answers());
        let said = reviewed(schema, record).into_iter().map(|one| (one.question, one.answer)).collect();
        assert_eq!(one.record.responses[0].answers, said);
    }
    let records: Vec<_> = harvested.into_iter().map(|one| one.record).collect();
    let (snapshot, others) = GoldSnapshot::freeze(schema, &records).unwrap();
    assert_eq!((snapshot.rows().len(), others), (suggested.len(), Vec::new()));
    records
}

/// Every record gives a row for tuning and one for preferences; `scripts/test_label_studio.sh` lets their readers load them.
fn they_become_training_data(schema: &CompiledSchema, gold: &[Record]) {
    let exports = PathBuf::from(read("VLLM_BATCH_LABEL_STUDIO_WORK")).join("exports");
    let formats = [
        ExportFormat::OpenAiChat,
        ExportFormat::OpenAiDpo,
        ExportFormat::TrlPromptCompletion,
        ExportFormat::TrlPreference,
        ExportFormat::TrlKto,
        ExportFormat::AlpacaPreference,
        ExportFormat::ShareGptPreference,
    ];
    for format in formats {
        let folder = exports.join(format.name()).join(schema.schema().id.as_str());
        let mut exporter = Exporter::new(schema, ExportOptions::new(format)).unwrap();
        let written = exporter.write_folder(gold, &folder, &FolderOptions::default()).unwrap();
        assert_eq!(written.report.num_records, gold.len(), "{format}: {:?}", written.report);
        for file in &written.files {
            assert_eq!(validate_dataset(&file.path, format).unwrap().problems, [], "{}", file.path.display());
        }
    }
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

#[test]
#[ignore = "needs Label Studio: scripts/test_label_studio.sh starts one"]
fn reviewed_records_go_on_to_the_next_major_version() {
    let server = server();
    let mut registry = SchemaRegistry::new();
    let old = registry.register(schema("carried").schema().clone()).unwrap();
    let mut major = old.schema().clone();
    major.version = Version::new(2, 0, 0);
    major.questions[0].id = "voice".parse().unwrap();
    let (from, to, since) = ("tone".parse().unwrap(), "voice".parse().unwrap(), Version::new(2, 0, 0));
    major.migrations.push(Migration::RenameQuestion { since, from, to });
    let new = registry.register(major).unwrap();
    let (from, to) = (new_project(&server, &old), new_project(&server, &new));
    let records: Vec<_> = (0..3).map(|at| record(&old, at)).collect();
    let tasks = records.iter().map(|record| task(&old, record, &TaskOptions::default()).unwrap());
    server.import(from.id, tasks, &ImportOptions::default()).unwrap();
    let tone = Suggestion::new("tone".parse().unwrap(), Answer::Option("formal".to_owned()));
    let result = regions(&old, &records[0].fields, &[tone]).unwrap().remove(0).to_json();
    let first = self::tasks(&server, from.id).remove(0);
    let annotation = server.annotate(first["id"].as_u64().unwrap(), &[result], false).unwrap();
    server.set_ground_truth(annotation, true).unwrap();

    // The server has no senders: without the records, nothing can be carried over.
    let without = server.carry_over(&from, &to, &CarryOptions::new(&registry)).unwrap();
    assert_eq!((without.import.imported, without.rejected.len()), (0, 3));
    let options = CarryOptions::new(&registry).with_originals(records.clone());
    for (imported, present) in [(3, 0), (0, 3)] {
        let report = server.carry_over(&from, &to, &options).unwrap();
        assert_eq!((report.import.imported, report.import.present), (imported, present), "{report:?}");
        assert_eq!((report.unreadable, report.rejected, report.left_behind), (vec![], vec![], 0));
        assert_eq!((report.migration.num_records, report.migration.migrated.len()), (3, 1));
    }
    let mut harvested = Vec::new();
    server.harvest(to.id, &new, ExportFilter::Annotated, |one| harvested.push(one)).unwrap();
    let voice = Answers::from_iter([("voice".parse().unwrap(), Answer::Option("formal".to_owned()))]);
    let one = &harvested[0];
    assert_eq!((harvested.len(), &*one.errors, one.record.gold), (1, &[][..], Some(true)));
    let response = &one.record.responses[0];
    assert_eq!((response.status, &response.answers), (ResponseStatus::Submitted, &voice));
    let error = server.carry_over(&to, &from, &options).unwrap_err();
    assert_eq!(error.code(), "migration_backwards");
    for id in [from.id, to.id] {
        server.delete_project(id).unwrap();
    }
}

/// Calls that the client does not have.
fn call(method: &str, path: &str, body: &Value) -> (u16, Value) {
    exchange(method, path, body, &format!("Token {}", read("VLLM_BATCH_LABEL_STUDIO_TOKEN")))
}

fn exchange(method: &str, path: &str, body: &Value, authorization: &str) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{}{path}", read("VLLM_BATCH_LABEL_STUDIO_URL")))
        .header("Authorization", authorization)
        .header("Content-Type", "application/json");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut response = agent.run(request.body(body).unwrap()).unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    (response.status().as_u16(), serde_json::from_str(&text).unwrap_or_default())
}

#[test]
#[ignore = "needs Label Studio: scripts/test_label_studio.sh starts one"]
fn a_personal_access_token_works_also_when_access_tokens_end() {
    let settings = json!({"api_tokens_enabled": true, "legacy_api_tokens_enabled": true});
    call("POST", "/api/jwt/settings", &settings);
    let (status, answer) = call("POST", "/api/token/", &json!({}));
    assert_eq!(status, 201, "{answer}");
    let token = answer["token"].as_str().unwrap();
    let server = LabelStudio::builder(read("VLLM_BATCH_LABEL_STUDIO_URL"), token).build().unwrap();
    assert_eq!(server.whoami().unwrap(), "admin@localhost.local");

    // The first access token that the client gets ended a minute ago, as the server itself would have it; the client's clock
    // does not say so.
    let ended = Arc::new(Mutex::new(String::new()));
    let stale = Arc::clone(&ended);
    let between = Server::start(move |_, request| {
        let (status, mut answer) = forward(request);
        let mut stale = stale.lock().unwrap();
        if request.path == "/api/token/refresh/" && stale.is_empty() {
            *stale = ended_a_minute_ago(answer["access"].as_str().unwrap());
            answer["access"] = json!(*stale);
        }
        Reaction::json(status, &answer)
    });
    let slow_clock = || SystemTime::UNIX_EPOCH;
    let url = between.url();
    let client = LabelStudio::builder(url.trim_end_matches("/v1"), token).clock(slow_clock).build().unwrap();
    for _ in 0..2 {
        assert_eq!(client.whoami().unwrap(), "admin@localhost.local");
    }
    let paths: Vec<_> = between.received().into_iter().map(|one| one.path).collect();
    let (refresh, whoami) = ("/api/token/refresh/", "/api/current-user/whoami");
    assert_eq!(paths, [refresh, whoami, refresh, whoami, whoami]);
    // Without a personal token, that is the end; and the server says why.
    let ended = ended.lock().unwrap().clone();
    let error = LabelStudio::builder(server.url(), &ended).build().unwrap().whoami().unwrap_err();
    assert_eq!((error.code(), error.status()), ("unauthorized", Some(401)));
    assert!(!error.to_string().contains(&ended), "{error}");

    // There can be one only: the next run gets a new one.
    let (status, answer) = call("POST", "/api/token/blacklist/", &json!({"refresh": token}));
    assert!((200..300).contains(&status), "{status} {answer}");
    let fresh = LabelStudio::builder(read("VLLM_BATCH_LABEL_STUDIO_URL"), token).build().unwrap();
    assert_eq!(fresh.whoami().unwrap_err().code(), "unauthorized");
}

/// What the real server answers to a request, under the authorization that came with it.
fn forward(request: &Received) -> (u16, Value) {
    let authorization = request.authorization.as_deref().unwrap_or_default();
    exchange(&request.method, &request.path, &request.body, authorization)
}

/// An access token as the server would have made it some minutes ago: signed with its key (HMAC of SHA-256, RFC 7519).
fn ended_a_minute_ago(token: &str) -> String {
    let environment = std::fs::read_to_string(read("VLLM_BATCH_LABEL_STUDIO_ENV")).unwrap();
    let key = environment.lines().find_map(|line| line.strip_prefix("SECRET_KEY=")).unwrap().trim_matches(['"', '\'']);
    let (head, payload) = token.rsplit_once('.').unwrap().0.split_once('.').unwrap();
    let mut claims: Value = serde_json::from_slice(&base64::decode(payload)).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    claims["exp"] = json!(now - 60);
    let signed = format!("{head}.{}", base64::encode(claims.to_string().as_bytes()));
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", base64::encode(&mac.finalize().into_bytes()))
}

#[test]
#[ignore = "needs Label Studio: scripts/test_label_studio.sh starts one"]
fn large_tasks_go_in_requests_that_the_server_takes() {
    const MIB: usize = 1 << 20;
    let (direct, schema) = (server(), schema("large"));
    let project = new_project(&direct, &schema).id;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let backend = Arc::new(Mutex::new(direct.url().to_owned()));
    let url = proxy(backend, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let client = LabelStudio::builder(url, read("VLLM_BATCH_LABEL_STUDIO_TOKEN")).build().unwrap();
    let large = |mut task: Value, bytes: usize| {
        task["data"]["email_body"] = json!("x".repeat(bytes));
        task
    };
    let mut tasks: Vec<_> = plain_tasks(&schema, 20).into_iter().map(|task| large(task, MIB)).collect();
    tasks[4] = large(tasks[4].clone(), 9 * MIB);
    tasks[7] = large(tasks[7].clone(), 30 * MIB);
    let options = ImportOptions::default().with_max_task_bytes(20 * MIB);
    let report = client.import(project, tasks.clone(), &options).unwrap();
    assert_eq!((report.imported, report.rejected.len()), (19, 1));
    let rejected = &report.rejected[0];
    assert!(rejected.index == 7 && rejected.message.contains("takes less than 20971520"), "{rejected:?}");
    // Four, the one of 9 MiB alone, and twice seven.
    assert_eq!(sent.load(Ordering::SeqCst), 4);
    let found = direct.reconcile(project, keys(&tasks)).unwrap();
    assert_eq!((found.missing.len(), found.duplicated.len(), found.unknown.len()), (1, 0, 0));

    // What the default is for: the server takes nothing of it, and says no more than that it failed.
    let limit = ImportOptions::default().max_task_bytes;
    let (status, answer) = call("POST", &format!("/api/projects/{project}/import"), &json!([large(json!({}), limit)]));
    assert!(status >= 400, "{status} {answer}");
    assert_eq!(direct.num_tasks(project).unwrap(), 19);
    direct.delete_project(project).unwrap();
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
