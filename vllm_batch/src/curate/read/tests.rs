use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

use super::super::Display::{Body, Header, Markdown};
use super::super::arbitrary;
use super::super::diagnostic::escape;
use super::super::{FieldKind, LocalizedText, QuestionKind, QuestionOption, Scale, SchemaRegistry, TextFormat};
use super::*;

proptest! {
    #[test]
    fn a_schema_that_was_written_reads_as_itself(schema in arbitrary::schema()) {
        let json = serde_json::to_string_pretty(&schema).unwrap();
        let read = TaskSchema::from_json(&json).unwrap();
        prop_assert_eq!(&read.schema, &schema);
        // Keys without a meaning are told of, and nothing else.
        let extra: Vec<_> = schema.extra.keys().map(|key| ("unknown_key", format!("/{}", escape(key)))).collect();
        let told: Vec<_> = read.warnings.into_iter().map(|one| (one.code, one.path)).collect();
        prop_assert_eq!(told, extra);
        prop_assert_eq!(serde_json::from_str::<TaskSchema>(&json).unwrap(), schema);
    }

    #[test]
    fn what_follows_from_a_schema_follows_from_what_it_is_written_as(schema in arbitrary::schema()) {
        let again = TaskSchema::from_value(&serde_json::to_value(&schema).unwrap()).unwrap().schema.compile().unwrap();
        let compiled = schema.compile().unwrap();
        prop_assert_eq!(compiled.sha256(), again.sha256());
        prop_assert_eq!(compiled.warnings(), again.warnings());
    }

    #[test]
    fn no_json_is_too_strange(value in value(), text in ".{0,60}") {
        let _ = TaskSchema::from_value(&value).map(|read| read.schema.compile());
        let _ = TaskSchema::from_json(&text);
        let _ = TaskSchema::from_json(&value.to_string());
    }

    /// Places of sound schemas are put into others, taken out, or made something else.
    #[test]
    fn no_schema_is_too_mangled(
        which in 0usize..6,
        places in vec((any::<Index>(), any::<Index>(), 0usize..4), 1..6),
        strange in value(),
    ) {
        let registry = SchemaRegistry::builtin();
        let sound = registry.iter().nth(which).unwrap().schema();
        let mut document = serde_json::to_value(sound).unwrap();
        for (to, from, how) in places {
            let pointers: Vec<String> = pointers(&document);
            let value = match how {
                0 => strange.clone(),
                1 => Value::Null,
                _ => document.pointer(from.get(&pointers).as_str()).unwrap().clone(),
            };
            *document.pointer_mut(to.get(&pointers).as_str()).unwrap() = value;
        }
        match TaskSchema::from_value(&document) {
            Ok(read) => {
                let again = TaskSchema::from_value(&serde_json::to_value(&read.schema).unwrap());
                prop_assert_eq!(again.unwrap().schema, read.schema.clone());
                let _ = read.schema.compile();
            }
            Err(error) => prop_assert!(error.errors().count() > 0),
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    const WORDS: &[&str] =
        &["id", "type", "text", "choice", "options", "questions", "fields", "1.0.0", "format", "schema", "is"];
    let word = prop_oneof![prop::sample::select(WORDS).prop_map(str::to_owned), ".{0,6}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((word.clone(), inner), 0..6).prop_map(|members| Value::Object(Map::from_iter(members))),
        ]
    })
}

fn pointers(document: &Value) -> Vec<String> {
    fn collect(value: &Value, at: &str, into: &mut Vec<String>) {
        into.push(at.to_owned());
        match value {
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, item)| collect(item, &format!("{at}/{index}"), into));
            }
            Value::Object(members) => {
                members.iter().for_each(|(key, member)| collect(member, &format!("{at}/{}", escape(key)), into));
            }
            _ => {}
        }
    }
    let mut all = Vec::new();
    collect(document, "", &mut all);
    all
}

/// A document of the older system with these fields and questions.
fn older(sources: &Value, questions: &Value) -> TaskSchema {
    let document =
        json!({"id": "mail", "version": "1.0.0", "name": "Mail", "dataSources": sources, "questions": questions});
    TaskSchema::from_value(&document).unwrap().schema
}

#[test]
fn ratings_of_the_older_system_have_the_best_level_first() {
    let schema = older(
        &json!([]),
        &json!([
            {"id": "named", "text": "Named", "type": "rating", "options": ["Very good", "Bad"]},
            {"id": "stars", "text": "Stars", "type": "rating"},
        ]),
    );
    let level = |value: &str, label: &str, score, synonyms: &[&str]| QuestionOption {
        score: Some(score),
        synonyms: synonyms.iter().map(|text| (*text).to_owned()).collect(),
        ..QuestionOption::new(value, label)
    };
    let levels = vec![level("very_good", "Very good", 2.0, &["Very good"]), level("bad", "Bad", 1.0, &["Bad"])];
    assert_eq!(schema.questions[0].kind, QuestionKind::Rating { scale: Scale::Levels { levels } });
    assert_eq!(schema.questions[1].kind, QuestionKind::Rating { scale: Scale::Range { min: 1, max: 5 } });
}

#[test]
fn labels_of_yes_and_no_come_from_the_older_options() {
    let kind = |options: &Value| {
        let question = json!({"id": "q", "text": "Q", "type": "boolean", "options": options});
        older(&json!([]), &json!([question])).questions.remove(0).kind
    };
    let boolean = |yes: &str, no: &str| QuestionKind::Boolean { yes: yes.into(), no: no.into() };
    assert_eq!(kind(&json!(["Ja", "Nein"])), boolean("Ja", "Nein"));
    assert_eq!(kind(&json!(["No", "Yes"])), boolean("Yes", "No"));
    assert_eq!(kind(&Value::Null), boolean("Yes", "No"));
}

#[test]
fn how_a_source_is_shown_says_how_it_is_written() {
    let source = |display: &str| json!({"id": display, "name": "S", "type": "text", "displayFormat": display});
    let schema = older(&json!([source("markdown"), source("default"), source("header")]), &json!([]));
    let kinds: Vec<_> = schema.fields.iter().map(|field| (field.kind.clone(), field.display)).collect();
    let text = |format| FieldKind::Text { format };
    assert_eq!(
        kinds,
        [(text(TextFormat::Markdown), Markdown), (text(TextFormat::Plain), Body), (text(TextFormat::Plain), Header)]
    );
}

#[test]
fn a_byte_order_mark_is_passed_over_and_null_is_absent() {
    let json = "\u{feff}{\"format\": 1, \"id\": \"mail\", \"version\": \"1.0.0\", \"name\": null, \"fields\": [], \
        \"questions\": [{\"id\": \"q\", \"type\": \"text\", \"help\": null, \"default\": null}]}";
    let read = TaskSchema::from_json(json).unwrap();
    assert_eq!((read.warnings, read.schema.name), (vec![], LocalizedText::from("mail")));
    assert_eq!(read.schema.questions[0].help, None);
}

#[test]
fn depth_is_limited_alike_in_texts_and_in_values() {
    let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    let document =
        |depth| json!({"format": 1, "id": "m", "version": "1.0.0", "fields": [], "questions": [], "x": nested(depth)});
    for (depth, is_read) in [(json::MAX_DEPTH - 1, true), (json::MAX_DEPTH, false), (100, false)] {
        assert_eq!(TaskSchema::from_value(&document(depth)).is_ok(), is_read, "{depth}");
        assert_eq!(TaskSchema::from_json(&document(depth).to_string()).is_ok(), is_read, "{depth}");
    }
}
