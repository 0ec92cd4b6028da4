//! Tools for templates that know nothing of them.

use std::{borrow::Cow, fmt::Write};

use super::tool_calls::ToolCallFormat;
use crate::request::{Message, Role, Tool};

/// The conversation with the tools described in its system message, in the Hermes format.
pub(super) fn describe_tools<'a>(messages: &'a [Message], tools: &[Tool]) -> Cow<'a, [Message]> {
    if tools.is_empty() {
        return Cow::Borrowed(messages);
    }
    let mut messages = messages.to_vec();
    let description = description(tools);
    match messages.first_mut().filter(|first| matches!(first.role, Role::System | Role::Developer)) {
        Some(first) if first.content.is_empty() => first.content = description,
        Some(first) => first.content = format!("{}\n\n{description}", first.content),
        None => messages.insert(0, Message::system(description)),
    }
    Cow::Owned(messages)
}

/// The conversation with calls as text, in the Hermes format.
pub(super) fn write_out_calls(messages: &[Message]) -> Vec<Message> {
    messages.iter().map(with_calls_written).collect()
}

fn description(tools: &[Tool]) -> String {
    let mut text =
        "You can call functions. Each line between <tools> and </tools> describes one:\n<tools>\n".to_owned();
    for tool in tools {
        // Writing to a string cannot fail, nor can data of strings and JSON be unwritable.
        let _ = writeln!(text, "{}", serde_json::json!(tool));
    }
    let format = ToolCallFormat::hermes();
    text += "</tools>\n\nTo call one, write its name and its arguments like this:\n";
    text + &format.open + "{\"name\": <name>, \"arguments\": <JSON object>}" + &format.close
}

fn with_calls_written(message: &Message) -> Message {
    if message.tool_calls.is_empty() {
        return message.clone();
    }
    let format = ToolCallFormat::hermes();
    let arguments = |text: &str| if text.trim().is_empty() { "{}".to_owned() } else { text.to_owned() };
    let calls = message.tool_calls.iter();
    let calls: Vec<String> =
        calls.map(|call| format.before_arguments(&call.name) + &arguments(&call.arguments) + "}").collect();
    let calls = [&format.open, calls.join(&format.between).as_str(), &format.close].concat();
    let content = if message.content.is_empty() { calls } else { format!("{}\n{calls}", message.content) };
    Message { content, tool_calls: Vec::new(), ..message.clone() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::ToolCall;

    #[test]
    fn tools_are_described_in_the_system_message() {
        let tools = [Tool::new("f").with_parameters(json!({"type": "object"})), Tool::new("g")];
        let expected = "You can call functions. Each line between <tools> and </tools> describes one:\n<tools>\n\
            {\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}\n\
            {\"type\":\"function\",\"function\":{\"name\":\"g\"}}\n</tools>\n\n\
            To call one, write its name and its arguments like this:\n\
            <tool_call>\n{\"name\": <name>, \"arguments\": <JSON object>}\n</tool_call>";
        let user = || Message::user("x");
        let cases = [
            (vec![user()], vec![Message::system(expected), user()]),
            (vec![Message::system("S"), user()], vec![Message::system(format!("S\n\n{expected}")), user()]),
            (vec![Message::system("")], vec![Message::system(expected)]),
        ];
        for (messages, expected) in cases {
            assert_eq!(describe_tools(&messages, &tools), expected);
        }
        assert_eq!(describe_tools(&[user()], &[]), vec![user()]);
    }

    #[test]
    fn calls_become_text() {
        let calls = vec![ToolCall::new("1", "f", r#"{"a":1}"#), ToolCall::new("2", "g", "")];
        let messages = [
            Message::user("x"),
            Message::assistant("Well.").with_tool_calls(calls),
            Message::tool("1", "one"),
            Message::assistant("").with_tool_calls(vec![ToolCall::new("3", "g", "{}")]),
        ];
        let expected = vec![
            Message::user("x"),
            Message::assistant(
                "Well.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\":1}}\n</tool_call>\n\
                 <tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>",
            ),
            Message::tool("1", "one"),
            Message::assistant("<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>"),
        ];
        assert_eq!(write_out_calls(&messages), expected);
    }
}
