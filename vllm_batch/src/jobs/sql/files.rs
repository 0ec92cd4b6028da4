//! Files: what is known of them.

use sqlx::AnyConnection;

use super::{Database, Fault, Statement, document, integer, text, to_document};
use crate::jobs::{FileObject, FileQuery, JobError, Order, Page};

/// The batch that needs a file.
pub(super) const USER: &str = "SELECT id FROM job_batches WHERE input_file_id = $1 AND ended_at IS NULL LIMIT 1";

pub(super) async fn insert(database: &Database, file: &FileObject) -> Result<(), Fault> {
    let mut tx = database.begin().await?;
    add(&mut tx, file).await?;
    tx.commit().await
}

/// Adds a file within a transaction.
pub(super) async fn add(connection: &mut AnyConnection, file: &FileObject) -> Result<(), Fault> {
    let added =
        Statement::new("INSERT INTO job_files (id, owner, purpose, expires_at, document) VALUES ($1, $2, $3, $4, $5)")
            .bind(&file.id)
            .bind(&file.owner)
            .bind(file.purpose.as_str())
            .bind(file.expires_at)
            .bind(to_document(file)?)
            .execute(connection)
            .await;
    added.map(|_| ()).map_err(|error| taken_if_duplicate(error, &file.id))
}

/// An id is taken: nothing was added.
pub(super) fn taken_if_duplicate(error: sqlx::Error, id: &str) -> Fault {
    match Fault::Sql(error) {
        fault if fault.is_duplicate() => {
            JobError::InvalidParameter { param: "id", message: format!("{id:?} is taken") }.into()
        }
        fault => fault,
    }
}

pub(super) async fn get(database: &Database, id: &str) -> Result<Option<FileObject>, Fault> {
    let mut connection = database.read().await?;
    let row = Statement::new("SELECT document FROM job_files WHERE id = $1").bind(id).row(&mut connection).await?;
    Ok(row.map(|row| document(&row, "document")).transpose()?)
}

pub(super) async fn page(database: &Database, query: &FileQuery) -> Result<Page<FileObject>, Fault> {
    let mut connection = database.read().await?;
    let mut statement = Statement::new("SELECT document FROM job_files WHERE 1 = 1");
    if let Some(owner) = &query.owner {
        statement = statement.push(" AND owner = ").push_value(owner);
    }
    if let Some(purpose) = query.purpose {
        statement = statement.push(" AND purpose = ").push_value(purpose.as_str());
    }
    let list = List { table: "job_files", what: "file", owner: query.owner.as_deref(), after: query.after.as_deref() };
    let (rows, has_more) = list.page(&mut connection, statement, (query.order, query.limit)).await?;
    let data = rows.iter().map(|row| document(row, "document")).collect::<Result<_, _>>()?;
    Ok(Page { data, has_more })
}

/// A table with `seq`, `id` and `owner`, as somebody pages through it.
pub(super) struct List<'a> {
    pub(super) table: &'a str,
    pub(super) what: &'static str,
    pub(super) owner: Option<&'a str>,
    pub(super) after: Option<&'a str>,
}

impl List<'_> {
    /// The rows of a page, of those that a statement selects so far, and whether more come after them.
    pub(super) async fn page(
        &self,
        connection: &mut AnyConnection,
        mut statement: Statement,
        (order, limit): (Order, usize),
    ) -> Result<(Vec<sqlx::any::AnyRow>, bool), Fault> {
        let (comes_after, direction) = match order {
            Order::Descending => (" AND seq < ", "DESC"),
            Order::Ascending => (" AND seq > ", "ASC"),
        };
        if let Some(after) = self.after {
            statement = statement.push(comes_after).push_value(self.place(connection, after).await?);
        }
        statement = statement.push(&format!(" ORDER BY seq {direction} LIMIT ")).push_value(limit.saturating_add(1));
        let mut rows = statement.rows(connection).await?;
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        Ok((rows, has_more))
    }

    /// Where a row is that the caller may know of.
    async fn place(&self, connection: &mut AnyConnection, id: &str) -> Result<i64, Fault> {
        let select = format!("SELECT seq, owner FROM {} WHERE id = $1", self.table);
        let unknown = || JobError::NotFound { what: self.what, id: id.to_owned() };
        let row = Statement::new(&select).bind(id).row(connection).await?.ok_or_else(unknown)?;
        let owner = text(&row, "owner")?;
        if self.owner.is_some_and(|wanted| wanted != owner) {
            return Err(unknown().into());
        }
        Ok(integer(&row, "seq")?)
    }
}

pub(super) async fn delete(database: &Database, id: &str) -> Result<bool, Fault> {
    let mut tx = database.begin().await?;
    // Whoever adds a batch with this input holds the row until the batch is there.
    let select = format!("SELECT seq FROM job_files WHERE id = $1{}", database.dialect().for_update());
    if Statement::new(&select).bind(id).row(&mut tx).await?.is_none() {
        return Ok(false);
    }
    if let Some(row) = Statement::new(USER).bind(id).row(&mut tx).await? {
        return Err(JobError::FileInUse { id: id.to_owned(), batch_id: text(&row, "id")? }.into());
    }
    Statement::new("DELETE FROM job_files WHERE id = $1").bind(id).execute(&mut tx).await?;
    tx.commit().await?;
    Ok(true)
}

pub(super) async fn expired(database: &Database, now: i64, limit: usize) -> Result<Vec<FileObject>, Fault> {
    let mut connection = database.read().await?;
    let select = "SELECT document FROM job_files WHERE expires_at IS NOT NULL AND expires_at <= $1 AND NOT EXISTS \
                  (SELECT 1 FROM job_batches WHERE input_file_id = job_files.id AND ended_at IS NULL) \
                  ORDER BY expires_at, seq LIMIT $2";
    let rows = Statement::new(select).bind(now).bind(limit).rows(&mut connection).await?;
    Ok(rows.iter().map(|row| document(row, "document")).collect::<Result<_, _>>()?)
}
