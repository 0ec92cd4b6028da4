//! Token ids to text while they arrive.

use std::{str::from_utf8, sync::Arc};

use super::tokenizer::{Decoding, Tokenizer};
use crate::error::RequestError;

/// Decodes one answer token by token, and never shows a character before all its bytes are there.
///
/// What [`push`](Self::push) and [`finish`](Self::finish) return, put together, is what [`Tokenizer::decode`] makes of
/// all the ids. One case differs on purpose: when a run of SentencePiece's byte tokens begins with whole characters
/// and is broken further on, `decode` makes U+FFFD of the whole run, and this keeps the characters that it has shown.
///
/// Each token costs the same, however long the answer is.
#[derive(Debug)]
pub struct IncrementalDetokenizer {
    tokenizer: Arc<Tokenizer>,
    skip_special_tokens: bool,
    /// The bytes of a character that is not complete; at most 3.
    bytes: Vec<u8>,
    /// The last token that is decoded: what a piece looks like may depend on the one before it.
    context: Option<u32>,
    /// Pieces that end inside a character.
    pending: Vec<u32>,
}

/// So many pieces wait for the end of a character. No character needs more than 4 tokens.
const MAX_PENDING: usize = 16;

impl IncrementalDetokenizer {
    /// A detokenizer at the beginning of an answer.
    pub fn new(tokenizer: Arc<Tokenizer>, skip_special_tokens: bool) -> Self {
        Self { tokenizer, skip_special_tokens, bytes: Vec::new(), context: None, pending: Vec::new() }
    }

    /// Takes the next token and returns the text that is complete now and was not before.
    ///
    /// A token id that the vocabulary does not have stands for nothing, as in [`Tokenizer::decode`].
    ///
    /// # Errors
    /// [`RequestError::Tokenizer`] when the tokenizer fails on this token.
    pub fn push(&mut self, token_id: u32) -> Result<String, RequestError> {
        if self.skip_special_tokens && self.tokenizer.is_special(token_id) {
            return Ok(String::new());
        }
        match self.tokenizer.decoding() {
            Decoding::Bytes => {
                self.bytes.extend(self.tokenizer.bytes_in_alphabet(token_id));
                Ok(take_complete(&mut self.bytes, |_| 1))
            }
            Decoding::Pieces(byte_tokens) => match byte_tokens.get(&token_id) {
                Some(byte) => self.push_byte(token_id, *byte),
                None => self.push_piece(token_id),
            },
        }
    }

    /// Ends the answer and returns what was held back. A character that stayed incomplete becomes U+FFFD.
    ///
    /// # Errors
    /// [`RequestError::Tokenizer`] when the tokenizer fails on the tokens that were held back.
    pub fn finish(&mut self) -> Result<String, RequestError> {
        let text = self.flush_pending()?;
        Ok(text + &self.flush_bytes())
    }

    fn push_byte(&mut self, token_id: u32, byte: u8) -> Result<String, RequestError> {
        let mut text = self.flush_pending()?;
        if self.context.is_none() && self.bytes.is_empty() && byte.is_ascii() {
            // A decoder that drops a leading space drops this one, too.
            text.push_str(&self.tokenizer.decode(&[token_id], false)?);
        } else {
            self.bytes.push(byte);
            text.push_str(&take_complete(&mut self.bytes, <[u8]>::len));
        }
        self.context = Some(token_id);
        Ok(text)
    }

    fn push_piece(&mut self, token_id: u32) -> Result<String, RequestError> {
        if self.tokenizer.id_to_token(token_id).is_none() {
            return Ok(String::new());
        }
        let mut text = self.flush_bytes();
        self.pending.push(token_id);
        let fresh = self.decode_pending()?;
        if !fresh.ends_with(char::REPLACEMENT_CHARACTER) || self.pending.len() >= MAX_PENDING {
            text.push_str(&fresh);
            self.context = Some(token_id);
            self.pending.clear();
        }
        Ok(text)
    }

    fn flush_pending(&mut self) -> Result<String, RequestError> {
        let Some(last) = self.pending.last().copied() else {
            return Ok(String::new());
        };
        let text = self.decode_pending()?;
        self.context = Some(last);
        self.pending.clear();
        Ok(text)
    }

    /// What the pending pieces add to the text of the token before them.
    fn decode_pending(&self) -> Result<String, RequestError> {
        let Some(context) = self.context else {
            return self.tokenizer.decode(&self.pending, false);
        };
        let before = self.tokenizer.decode(&[context], false)?;
        let whole = self.tokenizer.decode(&[&[context], self.pending.as_slice()].concat(), false)?;
        match whole.strip_prefix(&before) {
            Some(fresh) => Ok(fresh.to_owned()),
            None => self.tokenizer.decode(&self.pending, false),
        }
    }

    fn flush_bytes(&mut self) -> String {
        let marks = match self.tokenizer.decoding() {
            Decoding::Bytes => usize::from(!self.bytes.is_empty()),
            Decoding::Pieces(_) => self.bytes.len(),
        };
        self.bytes.clear();
        String::from(char::REPLACEMENT_CHARACTER).repeat(marks)
    }
}

/// Takes the complete characters from the front and leaves the bytes of one that may yet be completed. Bytes that
/// cannot be part of a character are replaced by as many U+FFFD as `marks` says.
fn take_complete(bytes: &mut Vec<u8>, marks: impl Fn(&[u8]) -> usize) -> String {
    let mut text = String::new();
    let mut taken = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        taken += chunk.valid().len();
        let broken = chunk.invalid();
        if taken + broken.len() == bytes.len() && is_beginning(broken) {
            break;
        }
        let marks = if broken.is_empty() { 0 } else { marks(broken) };
        text.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, marks));
        taken += broken.len();
    }
    bytes.drain(..taken);
    text
}

/// Whether bytes that are no character can become one when more follow.
fn is_beginning(bytes: &[u8]) -> bool {
    from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::fixtures::{byte_level_tokenizer, piece_tokenizer};

    const BAD: &str = "\u{FFFD}";

    /// What each push returns, and what `finish` does.
    fn steps(tokenizer: &Arc<Tokenizer>, ids: &[u32], skip_special_tokens: bool) -> Vec<String> {
        let mut detokenizer = IncrementalDetokenizer::new(Arc::clone(tokenizer), skip_special_tokens);
        let mut steps: Vec<String> = ids.iter().map(|id| detokenizer.push(*id).unwrap()).collect();
        assert!(detokenizer.bytes.len() <= 3 && detokenizer.pending.len() < MAX_PENDING);
        steps.push(detokenizer.finish().unwrap());
        steps
    }

    fn ids(tokenizer: &Tokenizer, tokens: &[&str]) -> Vec<u32> {
        tokens.iter().map(|token| tokenizer.token_to_id(token).unwrap_or(u32::MAX)).collect()
    }

    /// A tokenizer, tokens, whether special ones are skipped, and what each step shows.
    type Case<'a> = (&'a Arc<Tokenizer>, &'a [&'a str], bool, &'a [&'a str]);

    #[test]
    fn characters_appear_when_they_are_complete() {
        let bytes = Arc::new(byte_level_tokenizer());
        let pieces = Arc::new(piece_tokenizer());
        let cases: [Case; 13] = [
            (&bytes, &["h", "Ã", "©", "Ġ"], true, &["h", "", "é", " ", ""]),
            (&bytes, &["ð", "Ł", "Ļ", "Ĥ"], true, &["", "", "", "🙂", ""]),
            (&bytes, &["ð", "Ł", "h"], true, &["", "", "\u{FFFD}h", ""]),
            (&bytes, &["ð", "Ł"], true, &["", "", BAD]),
            (&bytes, &["<s>", "h", "</s>"], true, &["", "h", "", ""]),
            (&bytes, &["<s>", "h", "nowhere"], false, &["<s>", "h", "", ""]),
            (&pieces, &["▁hello", "▁world"], true, &["hello", " world", ""]),
            (&pieces, &["<s>", "▁hello", "</s>", "▁world"], true, &["", "hello", "", " world", ""]),
            (&pieces, &["<s>", "▁hello", "<tool>", "▁world"], false, &["<s>", " hello", "<tool>", " world", ""]),
            (&pieces, &["▁", "▁he", "▁", "▁", "o", "nowhere"], true, &["", " he", " ", " ", "o", "", ""]),
            (&pieces, &["<0xC3>", "<0xA9>", "▁w", "<0x21>"], true, &["", "é", " w", "!", ""]),
            (&pieces, &["<0x20>", "h", "<0xE2>", "<0x82>", "▁w"], true, &["", "h", "", "", "\u{FFFD}\u{FFFD} w", ""]),
            (&pieces, &["<0xC3>", "<0xA9>", "<0xFF>", "<0xF0>"], true, &["", "é", BAD, "", BAD]),
        ];
        for (tokenizer, tokens, skip, expected) in cases {
            assert_eq!(steps(tokenizer, &ids(tokenizer, tokens), skip), expected, "{tokens:?}");
        }
    }

    #[test]
    fn a_decoder_of_several_steps_waits_for_whole_characters() {
        let mut json = crate::text::fixtures::byte_level_json();
        json["decoder"] = serde_json::json!({"type": "Sequence", "decoders": [json["decoder"], {"type": "Fuse"}]});
        let tokenizer = Arc::new(Tokenizer::from_json(json.to_string().as_bytes()).unwrap());
        let smile = ids(&tokenizer, &["h", "ð", "Ł", "Ļ", "Ĥ", "ð", "Ł"]);
        assert_eq!(steps(&tokenizer, &smile, true), ["h", "", "", "", "🙂", "", "", BAD]);
        let endless = vec![smile[2]; 1000];
        assert_eq!(steps(&tokenizer, &endless, true).concat(), BAD.repeat(1000));
    }

    /// A stretch of SentencePiece tokens: pieces, whole characters as bytes, or a broken character between pieces.
    fn stretch() -> impl Strategy<Value = Vec<u32>> {
        let first_byte = 5;
        let as_bytes = move |bytes: &[u8]| bytes.iter().map(|byte| first_byte + u32::from(*byte)).collect::<Vec<u32>>();
        let pieces = prop::collection::vec(prop_oneof![0_u32..5, 261_u32..290], 0..4);
        let chars = any::<char>().prop_map(move |c| as_bytes(c.to_string().as_bytes()));
        let broken = ("[é€🙂]", 261_u32..282).prop_map(move |(c, piece)| {
            let bytes = as_bytes(&c.as_bytes()[..c.len() - 1]);
            [&[piece], bytes.as_slice(), &[piece]].concat()
        });
        prop_oneof![pieces, chars, broken]
    }

    proptest! {
        #[test]
        fn byte_level_steps_make_up_the_whole(ids in prop::collection::vec(0_u32..520, 0..60), skip: bool) {
            let tokenizer = Arc::new(byte_level_tokenizer());
            prop_assert_eq!(steps(&tokenizer, &ids, skip).concat(), tokenizer.decode(&ids, skip).unwrap());
        }

        #[test]
        fn piece_steps_make_up_the_whole(stretches in prop::collection::vec(stretch(), 0..20), skip: bool) {
            let tokenizer = Arc::new(piece_tokenizer());
            let ids = stretches.concat();
            prop_assert_eq!(steps(&tokenizer, &ids, skip).concat(), tokenizer.decode(&ids, skip).unwrap());
        }

        #[test]
        fn runs_of_byte_tokens_are_read_as_utf8(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let tokenizer = Arc::new(piece_tokenizer());
            let ids: Vec<u32> = bytes.iter().map(|byte| 5 + u32::from(*byte)).collect();
            let mut expected = String::new();
            for chunk in bytes.utf8_chunks() {
                expected.push_str(chunk.valid());
                expected.push_str(&BAD.repeat(chunk.invalid().len()));
            }
            let expected = expected.strip_prefix(' ').unwrap_or(&expected);
            prop_assert_eq!(steps(&tokenizer, &ids, true).concat(), expected);
        }
    }
}
