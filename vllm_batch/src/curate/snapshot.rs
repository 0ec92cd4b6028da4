//! Gold records as they were at one time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::compile::hex;
use super::durable::rename_synced;
use super::{Answers, CompiledSchema, GoldDecision, GoldReason, Record, SchemaRef};

/// Gold records that never change, named by their content: the same records, answers and schema have the same
/// [`id`](Self::id).
#[derive(Debug, Clone, PartialEq)]
pub struct GoldSnapshot {
    id: String,
    schema: SchemaRef,
    schema_sha256: String,
    rows: Vec<GoldRow>,
}

/// A gold record: what is shown and what is right.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GoldRow {
    /// The record's name.
    pub id: String,
    /// Its fields.
    pub fields: Map<String, Value>,
    /// The settled answers.
    pub answers: Answers,
    /// How much people agreed, if there were two.
    pub agreement: Option<f64>,
    /// People who answered.
    pub num_annotators: usize,
    /// Whether a person said that it is gold; otherwise the rule did.
    pub manual: bool,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Several gold records have the same name.
    #[error("several gold records are called {ids:?}: names must be unique")]
    DuplicateIds {
        /// Their names.
        ids: Vec<String>,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is no snapshot, or not one of this schema.
    #[error("{}, line {line}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A file's content is not what its name says.
    #[error("{}: the content was changed: it is {found}, not {expected}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What the first line says.
        expected: String,
        /// What the lines come to.
        found: String,
    },
}

impl SnapshotError {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DuplicateIds { .. } => "duplicate_ids",
            Self::Io { .. } => "snapshot_io",
            Self::Malformed { .. } => "malformed_snapshot",
            Self::Changed { .. } => "changed_snapshot",
        }
    }
}

impl GoldSnapshot {
    /// Takes the records that are gold, by name; the decisions about all others come with it.
    ///
    /// # Errors
    /// [`SnapshotError::DuplicateIds`].
    pub fn freeze(
        schema: &CompiledSchema,
        records: &[Record],
    ) -> Result<(Self, Vec<(String, GoldDecision)>), SnapshotError> {
        let (mut rows, mut others, mut twice) = (BTreeMap::new(), Vec::new(), Vec::new());
        for record in records {
            let decision = schema.decide_gold(record);
            if !decision.is_gold {
                others.push((record.id.clone(), decision));
            } else if rows.insert(record.id.clone(), GoldRow::new(record, decision)).is_some() {
                twice.push(record.id.clone());
            }
        }
        if !twice.is_empty() {
            return Err(SnapshotError::DuplicateIds { ids: twice });
        }
        let rows: Vec<GoldRow> = rows.into_values().collect();
        Ok((Self::of_rows(schema, rows), others))
    }

    fn of_rows(schema: &CompiledSchema, rows: Vec<GoldRow>) -> Self {
        let (schema, schema_sha256) = (schema.schema().reference(), schema.sha256().to_owned());
        let mut hasher = Sha256::new();
        hasher.update(&schema_sha256);
        for row in &rows {
            hasher.update(row.line());
        }
        let id = hex(&hasher.finalize());
        Self { id, schema, schema_sha256, rows }
    }

    /// SHA-256 of all that is in it, in hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The schema of its answers.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The records, by name.
    pub fn rows(&self) -> &[GoldRow] {
        &self.rows
    }

    /// Writes the snapshot into a folder, to a file that is named by the schema and its content. A file of that name is left as it
    /// is: it has the same content. When this returns, the file is on the disk, or it is not there.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<PathBuf, SnapshotError> {
        let path = folder.as_ref().join(format!("{}-{}.gold.jsonl", self.schema, &self.id[..16]));
        if path.exists() {
            return Ok(path);
        }
        let head = json!({"snapshot": self.id, "schema": self.schema.to_string(), "schema_sha256": self.schema_sha256});
        let text = self.rows.iter().fold(format!("{head}\n"), |text, row| text + &row.line());
        let part = path.with_extension("part");
        let write = || {
            let mut file = File::create(&part)?;
            file.write_all(text.as_bytes())?;
            rename_synced(&file, &part, &path)
        };
        write().map_err(|source| SnapshotError::Io { path: path.clone(), source })?;
        Ok(path)
    }

    /// Reads a snapshot that was made with this schema, and checks that it is what its first line says.
    ///
    /// # Errors
    /// All but [`SnapshotError::DuplicateIds`].
    pub fn load(schema: &CompiledSchema, path: impl AsRef<Path>) -> Result<Self, SnapshotError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|source| SnapshotError::Io { path: path.to_owned(), source })?;
        let malformed = |line, message| SnapshotError::Malformed { path: path.to_owned(), line, message };
        let mut lines = text.lines().enumerate();
        let head = lines.next().and_then(|(_, line)| serde_json::from_str::<Value>(line).ok());
        let head = head.ok_or_else(|| malformed(1, "this is not the first line of a snapshot".to_owned()))?;
        let said = |key: &str| head.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        if said("schema_sha256") != schema.sha256() {
            let message = format!("it was made with {}, not with {}", said("schema"), schema.schema().reference());
            return Err(malformed(1, message));
        }
        let row = |(at, line): (usize, &str)| GoldRow::read(schema, line).map_err(|message| malformed(at + 1, message));
        let snapshot = Self::of_rows(schema, lines.map(row).collect::<Result<_, _>>()?);
        if snapshot.id != said("snapshot") {
            return Err(SnapshotError::Changed {
                path: path.to_owned(),
                expected: said("snapshot"),
                found: snapshot.id,
            });
        }
        Ok(snapshot)
    }
}

impl GoldRow {
    fn new(record: &Record, decision: GoldDecision) -> Self {
        Self {
            id: record.id.clone(),
            fields: record.fields.clone(),
            manual: decision.reasons.contains(&GoldReason::Manual),
            answers: decision.answers,
            agreement: decision.agreement,
            num_annotators: decision.num_annotators,
        }
    }

    fn line(&self) -> String {
        // Values that came from JSON or are made of finite numbers always become JSON.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    fn read(schema: &CompiledSchema, line: &str) -> Result<Self, String> {
        #[derive(serde::Deserialize)]
        struct Row {
            id: String,
            fields: Map<String, Value>,
            answers: Map<String, Value>,
            agreement: Option<f64>,
            num_annotators: usize,
            manual: bool,
        }
        let row: Row = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let (answers, errors) = schema.read_answers(&row.answers);
        if let Some(error) = errors.first() {
            return Err(error.to_string());
        }
        let Row { id, fields, agreement, num_annotators, manual, .. } = row;
        Ok(Self { id, fields, answers, agreement, num_annotators, manual })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curate::{Answer, Question, QuestionKind, Response, TaskSchema, Version};

    fn schema(version: u64) -> CompiledSchema {
        let kind = QuestionKind::Boolean { yes: "yes".into(), no: "no".into() };
        let question = Question::new("spam".parse().unwrap(), kind);
        TaskSchema::new("mail".parse().unwrap(), Version::new(version, 0, 0)).with_question(question).compile().unwrap()
    }

    fn record(id: &str, spam: bool, gold: Option<bool>) -> Record {
        let mut record = Record::new(id).with_field("subject", format!("Mail <{id}>"));
        let answers = Answers::from_iter([("spam".parse().unwrap(), Answer::Boolean(spam))]);
        record.responses.push(Response::submitted("ann", answers));
        record.gold = gold;
        record
    }

    #[test]
    fn the_same_content_has_the_same_name_in_any_order() {
        let schema = schema(1);
        let mut records = vec![record("b", true, Some(true)), record("c", true, None), record("a", false, Some(true))];
        let (snapshot, others) = GoldSnapshot::freeze(&schema, &records).unwrap();
        assert_eq!(snapshot.rows().iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((others.len(), others[0].0.as_str()), (1, "c"));

        records.reverse();
        assert_eq!(GoldSnapshot::freeze(&schema, &records).unwrap().0, snapshot);
        records[0] = record("a", true, Some(true));
        assert_ne!(GoldSnapshot::freeze(&schema, &records).unwrap().0.id(), snapshot.id());
        records[1] = record("a", true, Some(true));
        let error = GoldSnapshot::freeze(&schema, &records).unwrap_err();
        assert!(matches!(error, SnapshotError::DuplicateIds { ids } if ids == ["a"]));
    }

    #[test]
    fn what_is_saved_is_loaded_and_what_was_changed_is_refused() {
        let (schema, folder) = (schema(1), tempfile::tempdir().unwrap());
        let records = [record("ä\n\"1\"", true, Some(true)), record("b", false, Some(true))];
        let (snapshot, _) = GoldSnapshot::freeze(&schema, &records).unwrap();
        let path = snapshot.save(&folder).unwrap();
        assert_eq!(snapshot.save(&folder).unwrap(), path);
        assert_eq!(GoldSnapshot::load(&schema, &path).unwrap(), snapshot);

        let text = fs::read_to_string(&path).unwrap();
        let code = |text: &str| {
            fs::write(&path, text).unwrap();
            GoldSnapshot::load(&schema, &path).unwrap_err().code()
        };
        assert_eq!(code(&text.replace("\"spam\":false", "\"spam\":true")), "changed_snapshot");
        assert_eq!(code(&text.replace("\"spam\":false", "\"spam\":2")), "malformed_snapshot");
        assert_eq!(code(text.rsplit_once("{\"id\"").unwrap().0), "changed_snapshot");
        assert_eq!(code(""), "malformed_snapshot");
        fs::write(&path, &text).unwrap();
        let error = GoldSnapshot::load(&super::tests::schema(2), &path).unwrap_err();
        assert!(error.to_string().contains("it was made with mail@1.0.0, not with mail@2.0.0"), "{error}");
        assert_eq!(GoldSnapshot::load(&schema, folder.path().join("none")).unwrap_err().code(), "snapshot_io");
    }
}
