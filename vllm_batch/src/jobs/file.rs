//! What is a file?

use serde::{Deserialize, Serialize};
use serde_json::json;

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
    /// Every purpose.
    pub const ALL: [Self; 2] = [Self::Batch, Self::BatchOutput];

    /// The purpose of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == name)
    }

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

impl FileObject {
    /// An empty file without a name. All else can be set on it.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::jobs::{FileObject, FilePurpose};
    ///
    /// let mut file = FileObject::new("file-1", FilePurpose::Batch, 1_700_000_000);
    /// file.filename = "requests.jsonl".to_owned();
    /// assert_eq!(file.to_object()["object"], "file");
    /// ```
    pub fn new(id: impl Into<String>, purpose: FilePurpose, created_at: i64) -> Self {
        Self {
            id: id.into(),
            bytes: 0,
            created_at,
            expires_at: None,
            filename: String::new(),
            purpose,
            sha256: String::new(),
            owner: String::new(),
        }
    }

    /// As `OpenAI`'s file object. `status` is deprecated there, and still required.
    pub fn to_object(&self) -> serde_json::Value {
        json!({
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "filename": self.filename,
            "purpose": self.purpose.as_str(),
            "status": "processed",
            "status_details": null,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_api() {
        for purpose in FilePurpose::ALL {
            assert_eq!(serde_json::to_value(purpose).unwrap(), purpose.as_str());
            assert_eq!(FilePurpose::from_name(purpose.as_str()), Some(purpose));
        }
        assert_eq!(FilePurpose::from_name("fine-tune"), None);
    }

    #[test]
    fn the_object_has_what_clients_require() {
        let mut file = FileObject::new("file-1", FilePurpose::BatchOutput, 1000);
        file.bytes = 12;
        file.filename = "output.jsonl".into();
        file.expires_at = Some(2000);
        let expected = json!({
            "id": "file-1", "object": "file", "bytes": 12, "created_at": 1000, "expires_at": 2000,
            "filename": "output.jsonl", "purpose": "batch_output", "status": "processed", "status_details": null,
        });
        assert_eq!(file.to_object(), expected);
    }
}
