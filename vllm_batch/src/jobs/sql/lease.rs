//! Who does what: tasks are taken, renewed, and taken over from those that fell silent.

use super::job::Job;
use super::workers;
use super::{Database, Fault, Statement, document, integer, repeat, text};
use crate::jobs::{Batch, BatchStatus, ChunkProgress, JobError, Lease, LeaseState, Task, TaskId, TaskKind, WorkerInfo};

/// Overdue batches that a worker looks after before it takes a task. The next one goes on.
const OVERDUE_AT_ONCE: usize = 16;

pub(super) const OVERDUE: &str = "SELECT id FROM job_batches WHERE expires_at IS NOT NULL AND expires_at <= $1 \
                                   ORDER BY expires_at LIMIT $2";
/// When there may be something to do.
pub(super) const EARLIEST: [&str; 2] = [
    "SELECT MIN(due_at) AS due FROM job_tasks WHERE is_open = 1",
    "SELECT MIN(expires_at) AS due FROM job_batches WHERE expires_at IS NOT NULL",
];

/// From when a lease is good, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until {
    pub(super) now: i64,
    pub(super) ttl: i64,
}

impl Until {
    fn end(self) -> i64 {
        self.now.saturating_add(self.ttl)
    }
}

pub(super) async fn take(database: &Database, worker: &WorkerInfo, until: Until) -> Result<Option<Lease>, Fault> {
    let mut tx = database.begin().await?;
    workers::seen(&mut tx, worker, until.now).await?;
    let statement = Statement::new("UPDATE job_tasks SET is_held = 1, attempt = attempt + 1, worker = ")
        .push_value(&worker.name)
        .push(", due_at = ")
        .push_value(until.end())
        .push(" WHERE id = (");
    let taken = push_next_task(statement, &worker.models, until.now)
        .push(database.dialect().skip_locked())
        .push(") RETURNING id, batch_id, kind, attempt, document")
        .row(&mut tx)
        .await?;
    let Some(row) = taken else {
        tx.commit().await?;
        return Ok(None);
    };
    let kind = match text(&row, "kind")?.as_str() {
        "validate" => TaskKind::Validate,
        "run" => TaskKind::Run(document(&row, "document")?),
        _ => TaskKind::Finalize,
    };
    let task = Task { id: TaskId(integer(&row, "id")?), kind, attempt: integer(&row, "attempt")? };
    let select = Statement::new("SELECT document FROM job_batches WHERE id = $1").bind(text(&row, "batch_id")?);
    let batch: Batch = document(&select.row(&mut tx).await?.ok_or(sqlx::Error::RowNotFound)?, "document")?;
    tx.commit().await?;
    Ok(Some(Lease { task, batch, worker: worker.name.clone(), expires_at: until.end() }))
}

/// A `SELECT` of the next task for a worker that serves these models.
pub(super) fn push_next_task(statement: Statement, models: &[String], now: i64) -> Statement {
    // The sign keeps databases from gathering all tasks that are due, to sort them: the first by order is most likely due.
    let statement = statement.push("SELECT id FROM job_tasks WHERE is_open = 1 AND +due_at <= ").push_value(now);
    let statement = if models.is_empty() {
        statement
    } else {
        statement.push(" AND (model IS NULL OR model IN ").push_list(models).push(")")
    };
    statement.push(" ORDER BY priority DESC, batch_seq, id LIMIT 1")
}

pub(super) async fn renew(
    database: &Database,
    lease: &Lease,
    progress: &ChunkProgress,
    until: Until,
) -> Result<LeaseState, Fault> {
    let mut tx = database.begin().await?;
    let is_run = matches!(lease.task.kind, TaskKind::Run(_));
    let statement = Statement::new("UPDATE job_tasks SET due_at = ").push_value(until.end());
    let statement = if is_run { push_progress(statement, progress) } else { statement };
    if push_holder(statement, lease).execute(&mut tx).await? == 0 {
        return Ok(LeaseState::Lost);
    }
    workers::renew(&mut tx, &lease.worker, is_run.then_some(progress.tokens_per_second), until.now).await?;
    let select = Statement::new("SELECT document FROM job_batches WHERE id = $1").bind(&lease.batch.id);
    let batch = document(&select.row(&mut tx).await?.ok_or(sqlx::Error::RowNotFound)?, "document")?;
    tx.commit().await?;
    Ok(LeaseState::of(&lease.task.kind, &batch))
}

/// Of an `UPDATE` of a task: how far it is.
pub(super) fn push_progress(statement: Statement, progress: &ChunkProgress) -> Statement {
    let columns = [
        (", completed = ", progress.counts.completed),
        (", failed = ", progress.counts.failed),
        (", input_tokens = ", progress.usage.input_tokens),
        (", cached_tokens = ", progress.usage.cached_tokens),
        (", output_tokens = ", progress.usage.output_tokens),
    ];
    columns.into_iter().fold(statement, |statement, (column, number)| statement.push(column).push_value(number))
}

/// Of an `UPDATE` of a task: only if this lease holds it.
fn push_holder(statement: Statement, lease: &Lease) -> Statement {
    statement
        .push(" WHERE id = ")
        .push_value(lease.task.id.0)
        .push(" AND attempt = ")
        .push_value(lease.task.attempt)
        .push(" AND worker = ")
        .push_value(&lease.worker)
        .push(" AND is_held = 1")
}

/// Makes batches whose completion window is over end early.
pub(super) async fn expire_overdue(database: &Database, now: i64) -> Result<(), JobError> {
    for id in repeat(|| overdue(database, now)).await? {
        repeat(|| expire(database, &id, now)).await?;
    }
    Ok(())
}

async fn overdue(database: &Database, now: i64) -> Result<Vec<String>, Fault> {
    let mut connection = database.read().await?;
    let rows = Statement::new(OVERDUE).bind(now).bind(OVERDUE_AT_ONCE).rows(&mut connection).await?;
    Ok(rows.iter().map(|row| text(row, "id")).collect::<Result<_, _>>()?)
}

/// Makes a batch end early if its completion window is over and that still matters.
pub(super) async fn expire(database: &Database, id: &str, now: i64) -> Result<(), Fault> {
    let Some(mut job) = Job::lock(database, id).await? else { return Ok(()) };
    let goes_on = matches!(job.batch.status, BatchStatus::Validating | BatchStatus::InProgress);
    if !goes_on || job.batch.ends_early_as().is_some() || now < job.batch.expires_at {
        return Ok(());
    }
    job.batch.expired_at = Some(now);
    job.end_early(now).await?;
    job.commit().await?;
    Ok(())
}

pub(super) async fn next_due(database: &Database, now: i64) -> Result<Option<i64>, Fault> {
    let mut connection = database.read().await?;
    let mut due: Option<i64> = None;
    for select in EARLIEST {
        let row = Statement::new(select).row(&mut connection).await?.ok_or(sqlx::Error::RowNotFound)?;
        let other: Option<i64> = sqlx::Row::try_get(&row, "due")?;
        due = due.into_iter().chain(other).min();
    }
    Ok(due.map(|due| due.max(now)))
}

pub(super) async fn attempts(database: &Database, id: TaskId) -> Result<Option<i64>, Fault> {
    let mut connection = database.read().await?;
    let row = Statement::new("SELECT attempt FROM job_tasks WHERE id = $1").bind(id.0).row(&mut connection).await?;
    Ok(row.map(|row| integer(&row, "attempt")).transpose()?)
}
