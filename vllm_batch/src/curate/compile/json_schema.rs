//! JSON Schemas within a schema: what not every consumer can hold a model to.

use serde_json::{Map, Value};

use super::super::check::nearest;
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
    check_bounds(place, members);
    check_names(place, members);
    check_values(place, members);
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

/// The least is not above the most.
fn check_bounds(place: &mut Place<'_>, members: &Map<String, Value>) {
    let pairs = [
        ("minLength", "maxLength"),
        ("minItems", "maxItems"),
        ("minimum", "maximum"),
        ("minProperties", "maxProperties"),
    ];
    for (least, most) in pairs {
        let bound = |key| members.get(key).and_then(Value::as_f64);
        if let (Some(min), Some(max)) = (bound(least), bound(most))
            && min > max
        {
            place.at(most).error("crossed_bounds", format!("at most {max}, but at least {min}"));
        }
    }
}

/// What is required can be there.
fn check_names(place: &mut Place<'_>, members: &Map<String, Value>) {
    let is_closed = members.get("additionalProperties") == Some(&Value::Bool(false));
    let Some(properties) = members.get("properties").and_then(Value::as_object).filter(|_| is_closed) else { return };
    if members.contains_key("patternProperties") {
        return;
    }
    let required = members.get("required").and_then(Value::as_array).into_iter().flatten();
    for (at, name) in required.enumerate().filter_map(|(at, name)| Some((at, name.as_str()?))) {
        if !properties.contains_key(name) {
            let near = nearest(name, properties.keys().map(String::as_str));
            let near = near.map_or_else(String::new, |near| format!(" (`{near}` is meant?)"));
            let message = format!("`{name}` must be there and cannot: it is none of the properties{near}");
            place.at("required").at(at).error("impossible_value", message);
        }
    }
}

/// Values that are listed are there, and at least one is of the type that is asked for.
fn check_values(place: &mut Place<'_>, members: &Map<String, Value>) {
    let Some(values) = members.get("enum").and_then(Value::as_array) else { return };
    if values.is_empty() {
        return place.at("enum").error("impossible_value", "no value is listed");
    }
    let types: Vec<&str> = match members.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let is_of = |value: &Value, name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    };
    if values.iter().all(|value| !types.iter().any(|name| is_of(value, name))) {
        place.at("enum").error("impossible_value", format!("none of the values is of the type {}", types.join(" or ")));
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
