//! An error as the server gives it, and what goes wrong on the way.

use serde_json::Value;

use super::client::Reply;
use super::worker::Failure;
use crate::error::RequestError;
use crate::http::is_transient;

/// Longer messages are cut: some servers send a page of HTML, or the whole request back.
const MAX_MESSAGE_CHARS: usize = 500;

/// No server answered.
pub(super) fn no_answer(code: &str, message: String) -> RequestError {
    RequestError::Remote { status: None, code: code.to_owned(), message }
}

/// The server answered with something else than the API says.
pub(super) fn invalid_response(status: u16, message: String) -> RequestError {
    RequestError::Remote { status: Some(status), code: "invalid_response".to_owned(), message }
}

/// The server's answer is longer than allowed.
pub(super) fn too_large(status: u16, limit: u64) -> RequestError {
    let message = format!("the body is longer than max_response_bytes, which is {limit}");
    RequestError::Remote { status: Some(status), code: "response_too_large".to_owned(), message }
}

/// The server ended an answer before it was complete.
pub(super) fn unfinished(reason: Option<&str>) -> RequestError {
    let message = reason.map_or_else(
        || "an answer ended without a reason".to_owned(),
        |reason| format!("an answer ended with `{reason}`"),
    );
    RequestError::Remote { status: Some(200), code: reason.unwrap_or("invalid_response").to_owned(), message }
}

/// What a reply with another status than 200 means. `model` is the name in the request.
pub(super) fn of_reply(reply: &Reply, model: &str) -> Failure {
    let refusal = Refusal::parse(&reply.body);
    if is_transient(reply.status) {
        return match refusal.prompt_too_long() {
            // llama-cpp-python's server says it with 500, others may.
            Some(error) => Failure::Final(error),
            None => Failure::Transient { error: refusal.remote(reply.status), retry_after: reply.retry_after },
        };
    }
    Failure::Final(refusal.into_error(reply.status, model))
}

/// The parts of an error body, in `OpenAI`'s form or one of those that servers have besides.
#[derive(Debug, Default, PartialEq, Eq)]
struct Refusal {
    message: String,
    kind: Option<String>,
    param: Option<String>,
    code: Option<String>,
    /// llama.cpp's numbers, for a prompt that is too long.
    lengths: Option<(usize, usize)>,
    /// Whether it is the API that answered, and not something before it.
    is_api: bool,
}

impl Refusal {
    fn parse(body: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let (error, detail) = (&value["error"], &value["detail"]);
        if error.is_object() {
            Self::of_object(error)
        } else if let Some(message) = error.as_str() {
            Self { message: shorten(message), is_api: true, ..Self::default() }
        } else if value["message"].is_string() {
            Self::of_object(&value)
        } else if let Some(first) = detail.get(0) {
            Self::of_detail(first)
        } else {
            Self { message: shorten(&String::from_utf8_lossy(body)), ..Self::default() }
        }
    }

    fn of_object(error: &Value) -> Self {
        let text = |name: &str| match &error[name] {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        };
        let number = |name: &str| error[name].as_u64().map(|number| number as usize);
        Self {
            message: shorten(&text("message").unwrap_or_default()),
            kind: text("type"),
            param: text("param"),
            code: text("code"),
            lengths: number("n_prompt_tokens").zip(number("n_ctx")),
            is_api: true,
        }
    }

    /// `FastAPI`'s form: `{"loc": ["body", "top_p"], "msg": "…"}`.
    fn of_detail(detail: &Value) -> Self {
        let part = |part: &Value| part.as_str().map_or_else(|| part.to_string(), str::to_owned);
        let path: Vec<_> = detail["loc"].as_array().into_iter().flatten().skip(1).map(part).collect();
        Self {
            message: shorten(detail["msg"].as_str().unwrap_or_default()),
            param: Some(path.join(".")).filter(|path| !path.is_empty()),
            is_api: true,
            ..Self::default()
        }
    }

    fn into_error(self, status: u16, model: &str) -> RequestError {
        if let Some(error) = self.prompt_too_long() {
            return error;
        }
        let says_model = self.code.as_deref() == Some("model_not_found")
            || (status == 404
                && self.is_api
                && (self.param.as_deref() == Some("model") || self.kind.as_deref() == Some("NotFoundError")));
        if says_model {
            return RequestError::ModelNotFound { model: model.to_owned(), served: Vec::new() };
        }
        if matches!(status, 401 | 403) || (!self.is_api && matches!(status, 300..=399 | 404 | 405)) {
            return not_for_us(status, &self.message);
        }
        match (self.code.as_deref(), &self.param) {
            (Some("empty_prompt"), _) => RequestError::EmptyPrompt,
            (Some("missing_required_parameter"), Some(param)) => RequestError::MissingParam { param: param.clone() },
            (Some("unsupported_parameter"), Some(param)) => {
                RequestError::UnsupportedParam { param: param.clone(), message: self.message }
            }
            (_, Some(param)) if matches!(status, 400 | 422) => RequestError::invalid(param, self.message),
            _ => self.remote(status),
        }
    }

    /// Only with both numbers: a wrong one would be worse than the server's own words.
    fn prompt_too_long(&self) -> Option<RequestError> {
        let says_so = self.code.as_deref() == Some("context_length_exceeded")
            || self.kind.as_deref() == Some("exceed_context_size_error")
            || self.message.contains("maximum context length");
        let (prompt_tokens, max_model_len) = self.lengths.or_else(|| lengths_in(&self.message)).filter(|_| says_so)?;
        Some(RequestError::PromptTooLong { prompt_tokens, max_model_len })
    }

    fn remote(&self, status: u16) -> RequestError {
        let code = self.code.clone().or_else(|| self.kind.clone()).unwrap_or_else(|| format!("http_{status}"));
        RequestError::Remote { status: Some(status), code, message: self.message.clone() }
    }
}

/// The server does not want this client, or is not the one: no request will fare better.
fn not_for_us(status: u16, message: &str) -> RequestError {
    let hint = if matches!(status, 401 | 403) { "check the API key" } else { "check the base URL" };
    RequestError::EngineFailed { message: format!("the server answered with HTTP {status} ({hint}): {message}") }
}

/// The lengths of prompt and context in the sentences of `OpenAI`, vLLM and llama-cpp-python.
fn lengths_in(message: &str) -> Option<(usize, usize)> {
    let context = number_after(message, "maximum context length is ")?;
    let before = |words: &str| number_before(message, words);
    let prompt = before(" in the messages")
        .or_else(|| before(" in your prompt"))
        .or_else(|| before(" input tokens"))
        .or_else(|| number_after(message, "messages resulted in "))?;
    Some((prompt, context))
}

fn number_after(text: &str, words: &str) -> Option<usize> {
    let (_, rest) = text.split_once(words)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn number_before(text: &str, words: &str) -> Option<usize> {
    let (rest, _) = text.split_once(words)?;
    rest.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn shorten(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn error(status: u16, body: &str) -> (bool, RequestError) {
        let reply = Reply { status, retry_after: None, body: body.as_bytes().to_vec() };
        match of_reply(&reply, "m") {
            Failure::Transient { error, .. } => (true, error),
            Failure::Final(error) => (false, error),
        }
    }

    fn remote(status: u16, code: &str, message: &str) -> RequestError {
        RequestError::Remote { status: Some(status), code: code.to_owned(), message: message.to_owned() }
    }

    fn failed(message: &str) -> RequestError {
        RequestError::EngineFailed { message: message.to_owned() }
    }

    fn openai(message: &str, code: &str, param: Option<&str>) -> Value {
        json!({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}})
    }

    #[test]
    fn prompts_that_are_too_long_are_known_by_every_server_s_words() {
        let start = "This model's maximum context length is 2048 tokens";
        let openai_words = format!("{start}. However, your messages resulted in 2900 tokens.");
        let vllm =
            format!("{start}. However, you requested 100 output tokens and your prompt contains 2900 input tokens.");
        let python =
            format!("{start}, however you requested 3000 tokens (2900 in your prompt; 100 for the completion).");
        let numbers = json!({"type": "exceed_context_size_error", "n_prompt_tokens": 2900, "n_ctx": 2048});
        let cases = [
            (400, openai(&openai_words, "context_length_exceeded", Some("messages"))),
            (400, json!({"object": "error", "message": vllm, "type": "BadRequestError", "code": 400})),
            (400, openai(&python, "context_length_exceeded", Some("messages"))),
            (400, json!({"error": numbers})),
            (500, json!({"error": numbers})),
        ];
        for (status, body) in cases {
            let expected = RequestError::PromptTooLong { prompt_tokens: 2900, max_model_len: 2048 };
            assert_eq!(error(status, &body.to_string()), (false, expected), "{status} {body}");
        }
        let vague = openai("No.", "context_length_exceeded", None).to_string();
        assert_eq!(error(400, &vague), (false, remote(400, "context_length_exceeded", "No.")));
    }

    #[test]
    fn refusals_become_our_errors() {
        let not_found = RequestError::ModelNotFound { model: "m".to_owned(), served: vec![] };
        let unsupported = RequestError::UnsupportedParam { param: "n".to_owned(), message: "No.".to_owned() };
        let vllm = json!({"error": {"message": "No.", "type": "NotFoundError", "param": "model", "code": 404}});
        let fastapi = json!({"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "No."}]});
        let no_key = "the server answered with HTTP 401 (check the API key): No.";
        let no_path = "the server answered with HTTP 404 (check the base URL): {\"detail\":\"Not Found\"}";
        let cases = [
            (404, openai("No.", "model_not_found", None), not_found.clone()),
            (404, vllm, not_found),
            (400, openai("No.", "invalid_value", Some("top_p")), RequestError::invalid("top_p", "No.")),
            (400, openai("No.", "unsupported_parameter", Some("n")), unsupported),
            (
                400,
                openai("No.", "missing_required_parameter", Some("n")),
                RequestError::MissingParam { param: "n".to_owned() },
            ),
            (422, fastapi, RequestError::invalid("messages.0.role", "No.")),
            (400, openai("No.", "", None), remote(400, "invalid_request_error", "No.")),
            (413, json!({"error": "No."}), remote(413, "http_413", "No.")),
            (401, openai("No.", "invalid_api_key", None), failed(no_key)),
            (404, json!({"detail": "Not Found"}), failed(no_path)),
        ];
        for (status, body, expected) in cases {
            assert_eq!(error(status, &body.to_string()), (false, expected), "{status} {body}");
        }
        let busy = openai("Wait.", "rate_limit_exceeded", None).to_string();
        assert_eq!(error(429, &busy), (true, remote(429, "rate_limit_exceeded", "Wait.")));
    }

    #[test]
    fn bodies_that_are_no_json_are_quoted_and_cut() {
        let page = "é".repeat(600);
        let cut = format!("{}…", "é".repeat(500));
        assert_eq!(
            error(502, "<html>Bad Gateway</html>\n"),
            (true, remote(502, "http_502", "<html>Bad Gateway</html>"))
        );
        assert_eq!(error(503, &page), (true, remote(503, "http_503", &cut)));
        assert_eq!(error(400, ""), (false, remote(400, "http_400", "")));
        assert_eq!(error(302, ""), (false, failed("the server answered with HTTP 302 (check the base URL): ")));
    }
}
