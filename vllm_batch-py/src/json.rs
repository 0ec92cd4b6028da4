//! Plain data on their way from Python: texts of JSON, of which the library reads what they mean.

use pyo3::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::Value;
use vllm_batch::curate::{CompiledSchema, Record, RecordError};

use crate::errors::raise_curation;

/// What a text of JSON says. Python writes what JSON has no word for, such as half a surrogate pair.
pub(crate) fn read<T: DeserializeOwned>(py: Python<'_>, text: &str) -> PyResult<T> {
    let malformed = |error: serde_json::Error| RecordError::Malformed { message: error.to_string() };
    serde_json::from_str(text).map_err(malformed).map_err(|error| raise_curation(py, &error, error.code()))
}

/// A record, with what models and people said about it.
pub(crate) fn record(py: Python<'_>, schema: &CompiledSchema, text: &str) -> PyResult<Record> {
    record_of(py, schema, &read(py, text)?)
}

/// A list of records.
pub(crate) fn records(py: Python<'_>, schema: &CompiledSchema, text: &str) -> PyResult<Vec<Record>> {
    let values: Vec<Value> = read(py, text)?;
    values.iter().map(|value| record_of(py, schema, value)).collect()
}

fn record_of(py: Python<'_>, schema: &CompiledSchema, value: &Value) -> PyResult<Record> {
    schema.read_record(value).map_err(|error| raise_curation(py, &error, error.code()))
}
