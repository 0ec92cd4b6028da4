//! Small tokenizers for the tests of this folder.

use super::{GgufVocabulary, Tokenizer};

/// The `tokenizer.json` of a byte-level BPE with 512 tokens.
pub(super) fn byte_level_json() -> serde_json::Value {
    serde_json::from_str(include_str!("../../tests/data/arch/llama/tokenizer.json")).unwrap()
}

pub(super) fn byte_level_tokenizer() -> Tokenizer {
    Tokenizer::from_json(byte_level_json().to_string().as_bytes()).unwrap()
}

/// A SentencePiece vocabulary: three special tokens, the 256 bytes, a user-defined token and some pieces.
pub(super) fn piece_vocabulary() -> GgufVocabulary {
    let mut vocabulary = GgufVocabulary {
        model: "llama".to_owned(),
        bos_token_id: Some(1),
        eos_token_id: Some(2),
        unknown_token_id: Some(0),
        ..GgufVocabulary::default()
    };
    let mut add = |token: &str, kind: i32, score: f32| {
        vocabulary.tokens.push(token.to_owned());
        vocabulary.token_types.push(kind);
        vocabulary.scores.push(score);
    };
    for (token, kind) in [("<unk>", 2), ("<s>", 3), ("</s>", 3), ("<tool>", 4), ("<pad 4>", 5)] {
        add(token, kind, 0.0);
    }
    (0..=u8::MAX).for_each(|byte| add(&format!("<0x{byte:02X}>"), 6, 0.0));
    let merged = ["he", "ll", "▁w", "hell", "hello", "▁hello", "or", "▁wor", "ld", "▁world", "▁▁", "▁he"];
    let single = ["▁", "h", "e", "l", "o", "w", "r", "d", "é"];
    for (rank, token) in merged.iter().chain(&single).enumerate() {
        add(token, 1, -(rank as f32));
    }
    vocabulary
}

pub(super) fn piece_tokenizer() -> Tokenizer {
    Tokenizer::from_gguf(piece_vocabulary()).unwrap()
}
