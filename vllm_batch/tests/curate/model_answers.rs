//! The demo model answers, held to the format that follows from a schema: all that it says to the end can be read.

use serde_json::{Value, json};
use vllm_batch::curate::{
    Answer, CompiledSchema, FieldKind, Provenance, Record, RepairKind, RequestOptions, SchemaRegistry, ScoreKind,
    Suggested, TaskSchema,
};
use vllm_batch::{BatchEngineExt, FinishReason, LocalEngine, RequestOutput};

use crate::demo_model;

fn engine() -> LocalEngine {
    let path = demo_model::gguf().expect("the demo model");
    LocalEngine::builder(path).max_model_len(4096).build().expect("the model loads")
}

/// Asks about each record, in the order of the records.
fn ask(engine: &LocalEngine, tasks: &[(&CompiledSchema, Record)], options: &RequestOptions) -> Vec<RequestOutput> {
    let requests = tasks.iter().map(|(schema, record)| schema.request(record, options).unwrap());
    engine.generate(requests).into_iter().map(|result| result.unwrap_or_else(|error| panic!("{error}"))).collect()
}

/// All kinds of questions but stretches of text, which a format cannot keep in the text; everything is short.
const SCHEMA: &str = r##"{
    "format": 1,
    "id": "review",
    "version": "1.0.0",
    "name": "Review of two drafts",
    "fields": [
        {"id": "draft", "title": "Draft", "type": "text"},
        {"id": "other", "title": "Other draft", "type": "text"},
        {"id": "readers", "title": "Readers", "type": "structured"}
    ],
    "questions": [
        {"id": "why", "title": "Thoughts", "type": "text", "max_chars": 60, "role": "reasoning"},
        {"id": "tone", "title": "Tone", "type": "choice", "options": [
            {"value": "formal", "label": "Formal"}, {"value": "casual", "label": "Casual"}]},
        {"id": "topics", "title": "Topics", "type": "choice", "multiple": true, "options": [
            {"value": "food", "label": "Food"}, {"value": "work", "label": "Work"}, {"value": "play", "label": "Play"}]},
        {"id": "clarity", "title": "Clarity", "type": "rating", "min": 1, "max": 5},
        {"id": "polite", "title": "Polite?", "type": "boolean"},
        {"id": "minutes", "title": "Minutes to read", "type": "number", "min": 0, "max": 3, "step": 0.5},
        {"id": "words", "title": "Key words", "type": "text", "many": true, "max_chars": 10},
        {"id": "day", "title": "Day", "type": "date", "required": false},
        {"id": "people", "title": "People", "type": "structured", "schema": {
            "type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/person"},
            "$defs": {"person": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}}, "required": ["name"]}}}},
        {"id": "better", "title": "Better draft", "type": "preference", "left": "draft", "right": "other", "tie": true},
        {"id": "order", "title": "Who reads first?", "type": "ranking", "field": "readers"},
        {"id": "place", "title": "Place", "type": "taxonomy", "tree": [
            {"value": "home", "label": "Home", "children": [{"value": "kitchen", "label": "Kitchen"}]}, {"value": "office", "label": "Office"}]},
        {"id": "advice", "title": "Advice", "type": "text", "max_chars": 40, "required": false,
            "visible_when": {"is": {"question": "polite", "any_of": [false]}}}
    ]
}"##;

fn drafts() -> Vec<Record> {
    let drafts = ["Lunch at noon?", "The board meets on Monday.\nPlease bring the figures.", "Give me the keys, now!"];
    let record = |(at, draft): (usize, &&str)| {
        Record::new(format!("draft-{at}"))
            .with_field("draft", *draft)
            .with_field("other", "Shall we have lunch together on Friday?")
            .with_field("readers", json!(["Ann", "Bob", "Cem"]))
    };
    drafts.iter().enumerate().map(record).collect()
}

/// What no format can say, and is left to reading.
const LEFT_TO_READING: [RepairKind; 3] =
    [RepairKind::LineEndsRemoved, RepairKind::ItemRemoved, RepairKind::HiddenDropped];

/// What was read of an answer: everything that was said to the end holds.
fn check(schema: &CompiledSchema, record: &Record, output: &RequestOutput) -> Suggested {
    let suggested = schema.suggest(record, output, Provenance::default());
    let answer = &output.outputs[0];
    let is_whole = answer.finish_reason == FinishReason::Stop;
    let holds = suggested.errors.iter().all(|error| !is_whole && error.code() == "missing_answer");
    assert!(holds, "{:?}: {}", suggested.errors, answer.text);
    for repair in schema.parse(record, &answer.text).repairs {
        let is_cut = !is_whole && repair.kind == RepairKind::TruncatedJson;
        assert!(is_cut || LEFT_TO_READING.contains(&repair.kind), "{repair}: {}", answer.text);
    }
    suggested
}

#[test]
fn all_kinds_of_answers_can_be_read() {
    let schema = TaskSchema::from_json(SCHEMA).unwrap().schema.compile().unwrap();
    let tasks: Vec<_> = drafts().into_iter().map(|record| (&schema, record)).collect();
    let engine = engine();
    let greedy = RequestOptions::default().with_logprobs(true);
    for options in [greedy.clone(), greedy.with_temperature(1.0).with_seed(7)] {
        for ((_, record), output) in tasks.iter().zip(ask(&engine, &tasks, &options)) {
            assert_eq!(
                (output.request_id.as_str(), output.outputs[0].finish_reason),
                (record.id.as_str(), FinishReason::Stop)
            );
            let suggested = check(&schema, record, &output);
            let answers = suggested.set.answers();
            assert!(matches!(answers.get("tone"), Some(Answer::Option(_))), "{answers:?}");
            assert!(matches!(answers.get("order"), Some(Answer::Ranking(order)) if order.len() == 3), "{answers:?}");
            for one in &suggested.set.suggestions {
                assert_eq!(one.score_kind, ScoreKind::Logprob, "{one:?}");
                assert!(one.score.is_some_and(|score| score > 0.0 && score <= 1.0), "{one:?}");
            }
        }
    }
}

#[test]
fn several_answers_are_put_together_by_vote() {
    let schema = TaskSchema::from_json(SCHEMA).unwrap().schema.compile().unwrap();
    let tasks = [(&schema, drafts().remove(0))];
    let options = RequestOptions::default().with_n(5).with_seed(1);
    let output = ask(&engine(), &tasks, &options).remove(0);
    let suggested = schema.suggest(&tasks[0].1, &output, Provenance::default());
    let votes = |share: f64| (share * 5.0 - (share * 5.0).round()).abs() < 1e-9 && share >= 0.2;
    assert!(!suggested.set.suggestions.is_empty());
    for one in suggested.set.suggestions {
        assert!(one.score_kind == ScoreKind::Vote && one.score.is_some_and(votes), "{one:?}");
    }
}

/// A value for a field of the schemas that come with the library.
fn value(id: &str, kind: &FieldKind, at: usize) -> Value {
    let company = ["Acme", "Beta Systems", "City Hospital"][at];
    let (start, end) = (2010 + at, 2014 + at);
    match (id, kind) {
        ("education", _) => json!([{"institution": "TU Wien", "degree": "BSc", "start_year": start, "end_year": end}]),
        ("work_history", _) => json!([{"company": company, "title": "Engineer", "start": format!("{end}-05")}]),
        ("key_findings", _) => json!(["Sales grew by 4 %.", "Costs fell."]),
        (_, FieldKind::Text { .. }) => Value::from(format!("{} at {company} since {end}.", id.replace('_', " "))),
        _ => panic!("{id}: {kind:?}"),
    }
}

#[test]
fn the_schemas_of_the_library_can_be_answered() {
    let registry = SchemaRegistry::builtin();
    let schemas: Vec<_> = registry.iter().cloned().collect();
    let record = |schema: &CompiledSchema, at: usize| {
        let fields = schema.schema().fields.iter();
        fields.fold(Record::new(format!("{}-{at}", schema.schema().id)), |record, field| {
            record.with_field(&*field.id, value(&field.id, &field.kind, at))
        })
    };
    let tasks: Vec<_> = schemas.iter().flat_map(|schema| (0..3).map(|at| (&**schema, record(schema, at)))).collect();
    let mut num_whole = 0;
    for ((schema, record), output) in
        tasks.iter().zip(ask(&engine(), &tasks, &RequestOptions::default().with_max_tokens(250)))
    {
        check(schema, record, &output);
        num_whole += usize::from(output.outputs[0].finish_reason == FinishReason::Stop);
    }
    assert!(num_whole >= 3, "{num_whole} of {} answers came to their end", tasks.len());
}
