//! Which rows are for training, and which for tests.

use std::fmt;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::curate::{Record, TaskSchema};

/// What a row is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Training.
    Train,
    /// Choosing between trained models.
    Validation,
    /// Saying how good the chosen one is.
    Test,
}

impl Split {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Its name, as Hugging Face's libraries have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Shares for validation and tests; the rest is for training.
///
/// Where a record goes depends on its group and the salt alone: it stays there when others come and go, and records of a
/// group stay together. A greater share takes from the next ones only: what was for tests still is.
///
/// # Example
/// ```
/// use vllm_batch::curate::export::{Split, Splits};
///
/// let splits = Splits::new(0.1, 0.2, "2026")?;
/// let tests = (0..1000).filter(|n| splits.of_key(&format!("thread {n}")) == Split::Test).count();
/// assert!((170..230).contains(&tests));
/// assert!(Splits::new(0.5, 0.6, "").is_err());
/// # Ok::<(), vllm_batch::curate::export::InvalidSplits>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Splits {
    validation: f64,
    test: f64,
    salt: String,
}

/// Shares that are negative, no numbers, or more than all.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{validation} for validation and {test} for tests: shares are from 0 to 1, and so is their sum")]
#[non_exhaustive]
pub struct InvalidSplits {
    /// The share for validation.
    pub validation: f64,
    /// The share for tests.
    pub test: f64,
}

impl Splits {
    /// Splits of these shares.
    ///
    /// # Errors
    /// A share, or the sum of both, is not from 0 to 1.
    pub fn new(validation: f64, test: f64, salt: impl Into<String>) -> Result<Self, InvalidSplits> {
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        if ![validation, test, validation + test].into_iter().all(is_share) {
            return Err(InvalidSplits { validation, test });
        }
        Ok(Self { validation, test, salt: salt.into() })
    }

    /// Where a record goes, by its group.
    pub fn of(&self, schema: &TaskSchema, record: &Record) -> Split {
        self.of_key(&group_key(schema, record))
    }

    /// Where records of a group go.
    pub fn of_key(&self, key: &str) -> Split {
        let mut hash = Sha256::new();
        hash.update((self.salt.len() as u64).to_le_bytes());
        hash.update(&self.salt);
        hash.update(key);
        let place = unit_interval(&hash.finalize());
        if place < self.test {
            Split::Test
        } else if place < self.test + self.validation {
            Split::Validation
        } else {
            Split::Train
        }
    }
}

/// The first 53 bits as a number from 0 to 1, without 1.
fn unit_interval(hash: &[u8]) -> f64 {
    let bits = hash[..8].iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte)) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

/// What keeps a record together with others: the value of the schema's `group_by`, else its own name.
pub(super) fn group_key(schema: &TaskSchema, record: &Record) -> String {
    let field = schema.export.group_by.as_ref().and_then(|id| schema.field(id));
    match field.and_then(|field| field.value_in(&record.fields)) {
        Some(serde_json::Value::String(text)) => format!("group:{text}"),
        Some(value) => format!("group:{value}"),
        None => format!("record:{}", record.id),
    }
}
