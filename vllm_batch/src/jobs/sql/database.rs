//! How do SQLite and PostgreSQL differ, and what is done when one of them does not answer?

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Executor, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Statement, text};
use crate::http::RetryPolicy;
use crate::jobs::JobError;

/// Connections of a process. PostgreSQL allows 100 in all by default.
const MAX_CONNECTIONS: u32 = 16;
/// How long a call waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// What every connection to SQLite is told. What was committed survives a power cut; another process that writes is waited for.
const SQLITE_CONNECTION: &str =
    "PRAGMA busy_timeout = 30000; PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY";

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// A database that stores share.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pool: AnyPool,
    dialect: Dialect,
    /// SQLite has one writer. Those of this process wait here, in the order in which they came and without a connection, so
    /// that readers have theirs, and nobody is overtaken again and again.
    turn: Arc<Mutex<()>>,
}

/// A transaction that may write. What is not committed did not happen.
#[derive(Debug)]
pub(crate) struct Tx {
    inner: Transaction<'static, Any>,
    _turn: Option<OwnedMutexGuard<()>>,
}

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The database says so.
    Sql(sqlx::Error),
    /// The row was changed by another.
    Conflict,
    /// What was asked for cannot be done.
    Job(JobError),
}

impl Database {
    /// Connects, without a look at what is there.
    ///
    /// # Errors
    /// [`JobError::InvalidParameter`] for a URL that names no database of these kinds, [`JobError::Store`] if there is no answer.
    pub(crate) async fn connect(url: &str) -> Result<Self, JobError> {
        let dialect = Dialect::of(url)?;
        sqlx::any::install_default_drivers();
        let options: AnyConnectOptions = url.parse().map_err(|error| store_error(&error))?;
        let mut pool = AnyPoolOptions::new().max_connections(MAX_CONNECTIONS).acquire_timeout(ACQUIRE_TIMEOUT);
        if dialect == Dialect::Sqlite {
            pool = pool.after_connect(|connection, _| Box::pin(prepare_sqlite(connection)));
        }
        if is_in_memory(url) {
            // Each connection has a database of its own, which ends with it.
            pool = pool.max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None);
        }
        let pool = pool.connect_with(options).await.map_err(|error| store_error(&error))?;
        Ok(Self { pool, dialect, turn: Arc::default() })
    }

    /// Its connections.
    pub(crate) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Which database it is.
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// A connection for statements that change nothing.
    pub(crate) async fn read(&self) -> Result<PoolConnection<Any>, Fault> {
        Ok(self.pool.acquire().await?)
    }

    /// Begins to write.
    pub(crate) async fn begin(&self) -> Result<Tx, Fault> {
        match self.dialect {
            Dialect::Sqlite => {
                let turn = self.turn.clone().lock_owned().await;
                // A transaction that begins by reading could find later that another has written, and would have to begin again.
                Ok(Tx { inner: self.pool.begin_with("BEGIN IMMEDIATE").await?, _turn: Some(turn) })
            }
            Dialect::Postgres => Ok(Tx { inner: self.pool.begin().await?, _turn: None }),
        }
    }
}

impl Tx {
    /// Makes it last.
    pub(crate) async fn commit(self) -> Result<(), Fault> {
        self.inner.commit().await.map_err(|error| match error {
            sqlx::Error::Database(_) => Fault::Sql(error),
            // Whether it was done is not known, so it must not be done again.
            error => Fault::Job(store_error(&error)),
        })
    }
}

impl Deref for Tx {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.inner
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.inner
    }
}

impl Dialect {
    fn of(url: &str) -> Result<Self, JobError> {
        match url.split(':').next() {
            Some("sqlite") => Ok(Self::Sqlite),
            Some("postgres" | "postgresql") => Ok(Self::Postgres),
            // A URL may hold a password, so it is not repeated.
            _ => Err(JobError::InvalidParameter {
                param: "database_url",
                message: "expected sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE".to_owned(),
            }),
        }
    }

    /// For a `SELECT` of rows that this transaction changes.
    pub(crate) fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// For a `SELECT` of rows that must not be deleted meanwhile.
    pub(crate) fn for_share(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR SHARE",
        }
    }

    /// For a `SELECT` of rows that this transaction changes, without those that another one changes.
    pub(crate) fn skip_locked(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// A key that counts up; a number is never given twice.
    pub(crate) fn serial_key(self) -> &'static str {
        match self {
            Self::Sqlite => "INTEGER PRIMARY KEY AUTOINCREMENT",
            Self::Postgres => "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        }
    }

    /// Lets one transaction at a time go on from here, among those that name the same key. SQLite has but one in any case.
    pub(crate) async fn exclusive(self, connection: &mut AnyConnection, key: i64) -> Result<(), sqlx::Error> {
        if self == Self::Postgres {
            Statement::new("SELECT pg_advisory_xact_lock($1)").bind(key).execute(connection).await?;
        }
        Ok(())
    }
}

/// Does something until it comes to its end, or fails for a reason that stays. Transactions that get in each other's way
/// begin again after a moment.
pub(crate) async fn repeat<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, JobError>
where
    F: Future<Output = Result<T, Fault>>,
{
    let policy = RetryPolicy {
        max_retries: 8,
        base: Duration::from_millis(10),
        max_pause: Duration::from_secs(1),
        deadline: Duration::MAX,
    };
    let mut tries = 0;
    loop {
        match attempt().await {
            Err(fault) if fault.may_pass() && tries < policy.max_retries => {
                tries += 1;
                tracing::debug!(tries, ?fault, "a transaction begins again");
                tokio::time::sleep(policy.pause(tries, None)).await;
            }
            result => return Ok(result?),
        }
    }
}

impl Fault {
    /// Whether the same transaction may come to its end a moment later. It did not happen.
    fn may_pass(&self) -> bool {
        match self {
            Self::Conflict | Self::Sql(sqlx::Error::Io(_)) => true,
            Self::Sql(sqlx::Error::Database(error)) => error.code().is_some_and(|code| is_conflict(&code)),
            Self::Sql(_) | Self::Job(_) => false,
        }
    }

    /// Whether a row with a key that must be unique is there already.
    pub(crate) fn is_duplicate(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(error)) if error.is_unique_violation())
    }

    /// Whether a row names another that is not there.
    pub(crate) fn is_orphan(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(error)) if error.is_foreign_key_violation())
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<JobError> for Fault {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}

impl From<Fault> for JobError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Sql(error) => store_error(&error),
            Fault::Conflict => {
                Self::Store { message: "others changed the same again and again".to_owned(), is_transient: true }
            }
            Fault::Job(error) => error,
        }
    }
}

fn store_error(error: &sqlx::Error) -> JobError {
    if matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some(NO_CHARACTER)) {
        let message = "it has the character U+0000, which the database does not know".to_owned();
        return JobError::InvalidParameter { param: "text", message };
    }
    let is_transient = match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_conflict(&code) || is_outage(&code)),
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        _ => false,
    };
    JobError::Store { message: error.to_string(), is_transient }
}

/// What PostgreSQL says of a text with a zero byte: character not in repertoire.
const NO_CHARACTER: &str = "22021";

/// Codes of transactions that got in each other's way, and of locks that were not there in time.
///
/// SQLite: <https://www.sqlite.org/rescode.html>, at most four digits, whose low byte says which kind: busy, locked.
/// PostgreSQL: <https://www.postgresql.org/docs/current/errcodes-appendix.html>: serialization failure, deadlock detected, lock
/// not available.
fn is_conflict(code: &str) -> bool {
    matches!(code, "40001" | "40P01" | "55P03")
        || code.len() < 5 && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6))
}

/// Codes of a server of PostgreSQL that is not there, or is full: connection exceptions, insufficient resources, operator
/// intervention.
fn is_outage(code: &str) -> bool {
    code.len() == 5 && (code.starts_with("08") || code.starts_with("53") || code.starts_with("57"))
}

/// Whether a URL of SQLite names no file.
fn is_in_memory(url: &str) -> bool {
    url.starts_with("sqlite:") && (url.contains(":memory:") || url.contains("mode=memory"))
}

async fn prepare_sqlite(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    connection.execute(SQLITE_CONNECTION).await?;
    // Readers and the writer do not wait for each other. The file remembers it; to change it needs the file alone.
    let mode = Statement::new("PRAGMA journal_mode").row(connection).await?;
    if mode.is_some_and(|row| text(&row, "journal_mode").is_ok_and(|mode| mode == "delete")) {
        connection.execute("PRAGMA journal_mode = WAL").await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_what_may_pass() {
        let cases = [
            // SQLite: busy, locked, busy recovery, busy snapshot; constraint, corrupt, full.
            ("5", true, false),
            ("6", true, false),
            ("261", true, false),
            ("517", true, false),
            ("2067", false, false),
            ("11", false, false),
            ("13", false, false),
            // PostgreSQL: serialization, deadlock; connection, shutdown, too many; a character, unique.
            ("40001", true, false),
            ("40P01", true, false),
            ("08006", false, true),
            ("57P01", false, true),
            ("53300", false, true),
            ("22021", false, false),
            ("23505", false, false),
        ];
        for (code, conflict, outage) in cases {
            let found = (is_conflict(code), is_outage(code));
            assert_eq!(found, (conflict, outage), "{code}");
        }
    }

    #[test]
    fn urls_name_a_database_that_is_known() {
        assert_eq!(Dialect::of("sqlite://jobs.db?mode=rwc").ok(), Some(Dialect::Sqlite));
        assert_eq!(Dialect::of("postgresql://me@localhost/jobs").ok(), Some(Dialect::Postgres));
        let error = Dialect::of("mysql://me:hunter2@localhost/jobs").unwrap_err();
        assert_eq!(error.code(), "invalid_parameter");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(is_in_memory("sqlite::memory:") && is_in_memory("sqlite://x?mode=memory"));
        assert!(!is_in_memory("sqlite://memory.db") && !is_in_memory("postgres://a/:memory:"));
    }
}
