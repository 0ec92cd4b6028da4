//! Structured output with three vocabularies, the demo model's among them: what a constraint lets through is valid.

#[path = "../../examples/demo_model/mod.rs"]
mod demo_model;

use std::fs::File;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, Value as GgufValue};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::Value;
use vllm_batch::guide::{Commit, Constraint, GrammarCache, Vocabulary};
use vllm_batch::text::{GgufVocabulary, Tokenizer};
use vllm_batch::{RequestError, StructuredOutput};

/// A vocabulary, its grammars, and its end token.
struct Fixture {
    name: &'static str,
    tokenizer: Arc<Tokenizer>,
    cache: GrammarCache,
    eos: u32,
}

impl Fixture {
    fn new(name: &'static str, tokenizer: Tokenizer, eos: &str) -> Self {
        let eos = tokenizer.token_to_id(eos).expect("the end token");
        let tokenizer = Arc::new(tokenizer);
        // Models may have more logits than tokens.
        let vocabulary = Vocabulary::new(Arc::clone(&tokenizer), &[eos], tokenizer.vocab_size() + 3);
        let cache = GrammarCache::new(Arc::new(vocabulary.expect("a vocabulary")));
        Self { name, tokenizer, cache, eos }
    }

    /// A byte-level BPE of 512 tokens.
    fn byte_level() -> Self {
        let tokenizer = Tokenizer::from_json(include_bytes!("data/arch/llama/tokenizer.json"));
        Self::new("byte level", tokenizer.expect("a tokenizer"), "</s>")
    }

    /// A SentencePiece BPE of 600 tokens.
    fn pieces() -> Self {
        let file: Value = serde_json::from_str(include_str!("data/sentencepiece/vocabulary.json")).expect("JSON");
        let mut vocabulary = GgufVocabulary::default();
        vocabulary.model = String::from("llama");
        vocabulary.tokens = serde_json::from_value(file["tokens"].clone()).expect("texts");
        vocabulary.token_types = serde_json::from_value(file["token_types"].clone()).expect("numbers");
        vocabulary.scores = serde_json::from_value(file["scores"].clone()).expect("numbers");
        vocabulary.bos_token_id = Some(1);
        vocabulary.unknown_token_id = Some(0);
        Self::new("pieces", Tokenizer::from_gguf(vocabulary).expect("a tokenizer"), "</s>")
    }

    /// The 49,152 tokens of the demo model.
    fn demo_model() -> Self {
        let path = demo_model::gguf().expect("the demo model");
        let content = Content::read(&mut File::open(path).expect("a file")).expect("a GGUF file");
        let get = |key: &str| content.metadata.get(&format!("tokenizer.ggml.{key}")).expect(key);
        let text = |value: &GgufValue| value.to_string().expect("a text").clone();
        let list = |key: &str| get(key).to_vec().expect(key);
        let mut vocabulary = GgufVocabulary::default();
        vocabulary.model = text(get("model"));
        vocabulary.pre = Some(text(get("pre")));
        vocabulary.tokens = list("tokens").iter().map(text).collect();
        vocabulary.merges = list("merges").iter().map(text).collect();
        vocabulary.token_types = list("token_type").iter().map(|kind| kind.to_i32().expect("a number")).collect();
        Self::new("demo model", Tokenizer::from_gguf(vocabulary).expect("a tokenizer"), "<|im_end|>")
    }

    fn bytes(&self, token_id: u32) -> Vec<u8> {
        self.tokenizer.token_bytes(token_id).expect("bytes")
    }

    fn text(&self, token_ids: &[u32]) -> String {
        let bytes = token_ids.iter().flat_map(|id| self.bytes(*id)).collect();
        String::from_utf8(bytes).expect("whole characters")
    }

    /// Chooses tokens at random, after a while rather those that end things, and gives the text if it ended.
    fn walk(&self, format: &StructuredOutput, seed: u64) -> Result<Option<String>, RequestError> {
        let mut constraint = Constraint::new(self.cache.compile(format)?);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let patience = random.next_u64() % 40;
        let mut token_ids = self.forced(&mut constraint)?;
        while !constraint.is_complete() && token_ids.len() < 1500 {
            let mask = constraint.mask()?;
            assert_eq!(mask.allows(self.eos), constraint.may_end(), "{}", self.text(&token_ids));
            let allowed: Vec<u32> = mask.token_ids().collect();
            assert_eq!(mask.count(), allowed.len());
            let token_id = self.choose(&allowed, token_ids.len() as u64 > patience, &mut random);
            let commit = constraint.commit(token_id)?;
            assert_eq!(commit == Commit::Complete, constraint.is_complete());
            if token_id != self.eos {
                token_ids.push(token_id);
                token_ids.extend(self.forced(&mut constraint)?);
            }
        }
        Ok(constraint.is_complete().then(|| self.text(&token_ids)))
    }

    fn choose(&self, allowed: &[u32], ends: bool, random: &mut ChaCha8Rng) -> u32 {
        let any = allowed[(random.next_u64() % allowed.len() as u64) as usize];
        if !ends || random.next_u64().is_multiple_of(8) {
            return any;
        }
        if allowed.contains(&self.eos) {
            return self.eos;
        }
        let first = |fits: &dyn Fn(&[u8]) -> bool| allowed.iter().copied().find(|id| fits(&self.bytes(*id)));
        let closing = first(&|bytes| !bytes.is_empty() && bytes.iter().all(|byte| b"\"]}".contains(byte)));
        let joining =
            first(&|bytes| matches!(bytes, [b'@' | b'.' | b':'])).filter(|_| random.next_u64().is_multiple_of(4));
        let simple = || first(&|bytes| bytes.iter().all(u8::is_ascii_alphanumeric));
        closing.or(joining).or_else(simple).unwrap_or(any)
    }

    /// Takes the forced tokens, and checks that masks would have forced the same.
    fn forced(&self, constraint: &mut Constraint) -> Result<Vec<u32>, RequestError> {
        let mut slow = constraint.clone();
        let token_ids = constraint.forced_tokens()?;
        for token_id in &token_ids {
            assert_eq!(slow.mask()?.only(), Some(*token_id), "{}", self.text(&token_ids));
            slow.commit(*token_id)?;
        }
        assert_eq!((slow.mask()?, slow.num_tokens()), (constraint.mask()?, constraint.num_tokens()));
        Ok(token_ids)
    }

    /// Whether a walk came to an end, in which case its text is valid.
    fn check(&self, schema: &Value, seed: u64) -> Result<bool, String> {
        let format = StructuredOutput::json_schema(schema.clone());
        let Some(text) = self.walk(&format, seed).map_err(|error| error.to_string())? else { return Ok(false) };
        let value: Value = match serde_json::from_str(&text) {
            Ok(value) => value,
            // Where a schema leaves a value open altogether, it may be a number that is too large to be read.
            Err(error) if error.to_string().starts_with("number out of range") => return Ok(true),
            Err(error) => return Err(format!("{error}: {text}")),
        };
        let validator = jsonschema::options().should_validate_formats(true).build(schema).expect("a schema");
        if validator.is_valid(&value) && is_compact(&text) {
            return Ok(true);
        }
        Err(format!("not valid, or not compact: {text}"))
    }

    /// Walks through every schema, with several seeds; at least one of the walks has to end.
    fn check_all(&self, num_walks: u64) {
        let mut problems = Vec::new();
        for (line, schema) in include_str!("data/schemas/valid.jsonl").lines().enumerate() {
            let schema: Value = serde_json::from_str(schema).expect("JSON");
            let walks: Result<Vec<bool>, String> = (0..num_walks).map(|seed| self.check(&schema, seed)).collect();
            match walks {
                Ok(ends) if ends.contains(&true) => {}
                Ok(_) => problems.push(format!("line {}: no walk came to an end", line + 1)),
                Err(error) => problems.push(format!("line {}: {error}\n  {schema}", line + 1)),
            }
        }
        assert!(problems.is_empty(), "{}: {} problems\n{}", self.name, problems.len(), problems.join("\n"));
    }
}

/// Whether JSON has no white space outside its texts.
fn is_compact(text: &str) -> bool {
    let (mut inside, mut escaped) = (false, false);
    text.chars().all(|c| {
        let was_escaped = escaped;
        escaped = inside && !was_escaped && c == '\\';
        inside ^= c == '"' && !was_escaped;
        inside || !c.is_ascii_whitespace()
    })
}

#[test]
fn answers_in_bytes_are_valid() {
    Fixture::byte_level().check_all(6);
}

#[test]
fn answers_in_pieces_are_valid() {
    Fixture::pieces().check_all(6);
}

#[test]
fn answers_in_the_demo_model_s_tokens_are_valid() {
    Fixture::demo_model().check_all(3);
}

#[test]
fn broken_schemas_are_refused_with_the_place() {
    let fixture = Fixture::byte_level();
    for line in include_str!("data/schemas/broken.jsonl").lines() {
        let case: Value = serde_json::from_str(line).expect("JSON");
        let error = fixture.cache.compile(&StructuredOutput::json_schema(case["schema"].clone())).expect_err(line);
        assert_eq!((error.code(), error.param()), ("invalid_schema", Some("structured_outputs.json")), "{line}");
        let RequestError::InvalidGrammar { pointer, message, .. } = error else { panic!("{error}: {line}") };
        assert_eq!(pointer.as_deref(), case["pointer"].as_str(), "{message}: {line}");
    }
}
