//! One tokenizer, whatever file it came from.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use tokenizers::{DecoderWrapper, ModelWrapper, PostProcessor, TruncationDirection};

use super::{byte_level, gguf_vocabulary::GgufVocabulary};
use crate::error::{LoadError, RequestError};

/// Turns text into token ids and back, exactly as Hugging Face's `tokenizers` does.
///
/// It is immutable and may be shared by threads in an [`Arc`](std::sync::Arc).
///
/// # Example
/// ```no_run
/// use vllm_batch::text::Tokenizer;
///
/// let tokenizer = Tokenizer::from_json(&std::fs::read("tokenizer.json")?)?;
/// let ids = tokenizer.encode("Hello", true)?;
/// assert_eq!(tokenizer.decode(&ids, true)?, "Hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocab_size: usize,
    special: HashSet<u32>,
    decoding: Decoding,
    /// A token that others are decoded after, where the first one of a text loses its leading space.
    context: Option<u32>,
}

/// How tokens become text.
pub(super) enum Decoding {
    /// Every token is a string of bytes, and the text is their concatenation.
    Bytes,
    /// Tokens are pieces of text that may depend on their neighbours. The map holds the tokens that are one byte each.
    Pieces(HashMap<u32, u8>),
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. Padding and truncation that are stored in it are switched off.
    ///
    /// # Errors
    /// * [`LoadError::Tokenizer`] when the bytes are not a usable `tokenizer.json`.
    /// * [`LoadError::UnsupportedConfig`] when the tokenizer draws random numbers (BPE dropout).
    pub fn from_json(bytes: &[u8]) -> Result<Self, LoadError> {
        let inner = guarded(|| {
            let mut inner = tokenizers::Tokenizer::from_bytes(bytes)?;
            inner.with_padding(None).with_truncation(None)?;
            Ok(inner)
        });
        let inner = inner.map_err(|message| LoadError::Tokenizer { message })?;
        refuse_dropout(&inner)?;
        let ids = inner.get_vocab(true).into_values();
        Ok(Self::new(ids.max().map_or(0, |last| last as usize + 1), inner))
    }

    /// Builds the tokenizer that a GGUF file describes in its metadata.
    ///
    /// # Errors
    /// * [`LoadError::UnsupportedConfig`] for a tokenizer model or a pre-tokenizer that is not implemented.
    /// * [`LoadError::Tokenizer`] when the lists do not fit together; the message names the key and the place.
    pub fn from_gguf(vocabulary: GgufVocabulary) -> Result<Self, LoadError> {
        let vocab_size = vocabulary.tokens.len();
        let inner = vocabulary.into_tokenizer()?;
        Ok(Self::new(vocab_size, inner))
    }

    /// The token ids of `text`.
    ///
    /// Special tokens that are written in the text, such as `<|im_start|>`, become their ids. `add_special_tokens`
    /// says whether those that belong around every text, such as a leading BOS, are added; a prompt that a chat
    /// template rendered holds them already.
    ///
    /// # Errors
    /// [`RequestError::Tokenizer`] when the tokenizer fails on this text.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, RequestError> {
        let encoding = guarded(|| self.inner.encode_fast(text, add_special_tokens));
        let encoding = encoding.map_err(|message| RequestError::Tokenizer { message })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The token ids of the beginning of `text`, so much of it that there are at most `max_len` with the special tokens
    /// around it: what transformers gives with `truncation=True`.
    ///
    /// # Errors
    /// [`RequestError::Tokenizer`] when the tokenizer fails on this text, [`RequestError::InvalidParam`] for
    /// `truncate_prompt_tokens` when the special tokens alone are more than `max_len`.
    pub fn encode_first(&self, text: &str, add_special_tokens: bool, max_len: usize) -> Result<Vec<u32>, RequestError> {
        let processor = self.inner.get_post_processor().filter(|_| add_special_tokens);
        let num_added = processor.map_or(0, |processor| processor.added_tokens(false));
        let Some(room) = max_len.checked_sub(num_added) else {
            let message = format!("must leave room for the {num_added} special tokens around a text");
            return Err(RequestError::invalid("truncate_prompt_tokens", message));
        };
        let encoding = guarded(|| {
            let mut encoding = self.inner.encode_fast(text, false)?;
            encoding.truncate(room, 0, TruncationDirection::Right);
            self.inner.post_process(encoding, None, add_special_tokens)
        });
        Ok(encoding.map_err(|message| RequestError::Tokenizer { message })?.get_ids().to_vec())
    }

    /// The text of `ids`. Ids that the vocabulary does not have stand for nothing; bytes that are not UTF-8 become
    /// U+FFFD.
    ///
    /// # Errors
    /// [`RequestError::Tokenizer`] when the tokenizer fails on these ids.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, RequestError> {
        guarded(|| self.inner.decode(ids, skip_special_tokens)).map_err(|message| RequestError::Tokenizer { message })
    }

    /// One more than the highest token id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of the token that is written `token` in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// How the token is written in the vocabulary; a byte-level vocabulary writes a space as `Ġ`.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether the token is special: it marks structure, and is left out of text unless asked for.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// The bytes that the token adds to a text inside which it stands. They need not be whole characters, and a
    /// SentencePiece token that begins a word keeps the space before it, which is left out at the beginning of a text.
    ///
    /// A special token stands for its name, and an id that the vocabulary does not have for nothing.
    ///
    /// # Errors
    /// [`RequestError::Tokenizer`] when the tokenizer fails on this token.
    pub fn token_bytes(&self, id: u32) -> Result<Vec<u8>, RequestError> {
        match &self.decoding {
            Decoding::Bytes => Ok(self.bytes_in_alphabet(id)),
            Decoding::Pieces(byte_tokens) => match byte_tokens.get(&id) {
                Some(byte) => Ok(vec![*byte]),
                None => self.bytes_of_piece(id),
            },
        }
    }

    pub(super) fn decoding(&self) -> &Decoding {
        &self.decoding
    }

    /// The bytes that a token stands for under [`Decoding::Bytes`].
    pub(super) fn bytes_in_alphabet(&self, id: u32) -> Vec<u8> {
        let added = self.inner.get_added_vocabulary().simple_id_to_token(id);
        let token = added.or_else(|| self.inner.id_to_token(id));
        token.map_or_else(Vec::new, |token| byte_level::bytes_of_token(&token))
    }

    /// What a token adds to the text of the token before it.
    fn bytes_of_piece(&self, id: u32) -> Result<Vec<u8>, RequestError> {
        let Some(context) = self.context else {
            return Ok(self.decode(&[id], false)?.into_bytes());
        };
        let before = self.decode(&[context], false)?;
        let whole = self.decode(&[context, id], false)?;
        Ok(match whole.strip_prefix(&before) {
            Some(fresh) => fresh.as_bytes().to_vec(),
            None => self.decode(&[id], false)?.into_bytes(),
        })
    }

    fn new(vocab_size: usize, inner: tokenizers::Tokenizer) -> Self {
        let added = inner.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        let decoding = decoding_of(&inner);
        let mut tokenizer = Self { inner, vocab_size, special, decoding, context: None };
        tokenizer.context = tokenizer.find_context();
        tokenizer
    }

    /// The first token that is a letter by itself.
    fn find_context(&self) -> Option<u32> {
        let Decoding::Pieces(byte_tokens) = &self.decoding else { return None };
        let is_letter = |id: &u32| {
            let text = self.decode(&[*id], false).unwrap_or_default();
            text.len() == 1 && text.chars().all(char::is_alphabetic)
        };
        let mut ids: Vec<u32> = self.inner.get_vocab(true).into_values().collect();
        ids.sort_unstable();
        ids.into_iter().filter(|id| !byte_tokens.contains_key(id)).find(is_letter)
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size).finish_non_exhaustive()
    }
}

/// Runs a call into the tokenizer library, which panics in places where its input is at fault.
fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("the tokenizer library broke off: {}", text.unwrap_or("it does not say why")))
        }
    }
}

fn refuse_dropout(inner: &tokenizers::Tokenizer) -> Result<(), LoadError> {
    match inner.get_model() {
        ModelWrapper::BPE(bpe) if bpe.dropout.is_some_and(|dropout| dropout > 0.0) => {
            Err(LoadError::UnsupportedConfig {
                key: "model.dropout".to_owned(),
                message: "the tokenizer would read the same text differently each time; set it to null".to_owned(),
            })
        }
        _ => Ok(()),
    }
}

fn decoding_of(inner: &tokenizers::Tokenizer) -> Decoding {
    let decoders = match inner.get_decoder() {
        Some(DecoderWrapper::Sequence(sequence)) => sequence.get_decoders(),
        Some(decoder) => std::slice::from_ref(decoder),
        None => &[],
    };
    if matches!(decoders, [DecoderWrapper::ByteLevel(_)]) {
        return Decoding::Bytes;
    }
    let has_byte_tokens = decoders.iter().any(|decoder| matches!(decoder, DecoderWrapper::ByteFallback(_)));
    let bytes = (0..=u8::MAX).filter(|_| has_byte_tokens);
    Decoding::Pieces(bytes.filter_map(|byte| Some((inner.token_to_id(&byte_level::byte_token(byte))?, byte))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::fixtures::{byte_level_json, byte_level_tokenizer, piece_tokenizer};

    #[test]
    fn text_becomes_ids_and_comes_back() {
        let tokenizer = byte_level_tokenizer();
        let texts = ["", "The quick brown fox", "  two  spaces ", "naïve 日本語 🙂", "<s>x</s>", "a\n\n\tb"];
        for text in texts {
            let ids = tokenizer.encode(text, true).unwrap();
            assert_eq!(tokenizer.decode(&ids, false).as_deref(), Ok(text));
        }
    }

    #[test]
    fn special_tokens_in_the_text_are_recognised() {
        let tokenizer = byte_level_tokenizer();
        let begin = tokenizer.token_to_id("<s>").unwrap();
        let end = tokenizer.token_to_id("</s>").unwrap();
        let ids = tokenizer.encode("<s></s>", false).unwrap();
        assert_eq!((ids.as_slice(), tokenizer.is_special(begin)), ([begin, end].as_slice(), true));
        assert_eq!(tokenizer.decode(&ids, true).as_deref(), Ok(""));
        assert!(!tokenizer.is_special(tokenizer.token_to_id("Ġ").unwrap()));
        assert_eq!((tokenizer.id_to_token(begin).as_deref(), tokenizer.id_to_token(9999)), (Some("<s>"), None));
    }

    #[test]
    fn vocab_size_is_one_more_than_the_highest_id() {
        assert_eq!(byte_level_tokenizer().vocab_size(), 512);
        assert_eq!(format!("{:?}", byte_level_tokenizer()), "Tokenizer { vocab_size: 512, .. }");
    }

    #[test]
    fn ids_outside_the_vocabulary_stand_for_nothing() {
        let tokenizer = piece_tokenizer();
        let hello = tokenizer.encode("hello", false).unwrap();
        let with_strangers: Vec<u32> = [&[9_999], hello.as_slice(), &[u32::MAX]].concat();
        assert_eq!(tokenizer.decode(&with_strangers, false).as_deref(), Ok("hello"));
    }

    #[test]
    fn tokens_have_bytes() {
        let (bytes, pieces) = (byte_level_tokenizer(), piece_tokenizer());
        let cases: [(&Tokenizer, &str, &[u8]); 9] = [
            (&bytes, "Ġ", b" "),
            (&bytes, "Ċ", b"\n"),
            (&bytes, "ð", &[0xF0]),
            (&bytes, "<s>", b"<s>"),
            (&pieces, "▁hello", b" hello"),
            (&pieces, "hell", b"hell"),
            (&pieces, "<0xC3>", &[0xC3]),
            (&pieces, "<tool>", b"<tool>"),
            (&pieces, "▁▁", b"  "),
        ];
        for (tokenizer, token, expected) in cases {
            let id = tokenizer.token_to_id(token).unwrap();
            assert_eq!(tokenizer.token_bytes(id).as_deref(), Ok(expected), "{token}");
        }
        for tokenizer in [&bytes, &pieces] {
            assert_eq!(tokenizer.token_bytes(9_999), Ok(Vec::new()));
        }
    }

    #[test]
    fn bytes_of_tokens_make_the_text() {
        for tokenizer in [byte_level_tokenizer(), piece_tokenizer()] {
            let text = "he hello world  é";
            let ids = tokenizer.encode(text, false).unwrap();
            let bytes: Vec<u8> = ids.iter().flat_map(|id| tokenizer.token_bytes(*id).unwrap()).collect();
            assert_eq!(String::from_utf8_lossy(&bytes).trim_start(), text);
        }
    }

    #[test]
    fn padding_and_truncation_in_the_file_are_off() {
        let mut json = byte_level_json();
        json["truncation"] = serde_json::json!({
            "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0
        });
        json["padding"] = serde_json::json!({
            "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"
        });
        let tokenizer = Tokenizer::from_json(json.to_string().as_bytes()).unwrap();
        let text = "a text of more than two tokens and less than sixty-four";
        assert_eq!(tokenizer.encode(text, true), byte_level_tokenizer().encode(text, true));
    }

    #[test]
    fn unusable_files_are_refused() {
        let mut dropout = byte_level_json();
        dropout["model"]["dropout"] = serde_json::json!(0.1);
        let mut long_merge = byte_level_json();
        long_merge["model"] = serde_json::json!({"type": "BPE", "vocab": {"ab": 0}, "merges": [["ab", "ab"]]});
        let cases = [
            (String::new(), "broken_tokenizer"),
            ("{}".to_owned(), "broken_tokenizer"),
            ("[1, 2".to_owned(), "broken_tokenizer"),
            (dropout.to_string(), "unsupported_config"),
            (long_merge.to_string(), "broken_tokenizer"),
        ];
        for (json, expected) in cases {
            let error = Tokenizer::from_json(json.as_bytes()).expect_err(expected);
            assert_eq!(error.code(), expected, "{error}");
        }
    }
}
