//! Pages, tasks and harvest against a real Label Studio in its strict mode. `scripts/test_label_studio.sh` starts one and runs this.

use std::env;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};
use vllm_batch::curate::label_studio::{
    Harvest, LabelConfigOptions, TaskAnnotations, TaskOptions, harvest, label_config, task, validate_prediction,
};
use vllm_batch::curate::{
    Agent, Answers, CompiledSchema, FieldKind, Pii, Provenance, Question, QuestionKind, QuestionRole, Record, Response,
    Scale, SchemaRegistry, ScoreKind, Suggestion, SuggestionSet, TaskSchema,
};

/// What breaks pages and exports that are put together carelessly.
const HARD: &str = "]]> & <b>\"'</b> $5 😀 עברית\u{202e} ½";

/// With its own database file, Label Studio numbers tasks itself: of two imports at once, one may lose its predictions.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Server {
    url: String,
    token: String,
    agent: ureq::Agent,
    _alone: MutexGuard<'static, ()>,
}

impl Server {
    fn new() -> Self {
        let read = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} says where Label Studio is"));
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        Self {
            url: read("VLLM_BATCH_LABEL_STUDIO_URL"),
            token: read("VLLM_BATCH_LABEL_STUDIO_TOKEN"),
            agent: config.into(),
            _alone: ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("Authorization", format!("Token {}", self.token))
            .header("Content-Type", "application/json");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut response = self.agent.run(request.body(body).unwrap()).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    fn expect(&self, status: u16, method: &str, path: &str, body: &Value) -> Value {
        let (found, answer) = self.call(method, path, body);
        assert_eq!(found, status, "{method} {path}: {answer:#}\n{body:#}");
        answer
    }

    /// A project with a schema's page, which the server has found right.
    fn project(&self, schema: &CompiledSchema) -> u64 {
        let xml = label_config(schema, &LabelConfigOptions::default()).unwrap().xml;
        self.expect(204, "POST", "/api/projects/validate/", &json!({"label_config": xml}));
        let project = json!({"title": format!("test {}", schema.schema().id), "label_config": xml});
        self.expect(201, "POST", "/api/projects/", &project)["id"].as_u64().unwrap()
    }

    /// Imports tasks; their numbers.
    fn import(&self, project: u64, tasks: &[Value]) -> Vec<u64> {
        let path = format!("/api/projects/{project}/import?return_task_ids=true");
        let answer = self.expect(201, "POST", &path, &json!(tasks));
        answer["task_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
    }

    fn tasks(&self, project: u64) -> Vec<Value> {
        let path = format!("/api/tasks/?project={project}&fields=all&page_size=100");
        self.expect(200, "GET", &path, &Value::Null)["tasks"].as_array().unwrap().clone()
    }

    /// All tasks with full predictions.
    fn export(&self, project: u64) -> Vec<Value> {
        let path = format!("/api/projects/{project}/exports/");
        let options = json!({"title": "all", "serialization_options": {
            "predictions": {"only_id": false}, "annotations__completed_by": {"only_id": false}}});
        let id = self.expect(201, "POST", &path, &options)["id"].clone();
        let tasks = self.expect(200, "GET", &format!("{path}{id}/download?exportType=JSON"), &Value::Null);
        tasks.as_array().unwrap().clone()
    }

    fn delete(&self, project: u64) {
        self.expect(204, "DELETE", &format!("/api/projects/{project}/"), &Value::Null);
    }
}

/// A value that a JSON Schema allows.
fn instance(schema: &Value, turn: usize) -> Value {
    if let Some(values) = schema["enum"].as_array() {
        return values[turn % values.len()].clone();
    }
    let kind = schema["type"].as_array().map_or(&schema["type"], |kinds| &kinds[turn % kinds.len()]);
    match kind.as_str() {
        Some("object") => {
            let members = schema["properties"].as_object().into_iter().flatten();
            members.enumerate().map(|(at, (key, one))| (key.clone(), instance(one, turn + at))).collect()
        }
        Some("array") => (0..2).map(|at| instance(&schema["items"], turn + at)).collect(),
        Some("integer" | "number") => json!(2000 + turn),
        Some("boolean") => json!(turn.is_multiple_of(2)),
        Some("null") => Value::Null,
        Some("string") => json!(format!("{HARD} {turn}")),
        _ => json!({"any": [HARD, turn]}),
    }
}

fn one_of<T>(items: &[T], turn: usize) -> &T {
    &items[turn % items.len()]
}

/// An answer that holds, another one each turn, in its JSON form.
fn answer(kind: &QuestionKind, turn: usize) -> Value {
    match kind {
        QuestionKind::Choice { options, multiple: true, .. } => {
            options.iter().skip(turn % 2).step_by(2).map(|option| json!(option.value)).collect()
        }
        QuestionKind::Choice { options, .. } | QuestionKind::Rating { scale: Scale::Levels { levels: options } } => {
            json!(one_of(options, turn).value)
        }
        QuestionKind::Rating { scale: Scale::Range { min, max } } => json!(min + turn as i64 % (max - min + 1)),
        QuestionKind::Boolean { .. } => json!(turn.is_multiple_of(2)),
        QuestionKind::Number(number) => json!(number.min.unwrap_or(0.0) + turn as f64),
        QuestionKind::Text(text) if text.many => (0..turn % 3).map(|at| json!(format!("{HARD} {at}"))).collect(),
        // Of an address.
        QuestionKind::Text(text) if text.pattern.is_some() => json!(format!("é{turn}@b.c")),
        QuestionKind::Text(text) if text.multiline => json!(format!("{HARD}\n{turn}")),
        QuestionKind::Text(_) => json!(format!("{HARD} {turn}")),
        QuestionKind::Structured { schema } => instance(schema, turn),
        QuestionKind::Date { only } => {
            json!(["2026-01-31", "2026-01-31T12:30:00Z", "2026"][*only as usize])
        }
        QuestionKind::Preference { tie, .. } => json!(["left", "right", "tie"][turn % if *tie { 3 } else { 2 }]),
        QuestionKind::Ranking { .. } => {
            if turn.is_multiple_of(2) {
                json!(["p", "q"])
            } else {
                json!(["q", "p"])
            }
        }
        QuestionKind::Taxonomy { tree, .. } => {
            let node = one_of(tree, turn);
            let below = node.children.first().map(|child| json!(child.option.value));
            json!([std::iter::once(json!(node.option.value)).chain(below).collect::<Vec<_>>()])
        }
        QuestionKind::Span { labels, .. } => json!([
            {"start": 0, "end": 4, "label": one_of(labels, turn).value},
            {"start": 5 + turn % 9, "end": HARD.chars().count(), "label": one_of(labels, turn + 1).value},
        ]),
        other => panic!("no answer to {other:?}"),
    }
}

fn answers(schema: &CompiledSchema, turn: usize, asked: impl Fn(&Question) -> bool) -> Answers {
    let object: Map<String, Value> = schema
        .schema()
        .questions
        .iter()
        .filter(|question| asked(question))
        .enumerate()
        .map(|(at, question)| (question.id.to_string(), answer(&question.kind, turn + at)))
        .collect();
    let (answers, errors) = schema.read_answers(&object);
    assert_eq!(errors, [], "{object:#?}");
    answers
}

fn record(schema: &CompiledSchema, turn: usize) -> Record {
    let mut record = Record::new(format!("{HARD}-{turn}"));
    for field in &schema.schema().fields {
        let value = match &field.kind {
            // Every other one is left out.
            _ if !field.required && turn.is_multiple_of(2) => continue,
            FieldKind::Chat => json!([{"role": "user", "content": HARD}]),
            FieldKind::Structured { schema: Some(schema) } => instance(schema, turn),
            FieldKind::Structured { schema: None } => json!(["p", "q"]),
            FieldKind::Number => json!(1.5),
            FieldKind::Boolean => json!(true),
            _ => json!(HARD),
        };
        record.fields.insert(field.id.to_string(), value);
    }
    let suggestions = answers(schema, turn, |question| question.role != QuestionRole::Review);
    let suggestions = suggestions.iter().enumerate().map(|(at, (id, answer))| {
        let suggestion = Suggestion::new(id.clone(), answer.clone());
        if at % 3 == 2 { suggestion } else { suggestion.with_score(0.25 + at as f64 / 64.0, ScoreKind::Logprob) }
    });
    let mut provenance = Provenance::default();
    (provenance.model, provenance.schema) = ("demo".to_owned(), Some(schema.schema().reference()));
    record.suggestions = vec![SuggestionSet::new(Agent::model("demo"), suggestions.collect(), provenance)];
    record
}

/// Takes away what is about a person.
fn keep_what_may_leave(schema: &CompiledSchema, record: &mut Record) {
    let may_leave = |pii: Pii| matches!(pii, Pii::None | Pii::Keep);
    let shares = |id: &str| schema.schema().question(id).is_some_and(|question| may_leave(question.pii));
    record.fields.retain(|id, _| schema.schema().field(id).is_some_and(|field| may_leave(field.pii)));
    record.suggestions[0].suggestions.retain(|one| shares(&one.question));
    let answers = &mut record.responses[0].answers;
    *answers = answers.iter().filter(|(id, _)| shares(id)).map(|(id, answer)| (id.clone(), answer.clone())).collect();
}

/// Records with predictions go in, are corrected, and come out with typed answers that equal those that went in.
fn round_trip(server: &Server, schema: &CompiledSchema, num_records: usize) -> u64 {
    let project = server.project(schema);
    let records: Vec<Record> = (0..num_records).map(|turn| record(schema, turn)).collect();
    let options = TaskOptions::default().with_batch_id("batch-1");
    let tasks: Vec<Value> = records.iter().map(|record| task(schema, record, &options).unwrap()).collect();
    for (record, task) in records.iter().zip(&tasks) {
        assert_eq!(validate_prediction(schema, &record.fields, &task["predictions"][0]), []);
    }
    let ids = server.import(project, &tasks);
    let there = server.tasks(project);
    assert_eq!(there.len(), tasks.len());
    for (id, sent) in ids.iter().zip(&tasks) {
        let found = there.iter().find(|task| task["id"] == *id).unwrap();
        assert_eq!(found["data"], sent["data"]);
        assert_eq!(found["predictions"].as_array().map(Vec::len), Some(1), "{found:#}");
        let (found, sent) = (&found["predictions"][0], &sent["predictions"][0]);
        for key in ["result", "score", "model_version"] {
            assert_eq!(found[key], sent[key], "{key}");
        }
    }
    let mut expected = records;
    for (turn, (id, record)) in ids.iter().zip(&mut expected).enumerate() {
        let corrected = answers(schema, turn + 1, |question| question.role != QuestionRole::Reasoning);
        let mut reviewed = record.clone();
        reviewed.gold = Some(true);
        reviewed.responses = vec![Response::submitted("", corrected.clone())];
        let gold = TaskOptions::default().with_annotations(TaskAnnotations::Gold);
        let annotation = &task(schema, &reviewed, &gold).unwrap()["annotations"][0];
        server.expect(201, "POST", &format!("/api/tasks/{id}/annotations/"), annotation);
        record.gold = Some(true);
        record.responses = vec![Response::submitted("admin@localhost.local", corrected)];
        keep_what_may_leave(schema, record);
    }
    for exported in server.export(project) {
        let Harvest { mut record, errors, .. } = harvest(schema, &exported);
        assert_eq!(errors, []);
        let expected = expected.iter().find(|one| one.id == record.id).unwrap();
        record.metadata.clear();
        record.responses.iter_mut().for_each(|one| one.lead_time = None);
        assert_eq!(record.responses, expected.responses);
        assert_eq!(record, *expected);
    }
    project
}

#[test]
#[ignore = "needs Label Studio: scripts/test_label_studio.sh starts one"]
fn the_schemas_of_the_library_go_there_and_back() {
    let server = Server::new();
    for schema in SchemaRegistry::builtin().iter() {
        server.delete(round_trip(&server, schema, 50));
    }
}

/// Questions of all kinds.
fn all_kinds() -> Value {
    let many: Vec<Value> =
        (0..300).map(|at| json!({"value": format!("o{at}"), "label": format!("{HARD} {at}"), "help": HARD})).collect();
    json!({
        "format": 1, "id": "all_kinds", "version": "1.0.0", "name": HARD, "guidelines": HARD,
        "rendering": {"custom_css": format!(".x > .y::after {{ content: \"{HARD}\" }}")},
        "fields": [
            {"id": "head", "type": "text", "title": HARD, "display": "header"},
            {"id": "doc", "type": "text"},
            {"id": "marked", "type": "text", "format": "markdown", "required": false},
            {"id": "html", "type": "text", "format": "html", "display": "collapsible"},
            {"id": "link", "type": "text", "display": "link", "required": false},
            {"id": "talk", "type": "chat", "required": false},
            {"id": "jobs", "type": "structured", "display": "table", "required": false, "schema":
                {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}}},
            {"id": "items", "type": "structured"},
            {"id": "pic", "type": "file", "media": ["image/png"], "required": false},
            {"id": "file", "type": "file", "required": false},
            {"id": "num", "type": "number", "required": false},
            {"id": "flag", "type": "boolean", "required": false},
            {"id": "day", "type": "text", "display": "hidden", "required": false, "in_prompt": false},
        ],
        "questions": [
            {"id": "many", "type": "choice", "options": many, "title": HARD, "help": format!("{HARD}\nsecond line")},
            {"id": "some", "type": "choice", "multiple": true, "min": 0, "options": ["x", "$y", "z"]},
            {"id": "doc", "type": "choice", "multiple": true, "min": 0, "options": ["only"]},
            {"id": "levels", "type": "rating", "options": [{"value": "low", "score": 1}, {"value": "high", "score": 2}]},
            {"id": "stars", "type": "rating", "min": 1, "max": 5},
            {"id": "scale", "type": "rating", "min": -2, "max": 2},
            {"id": "wide", "type": "rating", "min": 0, "max": 1000},
            {"id": "src_doc", "type": "boolean"},
            {"id": "count", "type": "number", "min": 0.5},
            {"id": "line", "type": "text"},
            {"id": "text", "type": "text", "multiline": true},
            {"id": "texts", "type": "text", "many": true},
            {"id": "json", "type": "structured", "schema": {"type": "object"}},
            {"id": "date", "type": "date"},
            {"id": "time", "type": "date", "only": "date_time"},
            {"id": "year", "type": "date", "only": "year"},
            {"id": "better", "type": "preference", "left": "doc", "right": "head"},
            {"id": "tied", "type": "preference", "left": "doc", "right": "head", "tie": true},
            {"id": "order", "type": "ranking", "field": "items"},
            {"id": "tree", "type": "taxonomy", "tree": [{"value": "p", "label": HARD, "children": [{"value": "q"}]}, {"value": "r"}]},
            {"id": "spans", "type": "span", "field": "doc", "overlap": true, "labels": ["a", {"value": "b", "label": "$b"}]},
            {"id": "review", "type": "text", "role": "review"},
            {"id": "later", "type": "text", "visible_when": {"all": [
                {"is": {"question": "src_doc", "any_of": [true, false]}}, {"answered": "levels"}]}},
        ],
    })
}

fn compile(document: &Value) -> CompiledSchema {
    TaskSchema::from_value(document).unwrap().schema.compile().unwrap()
}

#[test]
#[ignore = "needs Label Studio: scripts/test_label_studio.sh starts one"]
fn answers_of_all_kinds_go_there_and_back_and_the_page_can_grow() {
    let server = Server::new();
    let mut document = all_kinds();
    let project = round_trip(&server, &compile(&document), 4);

    document["version"] = json!("1.1.0");
    document["questions"][0]["options"].as_array_mut().unwrap().push(json!({"value": "new", "label": "New"}));
    document["questions"][0]["title"] = json!("Other words");
    document["questions"].as_array_mut().unwrap().insert(0, json!({"id": "added", "type": "text", "required": false}));
    document["fields"].as_array_mut().unwrap().insert(0, json!({"id": "first", "type": "text", "required": false}));
    let grown = compile(&document);
    let xml = label_config(&grown, &LabelConfigOptions::default().with_locale("de")).unwrap().xml;
    server.expect(200, "PATCH", &format!("/api/projects/{project}/"), &json!({"label_config": xml}));
    for exported in server.export(project) {
        assert_eq!(harvest(&grown, &exported).errors, []);
    }
    server.delete(project);
}

/// Where anything is in a document.
fn pointers(value: &Value) -> Vec<String> {
    let below = |key: String, value: &Value| pointers(value).into_iter().map(move |path| format!("/{key}{path}"));
    let all: Vec<String> = match value {
        Value::Object(members) => members.iter().flat_map(|(key, value)| below(key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().flat_map(|(at, item)| below(at.to_string(), item)).collect(),
        _ => Vec::new(),
    };
    std::iter::once(String::new()).chain(all).collect()
}

/// Each part of a right prediction is replaced by something else. Label Studio takes more than is right, but nothing that the library
/// takes is refused.
#[test]
#[ignore = "needs Label Studio: scripts/test_label_studio.sh starts one"]
fn what_is_found_right_is_taken() {
    let server = Server::new();
    let mut document = all_kinds();
    // Without hundreds of options, whose names would all be in each answer of the server.
    document["questions"][0]["options"].as_array_mut().unwrap().truncate(3);
    let schema = compile(&document);
    let project = server.project(&schema);
    let mut record = record(&schema, 0);
    let right = task(&schema, &record, &TaskOptions::default()).unwrap()["predictions"][0].clone();
    record.suggestions.clear();
    let id = server.import(project, &[task(&schema, &record, &TaskOptions::default()).unwrap()])[0];
    let (mut taken, mut refused) = (0, 0);
    for path in pointers(&right).iter().skip(1) {
        for junk in [json!(null), json!("x"), json!(0), json!(-1.5), json!([]), json!(["x"]), json!({})] {
            let mut prediction = right.clone();
            *prediction.pointer_mut(path).unwrap() = junk;
            let is_right = validate_prediction(&schema, &record.fields, &prediction).is_empty();
            refused += usize::from(!is_right);
            if is_right {
                prediction["task"] = json!(id);
                server.expect(201, "POST", "/api/predictions/", &prediction);
                taken += 1;
            }
        }
    }
    assert!(taken > 100 && refused > 1000, "{taken} {refused}");
    server.delete(project);
}
