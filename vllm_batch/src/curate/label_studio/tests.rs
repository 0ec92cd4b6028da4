use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::arbitrary::{Asked, any_json, asked, ident, schema};
use super::super::{
    Agent, Answer, Answers, CompiledSchema, Condition, Field, FieldKind, LabelSpan, Pii, Provenance, Question,
    QuestionKind, QuestionOption, Record, Response, ResponseStatus, Scale, SchemaRegistry, ScoreKind, Suggestion,
    SuggestionSet, TaskSchema, TextFormat, Version,
};
use super::*;

fn schema_of(questions: Vec<Question>) -> TaskSchema {
    let text = || FieldKind::Text { format: TextFormat::Plain };
    let fields = [("doc", text()), ("items", FieldKind::Structured { schema: None }), ("a", text()), ("b", text())];
    let schema = TaskSchema::new(ident("task"), Version::new(1, 0, 0));
    let fields = fields.into_iter().map(|(id, kind)| Field { required: false, ..Field::new(ident(id), kind) });
    let schema = fields.fold(schema, TaskSchema::with_field);
    questions.into_iter().fold(schema, TaskSchema::with_question)
}

fn compiled(questions: Vec<Question>) -> CompiledSchema {
    schema_of(questions).compile().unwrap()
}

fn set(schema: &CompiledSchema, suggestions: Vec<Suggestion>) -> SuggestionSet {
    let named = Some(schema.schema().reference());
    let provenance = Provenance { model: "m@1".to_owned(), schema: named, ..Provenance::default() };
    SuggestionSet::new(Agent::model("m@1"), suggestions, provenance)
}

/// A task as it is exported, after a person took over what the model said.
fn exported(task: &Value) -> Value {
    let mut task = task.clone();
    task["id"] = json!(7);
    task["project"] = json!(3);
    for (at, prediction) in task["predictions"].as_array_mut().unwrap().iter_mut().enumerate() {
        prediction["id"] = json!(at);
    }
    let prediction = task["predictions"][0].clone();
    let mut annotation = json!({"id": 1, "completed_by": {"email": "ann"}, "was_cancelled": false, "lead_time": 2.5});
    annotation["result"] = prediction["result"].clone();
    annotation["prediction"] = prediction;
    annotation["parent_prediction"] = json!(0);
    task["annotations"] = json!([annotation]);
    task
}

proptest! {
    #[test]
    fn answers_come_back_as_they_were(asked in asked(), score in prop::option::of(0.0..=1.0)) {
        let Asked { question, answer, fields } = asked;
        let schema = compiled(vec![question]);
        let mut suggestion = Suggestion::new(ident("q"), answer.clone());
        if let Some(score) = score {
            suggestion = suggestion.with_score(score, ScoreKind::Vote);
        }
        let result: Vec<Value> =
            regions(&schema, &fields, &[suggestion.clone()]).unwrap().iter().map(Region::to_json).collect();
        let is_empty = answer == Answer::Spans(Vec::new());
        let expected: Answers = (!is_empty).then(|| (ident("q"), answer)).into_iter().collect();
        prop_assert_eq!(answers_of(&schema, &fields, &result), (expected, vec![]));
        let prediction = json!({"model_version": "m", "score": score, "result": result});
        prop_assert_eq!(validate_prediction(&schema, &fields, &prediction), vec![]);

        let mut record = Record { fields, ..Record::new("r") };
        let mut with_metadata = record.clone();
        record.suggestions = vec![set(&schema, vec![suggestion])];
        let harvest = harvest(&schema, &exported(&task(&schema, &record, &TaskOptions::default()).unwrap()));
        let mut response = Response::submitted("ann", record.suggestions[0].answers());
        (response.prefilled, response.lead_time) = (Some(true), Some(2.5));
        if is_empty {
            // A score has no place.
            record.suggestions[0].suggestions[0] = Suggestion::new(ident("q"), Answer::Spans(Vec::new()));
        }
        with_metadata.suggestions = record.suggestions;
        with_metadata.responses = vec![response];
        with_metadata.metadata.insert("label_studio".to_owned(), json!({"task": 7, "project": 3}));
        prop_assert_eq!((harvest.record, harvest.errors), (with_metadata, vec![]));
    }

    #[test]
    fn any_json_can_be_harvested(asked in asked(), junk in any_json(), place in any::<prop::sample::Index>()) {
        let Asked { question, answer, fields } = asked;
        let schema = compiled(vec![question]);
        let mut record = Record { fields, ..Record::new("r") };
        record.suggestions = vec![set(&schema, vec![Suggestion::new(ident("q"), answer)])];
        let mut task = exported(&task(&schema, &record, &TaskOptions::default()).unwrap());
        harvest(&schema, &junk);
        let places = pointers(&task);
        *task.pointer_mut(&places[place.index(places.len())]).unwrap() = junk;
        let harvest = harvest(&schema, &task);
        for response in &harvest.record.responses {
            for (id, answer) in response.answers.iter() {
                prop_assert_eq!(schema.check_answer(id, answer), Ok(()));
            }
        }
        validate_prediction(&schema, &record.fields, &task["predictions"][0]);
    }

    /// What is generated passes the checks that a configuration from outside must pass.
    #[test]
    fn pages_ask_all_questions(schema in schema(), locale in "en|de") {
        let page = label_config(&schema.clone().compile().unwrap(), &LabelConfigOptions::default().with_locale(locale)).unwrap();
        let mut schema = schema;
        schema.rendering.label_config = Some(page.xml.clone());
        let again = label_config(&schema.compile().unwrap(), &LabelConfigOptions::default()).unwrap();
        prop_assert_eq!((again.xml, again.warnings), (page.xml, vec![]));
    }
}

/// Where anything is in a document.
fn pointers(value: &Value) -> Vec<String> {
    let mut all = vec![String::new()];
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
        _ => Vec::new(),
    };
    for (key, below) in members {
        all.extend(pointers(below).into_iter().map(|path| format!("/{key}{path}")));
    }
    all
}

fn choice(multiple: bool, values: &[&str]) -> QuestionKind {
    let options = values.iter().map(|value| QuestionOption::new(*value, value.to_uppercase())).collect();
    QuestionKind::Choice { options, multiple, min: 0, max: multiple.then_some(1) }
}

fn one_of_each() -> Vec<Question> {
    let kinds = [
        ("one", choice(false, &["a", "b"])),
        ("some", choice(true, &["a", "b"])),
        ("stars", QuestionKind::Rating { scale: Scale::Range { min: 1, max: 5 } }),
        ("scale", QuestionKind::Rating { scale: Scale::Range { min: 0, max: 3 } }),
        ("yes", QuestionKind::Boolean { yes: "Yes".into(), no: "No".into() }),
        ("count", QuestionKind::Number(crate::curate::NumberQuestion { min: Some(0.0), ..Default::default() })),
        ("word", QuestionKind::Text(crate::curate::TextQuestion::default())),
        ("json", QuestionKind::Structured { schema: json!({"type": "array"}) }),
        ("day", QuestionKind::Date { only: crate::curate::DateGranularity::Date }),
        ("year", QuestionKind::Date { only: crate::curate::DateGranularity::Year }),
        ("time", QuestionKind::Date { only: crate::curate::DateGranularity::DateTime }),
        ("better", QuestionKind::Preference { left: ident("a"), right: ident("b"), tie: false }),
        ("order", QuestionKind::Ranking { field: ident("items") }),
        (
            "spans",
            QuestionKind::Span { field: ident("doc"), labels: vec![QuestionOption::new("x", "X")], overlap: true },
        ),
    ];
    kinds.into_iter().map(|(id, kind)| Question { required: false, ..Question::new(ident(id), kind) }).collect()
}

fn fields() -> Map<String, Value> {
    json!({"doc": "a😀b", "items": ["p", "q"], "a": "x", "b": "y"}).as_object().unwrap().clone()
}

#[allow(clippy::needless_pass_by_value)] // Values are made where they are handed over.
fn region(control: &str, object: &str, kind: &str, value: Value) -> Value {
    json!({"from_name": control, "to_name": object, "type": kind, "value": value})
}

/// What one region says: the answer as JSON, or the codes of what is wrong.
fn read_one(region: &Value) -> Result<Value, String> {
    let schema = compiled(one_of_each());
    let (answers, errors) = answers_of(&schema, &fields(), std::slice::from_ref(region));
    match (answers.iter().next(), errors.as_slice()) {
        (Some((_, answer)), []) => Ok(answer.to_json()),
        (None, [error]) => Err(match &error.kind {
            HarvestErrorKind::Answer(error) => error.code().to_owned(),
            kind => kind.code().to_owned(),
        }),
        other => panic!("{other:?}"),
    }
}

#[test]
fn regions_that_label_studio_takes_are_read_strictly() {
    let on = "src_vb_record";
    let cases = [
        (region("one", on, "choices", json!({"choices": ["b"]})), Ok(json!("b"))),
        (region("one", on, "Choices", json!({"choices": ["b"]})), Ok(json!("b"))),
        (region("one", on, "choices", json!({"choices": ["a", "b"]})), Err("wrong_count")),
        (region("one", on, "choices", json!({"choices": []})), Err("wrong_count")),
        (region("one", on, "choices", json!({"choices": "a"})), Err("malformed")),
        (region("one", on, "choices", json!({"choices": ["A"]})), Err("unknown_option")),
        (region("some", on, "choices", json!({"choices": ["a", "b"]})), Err("wrong_count")),
        (region("stars", on, "rating", json!({"rating": 0})), Err("out_of_range")),
        (region("stars", on, "rating", json!({"rating": 6})), Err("out_of_range")),
        (region("stars", on, "rating", json!({"rating": 4.5})), Err("not_an_integer")),
        (region("stars", on, "rating", json!({"rating": "4"})), Ok(json!(4))),
        (region("scale", on, "choices", json!({"choices": ["0"]})), Ok(json!(0))),
        (region("scale", on, "choices", json!({"choices": ["4"]})), Err("out_of_range")),
        (region("yes", on, "choices", json!({"choices": ["true"]})), Ok(json!(true))),
        (region("yes", on, "choices", json!({"choices": ["Yes"]})), Err("wrong_type")),
        (region("count", on, "number", json!({"number": -1})), Err("out_of_range")),
        (region("count", on, "number", json!({"number": "7.5"})), Ok(json!(7.5))),
        (region("word", on, "textarea", json!({"text": ["x", "y"]})), Err("wrong_count")),
        (region("word", on, "textarea", json!({"text": "x"})), Err("malformed")),
        (region("json", on, "textarea", json!({"text": ["[1,"]})), Err("not_json")),
        (region("json", on, "textarea", json!({"text": ["{}"]})), Err("schema_mismatch")),
        (region("json", on, "textarea", json!({"text": ["[1]"]})), Ok(json!([1]))),
        (region("day", on, "datetime", json!({"datetime": "2026-02-30"})), Err("not_a_date")),
        (region("year", on, "datetime", json!({"datetime": 2026})), Ok(json!("2026"))),
        (region("time", on, "datetime", json!({"datetime": "2026-01-31T12:30"})), Ok(json!("2026-01-31T12:30:00Z"))),
        (region("time", on, "datetime", json!({"datetime": "2026-01-31T12:30:05"})), Ok(json!("2026-01-31T12:30:05Z"))),
        (region("better", "src_a", "pairwise", json!({"selected": "left"})), Ok(json!("left"))),
        (region("better", "src_a,src_b", "pairwise", json!({"selected": "left"})), Err("wrong_object")),
        (region("better", "src_b", "pairwise", json!({"selected": "middle"})), Err("unknown_option")),
        (region("order", "src_items", "ranker", json!({"ranker": {"order": ["q", "p"]}})), Ok(json!(["q", "p"]))),
        (region("order", "src_items", "ranker", json!({"ranker": ["q", "p"]})), Err("wrong_type")),
        (region("order", "src_items", "ranker", json!({"ranker": {"order": ["q"]}})), Err("not_a_permutation")),
        (
            region("spans", "src_doc", "labels", json!({"start": 1, "end": 3, "labels": ["x"]})),
            Ok(json!([{"start": 1, "end": 2, "label": "x"}])),
        ),
        (region("spans", "src_doc", "labels", json!({"start": 1, "end": 2, "labels": ["x"]})), Err("not_in_text")),
        (region("spans", "src_doc", "labels", json!({"start": 1, "end": 9, "labels": ["x"]})), Err("not_in_text")),
        (region("spans", "src_doc", "labels", json!({"start": 1, "end": 1, "labels": ["x"]})), Err("invalid_span")),
        (region("spans", "src_doc", "labels", json!({"start": -1, "end": 1, "labels": ["x"]})), Err("malformed")),
        (region("spans", "src_doc", "hypertextlabels", json!({})), Err("wrong_region_type")),
        (region("won", on, "choices", json!({})), Err("unknown_control")),
        (json!(5), Err("malformed")),
        (json!({"from_name": "one"}), Err("malformed")),
    ];
    for (region, expected) in cases {
        assert_eq!(read_one(&region), expected.map_err(str::to_owned), "{region}");
    }
}

#[test]
fn two_answers_to_one_question_are_none() {
    let schema = compiled(one_of_each());
    let one = |value: &str| region("one", "src_vb_record", "choices", json!({"choices": [value]}));
    let (answers, errors) = answers_of(&schema, &fields(), &[one("a"), one("a")]);
    assert_eq!((answers.len(), errors), (1, vec![]));
    let (answers, errors) = answers_of(&schema, &fields(), &[one("a"), one("b"), one("a")]);
    let errors: Vec<_> = errors.iter().map(|error| (error.path.as_str(), error.code())).collect();
    assert_eq!((answers.len(), errors), (0, vec![("/1", "conflict")]));
}

#[test]
fn what_is_about_a_person_stays_here() {
    let mut schema = schema_of(vec![
        Question { pii: Pii::Mask, ..one_of_each().remove(6) },
        Question { pii: Pii::Drop, ..one_of_each().remove(0) },
        one_of_each().remove(13),
        Question {
            visible_when: Some(Condition::Field { field: ident("a"), any_of: vec![json!("x")] }),
            ..one_of_each().remove(4)
        },
    ]);
    for (field, pii) in schema.fields.iter_mut().zip([Pii::Mask, Pii::Mask, Pii::Drop, Pii::Keep]) {
        field.pii = pii;
    }
    let schema = schema.compile().unwrap();
    let mut record = Record { fields: fields(), ..Record::new("r") };
    let answers = [
        ("word", Answer::Text("secret".into())),
        ("one", Answer::Option("b".into())),
        ("spans", Answer::Spans(vec![LabelSpan::new(0, 1, "x")])),
        ("yes", Answer::Boolean(true)),
    ];
    let suggestions = answers.into_iter().map(|(id, answer)| Suggestion::new(ident(id), answer)).collect();
    record.suggestions = vec![set(&schema, suggestions)];

    let page = label_config(&schema, &LabelConfigOptions::default()).unwrap();
    let warnings: Vec<_> = page.warnings.iter().map(|one| (one.code, one.path.as_str())).collect();
    let expected = [
        ("question_withheld", "/questions/1"),
        ("question_withheld", "/questions/2"),
        ("condition_not_expressible", "/questions/3/visible_when"),
    ];
    assert_eq!(warnings, expected);
    let task = task(&schema, &record, &TaskOptions::default()).unwrap();
    let data = &task["data"];
    let shown = [&data["doc"], &data["items"], &data["vb_show_items"], &data["a"], &data["b"]];
    assert_eq!(
        shown,
        [&json!("[masked]"), &json!(["[masked]"]), &json!("<ul><li>[masked]</li></ul>"), &json!(""), &json!("y")]
    );
    assert_eq!(data["vb_withheld"], json!(["doc", "items", "a"]));
    let controls: Vec<_> =
        task["predictions"][0]["result"].as_array().unwrap().iter().map(|region| &region["from_name"]).collect();
    assert_eq!(controls, ["yes"]);

    let harvest = harvest(&schema, &exported(&task));
    assert_eq!(harvest.errors, []);
    assert_eq!(harvest.withheld, ["doc", "items", "a"]);
    assert_eq!(harvest.record.fields, Map::from_iter([("b".to_owned(), json!("y"))]));
    assert_eq!(harvest.record.responses[0].answers.get("yes"), Some(&Answer::Boolean(true)));
}

#[test]
fn what_cannot_be_reviewed_is_all_said() {
    let mut schema = schema_of(one_of_each());
    schema.fields[0].required = true;
    schema.fields.push(Field { required: false, ..Field::new(ident("vb_x"), FieldKind::Number) });
    let schema = schema.compile().unwrap();
    let mut record = Record::new("r").with_field("a", 5);
    let suggestions = vec![
        Suggestion::new(ident("one"), Answer::Option("c".into())),
        Suggestion::new(ident("yes"), Answer::Boolean(true)).with_score(f64::NAN, ScoreKind::Vote),
        Suggestion::new(ident("nobody"), Answer::Boolean(true)),
    ];
    record.suggestions = vec![set(&schema, suggestions)];
    let error = task(&schema, &record, &TaskOptions::default()).unwrap_err();
    let codes: Vec<_> = error.problems.iter().map(TaskProblem::code).collect();
    let expected =
        ["invalid_field", "invalid_field", "reserved_field", "invalid_answer", "invalid_answer", "invalid_score"];
    assert_eq!(codes, expected, "{error}");
    let errors = label_config(&schema, &LabelConfigOptions::default()).unwrap_err();
    assert_eq!(errors.diagnostics().iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["/fields/4/id"]);
}

#[test]
fn people_are_read_with_what_they_did() {
    let schema = compiled(one_of_each());
    let mut record = Record { fields: fields(), ..Record::new("r") };
    record.suggestions = vec![set(&schema, vec![Suggestion::new(ident("one"), Answer::Option("a".into()))])];
    let mut task = task(&schema, &record, &TaskOptions::default()).unwrap();
    let one = |origin: Option<&str>| {
        let mut region = region("one", "src_vb_record", "choices", json!({"choices": ["b"]}));
        region["origin"] = origin.map_or(Value::Null, Value::from);
        region
    };
    task["predictions"] = json!([12]);
    task["annotations"] = json!([
        {"completed_by": 5, "result": [one(Some("manual"))], "prediction": {}},
        {"completed_by": {"id": 6}, "result": [], "prediction": {"result": [one(None)]}, "was_cancelled": true, "ground_truth": true},
        {"completed_by": {"username": "bob", "email": null}, "result": [one(Some("prediction-changed"))],
         "prediction": {"id": 12, "model_version": "x", "result": [one(None)]}},
        {"result": [one(None)], "lead_time": "soon"},
        {"result": {}},
    ]);
    task["drafts"] = json!([{"user": "eve", "result": [one(None)]}]);
    let Harvest { record, errors, .. } = harvest(&schema, &task);
    let people: Vec<_> = record
        .responses
        .iter()
        .map(|one| (one.agent.name.as_str(), one.status, one.prefilled, one.answers.len()))
        .collect();
    let expected = [
        ("5", ResponseStatus::Submitted, Some(false), 1),
        ("6", ResponseStatus::Discarded, None, 0),
        ("bob", ResponseStatus::Submitted, Some(true), 1),
        ("unknown", ResponseStatus::Submitted, None, 1),
        ("eve", ResponseStatus::Draft, None, 1),
    ];
    assert_eq!(people, expected);
    assert_eq!((record.gold, record.suggestions[0].agent.name.as_str()), (None, "x"));
    let errors: Vec<_> = errors.iter().map(|error| (error.path.as_str(), error.code())).collect();
    assert_eq!(errors, [("/predictions/0", "prediction_by_id"), ("/annotations/4/result", "malformed")]);
}

#[test]
fn hidden_answers_are_left_out() {
    let mut questions = one_of_each();
    questions[4].visible_when = Some(Condition::Is { question: ident("one"), any_of: vec![json!("a")] });
    let schema = compiled(questions);
    let result = [
        region("one", "src_vb_record", "choices", json!({"choices": ["b"]})),
        region("yes", "src_vb_record", "choices", json!({"choices": ["true"]})),
    ];
    let task = json!({
        "data": {"vb_record": "r", "vb_schema": "task@1.7.0"},
        "annotations": [{"result": result}],
        "predictions": [{"model_version": "no@schema", "result": []}],
    });
    let Harvest { record, errors, .. } = harvest(&schema, &task);
    assert_eq!(record.responses[0].answers.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["one"]);
    assert_eq!(
        (record.suggestions[0].agent.name.as_str(), &record.suggestions[0].provenance.schema),
        ("no@schema", &None)
    );
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["/annotations/0/result/1: yes: the question is hidden here, and must not be answered"]);
    let prediction = json!({"model_version": "m", "score": null, "result": result});
    let errors = validate_prediction(&schema, &Map::new(), &prediction);
    assert_eq!(errors.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), ["/result/1"]);
}

#[test]
fn keys_change_with_what_a_record_is() {
    let schema = compiled(one_of_each());
    let record = |text: &str| Record::new("r").with_field("doc", text).with_field("items", json!({"a": 1, "b": 2}));
    let key = dedup_key(&schema, &record("x"));
    assert_eq!(key.len(), 32);
    let reordered = Record::new("r").with_field("items", json!({"b": 2, "a": 1})).with_field("doc", "x");
    assert_eq!(dedup_key(&schema, &reordered), key);
    let mut minor = schema.schema().clone();
    minor.version = Version::new(1, 1, 0);
    assert_eq!(dedup_key(&minor.clone().compile().unwrap(), &record("x")), key);
    minor.version = Version::new(2, 0, 0);
    let others = [
        dedup_key(&minor.compile().unwrap(), &record("x")),
        dedup_key(&schema, &record("y")),
        dedup_key(&schema, &Record { id: "s".into(), ..record("x") }),
    ];
    assert!(others.iter().all(|other| *other != key));
}

#[test]
fn gold_and_reviewed_answers_go_along() {
    let schema = compiled(one_of_each());
    let answers = |value: &str| Answers::from_iter([(ident("one"), Answer::Option(value.into()))]);
    let mut record = Record { fields: fields(), gold: Some(true), ..Record::new("r") };
    record.responses = vec![Response { lead_time: Some(3.0), ..Response::submitted("ann", answers("a")) }];
    record.responses.push(Response { status: ResponseStatus::Draft, ..Response::submitted("bob", answers("b")) });
    let annotations = |which| {
        let task = task(&schema, &record, &TaskOptions::default().with_annotations(which)).unwrap();
        task["annotations"].clone()
    };
    let result = json!([region("one", "src_vb_record", "choices", json!({"choices": ["a"]}))]);
    let gold = json!({"ground_truth": true, "result": result});
    assert_eq!(annotations(TaskAnnotations::None), Value::Null);
    assert_eq!(annotations(TaskAnnotations::Gold), json!([gold]));
    let both = json!([{"lead_time": 3.0, "ground_truth": true, "result": result}]);
    assert_eq!(annotations(TaskAnnotations::All), both);
    // What people agree on may be what nobody said as a whole.
    let mut record = record.clone();
    let bob = Answers::from_iter([(ident("one"), Answer::Option("b".into()))]);
    record.responses = vec![Response::submitted("bob", bob), Response::submitted("cem", answers("a"))];
    record.responses.push(Response::submitted("ann", answers("a")));
    let all = task(&schema, &record, &TaskOptions::default().with_annotations(TaskAnnotations::All)).unwrap();
    let of_bob = json!([region("one", "src_vb_record", "choices", json!({"choices": ["b"]}))]);
    let expected = json!([{"result": of_bob}, {"ground_truth": true, "result": result}, {"result": result}]);
    assert_eq!(all["annotations"], expected);
}

#[test]
fn the_schemas_of_the_library_have_pages_without_warnings() {
    for schema in SchemaRegistry::builtin().iter() {
        let page = label_config(schema, &LabelConfigOptions::default()).unwrap();
        assert_eq!(page.warnings, [], "{}", schema.schema().id);
    }
}

#[test]
fn reviewed_records_move_to_the_next_major_version() {
    let document = |version: &str, question: &str, options: Value, migrations: Value| {
        let document = json!({
            "format": 1, "id": "mail", "version": version, "fields": [{"id": "doc", "type": "text"}],
            "questions": [{"id": question, "type": "choice", "options": options}], "migrations": migrations,
        });
        TaskSchema::from_value(&document).unwrap().schema
    };
    let mut registry = SchemaRegistry::new();
    let old = registry.register(document("1.0.0", "tone", json!(["stiff", "warm"]), json!([]))).unwrap();
    let steps = json!([
        {"op": "rename_question", "since": "2.0.0", "from": "tone", "to": "voice"},
        {"op": "map_options", "since": "2.0.0", "question": "voice", "map": {"stiff": "formal"}},
    ]);
    let new = registry.register(document("2.0.0", "voice", json!(["formal", "warm"]), steps)).unwrap();

    let mut record = Record::new("r").with_field("doc", "Hello");
    let tone = Suggestion::new(ident("tone"), Answer::Option("stiff".into())).with_score(0.5, ScoreKind::Vote);
    record.suggestions = vec![set(&old, vec![tone])];
    let reviewed = exported(&task(&old, &record, &TaskOptions::default()).unwrap());
    let mut records = [harvest(&old, &reviewed).record];
    registry.migrate_records(&mut records, &Version::new(1, 0, 0), &new.schema().reference()).unwrap();
    let moved = task(&new, &records[0], &TaskOptions::default().with_annotations(TaskAnnotations::All)).unwrap();
    let region = region("voice", "src_vb_record", "choices", json!({"choices": ["formal"]}));
    assert_eq!(moved["annotations"], json!([{"lead_time": 2.5, "result": [region]}]));
    let mut with_score = region;
    (with_score["score"], with_score["score_kind"]) = (json!(0.5), json!("vote"));
    let prediction = json!({"model_version": "m@1@mail@2.0.0", "score": 0.5, "result": [with_score]});
    assert_eq!(moved["predictions"], json!([prediction]));
}
