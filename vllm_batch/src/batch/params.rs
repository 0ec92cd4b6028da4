//! Which parameters of a request body are honoured, and which are refused?
//!
//! Nothing is ignored silently: a parameter that is not implemented is accepted only at the values that switch it off.

use serde_json::Value;

use super::Endpoint;
use super::format::{self, WrittenFormat};
use super::json::{boolean, number, object, string, unsigned, unsupported};
use super::tools;
use super::values::{self, at_least_one};
use crate::error::RequestError;
use crate::request::{ChatOptions, RepetitionDetection, Request, SamplingParams};

/// What the parameters of one body come to.
#[derive(Debug, Default)]
pub(super) struct Draft {
    sampling: SamplingParams,
    max_completion_tokens: Option<u32>,
    priority: i32,
    echo: bool,
    add_special_tokens: Option<bool>,
    chat: ChatOptions,
    /// Of a conversation, where it is a switch.
    logprobs: bool,
    top_logprobs: Option<i32>,
    /// vLLM's flat form of `repetition_detection`.
    flat_repetition: Option<RepetitionDetection>,
    format: Option<WrittenFormat>,
    reasoning_effort: Option<String>,
}

impl Draft {
    /// Takes one parameter over.
    pub(super) fn set(&mut self, endpoint: Endpoint, name: &str, value: Value) -> Result<(), RequestError> {
        set(PARAMS, self, endpoint, (name, value))
    }

    /// The request with these parameters, and where the body asks for its format, if not in `structured_outputs`.
    pub(super) fn into_request(
        mut self,
        request: Request,
        default_max_tokens: Option<u32>,
    ) -> Result<(Request, Option<&'static str>), RequestError> {
        let max_tokens = self.max_completion_tokens.or(self.sampling.max_tokens).or(default_max_tokens);
        self.sampling.max_tokens = max_tokens;
        self.take_logprobs()?;
        self.take_repetition()?;
        self.take_reasoning_effort();
        self.chat.validate()?;
        let format_param = self.format.as_ref().and_then(|format| format.param);
        self.sampling.structured_outputs = self.format.map(|format| format.output);
        self.sampling.validate().map_err(|error| match self.flat_repetition {
            Some(_) => as_flat(error),
            None => error,
        })?;
        let request = request.with_sampling_params(self.sampling).with_priority(self.priority).with_echo(self.echo);
        let request = Request { add_special_tokens: self.add_special_tokens, ..request.with_chat(self.chat) };
        Ok((request, format_param))
    }

    fn take_logprobs(&mut self) -> Result<(), RequestError> {
        match self.top_logprobs {
            Some(1..) if !self.logprobs => Err(RequestError::invalid("top_logprobs", "needs `logprobs` to be true")),
            top_logprobs => {
                let num_top = self.logprobs.then_some(top_logprobs.unwrap_or(0));
                self.sampling.logprobs = num_top.or(self.sampling.logprobs);
                Ok(())
            }
        }
    }

    fn take_repetition(&mut self) -> Result<(), RequestError> {
        if self.flat_repetition.is_some() && self.sampling.repetition_detection.is_some() {
            let message = "cannot be there together with `max_repetition_pattern_size` and its like";
            return Err(RequestError::invalid("repetition_detection", message));
        }
        self.sampling.repetition_detection = self.flat_repetition.or(self.sampling.repetition_detection);
        Ok(())
    }

    /// As in vLLM a variable of the template, as is whether the model thinks at all.
    fn take_reasoning_effort(&mut self) {
        if let Some(effort) = self.reasoning_effort.take() {
            let variables = &mut self.chat.chat_template_kwargs;
            variables.entry("enable_thinking").or_insert(Value::Bool(effort != "none"));
            variables.entry("reasoning_effort").or_insert(Value::String(effort));
        }
    }

    fn flat_repetition(&mut self) -> &mut RepetitionDetection {
        self.flat_repetition.get_or_insert_default()
    }

    fn put_format(&mut self, name: &str, format: Option<WrittenFormat>) -> Result<(), RequestError> {
        if self.format.is_some() && format.is_some() {
            let message = "only one of response_format, structured_outputs and guided_* may ask for a format";
            return Err(RequestError::invalid(name, message));
        }
        self.format = format.or(self.format.take());
        Ok(())
    }
}

/// What is said of `repetition_detection` is said of the parameters of vLLM's flat form.
fn as_flat(error: RequestError) -> RequestError {
    match error {
        RequestError::InvalidParam { param, message } => {
            let param = match param.as_str() {
                "repetition_detection.min_count" => "repetition_min_count".to_owned(),
                "repetition_detection.min_pattern_size" => "min_repetition_pattern_size".to_owned(),
                _ => param,
            };
            RequestError::InvalidParam { param, message }
        }
        other => other,
    }
}

/// Takes one parameter over into a draft, as the table of its endpoint says. `null` counts as absent.
pub(super) fn set<D>(
    params: &[Param<D>],
    draft: &mut D,
    endpoint: Endpoint,
    (name, value): (&str, Value),
) -> Result<(), RequestError> {
    if value.is_null() {
        return Ok(());
    }
    let is_meant = |param: &&Param<D>| param.name == name && param.endpoint.is_none_or(|only| only == endpoint);
    match params.iter().find(is_meant).map(|param| &param.rule) {
        Some(Rule::Read(read)) => read(draft, value, name),
        Some(Rule::NoEffect) => Ok(()),
        Some(Rule::Off(values)) if values.iter().any(|off| is_equal(off, &value)) => Ok(()),
        Some(Rule::Off(values)) => Err(unsupported(name, &only(values))),
        None => Err(unsupported(name, &format!("it is unknown to {}", endpoint.url()))),
    }
}

/// What is done with a parameter.
pub(super) enum Rule<D = Draft> {
    /// Read into the draft.
    Read(fn(&mut D, Value, &str) -> Result<(), RequestError>),
    /// Not implemented: accepted only when absent, null or one of these values (JSON), which ask for nothing.
    Off(&'static [&'static str]),
    /// Says nothing about the answer: accepted at any value.
    NoEffect,
}

/// A parameter of two endpoints, or of one of them.
pub(super) struct Param<D = Draft> {
    pub(super) name: &'static str,
    /// The only endpoint that it belongs to.
    pub(super) endpoint: Option<Endpoint>,
    pub(super) rule: Rule<D>,
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

/// Every parameter of OpenAI's and vLLM's two endpoints for texts besides `model`, `messages` and `prompt`. `docs/parameters.md` has
/// the same order.
static PARAMS: &[Param] = &[
    read("temperature", |draft, value, name| put(&mut draft.sampling.temperature, number(&value, name))),
    read("top_p", |draft, value, name| put(&mut draft.sampling.top_p, number(&value, name))),
    read("top_k", |draft, value, name| put(&mut draft.sampling.top_k, values::top_k(&value, name))),
    read("min_p", |draft, value, name| put(&mut draft.sampling.min_p, number(&value, name))),
    read("seed", |draft, value, name| put(&mut draft.sampling.seed, values::seed(&value, name).map(Some))),
    // How many answers, and how long.
    read("n", |draft, value, name| put(&mut draft.sampling.n, unsigned(&value, name))),
    completions(read("best_of", |draft, value, name| {
        put(&mut draft.sampling.best_of, unsigned(&value, name).map(Some))
    })),
    read("max_tokens", |draft, value, name| put(&mut draft.sampling.max_tokens, at_least_one(&value, name).map(Some))),
    chat(read("max_completion_tokens", |draft, value, name| {
        put(&mut draft.max_completion_tokens, at_least_one(&value, name).map(Some))
    })),
    read("min_tokens", |draft, value, name| put(&mut draft.sampling.min_tokens, unsigned(&value, name))),
    read("stop", |draft, value, name| put(&mut draft.sampling.stop, values::stop(value, name))),
    read("stop_token_ids", |draft, value, name| put(&mut draft.sampling.stop_token_ids, values::ids(&value, name))),
    read("ignore_eos", |draft, value, name| put(&mut draft.sampling.ignore_eos, boolean(&value, name))),
    read("repetition_detection", |draft, value, name| {
        put(&mut draft.sampling.repetition_detection, values::repetition_detection(value, name).map(Some))
    }),
    read("max_repetition_pattern_size", |draft, value, name| {
        put(&mut draft.flat_repetition().max_pattern_size, unsigned(&value, name))
    }),
    read("min_repetition_pattern_size", |draft, value, name| {
        put(&mut draft.flat_repetition().min_pattern_size, unsigned(&value, name))
    }),
    read("repetition_min_count", |draft, value, name| {
        put(&mut draft.flat_repetition().min_count, unsigned(&value, name))
    }),
    // What changes the probabilities.
    read("presence_penalty", |draft, value, name| put(&mut draft.sampling.presence_penalty, number(&value, name))),
    read("frequency_penalty", |draft, value, name| put(&mut draft.sampling.frequency_penalty, number(&value, name))),
    read("repetition_penalty", |draft, value, name| put(&mut draft.sampling.repetition_penalty, number(&value, name))),
    read("logit_bias", |draft, value, name| put(&mut draft.sampling.logit_bias, values::logit_bias(value, name))),
    read("allowed_token_ids", |draft, value, name| {
        put(&mut draft.sampling.allowed_token_ids, values::ids(&value, name).map(Some))
    }),
    read("bad_words", |draft, value, name| put(&mut draft.sampling.bad_words, values::strings(value, name))),
    // What the answer must look like.
    read("response_format", |draft, value, name| draft.put_format(name, format::response_format(value, name)?)),
    read("structured_outputs", |draft, value, name| draft.put_format(name, format::structured_outputs(value, name)?)),
    read("guided_json", |draft, value, name| draft.put_format(name, format::guided_json(value, name)?)),
    read("guided_regex", |draft, value, name| draft.put_format(name, format::guided_regex(value, name)?)),
    read("guided_choice", |draft, value, name| draft.put_format(name, format::guided_choice(value, name)?)),
    read("guided_grammar", |draft, value, name| draft.put_format(name, format::guided_grammar(value, name)?)),
    // What it may call.
    chat(read("tools", |draft, value, name| put(&mut draft.chat.tools, tools::tools(value, name)))),
    chat(read("tool_choice", |draft, value, name| put(&mut draft.chat.tool_choice, tools::tool_choice(value, name)))),
    chat(read("parallel_tool_calls", |draft, value, name| {
        put(&mut draft.chat.parallel_tool_calls, boolean(&value, name))
    })),
    // How the model thinks.
    chat(read("reasoning_effort", |draft, value, name| {
        put(&mut draft.reasoning_effort, values::reasoning_effort(value, name).map(Some))
    })),
    chat(read("include_reasoning", |draft, value, name| put(&mut draft.chat.include_reasoning, boolean(&value, name)))),
    chat(read("thinking_token_budget", |draft, value, name| {
        put(&mut draft.sampling.thinking_token_budget, values::thinking_budget(&value, name))
    })),
    // What comes back, and how.
    chat(read("logprobs", |draft, value, name| put(&mut draft.logprobs, boolean(&value, name)))),
    chat(read("top_logprobs", |draft, value, name| {
        put(&mut draft.top_logprobs, values::num_logprobs(&value, name).map(Some))
    })),
    completions(read("logprobs", |draft, value, name| {
        put(&mut draft.sampling.logprobs, values::num_logprobs(&value, name).map(Some))
    })),
    read("prompt_logprobs", |draft, value, name| {
        put(&mut draft.sampling.prompt_logprobs, values::num_logprobs(&value, name).map(Some))
    }),
    completions(read("echo", |draft, value, name| put(&mut draft.echo, boolean(&value, name)))),
    read("skip_special_tokens", |draft, value, name| {
        put(&mut draft.sampling.skip_special_tokens, boolean(&value, name))
    }),
    read("include_stop_str_in_output", |draft, value, name| {
        put(&mut draft.sampling.include_stop_str_in_output, boolean(&value, name))
    }),
    // How the prompt is made.
    read("truncate_prompt_tokens", |draft, value, name| {
        put(&mut draft.sampling.truncate_prompt_tokens, values::truncation(&value, name).map(Some))
    }),
    read("add_special_tokens", |draft, value, name| put(&mut draft.add_special_tokens, values::choice(&value, name))),
    chat(read("add_generation_prompt", |draft, value, name| {
        put(&mut draft.chat.add_generation_prompt, boolean(&value, name))
    })),
    chat(read("continue_final_message", |draft, value, name| {
        put(&mut draft.chat.continue_final_message, boolean(&value, name))
    })),
    chat(read("chat_template", |draft, value, name| put(&mut draft.chat.chat_template, string(value, name).map(Some)))),
    chat(read("chat_template_kwargs", |draft, value, name| {
        put(&mut draft.chat.chat_template_kwargs, object(value, name))
    })),
    chat(read("documents", |draft, value, name| put(&mut draft.chat.documents, values::documents(value, name)))),
    // When it is served.
    read("priority", |draft, value, name| put(&mut draft.priority, values::priority(&value, name))),
    // Who asks, how it is billed, where it is kept.
    no_effect("user"),
    no_effect("metadata"),
    no_effect("store"),
    no_effect("safety_identifier"),
    no_effect("prompt_cache_key"),
    no_effect("service_tier"),
    // How answers come back.
    off("stream", &["false"]),
    off("stream_options", &[]),
    chat(off("echo", &["false"])),
    completions(off("suffix", &["\"\""])),
    off("return_token_ids", &["false"]),
    off("return_tokens_as_token_ids", &["false"]),
    off("spaces_between_special_tokens", &["true"]),
    off("request_id", &[]),
    // How tokens are chosen.
    off("logits_processors", &["[]"]),
    off("use_beam_search", &["false"]),
    off("length_penalty", &["1"]),
    // The older names of `tools` and `tool_choice`.
    chat(off("functions", &["[]"])),
    chat(off("function_call", &["\"none\"", "\"auto\""])),
    chat(off("modalities", &[r#"["text"]"#])),
    chat(off("audio", &[])),
    chat(off("prediction", &[])),
    chat(off("verbosity", &[])),
    chat(off("web_search_options", &[])),
    chat(off("moderation", &[])),
    // How the prompt is made.
    completions(off("prompt_embeds", &[])),
    chat(off("mm_processor_kwargs", &["{}"])),
    // How an engine is driven.
    off("cache_salt", &[]),
    off("kv_transfer_params", &["{}"]),
    off("vllm_xargs", &["{}"]),
];

pub(super) fn put<T>(place: &mut T, value: Result<T, RequestError>) -> Result<(), RequestError> {
    *place = value?;
    Ok(())
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// Each parameter is listed once, and its off values are accepted. `endpoint` is one of the two of the table.
    pub(in crate::batch) fn check_rules<D: Default>(params: &[Param<D>], endpoint: Endpoint) {
        for (index, param) in params.iter().enumerate() {
            let clash = params[..index].iter().find(|other| {
                other.name == param.name && (other.endpoint.is_none() || other.endpoint == param.endpoint)
            });
            assert!(clash.is_none(), "{}", param.name);
            let set = |value| set(params, &mut D::default(), param.endpoint.unwrap_or(endpoint), (param.name, value));
            assert_eq!(set(Value::Null), Ok(()));
            if let Rule::Off(values) = &param.rule {
                for value in *values {
                    let value = serde_json::from_str(value).expect("off values are JSON");
                    assert_eq!(set(value), Ok(()), "{}", param.name);
                }
                let error = set(json!("on")).expect_err(param.name);
                assert_eq!((error.code(), error.param()), ("unsupported_parameter", Some(param.name)));
            }
        }
    }

    #[test]
    fn each_parameter_is_listed_once_and_its_off_values_are_accepted() {
        check_rules(PARAMS, Endpoint::Completions);
    }

    #[test]
    fn off_values_are_compared_by_value() {
        let name = "length_penalty";
        let cases = [
            (name, json!(1.0), true),
            (name, json!(2), false),
            (name, json!("1"), false),
            (name, json!(true), false),
            ("functions", json!([]), true),
        ];
        for (name, value, expected) in cases {
            let is_accepted = Draft::default().set(Endpoint::ChatCompletions, name, value.clone()).is_ok();
            assert_eq!(is_accepted, expected, "{name} = {value}");
        }
    }

    /// Section, name and endpoints of each row of the tables in `docs/parameters.md` below the headings with this beginning.
    pub(in crate::batch) fn documented(prefix: &str) -> Vec<[String; 3]> {
        let mut section = "";
        let mut rows = Vec::new();
        let is_meant = |heading: &str| {
            let kind = heading.strip_prefix(prefix);
            kind.is_some_and(|kind| ["honoured", "without effect", "not implemented"].contains(&&*kind.to_lowercase()))
        };
        for line in include_str!("../../../docs/parameters.md").lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                section = heading;
            } else if let Some(row) = line.strip_prefix("| `").filter(|_| is_meant(section)) {
                let cells: Vec<_> = row.split('|').map(|cell| cell.trim().replace('`', "")).collect();
                rows.push([section.to_owned(), cells[0].clone(), cells[1].clone()]);
            }
        }
        rows
    }

    /// What [`documented`] is to say of a parameter.
    pub(in crate::batch) fn documented_row<D>(param: &Param<D>, prefix: &str) -> [String; 3] {
        let kind = match param.rule {
            Rule::Read(_) => "Honoured",
            Rule::NoEffect => "Without effect",
            Rule::Off(_) => "Not implemented",
        };
        let section = if prefix.is_empty() { kind.to_owned() } else { format!("{prefix}{}", kind.to_lowercase()) };
        let endpoints = match param.endpoint {
            None => "both",
            Some(Endpoint::ChatCompletions) => "chat",
            Some(Endpoint::Completions) => "completions",
            Some(Endpoint::Embeddings) => "embeddings",
            Some(Endpoint::Score) => "score",
        };
        [section, param.name.to_owned(), endpoints.to_owned()]
    }

    #[test]
    fn every_parameter_is_in_the_tables() {
        assert_eq!(documented(""), PARAMS.iter().map(|param| documented_row(param, "")).collect::<Vec<_>>());
    }
}
