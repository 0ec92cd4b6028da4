//! A statement and its values.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{AnyConnection, Arguments, AssertSqlSafe, Row};

/// SQL whose text comes from this program alone; whatever comes from outside is a value.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    text: String,
    values: Vec<Value>,
}

/// What a column may hold.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
    Float(f64),
}

impl Statement {
    /// A statement that begins with this text.
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }

    /// More of its text.
    pub(crate) fn push(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// A value for the next place: `$1`, `$2`, … as they stand in the text.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// A place in the text and its value.
    pub(crate) fn push_value(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        let place = self.values.len();
        self.push(&format!("${place}"))
    }

    /// A place and its value, or `NULL` in the text. sqlx 0.9 gives a null `f64` the type of an `f32`, and PostgreSQL, which keeps the
    /// types that a statement was prepared with, then refuses an `f64` in the same place.
    pub(crate) fn push_float(self, value: Option<f64>) -> Self {
        match value {
            Some(number) => self.push_value(number),
            None => self.push("NULL"),
        }
    }

    /// Places in parentheses, and their values.
    pub(crate) fn push_list<V: Into<Value>>(self, values: impl IntoIterator<Item = V>) -> Self {
        let mut statement = self.push("(");
        for (index, value) in values.into_iter().enumerate() {
            statement = if index > 0 { statement.push(", ") } else { statement }.push_value(value);
        }
        statement.push(")")
    }

    /// Runs it, and returns how many rows it changed.
    pub(crate) async fn execute(self, connection: &mut AnyConnection) -> Result<u64, sqlx::Error> {
        let (text, arguments) = self.into_parts()?;
        Ok(sqlx::query_with(AssertSqlSafe(text), arguments).execute(connection).await?.rows_affected())
    }

    /// Runs it, and returns all rows: a statement that changes something is not over before.
    pub(crate) async fn rows(self, connection: &mut AnyConnection) -> Result<Vec<AnyRow>, sqlx::Error> {
        let (text, arguments) = self.into_parts()?;
        sqlx::query_with(AssertSqlSafe(text), arguments).fetch_all(connection).await
    }

    /// Runs it, and returns the first row.
    pub(crate) async fn row(self, connection: &mut AnyConnection) -> Result<Option<AnyRow>, sqlx::Error> {
        Ok(self.rows(connection).await?.into_iter().next())
    }

    fn into_parts(self) -> Result<(String, AnyArguments), sqlx::Error> {
        let mut arguments = AnyArguments::default();
        for value in self.values {
            let added = match value {
                Value::Text(text) => arguments.add(text),
                Value::Integer(number) => arguments.add(number),
                Value::Float(number) => arguments.add(number),
            };
            added.map_err(sqlx::Error::Encode)?;
        }
        Ok((self.text, arguments))
    }
}

/// A text in a row.
pub(crate) fn text(row: &AnyRow, column: &str) -> Result<String, sqlx::Error> {
    row.try_get(column)
}

/// A number in a row.
pub(crate) fn integer(row: &AnyRow, column: &str) -> Result<i64, sqlx::Error> {
    row.try_get(column)
}

/// What a column's text says as JSON.
pub(crate) fn document<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(&text(row, column)?).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// A value as JSON.
pub(crate) fn to_document(value: &impl serde::Serialize) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(Some(text.clone()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(Some(number))
    }
}

/// Databases count with a sign; no count here comes near.
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

/// As above.
impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::from(number as u64)
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Integer(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}
