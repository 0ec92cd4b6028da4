//! How long can an answer be?
//!
//! Counted in half tokens: two for each character that a model chooses, as if each were a token of its own, and one for each
//! that the format forces, since names and words of Latin letters have two or more to a token. For texts in other scripts, of
//! which a tokenizer may make several tokens a character, it is an estimate.

use serde_json::{Map, Value};

use super::pattern;

/// Of what has no limit.
const OPEN: usize = 2_000;
/// Of a number that is no whole one.
const NUMBER: usize = 48;
/// Of a date with a time, as of everything with a `format`.
const FORMAT: usize = 80;
/// So many parts of a schema are looked at: references can multiply them. And so many references are followed one from another.
const MAX_PARTS: usize = 10_000;
const MAX_REFERENCES: usize = 64;
/// Texts are not shortened below this many characters.
const MIN_CHARS: u64 = 24;
/// Limits are shortened in so many steps.
const STEPS: u64 = 1_000;

/// Tokens of the longest JSON text that a schema for decoding allows, as far as it has limits.
pub(super) fn max_tokens(schema: &Value) -> usize {
    let mut measure = Measure { root: schema, within: Vec::new(), num_parts: 0 };
    // The end, and what a tokenizer does otherwise than is thought here.
    measure.longest(schema).div_ceil(2).saturating_add(16)
}

/// The same schema with texts and lists so short that every answer fits into so many tokens; all are shortened in the same
/// proportion.
///
/// # Errors
/// How many tokens it takes at least.
pub(super) fn fit(schema: &Value, limit: usize) -> Result<Value, usize> {
    let shortened = |step: u64| {
        let mut schema = schema.clone();
        shorten(&mut schema, step);
        schema
    };
    let fits = |step: u64| max_tokens(&shortened(step)) <= limit;
    if !fits(0) {
        return Err(max_tokens(&shortened(0)));
    }
    let (mut good, mut bad) = (0, STEPS + 1);
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        if fits(middle) { good = middle } else { bad = middle }
    }
    Ok(shortened(good))
}

/// Shortens the limits of texts and lists to a share of what they are.
fn shorten(schema: &mut Value, step: u64) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(|schema| shorten(schema, step)),
        Value::Object(members) => {
            for (limit, least, floor) in [("maxLength", "minLength", MIN_CHARS), ("maxItems", "minItems", 1)] {
                let floor = members.get(least).and_then(Value::as_u64).unwrap_or(0).max(floor);
                if let Some(old) = members.get(limit).and_then(Value::as_u64) {
                    let new = (u128::from(old) * u128::from(step) / u128::from(STEPS)) as u64;
                    members.insert(limit.to_owned(), new.max(floor.min(old)).into());
                }
            }
            // What stands in these is data.
            let parts = members.iter_mut().filter(|(key, _)| !matches!(key.as_str(), "enum" | "const" | "default"));
            parts.for_each(|(_, part)| shorten(part, step));
        }
        _ => {}
    }
}

/// Goes through a schema.
struct Measure<'s> {
    root: &'s Value,
    /// References that are being followed.
    within: Vec<&'s str>,
    num_parts: usize,
}

impl<'s> Measure<'s> {
    fn longest(&mut self, schema: &'s Value) -> usize {
        self.num_parts += 1;
        let Value::Object(members) = schema else { return OPEN };
        if self.num_parts > MAX_PARTS {
            return OPEN;
        }
        if let Some(Value::String(reference)) = members.get("$ref") {
            return self.referred(reference);
        }
        let written = |value: &Value| value.to_string().chars().count();
        if let Some(values) = members.get("enum").and_then(Value::as_array) {
            return values.iter().map(written).max().unwrap_or(0);
        }
        if let Some(value) = members.get("const") {
            return written(value);
        }
        if let Some(options) = members.get("anyOf").or_else(|| members.get("oneOf")).and_then(Value::as_array) {
            return options.iter().map(|option| self.longest(option)).max().unwrap_or(0);
        }
        match members.get("type") {
            Some(Value::String(kind)) => self.of_type(kind, members),
            Some(Value::Array(kinds)) => {
                let kinds = kinds.iter().filter_map(Value::as_str);
                kinds.map(|kind| self.of_type(kind, members)).max().unwrap_or(OPEN)
            }
            _ => OPEN,
        }
    }

    /// What refers to itself has no end.
    fn referred(&mut self, reference: &'s str) -> usize {
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let is_endless = self.within.contains(&reference) || self.within.len() >= MAX_REFERENCES;
        let Some(target) = target.filter(|_| !is_endless) else { return OPEN };
        self.within.push(reference);
        let longest = self.longest(target);
        self.within.pop();
        longest
    }

    fn of_type(&mut self, kind: &str, members: &'s Map<String, Value>) -> usize {
        let count = |key: &str| members.get(key).and_then(Value::as_u64).map(|count| count as usize);
        match kind {
            "null" | "boolean" => 5,
            "number" => NUMBER,
            "integer" => 2 * num_digits(members),
            "string" => match (members.get("pattern").and_then(Value::as_str), count("maxLength")) {
                (Some(pattern), limit) => {
                    let longest = pattern::longest(pattern).into_iter().chain(limit).min();
                    longest.map_or(OPEN, |chars| chars.saturating_mul(2).saturating_add(2))
                }
                (None, Some(limit)) => limit.saturating_mul(2).saturating_add(2),
                (None, None) if members.contains_key("format") => FORMAT,
                (None, None) => OPEN,
            },
            "array" => {
                let item = members.get("items").map_or(OPEN, |items| self.longest(items));
                count("maxItems").map_or(OPEN, |max| max.saturating_mul(item.saturating_add(1)).saturating_add(2))
            }
            "object" => self.object(members),
            _ => OPEN,
        }
    }

    fn object(&mut self, members: &'s Map<String, Value>) -> usize {
        let Some(properties) = members.get("properties").and_then(Value::as_object) else { return OPEN };
        let is_closed = members.get("additionalProperties") == Some(&Value::Bool(false));
        let others = if is_closed { 2 } else { OPEN };
        properties.iter().fold(others, |sum, (key, value)| {
            let member = self.longest(value).saturating_add(key.chars().count() + 4);
            sum.saturating_add(member)
        })
    }
}

/// Characters of the longest whole number that a schema allows: no engine writes one beyond 2⁵³.
fn num_digits(members: &Map<String, Value>) -> usize {
    const MOST: usize = 17;
    let digits = |key: &str| {
        let bound = members.get(key).and_then(Value::as_i64)?;
        Some(bound.to_string().len())
    };
    match (digits("minimum"), digits("maximum")) {
        (Some(least), Some(most)) => least.max(most).min(MOST),
        _ => MOST,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::SchemaRegistry;
    use super::super::arbitrary::asked;
    use super::*;

    #[test]
    fn the_longest_answer_is_measured() {
        let reference = json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "boolean"}}});
        let endless =
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}]}}});
        let object = json!({"type": "object", "properties": {"a": {"type": "boolean"}, "bc": {"type": "null"}}});
        let mut closed = object.clone();
        closed["additionalProperties"] = json!(false);
        let cases = [
            (json!({"type": "boolean"}), 5),
            (json!({"type": "string", "enum": ["a", "long"]}), 6),
            (json!({"const": "é"}), 3),
            (json!({"anyOf": [{"type": "string", "maxLength": 8}, {"type": "null"}]}), 18),
            (json!({"type": ["string", "null"], "maxLength": 8}), 18),
            (json!({"type": "integer"}), 34),
            (json!({"type": "integer", "minimum": -10, "maximum": 5}), 6),
            (json!({"type": "array", "items": {"type": "number"}, "maxItems": 2}), 100),
            (closed, 23),
            (object, 2021),
            (json!({"type": "string", "format": "date"}), 80),
            (json!({"type": "string", "pattern": "^[0-9]{4}$"}), 10),
            (json!({"type": "string", "pattern": "^a+$"}), 2000),
            (json!({"type": "string"}), 2000),
            (json!(true), 2000),
            (reference, 5),
            (endless, 2000),
        ];
        for (schema, expected) in cases {
            let mut measure = Measure { root: &schema, within: Vec::new(), num_parts: 0 };
            assert_eq!(measure.longest(&schema), expected, "{schema}");
        }
        assert_eq!(max_tokens(&json!({"type": "boolean"})), 19);
    }

    #[test]
    fn references_that_multiply_come_to_an_end() {
        let twice = |to: usize| {
            json!({"type": "object", "properties": {
            "a": {"$ref": format!("#/$defs/d{to}")}, "b": {"$ref": format!("#/$defs/d{to}")}}})
        };
        let mut definitions: Map<String, Value> = (1..40).map(|at| (format!("d{at}"), twice(at + 1))).collect();
        definitions.insert("d40".to_owned(), json!({"type": "null"}));
        let mut schema = twice(1);
        schema["$defs"] = definitions.into();
        assert!(max_tokens(&schema) > 8_192);
    }

    #[test]
    fn limits_become_shorter_together_and_data_stay() {
        let schema = json!({"type": "object", "additionalProperties": false, "properties": {
            "maxLength": {"type": "string", "maxLength": 400},
            "short": {"type": "string", "maxLength": 10},
            "wide": {"type": "string", "minLength": 100, "maxLength": 200},
            "list": {"type": "array", "items": {"type": "string", "maxLength": 100}, "maxItems": 32},
            "fixed": {"enum": [{"maxLength": 9, "maxItems": 7}]},
        }});
        assert_eq!(fit(&schema, 100_000), Ok(schema.clone()));
        let short = fit(&schema, 300).unwrap();
        assert!(max_tokens(&short) <= 300);
        let limit = |pointer: &str| short.pointer(&format!("/properties/{pointer}")).and_then(Value::as_u64).unwrap();
        assert_eq!((limit("short/maxLength"), limit("wide/maxLength"), limit("list/items/maxLength")), (10, 100, 24));
        assert!(limit("maxLength/maxLength") < 100 && limit("list/maxItems") < 5);
        assert_eq!(short["properties"]["fixed"], schema["properties"]["fixed"]);
        let least = fit(&schema, 10).unwrap_err();
        assert!(fit(&schema, least).is_ok() && fit(&schema, least - 1) == Err(least));
    }

    #[test]
    fn every_schema_of_the_library_fits_a_thousand_tokens() {
        for schema in SchemaRegistry::builtin().iter() {
            let fitted = fit(schema.decode_schema(), 1_000).unwrap();
            assert!(max_tokens(&fitted) <= 1_000, "{}", schema.schema().id);
        }
    }

    proptest! {
        #[test]
        fn what_an_answer_takes_is_no_more_than_is_measured(one in asked()) {
            let (schema, record) = one.clone().compiled();
            let format = schema.decode_schema_for(&record);
            let length = json!({"q": one.answer.to_json()}).to_string().chars().count();
            prop_assert!(length <= 2 * max_tokens(&format), "{format} {length}");
        }

        #[test]
        fn fitted_formats_allow_less_and_nothing_else(one in asked(), limit in 1_usize..400) {
            let (schema, record) = one.compiled();
            let format = schema.decode_schema_for(&record);
            if let Ok(fitted) = fit(&format, limit) {
                prop_assert!(max_tokens(&fitted) <= limit);
                prop_assert!(jsonschema::validator_for(&fitted).is_ok());
            }
        }
    }
}
