//! What can go wrong with review tasks?

use crate::curate::export::ExportError;
use crate::curate::{AnswerError, RegistryError};
use crate::jobs::JobError;
use crate::jobs::sql::Fault;

/// Why a call to a [`TaskStore`](super::TaskStore) did not do what it was to do. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskStoreError {
    /// There is no such task.
    #[error("no task has the id {id:?}")]
    UnknownTask {
        /// The id.
        id: String,
    },
    /// A parameter is missing or wrong.
    #[error("{param}: {message}")]
    InvalidParameter {
        /// Its name.
        param: &'static str,
        /// What is wrong, and what is right.
        message: String,
    },
    /// Answers do not hold.
    #[error("{} of the answers do not hold: {}", errors.len(), errors.first().map(ToString::to_string).unwrap_or_default())]
    InvalidAnswers {
        /// What is wrong, answer by answer.
        errors: Vec<AnswerError>,
    },
    /// The response was changed by somebody else since it was read.
    #[error(
        "the response of {annotator:?} was changed in version {found} of the task, after version {seen}: read it again"
    )]
    VersionConflict {
        /// Whose response it is.
        annotator: String,
        /// The version of the task that was seen.
        seen: i64,
        /// The version in which it was changed.
        found: i64,
    },
    /// A stored task does not fit its schema: somebody changed the database, or the schema under the same version.
    #[error("task {id} cannot be read: {message}")]
    Damaged {
        /// The task.
        id: String,
        /// Why not.
        message: String,
    },
    /// A schema is not there, or was not registered.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Training data cannot be made.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The database or a file of a batch cannot be reached.
    #[error(transparent)]
    Job(#[from] JobError),
}

impl TaskStoreError {
    /// A stable word for it; of a part that has its own, that one.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownTask { .. } => "unknown_task",
            Self::InvalidParameter { .. } => "invalid_parameter",
            Self::InvalidAnswers { .. } => "invalid_answers",
            Self::VersionConflict { .. } => "version_conflict",
            Self::Damaged { .. } => "damaged_task",
            Self::Registry(error) => error.code(),
            Self::Export(error) => error.code(),
            Self::Job(error) => error.code(),
        }
    }
}

/// Why a transaction ended before it was done.
#[derive(Debug)]
pub(super) enum Stop {
    /// The database says so; it may be worth another try.
    Database(Fault),
    /// What was asked for cannot be done.
    Refused(TaskStoreError),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Database(fault)
    }
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<TaskStoreError> for Stop {
    fn from(error: TaskStoreError) -> Self {
        Self::Refused(error)
    }
}
