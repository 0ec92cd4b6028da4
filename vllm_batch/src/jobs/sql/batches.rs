//! Batches: added, read, listed, cancelled, forgotten.

use sqlx::any::AnyRow;

use super::files::List;
use super::job::{Job, add_progress};
use super::{Database, Fault, Statement, document, integer, text};
use crate::jobs::{Batch, BatchQuery, BatchStatus, JobError, NewChunk, Page, QueueLimits};

/// The queue, in the order in which workers take it.
pub(super) const QUEUE: &str =
    "SELECT document FROM job_batches WHERE ended_at IS NULL ORDER BY priority DESC, seq LIMIT $1";
/// How many wait.
pub(super) const COUNT_QUEUE: &str = "SELECT COUNT(*) AS n FROM job_batches WHERE ended_at IS NULL";

/// The key of the lock under which PostgreSQL counts what waits, so that two do not take the last place at once.
const QUEUE_LOCK: i64 = 0x0076_6c6c_6d5f_7175;

pub(super) async fn insert(database: &Database, batch: &Batch, limits: QueueLimits) -> Result<(), Fault> {
    if batch.status != BatchStatus::Validating {
        let message = format!("a new batch is validating, and not {}", batch.status.as_str());
        return Err(JobError::InvalidParameter { param: "status", message }.into());
    }
    let mut tx = database.begin().await?;
    let select = format!("SELECT seq FROM job_files WHERE id = $1{}", database.dialect().for_share());
    if Statement::new(&select).bind(&batch.input_file_id).row(&mut tx).await?.is_none() {
        return Err(JobError::NotFound { what: "file", id: batch.input_file_id.clone() }.into());
    }
    let owner_limit = limits.max_batches_per_owner.map(|limit| ("batches of this owner", Some(&batch.owner), limit));
    let limits = limits.max_batches.map(|limit| ("batches", None, limit)).into_iter().chain(owner_limit);
    for (index, (what, owner, limit)) in limits.enumerate() {
        if index == 0 {
            database.dialect().exclusive(&mut tx, QUEUE_LOCK).await?;
        }
        let mut statement = Statement::new(COUNT_QUEUE);
        if let Some(owner) = owner {
            statement = statement.push(" AND owner = ").push_value(owner);
        }
        let value = count_of(statement.row(&mut tx).await?.as_ref())? + 1;
        if value > limit {
            return Err(JobError::QueueFull { what, value, limit }.into());
        }
    }
    Job::add(tx, batch).await?.commit().await?;
    Ok(())
}

fn count_of(row: Option<&AnyRow>) -> Result<u64, sqlx::Error> {
    Ok(integer(row.ok_or(sqlx::Error::RowNotFound)?, "n")? as u64)
}

pub(super) async fn get(database: &Database, id: &str) -> Result<Option<Batch>, Fault> {
    let select = Statement::new("SELECT document FROM job_batches WHERE id = $1").bind(id);
    Ok(read(database, select).await?.pop())
}

pub(super) async fn page(database: &Database, query: &BatchQuery) -> Result<Page<Batch>, Fault> {
    let mut connection = database.read().await?;
    let mut statement = Statement::new("SELECT document FROM job_batches WHERE 1 = 1");
    if let Some(owner) = &query.owner {
        statement = statement.push(" AND owner = ").push_value(owner);
    }
    if !query.status.is_empty() {
        statement = statement.push(" AND status IN ").push_list(query.status.iter().map(|status| status.as_str()));
    }
    let list =
        List { table: "job_batches", what: "batch", owner: query.owner.as_deref(), after: query.after.as_deref() };
    let (rows, has_more) = list.page(&mut connection, statement, (query.order, query.limit)).await?;
    let mut data = documents(&rows)?;
    add_progress(&mut connection, &mut data).await?;
    Ok(Page { data, has_more })
}

pub(super) async fn queue(database: &Database, limit: usize) -> Result<Vec<Batch>, Fault> {
    read(database, Statement::new(QUEUE).bind(limit)).await
}

pub(super) async fn ended(database: &Database, ended_before: i64, limit: usize) -> Result<Vec<Batch>, Fault> {
    let select =
        "SELECT document FROM job_batches WHERE ended_at IS NOT NULL AND ended_at < $1 ORDER BY ended_at, seq LIMIT $2";
    read(database, Statement::new(select).bind(ended_before).bind(limit)).await
}

/// The batches that a statement selects, with their progress.
async fn read(database: &Database, select: Statement) -> Result<Vec<Batch>, Fault> {
    let mut connection = database.read().await?;
    let mut batches = documents(&select.rows(&mut connection).await?)?;
    add_progress(&mut connection, &mut batches).await?;
    Ok(batches)
}

fn documents(rows: &[AnyRow]) -> Result<Vec<Batch>, sqlx::Error> {
    rows.iter().map(|row| document(row, "document")).collect()
}

pub(super) async fn count(database: &Database, owner: Option<&str>) -> Result<Vec<(BatchStatus, u64)>, Fault> {
    let mut connection = database.read().await?;
    let mut statement = Statement::new("SELECT status, COUNT(*) AS n FROM job_batches");
    if let Some(owner) = owner {
        statement = statement.push(" WHERE owner = ").push_value(owner);
    }
    let rows = statement.push(" GROUP BY status").rows(&mut connection).await?;
    let mut counts = Vec::new();
    for row in rows {
        let name = text(&row, "status")?;
        let status = BatchStatus::from_name(&name);
        counts.push((status.ok_or_else(|| sqlx::Error::Decode(name.into()))?, count_of(Some(&row))?));
    }
    counts.sort_unstable();
    Ok(counts)
}

pub(super) async fn cancel(database: &Database, id: &str, now: i64) -> Result<Batch, Fault> {
    let unknown = || JobError::NotFound { what: "batch", id: id.to_owned() };
    let mut job = Job::lock(database, id).await?.ok_or_else(unknown)?;
    if job.batch.status.is_terminal() {
        return Err(job.batch.cannot_be("cancelled").into());
    }
    if job.batch.ends_early_as().is_none() {
        job.batch.advance(BatchStatus::Cancelling, now)?;
        job.end_early(now).await?;
    }
    let mut shown = job.batch.clone();
    add_progress(&mut job.tx, std::slice::from_mut(&mut shown)).await?;
    job.commit().await?;
    Ok(shown)
}

pub(super) async fn update(database: &Database, batch: &Batch) -> Result<bool, Fault> {
    let Some(mut job) = Job::lock(database, &batch.id).await? else { return Ok(false) };
    if job.batch.version != batch.version {
        return Ok(false);
    }
    job.batch.metadata.clone_from(&batch.metadata);
    job.batch.priority = batch.priority;
    job.save().await?;
    let update = "UPDATE job_tasks SET priority = $1 WHERE batch_id = $2 AND is_open = 1";
    Statement::new(update).bind(i64::from(batch.priority)).bind(&batch.id).execute(&mut job.tx).await?;
    job.commit().await?;
    Ok(true)
}

pub(super) async fn delete(database: &Database, id: &str) -> Result<bool, Fault> {
    let mut tx = database.begin().await?;
    let delete = "DELETE FROM job_batches WHERE id = $1 AND ended_at IS NOT NULL";
    let deleted = Statement::new(delete).bind(id).execute(&mut tx).await?;
    tx.commit().await?;
    Ok(deleted == 1)
}

pub(super) async fn chunks(database: &Database, batch_id: &str) -> Result<Vec<(NewChunk, Option<String>)>, Fault> {
    let mut connection = database.read().await?;
    let select = "SELECT document, location FROM job_tasks WHERE batch_id = $1 AND kind = 'run' ORDER BY chunk";
    let rows = Statement::new(select).bind(batch_id).rows(&mut connection).await?;
    let chunk = |row: &AnyRow| Ok((document(row, "document")?, sqlx::Row::try_get(row, "location")?));
    Ok(rows.iter().map(chunk).collect::<Result<_, sqlx::Error>>()?)
}

pub(super) async fn ping(database: &Database) -> Result<(), Fault> {
    let mut connection = database.read().await?;
    Statement::new("SELECT 1").execute(&mut connection).await?;
    Ok(())
}
