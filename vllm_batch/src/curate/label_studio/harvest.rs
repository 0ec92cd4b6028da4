//! From an exported task to a record.

use serde_json::{Map, Value, json};

use super::super::check::type_name;
use super::super::{
    Agent, Answer, AnswerError, AnswerErrorKind, Answers, CompiledSchema, Condition, Ident, Provenance, Question,
    QuestionKind, Record, Response, ResponseStatus, SchemaRef, ScoreKind, Suggestion, SuggestionSet,
};
use super::error::{HarvestError, HarvestErrorKind};
use super::names;
use super::read::{Said, read};
use super::region::Targets;

/// What an exported task says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Harvest {
    /// The record, with what models and people said. Its metadata have the numbers that Label Studio gave the task and its project
    /// (`label_studio`), and what else is in the task's data.
    pub record: Record,
    /// Fields whose values did not go to the review server: the record has not got them.
    pub withheld: Vec<Ident>,
    /// What was left out, and why.
    pub errors: Vec<HarvestError>,
}

/// Reads a task as Label Studio exports it, best a snapshot with full predictions
/// (`"serialization_options": {"predictions": {"only_id": false}}`).
///
/// Annotations are responses: those that were skipped are discarded, drafts are drafts. One that is the ground truth makes the record
/// gold. A response is prefilled if it began with a prediction (`parent_prediction`, or the `origin` of its regions). Predictions are suggestions; those that only annotations remember
/// are too. Answers to questions that are not asked of the record are left out, and so is whatever else is wrong; each time, an
/// error says so. A required question about stretches that has none in what was handed in has the answer that there are none.
///
/// No JSON makes it panic.
///
/// # Example
/// ```
/// use serde_json::json;
/// use vllm_batch::curate::{Answer, ResponseStatus, SchemaRegistry};
/// use vllm_batch::curate::label_studio::harvest;
///
/// let schema = SchemaRegistry::builtin().get("email_evaluation").expect("it is built in");
/// let tone = json!({"from_name": "tone", "to_name": "src_vb_record", "type": "choices", "value": {"choices": ["formal"]}});
/// let task = json!({
///     "id": 7,
///     "data": {"vb_record": "mail-1", "vb_schema": "email_evaluation@1.0.0", "subject": "Hello"},
///     "annotations": [{"completed_by": {"email": "ann@example.org"}, "ground_truth": true, "result": [tone]}],
/// });
/// let harvest = harvest(&schema, &task);
/// assert_eq!(harvest.errors, []);
/// assert_eq!((harvest.record.id.as_str(), harvest.record.gold), ("mail-1", Some(true)));
/// let response = &harvest.record.responses[0];
/// assert_eq!((response.agent.name.as_str(), response.status), ("ann@example.org", ResponseStatus::Submitted));
/// assert_eq!(response.answers.get("tone"), Some(&Answer::Option("formal".into())));
/// ```
pub fn harvest(schema: &CompiledSchema, task: &Value) -> Harvest {
    let targets = Targets::new(schema);
    let mut reader = Reader { schema, targets, fields: Map::new(), withheld: Vec::new(), errors: Vec::new() };
    let mut record = reader.record(task);
    reader.predictions(task, &mut record);
    for (key, is_draft) in [("annotations", false), ("drafts", true)] {
        for (at, annotation) in reader.list(task, key).iter().enumerate() {
            let response = reader.response(&format!("/{key}/{at}"), annotation, is_draft);
            record.responses.extend(response);
            if annotation["ground_truth"] == true && annotation["was_cancelled"] != true {
                record.gold = Some(true);
            }
        }
    }
    Harvest { record, withheld: reader.withheld, errors: reader.errors }
}

/// The schema of a task, as [`task`](super::task) notes it in its data; `None` of a task that was not made here.
pub fn schema_of(task: &Value) -> Option<SchemaRef> {
    task["data"][names::SCHEMA].as_str()?.parse().ok()
}

struct Reader<'s> {
    schema: &'s CompiledSchema,
    targets: Targets,
    fields: Map<String, Value>,
    withheld: Vec<Ident>,
    errors: Vec<HarvestError>,
}

impl Reader<'_> {
    fn report(&mut self, path: &str, kind: impl Into<HarvestErrorKind>) {
        self.errors.push(HarvestError::new(path, kind));
    }

    fn malformed(&mut self, path: &str, expected: &'static str, found: &Value) {
        self.report(path, HarvestErrorKind::Malformed { expected, found: type_name(found) });
    }

    /// The record's name and fields.
    fn record(&mut self, task: &Value) -> Record {
        let data = &task["data"];
        let Some(members) = data.as_object() else {
            self.malformed("/data", "an object", data);
            return Record::new(task["id"].to_string());
        };
        self.check_schema(data);
        let id = &data[names::RECORD];
        if !id.is_string() {
            self.malformed(&format!("/data/{}", names::RECORD), "a text", id);
        }
        let id = id.as_str().map_or_else(|| task["id"].to_string(), str::to_owned);
        let mut record = Record::new(id);
        let is_listed = |key: &str, id: &str| data[key].as_array().is_some_and(|list| list.iter().any(|one| one == id));
        for field in &self.schema.schema().fields {
            if is_listed(names::WITHHELD, &field.id) {
                self.withheld.push(field.id.clone());
            } else if let Some(value) = members.get(field.id.as_str()).filter(|_| !is_listed(names::ABSENT, &field.id))
            {
                record.fields.insert(field.id.to_string(), value.clone());
            }
        }
        let is_other = |key: &str| !key.starts_with(names::RESERVED) && self.schema.schema().field(key).is_none();
        record.metadata =
            members.iter().filter(|(key, _)| is_other(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
        record.metadata.insert("label_studio".to_owned(), json!({"task": task["id"], "project": task["project"]}));
        self.fields.clone_from(&record.fields);
        record
    }

    /// The task is one of this schema, in a version that has the same questions.
    fn check_schema(&mut self, data: &Value) {
        let own = self.schema.schema().reference();
        let found = data[names::SCHEMA].as_str().unwrap_or_default();
        let named = found.parse::<SchemaRef>();
        let is_own = named.is_ok_and(|named| named.id == own.id && named.version.major == own.version.major);
        if !is_own {
            let path = format!("/data/{}", names::SCHEMA);
            self.report(&path, HarvestErrorKind::OtherSchema { found: found.to_owned() });
        }
    }

    fn list<'t>(&mut self, task: &'t Value, key: &str) -> &'t [Value] {
        match &task[key] {
            Value::Null => &[],
            Value::Array(items) => items,
            other => {
                self.malformed(&format!("/{key}"), "a list", other);
                &[]
            }
        }
    }

    /// Those of the task, then those that annotations remember and that are not there any more.
    fn predictions(&mut self, task: &Value, record: &mut Record) {
        let mut seen: Vec<&Value> = Vec::new();
        for (at, prediction) in self.list(task, "predictions").iter().enumerate() {
            let path = format!("/predictions/{at}");
            if prediction.is_number() {
                self.report(&path, HarvestErrorKind::PredictionById);
                continue;
            }
            seen.push(&prediction["id"]);
            record.suggestions.extend(self.suggestions(&path, prediction));
        }
        for (at, annotation) in task["annotations"].as_array().into_iter().flatten().enumerate() {
            let prediction = &annotation["prediction"];
            let is_there = prediction["id"].is_null() || seen.contains(&&prediction["id"]);
            if has_result(prediction) && !is_there {
                seen.push(&prediction["id"]);
                record.suggestions.extend(self.suggestions(&format!("/annotations/{at}/prediction"), prediction));
            }
        }
    }

    fn suggestions(&mut self, path: &str, prediction: &Value) -> Option<SuggestionSet> {
        let result = self.result(path, prediction)?;
        let version = prediction["model_version"].as_str().unwrap_or_default();
        let (model, named) = split_version(version);
        let said = self.answers(path, result, true);
        let suggestions = said.into_iter().map(|(region, id, answer)| {
            let region = region.map_or(&Value::Null, |at| &result[at]);
            let suggestion = Suggestion::new(id, answer);
            match region["score"].as_f64() {
                Some(score) => suggestion.with_score(score, score_kind(&region["score_kind"])),
                None => suggestion,
            }
        });
        let suggestions = suggestions.collect();
        let provenance = Provenance { model: model.to_owned(), schema: named, ..Provenance::default() };
        Some(SuggestionSet::new(Agent::model(model), suggestions, provenance))
    }

    fn response(&mut self, path: &str, annotation: &Value, is_draft: bool) -> Option<Response> {
        let result = self.result(path, annotation)?;
        let status = match (is_draft, &annotation["was_cancelled"]) {
            (_, Value::Bool(true)) => ResponseStatus::Discarded,
            (true, _) => ResponseStatus::Draft,
            (false, _) => ResponseStatus::Submitted,
        };
        let said = self.answers(path, result, status == ResponseStatus::Submitted);
        let answers: Answers = said.into_iter().map(|(_, id, answer)| (id, answer)).collect();
        let person = if is_draft { &annotation["user"] } else { &annotation["completed_by"] };
        let mut response = Response::submitted(person_name(person), answers);
        response.status = status;
        response.prefilled = prefilled(annotation, result);
        response.lead_time = annotation["lead_time"].as_f64();
        Some(response)
    }

    fn result<'t>(&mut self, path: &str, of: &'t Value) -> Option<&'t [Value]> {
        let result = of.get("result").unwrap_or(&Value::Null);
        if result.as_array().is_none() {
            self.malformed(&format!("{path}/result"), "a list", result);
        }
        result.as_array().map(Vec::as_slice)
    }

    /// Answers to the questions that are asked, with their regions.
    fn answers(&mut self, path: &str, result: &[Value], is_done: bool) -> Vec<(Option<usize>, Ident, Answer)> {
        let (said, errors) = read(self.schema, &self.targets, &self.fields, result);
        let path = format!("{path}/result");
        self.errors.extend(errors.into_iter().map(|error| error.under(&path)));
        let all: Answers = said.iter().map(|one| (one.question.id.clone(), one.answer.clone())).collect();
        let visible = self.schema.schema().visible_questions(&all, &self.fields);
        let is_visible =
            |question: &Question| visible.iter().any(|one| one.id == question.id) || self.depends_on_withheld(question);
        let (kept, hidden): (Vec<Said<'_>>, Vec<_>) = said.into_iter().partition(|one| is_visible(one.question));
        let is_empty = |question: &&&Question| {
            let is_open = question.required && matches!(question.kind, QuestionKind::Span { .. });
            is_done && is_open && all.get(&question.id).is_none() && !names_control(result, &question.id)
        };
        let none = visible.iter().filter(is_empty).map(|one| (None, one.id.clone(), Answer::Spans(Vec::new())));
        let none: Vec<_> = none.collect();
        for one in hidden {
            let error = AnswerError::new(one.question.id.as_str(), AnswerErrorKind::Hidden);
            self.report(&format!("{path}/{}", one.region), error);
        }
        let kept = kept.into_iter().map(|one| (Some(one.region), one.question.id.clone(), one.answer));
        kept.chain(none).collect()
    }

    /// Whether it cannot be known if a question is asked, since a value did not go to the review server.
    fn depends_on_withheld(&self, question: &Question) -> bool {
        question.visible_when.as_ref().is_some_and(|condition| names_any(condition, &self.withheld))
    }
}

fn names_any(condition: &Condition, fields: &[Ident]) -> bool {
    match condition {
        Condition::Field { field, .. } => fields.contains(field),
        Condition::Not(inner) => names_any(inner, fields),
        Condition::All(all) | Condition::Any(all) => all.iter().any(|one| names_any(one, fields)),
        Condition::Answered(_) | Condition::Is { .. } => false,
    }
}

fn names_control(result: &[Value], control: &str) -> bool {
    result.iter().any(|region| region["from_name"] == control)
}

fn has_result(prediction: &Value) -> bool {
    prediction["result"].as_array().is_some_and(|result| !result.is_empty())
}

/// A person's address, else their name or number.
fn person_name(person: &Value) -> String {
    let known = ["email", "username", "id"].into_iter().map(|key| &person[key]).find(|value| !value.is_null());
    match known.unwrap_or(person) {
        Value::String(text) => text.clone(),
        Value::Null => "unknown".to_owned(),
        other => other.to_string(),
    }
}

/// Whether an annotation began with a prediction, if that can be known. That it remembers one only says that there was one: Label Studio
/// notes it also for people who were not shown it.
fn prefilled(annotation: &Value, result: &[Value]) -> Option<bool> {
    let mut origins = result.iter().filter_map(|region| region["origin"].as_str());
    let is_from_prediction = |origin: &str| origin.starts_with("prediction");
    if !annotation["parent_prediction"].is_null() || origins.clone().any(is_from_prediction) {
        return Some(true);
    }
    let there_was_none = annotation["prediction"].is_object() && !has_result(&annotation["prediction"]);
    (origins.any(|origin| origin == "manual") || there_was_none).then_some(false)
}

/// The model and the schema of `model@schema@version`; a text of another form is a model's name.
fn split_version(version: &str) -> (&str, Option<SchemaRef>) {
    let at = version.rmatch_indices('@').nth(1).map(|(at, _)| at);
    let parts = at.and_then(|at| Some((&version[..at], version[at + 1..].parse().ok()?)));
    parts.map_or((version, None), |(model, named)| (model, Some(named)))
}

fn score_kind(kind: &Value) -> ScoreKind {
    match kind.as_str() {
        Some("logprob") => ScoreKind::Logprob,
        Some("vote") => ScoreKind::Vote,
        Some("self_report") => ScoreKind::SelfReport,
        _ => ScoreKind::None,
    }
}
