//! Which format does a body ask for, and where?
//!
//! `OpenAI` has `response_format`, vLLM `structured_outputs`, and older vLLM `guided_json` and its like. All of them become
//! a [`StructuredOutput`]; only one of them may be there.

use serde_json::{Map, Value};

use super::json::{boolean, field, list, nothing_else, object, optional, string, unsupported, wrong_type};
use crate::error::RequestError;
use crate::request::{OutputFormat, StructuredOutput};

type Result<T> = std::result::Result<T, RequestError>;

/// A format as it stands in a body.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WrittenFormat {
    pub(super) output: StructuredOutput,
    /// Where it is in the body, if not where engines take it to be: below `structured_outputs`.
    pub(super) param: Option<&'static str>,
}

impl WrittenFormat {
    fn at(param: &'static str, format: OutputFormat) -> Self {
        Self { output: StructuredOutput::new(format), param: Some(param) }
    }
}

/// What an engine says of `structured_outputs` is said of the parameter that the body has in its place.
pub(super) fn as_written(error: RequestError, param: Option<&'static str>) -> RequestError {
    let Some(written) = param else { return error };
    let renamed = |param: String| match param.strip_prefix("structured_outputs.") {
        Some(rest) => {
            let path = rest.find(['.', '[']).map_or("", |end| &rest[end..]);
            format!("{written}{path}")
        }
        None => param,
    };
    match error {
        RequestError::InvalidGrammar { param, pointer, message } => {
            RequestError::InvalidGrammar { param: renamed(param), pointer, message }
        }
        RequestError::InvalidParam { param, message } => RequestError::InvalidParam { param: renamed(param), message },
        RequestError::UnsupportedParam { param, message } => {
            RequestError::UnsupportedParam { param: renamed(param), message }
        }
        other => other,
    }
}

/// `OpenAI`'s `response_format`; `None` for plain text.
pub(super) fn response_format(value: Value, param: &str) -> Result<Option<WrittenFormat>> {
    let mut fields = object(value, param)?;
    let type_param = format!("{param}.type");
    let format = match string(field(&mut fields, param, "type")?, &type_param)?.as_str() {
        "text" => None,
        "json_object" => Some(WrittenFormat::at("response_format", OutputFormat::JsonObject)),
        "json_schema" => {
            let value = field(&mut fields, param, "json_schema")?;
            let format = json_schema(value, &format!("{param}.json_schema"))?;
            Some(WrittenFormat::at("response_format.json_schema.schema", format))
        }
        "structural_tag" => return Err(unsupported(&type_param, "structural tags are not implemented")),
        other => {
            let message = format!("expected text, json_object or json_schema, found `{other}`");
            return Err(RequestError::invalid(type_param, message));
        }
    };
    nothing_else(&fields, param)?;
    Ok(format)
}

/// Name and description say nothing about the answer, and answers are held to the schema whether it is `strict` or not.
fn json_schema(value: Value, param: &str) -> Result<OutputFormat> {
    let mut fields = object(value, param)?;
    string(field(&mut fields, param, "name")?, &format!("{param}.name"))?;
    if let Some(description) = optional(&mut fields, "description") {
        string(description, &format!("{param}.description"))?;
    }
    if let Some(strict) = optional(&mut fields, "strict") {
        boolean(&strict, &format!("{param}.strict"))?;
    }
    let format = schema(field(&mut fields, param, "schema")?, &format!("{param}.schema"))?;
    nothing_else(&fields, param)?;
    Ok(format)
}

/// The formats of vLLM's `structured_outputs` by their names.
type Reader = fn(Value, &str) -> Result<OutputFormat>;
const FORMATS: [(&str, Reader); 4] = [("json", schema), ("regex", regex), ("choice", choice), ("grammar", grammar)];

/// vLLM's `structured_outputs`.
pub(super) fn structured_outputs(value: Value, param: &str) -> Result<Option<WrittenFormat>> {
    let mut fields = object(value, param)?;
    let mut formats = Vec::new();
    for (name, read) in FORMATS {
        if let Some(value) = optional(&mut fields, name) {
            formats.push(read(value, &format!("{param}.{name}"))?);
        }
    }
    if let Some(value) = optional(&mut fields, "json_object") {
        let is_wanted = boolean(&value, &format!("{param}.json_object"))?;
        formats.extend(is_wanted.then_some(OutputFormat::JsonObject));
    }
    let num_formats = formats.len();
    if let Some(format) = formats.pop().filter(|_| num_formats == 1) {
        let output = with_options(StructuredOutput::new(format), fields, param)?;
        return Ok(Some(WrittenFormat { output, param: None }));
    }
    nothing_else(&without_options(fields), param)?;
    let message = format!("must have one of json, regex, choice, grammar and json_object, has {num_formats}");
    Err(RequestError::invalid(param, message))
}

const OPTIONS: [&str; 3] = ["whitespace_pattern", "disable_any_whitespace", "disable_additional_properties"];

fn without_options(mut fields: Map<String, Value>) -> Map<String, Value> {
    fields.retain(|name, _| !OPTIONS.contains(&name.as_str()));
    fields
}

fn with_options(mut output: StructuredOutput, mut fields: Map<String, Value>, param: &str) -> Result<StructuredOutput> {
    let [pattern, whitespace, properties] =
        OPTIONS.map(|name| (optional(&mut fields, name), format!("{param}.{name}")));
    nothing_else(&fields, param)?;
    if let (Some(value), param) = pattern {
        output = output.with_whitespace_pattern(string(value, &param)?);
    }
    if let (Some(value), param) = whitespace {
        output.disable_any_whitespace = boolean(&value, &param)?;
    }
    if let (Some(value), param) = properties {
        output.disable_additional_properties = boolean(&value, &param)?;
    }
    Ok(output)
}

pub(super) fn guided_json(value: Value, param: &str) -> Result<Option<WrittenFormat>> {
    Ok(Some(WrittenFormat::at("guided_json", schema(value, param)?)))
}

pub(super) fn guided_regex(value: Value, param: &str) -> Result<Option<WrittenFormat>> {
    Ok(Some(WrittenFormat::at("guided_regex", regex(value, param)?)))
}

pub(super) fn guided_choice(value: Value, param: &str) -> Result<Option<WrittenFormat>> {
    Ok(Some(WrittenFormat::at("guided_choice", choice(value, param)?)))
}

pub(super) fn guided_grammar(value: Value, param: &str) -> Result<Option<WrittenFormat>> {
    Ok(Some(WrittenFormat::at("guided_grammar", grammar(value, param)?)))
}

/// A schema, or JSON text that is one.
fn schema(value: Value, param: &str) -> Result<OutputFormat> {
    match value {
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(schema) => Ok(OutputFormat::JsonSchema(schema)),
            Err(error) => Err(RequestError::invalid(param, format!("expected a JSON Schema, found no JSON: {error}"))),
        },
        Value::Object(_) | Value::Bool(_) => Ok(OutputFormat::JsonSchema(value)),
        other => Err(wrong_type(param, "a JSON Schema", &other)),
    }
}

fn regex(value: Value, param: &str) -> Result<OutputFormat> {
    string(value, param).map(OutputFormat::Regex)
}

fn choice(value: Value, param: &str) -> Result<OutputFormat> {
    list(value, param, string).map(OutputFormat::Choice)
}

fn grammar(value: Value, param: &str) -> Result<OutputFormat> {
    string(value, param).map(OutputFormat::Grammar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_what_the_body_has() {
        let written = "response_format.json_schema.schema";
        let grammar = |param: &str| {
            let pointer = Some("/properties/a".to_owned());
            RequestError::InvalidGrammar { param: param.to_owned(), pointer, message: "no".to_owned() }
        };
        let cases = [
            (grammar("structured_outputs.json"), Some(written), grammar(written)),
            (grammar("structured_outputs.json"), None, grammar("structured_outputs.json")),
            (
                RequestError::invalid("structured_outputs.choice[2]", "empty"),
                Some("guided_choice"),
                RequestError::invalid("guided_choice[2]", "empty"),
            ),
            (unsupported("structured_outputs.regex", "m"), Some("guided_regex"), unsupported("guided_regex", "m")),
            (RequestError::invalid("top_p", "m"), Some(written), RequestError::invalid("top_p", "m")),
            (RequestError::Aborted, Some(written), RequestError::Aborted),
        ];
        for (error, param, expected) in cases {
            assert_eq!(as_written(error, param), expected);
        }
    }
}
