//! What is a file?

use serde::{Deserialize, Serialize};

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FilePurpose {
    /// The input of a batch.
    Batch,
    /// The answers or the errors of a batch.
    BatchOutput,
}

impl FilePurpose {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::BatchOutput => "batch_output",
        }
    }
}

/// What is known of a file. Its content is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FileObject {
    /// `file-` and 32 hexadecimal digits.
    pub id: String,
    /// Its length.
    pub bytes: u64,
    /// When it was uploaded or written.
    pub created_at: i64,
    /// When it will be deleted, if ever.
    pub expires_at: Option<i64>,
    /// The name that it was given.
    pub filename: String,
    /// What it is for.
    pub purpose: FilePurpose,
    /// The SHA-256 of its content, in hexadecimal digits.
    pub sha256: String,
    /// The key that it was uploaded with; empty without keys.
    pub owner: String,
}
