//! Records as training data, and files of training data as their readers see them.

use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde_json::{Value, json};
use vllm_batch::curate::export::{
    AnnotatorNames, AnswerSource, DuplicateOptions, ExportFormat, ExportOptions, ExportedFolder, Exporter,
    FolderOptions, Splits, validate_dataset,
};

use crate::errors::{raise_curation, raise_io};
use crate::json::records;
use crate::llm::chosen;
use crate::outputs::to_python;
use crate::schema::Schema;

/// What training data have.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct DatasetOptions {
    format: String,
    folder: PathBuf,
    answers: String,
    reasoning: bool,
    min_strength: f64,
    annotators: String,
    salt: String,
    splits: Option<(f64, f64, String)>,
    split_key: Option<String>,
    duplicates: Option<f64>,
    parquet: bool,
    name: Option<String>,
    license: Option<String>,
    languages: Vec<String>,
    notes: String,
}

impl DatasetOptions {
    fn export(&self) -> PyResult<ExportOptions> {
        let sources = [("gold", AnswerSource::Gold), ("single_response", AnswerSource::SingleResponse)];
        let names = |annotators: &str| match annotators {
            "omitted" => Ok(AnnotatorNames::Omitted),
            "pseudonyms" => Ok(AnnotatorNames::Pseudonyms { salt: self.salt.clone() }),
            "names" => Ok(AnnotatorNames::Names),
            other => Err(PyValueError::new_err(format!(
                "invalid value for `annotators`: expected omitted, pseudonyms, names, found `{other}`"
            ))),
        };
        Ok(ExportOptions::new(format(&self.format)?)
            .with_answers(chosen("answers", &self.answers, &sources)?)
            .with_reasoning(self.reasoning)
            .with_min_strength(self.min_strength)
            .with_annotators(names(&self.annotators)?))
    }

    fn folder(self) -> PyResult<(PathBuf, FolderOptions)> {
        let mut options = FolderOptions::default();
        let splits = self.splits.map(|(validation, test, salt)| Splits::new(validation, test, salt));
        options.splits = splits.transpose().map_err(|error| PyValueError::new_err(error.to_string()))?;
        options.duplicates = self.duplicates.map(|threshold| {
            let mut duplicates = DuplicateOptions::default();
            duplicates.threshold = threshold;
            duplicates
        });
        (options.split_key, options.parquet) = (self.split_key, self.parquet);
        (options.name, options.license) = (self.name, self.license);
        (options.languages, options.notes) = (self.languages, self.notes);
        Ok((self.folder, options))
    }
}

/// Writes a folder of training data. Returns what became of the records, and the files.
#[pyfunction]
pub(crate) fn export_records<'py>(
    py: Python<'py>,
    schema: &Schema,
    json: &str,
    options: DatasetOptions,
) -> PyResult<Bound<'py, PyAny>> {
    let records = records(py, &schema.compiled, json)?;
    let (export, (folder, options)) = (options.export()?, options.folder()?);
    let written = py.detach(|| Exporter::new(&schema.compiled, export)?.write_folder(&records, folder, &options));
    let written = written.map_err(|error| raise_curation(py, &error, error.code()))?;
    to_python(py, &exported(&written))
}

/// What is wrong with a file of training data: the number of its rows, and all problems.
#[pyfunction]
// It is made of a path of Python's.
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn check_dataset<'py>(py: Python<'py>, path: PathBuf, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let format = format(name)?;
    let report = py.detach(|| validate_dataset(&path, format)).map_err(|error| raise_io(py, &path, &error))?;
    to_python(py, &(report.num_rows, report.problems))
}

/// The names of all formats.
#[pyfunction]
pub(crate) fn export_formats() -> Vec<&'static str> {
    ExportFormat::ALL.map(ExportFormat::name).to_vec()
}

fn format(name: &str) -> PyResult<ExportFormat> {
    name.parse().map_err(PyValueError::new_err)
}

fn exported(written: &ExportedFolder) -> Value {
    let file = |file: &vllm_batch::curate::export::DataFile| {
        json!({
            "split": file.split,
            "path": file.path,
            "num_rows": file.num_rows,
            "num_bytes": file.num_bytes,
            "sha256": file.sha256,
        })
    };
    json!({"report": written.report, "files": written.files.iter().map(file).collect::<Vec<_>>()})
}
