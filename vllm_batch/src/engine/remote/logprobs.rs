//! Log-probabilities as servers give them.
//!
//! Of an answer, servers say texts, sometimes bytes, and ids of the chosen tokens at most; nobody says ranks there. So ids and
//! ranks that are not said stay unknown, and the most likely tokens are in the order of their log-probabilities.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::refusal;
use crate::error::RequestError;
use crate::output::{CompletionOutput, TokenLogprob, TokenLogprobs};

/// `OpenAI`'s form for conversations; llama.cpp has it for all prompts.
#[derive(Deserialize)]
struct WireContent {
    content: Option<Vec<WireToken>>,
}

#[derive(Deserialize)]
struct WireToken {
    /// llama.cpp says it.
    id: Option<u32>,
    token: String,
    logprob: f32,
    bytes: Option<Vec<u8>>,
    #[serde(default)]
    top_logprobs: Vec<WireToken>,
}

/// `OpenAI`'s form for other prompts.
#[derive(Deserialize)]
struct WireLists {
    tokens: Vec<String>,
    token_logprobs: Vec<f32>,
    top_logprobs: Option<Vec<Option<BTreeMap<String, f32>>>>,
}

/// vLLM's form for a token of the prompt: itself and the most likely ones, by id.
type WirePlace = BTreeMap<u32, WirePromptToken>;

#[derive(Deserialize)]
struct WirePromptToken {
    logprob: f32,
    rank: Option<u32>,
    decoded_token: String,
}

/// What [`SamplingParams`](crate::SamplingParams) ask for as a number: -1 is all.
pub(super) fn num_top(count: i32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Those of an answer. Absent where there is no text either: some servers say none for calls of functions.
///
/// # Errors
/// [`RequestError::Remote`] if they are missing or cannot be read.
pub(super) fn of_answer(
    wire: Option<Value>,
    answer: &CompletionOutput,
    num_top: usize,
) -> Result<Option<Vec<TokenLogprobs>>, RequestError> {
    let Some(mut tokens) = read_answer(wire.unwrap_or_default())? else {
        let is_missing = !answer.text.is_empty();
        return if is_missing { Err(unreadable("the answer has none")) } else { Ok(None) };
    };
    for token in &mut tokens {
        sort(&mut token.top, num_top);
    }
    if !answer.token_ids.is_empty() {
        check_lengths(tokens.len(), answer.token_ids.len())?;
        for (token, token_id) in tokens.iter_mut().zip(&answer.token_ids) {
            token.chosen.token_id = Some(*token_id);
        }
    }
    Ok(Some(tokens))
}

/// Those of a prompt with these tokens.
///
/// # Errors
/// [`RequestError::Remote`] if they are missing or cannot be read.
pub(super) fn of_prompt(
    wire: Option<Value>,
    token_ids: &[u32],
    num_top: usize,
) -> Result<Vec<Option<TokenLogprobs>>, RequestError> {
    let places: Vec<Option<WirePlace>> = read(wire.unwrap_or_default())?;
    check_lengths(places.len(), token_ids.len())?;
    let entry = |(place, token_id): (Option<WirePlace>, &u32)| {
        let Some(place) = place else { return Ok(None) };
        let mut top: Vec<_> = place.into_iter().map(TokenLogprob::from).collect();
        let chosen = top.iter().find(|token| token.token_id == Some(*token_id)).cloned();
        let chosen = chosen.ok_or_else(|| unreadable(&format!("token {token_id} of the prompt has none")))?;
        sort(&mut top, num_top);
        Ok(Some(TokenLogprobs::new(chosen, top)))
    };
    places.into_iter().zip(token_ids).map(entry).collect()
}

fn read_answer(wire: Value) -> Result<Option<Vec<TokenLogprobs>>, RequestError> {
    if wire.is_null() {
        return Ok(None);
    }
    if wire.get("tokens").is_some() {
        return read::<WireLists>(wire)?.into_tokens().map(Some);
    }
    let content = read::<WireContent>(wire)?.content;
    Ok(content.map(|tokens| tokens.into_iter().map(TokenLogprobs::from).collect()))
}

fn read<T: DeserializeOwned>(wire: Value) -> Result<T, RequestError> {
    serde_json::from_value(wire).map_err(|error| unreadable(&error.to_string()))
}

fn check_lengths(num_found: usize, num_tokens: usize) -> Result<(), RequestError> {
    if num_found == num_tokens {
        return Ok(());
    }
    Err(unreadable(&format!("{num_found} for {num_tokens} tokens")))
}

fn unreadable(message: &str) -> RequestError {
    refusal::invalid_response(200, format!("log-probabilities were asked for: {message}"))
}

/// Best first, and no more than asked for: the chosen token, which comes along, may be beyond them.
fn sort(top: &mut Vec<TokenLogprob>, num_top: usize) {
    top.sort_by(|a, b| b.logprob.total_cmp(&a.logprob).then(a.rank.cmp(&b.rank)));
    top.truncate(num_top);
}

impl From<WireToken> for TokenLogprobs {
    fn from(mut token: WireToken) -> Self {
        let top = std::mem::take(&mut token.top_logprobs);
        Self::new(token.into(), top.into_iter().map(TokenLogprob::from).collect())
    }
}

impl From<WireToken> for TokenLogprob {
    fn from(token: WireToken) -> Self {
        Self::new(token.id, token.logprob, None, token.bytes.unwrap_or_else(|| token.token.into_bytes()))
    }
}

impl From<(u32, WirePromptToken)> for TokenLogprob {
    fn from((token_id, token): (u32, WirePromptToken)) -> Self {
        Self::new(token_id, token.logprob, token.rank, token.decoded_token.into_bytes())
    }
}

impl WireLists {
    fn into_tokens(self) -> Result<Vec<TokenLogprobs>, RequestError> {
        let num_tokens = self.tokens.len();
        check_lengths(self.token_logprobs.len(), num_tokens)?;
        let tops = self.top_logprobs.unwrap_or_else(|| vec![None; num_tokens]);
        check_lengths(tops.len(), num_tokens)?;
        let named = |(text, logprob): (String, f32)| TokenLogprob::new(None, logprob, None, text.into_bytes());
        let chosen = self.tokens.into_iter().zip(self.token_logprobs).map(named);
        let entry = |(chosen, top): (TokenLogprob, Option<BTreeMap<String, f32>>)| {
            TokenLogprobs::new(chosen, top.unwrap_or_default().into_iter().map(named).collect())
        };
        Ok(chosen.zip(tops).map(entry).collect())
    }
}
