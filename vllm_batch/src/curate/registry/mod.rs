//! Which schemas are there, in which versions, and what became of old answers?

mod compare;
mod diff;
mod error;
mod folder;
mod kinds;
mod migrate;
mod records;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use semver::{Version, VersionReq};

use super::{CompiledSchema, Ident, TaskSchema};

pub use diff::{Bump, Change, ChangeKind, SchemaDiff};
pub use error::RegistryError;
pub use folder::{SchemaFile, SchemaFolder};
pub use migrate::{ChangedAnswer, LossReason, LostAnswer, MigrationReport};
pub use records::{RecordMigration, RecordsReport};

type Versions = BTreeMap<Version, Arc<CompiledSchema>>;

/// Schemas by name and version. A version that is registered stays as it is, and one that breaks with what came before it must
/// say so. Clones are cheap and share what they hold.
///
/// # Example
/// ```
/// use vllm_batch::curate::{SchemaRegistry, TaskSchema};
///
/// let mut registry = SchemaRegistry::builtin();
/// let emails = registry.get("email_evaluation").expect("it is built in");
/// assert_eq!(emails.schema().questions[0].id, "tone");
///
/// let mut next = emails.schema().clone();
/// next.questions.remove(0);
/// next.version = "1.0.1".parse()?;
/// let error = registry.register(next.clone()).unwrap_err();
/// assert_eq!(error.code(), "bump_too_small");
/// next.version = "2.0.0".parse()?;
/// registry.register(next)?;
/// assert_eq!(registry.get("email_evaluation").expect("two versions").schema().version.major, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct SchemaRegistry {
    schemas: Arc<BTreeMap<Ident, Versions>>,
}

impl SchemaRegistry {
    /// A registry without schemas.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The schemas that come with the library: `candidate_evaluation`, `cartographer`, `cv_parsing`, `email_evaluation`,
    /// `quil_email` and `report_evaluation`.
    ///
    /// # Panics
    /// Never: that they can be registered is tested.
    #[must_use]
    pub fn builtin() -> Self {
        static BUILTIN: OnceLock<SchemaRegistry> = OnceLock::new();
        let read = || {
            let mut registry = Self::new();
            for json in super::builtin::SCHEMAS {
                let schema = TaskSchema::from_json(json).expect("a schema of the library").schema;
                registry.register(schema).expect("a schema of the library");
            }
            registry
        };
        BUILTIN.get_or_init(read).clone()
    }

    /// Compiles a schema and adds it. A schema that is there already, word for word, is given back as it is.
    ///
    /// # Errors
    /// [`Invalid`](RegistryError::Invalid) if it does not compile; [`Conflict`](RegistryError::Conflict) if another document
    /// has its name and version; [`BumpTooSmall`](RegistryError::BumpTooSmall) if its version does not say how much it
    /// changes since the release before it, or if that of the release after it would not.
    pub fn register(&mut self, schema: TaskSchema) -> Result<Arc<CompiledSchema>, RegistryError> {
        let compiled = Arc::new(schema.compile()?);
        let reference = compiled.schema().reference();
        if let Some(versions) = self.schemas.get(&reference.id) {
            match versions.get(&reference.version) {
                Some(old) if old.sha256() == compiled.sha256() => return Ok(old.clone()),
                Some(_) => return Err(RegistryError::Conflict { schema: reference }),
                None => check_neighbours(versions, &compiled)?,
            }
        }
        let versions = Arc::make_mut(&mut self.schemas).entry(reference.id).or_default();
        versions.insert(reference.version, compiled.clone());
        Ok(compiled)
    }

    /// The newest release of a schema; if there are only pre-releases, the newest of them.
    pub fn get(&self, id: &str) -> Option<Arc<CompiledSchema>> {
        let versions = self.schemas.get(id)?;
        let release = versions.iter().rev().find(|(version, _)| version.pre.is_empty());
        release.or_else(|| versions.last_key_value()).map(|(_, schema)| schema.clone())
    }

    /// One version of a schema.
    pub fn get_version(&self, id: &str, version: &Version) -> Option<Arc<CompiledSchema>> {
        self.schemas.get(id)?.get(version).cloned()
    }

    /// The newest version of a schema that is asked for, as in `^1.2`.
    pub fn find(&self, id: &str, wanted: &VersionReq) -> Option<Arc<CompiledSchema>> {
        let mut versions = self.schemas.get(id)?.iter().rev();
        versions.find(|(version, _)| wanted.matches(version)).map(|(_, schema)| schema.clone())
    }

    /// All schemas, by name, and of each all versions, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<CompiledSchema>> {
        self.schemas.values().flat_map(BTreeMap::values)
    }

    /// How many there are, each version counted.
    pub fn len(&self) -> usize {
        self.schemas.values().map(BTreeMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.schemas.is_empty()
    }

    /// What changed between two versions; `None` if one of them is not there.
    pub fn diff(&self, id: &str, old: &Version, new: &Version) -> Option<SchemaDiff> {
        let (old, new) = (self.get_version(id, old)?, self.get_version(id, new)?);
        Some(SchemaDiff::between(old.schema(), new.schema()))
    }
}

/// A version says enough about what changed since the release before it, and the release after it about what changed since.
fn check_neighbours(versions: &Versions, new: &CompiledSchema) -> Result<(), RegistryError> {
    let version = &new.schema().version;
    let before = versions.range(..version.clone()).rev().find(|(version, _)| version.pre.is_empty());
    if let Some((_, before)) = before {
        check_bump(before.schema(), new.schema())?;
    }
    let after = versions.range(version.clone()..).find(|(version, _)| version.pre.is_empty());
    match after {
        Some((_, after)) if version.pre.is_empty() => check_bump(new.schema(), after.schema()),
        _ => Ok(()),
    }
}

fn check_bump(old: &TaskSchema, new: &TaskSchema) -> Result<(), RegistryError> {
    let diff = SchemaDiff::between(old, new);
    if diff.allows(&old.version, &new.version) {
        return Ok(());
    }
    let required = diff.next_version(&old.version);
    let schema = Box::new(new.reference());
    Err(RegistryError::BumpTooSmall { schema, previous: old.version.clone(), required, diff })
}

#[cfg(test)]
mod tests;
