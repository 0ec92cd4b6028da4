//! What the scheduler hands out.

use super::sequence::SequenceId;

/// What one step computes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchedulerOutput {
    /// The sequences that run, each once, with at least one token each.
    pub scheduled: Vec<ScheduledSequence>,
    /// The sequences that lost their blocks before this step: they wait again, or were admitted again by this step.
    pub preempted: Vec<SequenceId>,
}

impl SchedulerOutput {
    /// How many tokens the step computes, drafts included; at most the budget.
    #[must_use]
    pub fn num_tokens(&self) -> usize {
        self.scheduled.iter().map(|sequence| sequence.num_tokens + sequence.num_draft_tokens).sum()
    }

    /// How many of them are drafts.
    #[must_use]
    pub fn num_draft_tokens(&self) -> usize {
        self.scheduled.iter().map(|sequence| sequence.num_draft_tokens).sum()
    }

    /// Whether the step computes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scheduled.is_empty()
    }
}

/// The part of one sequence that a step computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduledSequence {
    /// Whose tokens.
    pub id: SequenceId,
    /// Position of the first token to compute, which is the sequence's `num_computed_tokens`.
    pub start: usize,
    /// How many known tokens to compute, at least 1.
    pub num_tokens: usize,
    /// How many of the sequence's [draft tokens](super::Sequence::draft_token_ids) to compute after them. Not 0 only if it
    /// samples.
    pub num_draft_tokens: usize,
    /// Whether the last known one to compute is the last that is known, so that its logits choose the next token.
    pub samples: bool,
}

/// What is left of a sequence that was finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedSequence {
    /// Whose tokens.
    pub id: SequenceId,
    /// The prompt and the output.
    pub token_ids: Vec<u32>,
    /// How many of `token_ids` are the prompt.
    pub num_prompt_tokens: usize,
    /// How many tokens of the prompt the prefix cache held when the sequence was first admitted.
    pub num_cached_tokens: usize,
}

impl FinishedSequence {
    /// The tokens after the prompt.
    #[must_use]
    pub fn output_token_ids(&self) -> &[u32] {
        &self.token_ids[self.num_prompt_tokens..]
    }
}

/// Why a sequence was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// There is no token to compute.
    #[error("the sequence has no token")]
    Empty,
    /// The prompt alone is longer than the sequence may become.
    #[error("the prompt has {num_prompt_tokens} tokens, but the sequence may have {max_num_tokens}")]
    PromptTooLong {
        /// Length of the prompt.
        num_prompt_tokens: usize,
        /// The bound that came with the sequence.
        max_num_tokens: usize,
    },
    /// The sequence could outgrow the whole cache, and then could not be finished even alone.
    #[error("the sequence may have {max_num_tokens} tokens, but the cache holds {capacity}")]
    ExceedsCache {
        /// The bound that came with the sequence.
        max_num_tokens: usize,
        /// Tokens in all blocks together.
        capacity: usize,
    },
    /// Sequences are computed whole, and this one could come to have more tokens than one step computes.
    #[error("the sequence may have {max_num_tokens} tokens, but a step computes {max_num_batched_tokens}")]
    ExceedsBudget {
        /// The bound that came with the sequence.
        max_num_tokens: usize,
        /// The budget of a step.
        max_num_batched_tokens: usize,
    },
    /// A sequence with this id is not finished yet.
    #[error("the sequence {id:?} is there already")]
    DuplicateId {
        /// The id.
        id: SequenceId,
    },
}
