//! From JSON to an answer of the right kind. What its parts may be is checked later.

use serde_json::Value;

use super::super::{Answer, LabelSpan, Preference, QuestionKind, QuestionOption, Scale};
use super::{AnswerErrorKind, Wrong, nearest};

/// Reads an answer. Options come in the order of the question, stretches of text by their beginning.
pub(super) fn read(kind: &QuestionKind, value: &Value) -> Result<Answer, Wrong> {
    Ok(match kind {
        QuestionKind::Choice { options, multiple: true, .. } => {
            Answer::Options(options_in_order(options, texts(value)?))
        }
        QuestionKind::Choice { .. } | QuestionKind::Rating { scale: Scale::Levels { .. } } => {
            Answer::Option(text(value)?)
        }
        QuestionKind::Rating { scale: Scale::Range { .. } } => Answer::Rating(integer(value)?),
        QuestionKind::Boolean { .. } => {
            Answer::Boolean(value.as_bool().ok_or_else(|| wrong_type("true or false", value))?)
        }
        QuestionKind::Number(_) => Answer::Number(value.as_f64().ok_or_else(|| wrong_type("a number", value))?),
        QuestionKind::Text(question) if question.many => Answer::Texts(texts(value)?),
        QuestionKind::Text(_) => Answer::Text(text(value)?),
        QuestionKind::Date { .. } => Answer::Date(text(value)?),
        QuestionKind::Structured { .. } => Answer::Structured(value.clone()),
        QuestionKind::Preference { tie, .. } => Answer::Preference(preference(*tie, value)?),
        QuestionKind::Ranking { .. } => Answer::Ranking(texts(value)?),
        QuestionKind::Taxonomy { .. } => Answer::Taxonomy(each(value, texts)?),
        QuestionKind::Span { .. } => {
            let mut spans = each(value, span)?;
            spans.sort();
            Answer::Spans(spans)
        }
    })
}

fn wrong_type(expected: &'static str, found: &Value) -> Wrong {
    AnswerErrorKind::WrongType { expected, found: type_name(found) }.into()
}

/// What a JSON value is, for people.
pub(in crate::curate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn text(value: &Value) -> Result<String, Wrong> {
    value.as_str().map(str::to_owned).ok_or_else(|| wrong_type("a text", value))
}

/// A whole number, also one that is written with a fraction of zero.
fn integer(value: &Value) -> Result<i64, Wrong> {
    if let Some(integer) = value.as_i64() {
        return Ok(integer);
    }
    match value.as_f64() {
        Some(number) if number.fract() == 0.0 && number.abs() < 9e15 => Ok(number as i64),
        Some(value) => Err(AnswerErrorKind::NotInteger { value }.into()),
        None => Err(wrong_type("a whole number", value)),
    }
}

fn each<T>(value: &Value, read: impl Fn(&Value) -> Result<T, Wrong>) -> Result<Vec<T>, Wrong> {
    let items = value.as_array().ok_or_else(|| wrong_type("a list", value))?;
    items.iter().enumerate().map(|(index, item)| read(item).map_err(|wrong| Wrong::at(index, wrong))).collect()
}

fn texts(value: &Value) -> Result<Vec<String>, Wrong> {
    each(value, text)
}

/// Values by the place of their option; those that are none stay where the sort leaves them, behind, to be found wrong.
fn options_in_order(options: &[QuestionOption], mut values: Vec<String>) -> Vec<String> {
    if values.iter().all(|value| options.iter().any(|option| option.value == *value)) {
        values.sort_by_key(|value| options.iter().position(|option| option.value == *value));
    }
    values
}

fn preference(tie: bool, value: &Value) -> Result<Preference, Wrong> {
    match text(value)?.as_str() {
        "left" => Ok(Preference::Left),
        "right" => Ok(Preference::Right),
        "tie" if tie => Ok(Preference::Tie),
        other => Err(super::values::unknown_option(other, preferences(tie)).into()),
    }
}

/// The JSON forms of preferences.
pub(super) fn preferences(tie: bool) -> impl Iterator<Item = &'static str> + Clone {
    ["left", "right", "tie"].into_iter().take(if tie { 3 } else { 2 })
}

fn span(value: &Value) -> Result<LabelSpan, Wrong> {
    let object = value.as_object().ok_or_else(|| wrong_type("an object", value))?;
    if let Some(key) = object.keys().find(|key| !SPAN_KEYS.contains(&key.as_str())) {
        let allowed = SPAN_KEYS.map(str::to_owned).to_vec();
        let nearest = nearest(key, SPAN_KEYS);
        return Err(AnswerErrorKind::UnknownOption { value: key.clone(), allowed, nearest }.into());
    }
    let part = |key: &str| object.get(key).unwrap_or(&Value::Null);
    let place = |key: &str| {
        let place = integer(part(key))?;
        let negative = AnswerErrorKind::OutOfRange { value: place as f64, min: Some(0.0), max: None };
        usize::try_from(place).map_err(|_| Wrong::from(negative))
    };
    let within = |key: &str, wrong: Wrong| Wrong { path: format!("/{key}{}", wrong.path), kind: wrong.kind };
    Ok(LabelSpan {
        start: place("start").map_err(|wrong| within("start", wrong))?,
        end: place("end").map_err(|wrong| within("end", wrong))?,
        label: text(part("label")).map_err(|wrong| within("label", wrong))?,
    })
}

const SPAN_KEYS: [&str; 3] = ["start", "end", "label"];
