//! What follows from a schema: how a model is asked, how its answers are read, and the review page.

use std::sync::Arc;

use pyo3::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use vllm_batch::curate::label_studio::{
    Harvest, HarvestError, LabelConfigOptions, TaskOptions, harvest, label_config, task,
};
use vllm_batch::curate::{
    AnswerError, AnswerForm, Answers, CompiledSchema, Diagnostic, Example, PromptError, RequestOptions, TaskSchema,
};
use vllm_batch::pipeline::{Originals, batch_line};

use crate::errors::{raise_curation, raise_schema, raise_task};
use crate::json::{read, record, records};
use crate::outputs::to_python;

/// A schema that was checked as a whole.
#[pyclass(frozen, module = "vllm_batch._native")]
pub(crate) struct Schema {
    pub(crate) compiled: Arc<CompiledSchema>,
    warnings: Vec<Diagnostic>,
}

impl From<Arc<CompiledSchema>> for Schema {
    fn from(compiled: Arc<CompiledSchema>) -> Self {
        Self { warnings: compiled.warnings().to_vec(), compiled }
    }
}

/// How a model is asked. Examples are JSON.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct AskOptions {
    n: u32,
    temperature: Option<f32>,
    seed: Option<u64>,
    max_tokens: Option<u32>,
    whole_answers: bool,
    logprobs: bool,
    structured: bool,
    examples: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExampleJson {
    fields: Map<String, Value>,
    answers: Map<String, Value>,
}

impl AskOptions {
    pub(crate) fn options(self, py: Python<'_>, schema: &CompiledSchema) -> PyResult<RequestOptions> {
        let mut options = RequestOptions::default().with_n(self.n).with_logprobs(self.logprobs);
        options.form = if self.structured { AnswerForm::Json } else { AnswerForm::Template };
        (options.temperature, options.seed) = (self.temperature, self.seed);
        (options.max_tokens, options.whole_answers) = (self.max_tokens, self.whole_answers);
        let examples: Vec<ExampleJson> = read(py, &self.examples)?;
        let example = |one: ExampleJson| Ok(Example::new(one.fields, answers(py, schema, &one.answers)?));
        options.examples = examples.into_iter().map(example).collect::<PyResult<_>>()?;
        Ok(options)
    }
}

#[pymethods]
impl Schema {
    /// Reads the JSON of a schema and compiles it.
    #[staticmethod]
    fn read(py: Python<'_>, json: &str) -> PyResult<Self> {
        let read = TaskSchema::from_json(json).map_err(|error| raise_schema(py, &error))?;
        let compiled = Arc::new(read.schema.compile().map_err(|error| raise_schema(py, &error))?);
        let warnings = [&read.warnings, compiled.warnings()].concat();
        Ok(Self { compiled, warnings })
    }

    #[getter]
    fn id(&self) -> &str {
        &self.compiled.schema().id
    }

    #[getter]
    fn version(&self) -> String {
        self.compiled.schema().version.to_string()
    }

    #[getter]
    fn sha256(&self) -> &str {
        self.compiled.sha256()
    }

    /// The document in its canonical form.
    fn document<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, self.compiled.schema())
    }

    /// What may not be as it was meant.
    fn warnings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.warnings)
    }

    /// The JSON Schema that answers about a record are held to.
    fn decode_schema<'py>(&self, py: Python<'py>, json: &str) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.compiled.decode_schema_for(&record(py, &self.compiled, json)?))
    }

    /// The JSON Schema of answers for those who read them.
    fn json_schema<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, self.compiled.json_schema())
    }

    /// The line of a batch file that asks about a record.
    fn batch_line<'py>(
        &self,
        py: Python<'py>,
        json: &str,
        model: &str,
        options: AskOptions,
    ) -> PyResult<Bound<'py, PyAny>> {
        let record = record(py, &self.compiled, json)?;
        let options = options.options(py, &self.compiled)?;
        let request = self.compiled.request(&record, &options).map_err(|error| raise_prompt(py, &error))?;
        to_python(py, &batch_line(&request, model))
    }

    /// The conversation that asks about a record, and the fields that were cut off.
    fn prompt<'py>(&self, py: Python<'py>, json: &str, options: AskOptions) -> PyResult<Bound<'py, PyAny>> {
        let record = record(py, &self.compiled, json)?;
        let options = options.options(py, &self.compiled)?;
        let prompt = self.compiled.prompt(&record, &options.examples, options.form);
        let prompt = prompt.map_err(|error| raise_prompt(py, &error))?;
        to_python(py, &(prompt.messages, prompt.truncated))
    }

    /// What a model's text says about a record: answers, errors and repairs.
    fn parse<'py>(&self, py: Python<'py>, json: &str, text: &str) -> PyResult<Bound<'py, PyAny>> {
        let record = record(py, &self.compiled, json)?;
        let parsed = py.detach(|| self.compiled.parse(&record, text));
        let errors: Vec<Value> = parsed.errors.iter().map(answer_error).collect();
        let repairs: Vec<String> = parsed.repairs.iter().map(ToString::to_string).collect();
        to_python(py, &(parsed.answers, errors, repairs))
    }

    /// The review page, and what it cannot do as the schema says it.
    fn label_config<'py>(&self, py: Python<'py>, locale: &str) -> PyResult<(String, Bound<'py, PyAny>)> {
        let options = LabelConfigOptions::default().with_locale(locale);
        let config = label_config(&self.compiled, &options).map_err(|error| raise_schema(py, &error))?;
        Ok((config.xml, to_python(py, &config.warnings)?))
    }

    /// The review task of a record.
    fn task<'py>(&self, py: Python<'py>, json: &str) -> PyResult<Bound<'py, PyAny>> {
        let record = record(py, &self.compiled, json)?;
        let task = task(&self.compiled, &record, &TaskOptions::default()).map_err(|error| raise_task(py, &error))?;
        to_python(py, &task)
    }

    /// What exported tasks say, with what the records of `originals` have and the tasks do not.
    fn harvest<'py>(&self, py: Python<'py>, tasks: &str, originals: &str) -> PyResult<Bound<'py, PyAny>> {
        let (tasks, kept): (Vec<Value>, _) = (read(py, tasks)?, kept(py, &self.compiled, originals)?);
        let said = |task| {
            let mut harvest = harvest(&self.compiled, task);
            kept.restore(&mut harvest);
            harvested(&harvest)
        };
        to_python(py, &tasks.iter().map(said).collect::<Vec<_>>())
    }
}

/// Answers by question, all of which must hold.
fn answers(py: Python<'_>, schema: &CompiledSchema, object: &Map<String, Value>) -> PyResult<Answers> {
    let (answers, errors) = schema.read_answers(object);
    errors.first().map_or(Ok(answers), |error| Err(raise_curation(py, error, error.code())))
}

/// What review does not get of records.
pub(crate) fn kept(py: Python<'_>, schema: &CompiledSchema, json: &str) -> PyResult<Originals> {
    let mut kept = Originals::default();
    for record in records(py, schema, json)? {
        kept.add(schema, record);
    }
    Ok(kept)
}

/// What an exported task says, as plain data.
pub(crate) fn harvested(harvest: &Harvest) -> Value {
    let error =
        |error: &HarvestError| json!({"path": error.path, "code": error.code(), "message": error.kind.to_string()});
    let errors: Vec<Value> = harvest.errors.iter().map(error).collect();
    json!({"record": harvest.record, "withheld": harvest.withheld, "errors": errors})
}

fn answer_error(error: &AnswerError) -> Value {
    json!({"question": error.question, "path": error.path, "code": error.code(), "message": error.to_string()})
}

fn raise_prompt(py: Python<'_>, error: &PromptError) -> PyErr {
    raise_curation(py, error, error.code())
}
