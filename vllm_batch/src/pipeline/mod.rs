//! How do records become training data?
//!
//! Records go through an engine, what it says is read and checked, people review it, and what they say comes back. Each stage
//! can stop at any point and goes on where it stopped.
//!
//! * `curation`: records to suggestions, through a [`BatchRunner`](crate::BatchRunner).
//! * `tasks`: records that wait for people, and what they said, in a database (feature `jobs`).
//! * `label_studio`: suggestions to a review server and answers back (feature `label-studio`); `review` puts both together, and
//!   `carry` takes reviewed records on to the next major version.

#[cfg(feature = "label-studio")]
mod carry;
mod curation;
#[cfg(feature = "label-studio")]
pub mod label_studio;
#[cfg(feature = "label-studio")]
mod review;
#[cfg(feature = "jobs")]
pub mod tasks;

#[cfg(feature = "label-studio")]
pub use carry::{CarryOptions, CarryReport};
pub use curation::{CurationError, CurationPipeline, CurationReport, Rejection, Stage, batch_line};
#[cfg(feature = "label-studio")]
pub use review::{Originals, RejectedRecord, ReviewReport};
