//! What no file can say, and only a program can. What files can say is in `tests/data/schemas/broken`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::super::arbitrary::{self, ident};
use super::super::{LocalizedText, NumberQuestion, Question, QuestionKind, Version};
use super::*;

fn schema(question: Question) -> TaskSchema {
    TaskSchema::new(ident("task"), Version::new(1, 0, 0)).with_question(question)
}

fn errors(schema: TaskSchema) -> Vec<(&'static str, String)> {
    schema.compile().unwrap_err().errors().map(|one| (one.code, one.path.clone())).collect()
}

fn number(min: f64, step: f64) -> Question {
    let number = NumberQuestion { min: Some(min), step: Some(step), ..NumberQuestion::default() };
    Question::new(ident("q"), QuestionKind::Number(number))
}

#[test]
fn numbers_are_finite() {
    let found = errors(schema(number(f64::NAN, f64::INFINITY)));
    let at = |key: &str| ("not_finite", format!("/questions/0/{key}"));
    assert_eq!(found, [at("min"), at("step")]);
    for weight in [f64::NAN, f64::INFINITY, -1.0] {
        let question = Question { weight, ..number(0.0, 1.0) };
        assert_eq!(errors(schema(question)), [("invalid_weight", "/questions/0/weight".to_owned())]);
    }
}

#[test]
fn keys_without_a_meaning_are_not_those_with_one() {
    let mut schema = schema(number(0.0, 1.0));
    for key in KEYS {
        schema.extra.insert((*key).to_owned(), json!(1));
    }
    schema.extra.insert("owner".to_owned(), json!("me"));
    let mut found: Vec<_> = errors(schema).into_iter().map(|(code, path)| (code, path[1..].to_owned())).collect();
    found.sort();
    let mut expected: Vec<_> = KEYS.iter().map(|key| ("reserved_key", (*key).to_owned())).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn the_keys_with_a_meaning_are_those_that_are_written() {
    let mut schema = schema(number(0.0, 1.0));
    (schema.description, schema.guidelines) = (Some("d".into()), Some("g".into()));
    let since = Version::new(1, 0, 0);
    schema.migrations = vec![super::super::Migration::DropQuestion { since, question: ident("gone") }];
    let written = serde_json::to_value(&schema).unwrap();
    assert_eq!(written.as_object().unwrap().keys().collect::<Vec<_>>(), KEYS);
}

#[test]
fn a_text_has_a_language() {
    let title = LocalizedText::ByLocale(BTreeMap::new());
    assert_eq!(
        errors(schema(Question { title, ..number(0.0, 1.0) })),
        [("empty_text", "/questions/0/title".to_owned())]
    );
}

proptest! {
    /// A schema without its first question compiles, or says that the others need it.
    #[test]
    fn what_is_taken_away_is_missed(mut schema in arbitrary::schema()) {
        schema.questions.remove(0);
        let missed = ["unknown_question", "no_questions", "no_outputs"];
        if let Err(error) = schema.compile() {
            for one in error.errors() {
                prop_assert!(missed.contains(&one.code), "{}", one);
            }
        }
    }
}
