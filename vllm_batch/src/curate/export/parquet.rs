//! Rows as Parquet.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use serde_json::{Map, Value, json};

/// Writes rows that have the same columns as the first one, each with a value of the same type: texts, numbers, true or
/// false, objects of those, or lists of such objects. Nothing is null.
pub(super) struct ParquetRows<W: Write + Send> {
    file: Option<W>,
    table: Option<Table<W>>,
    waiting: Vec<Map<String, Value>>,
    num_bytes: usize,
}

/// Rows of a group wait in memory until there are as many, or as many bytes.
const MAX_ROWS: usize = 10_000;
const MAX_BYTES: usize = 16 << 20;

struct Table<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    leaves: Vec<Leaf>,
}

/// A column of values: that of a key, or that of a key of an object, or of the objects of a list.
struct Leaf {
    key: String,
    inner: Option<String>,
}

impl<W: Write + Send> ParquetRows<W> {
    pub(super) fn new(file: W) -> Self {
        Self { file: Some(file), table: None, waiting: Vec::new(), num_bytes: 0 }
    }

    pub(super) fn push(&mut self, row: &Map<String, Value>) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            self.table = Some(Table::new(file, row)?);
        }
        self.num_bytes += row.values().map(size).sum::<usize>();
        self.waiting.push(row.clone());
        if self.waiting.len() >= MAX_ROWS || self.num_bytes >= MAX_BYTES { self.write_group() } else { Ok(()) }
    }

    /// Completes the file. Without a row there is no table, and the file stays empty.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.write_group()?;
        match (self.table, self.file) {
            (Some(table), _) => table.writer.into_inner().map_err(io::Error::other),
            (None, Some(file)) => Ok(file),
            (None, None) => Err(io::Error::other("the table could not be begun")),
        }
    }

    fn write_group(&mut self) -> io::Result<()> {
        let Some(table) = self.table.as_mut().filter(|_| !self.waiting.is_empty()) else { return Ok(()) };
        table.write(&self.waiting).map_err(io::Error::other)?;
        self.waiting.clear();
        self.num_bytes = 0;
        Ok(())
    }
}

/// About how many bytes a value takes.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(object) => object.values().map(size).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

impl<W: Write + Send> Table<W> {
    fn new(file: W, row: &Map<String, Value>) -> io::Result<Self> {
        let (mut fields, mut leaves) = (String::new(), Vec::new());
        for (key, value) in row {
            fields += &field(key, value);
            let members = value.as_object().or_else(|| objects(value).first().copied());
            let inner = members.map(|members| members.keys().cloned().map(Some).collect());
            let inner: Vec<Option<String>> = inner.unwrap_or_else(|| vec![None]);
            leaves.extend(inner.into_iter().map(|inner| Leaf { key: key.clone(), inner }));
        }
        let schema = parse_message_type(&format!("message row {{ {fields} }}")).map_err(io::Error::other)?;
        let features: Map<String, Value> = row.iter().map(|(key, value)| (key.clone(), feature(value))).collect();
        let info = json!({"info": {"features": features}}).to_string();
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_key_value_metadata(Some(vec![KeyValue::new("huggingface".to_owned(), info)]))
            .build();
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties));
        Ok(Self { writer: writer.map_err(io::Error::other)?, leaves })
    }

    fn write(&mut self, rows: &[Map<String, Value>]) -> parquet::errors::Result<()> {
        let mut group = self.writer.next_row_group()?;
        for leaf in &self.leaves {
            let Some(mut column) = group.next_column()? else { break };
            leaf.write(&mut column, rows)?;
            column.close()?;
        }
        group.close().map(drop)
    }
}

/// A column as the language of Parquet's schemas has it.
fn field(name: &str, value: &Value) -> String {
    let kind = match value {
        Value::Bool(_) => "BOOLEAN",
        Value::Number(number) if number.is_f64() => "DOUBLE",
        Value::Number(_) => "INT64",
        Value::Array(_) => {
            let inner = objects(value).first().map(|object| object.iter().map(|(name, value)| field(name, value)));
            let inner: String = inner.into_iter().flatten().collect();
            return format!(
                "REQUIRED GROUP {name} (LIST) {{ REPEATED GROUP list {{ REQUIRED GROUP element {{ {inner} }} }} }} "
            );
        }
        Value::Object(members) => {
            let inner: String = members.iter().map(|(name, value)| field(name, value)).collect();
            return format!("REQUIRED GROUP {name} {{ {inner} }} ");
        }
        _ => return format!("REQUIRED BYTE_ARRAY {name} (UTF8); "),
    };
    format!("REQUIRED {kind} {name}; ")
}

/// A column as `datasets` has it.
fn feature(value: &Value) -> Value {
    let kind = match value {
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::Array(_) => {
            let inner =
                objects(value).first().map(|object| object.iter().map(|(key, value)| (key.clone(), feature(value))));
            return json!([inner.into_iter().flatten().collect::<Map<_, _>>()]);
        }
        Value::Object(members) => {
            return members.iter().map(|(key, value)| (key.clone(), feature(value))).collect();
        }
        _ => "string",
    };
    json!({"dtype": kind, "_type": "Value"})
}

fn objects(value: &Value) -> Vec<&Map<String, Value>> {
    value.as_array().into_iter().flatten().filter_map(Value::as_object).collect()
}

/// Levels of the items of lists; `None` for a column without lists.
type Levels = Option<Vec<(i16, i16)>>;

impl Leaf {
    fn write(
        &self,
        column: &mut SerializedColumnWriter<'_>,
        rows: &[Map<String, Value>],
    ) -> parquet::errors::Result<()> {
        let (values, levels) = self.values(rows);
        let definition: Option<Vec<i16>> =
            levels.as_ref().map(|levels| levels.iter().map(|(is_there, _)| *is_there).collect());
        let repetition: Option<Vec<i16>> = levels.map(|levels| levels.iter().map(|(_, is_next)| *is_next).collect());
        let (definition, repetition) = (definition.as_deref(), repetition.as_deref());
        match column.untyped() {
            ColumnWriter::BoolColumnWriter(writer) => {
                let values: Vec<bool> = values.iter().filter_map(|value| value.as_bool()).collect();
                writer.write_batch(&values, definition, repetition)?
            }
            ColumnWriter::Int64ColumnWriter(writer) => {
                let values: Vec<i64> = values.iter().filter_map(|value| value.as_i64()).collect();
                writer.write_batch(&values, definition, repetition)?
            }
            ColumnWriter::DoubleColumnWriter(writer) => {
                let values: Vec<f64> = values.iter().filter_map(|value| value.as_f64()).collect();
                writer.write_batch(&values, definition, repetition)?
            }
            ColumnWriter::ByteArrayColumnWriter(writer) => {
                let texts: Vec<_> = values.iter().filter_map(|value| value.as_str()).map(ByteArray::from).collect();
                writer.write_batch(&texts, definition, repetition)?
            }
            _ => 0,
        };
        Ok(())
    }

    /// The values of all rows; of a list's, whether there is an item (definition level) and whether it follows another one
    /// (repetition level).
    fn values<'r>(&self, rows: &'r [Map<String, Value>]) -> (Vec<&'r Value>, Levels) {
        let Some(inner) = &self.inner else {
            return (rows.iter().filter_map(|row| row.get(&self.key)).collect(), None);
        };
        if rows.first().and_then(|row| row.get(&self.key)).is_some_and(Value::is_object) {
            return (rows.iter().filter_map(|row| row.get(&self.key)?.get(inner)).collect(), None);
        }
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        for row in rows {
            let items = row.get(&self.key).map(objects).unwrap_or_default();
            if items.is_empty() {
                levels.push((0, 0));
            }
            for (at, item) in items.iter().enumerate() {
                levels.push((1, i16::from(at > 0)));
                values.extend(item.get(inner));
            }
        }
        (values, Some(levels))
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};

    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let message = |role: &str, train: bool| json!({"role": role, "train": train});
        let row = |id: &str, messages: Vec<Value>, share: f64| {
            let row = json!({
                "messages": messages, "id": id, "count": 3, "share": share, "gold": true, "chosen": {"from": id, "n": 1},
            });
            row.as_object().unwrap().clone()
        };
        let rows = [
            row("a", vec![message("user", false), message("assistant", true)], 0.5),
            row("東", vec![], -1.0),
            row("", vec![message("user", false)], 1.0),
        ];
        let mut file = ParquetRows::new(tempfile::tempfile().unwrap());
        for row in &rows {
            file.push(row).unwrap();
        }
        let reader = SerializedFileReader::new(file.finish().unwrap()).unwrap();
        let read: Vec<Value> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_json_value()).collect();
        assert_eq!(read, rows.map(Value::Object));
        let metadata = reader.metadata().file_metadata().key_value_metadata().unwrap();
        let info: Value = serde_json::from_str(metadata[0].value.as_ref().unwrap()).unwrap();
        let value = |kind: &str| json!({"dtype": kind, "_type": "Value"});
        let features = json!({
            "messages": [{"role": value("string"), "train": value("bool")}],
            "id": value("string"), "count": value("int64"), "share": value("float64"), "gold": value("bool"),
            "chosen": {"from": value("string"), "n": value("int64")},
        });
        assert_eq!((metadata[0].key.as_str(), info), ("huggingface", json!({"info": {"features": features}})));
        assert_eq!(ParquetRows::new(Vec::new()).finish().unwrap(), b"");
    }
}
