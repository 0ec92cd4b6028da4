//! Krippendorff's alpha.
//!
//! Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): alpha is `1 - observed / expected` disagreement, from the
//! coincidences of values within units. Units with fewer than two values say nothing; values may be missing, and any number of
//! raters may have given them.
//!
//! Distances that depend on two numbers only are never summed pair by pair: the sum of `(x - y)²` over all pairs of `n`
//! numbers is `2 (n Σx² - (Σx)²)`, and the ordinal distance is that of mid-ranks. Units with the same values are one
//! pattern with a count, so that a bootstrap costs as much as there are patterns.

use std::collections::BTreeMap;

use super::Undefined;
use crate::curate::Level;

/// Krippendorff's alpha of numbers, at a level of measurement. `units` has the values that each unit was given; who gave which
/// does not matter.
///
/// # Errors
/// [`Undefined::NoPairs`], [`Undefined::OneValue`]; [`Undefined::TooManyValues`] at the ratio level only.
///
/// # Example
/// ```
/// use vllm_batch::curate::{Level, agreement::{Undefined, krippendorff_alpha}};
///
/// let units = [vec![1.0, 2.0], vec![2.0, 1.0], vec![1.0, 2.0], vec![2.0, 1.0]];
/// assert_eq!(krippendorff_alpha(&units, Level::Nominal), Ok(-0.75));
/// assert_eq!(krippendorff_alpha(&[vec![1.0, 1.0]], Level::Nominal), Err(Undefined::OneValue));
/// ```
pub fn krippendorff_alpha<U: AsRef<[f64]>>(units: &[U], level: Level) -> Result<f64, Undefined> {
    let reliability = Reliability::of_numbers(units.iter().map(AsRef::as_ref), level)?;
    reliability.alpha(&reliability.counts)
}

/// Krippendorff's alpha of sets of labels, with MASI distances (Passonneau 2006): `1 - Jaccard · monotonicity`, where the
/// second is 1 for equal sets, 2/3 if one holds the other, 1/3 if they overlap, 0 if not.
///
/// # Errors
/// [`Undefined::NoPairs`], [`Undefined::OneValue`], [`Undefined::TooManyValues`].
///
/// # Example
/// ```
/// use vllm_batch::curate::agreement::krippendorff_alpha_of_sets;
///
/// let units = [vec![vec!["rust"], vec!["rust"]], vec![vec!["c"], vec!["c", "rust"]]];
/// let alpha = krippendorff_alpha_of_sets(&units)?;
/// assert!(alpha > 0.0 && alpha < 1.0);
/// # Ok::<(), vllm_batch::curate::agreement::Undefined>(())
/// ```
pub fn krippendorff_alpha_of_sets<S: AsRef<str>>(units: &[Vec<Vec<S>>]) -> Result<f64, Undefined> {
    let set = |labels: &Vec<S>| sorted_set(labels.iter().map(|label| label.as_ref().to_owned()));
    let reliability = Reliability::of_sets(units.iter().map(|unit| unit.iter().map(set).collect()))?;
    reliability.alpha(&reliability.counts)
}

/// Distinct values that may be compared each with each.
const MAX_MATRIX_VALUES: usize = 2_048;

/// What was answered, as codes of distinct values, in ascending order of the values.
#[derive(Debug)]
pub(super) struct Reliability {
    patterns: Vec<Vec<u32>>,
    /// How many units have each pattern.
    pub(super) counts: Vec<u64>,
    num_values: usize,
    distance: Distance,
}

#[derive(Debug)]
enum Distance {
    Nominal,
    Ordinal,
    Interval(Vec<f64>),
    /// Row by row.
    Matrix(Vec<f64>),
}

impl Reliability {
    pub(super) fn of_numbers<'a>(
        units: impl Iterator<Item = &'a [f64]> + Clone,
        level: Level,
    ) -> Result<Self, Undefined> {
        let mut values: Vec<f64> = units.clone().filter(|unit| unit.len() > 1).flatten().copied().collect();
        values.sort_unstable_by(f64::total_cmp);
        values.dedup();
        let code = |value: &f64| values.partition_point(|other| other.total_cmp(value).is_lt()) as u32;
        let (patterns, counts) = patterns(units.map(|unit| unit.iter().map(code).collect()));
        let num_values = values.len();
        let distance = match level {
            Level::Nominal => Distance::Nominal,
            Level::Ordinal => Distance::Ordinal,
            Level::Interval => Distance::Interval(values),
            Level::Ratio => Distance::Matrix(matrix(&values, |a, b| ratio_distance(*a, *b))?),
        };
        Ok(Self { patterns, counts, num_values, distance })
    }

    pub(super) fn of_sets(units: impl Iterator<Item = Vec<Vec<String>>>) -> Result<Self, Undefined> {
        let mut codes = BTreeMap::new();
        let mut code = |set: Vec<String>| {
            let next = codes.len() as u32;
            *codes.entry(set).or_insert(next)
        };
        let units: Vec<Vec<u32>> = units
            .filter(|unit: &Vec<_>| unit.len() > 1)
            .map(|unit| unit.into_iter().map(&mut code).collect())
            .collect();
        let (patterns, counts) = patterns(units.into_iter());
        let mut sets: Vec<(u32, &Vec<String>)> = codes.iter().map(|(set, code)| (*code, set)).collect();
        sets.sort_unstable_by_key(|(code, _)| *code);
        let distance = Distance::Matrix(matrix(&sets, |a, b| masi_distance(a.1, b.1))?);
        Ok(Self { patterns, counts, num_values: codes.len(), distance })
    }

    /// Alpha, if each pattern occurs as often as `counts` says.
    pub(super) fn alpha(&self, counts: &[u64]) -> Result<f64, Undefined> {
        let marginals = self.marginals(counts);
        let total: f64 = marginals.iter().sum();
        if total < 2.0 {
            return Err(Undefined::NoPairs);
        }
        if marginals.iter().filter(|count| **count > 0.0).count() < 2 {
            return Err(Undefined::OneValue);
        }
        let (observed, expected) = match &self.distance {
            Distance::Nominal => (self.observed(counts, mismatches), all_pairs_differ(&marginals)),
            Distance::Ordinal => self.squares(counts, &marginals, &mid_ranks(&marginals)),
            Distance::Interval(values) => self.squares(counts, &marginals, values),
            Distance::Matrix(matrix) => self.by_matrix(counts, &marginals, matrix),
        };
        // Values of which the distance is 0 throughout: as good as one value.
        if expected <= 0.0 { Err(Undefined::OneValue) } else { Ok(1.0 - (total - 1.0) * observed / expected) }
    }

    /// How often each value occurs in units that can be compared.
    fn marginals(&self, counts: &[u64]) -> Vec<f64> {
        let mut marginals = vec![0.0; self.num_values];
        for (pattern, count) in self.patterns.iter().zip(counts) {
            for code in pattern {
                marginals[*code as usize] += *count as f64;
            }
        }
        marginals
    }

    /// The sum over units of the distances within a unit, each pair twice, over one less than its number of values.
    fn observed(&self, counts: &[u64], within: impl Fn(&[u32]) -> f64) -> f64 {
        let of_pattern = |(pattern, count): (&Vec<u32>, &u64)| match *count {
            0 => 0.0,
            count => count as f64 * within(pattern) / (pattern.len() - 1) as f64,
        };
        self.patterns.iter().zip(counts).map(of_pattern).sum()
    }

    fn squares(&self, counts: &[u64], marginals: &[f64], places: &[f64]) -> (f64, f64) {
        let ones = |pattern: &[u32]| square_distances(pattern.iter().map(|code| (1.0, places[*code as usize])));
        let expected = square_distances(marginals.iter().copied().zip(places.iter().copied()));
        (self.observed(counts, ones), expected)
    }

    fn by_matrix(&self, counts: &[u64], marginals: &[f64], matrix: &[f64]) -> (f64, f64) {
        let row = |code: usize| &matrix[code * self.num_values..][..self.num_values];
        let within = |pattern: &[u32]| {
            let from = |a: &u32| pattern.iter().map(|b| row(*a as usize)[*b as usize]).sum::<f64>();
            pattern.iter().map(from).sum()
        };
        let from = |(code, count): (usize, &f64)| {
            count * row(code).iter().zip(marginals).map(|(distance, count)| distance * count).sum::<f64>()
        };
        (self.observed(counts, within), marginals.iter().enumerate().map(from).sum())
    }
}

/// The labels in order, each once.
pub(super) fn sorted_set(labels: impl Iterator<Item = String>) -> Vec<String> {
    let mut set: Vec<String> = labels.collect();
    set.sort_unstable();
    set.dedup();
    set
}

/// Units with the same values together; those with fewer than two are left out.
fn patterns(units: impl Iterator<Item = Vec<u32>>) -> (Vec<Vec<u32>>, Vec<u64>) {
    let mut counts = BTreeMap::new();
    for mut unit in units.filter(|unit| unit.len() > 1) {
        unit.sort_unstable();
        *counts.entry(unit).or_insert(0) += 1;
    }
    counts.into_iter().unzip()
}

/// Ordered pairs within a sorted unit that differ.
fn mismatches(pattern: &[u32]) -> f64 {
    let equal: usize = pattern.chunk_by(|a, b| a == b).map(|run| run.len() * run.len()).sum();
    (pattern.len() * pattern.len() - equal) as f64
}

fn all_pairs_differ(marginals: &[f64]) -> f64 {
    let total: f64 = marginals.iter().sum();
    total * total - marginals.iter().map(|count| count * count).sum::<f64>()
}

/// The sum of the squares of the distances over all ordered pairs of weighted numbers.
fn square_distances(numbers: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let total: f64 = numbers.clone().map(|(weight, _)| weight).sum();
    let mean = numbers.clone().map(|(weight, x)| weight * x).sum::<f64>() / total;
    2.0 * total * numbers.map(|(weight, x)| weight * (x - mean) * (x - mean)).sum::<f64>()
}

/// The mean rank of each value's occurrences. Their differences are the roots of the ordinal distances: what lies between two
/// values, with half of themselves.
fn mid_ranks(marginals: &[f64]) -> Vec<f64> {
    let below = marginals.iter().scan(0.0, |sum, count| {
        let below = *sum;
        *sum += count;
        Some(below)
    });
    below.zip(marginals).map(|(below, count)| below + count / 2.0).collect()
}

fn ratio_distance(a: f64, b: f64) -> f64 {
    if a == b { 0.0 } else { ((a - b) / (a + b)).powi(2) }
}

/// Of two sorted sets.
fn masi_distance(a: &[String], b: &[String]) -> f64 {
    let common = a.iter().filter(|label| b.binary_search(label).is_ok()).count();
    let union = a.len() + b.len() - common;
    if union == 0 {
        return 0.0;
    }
    let monotonicity = match common {
        _ if a == b => 1.0,
        0 => 0.0,
        common if common == a.len() || common == b.len() => 2.0 / 3.0,
        _ => 1.0 / 3.0,
    };
    1.0 - common as f64 / union as f64 * monotonicity
}

fn matrix<T>(values: &[T], distance: impl Fn(&T, &T) -> f64) -> Result<Vec<f64>, Undefined> {
    if values.len() > MAX_MATRIX_VALUES {
        return Err(Undefined::TooManyValues);
    }
    Ok(values.iter().flat_map(|a| values.iter().map(|b| distance(a, b))).collect())
}
