//! JSON Schemas within a schema: what not every consumer can hold a model to.

use serde_json::{Map, Value};

use super::place::Place;

/// Keywords that constrained decoding does not know everywhere (vLLM with xgrammar or llguidance, OpenAI's strict mode,
/// llama.cpp). Answers are still checked by them.
const UNPORTABLE: &[&str] = &[
    "patternProperties",
    "propertyNames",
    "unevaluatedProperties",
    "unevaluatedItems",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "not",
    "if",
    "contains",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "default",
];

/// Levels of objects and lists, values of enumerations and properties that OpenAI's strict mode takes.
const MAX_LEVELS: usize = 10;
const MAX_ENUM_VALUES: usize = 1000;
const MAX_PROPERTIES: usize = 5000;

/// Warns of what cannot be decoded everywhere. Whether the schema is one is checked where it is compiled.
pub(super) fn check(place: &mut Place<'_>, schema: &Value) {
    if !schema.is_object() {
        return place.error("invalid_json_schema", "the answers' schema is an object, and says what they consist of");
    }
    let mut totals = Totals::default();
    check_schema(place, schema, 1, &mut totals);
    let Totals { levels, enum_values, properties } = totals;
    let limits = [
        (levels, MAX_LEVELS, "levels"),
        (enum_values, MAX_ENUM_VALUES, "values of enumerations"),
        (properties, MAX_PROPERTIES, "properties"),
    ];
    for (count, limit, what) in limits {
        if count > limit {
            let message = format!("{count} {what} are more than the {limit} that every consumer takes");
            place.warning("unportable_json_schema", message);
        }
    }
}

#[derive(Default)]
struct Totals {
    levels: usize,
    enum_values: usize,
    properties: usize,
}

fn check_schema(place: &mut Place<'_>, schema: &Value, level: usize, totals: &mut Totals) {
    let Value::Object(members) = schema else { return };
    check_keywords(place, members);
    totals.levels = totals.levels.max(level);
    totals.enum_values += members.get("enum").and_then(Value::as_array).map_or(0, Vec::len);
    for (keyword, value) in members {
        match keyword.as_str() {
            "properties" | "$defs" | "definitions" | "patternProperties" => {
                let Value::Object(below) = value else { continue };
                let deeper = usize::from(keyword == "properties" || keyword == "patternProperties");
                totals.properties += if keyword == "properties" { below.len() } else { 0 };
                for (name, schema) in below {
                    check_schema(&mut place.at(keyword).at(name), schema, level + deeper, totals);
                }
            }
            "items" | "additionalProperties" => check_schema(&mut place.at(keyword), value, level + 1, totals),
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => {
                for (at, schema) in value.as_array().into_iter().flatten().enumerate() {
                    check_schema(&mut place.at(keyword).at(at), schema, level, totals);
                }
            }
            _ => {}
        }
    }
}

fn check_keywords(place: &mut Place<'_>, members: &Map<String, Value>) {
    for keyword in members.keys().filter(|keyword| UNPORTABLE.contains(&keyword.as_str())) {
        let message = format!("`{keyword}` is not known to every consumer: a model may not be held to it");
        place.at(keyword).warning("unportable_json_schema", message);
    }
    if members.contains_key("pattern") && members.contains_key("maxLength") {
        place.at("pattern").warning("unportable_json_schema", "`pattern` is not safe together with `maxLength`");
    }
}
