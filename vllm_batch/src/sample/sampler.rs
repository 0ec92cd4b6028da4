//! One sequence's way from logits to a token.

use super::filter::Filter;
use super::random::random_below;
use super::row::{Cut, Maxima, Row};
use crate::request::SamplingParams;

/// Temperatures below this count as 0.
const LEAST_TEMPERATURE: f32 = 1e-5;

/// The sampling parameters of one sequence, with nothing left open.
///
/// # Example
/// ```
/// use vllm_batch::SamplingParams;
/// use vllm_batch::sample::{SampleScratch, Sampler};
///
/// let params = SamplingParams::default().with_top_k(2).with_min_tokens(1);
/// let sampler = Sampler::new(&params, 7, vec![1]);
/// let mut scratch = SampleScratch::default();
/// let logits = [1.0, 5.0, 4.0, 0.5];
///
/// let token = sampler.sample(&logits, 0, &mut scratch);
/// assert!([0, 2].contains(&token), "token 1 would end the answer before it began");
/// assert_eq!(token, sampler.sample(&logits, 0, &mut scratch));
/// assert!([1, 2].contains(&sampler.sample(&logits, 1, &mut scratch)));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Sampler {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    seed: u64,
    min_tokens: usize,
    end_token_ids: Vec<u32>,
}

/// Buffers that [`Sampler::sample`] uses, for any sampler and any vocabulary. They only save allocations.
#[derive(Debug, Default)]
pub struct SampleScratch {
    masked: Vec<f32>,
    maxima: Maxima,
    filter: Filter,
    chunk_units: Vec<u64>,
}

impl Sampler {
    /// Takes over the parameters, which must be [valid](SamplingParams::validate). `seed` is the one to use, given or
    /// [derived](super::derive_seed); `end_token_ids` are the tokens that may not come before `min_tokens` others.
    #[must_use]
    pub fn new(params: &SamplingParams, seed: u64, end_token_ids: Vec<u32>) -> Self {
        Self {
            temperature: params.temperature,
            top_k: params.top_k as usize,
            top_p: params.top_p,
            min_p: params.min_p,
            seed,
            min_tokens: params.min_tokens as usize,
            end_token_ids,
        }
    }

    /// Chooses the token after `position` output tokens from `logits`, one for each token of the vocabulary.
    ///
    /// 1. While `position` is below `min_tokens`, the end tokens are impossible.
    /// 2. At temperature 0 (or below 10⁻⁵) the most likely token is the choice, of equal ones that with the lowest id.
    /// 3. Otherwise the logits are divided by the temperature, then min-p drops tokens, then top-k, then top-p over the
    ///    probabilities of those that remain. Equal logits rank by id, the lower first, so that top-k keeps exactly as
    ///    many as it says. At least one token remains.
    /// 4. One of those is drawn, with the random number of the seed and `position`. Tokens whose probability is below
    ///    5 · 10⁻¹³ of the largest are never drawn.
    ///
    /// It never fails: NaN counts as impossible; a token of infinite logit is chosen at once, the lowest id of several;
    /// if no token is possible, the choice is the lowest id with a logit of negative infinity, or else token 0.
    #[must_use]
    pub fn sample(&self, logits: &[f32], position: usize, scratch: &mut SampleScratch) -> u32 {
        let SampleScratch { masked, maxima, filter, chunk_units } = scratch;
        let logits = self.mask(logits, position, masked);
        maxima.read(logits);
        if self.temperature < LEAST_TEMPERATURE || maxima.row.is_infinite() {
            return maxima.argmax(logits);
        }
        let row = Row { logits, maxima, inverse_temperature: 1.0 / self.temperature, min_p: self.min_p };
        let cut = self.cut(&row, filter);
        let total = row.sum(cut, chunk_units);
        let target = random_below(self.seed, position as u64, total);
        row.at(cut, chunk_units, target).unwrap_or_else(|| maxima.argmax(logits))
    }

    /// The logits with the end tokens impossible, while they are.
    fn mask<'a>(&self, logits: &'a [f32], position: usize, masked: &'a mut Vec<f32>) -> &'a [f32] {
        if position >= self.min_tokens || self.end_token_ids.is_empty() {
            return logits;
        }
        masked.clear();
        masked.extend_from_slice(logits);
        for token_id in &self.end_token_ids {
            if let Some(logit) = masked.get_mut(*token_id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        masked
    }

    fn cut(&self, row: &Row, filter: &mut Filter) -> Cut {
        let cut = filter.top_k(row, self.top_k);
        filter.top_p(row, cut, self.top_p)
    }
}
