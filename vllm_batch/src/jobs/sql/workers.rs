//! Workers, as they were heard of last.

use sqlx::{AnyConnection, Row};

use super::database::{Database, Fault};
use super::statement::{Statement, document, integer, text, to_document};
use crate::jobs::WorkerInfo;

/// A worker that was silent for so many seconds is forgotten when another one comes.
const FORGOTTEN_AFTER: i64 = 24 * 60 * 60;

/// Notes what a worker says of itself.
pub(super) async fn note(database: &Database, worker: &WorkerInfo) -> Result<(), Fault> {
    let mut tx = database.begin().await?;
    seen(&mut tx, worker, worker.last_seen).await?;
    tx.commit().await
}

/// Forgets a worker that ended.
pub(super) async fn forget(database: &Database, name: &str) -> Result<(), Fault> {
    let mut tx = database.begin().await?;
    Statement::new("DELETE FROM job_workers WHERE name = $1").bind(name).execute(&mut tx).await?;
    tx.commit().await
}

/// Notes that a worker asked for a task.
pub(super) async fn seen(connection: &mut AnyConnection, worker: &WorkerInfo, now: i64) -> Result<(), sqlx::Error> {
    let models = to_document(&worker.models)?;
    let values = |statement: Statement| {
        statement
            .bind(now)
            .bind(models.as_str())
            .bind(worker.started_at)
            .bind(worker.tokens_per_second)
            .bind(&worker.name)
    };
    let known = "UPDATE job_workers SET last_seen = $1, models = $2, started_at = $3, tokens_per_second = $4, \
                 rows_per_second = ";
    let known = values(Statement::new(known)).push_float(worker.rows_per_second).push(" WHERE name = $5");
    if known.execute(connection).await? > 0 {
        return Ok(());
    }
    let forget = "DELETE FROM job_workers WHERE last_seen < $1";
    Statement::new(forget).bind(now.saturating_sub(FORGOTTEN_AFTER)).execute(connection).await?;
    let new = "INSERT INTO job_workers (last_seen, models, started_at, tokens_per_second, name, rows_per_second) \
               VALUES ($1, $2, $3, $4, $5, ";
    let replace = ") ON CONFLICT (name) DO UPDATE SET last_seen = excluded.last_seen, models = excluded.models, \
                   started_at = excluded.started_at, tokens_per_second = excluded.tokens_per_second, \
                   rows_per_second = excluded.rows_per_second";
    let new = values(Statement::new(new)).push_float(worker.rows_per_second).push(replace);
    new.execute(connection).await?;
    Ok(())
}

/// Notes that a worker said something of its task, and how fast it is if it said that.
pub(super) async fn renew(
    connection: &mut AnyConnection,
    name: &str,
    tokens_per_second: Option<f64>,
    now: i64,
) -> Result<(), sqlx::Error> {
    let mut statement = Statement::new("UPDATE job_workers SET last_seen = ").push_value(now);
    if let Some(speed) = tokens_per_second {
        statement = statement.push(", tokens_per_second = ").push_value(speed);
    }
    statement.push(" WHERE name = ").push_value(name).execute(connection).await?;
    Ok(())
}

pub(super) async fn list(database: &Database, since: i64) -> Result<Vec<WorkerInfo>, Fault> {
    let mut connection = database.read().await?;
    let select = "SELECT name, models, started_at, last_seen, tokens_per_second, rows_per_second FROM job_workers WHERE last_seen >= $1";
    let mut workers = Vec::new();
    for row in Statement::new(select).bind(since).rows(&mut connection).await? {
        workers.push(WorkerInfo {
            name: text(&row, "name")?,
            models: document(&row, "models")?,
            started_at: integer(&row, "started_at")?,
            last_seen: integer(&row, "last_seen")?,
            tokens_per_second: row.try_get("tokens_per_second")?,
            rows_per_second: row.try_get("rows_per_second")?,
        });
    }
    // Databases order texts by rules of their own.
    workers.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(workers)
}
