//! `docs/schemas.md` and the code agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use vllm_batch::curate::TaskSchema;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// Codes that reading and compiling report, with their severities: what stands first in calls that report.
fn codes_in_source() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut text = String::new();
    for folder in ["read", "compile"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/curate").join(folder), &mut text);
    }
    let mut codes: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    // Reported where expressions and JSON Schemas are compiled.
    for code in ["invalid_json_schema", "invalid_pattern"] {
        assert!(read("src/curate/check/answers.rs").contains(&format!("\"{code}\"")), "{code}");
        codes.entry(code.to_owned()).or_default().insert("error");
    }
    let calls =
        [("error(", "error"), ("error::<()>(", "error"), ("error_with_help(", "error"), ("warning(", "warning")];
    for (call, severity) in calls {
        for rest in text.split(call).skip(1) {
            if let Some(code) = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                codes.entry(code.to_owned()).or_default().insert(severity);
            }
        }
    }
    codes
}

/// Code and severities of each row of the table.
fn codes_in_docs() -> BTreeMap<String, BTreeSet<String>> {
    let docs = read("../docs/schemas.md");
    let (_, section) = docs.split_once("\n## Diagnostics\n").expect("the section");
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows: Vec<Vec<String>> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
        .collect();
    let codes: Vec<&String> = rows.iter().map(|row| &row[0]).collect();
    assert!(codes.is_sorted(), "{codes:?}");
    let severities = |cell: &str| cell.split(", ").map(str::to_owned).collect();
    rows.iter().map(|row| (row[0].clone(), severities(&row[1]))).collect()
}

#[test]
fn every_code_is_in_the_table() {
    let source: BTreeMap<_, BTreeSet<String>> = codes_in_source()
        .into_iter()
        .map(|(code, severities)| (code, severities.into_iter().map(str::to_owned).collect()))
        .collect();
    assert_eq!(codes_in_docs(), source);
}

#[test]
fn every_code_is_shown_by_a_broken_schema() {
    let cases = read("tests/data/schemas/broken/cases.jsonl");
    let mut seen = BTreeSet::new();
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        for found in case["found"].as_array().unwrap() {
            let found = found.as_str().unwrap();
            let code =
                found.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(code, _)| code.to_owned());
            seen.extend(code);
        }
    }
    let tested_elsewhere = ["too_large", "not_finite", "reserved_key", "invalid_weight"];
    let unseen: Vec<String> = codes_in_docs()
        .into_keys()
        .filter(|code| !seen.contains(code) && !tested_elsewhere.contains(&&**code))
        .collect();
    assert_eq!(unseen, Vec::<String>::new());
}

/// JSON between the fences of the page.
#[test]
fn the_example_of_the_page_is_sound() {
    let docs = read("../docs/schemas.md");
    let examples: Vec<&str> = docs
        .split("```json\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .filter(|json| json.contains("\"format\""))
        .collect();
    assert!(!examples.is_empty());
    for example in examples {
        let read = TaskSchema::from_json(example).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read.warnings, []);
        let compiled = read.schema.compile().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(compiled.warnings(), []);
    }
}

/// The codes of repairs in the code and in the table, each in its order.
#[test]
fn every_repair_is_in_the_table() {
    let source = read("src/curate/parse/mod.rs");
    let (_, body) = source.split_once("pub fn code(self)").expect("the codes");
    let (body, _) = body.split_once("\n    }\n").expect("their end");
    let codes: Vec<&str> = body.lines().filter_map(|line| line.split_once("=> \"")?.1.split('"').next()).collect();
    let docs = read("../docs/curation.md");
    let (_, section) = docs.split_once("\n| Repair |").expect("the table");
    let (section, _) = section.split_once("\n\n").expect("its end");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(rows.collect::<Vec<_>>(), codes);
}
