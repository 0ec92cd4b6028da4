//! How do people review it in Label Studio?
//!
//! One table, in two directions: [`label_config`] makes the page, [`task`] the data with the models' answers, [`regions`] what one
//! answer looks like there; [`harvest`] and [`answers_of`] read back what people said, and nothing that they cannot read is left
//! unsaid. All of it is without a network, after Label Studio 1.23.

mod config;
mod control;
mod error;
mod harvest;
mod names;
mod read;
mod region;
mod task;
mod validate;
mod view;
mod xml;

pub(super) use config::page_problems;
pub use config::{LabelConfig, LabelConfigOptions, label_config};
pub use error::{HarvestError, HarvestErrorKind, TaskError, TaskProblem};
pub use harvest::{Harvest, harvest, schema_of};
pub use read::answers_of;
pub use region::{Region, regions};
pub use task::{TaskAnnotations, TaskOptions, dedup_key, model_version, task};
pub use validate::validate_prediction;

#[cfg(test)]
mod tests;
