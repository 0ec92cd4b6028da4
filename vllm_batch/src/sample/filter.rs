//! Top-k and top-p: where is the cut?

use std::cmp::Ordering;

use super::row::{Candidate, Cut, NUM_BUCKETS, Row, skip};

/// Buffers of the two filters.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) maxima: Vec<f32>,
    buckets: Box<[u64; NUM_BUCKETS]>,
    candidates: Vec<Candidate>,
}

impl Default for Filter {
    fn default() -> Self {
        Self { maxima: Vec::new(), buckets: Box::new([0; NUM_BUCKETS]), candidates: Vec::new() }
    }
}

impl Filter {
    /// Keeps the `top_k` tokens that rank first; all if it is 0.
    pub(super) fn top_k(&mut self, row: &Row, top_k: usize) -> Cut {
        if top_k == 0 || top_k >= row.logits.len() {
            return Cut::NONE;
        }
        let bound = Cut::at_logit(row.maxima.bound(top_k, &mut self.maxima));
        self.narrow(row, bound, |units| u64::from(units > 0), |total| total.min(top_k as u64))
    }

    /// Of what `cut` keeps, keeps the fewest tokens, by rank, whose share is at least `top_p`; at least one.
    pub(super) fn top_p(&mut self, row: &Row, cut: Cut, top_p: f32) -> Cut {
        if top_p >= 1.0 {
            return cut;
        }
        let share = |total: u64| ((f64::from(top_p) * total as f64).ceil() as u64).min(total);
        self.narrow(row, cut, |units| units, share)
    }

    /// Of what `cut` keeps, keeps the fewest tokens, by rank, whose sizes come to `needed` of the whole; at least one.
    /// First the tokens are thrown into buckets by rank; then only the bucket with the cut must be looked at closely.
    fn narrow(&mut self, row: &Row, cut: Cut, size: impl Fn(u64) -> u64, needed: impl FnOnce(u64) -> u64) -> Cut {
        row.fill_buckets(cut, &size, &mut self.buckets);
        let mut target = needed(self.buckets.iter().sum()).saturating_sub(1);
        let Some(bucket) = self.buckets.iter().position(|sizes| !skip(&mut target, *sizes)) else { return cut };
        row.collect(cut, bucket as u32, &mut self.candidates);
        at(&mut self.candidates, target, size).map_or(cut, Candidate::cut)
    }
}

impl Candidate {
    fn cut(&self) -> Cut {
        Cut { logit: self.logit, token_id: self.token_id }
    }
}

/// The candidate at `target`, where their sizes lie one after the other by rank; the last one if it is beyond.
fn at(mut candidates: &mut [Candidate], mut target: u64, size: impl Fn(u64) -> u64) -> Option<&Candidate> {
    while candidates.len() > 1 {
        let middle = candidates.len() / 2;
        candidates.select_nth_unstable_by(middle, by_rank);
        let (head, tail) = candidates.split_at_mut(middle);
        let is_beyond = skip(&mut target, head.iter().map(|candidate| size(candidate.units)).sum());
        candidates = if is_beyond { tail } else { head };
    }
    candidates.first()
}

/// The larger logit first, then the lower id. Logits of candidates are never NaN.
fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.token_id.cmp(&b.token_id))
}
