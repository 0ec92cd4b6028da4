//! Values of fields as text.

use std::fmt::Write as _;

use serde_json::Value;

use super::super::{Field, FieldKind};

/// What stands for a value that a record has not got: something that templates can print, and go through if they could go
/// through the value.
pub(super) fn nothing(kind: &FieldKind) -> Value {
    match kind {
        FieldKind::Text { .. } | FieldKind::File { .. } | FieldKind::Date => Value::from(""),
        FieldKind::Chat | FieldKind::Structured { .. } => Value::Array(Vec::new()),
        FieldKind::Number | FieldKind::Boolean => Value::Null,
    }
}

/// A value as a model reads it: texts as they are, lists and objects like YAML, with the keys in their order.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => {
            let mut out = String::new();
            write_block(&mut out, value, 0);
            out
        }
        other => inline(other),
    }
}

/// A value in one line, unless it is a text of several: texts as they are, lists joined by commas, objects as JSON.
pub(in crate::curate) fn inline(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            items.iter().map(inline).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Each item of a list in a line of its own with a dash; an object's values are joined.
pub(super) fn bullets(value: &Value) -> String {
    let line = |item: &Value| match item {
        Value::Object(object) => {
            object.values().map(inline).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ")
        }
        other => inline(other),
    };
    match value {
        Value::Array(items) => items.iter().map(|item| format!("- {}", line(item))).collect::<Vec<_>>().join("\n"),
        Value::Null => String::new(),
        other => format!("- {}", line(other)),
    }
}

fn write_block(out: &mut String, value: &Value, indent: usize) {
    let pad = "  ".repeat(indent);
    match value {
        Value::Array(items) => {
            for item in items {
                let mut text = String::new();
                write_entry(&mut text, item, indent + 1);
                // The first line of an item stands beside its dash.
                start_line(out);
                let _ = write!(out, "{pad}- {}", text.trim_start());
            }
        }
        Value::Object(object) => {
            for (key, item) in object {
                start_line(out);
                let _ = write!(out, "{pad}{key}:");
                let is_nested = item.as_array().is_some_and(|list| !list.is_empty())
                    || item.as_object().is_some_and(|map| !map.is_empty());
                out.push(if is_nested { '\n' } else { ' ' });
                write_entry(out, item, indent + 1);
            }
        }
        _ => {}
    }
}

fn write_entry(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Object(object) if object.is_empty() => out.push_str("{}"),
        Value::Array(_) | Value::Object(_) => write_block(out, value, indent),
        Value::String(text) if text.contains('\n') => {
            let pad = "  ".repeat(indent);
            out.push('|');
            text.lines().for_each(|line| _ = write!(out, "\n{pad}{line}"));
        }
        Value::Null => out.push_str("null"),
        other => out.push_str(&inline(other)),
    }
}

fn start_line(out: &mut String) {
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
}

/// A field's value with no more characters than the field allows in a prompt, and whether it has more. A value that is no
/// text is cut as the text that a model reads.
pub(super) fn cut(field: &Field, value: Value) -> (Value, bool) {
    let Some(max) = field.max_chars else { return (value, false) };
    let text = shown(&value);
    match text.char_indices().nth(max) {
        Some((end, _)) => {
            let all = text.chars().count();
            (Value::from(format!("{}\n[cut off: {max} of {all} characters]", &text[..end])), true)
        }
        None => (value, false),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_readable() {
        let jobs = json!([
            {"company": "Acme", "years": 3, "titles": ["Dev", "Lead"], "note": "a\nb", "none": []},
            {"company": "Beta", "at": {"city": "Wien"}},
            "self-employed",
            [1, 2],
        ]);
        let expected = "\
- company: Acme
  years: 3
  titles:
    - Dev
    - Lead
  note: |
    a
    b
  none: []
- company: Beta
  at:
    city: Wien
- self-employed
- - 1
  - 2";
        assert_eq!(shown(&jobs), expected);
        let bulleted = "- Acme, 3, Dev, Lead, a\nb\n- Beta, {\"city\":\"Wien\"}\n- self-employed\n- 1, 2";
        assert_eq!(bullets(&jobs), bulleted);
        let cases = [
            (json!(null), ""),
            (json!("x"), "x"),
            (json!(1.5), "1.5"),
            (json!(["a", 1]), "a, 1"),
            (json!([[1]]), "[[1]]"),
        ];
        for (value, expected) in cases {
            assert_eq!(inline(&value), expected);
        }
    }
}
