//! How much those who answer agree, what is worth a look, and what is gold.

use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde_json::{Value, json};
use vllm_batch::curate::agreement::{AgreementOptions, agreement};
use vllm_batch::curate::{GoldDecision, GoldSnapshot, SnapshotError, Strategy, mark_gold, select};

use crate::errors::raise_curation;
use crate::json::{record, records};
use crate::llm::chosen;
use crate::outputs::to_python;
use crate::schema::Schema;

/// More make an interval no better.
const MAX_RESAMPLES: usize = 1_000_000;

/// What is compared, and how intervals are made.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Comparison {
    seed: u64,
    num_resamples: usize,
    confidence: f64,
    include_text: bool,
}

impl Comparison {
    fn options(self) -> PyResult<AgreementOptions> {
        if !(0.0..=1.0).contains(&self.confidence) || self.num_resamples > MAX_RESAMPLES {
            let message = format!("confidence must be from 0 to 1, and num_resamples {MAX_RESAMPLES} at most");
            return Err(PyValueError::new_err(message));
        }
        let mut options = AgreementOptions::default();
        (options.seed, options.num_resamples) = (self.seed, self.num_resamples);
        (options.confidence, options.include_text) = (self.confidence, self.include_text);
        Ok(options)
    }
}

/// How much people and models agree.
#[pyfunction]
pub(crate) fn agree<'py>(
    py: Python<'py>,
    schema: &Schema,
    json: &str,
    comparison: Comparison,
) -> PyResult<Bound<'py, PyAny>> {
    let records = records(py, &schema.compiled, json)?;
    let options = comparison.options()?;
    let report = py.detach(|| agreement(schema.compiled.schema(), &records, &options));
    to_python(py, &report)
}

/// Records that are worth a person's time: place, name and priority of each.
#[pyfunction]
// Python passes them by name.
#[allow(clippy::too_many_arguments)]
pub(crate) fn select_records(
    py: Python<'_>,
    schema: &Schema,
    json: &str,
    strategy: &str,
    limit: usize,
    seed: u64,
) -> PyResult<Vec<(usize, String, f64)>> {
    let strategies = [
        ("uncertainty", Strategy::Uncertainty),
        ("disagreement", Strategy::Disagreement),
        ("random", Strategy::Random),
    ];
    let strategy = chosen("strategy", strategy, &strategies)?;
    let records = records(py, &schema.compiled, json)?;
    let selected = py.detach(|| select(schema.compiled.schema(), &records, strategy, limit, seed));
    Ok(selected.into_iter().map(|one| (one.index, one.id, one.priority)).collect())
}

/// Whether a record is gold, and why.
#[pyfunction]
pub(crate) fn decide_gold<'py>(py: Python<'py>, schema: &Schema, json: &str) -> PyResult<Bound<'py, PyAny>> {
    let record = record(py, &schema.compiled, json)?;
    to_python(py, &decided(&schema.compiled.decide_gold(&record)))
}

/// Says of many records at once whether they are gold. Returns the records, and the names that none has.
#[pyfunction]
// It is made of a Python list.
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn mark_records<'py>(
    py: Python<'py>,
    schema: &Schema,
    json: &str,
    ids: Vec<String>,
    is_gold: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let mut records = records(py, &schema.compiled, json)?;
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let unknown = mark_gold(&mut records, &ids, is_gold).err().unwrap_or_default();
    to_python(py, &(records, unknown))
}

/// Gold records that never change.
#[pyclass(frozen, module = "vllm_batch._native")]
pub(crate) struct Snapshot(GoldSnapshot);

#[pymethods]
impl Snapshot {
    /// Takes the records that are gold; the decisions about all others come with it.
    #[staticmethod]
    fn freeze<'py>(py: Python<'py>, schema: &Schema, json: &str) -> PyResult<(Self, Bound<'py, PyAny>)> {
        let records = records(py, &schema.compiled, json)?;
        let frozen = py.detach(|| GoldSnapshot::freeze(&schema.compiled, &records));
        let (snapshot, others) = frozen.map_err(|error| raise_snapshot(py, &error))?;
        let others: Vec<Value> =
            others.iter().map(|(id, decision)| json!({"id": id, "decision": decided(decision)})).collect();
        Ok((Self(snapshot), to_python(py, &others)?))
    }

    /// Reads a file that `save` wrote.
    #[staticmethod]
    // It is made of a path of Python's.
    #[allow(clippy::needless_pass_by_value)]
    fn load(py: Python<'_>, schema: &Schema, path: PathBuf) -> PyResult<Self> {
        let loaded = py.detach(|| GoldSnapshot::load(&schema.compiled, &path));
        loaded.map(Self).map_err(|error| raise_snapshot(py, &error))
    }

    /// Writes a file that is named by the schema and its content, and says where it is.
    // It is made of a path of Python's.
    #[allow(clippy::needless_pass_by_value)]
    fn save(&self, py: Python<'_>, folder: PathBuf) -> PyResult<PathBuf> {
        py.detach(|| self.0.save(&folder)).map_err(|error| raise_snapshot(py, &error))
    }

    #[getter]
    fn id(&self) -> &str {
        self.0.id()
    }

    #[getter]
    fn schema(&self) -> String {
        self.0.schema().to_string()
    }

    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.0.rows())
    }
}

fn decided(decision: &GoldDecision) -> Value {
    let reasons = decision.reasons.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "is_gold": decision.is_gold,
        "reasons": reasons,
        "answers": decision.answers,
        "agreement": decision.agreement,
        "num_annotators": decision.num_annotators,
    })
}

fn raise_snapshot(py: Python<'_>, error: &SnapshotError) -> PyErr {
    raise_curation(py, error, error.code())
}
