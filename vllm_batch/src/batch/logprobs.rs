//! How do log-probabilities stand in a row?
//!
//! In `OpenAI`'s shapes, and those of the prompt in vLLM's. JSON has no infinity: what is less likely than
//! [`LEAST_LOGPROB`] has that, as in vLLM.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::output::{TokenLogprob, TokenLogprobs};

/// Stands for the log-probability of an impossible token, which is negative infinity.
pub const LEAST_LOGPROB: f32 = -9999.0;

/// Log-probabilities of an answer of `/v1/chat/completions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChatLogprobs {
    /// One entry for each token, the one that ended the answer included.
    pub content: Option<Vec<ChatTokenLogprob>>,
}

/// How likely a token of a chat answer was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChatTokenLogprob {
    /// The token's text; what is not whole characters becomes U+FFFD.
    pub token: String,
    /// The natural logarithm of its probability, at least [`LEAST_LOGPROB`].
    pub logprob: f32,
    /// The bytes that it stands for.
    pub bytes: Option<Vec<u8>>,
    /// As many of the most likely tokens in its place as were asked for, best first.
    #[serde(default)]
    pub top_logprobs: Vec<TopLogprob>,
}

/// One of the most likely tokens in a place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TopLogprob {
    /// The token's text; what is not whole characters becomes U+FFFD.
    pub token: String,
    /// The natural logarithm of its probability, at least [`LEAST_LOGPROB`].
    pub logprob: f32,
    /// The bytes that it stands for.
    pub bytes: Option<Vec<u8>>,
}

/// Log-probabilities of an answer of `/v1/completions`: lists of equal length, one entry for each token. With `echo` the
/// prompt's tokens come first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TextLogprobs {
    /// The tokens' texts; what is not whole characters becomes U+FFFD. The first token of a prompt has the text that the
    /// others leave of it, which is none if it is a special token that the tokenizer added.
    pub tokens: Vec<String>,
    /// The natural logarithms of their probabilities, at least [`LEAST_LOGPROB`]; null for the first token of a prompt.
    pub token_logprobs: Vec<Option<f32>>,
    /// The token itself and the most likely ones in its place, by their texts. Where several have the same text, the
    /// largest logarithm stands.
    pub top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// The character in the texts of all tokens, one after the other, where each token begins, from 0.
    pub text_offset: Vec<usize>,
}

/// vLLM's `prompt_logprobs`: for each token of the prompt the log-probabilities of itself and of the most likely tokens in
/// its place, by token id; null for the first one. What has no known id is not there.
pub type PromptLogprobs = Vec<Option<BTreeMap<String, PromptLogprob>>>;

/// How likely a token was in a place of the prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PromptLogprob {
    /// The natural logarithm of its probability, at least [`LEAST_LOGPROB`].
    pub logprob: f32,
    /// Its place among all tokens, from 1.
    pub rank: Option<u32>,
    /// The token's text; what is not whole characters becomes U+FFFD.
    pub decoded_token: Option<String>,
}

impl From<Vec<TokenLogprobs>> for ChatLogprobs {
    fn from(tokens: Vec<TokenLogprobs>) -> Self {
        Self { content: Some(tokens.into_iter().map(ChatTokenLogprob::from).collect()) }
    }
}

impl From<TokenLogprobs> for ChatTokenLogprob {
    fn from(token: TokenLogprobs) -> Self {
        let TopLogprob { token: text, logprob, bytes } = TopLogprob::from(token.chosen);
        let top_logprobs = token.top.into_iter().map(TopLogprob::from).collect();
        Self { token: text, logprob, bytes, top_logprobs }
    }
}

impl From<TokenLogprob> for TopLogprob {
    fn from(token: TokenLogprob) -> Self {
        Self { token: token.text().into_owned(), logprob: finite(token.logprob), bytes: Some(token.bytes) }
    }
}

impl From<&TokenLogprob> for PromptLogprob {
    fn from(token: &TokenLogprob) -> Self {
        let decoded_token = Some(token.text().into_owned());
        Self { logprob: finite(token.logprob), rank: token.rank, decoded_token }
    }
}

/// vLLM's list.
pub(super) fn prompt_logprobs(prompt: &[Option<TokenLogprobs>]) -> PromptLogprobs {
    let entry = |token: &TokenLogprobs| {
        let all = token.top.iter().chain([&token.chosen]);
        all.filter_map(|token| Some((token.token_id?.to_string(), PromptLogprob::from(token)))).collect()
    };
    prompt.iter().map(|token| token.as_ref().map(entry)).collect()
}

impl TextLogprobs {
    /// Those of an answer, after those of an echoed prompt with its text.
    pub(super) fn new(echo: Option<(&str, &[Option<TokenLogprobs>])>, answer: &[TokenLogprobs]) -> Self {
        let mut logprobs = Self::default();
        let mut offset = 0;
        let (text, prompt) = echo.unwrap_or_default();
        for token in prompt {
            match token {
                Some(token) => logprobs.push(token, &mut offset),
                None => logprobs.push_first(left_of(text, prompt), &mut offset),
            }
        }
        for token in answer {
            logprobs.push(token, &mut offset);
        }
        logprobs
    }

    fn push_first(&mut self, text: &str, offset: &mut usize) {
        self.tokens.push(text.to_owned());
        self.token_logprobs.push(None);
        self.top_logprobs.push(None);
        self.text_offset.push(*offset);
        *offset += text.chars().count();
    }

    fn push(&mut self, token: &TokenLogprobs, offset: &mut usize) {
        let TokenLogprobs { chosen, top } = token;
        let mut by_text = BTreeMap::new();
        for token in top.iter().chain([chosen]) {
            by_text.entry(token.text().into_owned()).or_insert_with(|| finite(token.logprob));
        }
        self.tokens.push(chosen.text().into_owned());
        self.token_logprobs.push(Some(finite(chosen.logprob)));
        self.top_logprobs.push(Some(by_text));
        // A token that begins within a character is where that character is.
        let is_within = chosen.bytes.first().is_some_and(|byte| !begins_character(*byte));
        self.text_offset.push(offset.saturating_sub(usize::from(is_within)));
        *offset += chosen.bytes.iter().filter(|byte| begins_character(**byte)).count();
    }
}

/// What the other tokens leave of a prompt's text for the first one.
fn left_of<'a>(text: &'a str, prompt: &[Option<TokenLogprobs>]) -> &'a str {
    let others: usize = prompt.iter().flatten().map(|token| token.chosen.bytes.len()).sum();
    text.get(..text.len().saturating_sub(others)).unwrap_or_default()
}

fn begins_character(byte: u8) -> bool {
    byte & 0xC0 != 0x80
}

fn finite(logprob: f32) -> f32 {
    logprob.max(LEAST_LOGPROB)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn token(token_id: u32, logprob: f32, rank: u32, bytes: &[u8]) -> TokenLogprob {
        TokenLogprob::new(token_id, logprob, rank, bytes.to_vec())
    }

    /// "é" in two tokens, then one that is impossible.
    fn tokens() -> Vec<TokenLogprobs> {
        let likely = token(7, -0.25, 1, b"\xc3");
        vec![
            TokenLogprobs::new(likely.clone(), vec![likely]),
            TokenLogprobs::new(token(8, -1.5, 2, b"\xa9"), vec![token(9, -0.5, 1, b"\xff")]),
            TokenLogprobs::new(token(3, f32::NEG_INFINITY, 40, b"!"), vec![]),
        ]
    }

    #[test]
    fn chat_has_a_list_of_tokens() {
        let expected = json!({"content": [
            {"token": "\u{fffd}", "logprob": -0.25, "bytes": [195],
             "top_logprobs": [{"token": "\u{fffd}", "logprob": -0.25, "bytes": [195]}]},
            {"token": "\u{fffd}", "logprob": -1.5, "bytes": [169],
             "top_logprobs": [{"token": "\u{fffd}", "logprob": -0.5, "bytes": [255]}]},
            {"token": "!", "logprob": -9999.0, "bytes": [33], "top_logprobs": []},
        ]});
        let found = ChatLogprobs::from(tokens());
        assert_eq!(serde_json::to_value(&found).unwrap(), expected);
        assert_eq!(serde_json::from_value::<ChatLogprobs>(expected).unwrap(), found);
    }

    #[test]
    fn completions_have_lists_of_equal_length() {
        let expected = json!({
            "tokens": ["\u{fffd}", "\u{fffd}", "!"], "token_logprobs": [-0.25, -1.5, -9999.0],
            "top_logprobs": [{"\u{fffd}": -0.25}, {"\u{fffd}": -0.5}, {"!": -9999.0}], "text_offset": [0, 0, 1],
        });
        assert_eq!(serde_json::to_value(TextLogprobs::new(None, &tokens())).unwrap(), expected);
    }

    #[test]
    fn an_echoed_prompt_comes_first() {
        let rest = TokenLogprobs::new(token(5, -2.0, 3, " tô".as_bytes()), vec![token(6, -1.0, 1, b" a")]);
        let prompt = [None, Some(rest)];
        for (text, first, offsets) in [("Où tô", "Où", [0, 2, 5]), (" tô", "", [0, 0, 3]), ("ô", "", [0, 0, 3])] {
            let answer = TokenLogprobs::new(token(1, -0.5, 1, b"x"), vec![]);
            let expected = json!({
                "tokens": [first, " tô", "x"], "token_logprobs": [null, -2.0, -0.5],
                "top_logprobs": [null, {" tô": -2.0, " a": -1.0}, {"x": -0.5}], "text_offset": offsets,
            });
            let found = TextLogprobs::new(Some((text, &prompt)), &[answer]);
            assert_eq!(serde_json::to_value(&found).unwrap(), expected);
            assert_eq!(serde_json::from_value::<TextLogprobs>(expected).unwrap(), found);
        }
        let expected = json!([null, {
            "5": {"logprob": -2.0, "rank": 3, "decoded_token": " tô"},
            "6": {"logprob": -1.0, "rank": 1, "decoded_token": " a"},
        }]);
        let found = prompt_logprobs(&prompt);
        assert_eq!(serde_json::to_value(&found).unwrap(), expected);
        assert_eq!(serde_json::from_value::<PromptLogprobs>(expected).unwrap(), found);
    }
}
