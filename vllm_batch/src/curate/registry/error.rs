//! Why a schema was not registered, or answers were not migrated.

use std::io;
use std::path::PathBuf;

use semver::Version;

use super::super::{InvalidSchema, SchemaRef};
use super::SchemaDiff;

/// Why a schema was not registered, or answers were not migrated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The document is not a schema that can be used.
    #[error(transparent)]
    Invalid(#[from] InvalidSchema),
    /// Another document has this name and version.
    #[error("{schema} is registered already, with other content: give it a new version")]
    Conflict {
        /// The name and version.
        schema: SchemaRef,
    },
    /// The version does not say how much changed.
    #[error("{schema} changes too much after {previous}: the version must be {required} or more\n{diff}")]
    BumpTooSmall {
        /// The schema's name and version.
        schema: Box<SchemaRef>,
        /// The release that it is compared with.
        previous: Version,
        /// The least version that it can have.
        required: Version,
        /// What changed.
        diff: SchemaDiff,
    },
    /// A folder or file could not be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// There is no schema of this name and version.
    #[error("there is no schema {schema}")]
    UnknownSchema {
        /// The name and version.
        schema: SchemaRef,
    },
    /// Answers only become answers of newer versions.
    #[error("answers of {from} cannot become answers of the older {schema}")]
    Backwards {
        /// The version that they are to be of.
        schema: SchemaRef,
        /// The version that they are of.
        from: Version,
    },
}

impl RegistryError {
    /// A word for the kind of error, which stays the same.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_schema",
            Self::Conflict { .. } => "schema_conflict",
            Self::BumpTooSmall { .. } => "bump_too_small",
            Self::Unreadable { .. } => "unreadable_schema",
            Self::UnknownSchema { .. } => "unknown_schema",
            Self::Backwards { .. } => "migration_backwards",
        }
    }
}
