//! What answers with calls may be.

use std::sync::Arc;

use serde_json::json;

use super::{
    Commit, Constraint, GrammarCache, Vocabulary,
    tests::{tokenizers, vocabulary},
};
use crate::{
    error::RequestError,
    request::{ChatOptions, Tool, ToolChoice},
    text::{Tokenizer, ToolCallFormat},
};

fn chat(choice: ToolChoice) -> ChatOptions {
    let weather =
        json!({"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]});
    let tools = vec![Tool::new("weather").with_parameters(weather), Tool::new("time")];
    ChatOptions::default().with_tools(tools).with_tool_choice(choice)
}

fn constraint(cache: &GrammarCache, format: &ToolCallFormat, chat: &ChatOptions) -> Constraint {
    Constraint::new(cache.compile_calls(format, chat).unwrap())
}

/// Whether an answer may be this text, and end there.
fn accepts(mut constraint: Constraint, cache: &GrammarCache, text: &str) -> bool {
    let token_ids = cache.vocabulary().factory().tok_env().tokenize(text);
    token_ids.into_iter().all(|id| constraint.commit(id).is_ok()) && constraint.may_end()
}

const WEATHER: &str = r#"{"name": "weather", "arguments": {"city":"Rom","days":3}}"#;
const TIME: &str = r#"{"name": "time", "arguments": {}}"#;

/// Answers that are calls, by format.
fn written(format: &ToolCallFormat, calls: &[&str]) -> String {
    let calls = calls.join(&format.between).replace("\"arguments\"", &format!("\"{}\"", format.arguments_key));
    [&format.open, calls.as_str(), &format.close].concat()
}

#[test]
fn required_calls_follow_format_and_schemas() {
    let named = || ToolChoice::Function("time".to_owned());
    let allowed = || ToolChoice::Allowed { is_required: true, names: vec!["weather".to_owned()] };
    let bad = [
        r#"{"name": "weather", "arguments": {}}"#,
        r#"{"name": "weather", "arguments": {"city": "Rom"}}"#,
        r#"{"name": "weather", "arguments": {"city":"Rom","more":1}}"#,
        r#"{"name": "wind", "arguments": {}}"#,
        r#"{"name": "time", "arguments": {"a":1}}"#,
    ];
    for (name, tokenizer, eos) in tokenizers() {
        let vocabulary = Vocabulary::new(Arc::clone(&tokenizer), &[eos], tokenizer.vocab_size()).unwrap();
        let cache = GrammarCache::new(Arc::new(vocabulary));
        for format in ToolCallFormat::BUILT_IN {
            let check = |chat: &ChatOptions, calls: &[&str], expected: bool| {
                let text = written(&format, calls);
                let found = accepts(constraint(&cache, &format, chat), &cache, &text);
                assert_eq!(found, expected, "{name} {format}: {text}");
            };
            let required = chat(ToolChoice::Required);
            check(&required, &[WEATHER], true);
            check(&required, &[TIME, WEATHER, TIME], true);
            for call in bad {
                check(&required, &[call], false);
            }
            let single = required.clone().with_parallel_tool_calls(false);
            check(&single, &[WEATHER], true);
            check(&single, &[WEATHER, TIME], false);
            check(&chat(named()), &[TIME], true);
            check(&chat(named()), &[WEATHER], false);
            check(&chat(named()), &[TIME, TIME], false);
            check(&chat(allowed()), &[WEATHER, WEATHER], true);
            check(&chat(allowed()), &[TIME], false);
            assert!(!accepts(constraint(&cache, &format, &required), &cache, "Well."), "{name} {format}");
        }
    }
}

#[test]
fn free_answers_are_held_to_a_call_once_it_begins() {
    let cache = GrammarCache::new(vocabulary());
    let auto = chat(ToolChoice::Auto);
    for format in ToolCallFormat::BUILT_IN {
        let call = written(&format, &[WEATHER]);
        let mut cases = vec![
            ("Well, 3 < 4 [TOOL <tool".to_owned(), true),
            (String::new(), true),
            (call.clone(), true),
            (written(&format, &[WEATHER, TIME]), true),
            (call[..call.len() - 2].to_owned(), false),
            (call.replace("city", "town"), false),
            (format!("{call} and more"), false),
            (format!("\n{call}"), true),
        ];
        // Where calls only come at the beginning, what comes later is none.
        cases.push((format!("Let me see. {call}"), true));
        cases.push((format!("Let me see. {}", call.replace("city", "town")), format.is_anchored));
        for (text, expected) in cases {
            assert_eq!(accepts(constraint(&cache, &format, &auto), &cache, &text), expected, "{format}: {text}");
        }
    }
}

#[test]
fn nothing_is_computed_until_a_call_may_have_begun() {
    let cache = GrammarCache::new(vocabulary());
    let mut answer = constraint(&cache, &ToolCallFormat::hermes(), &chat(ToolChoice::Auto));
    let tokenize = |text: &str| cache.vocabulary().factory().tok_env().tokenize(text);
    let states = ["x <", "tool", "s", " <tool_", "call", ">", "\n"].map(|text| {
        for id in tokenize(text) {
            assert_eq!(answer.commit(id), Ok(Commit::Open));
        }
        (answer.is_free(), answer.holds())
    });
    let (free, near, held) = ((true, false), (false, false), (false, true));
    assert_eq!(states, [near, near, free, near, near, held, held]);
    let forced = answer.forced_tokens().unwrap();
    assert_eq!(cache.vocabulary().factory().tok_env().tok_trie().decode_raw(&forced), b"{\"name\": \"");
}

/// What may begin a call changes nothing but which tokens may complete the marker.
#[test]
fn only_what_follows_the_marker_is_restricted() {
    let cache = GrammarCache::new(vocabulary());
    let trie = cache.vocabulary().factory().tok_env().tok_trie();
    for (written, rest) in [("<", "tool_call>"), ("x <tool_call", ">"), ("<tool_cal", "l>")] {
        let mut answer = constraint(&cache, &ToolCallFormat::hermes(), &chat(ToolChoice::Auto));
        for id in cache.vocabulary().factory().tok_env().tokenize(written) {
            answer.commit(id).unwrap();
        }
        let mask = answer.mask().unwrap();
        for id in 0..cache.vocabulary().len() as u32 {
            let follows = trie.token(id).strip_prefix(rest.as_bytes());
            let is_fine = follows.is_none_or(|follows| b"\n{\"name\": \"".starts_with(follows));
            assert_eq!(mask.allows(id), is_fine, "{written} {}", trie.token_str(id));
        }
    }
}

/// Bytes that are no text may be generated, too.
#[test]
fn free_answers_need_not_be_text() {
    let cache = GrammarCache::new(vocabulary());
    let mut answer = constraint(&cache, &ToolCallFormat::hermes(), &chat(ToolChoice::Auto));
    for id in 0..cache.vocabulary().len() as u32 {
        if !cache.vocabulary().eos_token_ids().contains(&id) {
            assert_eq!(answer.commit(id), Ok(Commit::Open), "{id}");
        }
    }
}

#[test]
fn markers_may_be_special_tokens() {
    let mut file: serde_json::Value =
        serde_json::from_slice(include_bytes!("../../tests/data/arch/llama/tokenizer.json")).unwrap();
    let special = |id: u32, text: &str| {
        json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let added = file["added_tokens"].as_array_mut().unwrap();
    added.extend([special(512, "[TOOL_CALLS]"), special(513, "<|python_tag|>")]);
    let tokenizer = Arc::new(Tokenizer::from_json(file.to_string().as_bytes()).unwrap());
    let eos = tokenizer.token_to_id("</s>").unwrap();
    let cache = GrammarCache::new(Arc::new(Vocabulary::new(Arc::clone(&tokenizer), &[eos], 514).unwrap()));
    let cases = [
        (ToolCallFormat::mistral(), ToolChoice::Required, written(&ToolCallFormat::mistral(), &[WEATHER, TIME]), true),
        (ToolCallFormat::mistral(), ToolChoice::Auto, written(&ToolCallFormat::mistral(), &[WEATHER]), true),
        (ToolCallFormat::mistral(), ToolChoice::Auto, "So:[TOOL_CALLS]{}".to_owned(), false),
        (
            ToolCallFormat::llama3_json(),
            ToolChoice::Auto,
            format!("<|python_tag|>{}", written(&ToolCallFormat::llama3_json(), &[TIME])),
            true,
        ),
        (ToolCallFormat::llama3_json(), ToolChoice::Auto, "<|python_tag|>{\"name\": 1".to_owned(), false),
    ];
    for (format, choice, text, expected) in cases {
        let mut answer = constraint(&cache, &format, &chat(choice));
        let token_ids = tokenizer.encode(&text, false).unwrap();
        let is_taken = token_ids.into_iter().all(|id| answer.commit(id).is_ok()) && answer.may_end();
        assert_eq!(is_taken, expected, "{text}");
    }
}

#[test]
fn schemas_that_cannot_be_kept_to_are_named() {
    let cache = GrammarCache::new(vocabulary());
    let with = |parameters| {
        let tools = vec![Tool::new("good"), Tool::new("bad").with_parameters(parameters)];
        ChatOptions::default().with_tools(tools)
    };
    let cases = [
        (json!({"type": "array"}), "/type"),
        (json!({"properties": {"a": {"type": "strin"}}}), "/properties/a/type"),
        (json!({"type": "object", "not": {}}), "/not"),
        (json!({"type": "object", "properties": {"a": {"pattern": "("}}}), "/properties/a/pattern"),
    ];
    for (parameters, expected) in cases {
        let error = cache.compile_calls(&ToolCallFormat::hermes(), &with(parameters)).unwrap_err();
        let RequestError::InvalidGrammar { param, pointer, .. } = &error else { panic!("{error}") };
        assert_eq!((param.as_str(), pointer.as_deref()), ("tools[1].function.parameters", Some(expected)), "{error}");
    }
    let bad = with(json!({"type": "array"})).with_tool_choice(ToolChoice::Function("good".to_owned()));
    assert!(cache.compile_calls(&ToolCallFormat::hermes(), &bad).is_ok());
}
