//! Which functions may the model call, and which must it?

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::RequestError;

/// The longest name of a function (`OpenAI`'s).
const MAX_NAME_LEN: usize = 64;

/// A function that the model may call: `OpenAI`'s tool of the type `function`.
///
/// # Example
/// ```
/// use serde_json::json;
/// use vllm_batch::{ChatOptions, Tool, ToolChoice};
///
/// let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
/// let tool = Tool::new("get_weather").with_description("The weather in a city.").with_parameters(parameters);
/// let chat = ChatOptions::default().with_tools(vec![tool]).with_tool_choice(ToolChoice::Required);
/// chat.validate()?;
/// # Ok::<(), vllm_batch::RequestError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "WireTool", into = "WireTool")]
#[non_exhaustive]
pub struct Tool {
    /// The function's name: letters, digits, `_`, `-` and `.`, at most 64.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// The JSON Schema of its arguments, which are an object. Absent: it takes none.
    pub parameters: Option<Value>,
    /// Says nothing here: arguments always follow the schema.
    pub strict: Option<bool>,
}

impl Tool {
    /// A function without arguments.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), description: None, parameters: None, strict: None }
    }

    /// Sets [`description`](Self::description).
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Sets [`parameters`](Self::parameters).
    #[must_use]
    pub fn with_parameters(mut self, parameters: Value) -> Self {
        self.parameters = Some(parameters);
        self
    }

    /// Sets [`strict`](Self::strict).
    #[must_use]
    pub fn with_strict(mut self, strict: bool) -> Self {
        self.strict = Some(strict);
        self
    }

    /// `param` is the path of the tool, such as `tools[1]`.
    fn validate(&self, param: &str) -> Result<(), RequestError> {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if self.name.is_empty() || self.name.len() > MAX_NAME_LEN || !self.name.chars().all(is_fine) {
            let message = format!("must be 1 to {MAX_NAME_LEN} letters, digits, `_`, `-` or `.`");
            return Err(RequestError::invalid(format!("{param}.function.name"), message));
        }
        match &self.parameters {
            None | Some(Value::Object(_)) => Ok(()),
            Some(_) => {
                Err(RequestError::invalid(format!("{param}.function.parameters"), "must be a JSON Schema object"))
            }
        }
    }
}

/// Whether the model may or must call functions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ToolChoice {
    /// The model answers in words. The template sees the tools nevertheless, as in vLLM.
    None,
    /// The model may call, or answer in words.
    #[default]
    Auto,
    /// The model calls at least one function.
    Required,
    /// The model calls this function, once.
    Function(String),
    /// As `Auto`, or as `Required` if `is_required`, with some of the functions only: `OpenAI`'s `allowed_tools`.
    Allowed {
        /// Whether at least one must be called.
        is_required: bool,
        /// The names of the functions.
        names: Vec<String>,
    },
}

impl ToolChoice {
    /// The value of `tool_choice` in `OpenAI`'s API.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let function = |name: &String| serde_json::json!({"type": "function", "function": {"name": name}});
        match self {
            Self::None => "none".into(),
            Self::Auto => "auto".into(),
            Self::Required => "required".into(),
            Self::Function(name) => function(name),
            Self::Allowed { is_required, names } => {
                let mode = if *is_required { "required" } else { "auto" };
                let tools: Vec<Value> = names.iter().map(function).collect();
                serde_json::json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}})
            }
        }
    }

    /// Whether the model cannot answer in words.
    #[must_use]
    pub fn is_required(&self) -> bool {
        matches!(self, Self::Required | Self::Function(_) | Self::Allowed { is_required: true, .. })
    }

    /// Whether a function may be called.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::Auto | Self::Required => true,
            Self::Function(only) => only == name,
            Self::Allowed { names, .. } => names.iter().any(|allowed| allowed == name),
        }
    }
}

/// Checks tools and choice against each other.
pub(super) fn validate(tools: &[Tool], choice: &ToolChoice) -> Result<(), RequestError> {
    let mut seen = HashSet::new();
    for (index, tool) in tools.iter().enumerate() {
        tool.validate(&format!("tools[{index}]"))?;
        if !seen.insert(tool.name.as_str()) {
            let message = format!("another tool has the name `{}`, too", tool.name);
            return Err(RequestError::invalid(format!("tools[{index}].function.name"), message));
        }
    }
    let unknown =
        |param: String, name: &str| Err(RequestError::invalid(param, format!("no tool has the name `{name}`")));
    match choice {
        ToolChoice::Required if tools.is_empty() => {
            Err(RequestError::invalid("tool_choice", "needs `tools` to choose from"))
        }
        ToolChoice::Function(name) if !seen.contains(name.as_str()) => {
            unknown("tool_choice.function.name".to_owned(), name)
        }
        ToolChoice::Allowed { names, .. } => {
            let param = "tool_choice.allowed_tools.tools";
            match names.iter().enumerate().find(|(_, name)| !seen.contains(name.as_str())) {
                Some((index, name)) => unknown(format!("{param}[{index}].function.name"), name),
                None if names.is_empty() => Err(RequestError::invalid(param, "must name at least one tool")),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// A call of a function, in a [`Message`](crate::Message) or in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WireToolCall", into = "WireToolCall")]
#[non_exhaustive]
pub struct ToolCall {
    /// Names the call, so that its result can refer to it.
    pub id: String,
    /// The function.
    pub name: String,
    /// Its arguments: the JSON of an object, as text. An empty text stands for none.
    pub arguments: String,
}

impl ToolCall {
    /// A call of its parts.
    pub fn new(id: impl Into<String>, name: impl Into<String>, arguments: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), arguments: arguments.into() }
    }

    pub(super) fn validate(&self, param: &str) -> Result<(), RequestError> {
        if self.name.is_empty() {
            return Err(RequestError::invalid(format!("{param}.function.name"), "must not be empty"));
        }
        let in_call = |error| match error {
            RequestError::InvalidParam { message, .. } => {
                RequestError::invalid(format!("{param}.function.arguments"), message)
            }
            other => other,
        };
        self.parsed_arguments().map(drop).map_err(in_call)
    }

    /// The arguments, by name.
    ///
    /// # Errors
    /// [`RequestError::InvalidParam`] if they are not the JSON of an object.
    pub fn parsed_arguments(&self) -> Result<Map<String, Value>, RequestError> {
        if self.arguments.trim().is_empty() {
            return Ok(Map::new());
        }
        let invalid = |message: String| RequestError::invalid("arguments", message);
        match serde_json::from_str(&self.arguments) {
            Ok(Value::Object(arguments)) => Ok(arguments),
            Ok(_) => Err(invalid("must be the JSON of an object".to_owned())),
            Err(error) => Err(invalid(format!("must be the JSON of an object: {error}"))),
        }
    }
}

/// The form on the wire.
#[derive(Serialize, Deserialize)]
struct WireTool {
    #[serde(rename = "type", default = "function")]
    kind: String,
    function: WireFunction,
}

#[derive(Serialize, Deserialize)]
struct WireFunction {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parameters: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize, Deserialize)]
struct WireToolCall {
    #[serde(default)]
    id: String,
    #[serde(rename = "type", default = "function")]
    kind: String,
    function: WireCall,
}

#[derive(Serialize, Deserialize)]
struct WireCall {
    name: String,
    #[serde(default)]
    arguments: String,
}

fn function() -> String {
    "function".to_owned()
}

impl From<WireTool> for Tool {
    fn from(WireTool { function, .. }: WireTool) -> Self {
        let WireFunction { name, description, parameters, strict } = function;
        Self { name, description, parameters, strict }
    }
}

impl From<Tool> for WireTool {
    fn from(Tool { name, description, parameters, strict }: Tool) -> Self {
        Self { kind: function(), function: WireFunction { name, description, parameters, strict } }
    }
}

impl From<WireToolCall> for ToolCall {
    fn from(WireToolCall { id, function, .. }: WireToolCall) -> Self {
        Self { id, name: function.name, arguments: function.arguments }
    }
}

impl From<ToolCall> for WireToolCall {
    fn from(ToolCall { id, name, arguments }: ToolCall) -> Self {
        Self { id, kind: function(), function: WireCall { name, arguments } }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tools_have_openais_form() {
        let tool = Tool::new("f").with_description("d").with_parameters(json!({"type": "object"})).with_strict(true);
        let value = json!({"type": "function", "function": {
            "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true,
        }});
        assert_eq!(serde_json::to_value(&tool).unwrap(), value);
        assert_eq!(serde_json::from_value::<Tool>(value).unwrap(), tool);
        let least = json!({"type": "function", "function": {"name": "f"}});
        assert_eq!(serde_json::to_value(Tool::new("f")).unwrap(), least);
    }

    #[test]
    fn tools_and_choice_must_fit() {
        let tools = |names: &[&str]| names.iter().map(|name| Tool::new(*name)).collect::<Vec<_>>();
        let allowed = |names: &[&str]| ToolChoice::Allowed {
            is_required: true,
            names: names.iter().map(ToString::to_string).collect(),
        };
        let long = "x".repeat(65);
        let cases = [
            (tools(&["a", "b", "a"]), ToolChoice::Auto, Some("tools[2].function.name")),
            (tools(&["a", ""]), ToolChoice::Auto, Some("tools[1].function.name")),
            (tools(&["a b"]), ToolChoice::None, Some("tools[0].function.name")),
            (tools(&[&long]), ToolChoice::None, Some("tools[0].function.name")),
            (vec![Tool::new("a").with_parameters(json!([]))], ToolChoice::Auto, Some("tools[0].function.parameters")),
            (tools(&[]), ToolChoice::Required, Some("tool_choice")),
            (tools(&["a"]), ToolChoice::Function("b".to_owned()), Some("tool_choice.function.name")),
            (tools(&["a"]), allowed(&["a", "b"]), Some("tool_choice.allowed_tools.tools[1].function.name")),
            (tools(&["a"]), allowed(&[]), Some("tool_choice.allowed_tools.tools")),
            (tools(&["a", "b.c-d_1"]), allowed(&["b.c-d_1"]), None),
            (tools(&["a"]), ToolChoice::Function("a".to_owned()), None),
            (tools(&[]), ToolChoice::Auto, None),
        ];
        for (tools, choice, expected) in cases {
            let found = validate(&tools, &choice);
            assert_eq!(found.as_ref().err().and_then(RequestError::param), expected, "{tools:?} {choice:?}");
        }
    }

    #[test]
    fn choices_say_what_may_be_called() {
        let allowed = ToolChoice::Allowed { is_required: false, names: vec!["a".to_owned()] };
        let cases = [
            (ToolChoice::None, json!("none"), (false, false, false)),
            (ToolChoice::Auto, json!("auto"), (false, true, true)),
            (ToolChoice::Required, json!("required"), (true, true, true)),
            (
                ToolChoice::Function("a".to_owned()),
                json!({"type": "function", "function": {"name": "a"}}),
                (true, true, false),
            ),
            (
                allowed,
                json!({"type": "allowed_tools", "allowed_tools": {
                    "mode": "auto", "tools": [{"type": "function", "function": {"name": "a"}}],
                }}),
                (false, true, false),
            ),
        ];
        for (choice, value, expected) in cases {
            assert_eq!(choice.to_json(), value);
            assert_eq!((choice.is_required(), choice.allows("a"), choice.allows("b")), expected, "{choice:?}");
        }
    }
}
