//! What do requests and answers look like?
//!
//! Objects of the core (files, batches, answers of models) write themselves; here is what only HTTP has. All of it is in the
//! document at `/openapi.json`.

mod batches;
mod files;
mod list;
mod models;
mod queue;

pub(crate) use batches::{CreateBatch, FailedList};
pub(crate) use files::{DeletedFile, UploadFile};
pub(crate) use list::{BatchListQuery, FailedQuery, FileListQuery, ObjectList, QueueQuery};
pub(crate) use models::{ModelList, ModelObject};
pub(crate) use queue::{History, QueueObject, StatsObject};
