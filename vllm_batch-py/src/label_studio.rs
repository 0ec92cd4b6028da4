//! Records to a review server, and what people said back.

use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::Duration;

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use serde_json::{Value, json};
use vllm_batch::curate::label_studio::{LabelConfigOptions, label_config};
use vllm_batch::pipeline::ReviewReport;
use vllm_batch::pipeline::label_studio::{
    ExportFilter, ImportOptions, LabelStudio, LabelStudioBuilder, LabelStudioError, Project, ProjectSpec,
};
use vllm_batch::{CancellationToken, Progress};

use crate::errors::{raise_label_studio, raise_schema};
use crate::json::records;
use crate::llm::{chosen, set};
use crate::outputs::to_python;
use crate::registry::Registry;
use crate::schema::{Schema, harvested, kept};
use crate::watch::{Cancellation, watched};

/// A client for a review server.
#[pyclass(frozen, module = "vllm_batch._native")]
pub(crate) struct ReviewServer(LabelStudio);

/// The options of a client.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct ServerOptions {
    timeout: Option<f64>,
    max_retries: Option<u32>,
}

impl ServerOptions {
    fn builder(self, url: &str, token: &str) -> LabelStudioBuilder {
        // What is no time is refused by the builder, as zero is.
        let seconds = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
        let builder = LabelStudio::builder(url, token);
        let builder = set(builder, self.timeout.map(seconds), LabelStudioBuilder::timeout);
        set(builder, self.max_retries, LabelStudioBuilder::max_retries)
    }
}

/// What a project is to be.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct ProjectOptions {
    locale: String,
    annotations_per_task: usize,
    show_predictions: bool,
}

#[pymethods]
impl ReviewServer {
    #[new]
    fn new(py: Python<'_>, url: &str, token: &str, options: ServerOptions) -> PyResult<Self> {
        options.builder(url, token).build().map(Self).map_err(|error| raise_label_studio(py, &error))
    }

    /// Where the server is.
    #[getter]
    fn url(&self) -> &str {
        self.0.url()
    }

    /// The server's version.
    fn version(&self, py: Python<'_>) -> PyResult<String> {
        self.call(py, LabelStudio::version)
    }

    /// The e-mail address of the token's owner.
    fn whoami(&self, py: Python<'_>) -> PyResult<String> {
        self.call(py, LabelStudio::whoami)
    }

    /// The project of a schema, made or changed where that must be.
    fn ensure_project<'py>(
        &self,
        py: Python<'py>,
        schema: &Schema,
        registry: &Registry,
        options: ProjectOptions,
    ) -> PyResult<Bound<'py, PyAny>> {
        let page = LabelConfigOptions::default().with_locale(options.locale);
        let page = label_config(&schema.compiled, &page).map_err(|error| raise_schema(py, &error))?;
        let spec = ProjectSpec::new(&schema.compiled, &page.xml)
            .with_annotations_per_task(options.annotations_per_task)
            .with_show_predictions(options.show_predictions);
        let registry = registry.snapshot();
        to_python(py, &project(&self.call(py, |server| server.ensure_project(&spec, &registry))?))
    }

    /// Deletes a project with all that is in it.
    fn delete_project(&self, py: Python<'_>, project: u64) -> PyResult<()> {
        self.call(py, |server| server.delete_project(project))
    }

    /// Brings records into a project, each once. Returns the report, and what a signal handler raised, after which no more
    /// records are taken.
    // Python passes them by name.
    #[allow(clippy::too_many_arguments)]
    fn import_records(
        &self,
        py: Python<'_>,
        project: u64,
        schema: &Schema,
        json: &str,
        cursor: Option<PathBuf>,
        cancellation: &Cancellation,
    ) -> PyResult<(Py<PyAny>, Option<Py<PyBaseException>>)> {
        let records = records(py, &schema.compiled, json)?;
        let options = set(ImportOptions::default(), cursor, ImportOptions::with_cursor);
        let import = |token: &CancellationToken, _: &Sender<Progress>| {
            let records = records.into_iter().take_while(|_| !token.is_cancelled());
            self.0.import_records(project, &schema.compiled, records, &options)
        };
        let (report, raised) = watched(py, cancellation, None, import, |error| raise_label_studio(py, error))?;
        Ok((to_python(py, &imported(&report))?.unbind(), raised))
    }

    /// What people said in a project, with what the records of `originals` have and the server does not.
    // Python passes them by name.
    #[allow(clippy::too_many_arguments)]
    fn harvest<'py>(
        &self,
        py: Python<'py>,
        project: u64,
        schema: &Schema,
        filter: &str,
        originals: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let filters =
            [("all", ExportFilter::All), ("annotated", ExportFilter::Annotated), ("gold", ExportFilter::Gold)];
        let filter = chosen("filter", filter, &filters)?;
        let (kept, mut found) = (kept(py, &schema.compiled, originals)?, Vec::<Value>::new());
        self.call(py, |server| {
            server.harvest(project, &schema.compiled, filter, |mut harvest| {
                kept.restore(&mut harvest);
                found.push(harvested(&harvest));
            })
        })?;
        to_python(py, &found)
    }
}

impl ReviewServer {
    /// Asks the server while other threads of Python run.
    fn call<T: Send>(
        &self,
        py: Python<'_>,
        ask: impl FnOnce(&LabelStudio) -> Result<T, LabelStudioError> + Send,
    ) -> PyResult<T> {
        py.detach(|| ask(&self.0)).map_err(|error| raise_label_studio(py, &error))
    }
}

fn project(project: &Project) -> Value {
    let schema = project.schema.as_ref().map(|(id, version)| format!("{id}@{version}"));
    json!({"id": project.id, "title": project.title, "label_config": project.label_config, "schema": schema})
}

fn imported(report: &ReviewReport) -> Value {
    let left_out = report.import.rejected.iter().map(|task| json!({"key": task.key, "message": task.message}));
    let rejected = report.rejected.iter().map(|record| json!({"id": record.id, "message": record.error.to_string()}));
    json!({
        "imported": report.import.imported,
        "present": report.import.present,
        "removed": report.import.removed,
        "rejected": rejected.chain(left_out).collect::<Vec<_>>(),
    })
}
