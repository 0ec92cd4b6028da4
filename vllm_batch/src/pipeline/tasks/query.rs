//! Which tasks are there?

use serde::{Deserialize, Serialize};

use super::stored::{ReviewTask, TaskRow};
use super::{Result, TaskStore, TaskStoreError, find, unknown};
use crate::jobs::Page;
use crate::jobs::sql::Statement;

/// The longest page.
const MAX_LIMIT: usize = 500;

/// How far people are with a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TaskStatus {
    /// Nobody has handed in answers.
    Pending,
    /// Somebody has.
    Annotated,
    /// It is gold.
    Gold,
}

impl TaskStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Annotated, Self::Gold];

    /// As queries write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Annotated => "annotated",
            Self::Gold => "gold",
        }
    }

    /// The condition on a row. A task can be gold and annotated.
    fn condition(self) -> &'static str {
        match self {
            Self::Pending => " AND t.num_submitted = 0",
            Self::Annotated => " AND t.num_submitted > 0",
            Self::Gold => " AND t.is_gold = 1",
        }
    }
}

/// Which tasks are wanted. They come by the names of their records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskQuery {
    /// Only those of this schema.
    pub schema_id: Option<String>,
    /// Only those of this version of it.
    pub schema_version: Option<String>,
    /// Only those that people are so far with.
    pub status: Option<TaskStatus>,
    /// Only those that this person has answered, drafted or discarded.
    pub annotator: Option<String>,
    /// Only those with this text in the record's name, in upper or lower case.
    pub search: Option<String>,
    /// Those that come after the task of this id.
    pub after: Option<String>,
    /// The most: 1 to 500.
    pub limit: usize,
}

impl ReviewTask {
    /// How far people are with it.
    pub fn status(&self) -> TaskStatus {
        match (self.decision.is_gold, self.num_submitted()) {
            (true, _) => TaskStatus::Gold,
            (false, 0) => TaskStatus::Pending,
            (false, _) => TaskStatus::Annotated,
        }
    }
}

impl TaskStore {
    /// A part of the list of tasks.
    ///
    /// # Errors
    /// [`TaskStoreError::UnknownTask`] if `after` is unknown; [`TaskStoreError::InvalidParameter`] for `limit`.
    pub async fn tasks(&self, query: &TaskQuery) -> Result<Page<ReviewTask>> {
        if !(1..=MAX_LIMIT).contains(&query.limit) {
            let message = format!("it must be from 1 to {MAX_LIMIT}");
            return Err(TaskStoreError::InvalidParameter { param: "limit", message });
        }
        let mut rows = self
            .transaction(|| async {
                let mut connection = self.database.read().await?;
                let mut select = query.select();
                if let Some(after) = &query.after {
                    let after = find(&mut connection, after, "").await?.ok_or_else(|| unknown(after))?;
                    select = select.push(" AND (t.schema_id, t.record_id) > (").push_value(after.schema.id.as_str());
                    select = select.push(", ").push_value(after.record_id).push(")");
                }
                select = select.push(" ORDER BY t.schema_id, t.record_id LIMIT ").push_value(query.limit + 1);
                select
                    .rows(&mut connection)
                    .await?
                    .iter()
                    .map(TaskRow::read)
                    .collect::<std::result::Result<Vec<_>, _>>()
            })
            .await?;
        let has_more = rows.len() > query.limit;
        rows.truncate(query.limit);
        Ok(Page { data: self.open_all(rows).await?, has_more })
    }

    /// Reads rows by the schemas that they name.
    pub(super) async fn open_all(&self, rows: Vec<TaskRow>) -> Result<Vec<ReviewTask>> {
        let mut tasks = Vec::new();
        for row in rows {
            let schema = self.schema(&row.schema).await?;
            tasks.push(row.open(&schema)?);
        }
        Ok(tasks)
    }
}

impl TaskQuery {
    /// All tasks of a schema, in pages of this length.
    pub fn of_schema(schema_id: impl Into<String>, limit: usize) -> Self {
        Self { schema_id: Some(schema_id.into()), limit, ..Self::default() }
    }

    /// The tasks without a look at `after`.
    fn select(&self) -> Statement {
        let mut select = Statement::new(TaskRow::SELECT).push("WHERE 1 = 1");
        for (condition, value) in
            [(" AND t.schema_id = ", &self.schema_id), (" AND t.schema_version = ", &self.schema_version)]
        {
            if let Some(value) = value {
                select = select.push(condition).push_value(value);
            }
        }
        if let Some(status) = self.status {
            select = select.push(status.condition());
        }
        if let Some(annotator) = &self.annotator {
            let people = " AND EXISTS (SELECT 1 FROM curation_people p WHERE p.task_id = t.id AND p.status <> 'claimed' \
                          AND p.annotator = ";
            select = select.push(people).push_value(annotator).push(")");
        }
        if let Some(search) = &self.search {
            select = select.push(" AND t.search_name LIKE ").push_value(pattern(search)).push(" ESCAPE '!'");
        }
        select
    }
}

/// A text by which it is found in upper or lower case. Letter by letter: the lower case of a whole text depends on where its words end.
pub(super) fn folded(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// What a text stands in, for `LIKE`.
fn pattern(text: &str) -> String {
    let mut pattern = "%".to_owned();
    for character in folded(text).chars() {
        if matches!(character, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}
