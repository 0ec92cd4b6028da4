//! What is wrong with schemas that are wrong: each mistake has its code and its place, and several are all reported.

use std::fs;

use serde_json::{Value, json};
use vllm_batch::curate::{Diagnostic, InvalidSchema, TaskSchema};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/schemas/broken/");

fn base() -> Value {
    serde_json::from_str(&fs::read_to_string(format!("{FOLDER}base.json")).unwrap()).unwrap()
}

/// The text of a case: its own, or the sound schema with some places changed.
fn document(case: &Value) -> String {
    if let Some(text) = case["text"].as_str() {
        return text.to_owned();
    }
    let mut document = base();
    for (pointer, value) in case["set"].as_object().into_iter().flatten() {
        set(&mut document, pointer, value.clone());
    }
    for pointer in case["remove"].as_array().into_iter().flatten() {
        let (parent, key) = pointer.as_str().unwrap().rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap().as_object_mut().unwrap().shift_remove(key).unwrap();
    }
    document.to_string()
}

fn set(document: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
    match parent {
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        parent => parent[key] = value,
    }
}

fn check(text: &str) -> Vec<Diagnostic> {
    let all = |error: InvalidSchema| error.diagnostics().to_vec();
    let read = match TaskSchema::from_json(text) {
        Ok(read) => read,
        Err(error) => return all(error),
    };
    let mut found = read.warnings;
    match read.schema.compile() {
        Ok(compiled) => found.extend_from_slice(compiled.warnings()),
        Err(error) => found.extend(all(error)),
    }
    found
}

/// The cases, with what was found in each in place of what should be.
fn found_now(cases: &str) -> String {
    let lines = cases.lines().map(|line| {
        let mut case: Value = serde_json::from_str(line).unwrap();
        let found: Vec<String> = check(&document(&case)).iter().map(ToString::to_string).collect();
        case["found"] = json!(found);
        format!("{case}\n")
    });
    lines.collect()
}

#[test]
fn the_schema_that_the_mistakes_are_put_into_is_sound() {
    assert_eq!(check(&base().to_string()), []);
}

#[test]
fn each_mistake_is_found_where_it_is() {
    let cases = fs::read_to_string(format!("{FOLDER}cases.jsonl")).unwrap();
    assert!(cases.lines().count() > 200);
    let now = found_now(&cases);
    let changed: Vec<String> = cases
        .lines()
        .zip(now.lines())
        .filter(|(was, now)| was != now)
        .map(|(was, now)| format!("was {was}\nnow {now}"))
        .collect();
    assert!(changed.is_empty(), "{} cases differ\n{}", changed.len(), changed.join("\n"));
}

#[test]
fn nothing_wrong_goes_unnoticed() {
    let cases = fs::read_to_string(format!("{FOLDER}cases.jsonl")).unwrap();
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        assert!(!case["found"].as_array().unwrap().is_empty(), "{}", case["name"]);
    }
}

#[test]
fn a_document_that_is_too_long_is_refused_unread() {
    let found = check(&" ".repeat(5 << 20));
    assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), ["too_large"]);
}

#[test]
fn what_is_wrong_in_a_text_is_wrong_in_a_value_and_in_serde() {
    for line in fs::read_to_string(format!("{FOLDER}cases.jsonl")).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = document(&case);
        let read = TaskSchema::from_json(&text).map(|read| read.schema);
        assert_eq!(serde_json::from_str::<TaskSchema>(&text).ok(), read.clone().ok(), "{}", case["name"]);
        if let Ok(value) = serde_json::from_str::<Value>(&text)
            && !case["name"].as_str().unwrap().starts_with("key twice")
        {
            assert_eq!(TaskSchema::from_value(&value).map(|read| read.schema).ok(), read.ok(), "{}", case["name"]);
        }
    }
}
