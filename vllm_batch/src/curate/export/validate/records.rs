//! Argilla's records, and examples for prompts.

use serde_json::{Map, Value};

use super::rules::{Kind, expect, text};
use super::{Checker, Effect};

const OBJECT: Kind = ("an object", Value::is_object);
const STATUSES: [&str; 3] = ["draft", "submitted", "discarded"];
const MAX_AGENT_CHARS: usize = 200;

pub(super) fn argilla(checker: &mut Checker, row: &Map<String, Value>) {
    text(checker, row, "id", Effect::Refused);
    for key in ["fields", "metadata"] {
        expect(checker, row, key, Effect::Refused, OBJECT);
    }
    for key in ["suggestions", "responses"] {
        expect(checker, row, key, Effect::Refused, ("a list", Value::is_array));
    }
    if row.get("fields").and_then(Value::as_object).is_some_and(Map::is_empty) {
        checker.problem("/fields", "no_fields", Effect::Refused, "a record has at least one field");
    }
    for (name, value) in row.get("fields").and_then(Value::as_object).into_iter().flatten() {
        if !value.is_string() && !value.is_array() {
            checker.problem(
                format!("/fields/{name}"),
                "not_a_text",
                Effect::Refused,
                "a text or messages are expected",
            );
        }
    }
    for (name, value) in row.get("metadata").and_then(Value::as_object).into_iter().flatten() {
        if value.is_object() {
            checker.problem(format!("/metadata/{name}"), "wrong_type", Effect::Refused, "metadata have no objects");
        }
    }
    each(checker, row, "suggestions", suggestion);
    each(checker, row, "responses", response);
}

fn each(
    checker: &mut Checker,
    row: &Map<String, Value>,
    key: &str,
    check: fn(&mut Checker, &str, &Map<String, Value>),
) {
    for (at, item) in row.get(key).and_then(Value::as_array).into_iter().flatten().enumerate() {
        let path = format!("/{key}/{at}");
        match item {
            Value::Object(item) => {
                if item.get("question_name").and_then(Value::as_str).is_none_or(str::is_empty) {
                    checker.problem(
                        format!("{path}/question_name"),
                        "not_a_text",
                        Effect::Refused,
                        "a question's name is expected",
                    );
                }
                if item.get("value").is_none_or(Value::is_null) {
                    checker.problem(format!("{path}/value"), "missing_key", Effect::Refused, "an answer is expected");
                }
                check(checker, &path, item);
            }
            _ => checker.problem(path, "not_an_object", Effect::Refused, "an object is expected"),
        }
    }
}

fn suggestion(checker: &mut Checker, path: &str, item: &Map<String, Value>) {
    let agent = item.get("agent").and_then(Value::as_str).unwrap_or_default();
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c.is_whitespace() || "-_:./".contains(c);
    if agent.chars().count() > MAX_AGENT_CHARS || !agent.chars().all(is_allowed) {
        let message = "an agent has at most 200 letters, digits, spaces and any of - _ : . /";
        checker.problem(format!("{path}/agent"), "invalid_agent", Effect::Refused, message);
    }
    let score = item.get("score").filter(|score| !score.is_null());
    if score.is_some_and(|score| !score.as_f64().is_some_and(|score| (0.0..=1.0).contains(&score))) {
        checker.problem(format!("{path}/score"), "invalid_score", Effect::Refused, "a score is from 0 to 1");
    }
}

fn response(checker: &mut Checker, path: &str, item: &Map<String, Value>) {
    if item.get("user_id").and_then(Value::as_str).is_none_or(|id| !is_uuid(id)) {
        checker.problem(format!("{path}/user_id"), "invalid_user_id", Effect::Refused, "a UUID is expected");
    }
    if !item.get("status").and_then(Value::as_str).is_some_and(|status| STATUSES.contains(&status)) {
        checker.problem(
            format!("{path}/status"),
            "unknown_status",
            Effect::Refused,
            format!("there are {}", STATUSES.join(", ")),
        );
    }
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<_> = text.split('-').collect();
    let is_hex = |group: &&str| group.bytes().all(|byte| byte.is_ascii_hexdigit());
    groups.iter().all(is_hex) && groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
}

pub(super) fn icl_json(checker: &mut Checker, row: &Map<String, Value>) {
    for key in ["id", "schema"] {
        text(checker, row, key, Effect::Refused);
    }
    for key in ["input", "output", "rendered", "quality"] {
        expect(checker, row, key, Effect::Refused, OBJECT);
    }
    for key in ["user", "assistant"] {
        let rendered = row.get("rendered").and_then(|rendered| rendered.get(key)).and_then(Value::as_str);
        if rendered.is_none_or(str::is_empty) {
            checker.problem(format!("/rendered/{key}"), "not_a_text", Effect::Refused, "a text is expected");
        }
    }
}

/// Examples one after the other, each with its marks in order.
pub(super) fn check_text(checker: &mut Checker, text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return checker.problem("", "invalid_utf8", Effect::Refused, "the file is not UTF-8");
    };
    let mut rest = text;
    while !rest.is_empty() {
        checker.line = text[..text.len() - rest.len()].matches('\n').count() + 1;
        match after_example(rest) {
            Some(next) => rest = next,
            None => {
                return checker.problem(
                    "",
                    "broken_example",
                    Effect::Misread,
                    "the marks of an example are not in order",
                );
            }
        }
        checker.report.num_rows += 1;
    }
    if checker.report.num_rows == 0 {
        checker.line = 0;
        checker.problem("", "no_rows", Effect::Refused, "there are no examples");
    }
}

fn after_example(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("<example>\n<record>\n")?;
    let (_, rest) = rest.split_once("\n</record>\n<answer>\n")?;
    let (answer, rest) = rest.split_once("\n</answer>\n</example>\n")?;
    (!answer.contains("<example>\n<record>\n")).then_some(rest)
}
