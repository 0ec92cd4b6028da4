//! Seeded bootstrap intervals.
//!
//! The percentile bootstrap (Efron 1979): units are drawn again with replacement, the statistic is computed of each draw, and
//! the interval holds the middle of what comes out. Units that are alike are drawn together, as one binomial number for each
//! kind: the same distribution, at the price of the number of kinds.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rand_distr::{Binomial, Distribution as _};

use super::{Interval, Undefined};

/// How an interval is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bootstrap {
    pub(super) seed: u64,
    pub(super) num_resamples: usize,
    /// The share of resampled statistics that lies within the interval.
    pub(super) confidence: f64,
}

/// The share of draws in which a statistic may be undefined.
const MAX_UNDEFINED: f64 = 0.05;

impl Bootstrap {
    /// The interval of a statistic of counts of units; `None` if there are no resamples, or if it is undefined in too many of
    /// them.
    pub(super) fn interval(
        &self,
        counts: &[u64],
        statistic: impl Fn(&[u64]) -> Result<f64, Undefined>,
    ) -> Option<Interval> {
        let mut generator = ChaCha8Rng::seed_from_u64(self.seed);
        let mut drawn = vec![0; counts.len()];
        let mut values = Vec::with_capacity(self.num_resamples);
        for _ in 0..self.num_resamples {
            draw(counts, &mut drawn, &mut generator);
            values.extend(statistic(&drawn).ok());
        }
        let least = (1.0 - MAX_UNDEFINED) * self.num_resamples as f64;
        if values.is_empty() || (values.len() as f64) < least {
            return None;
        }
        values.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - self.confidence) / 2.0;
        Some(Interval { low: quantile(&values, tail), high: quantile(&values, 1.0 - tail) })
    }
}

/// Draws as many units as there are, with replacement.
fn draw(counts: &[u64], drawn: &mut [u64], generator: &mut ChaCha8Rng) {
    let total: u64 = counts.iter().sum();
    // A binomial number costs as much as some ten single draws.
    if total < 10 * counts.len() as u64 {
        return draw_each(counts, drawn, generator);
    }
    let (mut left, mut units) = (total, total);
    for (count, drawn) in counts.iter().zip(drawn) {
        *drawn = binomial(units, *count as f64 / left.max(1) as f64, generator);
        units -= *drawn;
        left -= count;
    }
}

fn binomial(trials: u64, probability: f64, generator: &mut ChaCha8Rng) -> u64 {
    Binomial::new(trials, probability.clamp(0.0, 1.0)).map_or(0, |binomial| binomial.sample(generator))
}

fn draw_each(counts: &[u64], drawn: &mut [u64], generator: &mut ChaCha8Rng) {
    let kinds: Vec<u32> = (0..).zip(counts).flat_map(|(kind, count)| (0..*count).map(move |_| kind)).collect();
    drawn.fill(0);
    for _ in 0..kinds.len() {
        // The product's upper half is below the length; its bias is under 2^-32 of it.
        let place = (u64::from(generator.next_u32()) * kinds.len() as u64) >> 32;
        drawn[kinds[place as usize] as usize] += 1;
    }
}

/// The value at a share of the sorted values, between two of them in proportion.
fn quantile(values: &[f64], share: f64) -> f64 {
    let place = share * (values.len() - 1) as f64;
    let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
    below + (above - below) * place.fract()
}
