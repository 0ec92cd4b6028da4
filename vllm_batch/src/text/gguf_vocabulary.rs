//! A tokenizer from a GGUF file's metadata.

use std::collections::HashSet;

use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper,
    decoders::{byte_fallback::ByteFallback, fuse::Fuse, sequence::Sequence as Decoders, strip::Strip},
    models::bpe::{BPE, BpeBuilder, Merges, Vocab},
    normalizers::{NFC, Prepend, Replace, Sequence as Normalizers, replace::ReplacePattern},
    pre_tokenizers::byte_level::ByteLevel,
    processors::template::{SpecialToken, TemplateProcessing},
};

use super::pre_tokenizer::PreTokenizer;
use crate::error::LoadError;

/// What a GGUF file says about its tokenizer; each field is one key under `tokenizer.ggml`.
///
/// Two models are implemented: `gpt2`, a byte-level BPE whose `pre` decides how a text is cut, and `llama`, a
/// SentencePiece BPE whose `scores` rank the merges. [`Tokenizer::from_gguf`](super::Tokenizer::from_gguf) checks that
/// the fields fit together.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct GgufVocabulary {
    /// `model`: the kind of tokenizer.
    pub model: String,
    /// `pre`: the name of the pre-tokenizer; `gpt2` needs it.
    pub pre: Option<String>,
    /// `tokens`: how each token is written, in the order of their ids.
    pub tokens: Vec<String>,
    /// `token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. Empty: all are normal.
    pub token_types: Vec<i32>,
    /// `merges`: pairs of tokens with a space between them, the most urgent first.
    pub merges: Vec<String>,
    /// `scores`: the higher, the sooner the token is merged; `llama` needs them unless it has `merges`.
    pub scores: Vec<f32>,
    /// `bos_token_id`: begins a text.
    pub bos_token_id: Option<u32>,
    /// `eos_token_id`: ends a text.
    pub eos_token_id: Option<u32>,
    /// `unknown_token_id`: stands for what the vocabulary cannot write; read for `llama` only.
    pub unknown_token_id: Option<u32>,
    /// `add_bos_token`: whether BOS goes before a text. Absent: yes for `llama` and where `pre` is of Llama 3's kind.
    pub add_bos_token: Option<bool>,
    /// `add_eos_token`: whether EOS goes after a text. Absent: no.
    pub add_eos_token: Option<bool>,
    /// `add_space_prefix`: whether a text begins with a space that is not written. Absent: yes. Read for `llama` only.
    pub add_space_prefix: Option<bool>,
}

/// The values of `tokenizer.ggml.token_type`.
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// SentencePiece's visible space.
const SPACE: &str = "▁";

/// The longest token of a SentencePiece vocabulary in bytes: the search for its merges takes the square of it.
const MAX_PIECE_LEN: usize = 4096;

impl GgufVocabulary {
    /// Checks the fields and builds the tokenizer.
    pub(super) fn into_tokenizer(self) -> Result<tokenizers::Tokenizer, LoadError> {
        self.check_lengths()?;
        self.check_tokens()?;
        let (mut tokenizer, adds_bos) = match self.model.as_str() {
            "gpt2" => self.byte_level()?,
            "llama" => (self.sentence_piece()?, true),
            other => {
                return Err(LoadError::UnsupportedConfig {
                    key: "tokenizer.ggml.model".to_owned(),
                    message: format!("no tokenizer is called `{other}`; supported: gpt2, llama"),
                });
            }
        };
        if let Some(template) = self.template(adds_bos)? {
            tokenizer.with_post_processor(Some(template));
        }
        tokenizer.add_tokens(self.added_tokens()).map_err(broken)?;
        Ok(tokenizer)
    }

    fn check_lengths(&self) -> Result<(), LoadError> {
        let count = self.tokens.len();
        if count == 0 {
            return Err(broken("tokenizer.ggml.tokens is empty"));
        }
        for (key, length) in [("token_type", self.token_types.len()), ("scores", self.scores.len())] {
            if length != 0 && length != count {
                return Err(broken(format!("tokenizer.ggml.{key} has {length} entries for {count} tokens")));
            }
        }
        let ids = [
            ("bos_token_id", self.bos_token_id),
            ("eos_token_id", self.eos_token_id),
            ("unknown_token_id", self.unknown_token_id),
        ];
        match ids.iter().find(|(_, id)| id.is_some_and(|id| id as usize >= count)) {
            Some((key, Some(id))) => Err(broken(format!("tokenizer.ggml.{key} is {id}, but there are {count} tokens"))),
            _ => Ok(()),
        }
    }

    fn check_tokens(&self) -> Result<(), LoadError> {
        if let Some(place) = self.token_types.iter().position(|kind| !(0..=BYTE).contains(kind)) {
            let kind = self.token_types[place];
            return Err(broken(format!("tokenizer.ggml.token_type[{place}] is {kind}, which is not a type")));
        }
        let mut seen = HashSet::new();
        match self.live_tokens().find(|(_, token)| !seen.insert(*token)) {
            Some((id, token)) => Err(broken(format!("tokenizer.ggml.tokens[{id}] repeats the token `{token}`"))),
            None => Ok(()),
        }
    }

    /// The tokenizer of a `gpt2` model, and whether it adds BOS unless told otherwise.
    ///
    /// It has no unknown token: as in Hugging Face's files, a byte that the vocabulary lacks is left out.
    fn byte_level(&self) -> Result<(tokenizers::Tokenizer, bool), LoadError> {
        let pre = PreTokenizer::named(self.pre.as_deref())?;
        let vocab = self.vocab();
        let merges = self.parse_merges(&vocab)?;
        let model = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(pre.takes_whole_pieces);
        let mut tokenizer = tokenizers::Tokenizer::new(model.build().map_err(broken)?);
        if pre.composes {
            tokenizer.with_normalizer(Some(NFC)).map_err(broken)?;
        }
        tokenizer.with_pre_tokenizer(Some(pre.build().map_err(broken)?)).with_decoder(Some(ByteLevel::default()));
        Ok((tokenizer, pre.adds_bos))
    }

    fn sentence_piece(&self) -> Result<tokenizers::Tokenizer, LoadError> {
        let mut tokenizer = tokenizers::Tokenizer::new(self.sentence_piece_model()?.build().map_err(broken)?);
        let has_prefix = self.add_space_prefix.unwrap_or(true);
        let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
        let visible = ReplacePattern::String(SPACE.to_owned());
        let mut decoders: Vec<DecoderWrapper> =
            vec![Replace::new(visible, " ").map_err(broken)?.into(), ByteFallback::new().into(), Fuse::new().into()];
        if has_prefix {
            normalizers.push(Prepend::new(SPACE.to_owned()).into());
            decoders.push(Strip::new(' ', 1, 0).into());
        }
        let written = ReplacePattern::String(" ".to_owned());
        normalizers.push(Replace::new(written, SPACE).map_err(broken)?.into());
        tokenizer.with_normalizer(Some(Normalizers::new(normalizers))).map_err(broken)?;
        tokenizer.with_decoder(Some(Decoders::new(decoders)));
        Ok(tokenizer)
    }

    fn sentence_piece_model(&self) -> Result<BpeBuilder, LoadError> {
        let vocab = self.vocab();
        let merges = if self.merges.is_empty() { self.rank_merges(&vocab)? } else { self.parse_merges(&vocab)? };
        let model = BPE::builder().vocab_and_merges(vocab, merges).byte_fallback(true).fuse_unk(true);
        Ok(match self.unknown_token_id {
            Some(id) => model.unk_token(self.tokens[id as usize].clone()),
            None => model,
        })
    }

    /// The type of a token that exists.
    fn kind(&self, id: usize) -> i32 {
        self.token_types.get(id).copied().unwrap_or(1)
    }

    /// The tokens that a text can hold, with their ids: unused ones are only there to fill the table.
    fn live_tokens(&self) -> impl Iterator<Item = (usize, &str)> {
        let tokens = self.tokens.iter().map(String::as_str).enumerate();
        tokens.filter(|(id, token)| self.kind(*id) != UNUSED && !token.is_empty())
    }

    fn vocab(&self) -> Vocab {
        self.live_tokens().map(|(id, token)| (token.to_owned(), id as u32)).collect()
    }

    fn parse_merges(&self, vocab: &Vocab) -> Result<Merges, LoadError> {
        let parse = |(place, merge): (usize, &String)| {
            let (left, right) = merge.split_once(' ').ok_or_else(|| {
                broken(format!("tokenizer.ggml.merges[{place}] is `{merge}`, not two tokens with a space between"))
            })?;
            let joined = [left, right].concat();
            match [left, right, joined.as_str()].into_iter().find(|token| !vocab.contains_key(*token)) {
                Some(token) => {
                    Err(broken(format!("tokenizer.ggml.merges[{place}] needs `{token}`, which is no token")))
                }
                None => Ok((left.to_owned(), right.to_owned())),
            }
        };
        self.merges.iter().enumerate().map(parse).collect()
    }

    /// All pairs of tokens that make up a token, the highest score first. Pairs of equal score come in the order in
    /// which Hugging Face's converter puts them: the longest left part first, then the order of the vocabulary.
    fn rank_merges(&self, vocab: &Vocab) -> Result<Merges, LoadError> {
        if self.scores.is_empty() {
            return Err(broken("tokenizer.ggml.scores is empty, so nothing says which tokens are merged first"));
        }
        let is_mergeable = |token: &str| {
            vocab.get(token).is_some_and(|id| !matches!(self.kind(*id as usize), UNKNOWN | CONTROL | BYTE))
        };
        let mut ranked: Vec<(f32, usize, usize, (&str, &str))> = Vec::new();
        for (id, token) in self.live_tokens().filter(|(_, token)| is_mergeable(token)) {
            if token.len() > MAX_PIECE_LEN {
                return Err(broken(format!("tokenizer.ggml.tokens[{id}] has {} bytes; too long", token.len())));
            }
            for (chars, (place, _)) in token.char_indices().enumerate().skip(1) {
                let (left, right) = token.split_at(place);
                if is_mergeable(left) && is_mergeable(right) {
                    ranked.push((self.scores[id], chars, right.chars().count(), (left, right)));
                }
            }
        }
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2)));
        Ok(ranked.into_iter().map(|(.., (left, right))| (left.to_owned(), right.to_owned())).collect())
    }

    /// Puts BOS and EOS around a text, where the file asks for it.
    fn template(&self, adds_bos: bool) -> Result<Option<TemplateProcessing>, LoadError> {
        let adds_bos = self.add_bos_token.unwrap_or(adds_bos && self.bos_token_id.is_some());
        let adds_eos = self.add_eos_token.unwrap_or(false);
        let bos = adds_bos.then(|| self.marker("bos", self.bos_token_id)).transpose()?;
        let eos = adds_eos.then(|| self.marker("eos", self.eos_token_id)).transpose()?;
        let specials: Vec<SpecialToken> = bos.into_iter().chain(eos).collect();
        if specials.is_empty() {
            return Ok(None);
        }
        let around = |text| {
            let parts = [("bos", adds_bos), (text, true), ("eos", adds_eos)];
            parts.into_iter().filter_map(|(part, is_there)| is_there.then_some(part)).collect::<Vec<_>>()
        };
        let mut builder = TemplateProcessing::builder();
        builder.try_single(around("$A")).map_err(broken)?;
        builder.special_tokens(specials).build().map(Some).map_err(broken)
    }

    /// BOS or EOS as the template calls it.
    fn marker(&self, name: &str, id: Option<u32>) -> Result<SpecialToken, LoadError> {
        let id = id.ok_or_else(|| {
            broken(format!("tokenizer.ggml.add_{name}_token is true, but tokenizer.ggml.{name}_token_id is absent"))
        })?;
        let token = self.tokens[id as usize].clone();
        SpecialToken::new(name.to_owned(), vec![id], vec![token]).map_err(broken)
    }

    /// The tokens that are found in a text before it is cut.
    fn added_tokens(&self) -> Vec<AddedToken> {
        let is_marker = |id: usize| [self.bos_token_id, self.eos_token_id].contains(&Some(id as u32));
        let added = self.live_tokens().filter_map(|(id, token)| match self.kind(id) {
            UNKNOWN | CONTROL => Some(AddedToken::from(token, true)),
            _ if is_marker(id) => Some(AddedToken::from(token, true)),
            USER_DEFINED => Some(AddedToken::from(token, false).normalized(false)),
            _ => None,
        });
        added.collect()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn broken(message: impl ToString) -> LoadError {
    LoadError::Tokenizer { message: message.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{
        Tokenizer,
        byte_level::byte_token,
        fixtures::{byte_level_json, byte_level_tokenizer, piece_tokenizer, piece_vocabulary},
    };

    /// The byte-level tokenizer of the fixture as a GGUF file would write it.
    fn byte_level_vocabulary(pre: &str) -> GgufVocabulary {
        let json = byte_level_json();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let mut tokens: Vec<(u64, String)> = Vec::new();
        for (token, id) in json["model"]["vocab"].as_object().unwrap() {
            tokens.push((id.as_u64().unwrap(), token.clone()));
        }
        tokens.sort_unstable();
        let merges = json["model"]["merges"].as_array().unwrap();
        GgufVocabulary {
            model: "gpt2".to_owned(),
            pre: Some(pre.to_owned()),
            token_types: (0..tokens.len()).map(|id| if id < 3 { CONTROL } else { 1 }).collect(),
            tokens: tokens.into_iter().map(|(_, token)| token).collect(),
            merges: merges.iter().map(|pair| format!("{} {}", text(&pair[0]), text(&pair[1]))).collect(),
            bos_token_id: Some(1),
            eos_token_id: Some(2),
            ..GgufVocabulary::default()
        }
    }

    fn pieces(tokenizer: &Tokenizer, text: &str, add_special_tokens: bool) -> Vec<String> {
        let ids = tokenizer.encode(text, add_special_tokens).unwrap();
        ids.into_iter().map(|id| tokenizer.id_to_token(id).unwrap()).collect()
    }

    #[test]
    fn gpt2_reads_what_its_tokenizer_json_reads() {
        let from_json = byte_level_tokenizer();
        let from_gguf = Tokenizer::from_gguf(byte_level_vocabulary("gpt-2")).unwrap();
        let texts = ["", "The quick brown fox's 12345", "<s>x</s> <pad>", "  a\n\n\tb  ", "naïve 日本語 🙂 ½²"];
        for text in texts {
            let ids = from_json.encode(text, true).unwrap();
            assert_eq!(from_gguf.encode(text, true).as_ref(), Ok(&ids), "{text:?}");
            for skip in [false, true] {
                assert_eq!(from_gguf.decode(&ids, skip), from_json.decode(&ids, skip), "{text:?}");
            }
        }
        assert_eq!(from_gguf.vocab_size(), from_json.vocab_size());
    }

    #[test]
    fn some_families_compose_and_some_take_whole_pieces() {
        let composed = |pre: &str| {
            let tokenizer = Tokenizer::from_gguf(byte_level_vocabulary(pre)).unwrap();
            tokenizer.decode(&tokenizer.encode("e\u{301}", false).unwrap(), false).unwrap()
        };
        assert_eq!([composed("qwen2"), composed("llama-bpe")], ["é", "e\u{301}"]);

        let whole = |pre: &str| {
            let mut vocabulary = byte_level_vocabulary(pre);
            vocabulary.tokens.push("zqzq".to_owned());
            vocabulary.token_types.push(1);
            pieces(&Tokenizer::from_gguf(vocabulary).unwrap(), "zqzq", false).len()
        };
        assert_eq!([whole("qwen2"), whole("llama-bpe")], [4, 1]);
    }

    /// A vocabulary, its `add_bos_token` and `add_eos_token`, and the tokens of "h".
    type AddCase = (GgufVocabulary, Option<bool>, Option<bool>, &'static [&'static str]);

    #[test]
    fn bos_and_eos_go_around_a_text_where_the_file_says_so() {
        let gpt2 = |pre: &str| byte_level_vocabulary(pre);
        let cases: [AddCase; 8] = [
            (gpt2("gpt-2"), None, None, &["h"]),
            (gpt2("gpt-2"), Some(true), Some(true), &["<s>", "h", "</s>"]),
            (gpt2("llama-bpe"), None, None, &["<s>", "h"]),
            (gpt2("llama-bpe"), Some(false), Some(true), &["h", "</s>"]),
            (GgufVocabulary { bos_token_id: None, ..gpt2("llama-bpe") }, None, None, &["h"]),
            (piece_vocabulary(), None, None, &["<s>", "▁", "h"]),
            (piece_vocabulary(), Some(false), None, &["▁", "h"]),
            (piece_vocabulary(), None, Some(true), &["<s>", "▁", "h", "</s>"]),
        ];
        for (vocabulary, add_bos_token, add_eos_token, expected) in cases {
            let context = format!("{:?} {add_bos_token:?} {add_eos_token:?}", vocabulary.pre);
            let tokenizer =
                Tokenizer::from_gguf(GgufVocabulary { add_bos_token, add_eos_token, ..vocabulary }).unwrap();
            assert_eq!(pieces(&tokenizer, "h", true), expected, "{context}");
            let bare: Vec<&str> = expected.iter().copied().filter(|token| !token.ends_with("s>")).collect();
            assert_eq!(pieces(&tokenizer, "h", false), bare, "{context}");
        }
    }

    #[test]
    fn token_types_decide_what_is_found_in_a_text_and_what_is_shown() {
        let tokenizer = piece_tokenizer();
        let pad = &pieces(&tokenizer, "<pad 4>", false);
        assert!(!pad.contains(&"<pad 4>".to_owned()), "{pad:?}");
        let ids = tokenizer.encode("hello<tool> world</s>é!\n", false).unwrap();
        let expected = ["▁hello", "<tool>", "▁", "▁world", "</s>", "▁", "é", "<0x21>", "<0x0A>"];
        assert_eq!(pieces(&tokenizer, "hello<tool> world</s>é!\n", false), expected);
        assert_eq!(tokenizer.decode(&ids, true).as_deref(), Ok("hello<tool>  world é!\n"));
        assert_eq!(tokenizer.decode(&[4], false).as_deref(), Ok(""));
        let special: Vec<u32> = (0..300).filter(|id| tokenizer.is_special(*id)).collect();
        assert_eq!((special, tokenizer.vocab_size()), (vec![0, 1, 2], 282));
    }

    #[test]
    fn the_space_before_a_text_can_be_off() {
        let vocabulary = GgufVocabulary { add_space_prefix: Some(false), ..piece_vocabulary() };
        let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
        assert_eq!(pieces(&tokenizer, "hello  world", false), ["hello", "▁", "▁world"]);
        let ids = tokenizer.encode(" hello", false).unwrap();
        assert_eq!(tokenizer.decode(&ids, false).as_deref(), Ok(" hello"));
    }

    #[derive(serde::Deserialize)]
    struct File {
        tokens: Vec<String>,
        token_types: Vec<i32>,
        scores: Vec<f32>,
        cases: Vec<Case>,
    }
    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        ids: Vec<u32>,
        decoded: String,
    }

    #[test]
    fn sentence_piece_itself_finds_the_same_tokens() {
        let file: File = serde_json::from_str(include_str!("../../tests/data/sentencepiece/vocabulary.json")).unwrap();
        let tokenizer = Tokenizer::from_gguf(GgufVocabulary {
            model: "llama".to_owned(),
            tokens: file.tokens,
            token_types: file.token_types,
            scores: file.scores,
            unknown_token_id: Some(0),
            ..GgufVocabulary::default()
        })
        .unwrap();
        for Case { text, ids, decoded } in file.cases {
            assert_eq!(tokenizer.encode(&text, true).as_ref(), Ok(&ids), "{text:?}");
            assert_eq!(tokenizer.decode(&ids, true), Ok(decoded), "{text:?}");
        }
    }

    #[test]
    fn merges_of_the_file_go_before_scores() {
        let vocabulary = GgufVocabulary { scores: Vec::new(), merges: vec!["h e".to_owned()], ..piece_vocabulary() };
        let tokenizer = Tokenizer::from_gguf(vocabulary).unwrap();
        assert_eq!(pieces(&tokenizer, "hell", false), ["▁", "he", "l", "l"]);
    }

    #[test]
    fn fields_that_do_not_fit_are_named() {
        let gpt2 = || byte_level_vocabulary("gpt-2");
        let llama = piece_vocabulary;
        let merges = |merge: &str| GgufVocabulary { merges: vec!["h e".to_owned(), merge.to_owned()], ..gpt2() };
        let mut repeated = gpt2();
        repeated.tokens[7] = repeated.tokens[5].clone();
        let mut long = llama();
        long.tokens[270] = "h".repeat(5000);
        let cases = [
            (GgufVocabulary { model: "bert".to_owned(), ..gpt2() }, "unsupported_config", "`tokenizer.ggml.model`"),
            (GgufVocabulary { pre: None, ..gpt2() }, "unsupported_config", "`tokenizer.ggml.pre`"),
            (byte_level_vocabulary("new"), "unsupported_config", "no pre-tokenizer is called `new`"),
            (GgufVocabulary { tokens: Vec::new(), ..gpt2() }, "broken_tokenizer", "tokens is empty"),
            (GgufVocabulary { token_types: vec![1; 3], ..gpt2() }, "broken_tokenizer", "has 3 entries for 512 tokens"),
            (GgufVocabulary { token_types: vec![9; 512], ..gpt2() }, "broken_tokenizer", "token_type[0] is 9"),
            (GgufVocabulary { scores: vec![0.0], ..llama() }, "broken_tokenizer", "scores has 1 entries"),
            (GgufVocabulary { scores: Vec::new(), ..llama() }, "broken_tokenizer", "scores is empty"),
            (GgufVocabulary { bos_token_id: Some(512), ..gpt2() }, "broken_tokenizer", "bos_token_id is 512"),
            (GgufVocabulary { eos_token_id: Some(900), ..gpt2() }, "broken_tokenizer", "eos_token_id is 900"),
            (GgufVocabulary { unknown_token_id: Some(900), ..gpt2() }, "broken_tokenizer", "unknown_token_id is 900"),
            (
                GgufVocabulary { bos_token_id: None, add_bos_token: Some(true), ..gpt2() },
                "broken_tokenizer",
                "bos_token_id is absent",
            ),
            (merges("he"), "broken_tokenizer", "merges[1] is `he`"),
            (merges("h 🙂"), "broken_tokenizer", "merges[1] needs `🙂`"),
            (merges("z z"), "broken_tokenizer", "merges[1] needs `zz`"),
            (repeated, "broken_tokenizer", "tokens[7] repeats the token `#`"),
            (long, "broken_tokenizer", "tokens[270] has 5000 bytes"),
        ];
        for (vocabulary, code, part) in cases {
            let error = Tokenizer::from_gguf(vocabulary).expect_err(part);
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(part), "{error} lacks {part}");
        }
    }

    #[test]
    fn byte_tokens_have_the_names_that_the_library_looks_for() {
        let tokenizer = piece_tokenizer();
        assert_eq!(tokenizer.token_to_id(&byte_token(0xAB)), Some(5 + 0xAB));
    }
}
