//! How likely does the model find a token?

use std::cmp::Ordering;

use super::exp::exp;
use super::row::Maxima;
use super::sampler::SampleScratch;

/// Differences to the largest logit below this add nothing to the sum.
const LEAST: f32 = -30.0;

/// A token with its log-probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankedToken {
    /// The token.
    pub token_id: u32,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// Its place among all tokens, from 1; of equal ones the lower id comes first.
    pub rank: u32,
}

/// Log-probabilities of a token and of those that were most likely in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct RowLogprobs {
    /// The token.
    pub chosen: RankedToken,
    /// The most likely tokens, by rank.
    pub top: Vec<RankedToken>,
}

/// The log-probabilities of `token_id` and of the `num_top` most likely tokens under the softmax of `logits`, accurate
/// to about 10⁻⁶. The sum is taken in double precision and in an order that depends on the vocabulary alone.
///
/// NaN counts as impossible, and has no place among the most likely. A logarithm that does not exist, because no token
/// is possible or one of infinite logit, is negative infinity.
///
/// # Example
/// ```
/// use vllm_batch::sample::{SampleScratch, logprobs};
///
/// let row = logprobs(&[0.0, 2f32.ln(), 0.0], 2, 1, &mut SampleScratch::default());
/// assert_eq!((row.chosen.rank, row.chosen.logprob), (3, 0.25f32.ln()));
/// assert_eq!((row.top[0].token_id, row.top[0].logprob), (1, 0.5f32.ln()));
/// ```
#[must_use]
pub fn logprobs(logits: &[f32], token_id: u32, num_top: usize, scratch: &mut SampleScratch) -> RowLogprobs {
    let SampleScratch { maxima, filter, .. } = scratch;
    maxima.read(logits);
    let log_total = total(logits, maxima.row).ln();
    let logprob = |logit: f32| match (f64::from(logit) - f64::from(maxima.row) - log_total) as f32 {
        logprob if logprob.is_nan() => f32::NEG_INFINITY,
        logprob => logprob,
    };
    let logit = logits.get(token_id as usize).copied().filter(|logit| !logit.is_nan()).unwrap_or(f32::NEG_INFINITY);
    let chosen = RankedToken { token_id, logprob: logprob(logit), rank: rank(logits, token_id, logit) };
    let top = top(logits, num_top, maxima, &mut filter.maxima).into_iter().zip(1..);
    let top = top.map(|((token_id, logit), rank)| RankedToken { token_id, logprob: logprob(logit), rank });
    RowLogprobs { chosen, top: top.collect() }
}

/// The sum of all probabilities, in proportion to the largest: in lanes, so that several are computed at a time.
fn total(logits: &[f32], maximum: f32) -> f64 {
    let weight = |logit: f32| {
        let weight = exp(logit - maximum);
        if logit - maximum > LEAST { weight } else { 0.0 }
    };
    let (chunks, rest) = logits.as_chunks::<16>();
    let mut lanes = [0f64; 16];
    for chunk in chunks {
        let weights = chunk.map(weight);
        for (lane, weight) in lanes.iter_mut().zip(weights) {
            *lane += f64::from(weight);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|logit| f64::from(weight(*logit))).sum::<f64>()
}

/// One more than the number of tokens that rank before this one.
fn rank(logits: &[f32], token_id: u32, logit: f32) -> u32 {
    let is_before = |(other_id, other): (u32, &f32)| *other > logit || (*other == logit && other_id < token_id);
    1 + (0..).zip(logits).map(|other| u32::from(is_before(other))).sum::<u32>()
}

/// The `count` tokens that rank first, by rank.
fn top(logits: &[f32], count: usize, maxima: &Maxima, buffer: &mut Vec<f32>) -> Vec<(u32, f32)> {
    if count == 0 {
        return Vec::new();
    }
    let bound = maxima.bound(count, buffer);
    let mut tokens: Vec<(u32, f32)> = maxima.reaching(logits, bound).collect();
    if count < tokens.len() {
        tokens.select_nth_unstable_by(count - 1, |a, b| by_rank(*a, *b));
        tokens.truncate(count);
    }
    tokens.sort_unstable_by(|a, b| by_rank(*a, *b));
    tokens
}

/// The larger logit first, then the lower id. There is no NaN.
fn by_rank(a: (u32, f32), b: (u32, f32)) -> Ordering {
    b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0))
}
