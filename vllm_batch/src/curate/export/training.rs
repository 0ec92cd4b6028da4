//! What is left of a schema for training, and of records.

use serde_json::{Map, Value};

use super::ExportError;
use crate::curate::{
    Answers, CompiledSchema, Condition, ExportSpec, Field, FieldKind, Ident, Pii, Question, QuestionRole, Record,
    TaskSchema, TextFormat,
};

/// The schema that models are trained by.
#[derive(Debug)]
pub(super) struct Training {
    /// With the questions that are learnt, and without what is private.
    pub(super) compiled: CompiledSchema,
    /// What goes in.
    inputs: Vec<Field>,
}

impl Training {
    pub(super) fn new(schema: &CompiledSchema, reasoning: bool) -> Result<Self, ExportError> {
        let schema = schema.schema();
        let inputs: Vec<Field> = schema.fields.iter().filter(|field| is_input(schema, field)).cloned().collect();
        let mut questions = Vec::new();
        for question in &schema.questions {
            if is_learnt(schema, &inputs, question, reasoning)? {
                questions.push(question.clone());
            }
        }
        if questions.iter().all(|question| question.role != QuestionRole::Output) {
            return Err(ExportError::NoOutputs);
        }
        let compiled = reduced(schema, &inputs, questions).compile().map_err(ExportError::Schema)?;
        Ok(Self { compiled, inputs })
    }

    pub(super) fn schema(&self) -> &TaskSchema {
        self.compiled.schema()
    }

    /// A record with what goes in and nothing else.
    pub(super) fn redacted(&self, record: &Record) -> Record {
        let mut redacted = Record::new(&*record.id);
        redacted.fields = self.redacted_fields(&record.fields);
        redacted
    }

    pub(super) fn redacted_fields(&self, fields: &Map<String, Value>) -> Map<String, Value> {
        let shown = |field: &Field| {
            let value = field.value_in(fields)?;
            let value = if field.pii == Pii::Mask { masked(field, value) } else { value.clone() };
            Some((field.id.to_string(), value))
        };
        self.inputs.iter().filter_map(shown).collect()
    }

    /// Answers to the questions that are learnt; where there is none, the question's default.
    pub(super) fn outputs(&self, record: &Record, answers: &Answers) -> Answers {
        let own = |question: &Question| Some((question.id.clone(), answers.get(&question.id)?.clone()));
        let mut outputs: Answers = self.schema().model_questions().filter_map(own).collect();
        for question in self.schema().model_questions() {
            let Some(default) = question.default.as_ref().filter(|_| outputs.get(&question.id).is_none()) else {
                continue;
            };
            let visible = self.schema().visible_questions(&outputs, &record.fields);
            let is_asked = visible.iter().any(|one| one.id == question.id);
            if is_asked && self.compiled.check_in_record(question, &record.fields, default).is_ok() {
                outputs.insert(question.id.clone(), default.clone());
            }
        }
        outputs
    }
}

/// Whether a field goes in. Without a list, those in the prompt do; if the schema has a template of its own, that says which.
fn is_input(schema: &TaskSchema, field: &Field) -> bool {
    let is_listed = match &schema.export.inputs {
        Some(inputs) => inputs.contains(&field.id),
        None => field.in_prompt || schema.prompt.user.is_some(),
    };
    is_listed && field.pii != Pii::Drop
}

fn is_learnt(schema: &TaskSchema, inputs: &[Field], question: &Question, reasoning: bool) -> Result<bool, ExportError> {
    let is_listed = schema.export.outputs.as_ref().map(|outputs| outputs.contains(&question.id));
    let is_wanted = match question.role {
        QuestionRole::Review => false,
        QuestionRole::Reasoning => reasoning,
        QuestionRole::Output => is_listed.unwrap_or(true),
    };
    let is_private = matches!(question.pii, Pii::Mask | Pii::Drop)
        || question.kind.fields().any(|id| inputs.iter().all(|field| field.id != *id || field.pii == Pii::Mask));
    if is_wanted && is_private && is_listed == Some(true) {
        return Err(ExportError::PrivateOutput { question: question.id.clone() });
    }
    Ok(is_wanted && !is_private)
}

fn reduced(schema: &TaskSchema, inputs: &[Field], questions: Vec<Question>) -> TaskSchema {
    let mut reduced = schema.clone();
    (reduced.migrations, reduced.export, reduced.prompt.assistant) = (Vec::new(), ExportSpec::default(), None);
    for field in &mut reduced.fields {
        let is_input = inputs.iter().any(|input| input.id == field.id);
        field.in_prompt = is_input;
        field.required &= is_input;
        if !is_input || field.pii == Pii::Mask {
            field.default = None;
        }
        if field.pii == Pii::Mask && field.kind != FieldKind::Chat {
            field.kind = masked_kind(&field.kind);
        }
    }
    let ids: Vec<Ident> = questions.iter().map(|question| question.id.clone()).collect();
    reduced.questions = questions;
    for question in &mut reduced.questions {
        let condition = question.visible_when.as_ref();
        if condition.is_some_and(|condition| !is_known(condition, &ids, inputs)) {
            // A model does not know what decides whether the question is asked.
            (question.visible_when, question.required) = (None, false);
        }
    }
    reduced
}

/// Whether a model knows all that decides whether a question is asked.
fn is_known(condition: &Condition, questions: &[Ident], inputs: &[Field]) -> bool {
    let all_known = |conditions: &[Condition]| conditions.iter().all(|one| is_known(one, questions, inputs));
    match condition {
        Condition::Answered(question) | Condition::Is { question, .. } => questions.contains(question),
        Condition::Field { field, .. } => inputs.iter().any(|input| input.id == *field && input.pii != Pii::Mask),
        Condition::Not(inner) => is_known(inner, questions, inputs),
        Condition::All(conditions) | Condition::Any(conditions) => all_known(conditions),
    }
}

/// The kind of a masked field: what is not a list or an object is a text.
fn masked_kind(kind: &FieldKind) -> FieldKind {
    match kind {
        FieldKind::Structured { .. } => FieldKind::Structured { schema: None },
        _ => FieldKind::Text { format: TextFormat::Plain },
    }
}

/// A value with a mark in place of each text and number. Keys of objects and the roles of a conversation stay.
fn masked(field: &Field, value: &Value) -> Value {
    let mark = || Value::from(format!("[{}]", field.id));
    let is_role = |key: &str| field.kind == FieldKind::Chat && key == "role";
    match value {
        Value::Null => Value::Null,
        Value::Array(items) => items.iter().map(|item| masked(field, item)).collect(),
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| (key.clone(), if is_role(key) { value.clone() } else { masked(field, value) }))
            .collect(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => mark(),
    }
}
