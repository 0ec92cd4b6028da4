//! From a record to a task.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::super::compile::hex;
use super::super::{
    AgentKind, AnswerErrorKind, Answers, CompiledSchema, Field, FieldKind, Pii, Record, ResponseStatus, Suggestion,
    SuggestionSet,
};
use super::config::reserved_fields;
use super::control::{is_shared, is_withheld};
use super::error::{TaskError, TaskProblem};
use super::names;
use super::region::{Region, Targets};
use super::view::{View, nothing};

/// What a task has besides the record's fields and the models' answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskOptions {
    /// The batch that it is part of; absent: the one that the latest model's answers name.
    pub batch_id: Option<String>,
    /// Which of people's answers go along.
    pub annotations: TaskAnnotations,
}

impl TaskOptions {
    /// Names the batch.
    #[must_use]
    pub fn with_batch_id(mut self, batch_id: impl Into<String>) -> Self {
        self.batch_id = Some(batch_id.into());
        self
    }

    /// Says which of people's answers go along.
    #[must_use]
    pub fn with_annotations(mut self, annotations: TaskAnnotations) -> Self {
        self.annotations = annotations;
        self
    }
}

/// Which of people's answers a task takes along, as annotations. Who gave them is not said, since Label Studio refuses annotations of
/// people whom it does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskAnnotations {
    /// None.
    #[default]
    None,
    /// Of a record that is gold, the answers that people agree on, as its ground truth.
    Gold,
    /// Each of the answers that were handed in, and of a record that is gold those that people agree on, where nobody gave just
    /// these: to take reviewed records into the project of another schema version.
    All,
}

/// What tells whether a record is in a project already (`data.vb_key` of its task): 32 hexadecimal digits of the SHA-256 of the schema's
/// name and major version, the record's name, and the values of its fields. A record whose values changed is another one.
pub fn dedup_key(schema: &CompiledSchema, record: &Record) -> String {
    let schema = schema.schema();
    let mut hasher = Sha256::new();
    let mut part = |text: &str| {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    };
    part(&schema.id);
    part(&schema.version.major.to_string());
    part(&record.id);
    for field in &schema.fields {
        if let Some(value) = field.value_in(&record.fields) {
            part(&field.id);
            part(&sorted(value).to_string());
        }
    }
    hex(&hasher.finalize()[..16])
}

/// The same value with the keys of objects in their order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(members.into_iter().collect())
        }
        other => other.clone(),
    }
}

/// What predictions name as their model: `model@schema@version`, so that answers to different versions stay apart.
pub fn model_version(schema: &CompiledSchema, suggestions: &SuggestionSet) -> String {
    let named = suggestions.provenance.schema.clone();
    format!("{}@{}", suggestions.agent.name, named.unwrap_or_else(|| schema.schema().reference()))
}

/// Makes the task of a record, as `POST /api/projects/ID/import` takes it.
///
/// `data` has the value of each field, of absent ones an empty one, since Label Studio refuses null and missing keys; what the page shows
/// otherwise than it is, is there once more under `vb_show_FIELD`. Values of fields that are about a person are masked or left out, as
/// the schema says ([`Pii`]). `vb_record`, `vb_key`, `vb_schema`, `vb_batch_id` and `vb_custom_id` name the record; `vb_absent` and
/// `vb_withheld` list the fields whose values are not those of the record.
///
/// `predictions` has one prediction for each model, of its latest answers, with one region for each answer, and the mean of the answers'
/// scores by the weights of their questions. Answers that are about a person are left out.
///
/// # Errors
/// Everything for which the record cannot be used: fields that are missing or wrong, and answers or scores that do not hold. (That an
/// answer is missing is no error.)
///
/// # Example
/// ```
/// use vllm_batch::curate::{Record, SchemaRegistry};
/// use vllm_batch::curate::label_studio::{TaskOptions, task};
///
/// let schema = SchemaRegistry::builtin().get("cv_parsing").expect("it is built in");
/// let record = Record::new("cv-1").with_field("resume_text", "Ann, Rust developer");
/// let task = task(&schema, &record, &TaskOptions::default().with_batch_id("b1"))?;
/// assert_eq!(task["data"]["resume_text"], "Ann, Rust developer");
/// assert_eq!(task["data"]["linkedin_url"], "");
/// assert_eq!(task["data"]["vb_schema"], "cv_parsing@1.0.0");
/// # Ok::<(), vllm_batch::curate::label_studio::TaskError>(())
/// ```
pub fn task(schema: &CompiledSchema, record: &Record, options: &TaskOptions) -> Result<Value, TaskError> {
    let mut maker = Maker::new(schema, record);
    let predictions: Vec<Value> = record.latest_suggestions().filter_map(|set| maker.prediction(set)).collect();
    let annotations = maker.annotations(options.annotations);
    if !maker.problems.is_empty() {
        return Err(TaskError { record: record.id.clone(), problems: maker.problems });
    }
    let mut task = json!({
        "data": data(schema, record, options),
        "meta": {"schema": schema.schema().reference().to_string(), "record": record.id},
        "predictions": predictions,
    });
    if !annotations.is_empty() {
        task["annotations"] = annotations.into();
    }
    Ok(task)
}

fn data(schema: &CompiledSchema, record: &Record, options: &TaskOptions) -> Value {
    let latest = record.suggestions.last().map(|set| &set.provenance);
    let batch_id = options.batch_id.as_ref().or_else(|| latest?.batch_id.as_ref());
    let custom_id = latest.and_then(|provenance| provenance.custom_id.as_ref());
    let mut data = Map::new();
    let mut put = |key: &str, value: Value| drop(data.insert(key.to_owned(), value));
    put(names::RECORD, json!(record.id));
    put(names::KEY, json!(dedup_key(schema, record)));
    put(names::SCHEMA, json!(schema.schema().reference().to_string()));
    for (key, value) in [(names::BATCH, batch_id), (names::CUSTOM_ID, custom_id)] {
        put(key, json!(value.map_or("", String::as_str)));
    }
    let (mut absent, mut withheld) = (Vec::new(), Vec::new());
    for field in &schema.schema().fields {
        let own = field.value_in(&record.fields);
        let value = own.and_then(|value| allowed(field, value));
        if own.is_none() {
            absent.push(field.id.as_str());
        } else if is_withheld(field.pii) {
            withheld.push(field.id.as_str());
        }
        let view = View::of(schema.schema(), field);
        if let Some(shown) = view.shown(field, value.as_ref()) {
            put(&view.key(field), shown);
        }
        put(&field.id, value.unwrap_or_else(|| nothing(field)));
    }
    put(names::ABSENT, json!(absent));
    put(names::WITHHELD, json!(withheld));
    data.into()
}

/// What of a value may leave the process.
fn allowed(field: &Field, value: &Value) -> Option<Value> {
    const MASK: &str = "[masked]";
    match (field.pii, &field.kind) {
        (Pii::None | Pii::Keep, _) => Some(value.clone()),
        (Pii::Drop, _) => None,
        (Pii::Mask, FieldKind::Chat) => Some(json!([{"role": "user", "content": MASK}])),
        (Pii::Mask, FieldKind::Structured { .. }) => Some(json!([MASK])),
        (Pii::Mask, _) => Some(json!(MASK)),
    }
}

/// Makes what is said about one record.
struct Maker<'a> {
    schema: &'a CompiledSchema,
    record: &'a Record,
    targets: Targets,
    /// For which the record cannot be used.
    problems: Vec<TaskProblem>,
}

impl<'a> Maker<'a> {
    fn new(schema: &'a CompiledSchema, record: &'a Record) -> Self {
        let fields = schema.check_record(record).into_iter().filter(super::super::FieldError::is_fatal);
        let reserved = reserved_fields(schema.schema());
        let reserved = reserved.map(|(_, field)| TaskProblem::ReservedField { field: field.id.to_string() });
        let mut problems: Vec<_> = fields.map(TaskProblem::Field).chain(reserved).collect();
        let targets = Targets::read(schema).unwrap_or_else(|error| {
            problems.push(TaskProblem::LabelConfig { message: error.message });
            Targets::new(schema)
        });
        Self { schema, record, targets, problems }
    }

    fn prediction(&mut self, set: &SuggestionSet) -> Option<Value> {
        let result = self.shared((&set.agent.name, AgentKind::Model), &set.suggestions)?;
        let schema = self.schema.schema();
        let weight = |region: &Region| schema.question(&region.from_name).map_or(0.0, |question| question.weight);
        let mut scores: Vec<(&str, f64, f64)> = Vec::new();
        for region in &result {
            if let Some(score) = region.score.filter(|_| scores.last().is_none_or(|last| last.0 != region.from_name)) {
                scores.push((&region.from_name, score, weight(region)));
            }
        }
        let total: f64 = scores.iter().map(|(_, _, weight)| weight).sum();
        let mean = scores.iter().map(|(_, score, weight)| score * weight).sum::<f64>() / total;
        let mut prediction = json!({
            "model_version": model_version(self.schema, set),
            "result": result.iter().map(Region::to_json).collect::<Vec<_>>(),
        });
        if mean.is_finite() {
            prediction["score"] = json!(mean);
        }
        Some(prediction)
    }

    /// The regions of answers that may be shared; `None` if some do not hold.
    fn shared(&mut self, (agent, kind): (&str, AgentKind), suggestions: &[Suggestion]) -> Option<Vec<Region>> {
        let (before, fields) = (self.problems.len(), &self.record.fields);
        let answers = suggestions.iter().map(|one| (one.question.clone(), one.answer.clone())).collect();
        let wrong = self.schema.check(kind, fields, &answers);
        let wrong = wrong.into_iter().filter(|error| error.kind != AnswerErrorKind::Missing);
        self.problems.extend(wrong.map(|error| TaskProblem::Answer { agent: agent.to_owned(), error }));
        for one in suggestions {
            if let Some(score) = one.score.filter(|score| !(0.0..=1.0).contains(score)) {
                let question = one.question.to_string();
                self.problems.push(TaskProblem::Score { agent: agent.to_owned(), question, score });
            }
        }
        if self.problems.len() > before {
            return None;
        }
        // The last of several answers to one question counts, as everywhere.
        let of = |id: &str| suggestions.iter().rev().find(|one| one.question == *id).cloned();
        let schema = self.schema.schema();
        let questions = schema.questions.iter().filter(|question| is_shared(schema, question));
        let shared: Vec<Suggestion> = questions.filter_map(|question| of(&question.id)).collect();
        match self.targets.regions(self.schema, fields, &shared) {
            Ok(regions) => Some(regions),
            Err(error) => {
                self.problems.push(TaskProblem::Answer { agent: agent.to_owned(), error });
                None
            }
        }
    }

    fn annotations(&mut self, which: TaskAnnotations) -> Vec<Value> {
        let mut sets: Vec<(String, Answers, Value)> = Vec::new();
        if which == TaskAnnotations::All {
            for response in self.record.responses.iter().filter(|one| one.status == ResponseStatus::Submitted) {
                let annotation = response.lead_time.map_or_else(|| json!({}), |time| json!({"lead_time": time}));
                sets.push((response.agent.name.clone(), response.answers.clone(), annotation));
            }
        }
        if which != TaskAnnotations::None && self.record.gold == Some(true) {
            let answers = self.schema.decide_gold(self.record).answers;
            match sets.iter_mut().find(|(_, given, _)| *given == answers) {
                Some((_, _, annotation)) => annotation["ground_truth"] = json!(true),
                None => sets.push(("gold".to_owned(), answers, json!({"ground_truth": true}))),
            }
        }
        let annotation = |(agent, answers, mut annotation): (String, Answers, Value)| {
            let suggestions: Vec<Suggestion> =
                answers.iter().map(|(id, answer)| Suggestion::new(id.clone(), answer.clone())).collect();
            let result = self.shared((&agent, AgentKind::Human), &suggestions)?;
            annotation["result"] = result.iter().map(Region::to_json).collect();
            Some(annotation)
        };
        sets.into_iter().filter_map(annotation).collect()
    }
}
