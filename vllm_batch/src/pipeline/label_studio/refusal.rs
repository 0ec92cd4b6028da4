//! An answer with another status than 2xx, as an error.

use serde_json::Value;

use super::LabelStudioError;
use super::client::Reply;
use crate::http::is_transient;

/// Longer messages are cut: some come as a page of HTML.
const MAX_MESSAGE_CHARS: usize = 500;

/// What a reply with another status than 2xx means.
pub(super) fn of_reply(reply: &Reply, path: &str) -> LabelStudioError {
    let (message, errors) = parts(&reply.body);
    let status = reply.status;
    match status {
        401 | 403 => LabelStudioError::Unauthorized { status, message },
        404 => LabelStudioError::NotFound { path: path.to_owned(), message },
        status if is_transient(status) => LabelStudioError::Server { status, message, retry_after: reply.retry_after },
        300..=399 => {
            let message = format!("it is a redirect: the URL of the client may be wrong. {message}");
            LabelStudioError::InvalidResponse { status, message }
        }
        _ => LabelStudioError::Refused { status, message, errors },
    }
}

/// The message and the details of an error body: Label Studio's form, a bare list or object of texts, or any text.
fn parts(body: &[u8]) -> (String, Vec<(String, String)>) {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return (of_page(&String::from_utf8_lossy(body)), Vec::new());
    };
    let detail = value["detail"].as_str().map(str::to_owned);
    let details = if detail.is_some() { &value["validation_errors"] } else { &value };
    let mut errors = Vec::new();
    collect("", details, &mut errors);
    (shorten(&detail.unwrap_or_else(|| "it was refused".to_owned())), errors)
}

/// All texts within, each with the key of the object that it is in.
fn collect(field: &str, value: &Value, errors: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => errors.push((field.to_owned(), text.clone())),
        Value::Array(items) => items.iter().for_each(|item| collect(field, item, errors)),
        Value::Object(members) => members.iter().for_each(|(key, value)| collect(key, value, errors)),
        _ => {}
    }
}

/// Of a page of HTML its title, of another text the beginning.
fn of_page(text: &str) -> String {
    let title = text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    shorten(title.map_or(text, |(title, _)| title).trim())
}

fn shorten(text: &str) -> String {
    text.chars().take(MAX_MESSAGE_CHARS).collect()
}

/// The tasks of a refused import that are at fault, by their place in it, with what is said of each: strict servers name them
/// as `Task 3, prediction 0: …`. Empty if the refusal does not say which.
pub(super) fn tasks_at_fault(errors: &[(String, String)], num_tasks: usize) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    for (_, message) in errors {
        let Some(index) = named_task(message).filter(|index| *index < num_tasks) else { continue };
        match found.iter_mut().find(|(other, _)| *other == index) {
            Some((_, text)) => {
                text.push_str("; ");
                text.push_str(message);
            }
            None => found.push((index, message.clone())),
        }
    }
    found
}

fn named_task(message: &str) -> Option<usize> {
    let rest = message.strip_prefix("Task ")?;
    let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    rest[digits..].starts_with(", prediction").then(|| rest[..digits].parse().ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(status: u16, body: &str) -> LabelStudioError {
        of_reply(&Reply { status, retry_after: None, body: body.as_bytes().to_vec() }, "/api/projects/9/")
    }

    #[test]
    fn every_form_of_error_is_understood() {
        let strict = json!({
            "id": "u", "status_code": 400, "version": "1.23.2", "detail": "Validation error", "exc_info": null,
            "validation_errors": {"non_field_errors": ["Task 1, prediction 0: Region 0: Invalid value", "other"]},
        });
        let failed = format!("the server failed with HTTP 500: {}", "x".repeat(500));
        let page = "<!DOCTYPE html><html><head><title>Not Found</title></head></html>";
        let cases = [
            (
                400,
                strict.to_string(),
                "refused",
                "HTTP 400: Validation error\n  non_field_errors: Task 1, prediction 0: Region 0: Invalid value\n  non_field_errors: other",
            ),
            (400, json!(["no tasks"]).to_string(), "refused", "HTTP 400: it was refused\n  no tasks"),
            (404, page.to_owned(), "not_found", "there is no /api/projects/9/: Not Found"),
            (
                401,
                json!({"detail": "Invalid token."}).to_string(),
                "unauthorized",
                "the server refused the token with HTTP 401: Invalid token.",
            ),
            (500, "x".repeat(1000), "server_error", failed.as_str()),
            (
                302,
                String::new(),
                "invalid_response",
                "HTTP 302, but the answer is not Label Studio's: it is a redirect: the URL of the client may be wrong. ",
            ),
            (413, "too large".to_owned(), "refused", "HTTP 413: too large"),
        ];
        for (status, body, code, text) in cases {
            let error = error(status, &body);
            assert_eq!((error.code(), error.to_string().as_str(), error.status()), (code, text, Some(status)));
        }
    }

    #[test]
    fn tasks_at_fault_are_found() {
        let say = |text: &str| ("non_field_errors".to_owned(), text.to_owned());
        let errors = [
            "Task 1, prediction 0: a",
            "Task 12, prediction 3: b",
            "Task 1, prediction 1: c",
            "Task 99, prediction 0: d",
            "Task x",
            "e",
        ];
        let found = tasks_at_fault(&errors.map(say), 13);
        let expected = [(1, "Task 1, prediction 0: a; Task 1, prediction 1: c"), (12, "Task 12, prediction 3: b")];
        assert_eq!(found, expected.map(|(index, text)| (index, text.to_owned())));
    }
}
