//! An answer as the server gives it.

use serde::Deserialize;
use serde_json::Value;

use super::{logprobs, refusal};
use crate::error::RequestError;
use crate::output::{CompletionOutput, FinishReason, RequestOutput, StopReason, TextDelta, TokenLogprobs, Usage};
use crate::request::{Prompt, Request, ToolCall};

/// The body of an answer to either endpoint; what is not here is skipped.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<WireUsage>,
    /// vLLM has it here for conversations.
    #[serde(default)]
    prompt_token_ids: Option<Vec<u32>>,
    /// The same. Only read if asked for.
    #[serde(default)]
    prompt_logprobs: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    index: usize,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    message: Option<WireMessage>,
    finish_reason: Option<String>,
    #[serde(default)]
    stop_reason: Option<WireStopReason>,
    #[serde(default)]
    token_ids: Option<Vec<u32>>,
    /// vLLM has it here for other prompts.
    #[serde(default)]
    prompt_token_ids: Option<Vec<u32>>,
    #[serde(default)]
    prompt_logprobs: Option<Value>,
    /// In one of two forms. Only read if asked for.
    #[serde(default)]
    logprobs: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct WireMessage {
    #[serde(default)]
    content: Option<String>,
    /// vLLM's name.
    #[serde(default)]
    reasoning: Option<String>,
    /// Its older one, and that of other servers.
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<ToolCall>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WireStopReason {
    Token(u32),
    String(String),
}

#[derive(Debug, Deserialize)]
pub(super) struct WireUsage {
    #[serde(default)]
    prompt_tokens: usize,
    #[serde(default)]
    completion_tokens: usize,
    #[serde(default)]
    prompt_tokens_details: Option<PromptTokensDetails>,
}

#[derive(Debug, Deserialize)]
struct PromptTokensDetails {
    #[serde(default)]
    cached_tokens: Option<usize>,
}

impl Answer {
    /// Reads a body that is to hold so many answers. An error says what is wrong with it.
    pub(super) fn parse(body: &[u8], num_answers: usize) -> Result<Self, String> {
        let mut answer: Self = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        answer.choices.sort_by_key(|choice| choice.index);
        if !answer.choices.iter().map(|choice| choice.index).eq(0..num_answers) {
            return Err(format!("{} choices, where {num_answers} were asked for", answer.choices.len()));
        }
        if answer.choices.iter().any(|choice| choice.text.is_none() && choice.message.is_none()) {
            return Err("a choice without `text` and `message`".to_owned());
        }
        Ok(answer)
    }

    /// The events of the answer: for each choice a delta, then the whole.
    pub(super) fn into_output(mut self, request: &Request) -> Result<(Vec<TextDelta>, RequestOutput), RequestError> {
        let usage = self.usage();
        let prompt_token_ids = self.take_prompt_token_ids(request);
        let prompt_logprobs = self.take_prompt_logprobs(request, &prompt_token_ids)?;
        let num_top = request.sampling_params().and_then(|params| params.logprobs).map(logprobs::num_top);
        let outputs = self.choices.into_iter().map(|choice| choice.into_output(num_top));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        let deltas = deltas(&outputs, usage);
        let mut output = RequestOutput::new(request.request_id.clone(), prompt_token_ids.into(), outputs, usage);
        output.prompt_logprobs = prompt_logprobs;
        if let (true, Prompt::Text(text)) = (request.echo, &request.prompt) {
            output.prompt = Some(text.clone());
        }
        Ok((deltas, output))
    }

    fn usage(&self) -> Usage {
        let generated = || self.choices.iter().map(|choice| choice.token_ids.as_ref().map_or(0, Vec::len)).sum();
        self.usage.as_ref().map_or_else(|| Usage::new(0, generated(), 0), Usage::from)
    }

    /// What the server says, else what was sent, else nothing.
    fn take_prompt_token_ids(&mut self, request: &Request) -> Vec<u32> {
        let said = self.prompt_token_ids.take().or_else(|| self.choices.first_mut()?.prompt_token_ids.take());
        match (said, &request.prompt) {
            (Some(token_ids), _) => token_ids,
            (None, prompt) => {
                whole_prompt(prompt, request.sampling_params().and_then(|params| params.truncate_prompt_tokens))
            }
        }
    }

    fn take_prompt_logprobs(
        &mut self,
        request: &Request,
        prompt_token_ids: &[u32],
    ) -> Result<Option<Vec<Option<TokenLogprobs>>>, RequestError> {
        let count = request.sampling_params().and_then(|params| params.num_prompt_logprobs(request.echo));
        let Some(count) = count else { return Ok(None) };
        let said = self.prompt_logprobs.take().or_else(|| self.choices.first_mut()?.prompt_logprobs.take());
        logprobs::of_prompt(said, prompt_token_ids, logprobs::num_top(count)).map(Some)
    }
}

/// The prompt's tokens, if they are known: it was sent as such, and is not cut off.
pub(super) fn whole_prompt(prompt: &Prompt, truncate_prompt_tokens: Option<i32>) -> Vec<u32> {
    match prompt {
        Prompt::TokenIds(token_ids) if truncate_prompt_tokens.is_none() => token_ids.clone(),
        _ => Vec::new(),
    }
}

impl From<&WireUsage> for Usage {
    fn from(usage: &WireUsage) -> Self {
        let cached = usage.prompt_tokens_details.as_ref().and_then(|details| details.cached_tokens).unwrap_or(0);
        Self::new(usage.prompt_tokens, usage.completion_tokens, cached)
    }
}

impl Choice {
    /// With log-probabilities of so many of the most likely tokens, if asked for.
    fn into_output(self, num_top: Option<usize>) -> Result<CompletionOutput, RequestError> {
        let finish_reason = match self.finish_reason.as_deref() {
            Some("stop") => FinishReason::Stop,
            Some("length") => FinishReason::Length,
            Some("tool_calls") => FinishReason::ToolCalls,
            Some("repetition") => FinishReason::Repetition,
            reason => return Err(refusal::unfinished(reason)),
        };
        let stop_reason = self.stop_reason.map(|reason| match reason {
            WireStopReason::Token(token_id) => StopReason::Token(token_id),
            WireStopReason::String(text) => StopReason::String(text),
        });
        let message = self.message.unwrap_or_default();
        let text = self.text.or(message.content).unwrap_or_default();
        let mut output = CompletionOutput::new(text, self.token_ids.unwrap_or_default(), finish_reason, stop_reason);
        output.index = self.index;
        output.reasoning = message.reasoning.or(message.reasoning_content);
        output.tool_calls = message.tool_calls.unwrap_or_default();
        if let Some(num_top) = num_top {
            output.logprobs = logprobs::of_answer(self.logprobs, &output, num_top)?;
            let sum = |tokens: &Vec<TokenLogprobs>| tokens.iter().map(|token| f64::from(token.chosen.logprob)).sum();
            output.cumulative_logprob = output.logprobs.as_ref().map(sum);
        }
        Ok(output)
    }
}

/// One for each answer. Where the token ids are unknown, all tokens count to the first.
fn deltas(outputs: &[CompletionOutput], usage: Usage) -> Vec<TextDelta> {
    let known: usize = outputs.iter().map(|output| output.token_ids.len()).sum();
    let unknown = usage.completion_tokens.saturating_sub(known);
    let delta = |output: &CompletionOutput| {
        let more = if output.index == 0 { unknown } else { 0 };
        TextDelta::new(output.text.clone(), output.token_ids.len() + more)
            .with_reasoning(output.reasoning.clone().unwrap_or_default())
            .with_index(output.index)
    };
    outputs.iter().map(delta).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::SamplingParams;
    use serde_json::{Value, json};

    fn parse(body: &Value, request: &Request) -> Result<(Vec<TextDelta>, RequestOutput), String> {
        let num_answers = request.sampling_params().map_or(0, |params| params.n as usize);
        let answer = Answer::parse(body.to_string().as_bytes(), num_answers)?;
        answer.into_output(request).map_err(|error| error.to_string())
    }

    #[test]
    fn all_that_the_server_says_is_taken_over() {
        let request = Request::new("a", "Hi").with_echo(true).with_sampling_params(SamplingParams::default().with_n(2));
        let body = json!({
            "id": "cmpl-1", "model": "other",
            "choices": [
                {"index": 1, "text": "two", "finish_reason": "length", "stop_reason": null, "token_ids": [4]},
                {"index": 0, "text": "one", "finish_reason": "stop", "stop_reason": 9, "token_ids": [3, 9],
                    "prompt_token_ids": [1, 2], "logprobs": null},
            ],
            "usage": {"prompt_tokens": 2, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}},
        });
        let first = CompletionOutput::new("one".to_owned(), vec![3, 9], FinishReason::Stop, Some(StopReason::Token(9)));
        let mut second = CompletionOutput::new("two".to_owned(), vec![4], FinishReason::Length, None);
        second.index = 1;
        let mut output =
            RequestOutput::new("a".to_owned(), vec![1, 2].into(), vec![first, second], Usage::new(2, 3, 1));
        output.prompt = Some("Hi".to_owned());
        let deltas = vec![TextDelta::new("one".to_owned(), 2), TextDelta::new("two".to_owned(), 1).with_index(1)];
        assert_eq!(parse(&body, &request), Ok((deltas, output)));
    }

    #[test]
    fn calls_and_thoughts_are_taken_over() {
        let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        for name in ["reasoning", "reasoning_content"] {
            let message = json!({"role": "assistant", "content": null, name: "Hm", "tool_calls": [call]});
            let body = json!({"choices": [{"message": message, "finish_reason": "tool_calls"}]});
            let (_, output) = parse(&body, &Request::new("a", vec![7])).unwrap();
            let answer = &output.outputs[0];
            assert_eq!((answer.text.as_str(), answer.reasoning.as_deref()), ("", Some("Hm")));
            assert_eq!(answer.tool_calls, [ToolCall::new("1", "f", "{}")]);
            assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
        }
    }

    #[test]
    fn what_the_server_does_not_say_is_empty() {
        let choice = json!({"message": {"content": null}, "finish_reason": "stop", "stop_reason": "\n"});
        let usage = json!({"prompt_tokens": 2, "completion_tokens": 3, "prompt_tokens_details": null});
        let stopped = Some(StopReason::String("\n".to_owned()));
        let cases = [
            (json!({"choices": [choice], "usage": usage}), Usage::new(2, 3, 0), 3),
            (json!({"choices": [choice]}), Usage::default(), 0),
        ];
        for (body, usage, num_tokens) in cases {
            let answer = CompletionOutput::new(String::new(), vec![], FinishReason::Stop, stopped.clone());
            let output = RequestOutput::new("a".to_owned(), vec![7].into(), vec![answer], usage);
            let delta = TextDelta::new(String::new(), num_tokens);
            assert_eq!(parse(&body, &Request::new("a", vec![7])), Ok((vec![delta], output)));
        }
    }

    #[test]
    fn bodies_that_are_no_answer_are_refused() {
        let choice = |reason: &str| json!({"index": 0, "text": "x", "finish_reason": reason});
        let cases = [
            (json!([]), "invalid length"),
            (json!({"object": "x"}), "missing field `choices`"),
            (json!({"choices": []}), "0 choices, where 1 were asked for"),
            (json!({"choices": [choice("stop"), choice("stop")]}), "2 choices, where 1 were asked for"),
            (json!({"choices": [{"index": 0, "finish_reason": "stop"}]}), "without `text` and `message`"),
            (json!({"choices": [choice("content_filter")]}), "content_filter"),
            (json!({"choices": [{"text": "x", "finish_reason": null}]}), "without a reason"),
        ];
        for (body, expected) in cases {
            let error = parse(&body, &Request::new("a", "Hi")).expect_err(expected);
            assert!(error.contains(expected), "{body}: {error}");
        }
    }
}
