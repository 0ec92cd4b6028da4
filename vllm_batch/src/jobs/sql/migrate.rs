//! How does a database get its tables, and those of a newer version?
//!
//! `sqlx` brings a migrator, which takes no lock on SQLite, so that two processes that start at once would both create the tables,
//! and which keeps one series of versions for a database. Here each part of this crate has a series of its own, and a
//! series is brought up to date in one transaction, which both databases can undo.

use sha2::{Digest, Sha256};
use sqlx::AssertSqlSafe;

use super::{Database, Fault, Statement, Tx, integer, repeat, text};
use crate::jobs::JobError;

/// What the versions of a series of tables are, from 1. One that was released is never changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Series {
    /// Its name.
    pub(crate) name: &'static str,
    /// What leads from the version before to this one. `SERIAL_KEY` stands for [`Dialect::serial_key`](super::database::Dialect::serial_key).
    pub(crate) versions: &'static [&'static str],
}

/// The key of the lock under which PostgreSQL is migrated, by one process at a time.
const LOCK: i64 = 0x0076_6c6c_6d5f_6d69;

impl Database {
    /// Brings a series of tables up to date. Does nothing if it is.
    ///
    /// # Errors
    /// [`JobError::Store`] if a newer program, or another one, has made the tables.
    pub(crate) async fn migrate(&self, series: Series) -> Result<(), JobError> {
        repeat(|| self.try_migrate(series)).await
    }

    async fn try_migrate(&self, series: Series) -> Result<(), Fault> {
        let mut tx = self.begin().await?;
        self.dialect().exclusive(&mut tx, LOCK).await?;
        let table = "CREATE TABLE IF NOT EXISTS vllm_batch_migrations (series TEXT NOT NULL, version BIGINT NOT NULL, \
                     sha256 TEXT NOT NULL, PRIMARY KEY (series, version))";
        Statement::new(table).execute(&mut tx).await?;
        let applied = applied(&mut tx, series).await?;
        for (version, sql) in (1_i64..).zip(series.versions).skip(applied) {
            tracing::info!(series = series.name, version, "the database is migrated");
            let sql = sql.replace("SERIAL_KEY", self.dialect().serial_key());
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await?;
            let done = "INSERT INTO vllm_batch_migrations (series, version, sha256) VALUES ($1, $2, $3)";
            let hash = hash(series.versions[version as usize - 1]);
            Statement::new(done).bind(series.name).bind(version).bind(hash).execute(&mut tx).await?;
        }
        tx.commit().await
    }
}

/// How many versions the database has, after a look at whether they are those of this program.
async fn applied(tx: &mut Tx, series: Series) -> Result<usize, Fault> {
    let select = "SELECT version, sha256 FROM vllm_batch_migrations WHERE series = $1 ORDER BY version";
    let rows = Statement::new(select).bind(series.name).rows(tx).await?;
    for (index, row) in rows.iter().enumerate() {
        let version = integer(row, "version")?;
        let is_known = version == index as i64 + 1;
        match series.versions.get(index).filter(|_| is_known) {
            None => return Err(refused(series, version, "is newer than this program")),
            Some(sql) if hash(sql) != text(row, "sha256")? => {
                return Err(refused(series, version, "was made by another program"));
            }
            Some(_) => {}
        }
    }
    Ok(rows.len())
}

fn refused(series: Series, version: i64, why: &str) -> Fault {
    let message = format!("version {version} of the tables of {} {why}", series.name);
    JobError::Store { message, is_transient: false }.into()
}

fn hash(sql: &str) -> String {
    format!("{:x}", Sha256::digest(sql))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Series = Series { name: "test", versions: &["CREATE TABLE a (x SERIAL_KEY, y BIGINT)"] };
    const NEW: Series = Series {
        name: "test",
        versions: &[OLD.versions[0], "ALTER TABLE a ADD COLUMN z TEXT; CREATE TABLE b (x TEXT)"],
    };
    const BROKEN: Series = Series { name: "test", versions: &[OLD.versions[0], "CREATE TABLE b (x TEXT); nonsense"] };
    const OTHER: Series = Series { name: "test", versions: &["CREATE TABLE c (x BIGINT)"] };

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
    }

    async fn exists(database: &Database, table: &str) -> bool {
        let mut connection = database.read().await.unwrap();
        Statement::new(&format!("SELECT COUNT(*) AS n FROM {table}")).row(&mut connection).await.is_ok()
    }

    #[test]
    fn a_series_is_brought_up_to_date_once_and_as_a_whole() {
        block_on(async {
            let database = Database::connect("sqlite::memory:").await.unwrap();
            database.migrate(OLD).await.unwrap();
            database.migrate(OLD).await.unwrap();
            assert!(exists(&database, "a").await && !exists(&database, "b").await);
            database.migrate(BROKEN).await.unwrap_err();
            assert!(!exists(&database, "b").await, "half of a version is there");
            database.migrate(NEW).await.unwrap();
            assert!(exists(&database, "b").await);
        });
    }

    #[test]
    fn tables_of_a_newer_or_another_program_are_left_alone() {
        block_on(async {
            let database = Database::connect("sqlite::memory:").await.unwrap();
            database.migrate(NEW).await.unwrap();
            for (series, expected) in [(OLD, "version 2 of the tables of test is newer"), (OTHER, "another program")] {
                let error = database.migrate(series).await.unwrap_err();
                assert!(error.to_string().contains(expected), "{error}");
            }
            assert!(!exists(&database, "c").await);
        });
    }

    #[test]
    fn programs_that_start_at_once_create_the_tables_once() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("jobs.db").display());
        block_on(async {
            let start = || async {
                // Each as a process of its own has it.
                Database::connect(&url).await.unwrap().migrate(NEW).await
            };
            let results = futures::future::join_all((0..8).map(|_| start())).await;
            assert!(results.iter().all(Result::is_ok), "{results:?}");
        });
    }
}
