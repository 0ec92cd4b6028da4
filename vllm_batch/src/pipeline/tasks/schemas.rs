//! Which schemas do tasks have?

use std::sync::{Arc, PoisonError};

use super::{Result, Stop, TaskStore, unknown_schema};
use crate::curate::{CompiledSchema, RegistryError, SchemaRef, SchemaRegistry, TaskSchema, Version};
use crate::jobs::sql::{Statement, text};

impl TaskStore {
    /// All schemas that are known here.
    pub fn schemas(&self) -> SchemaRegistry {
        self.schemas.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Registers a schema for all who share the database. One that is there already, word for word, is given back.
    ///
    /// # Errors
    /// As [`SchemaRegistry::register`].
    pub async fn register(&self, schema: TaskSchema, now: i64) -> Result<Arc<CompiledSchema>> {
        // What others registered since decides whether this one may follow.
        self.reload_schemas().await?;
        let mut checked = self.schemas();
        let compiled = checked.register(schema)?;
        let named = compiled.schema().reference();
        let document = serde_json::to_string(compiled.schema()).unwrap_or_default();
        let insert = "INSERT INTO curation_schemas (schema_id, schema_version, document, created_at) VALUES ($1, $2, $3, $4) \
                      ON CONFLICT (schema_id, schema_version) DO NOTHING";
        self.transaction(|| async {
            let mut tx = self.database.begin().await?;
            let statement = Statement::new(insert).bind(named.id.as_str()).bind(named.version.to_string());
            statement.bind(document.as_str()).bind(now).execute(&mut tx).await?;
            Ok(tx.commit().await?)
        })
        .await?;
        // If somebody was faster with another document, this one is not registered.
        self.reload_schemas().await?;
        match self.known_schema(&named)? {
            known if known.sha256() == compiled.sha256() => Ok(known),
            _ => Err(RegistryError::Conflict { schema: named }.into()),
        }
    }

    /// Reads the schemas that others registered.
    ///
    /// # Errors
    /// The database does not answer, or has another schema under a name and version that is known here.
    pub async fn reload_schemas(&self) -> Result<()> {
        let documents = self.transaction(|| self.stored_schemas()).await?;
        self.adopt(&documents)
    }

    /// Adds schemas to those that are known here: all of them, or none.
    pub(super) fn adopt(&self, documents: &[String]) -> Result<()> {
        let mut new = Vec::new();
        for document in documents {
            new.push(TaskSchema::from_json(document).map_err(RegistryError::from)?.schema);
        }
        // A version is compared with those before it.
        new.sort_by(|a, b| a.version.cmp(&b.version));
        // Held all the while: what another thread adds meanwhile would be lost.
        let mut known = self.schemas.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = known.clone();
        for schema in new {
            all.register(schema)?;
        }
        *known = all;
        Ok(())
    }

    /// One version of a schema, also if another process registered it a moment ago.
    ///
    /// # Errors
    /// [`RegistryError::UnknownSchema`].
    pub async fn schema(&self, named: &SchemaRef) -> Result<Arc<CompiledSchema>> {
        if let Ok(known) = self.known_schema(named) {
            return Ok(known);
        }
        self.reload_schemas().await?;
        self.known_schema(named)
    }

    /// The schema that `name` or `name@version` names: without a version the newest release.
    ///
    /// # Errors
    /// [`RegistryError::UnknownSchema`]; [`InvalidParameter`](super::TaskStoreError::InvalidParameter) for a text that names none.
    pub async fn find_schema(&self, name: &str) -> Result<Arc<CompiledSchema>> {
        if name.contains('@') {
            let named: SchemaRef = name.parse().map_err(|error: crate::curate::InvalidSchemaRef| invalid(&error))?;
            return self.schema(&named).await;
        }
        let id = name.parse().map_err(|error: crate::curate::InvalidIdent| invalid(&error))?;
        if self.schemas().get(name).is_none() {
            self.reload_schemas().await?;
        }
        let named = SchemaRef { id, version: Version::new(0, 0, 0) };
        self.schemas().get(name).ok_or_else(|| unknown_schema(&named))
    }

    /// The schema that `name` or `name@version` names: without a version the newest one that has tasks, else the newest release.
    ///
    /// # Errors
    /// As [`find_schema`](Self::find_schema).
    pub async fn find_used_schema(&self, name: &str) -> Result<Arc<CompiledSchema>> {
        let newest = self.find_schema(name).await?;
        if name.contains('@') {
            return Ok(newest);
        }
        let select = "SELECT DISTINCT schema_version FROM curation_tasks WHERE schema_id = $1";
        let used = self
            .transaction(|| async {
                let mut connection = self.database.read().await?;
                let rows = Statement::new(select).bind(name).rows(&mut connection).await?;
                Ok(rows.iter().map(|row| text(row, "schema_version")).collect::<std::result::Result<Vec<_>, _>>()?)
            })
            .await?;
        match used.iter().filter_map(|version| Version::parse(version).ok()).max() {
            Some(version) => self.schema(&SchemaRef { id: newest.schema().id.clone(), version }).await,
            None => Ok(newest),
        }
    }

    /// One version of a schema that is known in this process.
    pub(super) fn known_schema(&self, named: &SchemaRef) -> Result<Arc<CompiledSchema>> {
        self.schemas().get_version(&named.id, &named.version).ok_or_else(|| unknown_schema(named))
    }

    async fn stored_schemas(&self) -> std::result::Result<Vec<String>, Stop> {
        let mut connection = self.database.read().await?;
        let rows = Statement::new("SELECT document FROM curation_schemas").rows(&mut connection).await?;
        Ok(rows.iter().map(|row| text(row, "document")).collect::<std::result::Result<_, _>>()?)
    }
}

fn invalid(error: &dyn std::error::Error) -> super::TaskStoreError {
    super::TaskStoreError::InvalidParameter { param: "schema", message: error.to_string() }
}
