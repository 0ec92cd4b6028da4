//! Schemas by name and version.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use serde_json::json;
use vllm_batch::curate::{Record, SchemaFile, SchemaRef, SchemaRegistry, Version, VersionReq};

use crate::errors::{raise_curation, raise_registry};
use crate::json::records;
use crate::outputs::to_python;
use crate::schema::Schema;

/// Schemas by name and version.
#[pyclass(frozen, module = "vllm_batch._native")]
pub(crate) struct Registry(Mutex<SchemaRegistry>);

impl Registry {
    fn of(registry: SchemaRegistry) -> Self {
        Self(Mutex::new(registry))
    }

    fn registry(&self) -> MutexGuard<'_, SchemaRegistry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is there now.
    pub(crate) fn snapshot(&self) -> SchemaRegistry {
        self.registry().clone()
    }
}

#[pymethods]
impl Registry {
    #[new]
    fn new() -> Self {
        Self::of(SchemaRegistry::new())
    }

    /// Those that come with the library.
    #[staticmethod]
    fn builtin() -> Self {
        Self::of(SchemaRegistry::builtin())
    }

    /// Those of a folder, and what became of each file.
    #[staticmethod]
    // It is made of a path of Python's.
    #[allow(clippy::needless_pass_by_value)]
    fn from_dir(py: Python<'_>, folder: PathBuf) -> PyResult<(Self, Bound<'_, PyAny>)> {
        let read = py.detach(|| SchemaRegistry::from_dir(&folder)).map_err(|error| raise_registry(py, &error))?;
        let files: Vec<_> = read.files.iter().map(file).collect();
        Ok((Self::of(read.registry), to_python(py, &files)?))
    }

    /// Adds a schema.
    fn register(&self, py: Python<'_>, schema: &Schema) -> PyResult<()> {
        let document = schema.compiled.schema().clone();
        self.registry().register(document).map(drop).map_err(|error| raise_registry(py, &error))
    }

    /// The newest release of a schema.
    fn get(&self, id: &str) -> Option<Schema> {
        self.registry().get(id).map(Schema::from)
    }

    /// One version of a schema.
    fn get_version(&self, py: Python<'_>, id: &str, version: &str) -> PyResult<Option<Schema>> {
        let version: Version = parsed(py, version)?;
        Ok(self.registry().get_version(id, &version).map(Schema::from))
    }

    /// The newest version that is asked for, as in `^1.2`.
    fn find(&self, py: Python<'_>, id: &str, wanted: &str) -> PyResult<Option<Schema>> {
        let wanted: VersionReq = parsed(py, wanted)?;
        Ok(self.registry().find(id, &wanted).map(Schema::from))
    }

    /// All, by name, and of each the oldest version first.
    fn schemas(&self) -> Vec<Schema> {
        self.registry().iter().cloned().map(Schema::from).collect()
    }

    /// What changed between two versions, and which part of the version must grow.
    fn diff<'py>(&self, py: Python<'py>, id: &str, old: &str, new: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let diff = self.registry().diff(id, &parsed(py, old)?, &parsed(py, new)?);
        let plain = |diff: vllm_batch::curate::SchemaDiff| {
            let change =
                |one: &vllm_batch::curate::Change| json!({"path": one.path, "kind": one.kind, "bump": one.bump()});
            (diff.changes().iter().map(change).collect::<Vec<_>>(), diff.bump())
        };
        diff.map(|diff| to_python(py, &plain(diff))).transpose()
    }

    /// Records of an older version of a schema as those of a newer one, and what became of their answers.
    fn migrate<'py>(&self, py: Python<'py>, json: &str, old: &str, new: &str) -> PyResult<Bound<'py, PyAny>> {
        let (registry, old, new): (_, SchemaRef, SchemaRef) = (self.snapshot(), parsed(py, old)?, parsed(py, new)?);
        let unknown = || vllm_batch::curate::RegistryError::UnknownSchema { schema: old.clone() };
        let schema = registry.get_version(&old.id, &old.version).ok_or_else(unknown);
        let schema = schema.map_err(|error| raise_registry(py, &error))?;
        let mut records: Vec<Record> = records(py, &schema, json)?;
        let report = py.detach(|| registry.migrate_records(&mut records, &old.version, &new));
        let report = report.map_err(|error| raise_registry(py, &error))?;
        to_python(py, &(records, report))
    }
}

fn file(file: &SchemaFile) -> serde_json::Value {
    let path: &Path = &file.path;
    json!({
        "path": path,
        "warnings": file.warnings,
        "schema": file.result.as_ref().ok().map(ToString::to_string),
        "error": file.result.as_ref().err().map(ToString::to_string),
        "code": file.result.as_ref().err().map(vllm_batch::curate::RegistryError::code),
    })
}

/// What a text names: a version, or a schema with its version.
fn parsed<T: FromStr<Err: std::fmt::Display>>(py: Python<'_>, text: &str) -> PyResult<T> {
    text.parse().map_err(|error| raise_curation(py, &format_args!("{text:?}: {error}"), "invalid_version"))
}
