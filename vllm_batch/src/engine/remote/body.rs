//! A request as the server takes it.

use serde_json::{Map, Value, json};

use super::embedding;
use crate::error::RequestError;
use crate::request::{OutputFormat, Prompt, Request, SamplingParams, StructuredOutput, Task, ToolChoice};

/// Which parameters a server has, besides `OpenAI`'s. Servers skip what they do not know without a word, so this decides
/// what is sent, and what is refused as [`UnsupportedParam`](RequestError::UnsupportedParam).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Flavour {
    /// `OpenAI`'s own parameters, which every server has: also for `SGLang` and for hosted services. For a prompt that is
    /// no conversation, `max_tokens` must be given: the API stops after 16 tokens otherwise. Structured output is
    /// `response_format` with `strict`, for conversations only. `logprobs` up to 20, for other prompts up to 5; not of an
    /// echoed prompt.
    #[default]
    OpenAi,
    /// vLLM's parameters: all of [`SamplingParams`] but `best_of`. Token ids come back. How many `logprobs` there are at most
    /// is the server's `--max-logprobs`; in a conversation's answer, a chosen token that is not among the most likely ones
    /// takes the place of the last of them. Of embeddings all but `pooling_type`, which is the server's.
    Vllm,
    /// What llama.cpp's server and the one of llama-cpp-python have in common: besides `OpenAI`'s parameters `top_k`, `min_p`
    /// and, over a window of the last tokens, `repetition_penalty`; one answer only. Structured output is
    /// `response_format` with a schema, for conversations only. `logprobs` without a limit, but neither of the whole
    /// vocabulary (-1) nor of an echoed prompt.
    LlamaCpp,
}

use Flavour::{LlamaCpp, OpenAi, Vllm};

/// A request on its way: where to, and the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) path: &'static str,
    pub(super) body: Vec<u8>,
}

impl Call {
    /// # Errors
    /// [`RequestError`] for parameters that are outside their domain, or that servers of this flavour do not have.
    pub(super) fn new(request: &Request, model: &str, flavour: Flavour) -> Result<Self, RequestError> {
        let mut body = Map::from_iter([("model".to_owned(), json!(model))]);
        let path = match &request.task {
            Task::Generate(params) => text_body(&mut body, request, params, flavour)?,
            Task::Embed(params) => embedding::body(&mut body, request, params, flavour)?,
            Task::Score(_) => {
                return Err(unsupported("labels", "a remote server cannot score labels"));
            }
        };
        Ok(Self { path, body: Value::Object(body).to_string().into_bytes() })
    }
}

/// Adds what a request for text says and returns the endpoint for it.
fn text_body(
    body: &mut Map<String, Value>,
    request: &Request,
    params: &SamplingParams,
    flavour: Flavour,
) -> Result<&'static str, RequestError> {
    params.validate()?;
    let path = add_prompt(body, request, params)?;
    let lowering = Lowering { flavour, is_chat: path == CHAT };
    let chat = if lowering.is_chat { Lowering::chat_params(request) } else { Vec::new() };
    let logprobs = lowering.logprob_params(request, params)?;
    for param in lowering.params(params).into_iter().chain(chat).chain(logprobs) {
        lowering.add(body, param)?;
    }
    lowering.add_max_tokens(body, params.max_tokens)?;
    if let Some(structured) = &params.structured_outputs {
        lowering.add_structured(body, structured)?;
    }
    if flavour == Vllm {
        body.insert("return_token_ids".to_owned(), json!(true));
    }
    Ok(path)
}

const CHAT: &str = "/chat/completions";
const TEXT: &str = "/completions";

/// Adds what the model is to read and returns the endpoint for it.
fn add_prompt(
    body: &mut Map<String, Value>,
    request: &Request,
    params: &SamplingParams,
) -> Result<&'static str, RequestError> {
    let is_plain = matches!(request.prompt, Prompt::Text(_)) && params.truncate_prompt_tokens.is_none();
    if request.echo && !is_plain {
        return Err(unsupported("echo", "a remote server echoes only a text prompt that is not truncated"));
    }
    let (path, name, value) = match &request.prompt {
        Prompt::TokenIds(token_ids) if token_ids.is_empty() => return Err(RequestError::EmptyPrompt),
        Prompt::TokenIds(token_ids) => (TEXT, "prompt", json!(token_ids)),
        Prompt::Text(text) => (TEXT, "prompt", json!(text)),
        Prompt::Messages(messages) => (CHAT, "messages", json!(messages)),
    };
    body.insert(name.to_owned(), value);
    Ok(path)
}

/// A parameter with its name in the API, whether it differs from its default, and the flavours that have it.
struct Param {
    name: &'static str,
    value: Value,
    is_set: bool,
    flavours: &'static [Flavour],
}

fn param(name: &'static str, value: Value, is_set: bool, flavours: &'static [Flavour]) -> Param {
    Param { name, value, is_set, flavours }
}

const ALL: &[Flavour] = &[OpenAi, Vllm, LlamaCpp];

/// Parameters that servers have defaults of their own for, in the model's files or built in: sent even if not set.
const ALWAYS_SENT: [&str; 6] = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "n"];

#[derive(Clone, Copy)]
struct Lowering {
    flavour: Flavour,
    is_chat: bool,
}

impl Lowering {
    /// All parameters but those that need more than a name.
    fn params(self, params: &SamplingParams) -> Vec<Param> {
        let mut all = self.choice_params(params);
        all.extend(Self::logit_params(params));
        all.extend(Self::end_params(params));
        all
    }

    fn choice_params(self, p: &SamplingParams) -> Vec<Param> {
        let best_of: &[Flavour] = if self.is_chat { &[] } else { &[OpenAi] };
        vec![
            param("n", json!(p.n), p.n != 1, &[OpenAi, Vllm]),
            param("best_of", json!(p.best_of), p.best_of.is_some_and(|best_of| best_of != p.n), best_of),
            param("temperature", number(p.temperature), true, ALL),
            param("top_p", number(p.top_p), true, ALL),
            param("top_k", json!(p.top_k), p.top_k != 0, &[Vllm, LlamaCpp]),
            param("min_p", number(p.min_p), p.min_p != 0.0, &[Vllm, LlamaCpp]),
            param("seed", json!(p.seed), p.seed.is_some(), ALL),
        ]
    }

    fn logit_params(p: &SamplingParams) -> Vec<Param> {
        let repetition = number(p.repetition_penalty);
        vec![
            param("presence_penalty", number(p.presence_penalty), p.presence_penalty != 0.0, ALL),
            param("frequency_penalty", number(p.frequency_penalty), p.frequency_penalty != 0.0, ALL),
            param("repetition_penalty", repetition, p.repetition_penalty != 1.0, &[Vllm, LlamaCpp]),
            param("logit_bias", bias(p), !p.logit_bias.is_empty(), ALL),
            param("allowed_token_ids", json!(p.allowed_token_ids), p.allowed_token_ids.is_some(), &[Vllm]),
            param("bad_words", json!(p.bad_words), !p.bad_words.is_empty(), &[Vllm]),
        ]
    }

    fn end_params(p: &SamplingParams) -> Vec<Param> {
        let keeps_stop = p.include_stop_str_in_output;
        let truncate = p.truncate_prompt_tokens;
        let repetition = p.repetition_detection.filter(|detection| detection.max_pattern_size > 0);
        let detection = repetition.map(|detection| {
            json!({
                "max_pattern_size": detection.max_pattern_size,
                "min_pattern_size": detection.min_pattern_size,
                "min_count": detection.min_count,
            })
        });
        vec![
            param("min_tokens", json!(p.min_tokens), p.min_tokens != 0, &[Vllm]),
            param("stop", json!(p.stop), !p.stop.is_empty(), ALL),
            param("include_stop_str_in_output", json!(keeps_stop), keeps_stop, &[Vllm]),
            param("stop_token_ids", json!(p.stop_token_ids), !p.stop_token_ids.is_empty(), &[Vllm]),
            param("ignore_eos", json!(p.ignore_eos), p.ignore_eos, &[Vllm]),
            param("skip_special_tokens", json!(p.skip_special_tokens), !p.skip_special_tokens, &[Vllm]),
            param("truncate_prompt_tokens", json!(truncate), truncate.is_some(), &[Vllm]),
            param("repetition_detection", json!(detection), detection.is_some(), &[Vllm]),
            param("thinking_token_budget", json!(p.thinking_token_budget), p.thinking_token_budget.is_some(), &[Vllm]),
        ]
    }

    /// A number, and for conversations a switch, too. llama.cpp takes none of the most likely tokens for none at all.
    fn logprob_params(self, request: &Request, p: &SamplingParams) -> Result<Vec<Param>, RequestError> {
        let count = p.logprobs.map(|count| self.checked_count(count)).transpose()?;
        if request.echo && count.is_some() && self.flavour != Vllm {
            return Err(unsupported("echo", "the remote server has no log-probabilities of a prompt"));
        }
        let count = if self.flavour == LlamaCpp { count.map(|count| count.max(1)) } else { count };
        let (is_set, of_prompt) = (count.is_some(), p.num_prompt_logprobs(request.echo));
        let logprobs = if self.is_chat { json!(true) } else { json!(count) };
        Ok(vec![
            param("logprobs", logprobs, is_set, ALL),
            param("top_logprobs", json!(count), is_set && self.is_chat, ALL),
            param("prompt_logprobs", json!(of_prompt), of_prompt.is_some(), &[Vllm]),
            // A server may have been started so that it writes ids for texts.
            param("return_tokens_as_token_ids", json!(false), is_set && self.flavour == Vllm, &[Vllm]),
        ])
    }

    /// `OpenAI`'s limits hold for its flavour; that of others is the server's. Only vLLM knows -1.
    fn checked_count(self, count: i32) -> Result<i32, RequestError> {
        let refused = match (self.flavour, self.is_chat) {
            (Vllm, _) => None,
            _ if count < 0 => Some("the remote server does not have them for the whole vocabulary"),
            (OpenAi, true) if count > 20 => Some("the remote server has 20 for a place at most"),
            (OpenAi, false) if count > 5 => Some("the remote server has 5 for a place at most, for a conversation 20"),
            _ => None,
        };
        refused.map_or(Ok(count), |message| Err(unsupported("logprobs", message)))
    }

    /// How a conversation is rendered and answered.
    fn chat_params(request: &Request) -> Vec<Param> {
        let chat = &request.chat;
        let (tools, kwargs) = (!chat.tools.is_empty(), &chat.chat_template_kwargs);
        let (adds_prompt, continues) = (chat.add_generation_prompt, chat.continue_final_message);
        let special = request.add_special_tokens;
        vec![
            param("tools", json!(chat.tools), tools, ALL),
            param("tool_choice", chat.tool_choice.to_json(), tools && chat.tool_choice != ToolChoice::Auto, ALL),
            param("parallel_tool_calls", json!(false), tools && !chat.parallel_tool_calls, ALL),
            param("include_reasoning", json!(false), !chat.include_reasoning, &[Vllm]),
            param("documents", json!(chat.documents), chat.documents.is_some(), &[Vllm]),
            param("chat_template", json!(chat.chat_template), chat.chat_template.is_some(), &[Vllm]),
            param("chat_template_kwargs", json!(kwargs), !kwargs.is_empty(), &[Vllm]),
            param("add_generation_prompt", json!(adds_prompt), !adds_prompt, &[Vllm]),
            param("continue_final_message", json!(continues), continues, &[Vllm]),
            param("add_special_tokens", json!(special), special.is_some(), &[Vllm]),
        ]
    }

    fn add(self, body: &mut Map<String, Value>, param: Param) -> Result<(), RequestError> {
        let is_known = param.flavours.contains(&self.flavour);
        if param.is_set && !is_known {
            return Err(unsupported(param.name, "the remote server does not have it"));
        }
        if is_known && (param.is_set || ALWAYS_SENT.contains(&param.name)) {
            let name = match (param.name, self.flavour) {
                ("repetition_penalty", LlamaCpp) => "repeat_penalty",
                (name, _) => name,
            };
            body.insert(name.to_owned(), param.value);
        }
        Ok(())
    }

    /// An absent `max_tokens` means "as many as the context holds", which for plain completions must be said.
    fn add_max_tokens(self, body: &mut Map<String, Value>, max_tokens: Option<u32>) -> Result<(), RequestError> {
        match max_tokens {
            None if self.is_chat => return Ok(()),
            None if self.flavour == OpenAi => {
                return Err(RequestError::MissingParam { param: "max_tokens".to_owned() });
            }
            _ => body.insert("max_tokens".to_owned(), json!(max_tokens)),
        };
        Ok(())
    }

    fn add_structured(self, body: &mut Map<String, Value>, output: &StructuredOutput) -> Result<(), RequestError> {
        let (name, value) = match self.flavour {
            Vllm => ("structured_outputs", structured_outputs(output)),
            OpenAi | LlamaCpp => ("response_format", self.response_format(output)?),
        };
        body.insert(name.to_owned(), value);
        Ok(())
    }

    fn response_format(self, output: &StructuredOutput) -> Result<Value, RequestError> {
        let name = output.format.name();
        let refused = if !self.is_chat {
            Some((name, "the remote server has structured output for conversations only"))
        } else if output.whitespace_pattern.is_some() {
            Some(("whitespace_pattern", "the remote server does not have it"))
        } else if output.disable_additional_properties {
            Some(("disable_additional_properties", "say `additionalProperties` in the schema"))
        } else {
            None
        };
        if let Some((name, message)) = refused {
            return Err(unsupported(format!("structured_outputs.{name}"), message));
        }
        match &output.format {
            OutputFormat::JsonObject => Ok(json!({"type": "json_object"})),
            OutputFormat::JsonSchema(schema) if self.flavour == LlamaCpp => {
                Ok(json!({"type": "json_object", "schema": schema}))
            }
            OutputFormat::JsonSchema(schema) => Ok(json!({
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": true, "schema": schema},
            })),
            _ => Err(unsupported(format!("structured_outputs.{name}"), "the remote server has JSON only")),
        }
    }
}

fn structured_outputs(output: &StructuredOutput) -> Value {
    let value = match &output.format {
        OutputFormat::JsonSchema(schema) => schema.clone(),
        OutputFormat::JsonObject => json!(true),
        OutputFormat::Regex(text) | OutputFormat::Grammar(text) => json!(text),
        OutputFormat::Choice(choices) => json!(choices),
    };
    let mut options = Map::from_iter([(output.format.name().to_owned(), value)]);
    // vLLM's default for all of them is false or none; white space and properties only exist in JSON.
    if matches!(output.format, OutputFormat::JsonSchema(_) | OutputFormat::JsonObject) && output.disable_any_whitespace
    {
        options.insert("disable_any_whitespace".to_owned(), json!(true));
    }
    if let Some(pattern) = &output.whitespace_pattern {
        options.insert("whitespace_pattern".to_owned(), json!(pattern));
    }
    if output.disable_additional_properties {
        options.insert("disable_additional_properties".to_owned(), json!(true));
    }
    Value::Object(options)
}

fn bias(params: &SamplingParams) -> Value {
    params.logit_bias.iter().map(|(token_id, bias)| (token_id.to_string(), number(*bias))).collect()
}

/// The number with the digits that the caller wrote: 0.7, not 0.699999988079071.
fn number(value: f32) -> Value {
    json!(value.to_string().parse::<f64>().unwrap_or_else(|_| f64::from(value)))
}

pub(super) fn unsupported(param: impl Into<String>, message: &str) -> RequestError {
    RequestError::UnsupportedParam { param: param.into(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{ChatOptions, Message, RepetitionDetection, Tool, ToolCall};

    fn lower(request: &Request, flavour: Flavour) -> Result<(&'static str, Value), RequestError> {
        let call = Call::new(request, "m", flavour)?;
        Ok((call.path, serde_json::from_slice(&call.body).expect("JSON")))
    }

    fn every_param() -> SamplingParams {
        SamplingParams::default()
            .with_n(2)
            .with_temperature(0.7)
            .with_top_p(0.9)
            .with_top_k(5)
            .with_min_p(0.1)
            .with_seed(7)
            .with_presence_penalty(0.3)
            .with_frequency_penalty(-0.3)
            .with_repetition_penalty(1.1)
            .with_logit_bias([(3, -1.5)].into())
            .with_allowed_token_ids(vec![3, 4])
            .with_bad_words(vec!["x".to_owned()])
            .with_min_tokens(1)
            .with_max_tokens(8)
            .with_stop(vec!["\n".to_owned()])
            .with_include_stop_str_in_output(true)
            .with_stop_token_ids(vec![9])
            .with_ignore_eos(true)
            .with_skip_special_tokens(false)
            .with_truncate_prompt_tokens(4)
            .with_repetition_detection(RepetitionDetection::new(20, 4))
            .with_structured_outputs(StructuredOutput::regex("a+"))
    }

    #[test]
    fn vllm_gets_every_parameter_in_its_own_name() {
        let request = Request::new("a", vec![1, 2]).with_sampling_params(every_param());
        let expected = json!({
            "model": "m", "prompt": [1, 2], "n": 2, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "seed": 7,
            "presence_penalty": 0.3, "frequency_penalty": -0.3, "repetition_penalty": 1.1, "logit_bias": {"3": -1.5},
            "allowed_token_ids": [3, 4], "bad_words": ["x"], "min_tokens": 1, "max_tokens": 8, "stop": ["\n"],
            "include_stop_str_in_output": true, "stop_token_ids": [9], "ignore_eos": true, "skip_special_tokens": false,
            "truncate_prompt_tokens": 4, "structured_outputs": {"regex": "a+"}, "return_token_ids": true,
            "repetition_detection": {"max_pattern_size": 20, "min_pattern_size": 0, "min_count": 4},
        });
        assert_eq!(lower(&request, Vllm), Ok(("/completions", expected)));
    }

    #[test]
    fn conversations_take_their_tools_along() {
        let call = ToolCall::new("call_1", "f", "{}");
        let messages =
            vec![Message::user("Hi"), Message::assistant("").with_tool_calls(vec![call]), Message::tool("call_1", "3")];
        let chat = ChatOptions::default()
            .with_tools(vec![Tool::new("f")])
            .with_tool_choice(ToolChoice::Function("f".to_owned()))
            .with_parallel_tool_calls(false);
        let request = |chat: ChatOptions| {
            let params = SamplingParams::default().with_thinking_token_budget(9);
            Request::new("a", messages.clone()).with_chat(chat).with_sampling_params(params)
        };
        let all = chat
            .clone()
            .with_include_reasoning(false)
            .with_documents(vec![json!({"text": "d"})])
            .with_chat_template("t")
            .with_chat_template_kwargs(Map::from_iter([("k".to_owned(), json!(1))]))
            .with_add_generation_prompt(false)
            .with_continue_final_message(true);
        let expected = json!({
            "model": "m", "n": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "", "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                ]},
                {"role": "tool", "content": "3", "tool_call_id": "call_1"},
            ],
            "tools": [{"type": "function", "function": {"name": "f"}}], "parallel_tool_calls": false,
            "tool_choice": {"type": "function", "function": {"name": "f"}}, "include_reasoning": false,
            "documents": [{"text": "d"}], "chat_template": "t", "chat_template_kwargs": {"k": 1},
            "add_generation_prompt": false, "continue_final_message": true, "thinking_token_budget": 9,
            "return_token_ids": true,
        });
        assert_eq!(lower(&request(all.clone()), Vllm), Ok(("/chat/completions", expected)));
        let (mut plain, mut reasoned) = (request(chat), request(all));
        (plain.task, reasoned.task) = Default::default();
        for flavour in [OpenAi, LlamaCpp] {
            let (_, body) = lower(&plain, flavour).unwrap();
            let sent = ["tools", "tool_choice", "parallel_tool_calls"].map(|name| body[name].is_null());
            assert_eq!(sent, [false; 3]);
            let error = lower(&reasoned, flavour).unwrap_err();
            assert_eq!((error.code(), error.param()), ("unsupported_parameter", Some("include_reasoning")));
        }
    }

    #[test]
    fn what_servers_have_other_defaults_for_is_always_sent() {
        let text = Request::new("a", "Hi").with_sampling_params(SamplingParams::default().with_max_tokens(2));
        let open = Request::new("a", "Hi");
        let chat = Request::new("a", vec![Message::user("Hi")]);
        let messages = json!([{"role": "user", "content": "Hi"}]);
        let cases = [
            (
                &text,
                OpenAi,
                json!({"model": "m", "prompt": "Hi", "n": 1, "temperature": 1.0, "top_p": 1.0, "max_tokens": 2}),
            ),
            (&chat, OpenAi, json!({"model": "m", "messages": messages, "n": 1, "temperature": 1.0, "top_p": 1.0})),
            (
                &open,
                Vllm,
                json!({"model": "m", "prompt": "Hi", "n": 1, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0,
                    "repetition_penalty": 1.0, "max_tokens": null, "return_token_ids": true}),
            ),
            (
                &open,
                LlamaCpp,
                json!({"model": "m", "prompt": "Hi", "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0,
                    "repeat_penalty": 1.0, "max_tokens": null}),
            ),
        ];
        for (request, flavour, expected) in cases {
            assert_eq!(lower(request, flavour).map(|(_, body)| body), Ok(expected), "{flavour:?}");
        }
    }

    #[test]
    fn log_probabilities_are_asked_for_in_the_server_s_way() {
        let params = |count| SamplingParams::default().with_max_tokens(8).with_logprobs(count);
        let text = |count| Request::new("a", "Hi").with_sampling_params(params(count));
        let chat = |count| Request::new("a", vec![Message::user("Hi")]).with_sampling_params(params(count));
        let of_prompt = |count| chat(0).with_sampling_params(params(0).with_prompt_logprobs(count));
        let cases = [
            (text(5), OpenAi, json!({"logprobs": 5})),
            (chat(20), OpenAi, json!({"logprobs": true, "top_logprobs": 20})),
            (text(-1), Vllm, json!({"logprobs": -1, "return_tokens_as_token_ids": false})),
            (
                text(2).with_echo(true),
                Vllm,
                json!({"logprobs": 2, "prompt_logprobs": 2, "return_tokens_as_token_ids": false}),
            ),
            (
                of_prompt(3),
                Vllm,
                json!({"logprobs": true, "top_logprobs": 0, "prompt_logprobs": 3, "return_tokens_as_token_ids": false}),
            ),
            (text(0), LlamaCpp, json!({"logprobs": 1})),
            (chat(30), LlamaCpp, json!({"logprobs": true, "top_logprobs": 30})),
        ];
        for (request, flavour, expected) in cases {
            let (_, body) = lower(&request, flavour).expect("a body");
            let names = ["logprobs", "top_logprobs", "prompt_logprobs", "return_tokens_as_token_ids"];
            let sent = names.into_iter().filter_map(|name| Some((name.to_owned(), body.get(name)?.clone())));
            assert_eq!(Value::Object(sent.collect()), expected, "{flavour:?}");
        }
    }

    #[test]
    fn structured_output_is_said_in_the_server_s_way() {
        let schema = json!({"type": "object"});
        let of_schema = StructuredOutput::json_schema(schema.clone());
        let strict =
            json!({"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": schema}});
        let spaced = of_schema.clone().with_whitespace_pattern(" ").with_disable_additional_properties(true);
        let options = json!({"json": schema, "whitespace_pattern": " ", "disable_additional_properties": true});
        let cases = [
            (of_schema.clone(), OpenAi, "response_format", strict),
            (of_schema.clone(), LlamaCpp, "response_format", json!({"type": "json_object", "schema": schema})),
            (of_schema, Vllm, "structured_outputs", json!({"json": schema, "disable_any_whitespace": true})),
            (spaced, Vllm, "structured_outputs", options),
            (StructuredOutput::json_object(), OpenAi, "response_format", json!({"type": "json_object"})),
            (StructuredOutput::choice(["a", "b"]), Vllm, "structured_outputs", json!({"choice": ["a", "b"]})),
        ];
        for (output, flavour, name, expected) in cases {
            let params = SamplingParams::default().with_structured_outputs(output);
            let request = Request::new("a", vec![Message::user("Hi")]).with_sampling_params(params);
            let (_, body) = lower(&request, flavour).expect("a body");
            assert_eq!(body[name], expected, "{flavour:?}");
        }
    }

    #[test]
    fn what_a_server_does_not_have_is_refused_by_name() {
        let base = || SamplingParams::default().with_max_tokens(8);
        let schema = || StructuredOutput::json_schema(json!({}));
        let text = |params: SamplingParams| Request::new("a", "Hi").with_sampling_params(params);
        let chat = |params| Request::new("a", vec![Message::user("Hi")]).with_sampling_params(params);
        let cases = [
            (text(base().with_top_k(1)), OpenAi, "top_k"),
            (text(base().with_min_p(0.1)), OpenAi, "min_p"),
            (text(base().with_repetition_penalty(1.1)), OpenAi, "repetition_penalty"),
            (text(base().with_min_tokens(1)), OpenAi, "min_tokens"),
            (text(base().with_ignore_eos(true)), OpenAi, "ignore_eos"),
            (text(base().with_skip_special_tokens(false)), LlamaCpp, "skip_special_tokens"),
            (text(base().with_n(2)), LlamaCpp, "n"),
            (text(base().with_stop_token_ids(vec![1])), LlamaCpp, "stop_token_ids"),
            (text(base().with_best_of(2)), Vllm, "best_of"),
            (chat(base().with_best_of(2)), OpenAi, "best_of"),
            (text(base().with_logprobs(6)), OpenAi, "logprobs"),
            (chat(base().with_logprobs(21)), OpenAi, "logprobs"),
            (text(base().with_logprobs(-1)), LlamaCpp, "logprobs"),
            (text(base().with_logprobs(1)).with_echo(true), OpenAi, "echo"),
            (text(base().with_prompt_logprobs(1)), OpenAi, "prompt_logprobs"),
            (chat(base().with_prompt_logprobs(1)), LlamaCpp, "prompt_logprobs"),
            (text(base().with_structured_outputs(schema())), OpenAi, "structured_outputs.json"),
            (chat(base().with_structured_outputs(StructuredOutput::regex("a"))), LlamaCpp, "structured_outputs.regex"),
            (
                chat(base().with_structured_outputs(schema().with_whitespace_pattern(" "))),
                OpenAi,
                "structured_outputs.whitespace_pattern",
            ),
            (chat(base()).with_echo(true), Vllm, "echo"),
            (text(base().with_truncate_prompt_tokens(3)).with_echo(true), Vllm, "echo"),
        ];
        for (request, flavour, expected) in cases {
            let error = lower(&request, flavour).expect_err(expected);
            assert_eq!((error.code(), error.param()), ("unsupported_parameter", Some(expected)), "{flavour:?}");
        }
        let missing = RequestError::MissingParam { param: "max_tokens".to_owned() };
        assert_eq!(lower(&Request::new("a", "Hi"), OpenAi), Err(missing));
        assert_eq!(lower(&Request::new("a", Vec::<u32>::new()), Vllm), Err(RequestError::EmptyPrompt));
        let invalid = lower(&text(base().with_top_p(2.0)), Vllm).map_err(|error| error.code());
        assert_eq!(invalid, Err("invalid_value"));
    }
}
