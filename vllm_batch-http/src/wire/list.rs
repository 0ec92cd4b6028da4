//! Lists, and what can be asked of them.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use vllm_batch::jobs::{BatchQuery, BatchStatus, FilePurpose, FileQuery, Order, Page};

use crate::error::ApiError;
use crate::extract::is_id;

/// A part of a list.
#[derive(Debug, Serialize)]
pub(crate) struct ObjectList {
    object: &'static str,
    data: Vec<Value>,
    first_id: Option<Value>,
    last_id: Option<Value>,
    has_more: bool,
}

impl ObjectList {
    pub(crate) fn new<T>(page: &Page<T>, to_object: impl Fn(&T) -> Value) -> Self {
        let data: Vec<Value> = page.data.iter().map(to_object).collect();
        let id = |object: Option<&Value>| object.and_then(|object| object.get("id").cloned());
        let (first_id, last_id) = (id(data.first()), id(data.last()));
        Self { object: "list", data, first_id, last_id, has_more: page.has_more }
    }
}

/// In which order a list is.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ListOrder {
    /// Oldest first.
    Asc,
    /// Newest first.
    #[default]
    Desc,
}

impl From<ListOrder> for Order {
    fn from(order: ListOrder) -> Self {
        match order {
            ListOrder::Asc => Self::Ascending,
            ListOrder::Desc => Self::Descending,
        }
    }
}

/// What can be asked of the list of files.
#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct FileListQuery {
    /// Those for this: `batch` or `batch_output`.
    purpose: Option<String>,
    /// Those that come after the file of this id.
    after: Option<String>,
    /// The most.
    #[param(minimum = 1, maximum = 10000, default = 10000)]
    limit: Option<i64>,
    /// By when they were created.
    #[serde(default)]
    #[param(inline)]
    order: ListOrder,
}

impl FileListQuery {
    pub(crate) fn into_query(self, owner: &str) -> Result<FileQuery, ApiError> {
        let purpose = self.purpose.map(|name| {
            let unknown = || ApiError::invalid("purpose", format!("{name:?} is neither `batch` nor `batch_output`."));
            FilePurpose::from_name(&name).ok_or_else(unknown)
        });
        Ok(FileQuery {
            owner: Some(owner.to_owned()),
            purpose: purpose.transpose()?,
            after: known("file", self.after)?,
            limit: limit(self.limit, 10_000, 1..=10_000)?,
            order: self.order.into(),
        })
    }
}

/// What can be asked of the list of batches.
#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct BatchListQuery {
    /// Those that come after the batch of this id.
    after: Option<String>,
    /// The most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
    /// Those of one of these, with commas between them; an extension.
    status: Option<String>,
    /// By when they were created; an extension.
    #[serde(default)]
    #[param(inline)]
    order: ListOrder,
}

impl BatchListQuery {
    pub(crate) fn into_query(self, owner: &str) -> Result<BatchQuery, ApiError> {
        let status = self.status.iter().flat_map(|names| names.split(','));
        let status = status.map(|name| {
            let unknown = || ApiError::invalid("status", format!("{name:?} is no status of batches."));
            BatchStatus::from_name(name).ok_or_else(unknown)
        });
        Ok(BatchQuery {
            owner: Some(owner.to_owned()),
            status: status.collect::<Result<_, _>>()?,
            after: known("batch", self.after)?,
            limit: limit(self.limit, 20, 1..=100)?,
            order: self.order.into(),
        })
    }
}

/// What can be asked of the rows that failed.
#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct FailedQuery {
    /// So many rows are left out.
    #[param(minimum = 0, default = 0)]
    offset: Option<i64>,
    /// The most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<i64>,
}

impl FailedQuery {
    /// The first row, and how many.
    pub(crate) fn range(&self) -> Result<(usize, usize), ApiError> {
        Ok((within("offset", self.offset.unwrap_or(0), 0..=i64::MAX)?, limit(self.limit, 100, 1..=1000)?))
    }
}

/// What can be asked of the queue.
#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct QueueQuery {
    /// The most batches.
    #[param(minimum = 1, maximum = 10000, default = 1000)]
    limit: Option<i64>,
}

impl QueueQuery {
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        limit(self.limit, 1000, 1..=10_000)
    }
}

/// The id of an object that others come after; one that cannot be an id is not even looked up.
fn known(what: &str, after: Option<String>) -> Result<Option<String>, ApiError> {
    match after.filter(|after| !after.is_empty()) {
        Some(after) if !is_id(&after) => Err(ApiError::not_found(what, &after).with_param("after")),
        after => Ok(after),
    }
}

fn limit(given: Option<i64>, default: i64, range: RangeInclusive<i64>) -> Result<usize, ApiError> {
    within("limit", given.unwrap_or(default), range)
}

fn within(param: &str, number: i64, range: RangeInclusive<i64>) -> Result<usize, ApiError> {
    let wrong = || {
        ApiError::invalid(
            param,
            format!("Expected an integer from {} to {}, found {number}.", range.start(), range.end()),
        )
    };
    usize::try_from(number).ok().filter(|_| range.contains(&number)).ok_or_else(wrong)
}
