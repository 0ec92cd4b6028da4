//! From a format to a grammar.

use std::{collections::HashSet, sync::Arc};

use llguidance::{Matcher, api::TopLevelGrammar, derivre::RegexBuilder, regex_to_lark};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    cache::{CompiledGrammar, Key},
    constraint::first_line,
    schema::{Problem, parts, prepare},
    vocabulary::Vocabulary,
};
use crate::{
    error::RequestError,
    request::{OutputFormat, StructuredOutput},
};

/// The largest format in bytes of its text.
pub(super) const MAX_LEN: usize = 4 << 20;
/// So many parts of a schema are compiled to find the one that is at fault.
const MAX_ATTEMPTS: usize = 200;
/// Memory of a grammar besides its lexer, as a rule.
const BYTES_BESIDES: usize = 32 << 10;
/// Escapes in JSON strings: one for each character that needs one, so that each text has one form.
const ESCAPES: &str = "nrbtf\\\"";

/// The hash of all that decides what is compiled.
pub(super) fn key_of(format: &StructuredOutput) -> Key {
    let content = content(&format.format);
    let options = json!([
        format.format.name(),
        format.disable_any_whitespace,
        format.whitespace_pattern,
        format.disable_additional_properties
    ]);
    let mut hash = Sha256::new();
    hash.update(options.to_string());
    hash.update([0]);
    hash.update(content);
    hash.finalize().into()
}

/// Checks a format and compiles it.
pub(super) fn compile(
    vocabulary: &Arc<Vocabulary>,
    format: &StructuredOutput,
) -> Result<CompiledGrammar, RequestError> {
    let param = format!("structured_outputs.{}", format.format.name());
    if content(&format.format).len() > MAX_LEN {
        return Err(RequestError::invalid(param, format!("may have {MAX_LEN} bytes at most")));
    }
    check_options(format)?;
    let compiler = Compiler::new(vocabulary, format, param);
    match &format.format {
        OutputFormat::JsonSchema(schema) => compiler.schema(schema),
        OutputFormat::JsonObject => compiler.schema(&any_object()),
        OutputFormat::Regex(pattern) => compiler.regex(pattern),
        OutputFormat::Choice(choices) => compiler.choice(choices),
        OutputFormat::Grammar(grammar) => compiler.grammar(TopLevelGrammar::from_lark(grammar.clone())),
    }
}

fn content(format: &OutputFormat) -> String {
    match format {
        OutputFormat::JsonSchema(schema) => schema.to_string(),
        OutputFormat::JsonObject => String::new(),
        OutputFormat::Regex(text) | OutputFormat::Grammar(text) => text.clone(),
        OutputFormat::Choice(choices) => json!(choices).to_string(),
    }
}

fn check_options(format: &StructuredOutput) -> Result<(), RequestError> {
    let invalid = |name: &str, message: &str| Err(RequestError::invalid(format!("structured_outputs.{name}"), message));
    let is_json = matches!(format.format, OutputFormat::JsonSchema(_) | OutputFormat::JsonObject);
    match &format.whitespace_pattern {
        Some(_) if format.disable_any_whitespace => {
            invalid("whitespace_pattern", "says nothing while disable_any_whitespace is true")
        }
        Some(_) if !is_json => invalid("whitespace_pattern", "is for JSON only"),
        Some(pattern) => match RegexBuilder::new().mk_regex(pattern) {
            Ok(_) => Ok(()),
            Err(error) => invalid("whitespace_pattern", &first_line(&error.to_string())),
        },
        None => Ok(()),
    }
}

/// Compiles what one parameter of a request asks for.
pub(super) struct Compiler<'a> {
    vocabulary: &'a Arc<Vocabulary>,
    format: &'a StructuredOutput,
    param: String,
}

impl<'a> Compiler<'a> {
    /// JSON is compiled with the options of `format`.
    pub(super) fn new(vocabulary: &'a Arc<Vocabulary>, format: &'a StructuredOutput, param: String) -> Self {
        Self { vocabulary, format, param }
    }

    pub(super) fn schema(&self, schema: &Value) -> Result<CompiledGrammar, RequestError> {
        let prepared = self.prepared(schema)?;
        let built = self.build(TopLevelGrammar::from_json_schema(Value::Object(prepared)));
        built.map_err(|message| self.in_schema(self.locate(schema, message)))
    }

    /// A schema that was checked, in the compiler's form, with the options that the compiler reads out of it.
    pub(super) fn prepared(&self, schema: &Value) -> Result<Map<String, Value>, RequestError> {
        self.prepare(schema, "").map(|prepared| self.with_options(prepared)).map_err(|problem| self.in_schema(problem))
    }

    fn in_schema(&self, problem: Problem) -> RequestError {
        let Problem { pointer, message } = problem;
        RequestError::InvalidGrammar { param: self.param.clone(), pointer: Some(pointer), message }
    }

    fn regex(&self, pattern: &str) -> Result<CompiledGrammar, RequestError> {
        if pattern.is_empty() {
            return Err(RequestError::invalid(&self.param, "must not be empty"));
        }
        // The grammar's own parser would let a backslash at the end pass.
        RegexBuilder::new().mk_regex(pattern).map_err(|error| self.invalid(first_line(&error.to_string())))?;
        self.grammar(TopLevelGrammar::from_regex(pattern))
    }

    fn choice(&self, choices: &[String]) -> Result<CompiledGrammar, RequestError> {
        let mut seen = HashSet::new();
        if choices.is_empty() || choices.iter().any(String::is_empty) {
            return Err(RequestError::invalid(&self.param, "must be a list of texts that are not empty, at least one"));
        }
        if let Some(twice) = choices.iter().find(|choice| !seen.insert(*choice)) {
            return Err(RequestError::invalid(&self.param, format!("`{twice}` is there twice")));
        }
        let alternatives: Vec<String> = choices.iter().map(|choice| regex_to_lark(&escaped(choice), "")).collect();
        self.grammar(TopLevelGrammar::from_lark(format!("start: /{}/", alternatives.join("|"))))
    }

    pub(super) fn grammar(&self, grammar: TopLevelGrammar) -> Result<CompiledGrammar, RequestError> {
        self.build(grammar).map_err(|message| self.invalid(message))
    }

    fn invalid(&self, message: String) -> RequestError {
        RequestError::InvalidGrammar { param: self.param.clone(), pointer: None, message }
    }

    fn prepare(&self, schema: &Value, at: &str) -> Result<Map<String, Value>, Problem> {
        prepare(schema, at, self.format.disable_additional_properties)
    }

    fn with_options(&self, mut schema: Map<String, Value>) -> Map<String, Value> {
        let options = json!({
            "whitespace_flexible": !self.format.disable_any_whitespace,
            "whitespace_pattern": self.format.whitespace_pattern,
            "json_allowed_escapes": ESCAPES,
        });
        schema.insert("x-guidance".to_owned(), options);
        schema
    }

    /// Finds the smallest part of a schema that cannot be compiled by itself, given that the whole cannot be.
    fn locate(&self, schema: &Value, message: String) -> Problem {
        let mut found = Problem { pointer: String::new(), message };
        let mut candidates = parts(schema, "");
        let mut attempts = 0;
        while let Some(pointer) = candidates.pop() {
            attempts += 1;
            if attempts > MAX_ATTEMPTS {
                break;
            }
            let Ok(prepared) = self.prepare(schema, &pointer) else { continue };
            let grammar = TopLevelGrammar::from_json_schema(Value::Object(self.with_options(prepared)));
            if let Err(message) = self.build(grammar) {
                candidates = parts(schema, &pointer);
                found = Problem { pointer, message };
            }
        }
        found
    }

    fn build(&self, grammar: TopLevelGrammar) -> Result<CompiledGrammar, String> {
        let parser = self.vocabulary.factory().create_parser(grammar);
        let parser = parser.map_err(|error| first_line(&format!("{error:#}")))?;
        let num_bytes = parser.parser.lexer_stats().num_bytes + BYTES_BESIDES;
        let mut start = Matcher::new(Ok(parser));
        start.compute_mask_or_eos().map_err(|error| first_line(&error.to_string()))?;
        // What goes wrong while forced tokens are looked for shows when they are taken.
        let mut probe = start.deep_clone();
        probe.consume_ff_tokens();
        if let Some(error) = probe.get_error() {
            return Err(first_line(&error));
        }
        Ok(CompiledGrammar::new(Arc::clone(self.vocabulary), start, num_bytes))
    }
}

/// The schema of all objects. What is in them is described, so that numbers have bounds, too.
fn any_object() -> Value {
    let any = json!({"$ref": "#/$defs/any"});
    json!({
        "type": "object",
        "additionalProperties": any,
        "$defs": {"any": {"anyOf": [
            {"type": ["null", "boolean", "number", "string"]},
            {"type": "array", "items": any},
            {"type": "object", "additionalProperties": any},
        ]}},
    })
}

/// The regular expression of a text.
pub(super) fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if "\\.+*?()|[]{}^$#&-~".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}
