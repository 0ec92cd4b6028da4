//! How is a database asked?
//!
//! The same text for SQLite and PostgreSQL: parameters are `$1`, `$2`, …, and no value is ever null.

use std::fmt::Write as _;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Any, AnyConnection, AssertSqlSafe, Row as _};

use super::TaskStoreError;
use crate::jobs::JobError;

type Result<T> = std::result::Result<T, TaskStoreError>;

/// A statement that is put together of fixed texts and of values, which never become part of its text.
#[derive(Default)]
pub(super) struct Sql {
    text: String,
    arguments: AnyArguments,
    num_values: usize,
}

/// A value of a statement.
pub(super) enum SqlValue {
    Text(String),
    Integer(i64),
    Real(f64),
}

impl From<&str> for SqlValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for SqlValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for SqlValue {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for SqlValue {
    fn from(is_so: bool) -> Self {
        Self::Integer(is_so.into())
    }
}

impl From<f64> for SqlValue {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

impl Sql {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    /// A statement whose values are all known.
    pub(super) fn with(text: &'static str, values: impl IntoIterator<Item = SqlValue>) -> Self {
        let mut sql = Self::new(text);
        values.into_iter().for_each(|value| sql.add(value));
        sql
    }

    /// Goes on with a fixed text.
    pub(super) fn text(mut self, text: &'static str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Goes on with a value.
    pub(super) fn value(mut self, value: impl Into<SqlValue>) -> Self {
        self.add(value.into());
        let _ = write!(self.text, "${}", self.num_values);
        self
    }

    /// Goes on with a condition, if there is a value for it.
    pub(super) fn when(self, text: &'static str, value: Option<impl Into<SqlValue>>) -> Self {
        match value {
            Some(value) => self.text(text).value(value),
            None => self,
        }
    }

    fn add(&mut self, value: SqlValue) {
        use sqlx::Arguments as _;
        let added = match value {
            SqlValue::Text(text) => self.arguments.add(text),
            SqlValue::Integer(number) => self.arguments.add(number),
            SqlValue::Real(number) => self.arguments.add(number),
        };
        // Texts and numbers always become values.
        debug_assert!(added.is_ok());
        self.num_values += 1;
    }

    /// Runs it, and says how many rows it changed.
    pub(super) async fn execute(self, connection: &mut AnyConnection) -> Result<u64> {
        let query = sqlx::query_with::<Any, _>(AssertSqlSafe(self.text), self.arguments);
        Ok(query.execute(connection).await.map_err(store_error)?.rows_affected())
    }

    /// Runs it, and reads its rows.
    pub(super) async fn rows(self, connection: &mut AnyConnection) -> Result<Vec<AnyRow>> {
        let query = sqlx::query_with::<Any, _>(AssertSqlSafe(self.text), self.arguments);
        query.fetch_all(connection).await.map_err(store_error)
    }

    /// Runs it, and reads its first row.
    pub(super) async fn row(self, connection: &mut AnyConnection) -> Result<Option<AnyRow>> {
        let query = sqlx::query_with::<Any, _>(AssertSqlSafe(self.text), self.arguments);
        query.fetch_optional(connection).await.map_err(store_error)
    }
}

pub(super) fn text(row: &AnyRow, column: &str) -> Result<String> {
    row.try_get(column).map_err(store_error)
}

pub(super) fn integer(row: &AnyRow, column: &str) -> Result<i64> {
    row.try_get(column).map_err(store_error)
}

pub(super) fn real(row: &AnyRow, column: &str) -> Result<f64> {
    row.try_get(column).map_err(store_error)
}

/// What the database says.
pub(super) fn store_error(error: sqlx::Error) -> TaskStoreError {
    JobError::from(error).into()
}
