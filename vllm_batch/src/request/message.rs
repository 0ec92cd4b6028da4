//! Who said what in a conversation.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::tools::ToolCall;
use crate::error::RequestError;

/// One message of a conversation, in `OpenAI`'s form.
///
/// # Example
/// ```
/// use vllm_batch::{Message, ToolCall};
///
/// let call = ToolCall::new("call_1", "get_weather", r#"{"city":"Paris"}"#);
/// let messages = vec![
///     Message::user("Is it warm in Paris?"),
///     Message::assistant("").with_tool_calls(vec![call]),
///     Message::tool("call_1", r#"{"celsius":21}"#),
/// ];
/// assert_eq!(
///     serde_json::to_string(&messages[2])?,
///     r#"{"role":"tool","content":"{\"celsius\":21}","tool_call_id":"call_1"}"#
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; empty for an assistant that only calls tools. `OpenAI`'s lists of text parts are joined when a batch
    /// line is parsed.
    #[serde(default, deserialize_with = "or_empty")]
    pub content: String,
    /// The name of the speaker or, with [`Role::Tool`], of the function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What an assistant said to itself before the content: vLLM's `reasoning`.
    #[serde(default, alias = "reasoning_content", skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The functions that an assistant called.
    #[serde(default, deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a [`Role::Tool`] message is the result of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// `null` counts as absent.
fn or_empty<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Message {
    /// A message of any role.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        let content = content.into();
        Self { role, content, name: None, reasoning: None, tool_calls: Vec::new(), tool_call_id: None }
    }

    /// Instructions that hold for the whole conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    /// The human's turn.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    /// The model's turn.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }

    /// The result of the call with the id `tool_call_id`.
    pub fn tool(tool_call_id: impl Into<String>, content: impl Into<String>) -> Self {
        Self { tool_call_id: Some(tool_call_id.into()), ..Self::new(Role::Tool, content) }
    }

    /// Sets [`name`](Self::name).
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets [`reasoning`](Self::reasoning).
    #[must_use]
    pub fn with_reasoning(mut self, reasoning: impl Into<String>) -> Self {
        self.reasoning = Some(reasoning.into());
        self
    }

    /// Sets [`tool_calls`](Self::tool_calls).
    #[must_use]
    pub fn with_tool_calls(mut self, tool_calls: Vec<ToolCall>) -> Self {
        self.tool_calls = tool_calls;
        self
    }

    /// Checks that the message says only what its role can say. `param` is its path, such as `messages[3]`.
    ///
    /// # Errors
    /// [`RequestError::InvalidParam`] for calls of another role than the assistant, for an id of another role than the tool,
    /// and for calls whose arguments are no JSON object.
    pub(crate) fn validate(&self, param: &str) -> Result<(), RequestError> {
        if self.role != Role::Assistant && !self.tool_calls.is_empty() {
            return Err(RequestError::invalid(format!("{param}.tool_calls"), "only an assistant calls tools"));
        }
        if self.role != Role::Tool && self.tool_call_id.is_some() {
            return Err(RequestError::invalid(format!("{param}.tool_call_id"), "is for messages of the role tool"));
        }
        let mut calls = self.tool_calls.iter().enumerate();
        calls.try_for_each(|(index, call)| call.validate(&format!("{param}.tool_calls[{index}]")))
    }

    /// The message as chat templates see it: arguments as objects, and the thoughts under all names that templates use, in
    /// the order of transformers.
    pub(crate) fn to_template_value(&self) -> Result<Value, RequestError> {
        let mut value = serde_json::to_value(self).map_err(|error| unwritable(&error))?;
        for (index, call) in self.tool_calls.iter().enumerate() {
            value["tool_calls"][index]["function"]["arguments"] = Value::Object(call.parsed_arguments()?);
        }
        let (Some(reasoning), Value::Object(fields)) = (&self.reasoning, &mut value) else { return Ok(value) };
        let mut all = Map::from_iter([("thinking".to_owned(), reasoning.as_str().into())]);
        all.append(fields);
        all.insert("reasoning_content".to_owned(), reasoning.as_str().into());
        Ok(Value::Object(all))
    }
}

fn unwritable(error: &serde_json::Error) -> RequestError {
    RequestError::invalid("messages", error.to_string())
}

/// Who speaks in a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// Instructions that hold for the whole conversation.
    System,
    /// OpenAI's newer name for system instructions, passed to the chat template as it is.
    Developer,
    /// The human.
    User,
    /// The model.
    Assistant,
    /// The result of a tool.
    Tool,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_have_openais_form() {
        let call = ToolCall::new("call_1", "f", r#"{"a":1}"#);
        let cases = [
            (Message::user("x"), json!({"role": "user", "content": "x"})),
            (Message::user("x").with_name("Ann"), json!({"role": "user", "content": "x", "name": "Ann"})),
            (
                Message::assistant("").with_reasoning("hm").with_tool_calls(vec![call]),
                json!({
                    "role": "assistant", "content": "", "reasoning": "hm",
                    "tool_calls": [{"id": "call_1", "type": "function",
                        "function": {"name": "f", "arguments": r#"{"a":1}"#}}],
                }),
            ),
            (Message::tool("call_1", "3"), json!({"role": "tool", "content": "3", "tool_call_id": "call_1"})),
        ];
        for (message, value) in cases {
            assert_eq!(serde_json::to_value(&message).unwrap(), value);
            assert_eq!(serde_json::from_value::<Message>(value).unwrap(), message);
        }
        let null = json!({"role": "assistant", "content": null, "tool_calls": null, "reasoning_content": "hm"});
        assert_eq!(serde_json::from_value::<Message>(null).unwrap(), Message::assistant("").with_reasoning("hm"));
    }

    #[test]
    fn templates_see_arguments_as_objects() {
        let calls = vec![ToolCall::new("1", "f", r#"{"b":[1],"a":null}"#), ToolCall::new("2", "g", "")];
        let value = Message::assistant("x").with_reasoning("hm").with_tool_calls(calls).to_template_value().unwrap();
        let expected = json!({
            "thinking": "hm", "role": "assistant", "content": "x", "reasoning": "hm", "reasoning_content": "hm",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"b": [1], "a": null}}},
                {"id": "2", "type": "function", "function": {"name": "g", "arguments": {}}},
            ],
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn each_role_says_what_it_can() {
        let call = |arguments: &str| vec![ToolCall::new("1", "f", arguments)];
        let cases = [
            (Message::user("x").with_tool_calls(call("{}")), Some("m.tool_calls")),
            (Message { role: Role::User, ..Message::tool("1", "x") }, Some("m.tool_call_id")),
            (Message::assistant("").with_tool_calls(call("{")), Some("m.tool_calls[0].function.arguments")),
            (Message::assistant("").with_tool_calls(call("[]")), Some("m.tool_calls[0].function.arguments")),
            (Message::assistant("").with_tool_calls(call("")), None),
            (Message::assistant("").with_tool_calls(call(" {} ")), None),
            (Message::tool("1", "x").with_name("f"), None),
        ];
        for (message, expected) in cases {
            let found = message.validate("m");
            assert_eq!(found.as_ref().err().and_then(RequestError::param), expected, "{message:?}");
        }
    }
}
