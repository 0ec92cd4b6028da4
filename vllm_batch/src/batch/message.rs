//! The messages of a conversation.

use serde_json::{Map, Value};

use super::json::{field, kind, list, optional, string, unsupported, wrong_type};
use super::tools::tool_call;
use crate::error::RequestError;
use crate::request::{Message, Role};

/// The conversation of a body.
pub(super) fn messages(value: Value) -> Result<Vec<Message>, RequestError> {
    let messages = list(value, "messages", message)?;
    if messages.is_empty() {
        return Err(RequestError::invalid("messages", "must hold at least one message"));
    }
    Ok(messages)
}

fn message(value: Value, param: &str) -> Result<Message, RequestError> {
    let Value::Object(mut fields) = value else {
        return Err(wrong_type(param, "an object with `role` and `content`", &value));
    };
    let role = role(&field(&mut fields, param, "role")?, &format!("{param}.role"))?;
    let calls = optional_list(&mut fields, "tool_calls", param, tool_call)?;
    let content = match optional(&mut fields, "content") {
        Some(value) => content(value, &format!("{param}.content"))?,
        None if role == Role::Assistant && !calls.is_empty() => String::new(),
        None => return Err(RequestError::MissingParam { param: format!("{param}.content") }),
    };
    let mut message = Message::new(role, content).with_tool_calls(calls);
    let mut text = |name: &str| match optional(&mut fields, name) {
        Some(value) => string(value, &format!("{param}.{name}")).map(Some),
        None => Ok(None),
    };
    (message.name, message.tool_call_id) = (text("name")?, text("tool_call_id")?);
    // vLLM's two names.
    let older = text("reasoning_content")?;
    message.reasoning = text("reasoning")?.or(older);
    let is_nothing = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    if let Some(name) = fields.iter().filter(|(_, value)| !is_nothing(value)).map(|(name, _)| name).min() {
        return Err(unsupported(&format!("{param}.{name}"), "it is unknown here"));
    }
    message.validate(param)?;
    Ok(message)
}

fn optional_list<T>(
    fields: &mut Map<String, Value>,
    name: &str,
    param: &str,
    read: impl Fn(Value, &str) -> Result<T, RequestError>,
) -> Result<Vec<T>, RequestError> {
    match optional(fields, name) {
        Some(value) => list(value, &format!("{param}.{name}"), read),
        None => Ok(Vec::new()),
    }
}

fn role(value: &Value, param: &str) -> Result<Role, RequestError> {
    match value.as_str() {
        Some("system") => Ok(Role::System),
        Some("developer") => Ok(Role::Developer),
        Some("user") => Ok(Role::User),
        Some("assistant") => Ok(Role::Assistant),
        Some("tool") => Ok(Role::Tool),
        found => {
            let found = found.map_or_else(|| kind(value).to_owned(), |role| format!("`{role}`"));
            let message = format!("expected system, developer, user, assistant or tool, found {found}");
            Err(RequestError::invalid(param, message))
        }
    }
}

fn content(value: Value, param: &str) -> Result<String, RequestError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Array(_) => {
            let parts = list(value, param, text_part)?;
            if parts.is_empty() {
                return Err(RequestError::invalid(param, "must hold at least one part"));
            }
            Ok(parts.join("\n"))
        }
        other => Err(wrong_type(param, "a string or an array of parts", &other)),
    }
}

fn text_part(value: Value, param: &str) -> Result<String, RequestError> {
    let Value::Object(mut fields) = value else {
        return Err(wrong_type(param, "an object with `type` and `text`", &value));
    };
    let kind = string(field(&mut fields, param, "type")?, &format!("{param}.type"))?;
    if kind != "text" {
        return Err(unsupported(&format!("{param}.type"), &format!("`{kind}` parts cannot be read, only `text`")));
    }
    string(field(&mut fields, param, "text")?, &format!("{param}.text"))
}
