//! How does a question about a record become a line of a batch file, and its row an answer again?

use serde_json::{Map, Value, json};

use super::report::{Rejection, Stage};
use crate::batch::{BatchRequestInput, BatchRequestOutput, ChatChoice, ChatTokenLogprob, Endpoint, ResponseBody};
use crate::output::{CompletionOutput, FinishReason, RequestOutput, TokenLogprob, TokenLogprobs, Usage};
use crate::request::{OutputFormat, Prompt, Request, SamplingParams};

/// The line of a batch file of a request that [`CompiledSchema::request`](crate::curate::CompiledSchema::request) made: read again,
/// it is that request.
///
/// # Example
/// ```
/// use vllm_batch::curate::{Record, RequestOptions, SchemaRegistry};
/// use vllm_batch::pipeline::batch_line;
///
/// let schema = SchemaRegistry::builtin().get("cv_parsing").expect("it is built in");
/// let record = Record::new("cv-1").with_field("resume_text", "Ann, eight years of Rust");
/// let line = batch_line(&schema.request(&record, &RequestOptions::default())?, "qwen3-8b");
/// assert_eq!((line.custom_id.as_str(), &line.body["model"]), ("cv-1", &"qwen3-8b".into()));
/// # Ok::<(), vllm_batch::curate::PromptError>(())
/// ```
pub fn batch_line(request: &Request, model: &str) -> BatchRequestInput {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(model));
    if let Prompt::Messages(messages) = &request.prompt {
        body.insert("messages".to_owned(), json!(messages));
    }
    if let Some(params) = request.sampling_params() {
        add_params(&mut body, params);
    }
    BatchRequestInput::new(&*request.request_id, Endpoint::ChatCompletions, body)
}

fn add_params(body: &mut Map<String, Value>, params: &SamplingParams) {
    let mut add = |name: &str, value: Value| {
        if !value.is_null() {
            body.insert(name.to_owned(), value);
        }
    };
    // With the digits that it was written with.
    add("temperature", params.temperature.to_string().parse::<f64>().map_or(Value::Null, Value::from));
    add("n", json!(params.n));
    add("seed", json!(params.seed));
    add("max_tokens", json!(params.max_tokens));
    add("logprobs", json!(params.logprobs.map(|_| true)));
    if let Some(OutputFormat::JsonSchema(schema)) = params.structured_outputs.as_ref().map(|output| &output.format) {
        add("structured_outputs", json!({"json": schema}));
    }
}

/// The answer of a row and the model that gave it.
pub(in crate::pipeline) fn answer(row: BatchRequestOutput, line: usize) -> Result<(RequestOutput, String), Rejection> {
    let id = row.custom_id.clone();
    let reject = |code: &str, message: &str| Rejection {
        line,
        id: id.clone(),
        stage: Stage::Model,
        code: code.to_owned(),
        message: message.to_owned(),
    };
    if let Some(error) = &row.error {
        return Err(reject(&error.code, &error.message));
    }
    match row.response.map(|response| response.body) {
        Some(ResponseBody::ChatCompletion(chat)) => {
            let cached = chat.usage.prompt_tokens_details.map_or(0, |details| details.cached_tokens);
            let usage = Usage::new(chat.usage.prompt_tokens, chat.usage.completion_tokens, cached);
            let outputs = chat.choices.into_iter().map(completion).collect();
            let id = row.custom_id.unwrap_or_default();
            Ok((RequestOutput::new(id, [].into(), outputs, usage), chat.model))
        }
        Some(ResponseBody::Error { error }) => Err(reject(error.code.as_deref().unwrap_or("refused"), &error.message)),
        _ => Err(reject("invalid_row", "the row holds no answer to a conversation")),
    }
}

fn completion(choice: ChatChoice) -> CompletionOutput {
    let finish_reason = match choice.finish_reason.as_deref() {
        Some("length") => FinishReason::Length,
        Some("tool_calls") => FinishReason::ToolCalls,
        Some("repetition") => FinishReason::Repetition,
        _ => FinishReason::Stop,
    };
    let mut output = CompletionOutput::new(choice.message.content.unwrap_or_default(), Vec::new(), finish_reason, None);
    output.index = choice.index;
    output.logprobs =
        choice.logprobs.and_then(|logprobs| logprobs.content).map(|tokens| tokens.into_iter().map(token).collect());
    output
}

fn token(token: ChatTokenLogprob) -> TokenLogprobs {
    let bytes = token.bytes.unwrap_or_else(|| token.token.into_bytes());
    TokenLogprobs::new(TokenLogprob::new(None, token.logprob, None, bytes), Vec::new())
}
