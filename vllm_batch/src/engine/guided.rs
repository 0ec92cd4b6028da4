//! What keeps one answer to a format, and how far it has come.

use std::collections::VecDeque;

use crate::error::RequestError;
use crate::guide::{Constraint, TokenMask};

/// The constraint of one answer, with what it says of the next tokens.
#[derive(Debug, Clone)]
pub(super) struct Guided {
    constraint: Constraint,
    /// Whether tokens that must come are taken without their logits being looked at.
    takes_forced: bool,
    /// Tokens that must come next, and that the constraint has taken already; `None` while that is not known.
    forced: Option<VecDeque<u32>>,
    /// Computed beside the network, for the token that is chosen after it.
    mask: Option<Result<TokenMask, RequestError>>,
}

impl Guided {
    /// The beginning of an answer.
    ///
    /// # Errors
    /// If the constraint becomes too complex at once.
    pub(super) fn new(constraint: Constraint, takes_forced: bool) -> Result<Self, RequestError> {
        let mut guided = Self { constraint, takes_forced, forced: None, mask: None };
        guided.find_forced()?;
        Ok(guided)
    }

    /// Finds out which tokens may come next.
    pub(super) fn compute_mask(&mut self) {
        self.mask = Some(self.constraint.mask());
    }

    /// The tokens that may come next.
    ///
    /// # Errors
    /// If there is none, or the search for them reached a limit.
    pub(super) fn mask(&self) -> Result<&TokenMask, RequestError> {
        let missing = || RequestError::EngineFailed { message: "a mask was not computed".to_owned() };
        self.mask.as_ref().ok_or_else(missing)?.as_ref().map_err(Clone::clone)
    }

    /// Takes the token that was chosen.
    ///
    /// # Errors
    /// If it is not allowed, or a limit was reached.
    pub(super) fn commit(&mut self, token_id: u32) -> Result<(), RequestError> {
        (self.mask, self.forced) = (None, None);
        self.constraint.commit(token_id).map(drop)
    }

    /// The next of the tokens that must come.
    ///
    /// # Errors
    /// If a limit was reached.
    pub(super) fn next_forced(&mut self) -> Result<Option<u32>, RequestError> {
        self.find_forced()?;
        Ok(self.forced.as_mut().and_then(VecDeque::pop_front))
    }

    /// Whether the answer is whole, and nothing may follow.
    pub(super) fn is_complete(&self) -> bool {
        self.forced.as_ref().is_none_or(VecDeque::is_empty) && self.constraint.is_complete()
    }

    fn find_forced(&mut self) -> Result<(), RequestError> {
        if self.takes_forced && self.forced.is_none() {
            self.forced = Some(self.constraint.forced_tokens()?.into());
        }
        Ok(())
    }
}
