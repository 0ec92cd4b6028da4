//! The values of single parameters.

use std::collections::BTreeMap;

use serde_json::Value;

use super::json::{
    boolean, integer, list, nothing_else, number, object, optional, string, token_ids, unsigned, wrong_type,
};
use crate::error::RequestError;
use crate::request::RepetitionDetection;

type Result<T> = std::result::Result<T, RequestError>;

/// The most tokens in a place whose log-probabilities go into a row.
const MAX_LOGPROBS: i64 = 20;

pub(super) fn at_least_one(value: &Value, param: &str) -> Result<u32> {
    integer(value, param, 1..=i64::from(u32::MAX)).map(|number| number as u32)
}

/// vLLM lets -1 as well as 0 stand for "all".
pub(super) fn top_k(value: &Value, param: &str) -> Result<u32> {
    integer(value, param, -1..=i64::from(u32::MAX)).map(|number| number.max(0) as u32)
}

pub(super) fn priority(value: &Value, param: &str) -> Result<i32> {
    integer(value, param, i64::from(i32::MIN)..=i64::from(i32::MAX)).map(|number| number as i32)
}

pub(super) fn num_logprobs(value: &Value, param: &str) -> Result<i32> {
    integer(value, param, 0..=MAX_LOGPROBS).map(|number| number as i32)
}

pub(super) fn truncation(value: &Value, param: &str) -> Result<i32> {
    integer(value, param, -1..=i64::from(i32::MAX)).map(|number| number as i32)
}

/// Any 64-bit integer, with or without sign: its bits are the seed.
pub(super) fn seed(value: &Value, param: &str) -> Result<u64> {
    match value.as_u64() {
        Some(seed) => Ok(seed),
        None => integer(value, param, i64::MIN..=i64::MAX).map(|number| number as u64),
    }
}

pub(super) fn stop(value: Value, param: &str) -> Result<Vec<String>> {
    match value {
        Value::String(text) => Ok(vec![text]),
        Value::Array(_) => list(value, param, string),
        other => Err(wrong_type(param, "a string or an array of strings", &other)),
    }
}

pub(super) fn strings(value: Value, param: &str) -> Result<Vec<String>> {
    list(value, param, string)
}

pub(super) fn ids(value: &Value, param: &str) -> Result<Vec<u32>> {
    match value {
        Value::Array(items) => token_ids(items, param),
        other => Err(wrong_type(param, "an array of token ids", other)),
    }
}

/// Token ids, as JSON's names must be, as text.
pub(super) fn logit_bias(value: Value, param: &str) -> Result<BTreeMap<u32, f32>> {
    let bias = |(name, bias): (String, Value)| {
        let param = format!("{param}.{name}");
        match name.parse::<u32>() {
            Ok(id) => Ok((id, number(&bias, &param)?)),
            Err(_) => Err(RequestError::invalid(param, "expected a token id as the name")),
        }
    };
    object(value, param)?.into_iter().map(bias).collect()
}

pub(super) fn repetition_detection(value: Value, param: &str) -> Result<RepetitionDetection> {
    let mut fields = object(value, param)?;
    let mut count = |name: &str| match optional(&mut fields, name) {
        Some(value) => unsigned(&value, &format!("{param}.{name}")),
        None => Ok(0),
    };
    let (max, min) = (count("max_pattern_size")?, count("min_pattern_size")?);
    let detection = RepetitionDetection::new(max, count("min_count")?).with_min_pattern_size(min);
    nothing_else(&fields, param)?;
    Ok(detection)
}

/// Texts to answer out of, as the template wants them.
pub(super) fn documents(value: Value, param: &str) -> Result<Option<Vec<Value>>> {
    list(value, param, |item, param| object(item, param).map(Value::Object)).map(Some)
}

/// The most tokens of thoughts; -1 stands for no limit.
pub(super) fn thinking_budget(value: &Value, param: &str) -> Result<Option<u32>> {
    integer(value, param, -1..=i64::from(u32::MAX)).map(|number| u32::try_from(number).ok())
}

/// How hard the model is to think, in the words of OpenAI and vLLM.
pub(super) fn reasoning_effort(value: Value, param: &str) -> Result<String> {
    const WORDS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
    let word = string(value, param)?;
    if !WORDS.contains(&word.as_str()) {
        return Err(RequestError::invalid(param, format!("expected {}, found `{word}`", WORDS.join(", "))));
    }
    Ok(word)
}

/// A boolean that may be absent.
pub(super) fn choice(value: &Value, param: &str) -> Result<Option<bool>> {
    boolean(value, param).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn seeds_keep_their_bits() {
        let cases = [
            (json!(7), Ok(7)),
            (json!(-1), Ok(u64::MAX)),
            (json!(u64::MAX), Ok(u64::MAX)),
            (json!(i64::MIN), Ok(1 << 63)),
            (json!(3.0), Ok(3)),
            (json!("7"), Err(Some("seed"))),
        ];
        for (value, expected) in cases {
            let found = seed(&value, "seed");
            assert_eq!(found.as_ref().map(|seed| *seed).map_err(RequestError::param), expected, "{value}");
        }
    }
}
