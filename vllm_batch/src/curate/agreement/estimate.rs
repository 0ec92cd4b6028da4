//! Numbers that may not exist, and how sure they are.

use serde::Serialize;

/// A statistic with its bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Estimate {
    /// The statistic of the data as they are.
    pub value: f64,
    /// Where it lies in resampled data; absent if it was not asked for, or if it is undefined in too many of them.
    pub interval: Option<Interval>,
}

/// A percentile interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// Why a statistic does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Undefined {
    /// No unit has two answers to compare.
    #[error("no unit has two answers to compare")]
    NoPairs,
    /// All answers are the same: there is nothing that chance could have made different.
    #[error("all answers are the same, so that agreement by chance would be complete, too")]
    OneValue,
    /// There are not exactly two who answer.
    #[error("it takes exactly two who answer")]
    NotTwoRaters,
    /// Answers are not taken from a few.
    #[error("answers are not taken from a few categories")]
    NotCategorical,
    /// More distinct answers than can be compared each with each.
    #[error("there are too many distinct answers to compare each with each")]
    TooManyValues,
    /// Answers of this kind have no level of measurement.
    #[error("answers of this kind have no level of measurement")]
    NoLevel,
}
