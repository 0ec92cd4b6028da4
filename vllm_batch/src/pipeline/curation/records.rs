//! Which records are there?

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use super::report::{Rejection, Stage};
use crate::curate::{CompiledSchema, Record};

/// The records of a JSONL file, one by one: objects with `id`, `fields` and perhaps `metadata`. Each is a record that the
/// schema can use, or says why not.
pub(super) struct Records<'a> {
    schema: &'a CompiledSchema,
    lines: BufReader<File>,
    line: usize,
    seen: HashSet<String>,
}

impl<'a> Records<'a> {
    pub(super) fn open(schema: &'a CompiledSchema, path: &Path) -> io::Result<Self> {
        Ok(Self { schema, lines: BufReader::new(File::open(path)?), line: 0, seen: HashSet::new() })
    }

    fn check(&mut self, bytes: &[u8]) -> Result<Record, Rejection> {
        let reject = |id: Option<String>, code: &'static str, message: String| Rejection {
            line: self.line,
            id,
            stage: Stage::Read,
            code: code.to_owned(),
            message,
        };
        let record = read(bytes).map_err(|message| reject(None, "invalid_record", message))?;
        let id = Some(record.id.clone());
        if let Some(error) = self.schema.check_record(&record).iter().find(|error| error.is_fatal()) {
            return Err(reject(id, error.code(), error.to_string()));
        }
        if !self.seen.insert(record.id.clone()) {
            return Err(reject(id, "duplicate_id", "an earlier record has the same id".to_owned()));
        }
        Ok(record)
    }
}

impl Iterator for Records<'_> {
    type Item = io::Result<(usize, Result<Record, Rejection>)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut bytes = Vec::new();
            match self.lines.read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(_) => self.line += 1,
                Err(error) => return Some(Err(error)),
            }
            if !bytes.trim_ascii().is_empty() {
                let checked = self.check(&bytes);
                return Some(Ok((self.line, checked)));
            }
        }
    }
}

fn read(bytes: &[u8]) -> Result<Record, String> {
    let Value::Object(mut members) = serde_json::from_slice(bytes).map_err(|error| error.to_string())? else {
        return Err("it is not an object".to_owned());
    };
    let id = match members.remove("id") {
        Some(Value::String(id)) if !id.is_empty() => id,
        _ => return Err("`id` must be a text that is not empty".to_owned()),
    };
    let mut record = Record::new(id);
    for (key, value) in members {
        match (key.as_str(), value) {
            ("fields", Value::Object(fields)) => record.fields = fields,
            ("metadata", Value::Object(metadata)) => record.metadata = metadata,
            ("fields" | "metadata", _) => return Err(format!("`{key}` must be an object")),
            // As a record without answers is written.
            ("suggestions" | "responses", Value::Array(items)) if items.is_empty() => {}
            _ => return Err(format!("`{key}` has no meaning here")),
        }
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curate::SchemaRegistry;

    #[test]
    fn each_line_is_a_record_or_says_why_not() {
        let good = r#"{"id": "a", "fields": {"resume_text": "x"}, "metadata": {"m": 1}, "suggestions": []}"#;
        let cases = [
            (good, Ok("a")),
            ("", Ok("")),
            (good, Err("duplicate_id")),
            (r#"{"id": "b", "fields": {}}"#, Err("missing_field")),
            (r#"{"id": "c", "fields": {"resume_text": 5}}"#, Err("wrong_type")),
            (r#"{"id": "", "fields": {}}"#, Err("invalid_record")),
            (r#"{"id": "d", "fields": []}"#, Err("invalid_record")),
            (r#"{"id": "e", "text": "x"}"#, Err("invalid_record")),
            ("[]", Err("invalid_record")),
            ("{", Err("invalid_record")),
            (r#"{"id": "b", "fields": {"resume_text": "y"}}"#, Ok("b")),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        std::fs::write(&path, cases.map(|(line, _)| line).join("\n")).unwrap();
        let schema = SchemaRegistry::builtin().get("cv_parsing").unwrap();
        let records = Records::open(&schema, &path).unwrap().map(Result::unwrap);
        let found: Vec<_> =
            records.map(|(line, record)| (line, record.map(|one| one.id).map_err(|why| why.code))).collect();
        let expected = cases.iter().enumerate().filter(|(_, (line, _))| !line.is_empty());
        let expected: Vec<_> =
            expected.map(|(at, (_, result))| (at + 1, result.map(str::to_owned).map_err(str::to_owned))).collect();
        assert_eq!(found, expected);
    }
}
