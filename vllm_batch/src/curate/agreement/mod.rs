//! How much do those who answer agree?
//!
//! [`agreement`] compares people with people and models with people, question by question, each at its level of measurement,
//! with seeded bootstrap intervals. What cannot be computed is [`Undefined`], with the reason, and never a number.
//!
//! Coefficients are public on their own: [`krippendorff_alpha`], [`cohen_kappa`], [`span_f1`].

mod alpha;
mod bootstrap;
mod estimate;
mod kappa;
mod report;
mod similarity;
mod span;
mod structured;
mod summary;
#[cfg(test)]
mod tests;

pub use alpha::{krippendorff_alpha, krippendorff_alpha_of_sets};
pub use estimate::{Estimate, Interval, Undefined};
pub use kappa::{KappaWeights, cohen_kappa};
pub use report::{AgreementGroup, AgreementOptions, AgreementReport, Compared, Shown, agreement};
pub use similarity::similarity;
pub use span::span_f1;
pub use structured::leaf_agreement;
pub use summary::{Measure, QuestionAgreement};
