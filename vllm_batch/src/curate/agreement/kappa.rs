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
/// each unit, as places of values in their order. It costs as much as there are pairs, however far places lie apart.
///
/// # Errors
/// [`Undefined::NoPairs`] without pairs, [`Undefined::OneValue`] if both said the same one value throughout.
///
/// # Example
/// ```
/// use vllm_batch::curate::agreement::{KappaWeights, cohen_kappa};
///
/// let pairs = [(0, 0), (1, 1), (2, 1), (0, 0)];
/// let kappa = cohen_kappa(&pairs, KappaWeights::Plain)?;
/// assert!((kappa - 0.6).abs() < 1e-12);
/// # Ok::<(), vllm_batch::curate::agreement::Undefined>(())
/// ```
pub fn cohen_kappa(pairs: &[(usize, usize)], weights: KappaWeights) -> Result<f64, Undefined> {
    let pairs = Pairs::new(&counted(pairs));
    pairs.kappa(&pairs.counts, weights)
}

/// Distinct pairs, and how often each occurs.
pub(super) fn counted(pairs: &[(usize, usize)]) -> Vec<((usize, usize), u64)> {
    let mut counts = std::collections::BTreeMap::new();
    for pair in pairs {
        *counts.entry(*pair).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

/// What two said, as places among those that occur.
#[derive(Debug)]
pub(super) struct Pairs {
    /// Places that occur, in their order.
    places: Vec<usize>,
    /// Distinct pairs, as indices of `places`.
    // Nothing else is a better name.
    #[allow(clippy::struct_field_names)]
    pairs: Vec<(usize, usize)>,
    /// How often each pair occurs.
    pub(super) counts: Vec<u64>,
}

impl Pairs {
    pub(super) fn new(counted: &[((usize, usize), u64)]) -> Self {
        let mut places: Vec<usize> = counted.iter().flat_map(|((a, b), _)| [*a, *b]).collect();
        places.sort_unstable();
        places.dedup();
        let index = |place: usize| places.partition_point(|other| *other < place);
        let pairs = counted.iter().map(|((a, b), _)| (index(*a), index(*b))).collect();
        let counts = counted.iter().map(|(_, count)| *count).collect();
        Self { places, pairs, counts }
    }

    /// As [`cohen_kappa`], where each pair occurs as often as `counts` says.
    pub(super) fn kappa(&self, counts: &[u64], weights: KappaWeights) -> Result<f64, Undefined> {
        let (mut first, mut second) = (vec![0.0; self.places.len()], vec![0.0; self.places.len()]);
        let (mut total, mut observed) = (0.0, 0.0);
        for ((a, b), count) in self.pairs.iter().zip(counts) {
            let count = *count as f64;
            total += count;
            first[*a] += count;
            second[*b] += count;
            observed += count * weights.of(self.places[*a], self.places[*b]);
        }
        if total == 0.0 {
            return Err(Undefined::NoPairs);
        }
        if first.iter().zip(&second).filter(|(a, b)| **a + **b > 0.0).count() < 2 {
            return Err(Undefined::OneValue);
        }
        Ok(1.0 - total * observed / self.expected(weights, total, (&first, &second)))
    }

    /// The weights of all pairs of what both said, each as often as it would come by chance, times the number of units.
    fn expected(&self, weights: KappaWeights, total: f64, (first, second): (&[f64], &[f64])) -> f64 {
        match weights {
            KappaWeights::Plain => total * total - first.iter().zip(second).map(|(a, b)| a * b).sum::<f64>(),
            KappaWeights::Linear => {
                // What lies on both sides of each gap between neighbours is apart by the gap.
                let (mut below, mut expected) = ((0.0, 0.0), 0.0);
                for (at, gap) in self.places.windows(2).enumerate() {
                    below = (below.0 + first[at], below.1 + second[at]);
                    let apart = below.0 * (total - below.1) + (total - below.0) * below.1;
                    expected += weights.of(gap[0], gap[1]) * apart;
                }
                expected
            }
            KappaWeights::Quadratic => {
                let (first, second) = (self.spread(first, total), self.spread(second, total));
                total * (first.1 + second.1) + total * total * (first.0 - second.0).powi(2)
            }
        }
    }

    /// The mean of places, and the sum of the squares of their distances from it.
    fn spread(&self, counts: &[f64], total: f64) -> (f64, f64) {
        let weighted = || self.places.iter().map(|place| *place as f64).zip(counts);
        let mean = weighted().map(|(place, count)| place * count).sum::<f64>() / total;
        (mean, weighted().map(|(place, count)| count * (place - mean).powi(2)).sum())
    }
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
}
