//! Is there no value that two schemas both describe?
//!
//! `oneOf` asks for exactly one of its schemas. A grammar cannot count, but where no value fits two of them, any one is
//! exactly one.

use std::cell::Cell;

use serde_json::Value;

use super::refs::resolve;

/// So deep do schemas have to be looked into before the answer is "perhaps".
const MAX_DEPTH: usize = 12;
/// So many comparisons are made before the answer is "perhaps".
const MAX_COMPARISONS: usize = 20_000;

/// Whether no two of `schemas`, which are parts of `root`, describe a common value. "No" may mean "not for certain".
pub(super) fn are_disjoint(root: &Value, schemas: &[Value]) -> bool {
    let mut pairs = schemas.iter().enumerate().flat_map(|(i, a)| schemas[i + 1..].iter().map(move |b| (a, b)));
    let comparison = Comparison { root, budget: Cell::new(MAX_COMPARISONS) };
    pairs.all(|(a, b)| comparison.disjoint(a, b, MAX_DEPTH))
}

/// A comparison of schemas of one document.
struct Comparison<'a> {
    root: &'a Value,
    budget: Cell<usize>,
}

impl Comparison<'_> {
    fn disjoint(&self, a: &Value, b: &Value, depth: usize) -> bool {
        if depth == 0 || self.budget.get() == 0 {
            return false;
        }
        self.budget.update(|budget| budget - 1);
        *a == Value::Bool(false)
            || *b == Value::Bool(false)
            || differ_in_values(a, b)
            || !types(a).iter().any(|kind| types(b).contains(kind))
            || self.differ_in_property(a, b, depth)
            || self.part_is_disjoint(a, b, depth)
            || self.part_is_disjoint(b, a, depth)
    }

    /// Whether one part of `a`, all of which must hold, is disjoint from `b`.
    fn part_is_disjoint(&self, a: &Value, b: &Value, depth: usize) -> bool {
        let target = a.get("$ref").and_then(Value::as_str).and_then(|reference| resolve(self.root, reference));
        let all = || a.get("allOf").and_then(Value::as_array).into_iter().flatten();
        let mut any = ["anyOf", "oneOf"].iter().filter_map(|key| a.get(key).and_then(Value::as_array));
        target.is_some_and(|(_, target)| self.disjoint(target, b, depth - 1))
            || all().any(|part| self.disjoint(part, b, depth - 1))
            || any.any(|options| options.iter().all(|option| self.disjoint(option, b, depth - 1)))
    }

    /// Whether both describe objects only, and a property that one of them requires cannot fit both.
    fn differ_in_property(&self, a: &Value, b: &Value, depth: usize) -> bool {
        if types(a) != ["object"] || types(b) != ["object"] {
            return false;
        }
        let required = |schema: &Value| schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        let property = |schema: &Value, name: &str| schema.get("properties").and_then(|all| all.get(name)).cloned();
        required(a).iter().chain(&required(b)).filter_map(Value::as_str).any(|name| {
            let pair = property(a, name).zip(property(b, name));
            pair.is_some_and(|(a, b)| self.disjoint(&a, &b, depth - 1))
        })
    }
}

/// Whether both list their values, and none is common, or one lists its values, and the other has none of their
/// types.
fn differ_in_values(a: &Value, b: &Value) -> bool {
    match (values(a), values(b)) {
        (Some(a), Some(b)) => !a.iter().any(|x| b.iter().any(|y| equal(x, y))),
        (Some(values), None) => !values.iter().any(|value| types(b).contains(&kind(value))),
        (None, Some(values)) => !values.iter().any(|value| types(a).contains(&kind(value))),
        (None, None) => false,
    }
}

const TYPES: [&str; 6] = ["null", "boolean", "number", "string", "array", "object"];

/// The types of a schema, where integers are numbers.
fn types(schema: &Value) -> Vec<&str> {
    let number = |name| if name == "integer" { "number" } else { name };
    match schema.get("type") {
        Some(Value::String(name)) => vec![number(name.as_str())],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(number).collect(),
        _ => TYPES.to_vec(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The values that a schema lists.
fn values(schema: &Value) -> Option<Vec<&Value>> {
    let constant = schema.get("const").map(|value| vec![value]);
    constant.or_else(|| Some(schema.get("enum")?.as_array()?.iter().collect()))
}

/// Whether two values are equal, where 1 and 1.0 are.
fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        // Lists and objects may hold numbers; let them count as equal.
        _ => a == b || (kind(a) == kind(b) && (a.is_array() || a.is_object())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_without_a_common_value_are_told() {
        let root = json!({"$defs": {
            "cat": {"type": "object", "properties": {"kind": {"const": "cat"}}, "required": ["kind"]},
            "dog": {"type": "object", "properties": {"kind": {"enum": ["dog", "wolf"]}}, "required": ["kind"]},
            "animal": {"oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}]},
            "loop": {"$ref": "#/$defs/loop"},
        }});
        let cases = [
            (json!([{"type": "string"}, {"type": "integer"}]), true),
            (json!([{"type": "number"}, {"type": "integer"}]), false),
            (json!([{"type": ["string", "null"]}, {"type": ["integer", "null"]}]), false),
            (json!([{"const": 1}, {"const": 1.0}]), false),
            (json!([{"const": 1}, {"const": 2}, {"enum": ["a", null]}]), true),
            (json!([{"const": 1}, {"type": "string"}]), true),
            (json!([{"const": 1}, {"minimum": 3}]), false),
            (json!([{"const": [1]}, {"const": [1.0]}]), false),
            (json!([{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}]), true),
            (json!([{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/cat"}]), false),
            (json!([{"$ref": "#/$defs/animal"}, {"type": "array"}]), true),
            (json!([{"$ref": "#/$defs/animal"}, {"$ref": "#/$defs/cat"}]), false),
            (json!([{"allOf": [{"$ref": "#/$defs/cat"}, {"minProperties": 1}]}, {"$ref": "#/$defs/dog"}]), true),
            (json!([{"$ref": "#/$defs/loop"}, {"type": "null"}]), false),
            (json!([true, {"type": "null"}]), false),
            (json!([false, {"type": "null"}]), true),
            (json!([{"type": "null"}]), true),
        ];
        for (schemas, expected) in cases {
            assert_eq!(are_disjoint(&root, schemas.as_array().unwrap()), expected, "{schemas}");
        }
    }
}
