//! Which parameters of a request body are honoured, and which are refused?
//!
//! Nothing is ignored silently: a parameter that is not implemented is accepted only at the values that switch it off.

use serde_json::Value;

use super::Endpoint;
use super::json::{boolean, integer, list, number, string, token_ids, unsigned, wrong_type};
use crate::error::RequestError;
use crate::request::SamplingParams;

/// What the parameters of one body come to.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) sampling: SamplingParams,
    pub(super) max_completion_tokens: Option<u32>,
    pub(super) priority: i32,
}

impl Draft {
    /// Takes one parameter over.
    pub(super) fn set(&mut self, endpoint: Endpoint, name: &str, value: Value) -> Result<(), RequestError> {
        if value.is_null() {
            return Ok(());
        }
        let is_meant = |param: &&Param| param.name == name && param.endpoint.is_none_or(|only| only == endpoint);
        match PARAMS.iter().find(is_meant).map(|param| &param.rule) {
            Some(Rule::Read(read)) => read(self, value, name),
            Some(Rule::NoEffect) => Ok(()),
            Some(Rule::Off(values)) if values.iter().any(|off| is_equal(off, &value)) => Ok(()),
            Some(Rule::Off(values)) => Err(unsupported(name, &only(values))),
            None => Err(unsupported(name, &format!("it is unknown to {}", endpoint.url()))),
        }
    }
}

enum Rule {
    /// Read into the draft.
    Read(fn(&mut Draft, Value, &str) -> Result<(), RequestError>),
    /// Not implemented: accepted only when absent, null or one of these values (JSON), which ask for nothing.
    Off(&'static [&'static str]),
    /// Says nothing about the answer: accepted at any value.
    NoEffect,
}

struct Param {
    name: &'static str,
    /// The only endpoint that it belongs to.
    endpoint: Option<Endpoint>,
    rule: Rule,
}

const fn read(name: &'static str, read: fn(&mut Draft, Value, &str) -> Result<(), RequestError>) -> Param {
    Param { name, endpoint: None, rule: Rule::Read(read) }
}

const fn off(name: &'static str, values: &'static [&'static str]) -> Param {
    Param { name, endpoint: None, rule: Rule::Off(values) }
}

const fn no_effect(name: &'static str) -> Param {
    Param { name, endpoint: None, rule: Rule::NoEffect }
}

const fn chat(param: Param) -> Param {
    Param { endpoint: Some(Endpoint::ChatCompletions), ..param }
}

const fn completions(param: Param) -> Param {
    Param { endpoint: Some(Endpoint::Completions), ..param }
}

/// Every parameter of OpenAI's and vLLM's two endpoints besides `model`, `messages` and `prompt`.
static PARAMS: &[Param] = &[
    read("temperature", |draft, value, name| put(&mut draft.sampling.temperature, number(&value, name))),
    read("top_p", |draft, value, name| put(&mut draft.sampling.top_p, number(&value, name))),
    read("top_k", |draft, value, name| put(&mut draft.sampling.top_k, top_k(&value, name))),
    read("min_p", |draft, value, name| put(&mut draft.sampling.min_p, number(&value, name))),
    read("seed", |draft, value, name| put(&mut draft.sampling.seed, seed(&value, name).map(Some))),
    read("max_tokens", |draft, value, name| put(&mut draft.sampling.max_tokens, at_least_one(&value, name).map(Some))),
    chat(read("max_completion_tokens", |draft, value, name| {
        put(&mut draft.max_completion_tokens, at_least_one(&value, name).map(Some))
    })),
    read("min_tokens", |draft, value, name| put(&mut draft.sampling.min_tokens, unsigned(&value, name))),
    read("stop", |draft, value, name| put(&mut draft.sampling.stop, stop(value, name))),
    read("stop_token_ids", |draft, value, name| put(&mut draft.sampling.stop_token_ids, ids(&value, name))),
    read("ignore_eos", |draft, value, name| put(&mut draft.sampling.ignore_eos, boolean(&value, name))),
    read("skip_special_tokens", |draft, value, name| {
        put(&mut draft.sampling.skip_special_tokens, boolean(&value, name))
    }),
    read("priority", |draft, value, name| put(&mut draft.priority, priority(&value, name))),
    // Who asks, how it is billed, where it is kept.
    no_effect("user"),
    no_effect("metadata"),
    no_effect("store"),
    no_effect("safety_identifier"),
    no_effect("prompt_cache_key"),
    no_effect("service_tier"),
    // How many answers, and in which form.
    off("n", &["1"]),
    completions(off("best_of", &["1"])),
    off("stream", &["false"]),
    off("stream_options", &[]),
    off("echo", &["false"]),
    completions(off("suffix", &["\"\""])),
    off("logprobs", &["false"]),
    off("top_logprobs", &["0"]),
    off("prompt_logprobs", &[]),
    off("return_token_ids", &["false"]),
    off("return_tokens_as_token_ids", &["false"]),
    off("include_stop_str_in_output", &["false"]),
    off("spaces_between_special_tokens", &["true"]),
    off("request_id", &[]),
    // What changes the probabilities.
    off("presence_penalty", &["0"]),
    off("frequency_penalty", &["0"]),
    off("repetition_penalty", &["1"]),
    off("logit_bias", &["{}"]),
    off("allowed_token_ids", &[]),
    off("bad_words", &["[]"]),
    off("logits_processors", &["[]"]),
    off("repetition_detection", &[]),
    off("use_beam_search", &["false"]),
    off("length_penalty", &["1"]),
    // What the answer must look like.
    off("response_format", &[r#"{"type":"text"}"#]),
    off("structured_outputs", &[]),
    off("guided_json", &[]),
    off("guided_regex", &[]),
    off("guided_choice", &[]),
    off("guided_grammar", &[]),
    chat(off("tools", &["[]"])),
    chat(off("tool_choice", &["\"none\"", "\"auto\""])),
    chat(off("parallel_tool_calls", &["true", "false"])),
    chat(off("functions", &["[]"])),
    chat(off("function_call", &["\"none\"", "\"auto\""])),
    chat(off("modalities", &[r#"["text"]"#])),
    chat(off("audio", &[])),
    chat(off("prediction", &[])),
    chat(off("verbosity", &[])),
    chat(off("web_search_options", &[])),
    chat(off("moderation", &[])),
    // How the model thinks.
    chat(off("reasoning_effort", &[])),
    chat(off("include_reasoning", &["true"])),
    chat(off("thinking_token_budget", &["-1"])),
    // How the prompt is made.
    off("truncate_prompt_tokens", &[]),
    chat(off("add_special_tokens", &["false"])),
    completions(off("add_special_tokens", &["true"])),
    completions(off("prompt_embeds", &[])),
    chat(off("add_generation_prompt", &["true"])),
    chat(off("continue_final_message", &["false"])),
    chat(off("documents", &["[]"])),
    chat(off("chat_template", &[])),
    chat(off("chat_template_kwargs", &["{}"])),
    chat(off("mm_processor_kwargs", &["{}"])),
    // How an engine is driven.
    off("cache_salt", &[]),
    off("kv_transfer_params", &["{}"]),
    off("vllm_xargs", &["{}"]),
];

fn put<T>(place: &mut T, value: Result<T, RequestError>) -> Result<(), RequestError> {
    *place = value?;
    Ok(())
}

fn at_least_one(value: &Value, param: &str) -> Result<u32, RequestError> {
    integer(value, param, 1..=i64::from(u32::MAX)).map(|number| number as u32)
}

/// vLLM lets -1 as well as 0 stand for "all".
fn top_k(value: &Value, param: &str) -> Result<u32, RequestError> {
    integer(value, param, -1..=i64::from(u32::MAX)).map(|number| number.max(0) as u32)
}

fn priority(value: &Value, param: &str) -> Result<i32, RequestError> {
    integer(value, param, i64::from(i32::MIN)..=i64::from(i32::MAX)).map(|number| number as i32)
}

/// Any 64-bit integer, with or without sign: its bits are the seed.
fn seed(value: &Value, param: &str) -> Result<u64, RequestError> {
    match value.as_u64() {
        Some(seed) => Ok(seed),
        None => integer(value, param, i64::MIN..=i64::MAX).map(|number| number as u64),
    }
}

fn stop(value: Value, param: &str) -> Result<Vec<String>, RequestError> {
    match value {
        Value::String(text) => Ok(vec![text]),
        Value::Array(_) => list(value, param, string),
        other => Err(wrong_type(param, "a string or an array of strings", &other)),
    }
}

fn ids(value: &Value, param: &str) -> Result<Vec<u32>, RequestError> {
    match value {
        Value::Array(items) => token_ids(items, param),
        other => Err(wrong_type(param, "an array of token ids", other)),
    }
}

/// Numbers are compared by value: 1 and 1.0 ask for the same.
fn is_equal(off: &str, value: &Value) -> bool {
    match serde_json::from_str::<Value>(off) {
        Ok(Value::Number(off)) => value.as_f64() == off.as_f64(),
        Ok(off) => off == *value,
        Err(_) => false,
    }
}

fn only(values: &[&str]) -> String {
    match values {
        [] => "it is not implemented: leave it out".to_owned(),
        _ => format!("it is only accepted as {}", values.join(" or ")),
    }
}

pub(super) fn unsupported(param: &str, message: &str) -> RequestError {
    RequestError::UnsupportedParam { param: param.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_parameter_is_listed_once_and_its_off_values_are_accepted() {
        for (index, param) in PARAMS.iter().enumerate() {
            let clash = PARAMS[..index].iter().find(|other| {
                other.name == param.name && (other.endpoint.is_none() || other.endpoint == param.endpoint)
            });
            assert!(clash.is_none(), "{}", param.name);
            let endpoint = param.endpoint.unwrap_or(Endpoint::Completions);
            assert_eq!(Draft::default().set(endpoint, param.name, Value::Null), Ok(()));
            if let Rule::Off(values) = &param.rule {
                for value in *values {
                    let value = serde_json::from_str(value).expect("off values are JSON");
                    assert_eq!(Draft::default().set(endpoint, param.name, value), Ok(()), "{}", param.name);
                }
                let error = Draft::default().set(endpoint, param.name, json!("on")).expect_err(param.name);
                assert_eq!((error.code(), error.param()), ("unsupported_parameter", Some(param.name)));
            }
        }
    }

    #[test]
    fn off_values_are_compared_by_value() {
        let cases =
            [("n", json!(1.0), true), ("n", json!(2), false), ("n", json!("1"), false), ("n", json!(true), false)];
        for (name, value, expected) in cases {
            let is_accepted = Draft::default().set(Endpoint::ChatCompletions, name, value.clone()).is_ok();
            assert_eq!(is_accepted, expected, "{name} = {value}");
        }
    }

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
