//! A folder of schemas.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::{Diagnostic, ReadSchema, SchemaReader, SchemaRef};
use super::{RegistryError, SchemaRegistry};

/// What a folder of schemas came to.
#[derive(Debug)]
#[non_exhaustive]
pub struct SchemaFolder {
    /// The schemas that could be registered.
    pub registry: SchemaRegistry,
    /// What became of each file, by its name.
    pub files: Vec<SchemaFile>,
}

/// What became of one file.
#[derive(Debug)]
#[non_exhaustive]
pub struct SchemaFile {
    /// The file.
    pub path: PathBuf,
    /// What may not be as it was meant, if the file was registered.
    pub warnings: Vec<Diagnostic>,
    /// The schema's name and version, or why it was not registered.
    pub result: Result<SchemaRef, RegistryError>,
}

impl SchemaRegistry {
    /// Reads the files of a folder that end with `.json`, and registers them, older versions first. A file that is wrong is
    /// reported, and stops no other one. Folders within are not looked into.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn from_dir(folder: impl AsRef<Path>) -> Result<SchemaFolder, RegistryError> {
        Self::from_dir_with(folder, SchemaReader::new())
    }

    /// As [`from_dir`](Self::from_dir), with a reader that is set up otherwise.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn from_dir_with(folder: impl AsRef<Path>, reader: SchemaReader) -> Result<SchemaFolder, RegistryError> {
        let mut registry = Self::new();
        let (mut read, mut files) = (Vec::new(), Vec::new());
        for path in json_files(folder.as_ref())? {
            match read_file(&path, reader) {
                Ok(schema) => read.push((path, schema)),
                Err(error) => files.push(SchemaFile { path, warnings: Vec::new(), result: Err(error) }),
            }
        }
        read.sort_by_cached_key(|(_, read)| read.schema.reference());
        for (path, ReadSchema { schema, mut warnings }) in read {
            let result = registry.register(schema).map(|compiled| {
                warnings.extend_from_slice(compiled.warnings());
                compiled.schema().reference()
            });
            files.push(SchemaFile { path, warnings, result });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(SchemaFolder { registry, files })
    }
}

fn json_files(folder: &Path) -> Result<Vec<PathBuf>, RegistryError> {
    let unreadable = |source| RegistryError::Unreadable { path: folder.to_owned(), source };
    let entries = fs::read_dir(folder).map_err(unreadable)?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let is_json = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json") && path.is_file();
    Ok(paths.into_iter().filter(is_json).collect())
}

fn read_file(path: &Path, reader: SchemaReader) -> Result<ReadSchema, RegistryError> {
    let json =
        fs::read_to_string(path).map_err(|source| RegistryError::Unreadable { path: path.to_owned(), source })?;
    Ok(reader.read_json(&json)?)
}
