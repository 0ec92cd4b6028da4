//! Which token comes next?
//!
//! A [`Sampler`] holds the sampling parameters of one sequence with nothing left open, and turns a row of logits into a
//! token, as vLLM does: masks, biases, penalties, temperature, min-p, top-k, top-p, draw. [`logprobs`] says how likely
//! the model itself found a token. Three properties are kept:
//!
//! * **The token depends on the logits, the parameters, the seed and the sequence's own tokens**, and on nothing else:
//!   not on other sequences, the number of threads, or a pause. The random numbers come from a counter generator that
//!   is keyed by seed and position.
//! * **The same bits on every machine.** The exponential is computed with additions and multiplications alone, and
//!   probabilities are summed as integers, so that no sum depends on its order.
//! * **No sorting.** The maxima of chunks of the row tell which chunks cannot matter; what remains is partitioned, not
//!   sorted.

mod exp;
mod filter;
mod logprobs;
mod penalties;
#[cfg(test)]
mod processor_tests;
mod processors;
mod random;
mod row;
mod sampler;
#[cfg(test)]
mod tests;

pub use logprobs::{RankedToken, RowLogprobs, logprobs};
pub use random::{answer_seed, derive_seed};
pub use sampler::{Mask, SampleScratch, Sampler};
