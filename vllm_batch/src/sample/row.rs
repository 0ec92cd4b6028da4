//! A row of logits as a distribution.

use super::exp::exp;

/// Logits in a chunk: enough to make a pass over the maxima cheap, few enough to skip most of a row.
const CHUNK: usize = 64;
/// The weight of the most likely token, in units. Sums of 2²³ weights fit 64 bits, and a token of less than half a unit,
/// a probability below 5 · 10⁻¹³, is never drawn.
const UNITS: f64 = (1u64 << 40) as f64;
/// Adding 2⁵² rounds a number below it to an integer, which is in the low bits of the sum.
const ROUNDER: f64 = (1u64 << 52) as f64;
/// Adding 2²³ rounds a number below it to an integer, which is in the low bits of the sum.
const BUCKET_ROUNDER: f32 = (1u32 << 23) as f32;
/// Buckets of tokens by rank. A weight of e⁻²⁹ is 0 units, and its bucket would be 1,856.
pub(super) const NUM_BUCKETS: usize = 2048;

/// The maxima of the chunks of a row, in order. NaN counts as negative infinity.
#[derive(Debug, Default)]
pub(super) struct Maxima {
    pub(super) chunks: Vec<f32>,
    pub(super) row: f32,
}

impl Maxima {
    /// Replaces the maxima by those of `logits`.
    pub(super) fn read(&mut self, logits: &[f32]) {
        self.chunks.clear();
        self.chunks.extend(logits.chunks(CHUNK).map(maximum));
        self.row = maximum(&self.chunks);
    }

    /// A logit that at least `count` tokens reach, and few more as a rule: so many chunks have a token of at least this
    /// logit. Negative infinity if there are fewer chunks. `buffer` is overwritten.
    pub(super) fn bound(&self, count: usize, buffer: &mut Vec<f32>) -> f32 {
        if count == 0 || count > self.chunks.len() {
            return f32::NEG_INFINITY;
        }
        buffer.clear();
        buffer.extend_from_slice(&self.chunks);
        *buffer.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
    }

    /// The tokens with at least this logit, by id.
    pub(super) fn reaching<'a>(&'a self, logits: &'a [f32], bound: f32) -> impl Iterator<Item = (u32, f32)> + 'a {
        let chunks = self.chunks.iter().zip(logits.chunks(CHUNK)).zip((0..).step_by(CHUNK));
        let chunks = chunks.filter(move |((maximum, _), _)| **maximum >= bound);
        let tokens = chunks.flat_map(|((_, logits), first)| (first..).zip(logits.iter().copied()));
        tokens.filter(move |(_, logit)| *logit >= bound)
    }

    /// The least token id with the largest logit; 0 if there is no logit but NaN.
    pub(super) fn argmax(&self, logits: &[f32]) -> u32 {
        let chunk = self.chunks.iter().position(|maximum| *maximum == self.row).unwrap_or(0);
        let rest = logits.get(chunk * CHUNK..).unwrap_or_default();
        rest.iter().position(|logit| *logit == self.row).map_or(0, |place| (chunk * CHUNK + place) as u32)
    }
}

/// The last token that is kept, where tokens are ranked by logit, and equal ones by id, the lower first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    pub(super) logit: f32,
    pub(super) token_id: u32,
}

impl Cut {
    /// Keeps all tokens.
    pub(super) const NONE: Self = Self::at_logit(f32::NEG_INFINITY);

    /// Keeps all tokens with at least this logit.
    pub(super) const fn at_logit(logit: f32) -> Self {
        Self { logit, token_id: u32::MAX }
    }
}

/// A token that may be the last that is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) logit: f32,
    pub(super) token_id: u32,
    pub(super) units: u64,
}

/// A row of logits, the largest of which is finite, with temperature and min-p: each token has a weight, in units, in
/// proportion to its probability.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) logits: &'a [f32],
    pub(super) maxima: &'a Maxima,
    pub(super) inverse_temperature: f32,
    pub(super) min_p: f32,
}

impl Row<'_> {
    /// Sums the weights of the kept tokens, chunk by chunk into `chunk_units`, and gives the whole sum.
    pub(super) fn sum(&self, cut: Cut, chunk_units: &mut Vec<u64>) -> u64 {
        chunk_units.clear();
        chunk_units.resize(self.maxima.chunks.len(), 0);
        for chunk in self.chunks(cut) {
            chunk_units[chunk] = self.chunk_units(chunk, cut).iter().sum();
        }
        chunk_units.iter().sum()
    }

    /// The kept token that covers the unit number `target`, where the weights lie one after the other by token id.
    /// `chunk_units` is what [`sum`](Self::sum) wrote for the same cut. `None` if `target` is not below the sum.
    pub(super) fn at(&self, cut: Cut, chunk_units: &[u64], mut target: u64) -> Option<u32> {
        let chunk = chunk_units.iter().position(|units| !skip(&mut target, *units))?;
        let place = self.chunk_units(chunk, cut).iter().position(|units| !skip(&mut target, *units))?;
        Some((chunk * CHUNK + place) as u32)
    }

    /// Adds the size of each kept token, given its weight, to the bucket of its rank.
    pub(super) fn fill_buckets(&self, cut: Cut, size: impl Fn(u64) -> u64, buckets: &mut [u64; NUM_BUCKETS]) {
        buckets.fill(0);
        for chunk in self.chunks(cut) {
            for (bucket, units) in self.chunk_buckets(chunk).into_iter().zip(self.chunk_units(chunk, cut)) {
                buckets[bucket as usize] += size(units);
            }
        }
    }

    /// Writes the kept tokens of one bucket that have a weight into `candidates`.
    pub(super) fn collect(&self, cut: Cut, bucket: u32, candidates: &mut Vec<Candidate>) {
        candidates.clear();
        for chunk in self.chunks(cut) {
            let buckets = self.chunk_buckets(chunk);
            if !buckets.contains(&bucket) {
                continue;
            }
            let tokens = (chunk * CHUNK..).zip(self.chunk_units(chunk, cut)).zip(buckets);
            let in_bucket = tokens.filter(|((_, units), other)| *units > 0 && *other == bucket);
            candidates.extend(in_bucket.map(|((token_id, units), _)| Candidate {
                logit: self.logits[token_id],
                token_id: token_id as u32,
                units,
            }));
        }
    }

    /// The chunks that can hold a kept token with a weight.
    fn chunks(&self, cut: Cut) -> impl Iterator<Item = usize> {
        let maxima = self.maxima.chunks.iter().enumerate();
        maxima.filter(move |(_, maximum)| units(self.kept_weight(**maximum, 0, cut)) > 0).map(|(chunk, _)| chunk)
    }

    /// The weights in a chunk, in units; 0 for tokens that are not kept, and beyond the row. The loops are apart because
    /// the compiler makes vector instructions of each, but not of both in one.
    pub(super) fn chunk_units(&self, chunk: usize, cut: Cut) -> [u64; CHUNK] {
        let mut weights = self.chunk_logits(chunk);
        for (token_id, weight) in (chunk * CHUNK..).zip(&mut weights) {
            *weight = self.kept_weight(*weight, token_id as u32, cut);
        }
        weights.map(units)
    }

    /// The buckets of the tokens in a chunk: how far the logarithm of the weight is below the largest, in steps of
    /// 1/64. A token never ranks before one of a lower bucket. All tokens with a weight are below the last bucket.
    fn chunk_buckets(&self, chunk: usize) -> [u32; CHUNK] {
        let scale = self.inverse_temperature * 64.0;
        let last = (NUM_BUCKETS - 1) as f32;
        self.chunk_logits(chunk).map(|logit| {
            let distance = (self.maxima.row - logit) * scale;
            let distance = if distance < last { distance } else { last };
            (distance + BUCKET_ROUNDER).to_bits() - BUCKET_ROUNDER.to_bits()
        })
    }

    /// The logits of a chunk; NaN beyond the row.
    fn chunk_logits(&self, chunk: usize) -> [f32; CHUNK] {
        let logits = &self.logits[chunk * CHUNK..];
        let logits = &logits[..logits.len().min(CHUNK)];
        let mut padded = [f32::NAN; CHUNK];
        padded[..logits.len()].copy_from_slice(logits);
        padded
    }

    /// The weight of a token, at most 1; 0 if the cut or min-p drops it.
    #[inline]
    fn kept_weight(&self, logit: f32, token_id: u32, cut: Cut) -> f32 {
        let weight = exp((logit - self.maxima.row) * self.inverse_temperature);
        let is_kept = logit > cut.logit || (logit == cut.logit && token_id <= cut.token_id);
        if is_kept && weight >= self.min_p { weight } else { 0.0 }
    }
}

/// A weight of at most 1 in units, rounded.
#[inline]
fn units(weight: f32) -> u64 {
    (f64::from(weight) * UNITS + ROUNDER).to_bits() - ROUNDER.to_bits()
}

/// Takes `units` off the target; `false` and no change if the target lies within them.
pub(super) fn skip(target: &mut u64, units: u64) -> bool {
    let beyond = target.checked_sub(units);
    *target = beyond.unwrap_or(*target);
    beyond.is_some()
}

/// The largest value but NaN, or negative infinity: in lanes, so that several are compared at a time.
fn maximum(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; 16];
    for values in values.chunks(lanes.len()) {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane = larger(*lane, *value);
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, larger)
}
