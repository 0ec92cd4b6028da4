//! Chat templates that models were released with, as transformers renders them.

#![allow(clippy::unwrap_used)]

#[path = "../../examples/demo_model/mod.rs"]
mod demo_model;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Value};
use vllm_batch::text::{ChatTemplate, ChatTemplates, SpecialTokens};
use vllm_batch::{ChatOptions, Message, RequestError};

/// One line of the golden files, which `scripts/make_template_fixtures.py` writes.
#[derive(Deserialize)]
struct Golden {
    template: String,
    tokens: BTreeMap<String, String>,
    messages: Vec<Message>,
    options: Map<String, Value>,
    #[serde(flatten)]
    expected: Expected,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Text(String),
    /// The words of `raise_exception`.
    Raised(String),
    /// The class of another error; its words are the engine's own.
    Fails(String),
}

/// 2025-03-07, as in the script.
fn time() -> SystemTime {
    UNIX_EPOCH + Duration::from_hours(24 * 20_154)
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/templates")
}

impl Golden {
    fn chat_options(&self) -> ChatOptions {
        let mut rest = self.options.clone();
        let mut flag = |name: &str| rest.remove(name).map(|value| value.as_bool().unwrap());
        let mut options = ChatOptions::default()
            .with_add_generation_prompt(flag("add_generation_prompt").unwrap_or(true))
            .with_continue_final_message(flag("continue_final_message").unwrap_or(false));
        if let Some(tools) = rest.remove("tools") {
            options = options.with_tools(serde_json::from_value(tools).unwrap());
        }
        if let Some(documents) = rest.remove("documents") {
            options = options.with_documents(serde_json::from_value(documents).unwrap());
        }
        options.with_chat_template_kwargs(rest)
    }

    fn tokens(&self) -> SpecialTokens {
        let token = |name: &str| self.tokens.get(name).cloned();
        SpecialTokens::new(token("bos_token"), token("eos_token"))
    }
}

/// Renders every line with the templates of a folder: those that know no tools get no help, as in transformers.
fn check(golden: &str, folder: &Path) {
    let lines = std::fs::read_to_string(data().join(golden)).unwrap();
    let mut differences = Vec::new();
    for (number, line) in lines.lines().enumerate() {
        let golden: Golden = serde_json::from_str(line).unwrap();
        let source = std::fs::read_to_string(folder.join(format!("{}.jinja", golden.template))).unwrap();
        let template = ChatTemplate::new(&source, golden.tokens()).unwrap();
        let templates = ChatTemplates::at_time(Some(template), SpecialTokens::default(), time());
        let rendered = templates.render(&golden.messages, &golden.chat_options());
        let agrees = match (&rendered, &golden.expected) {
            (Ok(text), Expected::Text(expected)) => text == expected,
            (Err(RequestError::Template { message }), Expected::Raised(expected)) => message == expected,
            (Err(RequestError::Template { .. }), Expected::Fails(_)) => true,
            _ => false,
        };
        if !agrees {
            let (found, wanted) = (format!("{rendered:?}"), format!("{:?}", golden.expected));
            differences.push(format!("{} line {}: {}", golden.template, number + 1, difference(&found, &wanted)));
        }
    }
    assert!(differences.is_empty(), "{}\n{}", differences.len(), differences.join("\n"));
}

/// What stands around the first place at which two texts differ.
fn difference(found: &str, wanted: &str) -> String {
    let same = found.chars().skip(3).zip(wanted.chars().skip(5)).take_while(|(a, b)| a == b).count();
    let around =
        |text: &str, skip: usize| text.chars().skip((skip + same).saturating_sub(60)).take(120).collect::<String>();
    format!("{} not {}", around(found, 3), around(wanted, 5))
}

#[test]
fn templates_render_as_in_transformers() {
    check("golden.jsonl", &data());
}

/// Those of Llama and Gemma 2, and more that are not kept in this repository.
#[test]
fn templates_of_llama_cpp_render_as_in_transformers() {
    check("golden_llama_cpp.jsonl", &demo_model::llama_cpp_templates().unwrap());
}
