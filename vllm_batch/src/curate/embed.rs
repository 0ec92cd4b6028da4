//! A JSON Schema as a part of another one.

use serde_json::{Map, Value, json};

use super::decode::{MAX_CHARS, MAX_ITEMS};
use super::pattern;

/// What is done to the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Embedding {
    /// Nothing but what its new place asks for.
    AsIs,
    /// Texts and lists without a limit get one, what expressions repeat too, and objects that say their properties have no others.
    Bounded,
}

/// A schema as it is written at a place within another one: its references lead to itself. `pointer` is that place, as in
/// `#/properties/jobs`.
pub(super) fn embed(schema: &Value, pointer: &str, embedding: Embedding) -> Value {
    let mut schema = schema.clone();
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
    }
    walk(&mut schema, pointer, embedding);
    schema
}

fn walk(schema: &mut Value, pointer: &str, embedding: Embedding) {
    let Value::Object(object) = schema else { return };
    if let Some(Value::String(reference)) = object.get_mut("$ref")
        && let Some(rest) = reference.strip_prefix('#')
    {
        *reference = format!("{pointer}{rest}");
    }
    if embedding == Embedding::Bounded {
        bound(object);
    }
    for (key, value) in object {
        match key.as_str() {
            "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" => {
                value.as_object_mut().into_iter().flatten().for_each(|(_, one)| walk(one, pointer, embedding));
            }
            "allOf" | "anyOf" | "oneOf" | "prefixItems" => {
                value.as_array_mut().into_iter().flatten().for_each(|one| walk(one, pointer, embedding));
            }
            "items"
            | "additionalProperties"
            | "contains"
            | "propertyNames"
            | "not"
            | "if"
            | "then"
            | "else"
            | "unevaluatedItems"
            | "unevaluatedProperties" => walk(value, pointer, embedding),
            _ => {}
        }
    }
}

fn bound(schema: &mut Map<String, Value>) {
    let is = |schema: &Map<_, Value>, name: &str| match schema.get("type") {
        Some(Value::Array(types)) => types.iter().any(|one| one == name),
        kind => kind.is_some_and(|kind| kind == name),
    };
    let has = |schema: &Map<_, _>, keys: &[&str]| keys.iter().any(|key| schema.contains_key(*key));
    if is(schema, "string") && !has(schema, &["enum", "const", "pattern", "format", "maxLength"]) {
        let min = schema.get("minLength").and_then(Value::as_u64).unwrap_or(0);
        schema.insert("maxLength".to_owned(), json!(min.max(MAX_CHARS[0] as u64)));
    }
    if is(schema, "array") && !has(schema, &["enum", "const", "maxItems"]) {
        let min = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        schema.insert("maxItems".to_owned(), json!(min.max(MAX_ITEMS as u64)));
    }
    if is(schema, "object")
        && has(schema, &["properties"])
        && !has(schema, &["additionalProperties", "patternProperties"])
    {
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
    if let Some(Value::String(pattern)) = schema.get_mut("pattern")
        && let Some(bounded) = pattern::bounded(pattern)
    {
        *pattern = bounded;
    }
    schema.remove("uniqueItems");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_follow_and_what_is_open_gets_an_end() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "array",
            "uniqueItems": true,
            "items": {"anyOf": [{"$ref": "#/$defs/job"}, {"type": "string", "format": "uri"}]},
            "$defs": {"job": {"type": "object", "properties": {"name": {"type": ["string", "null"]}, "$ref": {"type": "array", "minItems": 40}}}},
        });
        let mut expected = json!({
            "type": "array",
            "uniqueItems": true,
            "items": {"anyOf": [{"$ref": "#/properties/q/$defs/job"}, {"type": "string", "format": "uri"}]},
            "$defs": {"job": {"type": "object", "properties": {"name": {"type": ["string", "null"]}, "$ref": {"type": "array", "minItems": 40}}}},
        });
        assert_eq!(embed(&schema, "#/properties/q", Embedding::AsIs), expected);
        expected.as_object_mut().unwrap().remove("uniqueItems");
        expected["maxItems"] = json!(32);
        let job = &mut expected["$defs"]["job"];
        job["properties"]["name"]["maxLength"] = json!(400);
        job["properties"]["$ref"]["maxItems"] = json!(40);
        job["additionalProperties"] = json!(false);
        assert_eq!(embed(&schema, "#/properties/q", Embedding::Bounded), expected);
        assert_eq!(embed(&json!(true), "#/x", Embedding::Bounded), json!(true));
    }
}
