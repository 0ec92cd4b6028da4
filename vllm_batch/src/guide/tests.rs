//! Tests of the folder. Schemas are in `tests/guide.rs`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Commit, CompiledGrammar, Constraint, GrammarCache, Vocabulary};
use crate::{
    error::RequestError,
    request::StructuredOutput,
    text::{GgufVocabulary, Tokenizer},
};

/// A byte-level BPE and a SentencePiece BPE, with their end tokens.
pub(super) fn tokenizers() -> Vec<(&'static str, Arc<Tokenizer>, u32)> {
    let bytes = Tokenizer::from_json(include_bytes!("../../tests/data/arch/llama/tokenizer.json")).unwrap();
    let file: Value = serde_json::from_str(include_str!("../../tests/data/sentencepiece/vocabulary.json")).unwrap();
    let pieces = Tokenizer::from_gguf(GgufVocabulary {
        model: "llama".to_owned(),
        tokens: serde_json::from_value(file["tokens"].clone()).unwrap(),
        token_types: serde_json::from_value(file["token_types"].clone()).unwrap(),
        scores: serde_json::from_value(file["scores"].clone()).unwrap(),
        bos_token_id: Some(1),
        eos_token_id: Some(2),
        unknown_token_id: Some(0),
        ..GgufVocabulary::default()
    })
    .unwrap();
    let end = bytes.token_to_id("</s>").unwrap();
    vec![("byte level", Arc::new(bytes), end), ("pieces", Arc::new(pieces), 2)]
}

pub(super) fn vocabulary() -> Arc<Vocabulary> {
    let (_, tokenizer, eos) = tokenizers().swap_remove(0);
    Arc::new(Vocabulary::new(Arc::clone(&tokenizer), &[eos], tokenizer.vocab_size()).unwrap())
}

fn cache() -> GrammarCache {
    GrammarCache::new(vocabulary())
}

/// The tokens of a text, inside a text.
fn tokens(text: &str) -> Vec<u32> {
    vocabulary().factory().tok_env().tokenize(text)
}

/// Whether an answer may be this text, and end there.
fn accepts(mut constraint: Constraint, text: &str) -> bool {
    tokens(text).into_iter().all(|id| constraint.commit(id).is_ok()) && constraint.may_end()
}

#[test]
fn formats_accept_what_they_describe() {
    let lark = "start: sum\nsum: NUMBER | sum \"+\" NUMBER\nNUMBER: /[0-9]+/";
    let object = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    let spaced = StructuredOutput::json_schema(object.clone()).with_disable_any_whitespace(false);
    let cases: Vec<(StructuredOutput, &[&str], &[&str])> = vec![
        (StructuredOutput::choice(["yes", "no", "no."]), &["yes", "no", "no."], &["", "y", "nope", " yes"]),
        (
            StructuredOutput::choice(["a/b", "(c)", "\\d", "x y\n", "é🙂"]),
            &["a/b", "(c)", "\\d", "x y\n", "é🙂"],
            &["7"],
        ),
        (StructuredOutput::choice(["</s>"]), &["</s>"], &[]),
        (StructuredOutput::regex("[a-c]{2}(/d)?"), &["ab", "cc/d"], &["a", "abc", "ab/"]),
        (StructuredOutput::regex("^\\d+$"), &["1", "12345"], &["", "1 "]),
        (StructuredOutput::grammar(lark), &["1", "1+22+3"], &["+", "1+", "1 + 2"]),
        (StructuredOutput::json_object(), &["{}", "{\"a\":[1,{\"b\":null}]}"], &["[]", "{ }", "1", "{\"a\":1e9}"]),
        (StructuredOutput::json_schema(object.clone()), &["{\"a\":1}", "{\"a\":1,\"b\":[]}"], &["{}", "{\"a\": 1}"]),
        (
            StructuredOutput::json_schema(object.clone()).with_disable_additional_properties(true),
            &["{\"a\":1}"],
            &["{\"a\":1,\"b\":[]}"],
        ),
        (spaced.clone(), &["{\"a\":1}", "{ \"a\":\n\t1 }"], &["{ }"]),
        (spaced.with_whitespace_pattern(" ?"), &["{\"a\":1}", "{ \"a\": 1 }"], &["{\"a\":  1}", "{\"a\":\n1}"]),
        // With escapes of letters, `a` could be given twice, the second time as anything.
        (StructuredOutput::json_schema(object), &[], &["{\"a\":1,\"\\u0061\":\"x\"}"]),
    ];
    let cache = cache();
    for (format, good, bad) in cases {
        let grammar = cache.compile(&format).unwrap();
        for (texts, expected) in [(good, true), (bad, false)] {
            for text in texts {
                assert_eq!(accepts(Constraint::new(Arc::clone(&grammar)), text), expected, "{text:?}: {format:?}");
            }
        }
    }
}

#[test]
fn faults_are_named() {
    let choice = |choices: &[&str]| StructuredOutput::choice(choices.iter().copied());
    let pattern = |pattern: &str| StructuredOutput::json_object().with_whitespace_pattern(pattern);
    let cases = [
        (choice(&[]), "invalid_value", "structured_outputs.choice"),
        (choice(&["a", ""]), "invalid_value", "structured_outputs.choice"),
        (choice(&["a", "b", "a"]), "invalid_value", "structured_outputs.choice"),
        (StructuredOutput::regex(""), "invalid_value", "structured_outputs.regex"),
        (StructuredOutput::regex("a("), "invalid_grammar", "structured_outputs.regex"),
        (StructuredOutput::regex("a\\"), "invalid_grammar", "structured_outputs.regex"),
        (StructuredOutput::regex("a(?!b)"), "invalid_grammar", "structured_outputs.regex"),
        (StructuredOutput::regex("(a{1000}){1000}"), "invalid_grammar", "structured_outputs.regex"),
        (StructuredOutput::regex("a".repeat(5 << 20)), "invalid_value", "structured_outputs.regex"),
        (StructuredOutput::grammar(""), "invalid_grammar", "structured_outputs.grammar"),
        (StructuredOutput::grammar("start: missing"), "invalid_grammar", "structured_outputs.grammar"),
        (StructuredOutput::grammar("start: /a"), "invalid_grammar", "structured_outputs.grammar"),
        (pattern("("), "invalid_value", "structured_outputs.whitespace_pattern"),
        (pattern(" ").with_disable_any_whitespace(true), "invalid_value", "structured_outputs.whitespace_pattern"),
        (choice(&["a"]).with_whitespace_pattern(" "), "invalid_value", "structured_outputs.whitespace_pattern"),
    ];
    let cache = cache();
    for (format, code, param) in cases {
        let error = cache.compile(&format).unwrap_err();
        assert_eq!((error.code(), error.param(), error.status_code()), (code, Some(param), 400), "{error}");
        assert_eq!(cache.compile(&format).unwrap_err(), error);
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn equal_formats_are_compiled_once() {
    let cache = cache();
    let format = StructuredOutput::json_schema(json!({"type": "array", "items": {"enum": ["a", "b"]}}));
    let compile = || cache.compile(&format).unwrap();
    let grammars: Vec<Arc<CompiledGrammar>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(compile)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(grammars.iter().all(|grammar| Arc::ptr_eq(grammar, &grammars[0])));
    assert_eq!(cache.size(), (1, grammars[0].num_bytes()));

    let spaced = format.clone().with_disable_any_whitespace(false);
    let reordered = |text: &str| StructuredOutput::json_schema(serde_json::from_str(text).unwrap());
    let others = [
        spaced.clone(),
        spaced.with_whitespace_pattern(" "),
        format.with_disable_additional_properties(true),
        reordered(r#"{"items":{"enum":["a","b"]},"type":"array"}"#),
        StructuredOutput::regex("x"),
        StructuredOutput::grammar("start: \"x\""),
        StructuredOutput::choice(["x"]),
    ];
    for (index, other) in others.iter().enumerate() {
        assert!(!Arc::ptr_eq(&cache.compile(other).unwrap(), &grammars[0]));
        assert_eq!(cache.size().0, index + 2, "{other:?}");
    }
}

#[test]
fn what_was_not_used_for_longest_is_dropped() {
    let format = |text: &str| StructuredOutput::choice([text]);
    let cache = GrammarCache::with_limits(vocabulary(), 2, usize::MAX);
    let first = cache.compile(&format("a")).unwrap();
    let second = cache.compile(&format("b")).unwrap();
    assert!(Arc::ptr_eq(&cache.compile(&format("a")).unwrap(), &first));
    let third = cache.compile(&format("c")).unwrap();
    assert_eq!(cache.size(), (2, first.num_bytes() + third.num_bytes()));
    assert!(Arc::ptr_eq(&cache.compile(&format("a")).unwrap(), &first));
    assert!(!Arc::ptr_eq(&cache.compile(&format("b")).unwrap(), &second));

    let small = GrammarCache::with_limits(vocabulary(), 100, 1);
    assert!(accepts(Constraint::new(small.compile(&format("a")).unwrap()), "a"));
    assert_eq!(small.size(), (0, 0));
}

#[test]
fn a_token_that_is_not_allowed_changes_nothing() {
    let mut constraint = Constraint::new(cache().compile(&StructuredOutput::regex("ab+")).unwrap());
    let [a, b, eos] = [tokens("a")[0], tokens("b")[0], vocabulary().eos_token_ids()[0]];
    assert_eq!(constraint.commit(b), Err(RequestError::ConstraintDeadEnd { at_token: 0 }));
    assert_eq!(constraint.commit(eos), Err(RequestError::ConstraintDeadEnd { at_token: 0 }));
    assert_eq!(constraint.commit(a), Ok(Commit::Open));
    assert_eq!(constraint.commit(u32::MAX), Err(RequestError::ConstraintDeadEnd { at_token: 1 }));
    assert_eq!(constraint.commit(b), Ok(Commit::Open));
    assert_eq!((constraint.may_end(), constraint.is_complete()), (true, false));
    assert_eq!(constraint.commit(eos), Ok(Commit::Complete));
    assert_eq!(constraint.mask().unwrap().only(), Some(eos));
    assert_eq!((constraint.forced_tokens(), constraint.num_tokens()), (Ok(Vec::new()), 3));
}

#[test]
fn every_end_token_ends_an_answer() {
    let (_, tokenizer, _) = tokenizers().swap_remove(0);
    // The last one is an ordinary token of the vocabulary, which texts then do without.
    let letter = tokenizer.token_to_id("x").unwrap();
    let vocabulary = Arc::new(Vocabulary::new(tokenizer, &[2, 1, letter], 512).unwrap());
    let grammar = GrammarCache::new(vocabulary).compile(&StructuredOutput::regex("y*|x")).unwrap();
    for end in [1, 2, letter] {
        let mut constraint = Constraint::new(Arc::clone(&grammar));
        assert!(constraint.mask().unwrap().allows(end));
        assert_eq!(constraint.commit(end), Ok(Commit::Complete));
    }
}

#[test]
fn a_model_without_end_token_ends_when_nothing_more_may_come() {
    let (_, tokenizer, _) = tokenizers().swap_remove(0);
    let vocabulary = Arc::new(Vocabulary::new(tokenizer, &[], 512).unwrap());
    let mut constraint =
        Constraint::new(GrammarCache::new(vocabulary).compile(&StructuredOutput::regex("a|b")).unwrap());
    assert_eq!(constraint.mask().unwrap().count(), 2);
    assert_eq!(constraint.commit(tokens("a")[0]), Ok(Commit::Complete));
}

#[test]
fn masks_forbid_logits() {
    let mut constraint = Constraint::new(cache().compile(&StructuredOutput::regex("[a-z]+|[A-Z]")).unwrap());
    let mask = constraint.mask().unwrap();
    let mut logits: Vec<f32> = (0..600).map(|id| id as f32).collect();
    mask.apply(&mut logits);
    let expected = |id: u32| if mask.allows(id) { id as f32 } else { f32::NEG_INFINITY };
    assert_eq!(logits, (0..600).map(expected).collect::<Vec<_>>());
    assert_eq!(logits.iter().filter(|logit| logit.is_finite()).count(), mask.count());
    assert!(mask.count() > 26 && !mask.allows(u32::MAX));
    mask.apply(&mut logits[..7]);
}

#[test]
fn constraints_do_not_depend_on_each_other() {
    fn is_shared<T: Send + Sync>() {}
    fn is_sent<T: Send>() {}
    is_shared::<GrammarCache>();
    is_shared::<CompiledGrammar>();
    is_sent::<Constraint>();

    let schema = json!({"type": "object", "additionalProperties": {"type": "string", "pattern": "^[a-z]{2,9}$"}});
    let grammar = cache().compile(&StructuredOutput::json_schema(schema)).unwrap();
    let texts = [r#"{"x":"hello","y":"there"}"#, r#"{"other":"words","z":"zz"}"#];
    let masks = |constraint: &mut Constraint, text: &str| -> Vec<_> {
        let mask_and_commit = |id| (constraint.mask().unwrap(), constraint.commit(id).unwrap());
        tokens(text).into_iter().map(mask_and_commit).collect()
    };
    let alone = texts.map(|text| masks(&mut Constraint::new(Arc::clone(&grammar)), text));
    let mut together = texts.map(|_| Constraint::new(Arc::clone(&grammar)));
    let masks = std::thread::scope(|scope| {
        let threads =
            together.iter_mut().zip(texts).map(|(constraint, text)| scope.spawn(move || masks(constraint, text)));
        threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(masks, alone);
}
