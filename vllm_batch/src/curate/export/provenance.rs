//! Where a row comes from.

use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::AnnotatorNames;
use crate::curate::compile::hex;

/// Where a row comes from, as columns that have a value of the same type in each row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct RowSource {
    /// The row's name.
    pub(super) id: String,
    pub(super) record_id: String,
    pub(super) split: &'static str,
    /// As `id@version`.
    pub(super) schema: String,
    pub(super) schema_sha256: String,
    /// The model whose answers the row has; empty if it has none.
    pub(super) model: String,
    pub(super) prompt_sha256: String,
    /// Names or pseudonyms, separated by commas; empty if they are not told.
    pub(super) annotators: String,
    pub(super) num_annotators: usize,
    /// From 0 to 1; -1 for fewer than two people.
    pub(super) agreement: f64,
    /// Whether the record is gold.
    pub(super) gold: bool,
    /// How much was corrected, from 0 to 1; 0 where nothing is compared.
    pub(super) strength: f64,
    /// Fields that were cut off, separated by commas.
    pub(super) truncated: String,
}

impl RowSource {
    pub(super) fn columns(&self) -> Map<String, Value> {
        match json!(self) {
            Value::Object(columns) => columns,
            _ => Map::new(),
        }
    }
}

impl AnnotatorNames {
    /// What a column says about people.
    pub(super) fn column(&self, names: &[&str]) -> String {
        match self {
            Self::Omitted => String::new(),
            Self::Names => names.join(","),
            Self::Pseudonyms { salt } => names.iter().map(|name| pseudonym(salt, name)).collect::<Vec<_>>().join(","),
        }
    }
}

fn pseudonym(salt: &str, name: &str) -> String {
    let mut hash = Sha256::new();
    hash.update((salt.len() as u64).to_le_bytes());
    hash.update(salt);
    hash.update(name);
    hex(&hash.finalize()[..6])
}
