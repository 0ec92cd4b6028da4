//! The tools of a body, the choice among them, and calls in messages.

use serde_json::{Map, Value};

use super::json::{boolean, field, list, nothing_else, object, optional, string, unsupported, wrong_type};
use crate::error::RequestError;
use crate::request::{Tool, ToolCall, ToolChoice};

type Result<T> = std::result::Result<T, RequestError>;

/// The functions that the model may call.
pub(super) fn tools(value: Value, param: &str) -> Result<Vec<Tool>> {
    list(value, param, tool)
}

fn tool(value: Value, param: &str) -> Result<Tool> {
    let (mut function, param) = function(value, param)?;
    let mut tool = Tool::new(string(field(&mut function, &param, "name")?, &format!("{param}.name"))?);
    if let Some(description) = optional(&mut function, "description") {
        tool = tool.with_description(string(description, &format!("{param}.description"))?);
    }
    if let Some(parameters) = optional(&mut function, "parameters") {
        tool = tool.with_parameters(Value::Object(object(parameters, &format!("{param}.parameters"))?));
    }
    if let Some(strict) = optional(&mut function, "strict") {
        tool = tool.with_strict(boolean(&strict, &format!("{param}.strict"))?);
    }
    nothing_else(&function, &param)?;
    Ok(tool)
}

/// `none`, `auto`, `required`, a function, or several of them.
pub(super) fn tool_choice(value: Value, param: &str) -> Result<ToolChoice> {
    match value {
        Value::String(word) => match word.as_str() {
            "none" => Ok(ToolChoice::None),
            "auto" => Ok(ToolChoice::Auto),
            "required" => Ok(ToolChoice::Required),
            _ => {
                Err(RequestError::invalid(param, format!("expected none, auto, required or an object, found `{word}`")))
            }
        },
        Value::Object(fields) if fields.get("type").is_some_and(|kind| kind == "allowed_tools") => {
            allowed_tools(fields, param)
        }
        Value::Object(_) => name_of(value, param).map(ToolChoice::Function),
        other => Err(wrong_type(param, "a string or an object", &other)),
    }
}

fn allowed_tools(mut fields: Map<String, Value>, param: &str) -> Result<ToolChoice> {
    fields.remove("type");
    let mut allowed = object(field(&mut fields, param, "allowed_tools")?, &format!("{param}.allowed_tools"))?;
    nothing_else(&fields, param)?;
    let param = format!("{param}.allowed_tools");
    let mode = string(field(&mut allowed, &param, "mode")?, &format!("{param}.mode"))?;
    if !["auto", "required"].contains(&mode.as_str()) {
        return Err(RequestError::invalid(
            format!("{param}.mode"),
            format!("expected auto or required, found `{mode}`"),
        ));
    }
    let names = list(field(&mut allowed, &param, "tools")?, &format!("{param}.tools"), name_of)?;
    nothing_else(&allowed, &param)?;
    Ok(ToolChoice::Allowed { is_required: mode == "required", names })
}

/// The name in `{"type": "function", "function": {"name": …}}`.
fn name_of(value: Value, param: &str) -> Result<String> {
    let (mut function, param) = function(value, param)?;
    let name = string(field(&mut function, &param, "name")?, &format!("{param}.name"))?;
    nothing_else(&function, &param)?;
    Ok(name)
}

/// The calls of an assistant.
pub(super) fn tool_call(value: Value, param: &str) -> Result<ToolCall> {
    let Value::Object(mut fields) = value else {
        return Err(wrong_type(param, "an object with `id`, `type` and `function`", &value));
    };
    let id = string(field(&mut fields, param, "id")?, &format!("{param}.id"))?;
    let (mut function, param) = function(Value::Object(fields), param)?;
    let name = string(field(&mut function, &param, "name")?, &format!("{param}.name"))?;
    let arguments = match optional(&mut function, "arguments") {
        Some(arguments) => string(arguments, &format!("{param}.arguments"))?,
        None => String::new(),
    };
    nothing_else(&function, &param)?;
    Ok(ToolCall::new(id, name, arguments))
}

/// The fields of `function` in an object of the type `function`, and their path.
fn function(value: Value, param: &str) -> Result<(Map<String, Value>, String)> {
    let Value::Object(mut fields) = value else {
        return Err(wrong_type(param, "an object with `type` and `function`", &value));
    };
    let kind = string(field(&mut fields, param, "type")?, &format!("{param}.type"))?;
    if kind != "function" {
        return Err(unsupported(&format!("{param}.type"), &format!("`{kind}` is not implemented, only `function`")));
    }
    let inner = format!("{param}.function");
    let function = object(field(&mut fields, param, "function")?, &inner)?;
    nothing_else(&fields, param)?;
    Ok((function, inner))
}
