//! JSON, with what a parser for values passes over.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::super::Diagnostic;
use super::super::diagnostic::escape;

/// Objects and lists within each other, at most.
pub(super) const MAX_DEPTH: usize = 64;

/// A document as a value, and the keys that an object has twice (of which the value has the last).
pub(super) fn parse(text: &str) -> Result<(Value, Vec<Diagnostic>), Diagnostic> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let seen = Seen::default();
    let value = Strict::new(&seen).deserialize(&mut deserializer);
    let value = value.and_then(|value| deserializer.end().map(|()| value));
    match (value, seen.too_deep.into_inner()) {
        (_, Some(path)) => Err(too_deep(path)),
        (value, None) => Ok((value.map_err(|error| invalid(text, &error))?, seen.twice.into_inner())),
    }
}

/// As [`parse`], from anything that can be deserialized.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(Value, Vec<Diagnostic>), D::Error> {
    let seen = Seen::default();
    let value = Strict::new(&seen).deserialize(deserializer)?;
    Ok((value, seen.twice.into_inner()))
}

/// What a document that has too much within each other is told.
pub(super) fn too_deep(path: String) -> Diagnostic {
    Diagnostic::error("too_deep", path, format!("more than {MAX_DEPTH} objects and lists are within each other"))
}

fn invalid(text: &str, error: &serde_json::Error) -> Diagnostic {
    if text.trim().is_empty() {
        return Diagnostic::error("invalid_json", "", "the document is empty");
    }
    Diagnostic::error("invalid_json", "", format!("this is not JSON: {error}"))
}

/// What was seen besides values.
#[derive(Default)]
struct Seen {
    /// Keys that are there twice.
    twice: RefCell<Vec<Diagnostic>>,
    /// Where there is too much within each other.
    too_deep: RefCell<Option<String>>,
}

/// A step from the root, and those before it: written as a pointer only where something is wrong.
struct Step<'p> {
    before: Option<&'p Step<'p>>,
    key: Key<'p>,
}

enum Key<'p> {
    Name(&'p str),
    Index(usize),
}

impl Step<'_> {
    fn pointer(&self) -> String {
        let before = self.before.map(Step::pointer).unwrap_or_default();
        match self.key {
            Key::Name(name) => format!("{before}/{}", escape(name)),
            Key::Index(index) => format!("{before}/{index}"),
        }
    }
}

struct Strict<'p> {
    at: Option<&'p Step<'p>>,
    depth: usize,
    seen: &'p Seen,
}

impl<'p> Strict<'p> {
    fn new(seen: &'p Seen) -> Self {
        Self { at: None, depth: 0, seen }
    }

    fn check_depth<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.depth < MAX_DEPTH {
            return Ok(());
        }
        *self.seen.too_deep.borrow_mut() = Some(self.at.map(Step::pointer).unwrap_or_default());
        Err(E::custom(format_args!("more than {MAX_DEPTH} objects and lists within each other")))
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut list = Vec::new();
        loop {
            let step = Step { before: self.at, key: Key::Index(list.len()) };
            let below = Strict { at: Some(&step), depth: self.depth + 1, seen: self.seen };
            match items.next_element_seed(below)? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut object = Map::new();
        let mut twice = HashSet::new();
        while let Some(key) = members.next_key::<String>()? {
            let step = Step { before: self.at, key: Key::Name(&key) };
            if object.contains_key(&key) && twice.insert(key.clone()) {
                let message = format!("the object has the key {key:?} more than once");
                self.seen.twice.borrow_mut().push(Diagnostic::error("duplicate_key", step.pointer(), message));
            }
            let below = Strict { at: Some(&step), depth: self.depth + 1, seen: self.seen };
            let value = members.next_value_seed(below)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// Whether a value that was not parsed here has too much within each other.
pub(super) fn is_too_deep(value: &Value) -> bool {
    fn deeper_than(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left == 0 || items.iter().any(|item| deeper_than(item, left - 1)),
            Value::Object(members) => left == 0 || members.values().any(|member| deeper_than(member, left - 1)),
            _ => false,
        }
    }
    deeper_than(value, MAX_DEPTH)
}
