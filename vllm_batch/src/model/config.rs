//! Reading a configuration so that nothing in it is overlooked.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::error::LoadError;

/// A configuration as key-value pairs that remembers which keys were read. After everything known was read,
/// [`finish`](Self::finish) refuses what is left: a key that nobody understands may change the results.
pub(super) struct Config<'a> {
    /// Where the values come from: prefix of keys in error messages.
    prefix: &'static str,
    values: &'a Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Config<'a> {
    pub(super) fn new(prefix: &'static str, values: &'a Map<String, Value>) -> Self {
        Self { prefix, values, read: RefCell::default() }
    }

    /// The value of a key, unless it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(key.to_owned());
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there, be it null.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    pub(super) fn string(&self, key: &str) -> Result<String, LoadError> {
        self.required(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn size(&self, key: &str) -> Result<usize, LoadError> {
        self.required(key, "a whole number", as_size)
    }

    pub(super) fn number(&self, key: &str) -> Result<f64, LoadError> {
        self.required(key, "a number", Value::as_f64)
    }

    pub(super) fn size_or(&self, key: &str, default: usize) -> Result<usize, LoadError> {
        self.optional_size(key).map(|value| value.unwrap_or(default))
    }

    pub(super) fn number_or(&self, key: &str, default: f64) -> Result<f64, LoadError> {
        self.optional_number(key).map(|value| value.unwrap_or(default))
    }

    pub(super) fn flag_or(&self, key: &str, default: bool) -> Result<bool, LoadError> {
        self.optional(key, "true or false", Value::as_bool).map(|value| value.unwrap_or(default))
    }

    /// The number of layers, within what can be loaded at all: a broken file must not take memory.
    pub(super) fn num_layers(&self, key: &str) -> Result<usize, LoadError> {
        const MOST: usize = 1024;
        let count = self.size(key)?;
        if (1..=MOST).contains(&count) {
            return Ok(count);
        }
        Err(self.broken(key, format!("{count} is not between 1 and {MOST}")))
    }

    pub(super) fn sizes(&self, key: &str) -> Result<Option<Vec<usize>>, LoadError> {
        self.optional(key, "a list of whole numbers", |value| list(value, as_size))
    }

    pub(super) fn numbers(&self, key: &str) -> Result<Vec<f64>, LoadError> {
        self.required(key, "a list of numbers", |value| list(value, Value::as_f64))
    }

    pub(super) fn strings(&self, key: &str) -> Result<Option<Vec<&'a str>>, LoadError> {
        self.optional(key, "a list of strings", |value| list(value, Value::as_str))
    }

    pub(super) fn optional_size(&self, key: &str) -> Result<Option<usize>, LoadError> {
        self.optional(key, "a whole number", as_size)
    }

    pub(super) fn optional_number(&self, key: &str) -> Result<Option<f64>, LoadError> {
        self.optional(key, "a number", Value::as_f64)
    }

    /// A nested configuration, if there is one.
    pub(super) fn object(&self, key: &str, prefix: &'static str) -> Result<Option<Config<'a>>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(values)) => Ok(Some(Config::new(prefix, values))),
            Some(other) => Err(self.unusable(key, "an object", other)),
        }
    }

    /// Refuses a value other than `expected`; an absent key is fine.
    pub(super) fn only(&self, key: &str, expected: &Value) -> Result<(), LoadError> {
        match self.get(key) {
            Some(value) if value != expected => Err(self.unsupported(key, format!("{value}; only {expected} is"))),
            _ => Ok(()),
        }
    }

    /// Marks keys that do not change what the decoder computes.
    pub(super) fn without_effect(&self, keys: &[&str]) {
        self.read.borrow_mut().extend(keys.iter().map(|key| (*key).to_owned()));
    }

    /// Refuses keys that nobody read, unless their value is null or false: new switches are off in older models.
    pub(super) fn finish(&self) -> Result<(), LoadError> {
        let read = self.read.borrow();
        let is_off = |value: &Value| matches!(value, Value::Null | Value::Bool(false));
        match self.values.iter().find(|(key, value)| !read.contains(*key) && !is_off(value)) {
            Some((key, value)) => Err(self.unsupported(key, format!("{value}; the key is not known"))),
            None => Ok(()),
        }
    }

    pub(super) fn unsupported(&self, key: &str, message: String) -> LoadError {
        LoadError::UnsupportedConfig { key: format!("{}{key}", self.prefix), message }
    }

    pub(super) fn broken(&self, key: &str, message: String) -> LoadError {
        LoadError::BrokenConfig { key: format!("{}{key}", self.prefix), message }
    }

    fn required<T>(&self, key: &str, wanted: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<T, LoadError> {
        self.optional(key, wanted, read)?.ok_or_else(|| self.broken(key, format!("it is missing; {wanted} is needed")))
    }

    fn optional<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.unusable(key, wanted, value)),
        }
    }

    fn unusable(&self, key: &str, wanted: &str, found: &Value) -> LoadError {
        let mut found = found.to_string();
        if found.len() > 80 {
            found = found.chars().take(80).chain("…".chars()).collect();
        }
        self.broken(key, format!("{wanted} is needed, not {found}"))
    }
}

fn list<'a, T>(value: &'a Value, read: impl Fn(&'a Value) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(read).collect()
}

fn as_size(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|value| usize::try_from(value).ok())
}
