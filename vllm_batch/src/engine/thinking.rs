//! Until when does the model think?

use std::sync::Arc;

use crate::error::RequestError;
use crate::guide::TokenMask;
use crate::text::{ReasoningFormat, Tokenizer};

/// An answer whose thoughts have not ended.
#[derive(Debug, Clone)]
pub(super) struct Thinking {
    rules: Arc<ThinkingRules>,
    /// The last bytes, as many as a mark may begin in.
    bytes: Vec<u8>,
    num_tokens: usize,
    /// How many of the end mark's tokens were forced.
    num_forced: usize,
}

/// What holds for all answers to one request.
#[derive(Debug)]
pub(super) struct ThinkingRules {
    format: ReasoningFormat,
    /// The most tokens of thoughts.
    budget: Option<usize>,
    /// The end mark, to be written for the model.
    end_token_ids: Vec<u32>,
    vocab_size: usize,
    tokenizer: Arc<Tokenizer>,
}

impl ThinkingRules {
    /// # Errors
    /// [`RequestError::Tokenizer`] if the end mark cannot be written.
    pub(super) fn new(
        format: ReasoningFormat,
        budget: Option<u32>,
        tokenizer: Arc<Tokenizer>,
        vocab_size: usize,
    ) -> Result<Self, RequestError> {
        let end_token_ids = tokenizer.encode(&format.end, false)?;
        Ok(Self { format, budget: budget.map(|budget| budget as usize), end_token_ids, vocab_size, tokenizer })
    }
}

impl Thinking {
    /// The beginning of an answer.
    pub(super) fn new(rules: Arc<ThinkingRules>) -> Self {
        Self { rules, bytes: Vec::new(), num_tokens: 0, num_forced: 0 }
    }

    pub(super) fn has_budget(&self) -> bool {
        self.rules.budget.is_some()
    }

    /// The token that may come next, where the budget is used up; `None` where all may.
    pub(super) fn mask(&self) -> Option<TokenMask> {
        self.forced().map(|next| TokenMask::of(self.rules.vocab_size, &[next]))
    }

    fn forced(&self) -> Option<u32> {
        let rules = &*self.rules;
        // The mark that begins thoughts is none, and may take several tokens.
        let is_begun = self.bytes.is_empty() || !rules.format.start.as_bytes().starts_with(&self.bytes);
        let is_over = is_begun && rules.budget.is_some_and(|budget| self.num_tokens >= budget);
        rules.end_token_ids.get(self.num_forced).copied().filter(|_| is_over || self.num_forced > 0)
    }

    /// Takes a token. Gives whether it ends the thoughts.
    ///
    /// # Errors
    /// [`RequestError::Tokenizer`] if the token cannot be decoded.
    pub(super) fn push(&mut self, token_id: u32) -> Result<bool, RequestError> {
        let is_forced = self.forced().is_some();
        self.bytes.extend(self.rules.tokenizer.token_bytes(token_id)?);
        self.num_forced += usize::from(is_forced);
        self.num_tokens += 1;
        let ReasoningFormat { start, end, .. } = &self.rules.format;
        if contains(&self.bytes, end) || (is_forced && self.num_forced == self.rules.end_token_ids.len()) {
            return Ok(true);
        }
        if contains(&self.bytes, start) {
            self.bytes.clear();
            self.num_tokens = 0;
        }
        let longest = start.len().max(end.len());
        self.bytes.drain(..self.bytes.len().saturating_sub(longest));
        Ok(false)
    }
}

fn contains(bytes: &[u8], mark: &str) -> bool {
    bytes.windows(mark.len()).any(|window| window == mark.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thinking(budget: Option<u32>) -> Thinking {
        let tokenizer = Tokenizer::from_json(include_bytes!("../../tests/data/arch/llama/tokenizer.json")).unwrap();
        let rules = ThinkingRules::new("qwen3".parse().unwrap(), budget, Arc::new(tokenizer), 512).unwrap();
        Thinking::new(Arc::new(rules))
    }

    fn tokens(thinking: &Thinking, text: &str) -> Vec<u32> {
        thinking.rules.tokenizer.encode(text, false).unwrap()
    }

    /// After how many tokens of a text the thoughts end.
    fn end(thinking: &mut Thinking, text: &str) -> Option<usize> {
        let token_ids = tokens(thinking, text);
        token_ids.into_iter().position(|id| thinking.push(id).unwrap())
    }

    #[test]
    fn thoughts_end_with_their_mark() {
        let before = tokens(&thinking(None), "<think>Hm. </think").len();
        assert_eq!(end(&mut thinking(None), "<think>Hm. </think> So"), Some(before));
        assert_eq!(end(&mut thinking(None), "</thinking <think> think>"), None);
    }

    #[test]
    fn a_budget_ends_thoughts_for_the_model() {
        for (budget, text) in [(0, ""), (3, "the"), (3, "<think>the")] {
            let mut thinking = thinking(Some(budget));
            assert!(thinking.has_budget());
            assert_eq!(end(&mut thinking, text), None);
            let mut left = budget as usize - thinking.num_tokens;
            while left > 0 {
                assert_eq!(thinking.mask(), None);
                assert!(!thinking.push(tokens(&thinking, "a")[0]).unwrap());
                left -= 1;
            }
            let end_token_ids = tokens(&thinking, "</think>");
            let forced = end_token_ids.iter().map(|id| {
                assert_eq!(thinking.mask().unwrap().only(), Some(*id));
                thinking.push(*id).unwrap()
            });
            let is_end: Vec<bool> = forced.collect();
            assert_eq!(is_end.iter().position(|is_end| *is_end), Some(end_token_ids.len() - 1), "{text}");
        }
    }
}
