//! Where byte-level vocabularies cut a text before they merge: what each value of `tokenizer.ggml.pre` means.

use tokenizers::{
    PreTokenizerWrapper, SplitDelimiterBehavior,
    pre_tokenizers::{
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use crate::error::LoadError;

/// How a family of byte-level tokenizers prepares a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PreTokenizer {
    /// The values of `tokenizer.ggml.pre` that mean it.
    names: &'static [&'static str],
    /// Each cuts the pieces that the one before it left; the matches and what lies between them are the new pieces.
    patterns: &'static [&'static str],
    /// Whether the text is brought to Unicode's composed form first.
    pub(super) composes: bool,
    /// Whether a piece that is a token as a whole is taken without merging.
    pub(super) takes_whole_pieces: bool,
    /// Whether BOS goes first when `tokenizer.ggml.add_bos_token` is absent.
    pub(super) adds_bos: bool,
}

impl PreTokenizer {
    /// The pre-tokenizer of that name.
    ///
    /// # Errors
    /// [`LoadError::UnsupportedConfig`] for a name that is not in the table, and when there is none.
    pub(super) fn named(name: Option<&str>) -> Result<&'static Self, LoadError> {
        let found = name.and_then(|name| TABLE.iter().find(|entry| entry.names.contains(&name)));
        found.ok_or_else(|| LoadError::UnsupportedConfig {
            key: "tokenizer.ggml.pre".to_owned(),
            message: format!(
                "{}; supported: {}",
                name.map_or_else(
                    || "it is absent, so nobody knows how the text is to be cut".to_owned(),
                    |name| format!("no pre-tokenizer is called `{name}`")
                ),
                TABLE.iter().flat_map(|entry| entry.names).copied().collect::<Vec<_>>().join(", ")
            ),
        })
    }

    /// The steps that cut a text and write its bytes in GPT-2's alphabet.
    pub(super) fn build(&self) -> tokenizers::Result<Sequence> {
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        for pattern in self.patterns {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            steps.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into());
        }
        steps.push(ByteLevel::new(false, false, false).into());
        Ok(Sequence::new(steps))
    }
}

const DIGIT: &str = r"\p{N}";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

#[expect(clippy::unicode_not_nfc, reason = "the ranges are of these characters, not of their composed forms")]
const CASED: &str = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const FALCON: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const SEED_CODER: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";

/// llama.cpp's table, as far as its entries are made of the patterns above; composition is Hugging Face's.
const TABLE: &[PreTokenizer] = &[
    PreTokenizer {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        ..PLAIN
    },
    PreTokenizer {
        names: &["gpt-2", "phi-2", "jais", "trillion", "exaone4", "granite-docling", "mellum", "a.x-4.0"],
        patterns: &[GPT2],
        ..PLAIN
    },
    PreTokenizer { names: &["falcon"], patterns: &[r"[\p{P}\$\+<=>\^~\|`]+", FALCON, "[0-9][0-9][0-9]"], ..PLAIN },
    PreTokenizer { names: &["bloom", "poro-chat", "gpt3-finnish"], patterns: &[BLOOM], ..PLAIN },
    PreTokenizer { names: &["viking"], patterns: &[BLOOM, DIGIT], ..PLAIN },
    PreTokenizer { names: &["seed-coder"], patterns: &[SEED_CODER], ..PLAIN },
    PreTokenizer { names: &["bailingmoe", "bailingmoe2", "llada-moe"], patterns: &[BAILING], ..PLAIN },
    PreTokenizer { names: &["mpt", "olmo"], patterns: &[GPT2], composes: true, ..PLAIN },
    PreTokenizer {
        names: &["smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"],
        patterns: &[DIGIT, GPT2],
        ..PLAIN
    },
    PreTokenizer { names: &["command-r"], patterns: &[DIGIT, GPT2], composes: true, ..PLAIN },
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "lfm2", "midm-2.0", "pixtral"],
        patterns: &[LLAMA3],
        takes_whole_pieces: true,
        adds_bos: true,
        ..PLAIN
    },
    PreTokenizer { names: &["smaug-bpe", "dbrx", "glm4", "chatglm-bpe"], patterns: &[LLAMA3], ..PLAIN },
    PreTokenizer { names: &["qwen2", "deepseek-r1-qwen", "megrez"], patterns: &[QWEN2], composes: true, ..PLAIN },
    PreTokenizer { names: &["stablelm2", "hunyuan", "solar-open", "grok-2"], patterns: &[QWEN2], ..PLAIN },
    PreTokenizer { names: &["qwen35"], patterns: &[QWEN35], composes: true, ..PLAIN },
    PreTokenizer { names: &["tekken"], patterns: &[TEKKEN], takes_whole_pieces: true, adds_bos: true, ..PLAIN },
    PreTokenizer { names: &["gpt-4o", "llama4", "kanana2", "minimax-m2"], patterns: &[GPT4O], ..PLAIN },
    PreTokenizer {
        names: &["deepseek-llm"],
        patterns: &[r"[\r\n]", CASED, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", "[一-龥ࠀ-一가-\u{D7FF}]+", r"\p{N}+"],
        ..PLAIN
    },
    PreTokenizer {
        names: &["deepseek-coder"],
        patterns: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\u{D7FF}]+", DIGIT],
        ..PLAIN
    },
    PreTokenizer {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        patterns: &[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK_V3],
        ..PLAIN
    },
];

const PLAIN: PreTokenizer =
    PreTokenizer { names: &[], patterns: &[], composes: false, takes_whole_pieces: false, adds_bos: false };

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

    use super::*;

    #[test]
    fn each_family_cuts_in_its_own_way() {
        let text = "Hello'Ve camelCase 1234\n\n  foo";
        let cases: [(&str, &str); 17] = [
            ("default", "Hello|'|Ve|ĠcamelCase|Ġ|123|4|ĊĊĠ|Ġfoo"),
            ("gpt-2", "Hello|'|Ve|ĠcamelCase|Ġ1234|ĊĊĠ|Ġfoo"),
            ("smollm", "Hello|'|Ve|ĠcamelCase|Ġ|1|2|3|4|ĊĊĠ|Ġfoo"),
            ("command-r", "Hello|'|Ve|ĠcamelCase|Ġ|1|2|3|4|ĊĊĠ|Ġfoo"),
            ("llama-bpe", "Hello|'Ve|ĠcamelCase|Ġ|123|4|ĊĊ|Ġ|Ġfoo"),
            ("qwen2", "Hello|'Ve|ĠcamelCase|Ġ|1|2|3|4|ĊĊ|Ġ|Ġfoo"),
            ("qwen35", "Hello|'Ve|ĠcamelCase|Ġ|1|2|3|4|ĊĊ|Ġ|Ġfoo"),
            ("tekken", "Hello|'Ve|Ġcamel|Case|Ġ|1|2|3|4|ĊĊ|Ġ|Ġfoo"),
            ("gpt-4o", "Hello'Ve|Ġcamel|Case|Ġ|123|4|ĊĊ|Ġ|Ġfoo"),
            ("deepseek-coder", "Hello|'|Ve|ĠcamelCase|Ġ|1|2|3|4|Ċ|Ċ|Ġ|Ġfoo"),
            ("deepseek-llm", "Hello|'|Ve|ĠcamelCase|Ġ|1234|Ċ|Ċ|Ġ|Ġfoo"),
            ("falcon", "Hello|'|Ve|ĠcamelCase|Ġ|123|4|ĊĊĠ|Ġfoo"),
            ("bloom", "Hello'Ve|ĠcamelCase|Ġ1234|ĊĊĠ|Ġfoo"),
            ("viking", "Hello'Ve|ĠcamelCase|Ġ|1|2|3|4|ĊĊĠ|Ġfoo"),
            ("seed-coder", "Hello|'Ve|ĠcamelCase|Ġ|1|2|3|4|ĊĊ|Ġ|Ġfoo"),
            ("bailingmoe", "Hello|'Ve|ĠcamelCase|Ġ|1|2|3|4|ĊĊ|Ġ|Ġfoo"),
            ("deepseek-v3", "Hello|'Ve|ĠcamelCase|Ġ|123|4|ĊĊ|Ġ|Ġfoo"),
        ];
        for (name, expected) in cases {
            let mut pieces = PreTokenizedString::from(text);
            PreTokenizer::named(Some(name)).unwrap().build().unwrap().pre_tokenize(&mut pieces).unwrap();
            let pieces = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
            let pieces: Vec<&str> = pieces.iter().map(|(piece, ..)| *piece).collect();
            assert_eq!(pieces.join("|"), expected, "{name}");
        }
    }

    #[test]
    fn every_name_is_listed_once() {
        let names: Vec<&str> = TABLE.iter().flat_map(|entry| entry.names).copied().collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        for name in names {
            let entry = PreTokenizer::named(Some(name)).unwrap();
            assert!(entry.names.contains(&name) && entry.build().is_ok(), "{name}");
        }
    }

    #[test]
    fn unknown_and_absent_names_are_refused() {
        for (name, expected) in [(Some("klingon"), "no pre-tokenizer is called `klingon`"), (None, "it is absent")] {
            let error = PreTokenizer::named(name).expect_err(expected).to_string();
            for part in ["`tokenizer.ggml.pre`", expected, "smollm", "llama-bpe"] {
                assert!(error.contains(part), "{error}");
            }
        }
    }
}
