//! Typed values out of JSON, with errors that name the path and what was expected.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::RequestError;

type Result<T> = std::result::Result<T, RequestError>;

/// What a value is, for people.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(text) if text.is_empty() => "an empty string",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

pub(super) fn wrong_type(param: &str, expected: &str, found: &Value) -> RequestError {
    RequestError::invalid(param, format!("expected {expected}, found {}", kind(found)))
}

pub(super) fn unsupported(param: &str, message: &str) -> RequestError {
    RequestError::UnsupportedParam { param: param.to_owned(), message: message.to_owned() }
}

pub(super) fn object(value: Value, param: &str) -> Result<Map<String, Value>> {
    match value {
        Value::Object(fields) => Ok(fields),
        other => Err(wrong_type(param, "an object", &other)),
    }
}

/// Takes a field out that may be there. `null` counts as absent.
pub(super) fn optional(fields: &mut Map<String, Value>, name: &str) -> Option<Value> {
    fields.remove(name).filter(|value| !value.is_null())
}

/// Takes a field out that must be there. `null` counts as absent.
pub(super) fn field(fields: &mut Map<String, Value>, param: &str, name: &str) -> Result<Value> {
    optional(fields, name).ok_or_else(|| RequestError::MissingParam { param: format!("{param}.{name}") })
}

/// Refuses the first, by name, of the fields that are left, if it is not null.
pub(super) fn nothing_else(fields: &Map<String, Value>, param: &str) -> Result<()> {
    match fields.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name).min() {
        Some(name) => Err(unsupported(&format!("{param}.{name}"), "it is unknown here")),
        None => Ok(()),
    }
}

pub(super) fn string(value: Value, param: &str) -> Result<String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(param, "a string", &other)),
    }
}

pub(super) fn boolean(value: &Value, param: &str) -> Result<bool> {
    value.as_bool().ok_or_else(|| wrong_type(param, "a boolean", value))
}

pub(super) fn number(value: &Value, param: &str) -> Result<f32> {
    value.as_f64().map(|number| number as f32).ok_or_else(|| wrong_type(param, "a number", value))
}

/// A whole number. `16.0` counts as one: tables with gaps turn whole numbers into such.
pub(super) fn integer(value: &Value, param: &str, range: RangeInclusive<i64>) -> Result<i64> {
    let expected = || format!("an integer from {} to {}", range.start(), range.end());
    let Value::Number(number) = value else {
        return Err(wrong_type(param, &expected(), value));
    };
    let whole = number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15);
        float.map(|float| float as i64)
    });
    match whole.filter(|whole| range.contains(whole)) {
        Some(whole) => Ok(whole),
        None => Err(RequestError::invalid(param, format!("expected {}, found {number}", expected()))),
    }
}

/// A count of tokens, or a token id.
pub(super) fn unsigned(value: &Value, param: &str) -> Result<u32> {
    integer(value, param, 0..=i64::from(u32::MAX)).map(|number| number as u32)
}

/// A list, each item read with the path of its own.
pub(super) fn list<T>(value: Value, param: &str, read: impl Fn(Value, &str) -> Result<T>) -> Result<Vec<T>> {
    let Value::Array(items) = value else {
        return Err(wrong_type(param, "an array", &value));
    };
    items.into_iter().enumerate().map(|(index, item)| read(item, &format!("{param}[{index}]"))).collect()
}

/// A list of token ids. Paths are only made for an error: prompts can be long.
pub(super) fn token_ids(items: &[Value], param: &str) -> Result<Vec<u32>> {
    let id = |(index, item): (usize, &Value)| match item.as_u64().and_then(|id| u32::try_from(id).ok()) {
        Some(id) => Ok(id),
        None => unsigned(item, &format!("{param}[{index}]")),
    };
    items.iter().enumerate().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whole_numbers_and_their_limits() {
        let wrong = |message: &str| Err(RequestError::invalid("p", message));
        let cases = [
            (json!(3), Ok(3)),
            (json!(-1), Ok(-1)),
            (json!(16.0), Ok(16)),
            (json!(16.5), wrong("expected an integer from -1 to 20, found 16.5")),
            (json!(21), wrong("expected an integer from -1 to 20, found 21")),
            (json!(u64::MAX), wrong("expected an integer from -1 to 20, found 18446744073709551615")),
            (json!(1e300), wrong("expected an integer from -1 to 20, found 1e+300")),
            (json!("3"), wrong("expected an integer from -1 to 20, found a string")),
            (json!(true), wrong("expected an integer from -1 to 20, found a boolean")),
        ];
        for (value, expected) in cases {
            assert_eq!(integer(&value, "p", -1..=20), expected, "{value}");
        }
    }
}
