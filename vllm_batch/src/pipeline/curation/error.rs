//! What stops a pipeline?

use std::io;
use std::path::{Path, PathBuf};

use crate::batch::RunError;
use crate::curate::RegistryError;

/// Why a stage of a pipeline stopped. What it had done is kept: the same call goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CurationError {
    /// An option that must be given was not.
    #[error("{option} must be given")]
    MissingOption {
        /// The option.
        option: &'static str,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The engine's run stopped.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Answers cannot become those of the other version.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The review server did not do what it was to do.
    #[cfg(feature = "label-studio")]
    #[error(transparent)]
    LabelStudio(#[from] crate::pipeline::label_studio::LabelStudioError),
}

impl CurationError {
    /// A stable word for it; of a stage that has its own, that one.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingOption { .. } => "missing_option",
            Self::Io { .. } => "curation_io",
            Self::Run(error) => error.code(),
            Self::Registry(error) => error.code(),
            #[cfg(feature = "label-studio")]
            Self::LabelStudio(error) => error.code(),
        }
    }
}

/// Names the file of an error.
pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> CurationError + '_ {
    |source| CurationError::Io { path: path.to_owned(), source }
}
