//! Records and settings of Argilla 2.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::AnnotatorNames;
use super::sample::{Sample, Sampler};
use super::training::Training;
use crate::curate::gold::submitted;
use crate::curate::{
    Answer, Answers, FieldKind, LabelSpan, Question, QuestionKind, QuestionOption, Record, Scale, SuggestionSet,
};

/// The most labels, and the most values of a rating, that Argilla takes.
const MAX_LABELS: usize = 500;
const MAX_AGENT_CHARS: usize = 200;

/// A record with what models suggest and what people said.
pub(super) fn record(sampler: &Sampler<'_>, record: &Record, sample: &Sample) -> Map<String, Value> {
    let training = &sampler.training;
    let mut fields = Map::new();
    for field in &training.schema().fields {
        if let Some(value) = sample.record.fields.get(field.id.as_str()) {
            fields.insert(field.id.to_string(), shown(&field.kind, value));
        }
    }
    let suggestions = record.suggestions.last().map(|set| suggestions(training, set)).unwrap_or_default();
    let people = submitted(record);
    let responses = people.iter().flat_map(|response| {
        let user = user_id(&sampler.options.annotators, &response.agent.name);
        values(training, &response.answers)
            .map(move |(name, value)| {
                json!({"question_name": name, "value": value, "user_id": user, "status": "submitted"})
            })
            .collect::<Vec<_>>()
    });
    Map::from_iter([
        ("id".to_owned(), json!(sample.source.id)),
        ("fields".to_owned(), Value::Object(fields)),
        ("metadata".to_owned(), Value::Object(sample.source.columns())),
        ("suggestions".to_owned(), Value::Array(suggestions)),
        ("responses".to_owned(), responses.collect()),
    ])
}

/// A text, or the messages of a conversation.
fn shown(kind: &FieldKind, value: &Value) -> Value {
    match (kind, value) {
        (FieldKind::Chat, _) | (_, Value::String(_)) => value.clone(),
        _ => Value::from(value.to_string()),
    }
}

/// The latest model's answers. Of several models, Argilla keeps one suggestion for each question.
fn suggestions(training: &Training, set: &SuggestionSet) -> Vec<Value> {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "-_:./ ".contains(c) { c } else { '_' };
    let agent: String = set.agent.name.chars().take(MAX_AGENT_CHARS).map(allowed).collect();
    let score = |name: &str| set.suggestions.iter().find(|one| one.question == *name).and_then(|one| one.score);
    values(training, &set.answers())
        .map(|(name, value)| {
            json!({"question_name": name, "value": value, "score": score(name), "agent": agent, "type": "model"})
        })
        .collect()
}

/// Answers by the names of their questions, in Argilla's form. An empty selection is none.
fn values<'a>(training: &'a Training, answers: &'a Answers) -> impl Iterator<Item = (&'a str, Value)> {
    training.schema().questions.iter().filter_map(|question| {
        let value = value(&question.kind, answers.get(&question.id)?)?;
        Some((question.id.as_str(), value))
    })
}

fn value(kind: &QuestionKind, answer: &Answer) -> Option<Value> {
    let value = match answer {
        Answer::Options(values) if values.is_empty() => return None,
        Answer::Rating(stars) if is_rating(kind) => json!(stars),
        Answer::Spans(spans) => spans.iter().map(span).collect(),
        Answer::Option(text) | Answer::Text(text) | Answer::Date(text) => json!(text),
        Answer::Options(_) | Answer::Preference(_) => answer.to_json(),
        _ => json!(answer.to_json().to_string()),
    };
    (value != json!("")).then_some(value)
}

fn span(span: &LabelSpan) -> Value {
    json!({"start": span.start, "end": span.end, "label": span.label})
}

/// Argilla has ratings of whole numbers from 0 to 10.
fn is_rating(kind: &QuestionKind) -> bool {
    matches!(kind, QuestionKind::Rating { scale: Scale::Range { min: 0.., max: ..=10 } })
}

/// A UUID of a person, from the hash of the name (and of the salt, if names are not told).
fn user_id(names: &AnnotatorNames, name: &str) -> String {
    let salt = if let AnnotatorNames::Pseudonyms { salt } = names { salt.as_str() } else { "" };
    let hash = Sha256::digest(format!("{}:{salt}{name}", salt.len()));
    let mut bytes: [u8; 16] = std::array::from_fn(|at| hash[at]);
    // Version 8, of the writer's own making (RFC 9562).
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = crate::curate::compile::hex(&bytes);
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// What a dataset of such records needs: its fields and questions, in the form of Argilla's API.
pub(super) fn settings(training: &Training) -> Value {
    let schema = training.schema();
    let fields: Vec<Value> = schema
        .fields
        .iter()
        .filter(|field| field.in_prompt)
        .map(|field| {
            let kind = if field.kind == FieldKind::Chat { "chat" } else { "text" };
            json!({"name": field.id, "title": field.title.as_str(), "required": field.required, "settings": {"type": kind}})
        })
        .collect();
    let questions: Vec<Value> = schema.questions.iter().map(question).collect();
    let guidelines = schema.guidelines.as_ref().map(crate::curate::LocalizedText::as_str);
    json!({"guidelines": guidelines, "fields": fields, "questions": questions})
}

fn question(question: &Question) -> Value {
    let required = question.required && question.visible_when.is_none();
    let help = question.help.as_ref().map(crate::curate::LocalizedText::as_str);
    json!({
        "name": question.id,
        "title": question.title.as_str(),
        "description": help,
        "required": required,
        "settings": question_settings(&question.kind),
    })
}

fn question_settings(kind: &QuestionKind) -> Value {
    let one_of = |labels: Vec<Value>| json!({"type": "label_selection", "options": labels});
    match kind {
        QuestionKind::Choice { options, multiple: true, .. } if options.len() <= MAX_LABELS => {
            json!({"type": "multi_label_selection", "options": labels(options)})
        }
        QuestionKind::Choice { options, .. } | QuestionKind::Rating { scale: Scale::Levels { levels: options } }
            if (2..=MAX_LABELS).contains(&options.len()) =>
        {
            one_of(labels(options))
        }
        QuestionKind::Boolean { yes, no } => one_of(vec![label("true", yes.as_str()), label("false", no.as_str())]),
        QuestionKind::Preference { tie, .. } => {
            let words = ["left", "right", "tie"].into_iter().take(2 + usize::from(*tie));
            one_of(words.map(|word| label(word, word)).collect())
        }
        QuestionKind::Rating { scale: Scale::Range { min, max } } if is_rating(kind) => {
            let values: Vec<_> = (*min..=*max).map(|value| json!({"value": value})).collect();
            json!({"type": "rating", "options": values})
        }
        QuestionKind::Span { field, labels: options, overlap } => {
            json!({"type": "span", "field": field, "allow_overlapping": overlap, "options": labels(options)})
        }
        _ => json!({"type": "text", "use_markdown": false}),
    }
}

fn labels(options: &[QuestionOption]) -> Vec<Value> {
    options.iter().map(|option| label(&option.value, option.label.as_str())).collect()
}

fn label(value: &str, text: &str) -> Value {
    json!({"value": value, "text": text, "description": null})
}
