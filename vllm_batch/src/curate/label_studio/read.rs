//! From regions to answers.

use serde_json::{Map, Value, json};

use super::super::check::{nearest, type_name};
use super::super::{AnswerError, AnswerErrorKind, Answers, CompiledSchema, Question, QuestionKind, Scale};
use super::control::Tag;
use super::error::{HarvestError, HarvestErrorKind};
use super::region::{Targets, Units};

/// Answers from the regions of a prediction's or an annotation's `result`, in the order of the schema, and what is wrong with those
/// that are no answers. The inverse of [`regions`](super::regions): see there. Nothing is said of questions without a region.
///
/// A date with a time and no zone is one in UTC. Numbers may be written as texts, as Label Studio allows it.
pub fn answers_of(
    schema: &CompiledSchema,
    fields: &Map<String, Value>,
    result: &[Value],
) -> (Answers, Vec<HarvestError>) {
    let (said, errors) = read(schema, &Targets::new(schema), fields, result);
    (said.into_iter().map(|said| (said.question.id.clone(), said.answer)).collect(), errors)
}

/// An answer, and the region (or the first of them) that says it.
pub(super) struct Said<'s> {
    pub(super) question: &'s Question,
    pub(super) answer: super::super::Answer,
    pub(super) region: usize,
}

/// As [`answers_of`], and says which regions.
pub(super) fn read<'s>(
    schema: &'s CompiledSchema,
    targets: &Targets,
    fields: &Map<String, Value>,
    result: &[Value],
) -> (Vec<Said<'s>>, Vec<HarvestError>) {
    let (mut found, mut errors): (Vec<Found<'s>>, _) = (Vec::new(), Vec::new());
    for (at, region) in result.iter().enumerate() {
        let read = control_of(schema, targets, region)
            .and_then(|question| Ok(Found { question, region: at, json: json_of(schema, question, fields, region)? }));
        match read {
            Ok(one) => add(&mut found, one, &mut errors),
            Err(kind) => errors.push(HarvestError::new(format!("/{at}"), kind)),
        }
    }
    let mut said = Vec::new();
    for question in &schema.schema().questions {
        let mut of_question = found.iter().filter(|one| one.question.id == question.id);
        let Some(one) = of_question.next() else { continue };
        // Two answers are none.
        if of_question.next().is_some() {
            continue;
        }
        match schema.read_in_record(question, fields, &one.json) {
            Ok(answer) => said.push(Said { question, answer, region: one.region }),
            Err(error) => errors.push(HarvestError::new(format!("/{}", one.region), error)),
        }
    }
    (said, errors)
}

/// What a region says, as the JSON form of an answer.
struct Found<'s> {
    question: &'s Question,
    region: usize,
    json: Value,
}

/// Labelled stretches are together one answer; of anything else there is one, or the same once more.
fn add<'s>(found: &mut Vec<Found<'s>>, one: Found<'s>, errors: &mut Vec<HarvestError>) {
    let mut same = found.iter_mut().filter(|other| other.question.id == one.question.id);
    match (same.next(), one.json) {
        (Some(Found { json: Value::Array(all), .. }), Value::Array(more)) if is_span(one.question) => all.extend(more),
        (Some(other), json) if other.json == json => {}
        (first, json) => {
            if first.is_some() {
                let kind = HarvestErrorKind::Conflict { question: one.question.id.to_string() };
                errors.push(HarvestError::new(format!("/{}", one.region), kind));
            }
            found.push(Found { json, ..one });
        }
    }
}

fn is_span(question: &Question) -> bool {
    matches!(question.kind, QuestionKind::Span { .. })
}

/// The question that a region answers.
fn control_of<'s>(
    schema: &'s CompiledSchema,
    targets: &Targets,
    region: &Value,
) -> Result<&'s Question, HarvestErrorKind> {
    if !region.is_object() {
        return Err(malformed("a region", region));
    }
    let text = |key: &'static str, expected| region[key].as_str().ok_or_else(|| malformed(expected, &region[key]));
    let control = text("from_name", "a text `from_name`")?;
    let question = schema.schema().question(control).ok_or_else(|| {
        let questions = schema.schema().questions.iter().map(|question| question.id.as_str());
        HarvestErrorKind::UnknownControl { control: control.to_owned(), nearest: nearest(control, questions) }
    })?;
    let (expected, found) = (Tag::of(&question.kind).region_type(), text("type", "a text `type`")?);
    if !found.eq_ignore_ascii_case(expected) {
        return Err(HarvestErrorKind::WrongRegionType { expected, found: found.to_owned() });
    }
    let (expected, found) = (targets.of(question), text("to_name", "a text `to_name`")?);
    if !expected.iter().any(|one| one == found) {
        return Err(HarvestErrorKind::WrongObject { expected, found: found.to_owned() });
    }
    Ok(question)
}

fn malformed(expected: &'static str, found: &Value) -> HarvestErrorKind {
    HarvestErrorKind::Malformed { expected, found: type_name(found) }
}

fn json_of(
    schema: &CompiledSchema,
    question: &Question,
    fields: &Map<String, Value>,
    region: &Value,
) -> Result<Value, HarvestErrorKind> {
    let tag = Tag::of(&question.kind);
    let value = &region["value"][tag.value_key()];
    Ok(match (tag, &question.kind) {
        (Tag::Labels, _) => return spans(schema, question, fields, &region["value"]),
        (Tag::Choices, QuestionKind::Choice { multiple: true, .. }) | (Tag::Taxonomy, _) => value.clone(),
        (Tag::Choices, kind) => choice(kind, &single(question, value)?)?,
        (Tag::TextArea, QuestionKind::Text(text)) if text.many => value.clone(),
        (Tag::TextArea, QuestionKind::Structured { .. }) => parse(question, &single(question, value)?)?,
        (Tag::TextArea, _) => single(question, value)?,
        (Tag::Ranker, _) => value[question.id.as_str()].clone(),
        (Tag::Rating | Tag::Number, _) => number(value),
        (Tag::DateTime, _) => date(value),
        _ => value.clone(),
    })
}

/// The one item of a list.
fn single(question: &Question, value: &Value) -> Result<Value, HarvestErrorKind> {
    match value.as_array().map(Vec::as_slice) {
        Some([one]) => Ok(one.clone()),
        Some(items) => {
            let kind = AnswerErrorKind::WrongCount { min: 1, max: Some(1), found: items.len() };
            Err(AnswerError::new(question.id.as_str(), kind).into())
        }
        None => Err(malformed("a list", value)),
    }
}

/// A chosen value as the answer that it stands for; what stands for none stays, to be found wrong.
fn choice(kind: &QuestionKind, value: &Value) -> Result<Value, HarvestErrorKind> {
    let alias = value.as_str().ok_or_else(|| malformed("a text", value))?;
    Ok(match (kind, alias) {
        (QuestionKind::Boolean { .. }, "true") => json!(true),
        (QuestionKind::Boolean { .. }, "false") => json!(false),
        (QuestionKind::Rating { scale: Scale::Range { .. } }, _) => number(value),
        _ => value.clone(),
    })
}

fn parse(question: &Question, value: &Value) -> Result<Value, HarvestErrorKind> {
    let text = value.as_str().ok_or_else(|| malformed("a text", value))?;
    serde_json::from_str(text)
        .map_err(|error| HarvestErrorKind::NotJson { question: question.id.to_string(), message: error.to_string() })
}

fn number(value: &Value) -> Value {
    let written = value.as_str().map(str::trim);
    let number = written
        .and_then(|text| text.parse::<i64>().map(Value::from).ok().or_else(|| Some(text.parse::<f64>().ok()?.into())));
    number.unwrap_or_else(|| value.clone())
}

/// Years come as numbers too, and times without seconds and zone.
fn date(value: &Value) -> Value {
    match value {
        Value::Number(year) => json!(year.to_string()),
        Value::String(text) => match text.as_bytes() {
            [_, _, _, _, b'-', _, _, b'-', _, _, b'T', _, _, b':', _, _] => json!(format!("{text}:00Z")),
            [_, _, _, _, b'-', _, _, b'-', _, _, b'T', _, _, b':', _, _, b':', _, _] => json!(format!("{text}Z")),
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

/// Each label of a stretch is a stretch of its own.
fn spans(
    schema: &CompiledSchema,
    question: &Question,
    fields: &Map<String, Value>,
    value: &Value,
) -> Result<Value, HarvestErrorKind> {
    let place = |key: &'static str, expected| {
        // Some exports write places as texts.
        let place = number(&value[key]);
        place.as_u64().and_then(|place| usize::try_from(place).ok()).ok_or_else(|| malformed(expected, &value[key]))
    };
    let (start, end) = (place("start", "a place `start`")?, place("end", "a place `end`")?);
    let labels = value["labels"].as_array().ok_or_else(|| malformed("a list `labels`", &value["labels"]))?;
    let missing = || {
        let QuestionKind::Span { field, .. } = &question.kind else { return String::new() };
        field.to_string()
    };
    let units = Units::of(schema, question, fields)
        .ok_or_else(|| AnswerError::new(question.id.as_str(), AnswerErrorKind::MissingField { field: missing() }))?;
    let (Some(first), Some(last)) = (units.chars(start), units.chars(end)) else {
        return Err(HarvestErrorKind::NotInText { start, end });
    };
    Ok(labels.iter().map(|label| json!({"start": first, "end": last, "label": label})).collect())
}
