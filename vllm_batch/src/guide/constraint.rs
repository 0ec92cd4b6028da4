//! One sequence's way through a grammar.

use std::{fmt, sync::Arc};

use llguidance::{Matcher, api::StopReason, toktrie::SimpleVob};

use super::{cache::CompiledGrammar, watch::Watch};
use crate::error::RequestError;

/// What one sequence may say.
///
/// For each step: [`mask`](Self::mask) while the network runs; choose a token that it allows; [`commit`](Self::commit)
/// it; append the [`forced_tokens`](Self::forced_tokens); end the answer if the constraint
/// [is complete](Self::is_complete). Before the first step, forced tokens may be appended to the prompt. While the
/// constraint [is free](Self::is_free), no mask is needed.
pub struct Constraint {
    grammar: Arc<CompiledGrammar>,
    matcher: Matcher,
    num_tokens: usize,
    ended: bool,
    /// There as long as the answer is not held to the grammar.
    watch: Option<Watch>,
}

/// What a token did to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// The answer goes on, or may.
    Open,
    /// The answer is complete: nothing may follow but its end.
    Complete,
}

impl Constraint {
    /// A constraint at the beginning of an answer. It costs little: what was found out when the grammar was compiled is
    /// copied.
    pub fn new(grammar: Arc<CompiledGrammar>) -> Self {
        let matcher = grammar.start();
        let watch = grammar.trigger().map(|_| Watch::default());
        Self { grammar, matcher, num_tokens: 0, ended: false, watch }
    }

    /// Whether the answer is not held to the grammar here, nor may have begun to be: any token may come next, the end of
    /// the answer included. Only for [calls](super::GrammarCache::compile_calls) that are not required.
    pub fn is_free(&self) -> bool {
        self.watch.as_ref().zip(self.grammar.trigger()).is_some_and(|(watch, trigger)| watch.is_free(trigger))
    }

    /// Whether the answer is held to the grammar from its beginning, or has begun to be.
    pub fn holds(&self) -> bool {
        self.watch.is_none()
    }

    /// The tokens that may come next. End tokens are among them exactly when the answer may end here.
    ///
    /// Changes nothing but caches.
    ///
    /// # Errors
    /// * [`RequestError::ConstraintDeadEnd`] when there is none.
    /// * [`RequestError::ConstraintTooComplex`] when the search for them reached a limit.
    pub fn mask(&mut self) -> Result<TokenMask, RequestError> {
        if self.ended {
            return Ok(TokenMask::of(self.grammar.vocabulary().len(), self.grammar.vocabulary().eos_token_ids()));
        }
        if self.is_free() {
            return Ok(TokenMask::all(self.grammar.vocabulary().len()));
        }
        let mask = self.matcher.compute_mask_or_eos().map_err(|error| self.failure(&error.to_string()))?;
        if let Some(watch) = &self.watch {
            return Ok(TokenMask(watch.mask(&self.grammar, &mask)));
        }
        if mask.is_zero() {
            return Err(RequestError::ConstraintDeadEnd { at_token: self.num_tokens });
        }
        Ok(TokenMask(mask))
    }

    /// Takes the token that was chosen.
    ///
    /// # Errors
    /// * [`RequestError::ConstraintDeadEnd`] when the token is not allowed here: whatever chose it had no other choice.
    ///   The constraint stays as it was.
    /// * [`RequestError::ConstraintTooComplex`] when a limit was reached.
    pub fn commit(&mut self, token_id: u32) -> Result<Commit, RequestError> {
        if self.grammar.vocabulary().eos_token_ids().contains(&token_id) && self.may_end() {
            self.ended = true;
        } else if let Some(watch) = &mut self.watch {
            if watch.push(token_id, &self.grammar, &mut self.matcher) {
                self.watch = None;
            }
        } else {
            self.take(token_id)?;
        }
        self.num_tokens += 1;
        Ok(if self.is_complete() { Commit::Complete } else { Commit::Open })
    }

    /// The tokens that must come next, as the tokenizer would cut their text; often none. They are committed already:
    /// the next mask is for the token after them.
    ///
    /// A token whose text may be cut in another way, depending on what follows, is not among them.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn forced_tokens(&mut self) -> Result<Vec<u32>, RequestError> {
        if self.is_complete() || self.watch.is_some() {
            return Ok(Vec::new());
        }
        let token_ids = self.matcher.compute_ff_tokens();
        if let Some(error) = self.matcher.get_error() {
            return Err(self.failure(&error));
        }
        for token_id in &token_ids {
            self.commit(*token_id)?;
        }
        Ok(token_ids)
    }

    /// Whether the answer may end here.
    pub fn may_end(&mut self) -> bool {
        self.is_complete() || self.watch.is_some() || self.matcher.is_accepting().unwrap_or(false)
    }

    /// Whether the answer must end here: it is whole, and nothing may follow but its end.
    pub fn is_complete(&self) -> bool {
        self.ended || (self.watch.is_none() && self.matcher.is_stopped() && self.matcher.stop_reason().is_ok())
    }

    /// How many tokens were committed.
    pub fn num_tokens(&self) -> usize {
        self.num_tokens
    }

    fn take(&mut self, token_id: u32) -> Result<(), RequestError> {
        let dead_end = RequestError::ConstraintDeadEnd { at_token: self.num_tokens };
        if token_id as usize >= self.grammar.vocabulary().len() {
            return Err(dead_end);
        }
        match self.matcher.try_consume_tokens(&[token_id]) {
            Ok(1) => Ok(()),
            Ok(_) => Err(dead_end),
            Err(error) => Err(self.failure(&error.to_string())),
        }
    }

    fn failure(&self, message: &str) -> RequestError {
        let at_token = self.num_tokens;
        match self.matcher.stop_reason() {
            StopReason::NoExtensionBias | StopReason::NoExtension => RequestError::ConstraintDeadEnd { at_token },
            _ => RequestError::ConstraintTooComplex { at_token, message: first_line(message) },
        }
    }
}

impl Clone for Constraint {
    fn clone(&self) -> Self {
        let (grammar, matcher) = (Arc::clone(&self.grammar), self.matcher.deep_clone());
        Self { grammar, matcher, num_tokens: self.num_tokens, ended: self.ended, watch: self.watch.clone() }
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint")
            .field("num_tokens", &self.num_tokens)
            .field("is_complete", &self.is_complete())
            .finish_non_exhaustive()
    }
}

/// The first line of what the library says; what follows is its state.
pub(super) fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

/// The tokens that may come next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenMask(SimpleVob);

/// Tokens in a word of a mask.
const WORD: usize = 32;

impl TokenMask {
    fn all(vocab_size: usize) -> Self {
        let mut mask = SimpleVob::alloc(vocab_size);
        mask.set_all(true);
        Self(mask)
    }

    /// Only these tokens, of `vocab_size`.
    pub(crate) fn of(vocab_size: usize, token_ids: &[u32]) -> Self {
        let mut mask = SimpleVob::alloc(vocab_size);
        for token_id in token_ids {
            mask.allow_token(*token_id);
        }
        Self(mask)
    }

    /// Makes the tokens that are not allowed impossible: sets their logits to negative infinity. Logits beyond the
    /// vocabulary are not allowed.
    pub fn apply(&self, logits: &mut [f32]) {
        let words = self.0.as_slice().iter().chain(std::iter::repeat(&0));
        for (chunk, word) in logits.chunks_mut(WORD).zip(words) {
            match *word {
                u32::MAX => {}
                0 => chunk.fill(f32::NEG_INFINITY),
                word => forbid(chunk, word),
            }
        }
    }

    /// Whether the token may come next.
    pub fn allows(&self, token_id: u32) -> bool {
        (token_id as usize) < self.0.len() && self.0.is_allowed(token_id)
    }

    /// How many tokens may come next.
    pub fn count(&self) -> usize {
        self.0.num_set()
    }

    /// The tokens that may come next, in order.
    pub fn token_ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter()
    }

    /// The token, if only one may come next: there is nothing to choose.
    pub fn only(&self) -> Option<u32> {
        if self.count() == 1 { self.token_ids().next() } else { None }
    }
}

/// Forbids the tokens whose bits are not set.
fn forbid(logits: &mut [f32], word: u32) {
    for (bit, logit) in logits.iter_mut().enumerate() {
        if word & (1 << bit) == 0 {
            *logit = f32::NEG_INFINITY;
        }
    }
}
