//! The model's tokens as strings of bytes.

use std::{fmt, sync::Arc};

use llguidance::{
    ParserFactory,
    toktrie::{INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv},
};

use super::calls::quoted;
use crate::{
    error::{LoadError, RequestError},
    text::Tokenizer,
};

/// The tokens of a model, prepared for grammars. It is built once for each engine, and takes some time and memory: about
/// a tenth of a second and 20 MB for 50,000 tokens.
///
/// It is immutable and may be shared by threads in an [`Arc`].
pub struct Vocabulary {
    factory: ParserFactory,
    tokenizer: Arc<Tokenizer>,
    eos_token_ids: Vec<u32>,
}

/// Longer tokens are never allowed: the trie's depth is limited.
const MAX_TOKEN_LEN: usize = 1000;

impl Vocabulary {
    /// Prepares the tokens of `tokenizer`, for a model with `vocab_size` logits. Those that no token belongs to are
    /// never allowed. `eos_token_ids` are the tokens that end an answer, and no part of its text.
    ///
    /// # Errors
    /// [`LoadError::Tokenizer`] when an end token is outside the vocabulary, or the tokens cannot be decoded.
    pub fn new(tokenizer: Arc<Tokenizer>, eos_token_ids: &[u32], vocab_size: usize) -> Result<Self, LoadError> {
        if let Some(id) = eos_token_ids.iter().find(|id| **id as usize >= vocab_size) {
            let message = format!("the end token {id} is outside the vocabulary of {vocab_size} tokens");
            return Err(LoadError::Tokenizer { message });
        }
        let trie = trie(&tokenizer, eos_token_ids, vocab_size).map_err(|error| broken(&error))?;
        let lead = Lead::find(&tokenizer).map_err(|error| broken(&error))?;
        let environment: TokEnv = Arc::new(Environment { tokenizer: Arc::clone(&tokenizer), trie, lead });
        let mut factory = ParserFactory::new_simple(&environment).map_err(|error| broken(&error))?;
        factory.quiet().limits_mut().verbose_errors = false;
        Ok(Self { factory, tokenizer, eos_token_ids: eos_token_ids.to_vec() })
    }

    /// The number of tokens, which is the number of logits.
    pub fn len(&self) -> usize {
        self.factory.tok_env().tok_trie().vocab_size()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn factory(&self) -> &ParserFactory {
        &self.factory
    }

    /// The special token that is written like this, and can be part of an answer.
    pub(super) fn special_token(&self, text: &str) -> Option<u32> {
        let id = self.tokenizer.token_to_id(text).filter(|id| self.tokenizer.is_special(*id))?;
        ((id as usize) < self.len() && !self.eos_token_ids.contains(&id)).then_some(id)
    }

    /// The bytes that a token adds to a text: none for special tokens and for those that there are not.
    pub(super) fn text_bytes(&self, token_id: u32) -> &[u8] {
        let trie = self.factory.tok_env().tok_trie();
        let bytes = if (token_id as usize) < trie.vocab_size() { trie.token(token_id) } else { &[] };
        if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) { &[] } else { bytes }
    }

    /// A text as Lark has it: special tokens in it by their numbers, the rest as strings. The empty text is nothing.
    pub(super) fn lark(&self, text: &str) -> String {
        let token_ids = self.tokenizer.encode(text, false).unwrap_or_default();
        let (mut parts, mut rest) = (Vec::new(), text);
        for name in token_ids.iter().filter_map(|id| self.tokenizer.id_to_token(*id)) {
            let (Some(id), Some((before, after))) = (self.special_token(&name), rest.split_once(&name)) else {
                continue;
            };
            parts.extend((!before.is_empty()).then(|| quoted(before)));
            parts.push(format!("<[{id}]>"));
            rest = after;
        }
        parts.extend((!rest.is_empty()).then(|| quoted(rest)));
        parts.join(" ")
    }

    pub(super) fn eos_token_ids(&self) -> &[u32] {
        &self.eos_token_ids
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary").field("len", &self.len()).finish_non_exhaustive()
    }
}

fn broken(error: &impl ToString) -> LoadError {
    LoadError::Tokenizer { message: error.to_string() }
}

/// All tokens by their bytes. Special tokens and those that end the answer are behind a mark, out of reach of texts.
fn trie(tokenizer: &Tokenizer, eos_token_ids: &[u32], vocab_size: usize) -> Result<TokTrie, RequestError> {
    let word = |id: u32| {
        let bytes = tokenizer.token_bytes(id)?;
        if tokenizer.is_special(id) || eos_token_ids.contains(&id) {
            return Ok([&[TokTrie::SPECIAL_TOKEN_MARKER], bytes.as_slice()].concat());
        }
        Ok(if bytes.len() > MAX_TOKEN_LEN { Vec::new() } else { bytes })
    };
    let words = (0..vocab_size as u32).map(word).collect::<Result<Vec<_>, _>>()?;
    let first = eos_token_ids.first().copied().unwrap_or(INVALID_TOKEN);
    let trie = TokTrie::from(&TokRxInfo::new(vocab_size as u32, first), &words);
    Ok(if eos_token_ids.is_empty() { trie } else { trie.with_eos_tokens(eos_token_ids) })
}

/// What the grammars know of the tokenizer.
struct Environment {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
    lead: Lead,
}

impl Environment {
    /// The tokens that the tokenizer makes of `text` inside a longer one. Where it makes something else of it, such as a
    /// special token, the longest tokens that fit are taken instead.
    fn tokenize_text(&self, text: &str) -> Vec<TokenId> {
        let token_ids = self.lead.encode(&self.tokenizer, text).unwrap_or_default();
        if self.trie.decode_raw(&token_ids) == text.as_bytes() {
            return token_ids;
        }
        self.trie.greedy_tokenize(text.as_bytes())
    }
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.tokenize_text(text))
    }
}

/// A text that goes before another, so that the tokenizer does not take the latter for the beginning of a text, where
/// many add a space.
struct Lead {
    text: &'static str,
    token_ids: Vec<u32>,
}

/// Any text that stays as it is.
const PROBE: &str = "{";

impl Lead {
    /// The first candidate that keeps what follows as it is; if there is none, no text.
    fn find(tokenizer: &Tokenizer) -> Result<Self, RequestError> {
        for text in ["", "\n", "\u{2}"] {
            let lead = Self { text, token_ids: tokenizer.encode(text, false)? };
            let probe = lead.encode(tokenizer, PROBE).unwrap_or_default();
            let bytes = probe.iter().map(|id| tokenizer.token_bytes(*id)).collect::<Result<Vec<_>, _>>()?;
            if bytes.concat() == PROBE.as_bytes() {
                return Ok(lead);
            }
        }
        Ok(Self { text: "", token_ids: Vec::new() })
    }

    /// The tokens of `text` after the lead, unless the two grow together.
    fn encode(&self, tokenizer: &Tokenizer, text: &str) -> Option<Vec<u32>> {
        let token_ids = tokenizer.encode(&format!("{}{text}", self.text), false).ok()?;
        token_ids.strip_prefix(self.token_ids.as_slice()).map(<[u32]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guide::tests::tokenizers;

    #[test]
    fn texts_become_the_tokens_that_they_have_inside_a_text() {
        for (name, tokenizer, eos) in tokenizers() {
            let vocabulary = Vocabulary::new(Arc::clone(&tokenizer), &[eos], tokenizer.vocab_size() + 5).unwrap();
            let environment = vocabulary.factory().tok_env();
            for text in ["{\"name\":\"", " the name of", "naïve café 日本語 🙂", "\n\n\tx", "</s>", "<s>"] {
                let token_ids = environment.tokenize_bytes(text.as_bytes());
                assert_eq!(environment.tok_trie().decode_raw(&token_ids), text.as_bytes(), "{name}: {text}");
            }
            let cut = &"é".as_bytes()[..1];
            assert_eq!(environment.tok_trie().decode_raw(&environment.tokenize_bytes(cut)), cut, "{name}");
        }
    }

    #[test]
    fn an_end_token_outside_the_vocabulary_is_refused() {
        for (_, tokenizer, _) in tokenizers() {
            let error = Vocabulary::new(tokenizer, &[2, 512], 512).unwrap_err();
            let expected = "the end token 512 is outside the vocabulary of 512 tokens";
            assert_eq!(error.to_string(), format!("the tokenizer cannot be used: {expected}"));
        }
    }
}
