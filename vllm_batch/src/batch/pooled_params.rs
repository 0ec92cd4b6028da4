//! Which parameters of a body of `/v1/embeddings` or `/v1/score` are honoured, and which are refused?
//!
//! As for the other endpoints, nothing is ignored silently.

use serde_json::{Map, Value};

use super::Endpoint;
use super::embeddings::EncodingFormat;
use super::json::{boolean, object, string};
use super::params::{Param, Rule, put, set};
use super::score::LabelName;
use super::values::{self, at_least_one};
use crate::error::RequestError;
use crate::request::{ChatOptions, PoolingParams};

/// What the parameters of one body come to.
#[derive(Debug, Default)]
pub(super) struct PooledDraft {
    pub(super) pooling: PoolingParams,
    pub(super) encoding_format: EncodingFormat,
    pub(super) add_special_tokens: Option<bool>,
    pub(super) priority: i32,
    pub(super) chat: ChatOptions,
    labels: Vec<String>,
    label_token_ids: Vec<u32>,
}

impl PooledDraft {
    /// In the order of the names, so that of two faults always the same one is reported.
    pub(super) fn parse(endpoint: Endpoint, body: Map<String, Value>) -> Result<Self, RequestError> {
        let mut entries: Vec<_> = body.into_iter().collect();
        entries.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        let mut draft = Self::default();
        for (name, value) in entries {
            set(PARAMS, &mut draft, endpoint, (&name, value))?;
        }
        Ok(draft)
    }

    /// All labels, those of texts first.
    pub(super) fn label_names(&self) -> Vec<LabelName> {
        let texts = self.labels.iter().cloned().map(LabelName::Text);
        texts.chain(self.label_token_ids.iter().copied().map(LabelName::TokenId)).collect()
    }
}

type Read = fn(&mut PooledDraft, Value, &str) -> Result<(), RequestError>;

const fn both(name: &'static str, rule: Rule<PooledDraft>) -> Param<PooledDraft> {
    Param { name, endpoint: None, rule }
}

const fn embeddings(name: &'static str, rule: Rule<PooledDraft>) -> Param<PooledDraft> {
    Param { name, endpoint: Some(Endpoint::Embeddings), rule }
}

const fn score(name: &'static str, rule: Rule<PooledDraft>) -> Param<PooledDraft> {
    Param { name, endpoint: Some(Endpoint::Score), rule }
}

const fn read(read: Read) -> Rule<PooledDraft> {
    Rule::Read(read)
}

/// Every parameter of `OpenAI`'s and vLLM's two endpoints besides `model` and what is embedded or scored.
/// `docs/parameters.md` has the same order.
static PARAMS: &[Param<PooledDraft>] = &[
    embeddings("encoding_format", read(|draft, value, name| put(&mut draft.encoding_format, encoding(value, name)))),
    embeddings(
        "dimensions",
        read(|draft, value, name| put(&mut draft.pooling.dimensions, at_least_one(&value, name).map(Some))),
    ),
    embeddings(
        "use_activation",
        read(|draft, value, name| put(&mut draft.pooling.normalize, boolean(&value, name).map(Some))),
    ),
    score("labels", read(|draft, value, name| put(&mut draft.labels, values::strings(value, name)))),
    score("label_token_ids", read(|draft, value, name| put(&mut draft.label_token_ids, values::ids(&value, name)))),
    both(
        "truncate_prompt_tokens",
        read(|draft, value, name| {
            put(&mut draft.pooling.truncate_prompt_tokens, values::truncation(&value, name).map(Some))
        }),
    ),
    both(
        "add_special_tokens",
        read(|draft, value, name| put(&mut draft.add_special_tokens, values::choice(&value, name))),
    ),
    score(
        "add_generation_prompt",
        read(|draft, value, name| put(&mut draft.chat.add_generation_prompt, boolean(&value, name))),
    ),
    score(
        "continue_final_message",
        read(|draft, value, name| put(&mut draft.chat.continue_final_message, boolean(&value, name))),
    ),
    score(
        "chat_template",
        read(|draft, value, name| put(&mut draft.chat.chat_template, string(value, name).map(Some))),
    ),
    score(
        "chat_template_kwargs",
        read(|draft, value, name| put(&mut draft.chat.chat_template_kwargs, object(value, name))),
    ),
    both("priority", read(|draft, value, name| put(&mut draft.priority, values::priority(&value, name)))),
    // Who asks.
    both("user", Rule::NoEffect),
    // How answers come back.
    embeddings("embed_dtype", Rule::Off(&["\"float32\""])),
    embeddings("endianness", Rule::Off(&["\"native\"", "\"little\""])),
    score("use_activation", Rule::Off(&["true"])),
    score("apply_softmax", Rule::Off(&["true"])),
    // How the prompt is made.
    embeddings("truncation_side", Rule::Off(&[])),
    score("truncation_side", Rule::Off(&["\"left\""])),
    both("padding", Rule::Off(&["\"do_not_pad\""])),
    both("mm_processor_kwargs", Rule::Off(&["{}"])),
    // How an engine is driven.
    both("request_id", Rule::Off(&[])),
    both("cache_salt", Rule::Off(&[])),
];

fn encoding(value: Value, param: &str) -> Result<EncodingFormat, RequestError> {
    match string(value, param)?.as_str() {
        "float" => Ok(EncodingFormat::Float),
        "base64" => Ok(EncodingFormat::Base64),
        other => Err(RequestError::invalid(param, format!("expected float or base64, found `{other}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::params::tests::{check_rules, documented, documented_row};
    use super::*;

    #[test]
    fn each_parameter_is_listed_once_and_its_off_values_are_accepted() {
        check_rules(PARAMS, Endpoint::Score);
    }

    #[test]
    fn every_parameter_is_in_the_tables() {
        let expected: Vec<_> = PARAMS.iter().map(|param| documented_row(param, "Embeddings and scores: ")).collect();
        assert_eq!(documented("Embeddings and scores: "), expected);
    }
}
