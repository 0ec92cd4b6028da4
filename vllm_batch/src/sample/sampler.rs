//! One sequence's way from logits to a token.

use super::filter::Filter;
use super::processors::Processors;
use super::random::random_below;
use super::row::{Cut, Maxima, Row};
use crate::request::{LEAST_TEMPERATURE, SamplingParams};

/// The sampling parameters of one sequence, with nothing left open, and which tokens it has.
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
/// let token = sampler.sample(&logits, &[], &mut scratch).expect("two tokens are possible");
/// assert!([0, 2].contains(&token), "token 1 would end the answer before it began");
/// assert_eq!(Some(token), sampler.sample(&logits, &[], &mut scratch));
/// let next = sampler.sample(&logits, &[token], &mut scratch).expect("three tokens are possible");
/// assert!([1, 2].contains(&next));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Sampler {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    seed: u64,
    processors: Processors,
}

/// Sets the logits of tokens that are out of the question to negative infinity.
pub type Mask<'a> = &'a dyn Fn(&mut [f32]);

/// Buffers that [`Sampler::sample`] and [`logprobs`](super::logprobs) use, for any sampler and any vocabulary. They only
/// save allocations.
#[derive(Debug, Default)]
pub struct SampleScratch {
    processed: Vec<f32>,
    pub(super) maxima: Maxima,
    pub(super) filter: Filter,
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
            processors: Processors::new(params, end_token_ids),
        }
    }

    /// The same for another sequence, which draws other random numbers.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Words that must not occur, as tokens. Empty words do nothing.
    #[must_use]
    pub fn with_bad_words(mut self, bad_words: Vec<Vec<u32>>) -> Self {
        self.processors.bad_words = bad_words;
        self
    }

    /// The prompt, which the repetition penalty takes into account.
    #[must_use]
    pub fn with_prompt(mut self, token_ids: &[u32]) -> Self {
        self.processors.penalties.observe_prompt(token_ids);
        self
    }

    /// Takes the token that was chosen, so that penalties know of it: once for each token of the output, in any order.
    pub fn observe(&mut self, token_id: u32) {
        self.processors.penalties.observe(token_id);
    }

    /// Whether these parameters alone let a token come after `output`: step 1 of [`sample`](Self::sample).
    #[must_use]
    pub fn allows(&self, token_id: u32, output: &[u32]) -> bool {
        self.processors.allow(token_id, output)
    }

    /// Chooses the token after `output` from `logits`, one for each token of the vocabulary. `None` if the parameters
    /// leave no token that is possible.
    ///
    /// 1. Tokens outside `allowed_token_ids` are impossible, and so are those that would complete a bad word and, while
    ///    there are fewer than `min_tokens` tokens, the end tokens. Then the biases are added, and the penalties applied.
    /// 2. At temperature 0 (or below 10⁻⁵) the most likely token is the choice, of equal ones that with the lowest id.
    /// 3. Otherwise the logits are divided by the temperature, then min-p drops tokens, then top-k, then top-p over the
    ///    probabilities of those that remain. Equal logits rank by id, the lower first, so that top-k keeps exactly as
    ///    many as it says. At least one token remains.
    /// 4. One of those is drawn, with the random number of the seed and the length of `output`. Tokens whose probability
    ///    is below 5 · 10⁻¹³ of the largest are never drawn.
    ///
    /// NaN counts as impossible; a token of infinite logit is chosen at once, the lowest id of several. A row that is
    /// impossible as it comes from the model has a choice all the same, unless step 1 touched it: the lowest id with a
    /// logit of negative infinity, or else token 0.
    #[must_use]
    pub fn sample(&self, logits: &[f32], output: &[u32], scratch: &mut SampleScratch) -> Option<u32> {
        self.choose(logits, output, None, scratch)
    }

    /// The same among the tokens that `mask` leaves, which is applied to a copy of the logits before everything else.
    /// `None` also if it leaves no token.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::SamplingParams;
    /// use vllm_batch::sample::{SampleScratch, Sampler};
    ///
    /// let sampler = Sampler::new(&SamplingParams::greedy(), 0, Vec::new());
    /// let mask = |logits: &mut [f32]| logits[1] = f32::NEG_INFINITY;
    /// let token = sampler.sample_masked(&[1.0, 5.0, 4.0], &[], &mask, &mut SampleScratch::default());
    /// assert_eq!(token, Some(2));
    /// ```
    #[must_use]
    pub fn sample_masked(
        &self,
        logits: &[f32],
        output: &[u32],
        mask: Mask<'_>,
        scratch: &mut SampleScratch,
    ) -> Option<u32> {
        self.choose(logits, output, Some(mask), scratch)
    }

    fn choose(
        &self,
        logits: &[f32],
        output: &[u32],
        mask: Option<Mask<'_>>,
        scratch: &mut SampleScratch,
    ) -> Option<u32> {
        let SampleScratch { processed, maxima, filter, chunk_units } = scratch;
        let processed = self.processors.apply(logits, output, mask, processed);
        let logits = processed.unwrap_or(logits);
        maxima.read(logits);
        if processed.is_some() && maxima.row == f32::NEG_INFINITY {
            return None;
        }
        if self.temperature < LEAST_TEMPERATURE || maxima.row.is_infinite() {
            return Some(maxima.argmax(logits));
        }
        let row = Row { logits, maxima, inverse_temperature: 1.0 / self.temperature, min_p: self.min_p };
        let cut = self.cut(&row, filter);
        let total = row.sum(cut, chunk_units);
        let target = random_below(self.seed, output.len() as u64, total);
        Some(row.at(cut, chunk_units, target).unwrap_or_else(|| maxima.argmax(logits)))
    }

    fn cut(&self, row: &Row, filter: &mut Filter) -> Cut {
        let cut = filter.top_k(row, self.top_k);
        filter.top_p(row, cut, self.top_p)
    }
}
