//! What only HTTP has of files.

use serde::Serialize;
use utoipa::ToSchema;

/// The form of an upload. It is read field by field and never there as a whole: this is its description.
#[derive(Debug, ToSchema)]
#[schema(as = UploadFile)]
#[allow(dead_code, reason = "the form is read as it comes in")]
pub(crate) struct UploadFile {
    /// Always `batch`.
    #[schema(pattern = "^batch$")]
    purpose: String,
    /// The lines of a batch.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
    /// Always `created_at`. Comes before the file.
    #[schema(rename = "expires_after[anchor]", pattern = "^created_at$")]
    expires_after_anchor: Option<String>,
    /// When the file is to be deleted, in seconds after its creation. Comes before the file.
    #[schema(rename = "expires_after[seconds]", minimum = 3600, maximum = 2_592_000)]
    expires_after_seconds: Option<u64>,
}

/// What was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedFile {
    /// The file.
    id: String,
    /// Always `file`.
    object: &'static str,
    /// Always true.
    deleted: bool,
}

impl DeletedFile {
    pub(crate) fn new(id: String) -> Self {
        Self { id, object: "file", deleted: true }
    }
}
