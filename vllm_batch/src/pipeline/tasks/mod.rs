//! Which records wait for people, and what did people say?
//!
//! A [`TaskStore`] keeps records of a schema with what models and people said about them, in the database of the jobs. Rules are
//! those of [`curate`](crate::curate): what an answer may be, what is gold, which record comes next, what goes into training data.
//! Here they meet a database, so that many people can work on many records, and nothing is lost or taken over twice.
//!
//! # Invariants
//! * A record of a schema is there once. A person has at most one response to it, which is replaced as a whole.
//! * What is stored about a record changes as a whole, in a transaction that locks it: gold, priorities and counts are always those
//!   of its document.
//! * Answers that are stored hold by the version of the schema that the task names.
//! * Times are Unix seconds that the caller gives.

mod annotate;
mod auto;
mod create;
mod error;
mod export;
mod import;
mod label_studio;
mod lines;
mod migrate;
mod next;
mod query;
mod schemas;
mod stats;
mod stored;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::{Arc, RwLock};

use crate::curate::{CompiledSchema, RegistryError, SchemaRef, SchemaRegistry};
use crate::jobs::SqlStore;
use crate::jobs::sql::{Database, Series, Statement, Tx, repeat};

use error::Stop;
use stored::TaskRow;

pub use annotate::{GoldMarks, NewResponse};
pub use auto::{AutoImport, CURATION_SCHEMA};
pub use create::{CreateReport, NewSuggestions, NewTask};
pub use error::TaskStoreError;
pub use export::{ExportLines, TaskExport};
pub use import::{BatchFiles, ImportReport};
pub use label_studio::{EventOutcome, IgnoredEvent};
pub use migrate::TaskMigrations;
pub use next::NextQuery;
pub use query::{TaskQuery, TaskStatus};
pub use stats::{AnnotatorStats, TaskStats};
pub use stored::{ExternalAnnotation, ResponseNote, ReviewTask};

type Result<T> = std::result::Result<T, TaskStoreError>;

/// The tables of review tasks.
const TABLES: Series = Series { name: "curation", versions: &[include_str!("0001_tasks.sql")] };

/// Records that wait for people, and what they said. Clones share connections and schemas. It needs a runtime of tokio.
///
/// # Example
/// ```
/// use serde_json::json;
/// use vllm_batch::curate::SchemaRegistry;
/// use vllm_batch::jobs::SqlStore;
/// use vllm_batch::pipeline::tasks::{NewResponse, NewTask, NextQuery, TaskStore};
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// let tasks = TaskStore::open(&SqlStore::connect("sqlite::memory:").await?, SchemaRegistry::builtin()).await?;
/// let schema = "email_evaluation@1.0.0".parse()?;
/// let mail = NewTask::new("mail-1").with_field("from", "Bo").with_field("to", "Ann");
/// let mail = mail.with_field("subject", "Hello").with_field("email_body", "Dear Ann, …");
/// let created = tasks.create(&schema, &[mail], 1_700_000_000).await?;
/// assert_eq!(created.created.len(), 1);
///
/// let next = tasks.next(&NextQuery::new(schema, "ann"), 1_700_000_100).await?;
/// let answers = json!({"tone": "formal"}).as_object().cloned().unwrap_or_default();
/// let response = NewResponse::draft("ann", answers);
/// let task = tasks.respond(&next[0].id, &response, 1_700_000_200).await?;
/// assert_eq!(task.record.responses.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct TaskStore {
    database: Database,
    schemas: Arc<RwLock<SchemaRegistry>>,
}

impl TaskStore {
    /// The tasks in the database of this store. Creates or updates their tables, and adds the schemas that were
    /// [registered](Self::register) there to these.
    ///
    /// # Errors
    /// The database does not answer, or has another schema under a name and version that is among these.
    pub async fn open(store: &SqlStore, schemas: SchemaRegistry) -> Result<Self> {
        Self::migrate_tables(store).await?;
        let tasks = Self { database: store.database().clone(), schemas: Arc::new(RwLock::new(schemas)) };
        tasks.reload_schemas().await?;
        Ok(tasks)
    }

    /// Creates or updates the tables. Does nothing where they are as they should be.
    ///
    /// # Errors
    /// The database does not answer, or was made by a newer program.
    pub async fn migrate_tables(store: &SqlStore) -> Result<()> {
        Ok(store.database().migrate(TABLES).await?)
    }

    /// The task of this id.
    ///
    /// # Errors
    /// [`TaskStoreError::UnknownTask`].
    pub async fn task(&self, id: &str) -> Result<ReviewTask> {
        let row = self.transaction(|| async { find(&mut *self.database.read().await?, id, "").await }).await?;
        let row = row.ok_or_else(|| unknown(id))?;
        let schema = self.schema(&row.schema).await?;
        row.open(&schema)
    }

    /// Changes a task as a whole, while nobody else does. A change that leaves it as it was is none.
    async fn change<T>(
        &self,
        id: &str,
        now: i64,
        change: impl Fn(&mut ReviewTask, &CompiledSchema) -> Result<T>,
    ) -> Result<(ReviewTask, T)> {
        self.with_schemas(|| {
            self.transaction(|| async {
                let mut tx = self.database.begin().await?;
                let changed = self.change_in(&mut tx, id, now, &change).await?;
                tx.commit().await?;
                Ok(changed)
            })
        })
        .await
    }

    /// As [`change`](Self::change), as a part of a transaction. Of the schemas, only those that are known in this process can be used.
    async fn change_in<T>(
        &self,
        tx: &mut Tx,
        id: &str,
        now: i64,
        change: &impl Fn(&mut ReviewTask, &CompiledSchema) -> Result<T>,
    ) -> std::result::Result<(ReviewTask, T), Stop> {
        let row = self.locked(tx, id).await?;
        let schema = self.known_schema(&row.schema)?;
        let mut task = row.open(&schema)?;
        let before = task.clone();
        let said = change(&mut task, &schema)?;
        if task != before {
            task.save(tx, &schema, now).await?;
        }
        Ok((task, said))
    }

    /// Does something that needs the schemas of tasks, and does it again with those that others registered if one is not known.
    async fn with_schemas<T, F>(&self, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        match attempt().await {
            Err(TaskStoreError::Registry(RegistryError::UnknownSchema { .. })) => {
                self.reload_schemas().await?;
                attempt().await
            }
            done => done,
        }
    }

    /// The row of a task, which nobody else changes until the transaction ends.
    async fn locked(&self, tx: &mut Tx, id: &str) -> std::result::Result<TaskRow, Stop> {
        Ok(find(tx, id, self.database.dialect().for_update()).await?.ok_or_else(|| unknown(id))?)
    }

    /// Does a transaction, again and again while another one is in its way.
    async fn transaction<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Stop>>,
    {
        let done = repeat(|| {
            let attempt = attempt();
            async {
                match attempt.await {
                    Ok(done) => Ok(Ok(done)),
                    Err(Stop::Refused(error)) => Ok(Err(error)),
                    Err(Stop::Database(fault)) => Err(fault),
                }
            }
        });
        done.await?
    }
}

/// The row of a task.
async fn find(
    connection: &mut sqlx::AnyConnection,
    id: &str,
    lock: &str,
) -> std::result::Result<Option<TaskRow>, Stop> {
    let select = Statement::new(TaskRow::SELECT).push("WHERE t.id = $1").push(lock).bind(id);
    select.row(connection).await?.as_ref().map(TaskRow::read).transpose()
}

fn unknown(id: &str) -> TaskStoreError {
    TaskStoreError::UnknownTask { id: id.to_owned() }
}

fn unknown_schema(named: &SchemaRef) -> TaskStoreError {
    RegistryError::UnknownSchema { schema: named.clone() }.into()
}
