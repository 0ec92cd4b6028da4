//! Which token comes next?
//!
//! A [`Sampler`] holds the sampling parameters of one sequence with nothing left open, and turns a row of logits into a
//! token, as vLLM does: mask, temperature, min-p, top-k, top-p, draw. Three properties are kept:
//!
//! * **The token depends on the logits, the parameters, the seed and the position**, and on nothing else: not on the
//!   order of the sequences, the number of threads, or what was drawn before. The random numbers come from a counter
//!   generator that is keyed by seed and position.
//! * **The same bits on every machine.** The exponential is computed with additions and multiplications alone, and
//!   probabilities are summed as integers, so that no sum depends on its order.
//! * **No sorting.** The maxima of chunks of the row tell which chunks cannot matter; what remains is partitioned, not
//!   sorted.

mod exp;
mod filter;
#[cfg(test)]
mod logprobs;
mod random;
mod row;
mod sampler;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use logprobs::top_logprobs;
pub use random::derive_seed;
pub use sampler::{SampleScratch, Sampler};
