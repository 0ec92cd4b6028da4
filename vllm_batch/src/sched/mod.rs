//! Who runs in this step?
//!
//! There is no prefill phase and no decode phase. A [`Sequence`] has `num_tokens` (prompt and output) and
//! `num_computed_tokens`; each step has a budget of tokens, and the [`Scheduler`] spends it so that the second number
//! catches up with the first. Chunked prefill, prefix hits and preemption all follow from that.
//!
//! One step of an engine:
//!
//! 1. [`Scheduler::schedule`] says which tokens of which sequences to compute, and [`Scheduler::draft`] may add guesses;
//! 2. the forward pass computes them, all keys and values of a layer before the attention of that layer;
//! 3. [`Scheduler::complete`] counts them as computed;
//! 4. for each sequence that [samples](ScheduledSequence::samples), [`Scheduler::append_token`], or
//!    [`Scheduler::finish`] if that token was the last; once more for each draft that this token confirms.
//!
//! # Policy
//! * Sequences are ranked by priority, the lower number first, then by arrival.
//! * **Running sequences first**, and among them those that lack one token: they are the cheapest way to an answer.
//! * **Then waiting ones**, by rank, while there are tokens in the budget, seats and blocks. A chunk that is larger than
//!   the rest of the budget is cut. The first one that finds no room ends the admission: none overtakes it for ever.
//! * **A sequence is admitted with blocks for all its known tokens**, not for its first chunk alone: so a prompt that was
//!   begun can be finished, and no two half-computed prompts wait for each other's blocks. As running sequences are
//!   served first, at most one prompt is half-computed at a time as a rule, so hardly any block is idle.
//! * **With a sliding window, a sequence holds the blocks that its next tokens see**, and those of one chunk: what it left
//!   behind is given back at the beginning of each step. If the cache is too small for whole chunks, they are cut.
//! * **Admission leaves room for growth**: half a block and an eighth of the output so far, for each sequence that runs.
//!   Otherwise the newcomer takes the last blocks, and is thrown out by the growth of others a few steps later, for
//!   nothing. In simulations of caches that are too small, such preemptions made 10 to 70 % more tokens to compute; with
//!   the room it is 0 to 16 %, for 1 to 10 % more steps. The output so far is the measure because it is the best guess of
//!   what is to come, and it follows the work at hand without a setting.
//! * **When the blocks run out, the last by rank is preempted**: it loses its blocks, keeps its tokens, and waits at its
//!   old rank. In a step with such a preemption nobody is admitted.
//! * **A higher priority makes way.** If the first one that waits finds no seat or no blocks, those that run with a lower
//!   priority are preempted for it, the last by rank first, and it has its part of the budget before their prompts: one
//!   that is wanted at once does not wait for answers of a batch to end. Equal priorities never do that, and nobody is
//!   preempted if it would not be enough.
//! * **Every sequence ends.** The first by rank is never preempted while another runs, and alone it always has room,
//!   because [`Scheduler::add`] refuses what could outgrow the cache. So each step brings the first one forward.

mod admit;
mod integrity;
mod output;
mod scheduler;
mod sequence;
#[cfg(test)]
mod tests;

pub use output::{AddError, FinishedSequence, ScheduledSequence, SchedulerOutput};
pub use scheduler::{Scheduler, SchedulerConfig};
pub use sequence::{NewSequence, Sequence, SequenceId, SequenceStatus};
