//! JSON Schemas before they are compiled: checked, with the place of each fault, and in one form.
//!
//! The compiler reads draft 2020-12 and some of what came before, follows references of one kind only, and ignores words
//! that it does not know. Here each word is one that is kept to, one that says nothing about values, or a fault.

use llguidance::derivre::RegexBuilder;
use serde_json::{Map, Value, json};

use super::{
    disjoint::are_disjoint,
    formats::{Format, SUPPORTED, lookup},
    pattern::from_javascript,
    refs::{child, resolve},
};

/// What is wrong with a schema, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) pointer: String,
    pub(super) message: String,
}

/// Schemas may be nested so deeply: the compiler recurses.
const MAX_DEPTH: usize = 64;
/// So many schemas may be in one.
const MAX_SCHEMAS: usize = 20_000;
/// The largest number that bounds the length of a string, a list or an object.
const MAX_COUNT: u64 = 100_000;
/// 2⁵³: whole numbers up to here are exact in every reader of JSON. Answers hold no number beyond, and no exponent, so
/// that no row of digits goes on without end.
const MAX_NUMBER: f64 = 9_007_199_254_740_992.0;
/// Multiples of a fraction go up to here, so that their fractions are exact, too.
const MAX_MULTIPLE: f64 = 1e9;

const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

/// Checks the part of `root` at the pointer `at`, and returns it in the compiler's form, by itself: references lead to
/// its own `$defs`. `closes_objects`: see `StructuredOutput::disable_additional_properties`.
pub(super) fn prepare(root: &Value, at: &str, closes_objects: bool) -> Result<Map<String, Value>, Problem> {
    let mut walk = Walk { root, closes_objects, targets: Vec::new(), num_schemas: 0 };
    let schema = root.pointer(at).unwrap_or(&Value::Null);
    let body = walk.schema(schema, at, 0)?;
    let mut definitions = Map::new();
    while let Some((pointer, target)) = walk.targets.get(definitions.len()).cloned() {
        walk.refuse_loop(&pointer, target)?;
        let name = definitions.len().to_string();
        definitions.insert(name, walk.schema(target, &pointer, 0)?);
    }
    let mut body = match body {
        Value::Object(map) => map,
        Value::Bool(true) => Map::new(),
        _ => return Err(problem(at, "`false` describes no value")),
    };
    if !definitions.is_empty() {
        body.insert("$defs".to_owned(), Value::Object(definitions));
    }
    Ok(body)
}

/// The parts of the schema at `pointer` that are schemas, by their pointers.
pub(super) fn parts(root: &Value, pointer: &str) -> Vec<String> {
    let Some(Value::Object(map)) = root.pointer(pointer) else { return Vec::new() };
    let of = |(key, value): (&String, &Value)| -> Vec<String> {
        let place = child(pointer, key);
        match (key.as_str(), value) {
            ("items" | "additionalItems" | "additionalProperties", Value::Object(_)) => vec![place],
            ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(map)) => {
                map.keys().map(|name| child(&place, name)).collect()
            }
            ("items" | "prefixItems" | "allOf" | "anyOf" | "oneOf", Value::Array(list)) => {
                (0..list.len()).map(|index| child(&place, &index.to_string())).collect()
            }
            _ => Vec::new(),
        }
    };
    map.iter().flat_map(of).collect()
}

struct Walk<'a> {
    root: &'a Value,
    closes_objects: bool,
    /// What references lead to; the place in the list is the name of the definition.
    targets: Vec<(String, &'a Value)>,
    num_schemas: usize,
}

/// A schema in the compiler's form while it is written.
#[derive(Default)]
struct Prepared {
    map: Map<String, Value>,
    /// Schemas that must hold besides.
    all_of: Vec<Value>,
}

/// A schema that is read, and where it is.
#[derive(Clone, Copy)]
struct Place<'a, 'p> {
    map: &'a Map<String, Value>,
    pointer: &'p str,
    depth: usize,
}

impl<'a> Walk<'a> {
    fn schema(&mut self, schema: &'a Value, pointer: &str, depth: usize) -> Result<Value, Problem> {
        self.num_schemas += 1;
        if depth > MAX_DEPTH {
            return Err(problem(pointer, format!("schemas may be nested {MAX_DEPTH} deep")));
        }
        if self.num_schemas > MAX_SCHEMAS {
            return Err(problem(pointer, format!("a schema may have {MAX_SCHEMAS} parts")));
        }
        let map = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(map) => map,
            _ => return Err(problem(pointer, "a schema is an object, `true` or `false`")),
        };
        let mut prepared = Prepared::default();
        for (key, value) in map {
            self.keyword((key, value), Place { map, pointer, depth }, &mut prepared)?;
        }
        if self.closes_objects && ["properties", "patternProperties"].iter().any(|key| map.contains_key(*key)) {
            prepared.map.entry("additionalProperties").or_insert(Value::Bool(false));
        }
        prepared.bound_numbers();
        Ok(prepared.finish())
    }

    /// One word of a schema. Words that say nothing about values are left out.
    fn keyword(
        &mut self,
        (key, value): (&'a str, &'a Value),
        place: Place<'a, '_>,
        out: &mut Prepared,
    ) -> Result<(), Problem> {
        let here = child(place.pointer, key);
        let value = match key {
            "items" if value.is_array() => return self.old_items(value, &here, place, out),
            "additionalItems" => return self.additional_items(value, &here, place, out),
            "items" | "additionalProperties" => self.schema(value, &here, place.depth + 1)?,
            "properties" | "patternProperties" => self.schemas_by_name(key, value, &here, place.depth)?,
            "prefixItems" | "allOf" | "anyOf" => self.list(value, &here, place.depth)?,
            "oneOf" => {
                let options = self.one_of(value, &here, place.depth)?;
                out.add("anyOf", options, place.map);
                return Ok(());
            }
            "$ref" => self.reference(value, &here)?,
            "format" => return format(value, &here, place.map, out),
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => bound(key, value, &here)?,
            "pattern" => {
                let text = value.as_str().ok_or_else(|| problem(&here, "must be a text"))?;
                Value::String(pattern(text, &here)?)
            }
            "uniqueItems" => return unique_items(value, &here, place.map),
            "minProperties" => min_properties(value, &here, place.map)?,
            _ => match plain(key, value, &here)? {
                Some(value) => value,
                None => return Ok(()),
            },
        };
        if key == "allOf" {
            out.all_of.extend(value.as_array().into_iter().flatten().cloned());
        } else {
            out.map.insert(key.to_owned(), value);
        }
        Ok(())
    }

    fn list(&mut self, value: &'a Value, here: &str, depth: usize) -> Result<Value, Problem> {
        let list = value.as_array().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| problem(here, "must be a list of at least one schema"))?;
        let items = list.iter().enumerate();
        items.map(|(index, item)| self.schema(item, &child(here, &index.to_string()), depth + 1)).collect()
    }

    fn schemas_by_name(&mut self, key: &str, value: &'a Value, here: &str, depth: usize) -> Result<Value, Problem> {
        let map = value.as_object().ok_or_else(|| problem(here, "must be an object of schemas"))?;
        let mut prepared = Map::new();
        for (name, schema) in map {
            let place = child(here, name);
            let is_pattern = key == "patternProperties";
            check_characters(name, &place)?;
            let name = if is_pattern { pattern(name, &place)? } else { name.clone() };
            prepared.insert(name, self.schema(schema, &place, depth + 1)?);
        }
        Ok(Value::Object(prepared))
    }

    fn one_of(&mut self, value: &'a Value, here: &str, depth: usize) -> Result<Value, Problem> {
        let options = self.list(value, here, depth)?;
        if are_disjoint(self.root, value.as_array().map_or(&[], Vec::as_slice)) {
            return Ok(options);
        }
        let message = "a value could fit several of these schemas, and that it fits exactly one cannot be enforced; \
                       use anyOf, or tell the schemas apart by type or by a required property with a const";
        Err(problem(here, message))
    }

    /// A list of schemas for the first items, as it was written before 2020-12.
    fn old_items(
        &mut self,
        value: &'a Value,
        here: &str,
        place: Place<'a, '_>,
        out: &mut Prepared,
    ) -> Result<(), Problem> {
        if place.map.contains_key("prefixItems") {
            return Err(problem(here, "must be one schema, as prefixItems has those of the first items"));
        }
        if value.as_array().is_some_and(|list| !list.is_empty()) {
            out.map.insert("prefixItems".to_owned(), self.list(value, here, place.depth)?);
        }
        Ok(())
    }

    /// The schema of the other items, as it was written before 2020-12: it means nothing beside a schema for all.
    fn additional_items(
        &mut self,
        value: &'a Value,
        here: &str,
        place: Place<'a, '_>,
        out: &mut Prepared,
    ) -> Result<(), Problem> {
        if place.map.get("items").is_some_and(Value::is_array) {
            out.map.insert("items".to_owned(), self.schema(value, here, place.depth + 1)?);
        }
        Ok(())
    }

    fn reference(&mut self, value: &'a Value, here: &str) -> Result<Value, Problem> {
        let reference = value.as_str().ok_or_else(|| problem(here, "must be a text"))?;
        let Some((pointer, target)) = resolve(self.root, reference) else {
            let message =
                format!("`{reference}` is not in this schema; references to other documents are not followed");
            return Err(problem(here, message));
        };
        let known = self.targets.iter().position(|(known, _)| *known == pointer);
        let index = known.unwrap_or(self.targets.len());
        if known.is_none() {
            self.targets.push((pointer, target));
        }
        Ok(Value::String(format!("#/$defs/{index}")))
    }

    /// Refuses a schema that is defined as itself.
    fn refuse_loop(&self, pointer: &str, target: &'a Value) -> Result<(), Problem> {
        let (mut open, mut seen) = (vec![target], Vec::new());
        while let Some(schema) = open.pop() {
            let lists = ["allOf", "anyOf", "oneOf"].iter().filter_map(|key| schema.get(key)?.as_array());
            open.extend(lists.flatten());
            let reference = schema.get("$ref").and_then(Value::as_str);
            let Some((next, schema)) = reference.and_then(|reference| resolve(self.root, reference)) else { continue };
            if next == pointer {
                return Err(problem(pointer, "the references lead back here, and describe nothing on the way"));
            }
            if !seen.contains(&next) {
                open.push(schema);
                seen.push(next);
            }
        }
        Ok(())
    }
}

impl Prepared {
    /// Adds what `key` says, besides what the schema itself may say with the same word.
    fn add(&mut self, key: &str, value: Value, source: &Map<String, Value>) {
        if source.contains_key(key) {
            self.all_of.push(json!({ key: value }));
        } else {
            self.map.insert(key.to_owned(), value);
        }
    }

    /// Gives numbers bounds where they have none.
    fn bound_numbers(&mut self) {
        let numbers = ["number", "integer"];
        let is_number = |kind: &Value| kind.as_str().is_some_and(|kind| numbers.contains(&kind));
        let says = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
        let concerns_numbers = match self.map.get("type") {
            Some(Value::Array(kinds)) => kinds.iter().any(is_number),
            Some(kind) => is_number(kind),
            None => says.iter().any(|key| self.map.contains_key(*key)),
        };
        if !concerns_numbers {
            return;
        }
        let multiple = self.map.get("multipleOf").and_then(Value::as_f64);
        let limit = if multiple.is_some_and(|of| of.fract() != 0.0) { MAX_MULTIPLE } else { MAX_NUMBER };
        for (bound, other, value) in [("minimum", "exclusiveMinimum", -limit), ("maximum", "exclusiveMaximum", limit)] {
            if !self.map.get(other).is_some_and(Value::is_number) {
                self.map.entry(bound).or_insert(json!(value));
            }
        }
    }

    fn finish(mut self) -> Value {
        if !self.all_of.is_empty() {
            self.map.insert("allOf".to_owned(), Value::Array(self.all_of));
        }
        Value::Object(self.map)
    }
}

/// Words that hold no schema.
fn plain(key: &str, value: &Value, here: &str) -> Result<Option<Value>, Problem> {
    match key {
        "type" => check_type(value, here)?,
        "enum" => check_enum(value, here)?,
        "const" => check_constant(value, here, 0)?,
        "required" => check_names(value, here)?,
        "multipleOf" => check_multiple(value, here)?,
        "minLength" | "maxLength" | "minItems" | "maxItems" | "maxProperties" => _ = count(value, here)?,
        "not"
        | "if"
        | "then"
        | "else"
        | "contains"
        | "minContains"
        | "maxContains"
        | "propertyNames"
        | "dependencies"
        | "dependentRequired"
        | "dependentSchemas"
        | "unevaluatedItems"
        | "unevaluatedProperties"
        | "$dynamicRef"
        | "$recursiveRef" => return Err(problem(here, format!("`{key}` is not supported"))),
        _ => return Ok(None),
    }
    Ok(Some(value.clone()))
}

fn problem(pointer: &str, message: impl Into<String>) -> Problem {
    Problem { pointer: pointer.to_owned(), message: message.into() }
}

fn check_type(value: &Value, here: &str) -> Result<(), Problem> {
    let names = match value {
        Value::Array(names) if !names.is_empty() => names.as_slice(),
        name => std::slice::from_ref(name),
    };
    match names.iter().find(|name| !name.as_str().is_some_and(|name| TYPES.contains(&name))) {
        Some(name) => Err(problem(here, format!("{name} is not a type; the types are {}", TYPES.join(", ")))),
        None => Ok(()),
    }
}

fn check_enum(value: &Value, here: &str) -> Result<(), Problem> {
    let values = value.as_array().filter(|values| !values.is_empty());
    let values = values.ok_or_else(|| problem(here, "must be a list of at least one value"))?;
    values.iter().enumerate().try_for_each(|(index, value)| check_constant(value, &child(here, &index.to_string()), 0))
}

fn check_constant(value: &Value, here: &str, depth: usize) -> Result<(), Problem> {
    if depth > MAX_DEPTH {
        return Err(problem(here, format!("values may be nested {MAX_DEPTH} deep")));
    }
    match value {
        Value::Number(_) => check_number(value, here),
        Value::String(text) => check_characters(text, here),
        Value::Array(items) => items.iter().try_for_each(|item| check_constant(item, here, depth + 1)),
        Value::Object(map) => map.iter().try_for_each(|(name, value)| {
            check_characters(name, here)?;
            check_constant(value, here, depth + 1)
        }),
        Value::Null | Value::Bool(_) => Ok(()),
    }
}

/// Answers write no `\u`: with it, a name would have many forms, and could be given twice with different values.
fn check_characters(text: &str, here: &str) -> Result<(), Problem> {
    let allowed = ['\u{8}', '\t', '\n', '\u{C}', '\r'];
    match text.chars().find(|c| c.is_ascii_control() && !allowed.contains(c)) {
        Some(c) => Err(problem(here, format!("the control character {c:?} is not supported"))),
        None => Ok(()),
    }
}

fn check_names(value: &Value, here: &str) -> Result<(), Problem> {
    let names = value.as_array().filter(|names| names.iter().all(Value::is_string));
    let names = names.ok_or_else(|| problem(here, "must be a list of texts"))?;
    names.iter().filter_map(Value::as_str).try_for_each(|name| check_characters(name, here))
}

fn check_number(value: &Value, here: &str) -> Result<(), Problem> {
    match value.as_f64() {
        Some(number) if number.abs() <= MAX_NUMBER => Ok(()),
        Some(_) => Err(problem(here, format!("numbers beyond {MAX_NUMBER} are not supported"))),
        None => Err(problem(here, "must be a number")),
    }
}

/// A bound, no wider than numbers are at all.
fn bound(key: &str, value: &Value, here: &str) -> Result<Value, Problem> {
    let is_least = key.ends_with("inimum");
    match value.as_f64() {
        // Draft 4's form: the bound itself is excluded.
        None if value.is_boolean() && key.starts_with("exclusive") => Ok(value.clone()),
        None => Err(problem(here, "must be a number")),
        Some(bound) if is_least && bound < -MAX_NUMBER => Ok(json!(-MAX_NUMBER)),
        Some(bound) if !is_least && bound > MAX_NUMBER => Ok(json!(MAX_NUMBER)),
        Some(bound) if bound.abs() > MAX_NUMBER => {
            Err(problem(here, format!("numbers beyond {MAX_NUMBER} are not supported")))
        }
        Some(_) => Ok(value.clone()),
    }
}

fn check_multiple(value: &Value, here: &str) -> Result<(), Problem> {
    check_number(value, here)?;
    match value.as_f64() {
        Some(number) if number > 0.0 => Ok(()),
        _ => Err(problem(here, "must be above 0")),
    }
}

fn count(value: &Value, here: &str) -> Result<u64, Problem> {
    let whole = value.as_u64().or_else(|| value.as_f64().filter(|x| *x >= 0.0 && x.fract() == 0.0).map(|x| x as u64));
    match whole {
        Some(count) if count <= MAX_COUNT => Ok(count),
        _ => Err(problem(here, format!("must be a whole number from 0 to {MAX_COUNT}"))),
    }
}

fn pattern(pattern: &str, here: &str) -> Result<String, Problem> {
    let pattern = from_javascript(pattern);
    match RegexBuilder::new().mk_regex_for_serach(&pattern) {
        Ok(_) => Ok(pattern),
        Err(error) => Err(problem(here, format!("the regular expression is not supported: {error}"))),
    }
}

/// A name could be given twice, so that free properties are no more than one for certain.
fn min_properties(value: &Value, here: &str, map: &Map<String, Value>) -> Result<Value, Problem> {
    let required = map.get("required").and_then(Value::as_array).map_or(0, Vec::len) as u64;
    if count(value, here)? > required + 1 {
        return Err(problem(here, "may exceed the number of required properties by 1 at most"));
    }
    Ok(value.clone())
}

fn unique_items(value: &Value, here: &str, map: &Map<String, Value>) -> Result<(), Problem> {
    let short = map.get("maxItems").and_then(Value::as_u64).is_some_and(|max| max <= 1);
    match value.as_bool() {
        Some(false) => Ok(()),
        Some(true) if short => Ok(()),
        Some(true) => Err(problem(here, "that items differ cannot be enforced")),
        None => Err(problem(here, "must be true or false")),
    }
}

fn format(value: &Value, here: &str, map: &Map<String, Value>, out: &mut Prepared) -> Result<(), Problem> {
    let name = value.as_str().ok_or_else(|| problem(here, "must be a text"))?;
    let is_text =
        |kind: &Value| kind == "string" || kind.as_array().is_some_and(|kinds| kinds.contains(&json!("string")));
    if !map.get("type").is_none_or(is_text) {
        return Ok(());
    }
    match lookup(name) {
        Format::Known => _ = out.map.insert("format".to_owned(), value.clone()),
        Format::Patterns(patterns) => out.all_of.extend(patterns.iter().map(|pattern| json!({ "pattern": pattern }))),
        Format::Free => {}
        Format::Unknown => {
            return Err(problem(here, format!("the format `{name}` is not supported; supported: {SUPPORTED}")));
        }
    }
    Ok(())
}
