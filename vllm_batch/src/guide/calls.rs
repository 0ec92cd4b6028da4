//! From the tools of a request to a grammar of calls.

use std::{fmt::Write, sync::Arc};

use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    cache::{CompiledGrammar, Key},
    compile::{Compiler, MAX_LEN, escaped},
    vocabulary::Vocabulary,
    watch::Trigger,
};
use crate::{
    error::RequestError,
    request::{ChatOptions, StructuredOutput, Tool, ToolChoice},
    text::ToolCallFormat,
};

/// What an answer may or must call, and how that is written.
pub(super) struct Calls<'a> {
    format: &'a ToolCallFormat,
    chat: &'a ChatOptions,
    /// How arguments are compiled: without white space, and without properties that the function does not have.
    arguments: StructuredOutput,
}

impl<'a> Calls<'a> {
    pub(super) fn new(format: &'a ToolCallFormat, chat: &'a ChatOptions) -> Self {
        let arguments = StructuredOutput::json_object().with_disable_additional_properties(true);
        Self { format, chat, arguments }
    }

    /// The hash of all that decides what is compiled.
    pub(super) fn key(&self) -> Key {
        let functions: Vec<_> = self.functions().map(|(index, tool)| (index, &tool.name, &tool.parameters)).collect();
        let mut hash = Sha256::new();
        hash.update(format!("calls {:?} {} {}\0", self.format, self.is_single(), self.is_required()));
        hash.update(json!(functions).to_string());
        hash.finalize().into()
    }

    /// Checks the functions' schemas and compiles the grammar.
    pub(super) fn compile(&self, vocabulary: &Arc<Vocabulary>) -> Result<CompiledGrammar, RequestError> {
        let (mut rules, mut names) = (String::new(), Vec::new());
        for (index, tool) in self.functions() {
            let arguments = self.arguments(vocabulary, index, tool)?;
            let before = quoted(&self.format.before_arguments(&tool.name));
            // Writing to a string cannot fail.
            let _ = writeln!(rules, "call_{index}: {before} arguments_{index} \"}}\"");
            let _ = writeln!(rules, "arguments_{index}: %json {}", Value::Object(arguments));
            names.push(format!("call_{index}"));
        }
        let (start, trigger) = self.start(vocabulary);
        let grammar = format!("{start}\ncalls: {}\ncall: {}\n{rules}", self.calls(vocabulary), names.join(" | "));
        let compiled = self.compiler(vocabulary, "tools".to_owned()).grammar(TopLevelGrammar::from_lark(grammar));
        match compiled {
            Ok(compiled) => Ok(compiled.with_trigger(trigger)),
            Err(error) => Err(self.fault(vocabulary).unwrap_or(error)),
        }
    }

    /// The functions that may be called, with their places among the tools.
    fn functions(&self) -> impl Iterator<Item = (usize, &'a Tool)> {
        let chat = self.chat;
        chat.tools.iter().enumerate().filter(|(_, tool)| chat.tool_choice.allows(&tool.name))
    }

    fn is_single(&self) -> bool {
        !self.chat.parallel_tool_calls || matches!(self.chat.tool_choice, ToolChoice::Function(_))
    }

    fn is_required(&self) -> bool {
        self.chat.tool_choice.is_required()
    }

    /// The rule of the whole answer, and what to look for before it holds.
    fn start(&self, vocabulary: &Vocabulary) -> (String, Option<Trigger>) {
        let format = self.format;
        if self.is_required() {
            return (format!("start: {} calls", vocabulary.lark(&format.open)), None);
        }
        let opening = vocabulary.lark(format.after_marker().unwrap_or_default());
        let marker = escaped(&format.marker).replace('/', "\\/");
        if format.is_anchored {
            let lead = vocabulary.special_token(&format.lead).map(|id| format!("<[{id}]>?")).unwrap_or_default();
            let other = format!("OTHER: /(?s:.*)/ & ~/\\s*{marker}(?s:.*)/");
            let start = format!("start: {lead} (/\\s*/ {opening} calls | OTHER)\n{other}");
            return (start, Some(Trigger::Beginning(format.marker.as_bytes().into())));
        }
        if let Some(id) = vocabulary.special_token(&format.marker) {
            return (format!("start: <[{id}]> {opening} calls"), Some(Trigger::Token(id)));
        }
        let words = format!("words[lazy]: /(?s:.*){marker}/\nOTHER: /(?s:.*)/ & ~/(?s:.*){marker}(?s:.*)/");
        let start = format!("start: words {opening} calls | OTHER\n{words}");
        (start, Some(Trigger::Text(format.marker.as_bytes().into())))
    }

    fn calls(&self, vocabulary: &Vocabulary) -> String {
        let (between, close) = (vocabulary.lark(&self.format.between), vocabulary.lark(&self.format.close));
        if self.is_single() { format!("call {close}") } else { format!("call ({between} call)* {close}") }
    }

    /// The schema of a function's arguments, in the compiler's form.
    fn arguments(
        &self,
        vocabulary: &Arc<Vocabulary>,
        index: usize,
        tool: &Tool,
    ) -> Result<Map<String, Value>, RequestError> {
        let compiler = self.compiler(vocabulary, param(index));
        let schema = schema(tool);
        if schema["type"] != "object" {
            return Err(RequestError::InvalidGrammar {
                param: param(index),
                pointer: Some("/type".to_owned()),
                message: "arguments are an object".to_owned(),
            });
        }
        if schema.to_string().len() > MAX_LEN {
            return Err(RequestError::invalid(param(index), format!("may have {MAX_LEN} bytes at most")));
        }
        compiler.prepared(&schema)
    }

    /// The first schema that cannot be compiled by itself.
    fn fault(&self, vocabulary: &Arc<Vocabulary>) -> Option<RequestError> {
        let compile = |(index, tool)| self.compiler(vocabulary, param(index)).schema(&schema(tool)).err();
        self.functions().find_map(compile)
    }

    fn compiler<'c>(&'c self, vocabulary: &'c Arc<Vocabulary>, param: String) -> Compiler<'c> {
        Compiler::new(vocabulary, &self.arguments, param)
    }
}

fn param(index: usize) -> String {
    format!("tools[{index}].function.parameters")
}

/// The schema of a function's arguments. Those of a function without parameters are the empty object.
fn schema(tool: &Tool) -> Value {
    let Some(parameters) = &tool.parameters else {
        return json!({"type": "object", "additionalProperties": false});
    };
    let mut schema = parameters.clone();
    if let Some(schema) = schema.as_object_mut() {
        schema.entry("type").or_insert_with(|| "object".into());
    }
    schema
}

/// A text as the grammar writes it.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
