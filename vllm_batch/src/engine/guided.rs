//! What keeps one answer to a format, and how far it has come.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::thinking::Thinking;
use crate::error::RequestError;
use crate::guide::{Constraint, TokenMask};

/// The constraint of one answer, with what it says of the next tokens.
#[derive(Debug, Clone)]
pub(super) struct Guided {
    /// There until the model has done thinking; the constraint waits for that.
    thinking: Option<Thinking>,
    constraint: Option<Constraint>,
    /// Whether tokens that must come are taken without their logits being looked at.
    takes_forced: bool,
    /// Tokens that must come next, and that the constraint has taken already; `None` while that is not known.
    forced: Option<VecDeque<u32>>,
    /// Computed beside the network, for the token that is chosen after it.
    mask: Option<Mask>,
}

/// The tokens that may come next; `None` where all may.
type Mask = Result<Option<TokenMask>, RequestError>;

impl Guided {
    /// The beginning of an answer. `None` if there is nothing to keep it to.
    ///
    /// # Errors
    /// If the constraint becomes too complex at once.
    pub(super) fn new(
        thinking: Option<Thinking>,
        constraint: Option<Constraint>,
        takes_forced: bool,
    ) -> Result<Option<Self>, RequestError> {
        let thinking = thinking.filter(|thinking| constraint.is_some() || thinking.has_budget());
        if thinking.is_none() && constraint.is_none() {
            return Ok(None);
        }
        let mut guided = Self { thinking, constraint, takes_forced, forced: None, mask: None };
        guided.find_forced()?;
        Ok(Some(guided))
    }

    /// Whether it is not known yet which tokens may come next.
    pub(super) fn needs_mask(&self) -> bool {
        self.mask.is_none()
    }

    /// Finds out which tokens may come next; returns how long that took.
    pub(super) fn timed_mask(&mut self) -> Duration {
        let started = Instant::now();
        let mask = match (&self.thinking, &mut self.constraint) {
            (Some(thinking), _) => Ok(thinking.mask()),
            (None, Some(constraint)) if !constraint.is_free() => constraint.mask().map(Some),
            (None, _) => Ok(None),
        };
        self.mask = Some(mask);
        started.elapsed()
    }

    /// The tokens that may come next; `None` where all may.
    ///
    /// # Errors
    /// If there is none, or the search for them reached a limit.
    pub(super) fn mask(&self) -> Result<Option<&TokenMask>, RequestError> {
        let missing = || RequestError::EngineFailed { message: "a mask was not computed".to_owned() };
        self.mask.as_ref().ok_or_else(missing)?.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// Takes the token that was chosen.
    ///
    /// # Errors
    /// If it is not allowed, or a limit was reached.
    pub(super) fn commit(&mut self, token_id: u32) -> Result<(), RequestError> {
        (self.mask, self.forced) = (None, None);
        if let Some(thinking) = &mut self.thinking {
            if thinking.push(token_id)? {
                self.thinking = None;
            }
            return Ok(());
        }
        self.constraint.as_mut().map_or(Ok(()), |constraint| constraint.commit(token_id).map(drop))
    }

    /// The next of the tokens that must come.
    ///
    /// # Errors
    /// If a limit was reached.
    pub(super) fn next_forced(&mut self) -> Result<Option<u32>, RequestError> {
        self.find_forced()?;
        Ok(self.forced.as_mut().and_then(VecDeque::pop_front))
    }

    /// Whether the answer is held to its format here, which decides where it may end.
    pub(super) fn holds(&self) -> bool {
        self.thinking.is_none() && self.constraint.as_ref().is_some_and(Constraint::holds)
    }

    /// Whether the answer is whole, and nothing may follow.
    pub(super) fn is_complete(&self) -> bool {
        let is_complete = || self.constraint.as_ref().is_some_and(Constraint::is_complete);
        self.holds() && self.forced.as_ref().is_none_or(VecDeque::is_empty) && is_complete()
    }

    fn find_forced(&mut self) -> Result<(), RequestError> {
        let constraint = self.constraint.as_mut().filter(|_| self.thinking.is_none());
        if let Some(constraint) = constraint.filter(|_| self.takes_forced && self.forced.is_none()) {
            self.forced = Some(constraint.forced_tokens()?.into());
        }
        Ok(())
    }
}
