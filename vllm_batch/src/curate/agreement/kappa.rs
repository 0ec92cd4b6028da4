//! Cohen's kappa.

use serde::Serialize;

use super::Undefined;

/// How much a disagreement weighs by the distance of two values' places in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KappaWeights {
    /// All the same.
    Plain,
    /// As the distance.
    Linear,
    /// As the square of the distance.
    Quadratic,
}

/// Cohen's kappa (1960; weighted: 1968) of two who answered: `1 - Σ w·observed / Σ w·expected`. `pairs` has what both said of
/// each unit, as places among `num_values` values in their order.
///
/// # Errors
/// [`Undefined::NoPairs`] without pairs, [`Undefined::OneValue`] if both said the same one value throughout.
///
/// # Example
/// ```
/// use vllm_batch::curate::agreement::{KappaWeights, cohen_kappa};
///
/// let pairs = [(0, 0), (1, 1), (2, 1), (0, 0)];
/// let kappa = cohen_kappa(&pairs, 3, KappaWeights::Plain)?;
/// assert!((kappa - 0.6).abs() < 1e-12);
/// # Ok::<(), vllm_batch::curate::agreement::Undefined>(())
/// ```
pub fn cohen_kappa(pairs: &[(usize, usize)], num_values: usize, weights: KappaWeights) -> Result<f64, Undefined> {
    let counted = counted(pairs);
    let counts: Vec<u64> = counted.iter().map(|(_, count)| *count).collect();
    let pairs: Vec<_> = counted.into_iter().map(|(pair, _)| pair).collect();
    kappa_of_counts(&pairs, &counts, num_values, weights)
}

/// Distinct pairs, and how often each occurs.
pub(super) fn counted(pairs: &[(usize, usize)]) -> Vec<((usize, usize), u64)> {
    let mut counts = std::collections::BTreeMap::new();
    for pair in pairs {
        *counts.entry(*pair).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

/// As [`cohen_kappa`], where each pair occurs as often as `counts` says.
pub(super) fn kappa_of_counts(
    pairs: &[(usize, usize)],
    counts: &[u64],
    num_values: usize,
    weights: KappaWeights,
) -> Result<f64, Undefined> {
    let (mut first, mut second) = (vec![0.0; num_values], vec![0.0; num_values]);
    let (mut total, mut observed) = (0.0, 0.0);
    for ((a, b), count) in pairs.iter().zip(counts) {
        let count = *count as f64;
        total += count;
        first[*a] += count;
        second[*b] += count;
        observed += count * weights.of(*a, *b);
    }
    if total == 0.0 {
        return Err(Undefined::NoPairs);
    }
    let expected = weights.expected(&first, &second);
    if expected == 0.0 { Err(Undefined::OneValue) } else { Ok(1.0 - total * observed / expected) }
}

impl KappaWeights {
    fn of(self, a: usize, b: usize) -> f64 {
        let distance = a.abs_diff(b) as f64;
        match self {
            Self::Plain => f64::from(u8::from(a != b)),
            Self::Linear => distance,
            Self::Quadratic => distance * distance,
        }
    }

    /// The weights of all pairs of what both said, each as often as it would come by chance, times the number of units.
    fn expected(self, first: &[f64], second: &[f64]) -> f64 {
        if self == Self::Plain {
            let (total, other): (f64, f64) = (first.iter().sum(), second.iter().sum());
            return total * other - first.iter().zip(second).map(|(a, b)| a * b).sum::<f64>();
        }
        let used = |counts: &[f64]| {
            let used = counts.iter().copied().enumerate().filter(|(_, count)| *count > 0.0);
            used.collect::<Vec<_>>()
        };
        let (first, second) = (used(first), used(second));
        let of = |(a, x): &(usize, f64)| second.iter().map(|(b, y)| x * y * self.of(*a, *b)).sum::<f64>();
        first.iter().map(of).sum()
    }
}
