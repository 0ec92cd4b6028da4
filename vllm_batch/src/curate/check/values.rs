//! What the parts of an answer may be.

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate};
use serde_json::Value;

use super::super::{
    Answer, DateGranularity, LabelSpan, NumberQuestion, Preference, QuestionKind, QuestionOption, Scale, TaxonomyNode,
    TextQuestion,
};
use super::{AnswerErrorKind, Checker, Wrong, nearest, read};

/// Checks an answer against its question alone.
pub(super) fn check(kind: &QuestionKind, checker: &Checker, answer: &Answer) -> Result<(), Wrong> {
    match (kind, answer) {
        (QuestionKind::Choice { options, multiple: true, min, max }, Answer::Options(values)) => {
            check_options(options, values)?;
            check_count(values.len(), *min, *max)
        }
        (
            QuestionKind::Choice { options, multiple: false, .. }
            | QuestionKind::Rating { scale: Scale::Levels { levels: options } },
            Answer::Option(value),
        ) => check_option(options, value),
        (QuestionKind::Rating { scale: Scale::Range { min, max } }, Answer::Rating(value)) => {
            check_range(*value as f64, Some(*min as f64), Some(*max as f64))
        }
        (QuestionKind::Boolean { .. }, Answer::Boolean(_)) => Ok(()),
        (QuestionKind::Number(question), Answer::Number(value)) => check_number(question, *value),
        (QuestionKind::Text(question), Answer::Text(text)) if !question.many => check_text(question, checker, text),
        (QuestionKind::Text(question), Answer::Texts(texts)) if question.many => {
            check_each(texts, |text| check_text(question, checker, text))
        }
        (QuestionKind::Date { only }, Answer::Date(text)) => check_date(*only, text),
        (QuestionKind::Structured { .. }, Answer::Structured(value)) => check_structured(checker, value),
        (QuestionKind::Preference { tie, .. }, Answer::Preference(preference)) => check_preference(*tie, *preference),
        (QuestionKind::Ranking { .. }, Answer::Ranking(items)) => check_distinct(items, Clone::clone),
        (QuestionKind::Taxonomy { tree, multiple }, Answer::Taxonomy(paths)) => {
            check_each(paths, |path| check_path(tree, path))?;
            check_distinct(paths, |path| path.join(" > "))?;
            if *multiple { Ok(()) } else { check_count(paths.len(), 1, Some(1)) }
        }
        (QuestionKind::Span { labels, overlap, .. }, Answer::Spans(spans)) => check_spans(labels, *overlap, spans),
        _ => Err(AnswerErrorKind::WrongType { expected: expected(kind), found: found(answer) }.into()),
    }
}

fn expected(kind: &QuestionKind) -> &'static str {
    match kind {
        QuestionKind::Choice { multiple: true, .. } => "options",
        QuestionKind::Choice { .. } | QuestionKind::Rating { scale: Scale::Levels { .. } } => "an option",
        QuestionKind::Rating { .. } => "a rating",
        QuestionKind::Text(question) if question.many => "texts",
        kind => kind.name(),
    }
}

fn found(answer: &Answer) -> &'static str {
    match answer {
        Answer::Option(_) => "an option",
        Answer::Options(_) => "options",
        Answer::Rating(_) => "a rating",
        Answer::Boolean(_) => "boolean",
        Answer::Number(_) => "number",
        Answer::Text(_) => "text",
        Answer::Texts(_) => "texts",
        Answer::Date(_) => "date",
        Answer::Structured(_) => "structured",
        Answer::Preference(_) => "preference",
        Answer::Ranking(_) => "ranking",
        Answer::Taxonomy(_) => "taxonomy",
        Answer::Spans(_) => "span",
    }
}

fn check_each<T>(items: &[T], check: impl Fn(&T) -> Result<(), Wrong>) -> Result<(), Wrong> {
    let mut items = items.iter().enumerate();
    items.try_for_each(|(index, item)| check(item).map_err(|wrong| Wrong::at(index, wrong)))
}

fn check_distinct<T: Eq + std::hash::Hash>(items: &[T], name: impl Fn(&T) -> String) -> Result<(), Wrong> {
    let mut seen = HashSet::new();
    match items.iter().enumerate().find(|(_, item)| !seen.insert(*item)) {
        Some((index, item)) => Err(Wrong::at(index, AnswerErrorKind::Duplicate { value: name(item) })),
        None => Ok(()),
    }
}

fn check_count(found: usize, min: usize, max: Option<usize>) -> Result<(), Wrong> {
    if found >= min && max.is_none_or(|max| found <= max) {
        Ok(())
    } else {
        Err(AnswerErrorKind::WrongCount { min, max, found }.into())
    }
}

/// An answer that is none of those allowed.
pub(super) fn unknown_option<'a>(value: &str, allowed: impl Iterator<Item = &'a str> + Clone) -> AnswerErrorKind {
    AnswerErrorKind::UnknownOption {
        value: value.to_owned(),
        nearest: nearest(value, allowed.clone()),
        allowed: allowed.map(str::to_owned).collect(),
    }
}

fn check_option(options: &[QuestionOption], value: &str) -> Result<(), Wrong> {
    if options.iter().any(|option| option.value == value) {
        return Ok(());
    }
    Err(unknown_option(value, options.iter().map(|option| option.value.as_str())).into())
}

fn check_options(options: &[QuestionOption], values: &[String]) -> Result<(), Wrong> {
    check_each(values, |value| check_option(options, value))?;
    check_distinct(values, Clone::clone)
}

fn check_range(value: f64, min: Option<f64>, max: Option<f64>) -> Result<(), Wrong> {
    let within = value.is_finite() && min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max);
    if within { Ok(()) } else { Err(AnswerErrorKind::OutOfRange { value, min, max }.into()) }
}

fn check_number(question: &NumberQuestion, value: f64) -> Result<(), Wrong> {
    check_range(value, question.min, question.max)?;
    if question.integer && value.fract() != 0.0 {
        return Err(AnswerErrorKind::NotInteger { value }.into());
    }
    match question.step {
        Some(step) if !is_multiple(value, step) => Err(AnswerErrorKind::NotMultiple { value, step }.into()),
        _ => Ok(()),
    }
}

/// Whether a number is a multiple of a step, up to what rounding of decimal fractions makes of it.
fn is_multiple(value: f64, step: f64) -> bool {
    let steps = value / step;
    !steps.is_finite() || (steps - steps.round()).abs() <= 1e-9 * steps.abs().max(1.0)
}

/// An empty text is no answer.
fn check_text(question: &TextQuestion, checker: &Checker, text: &str) -> Result<(), Wrong> {
    let (min, max) = (question.min_chars.unwrap_or(0).max(1), question.max_chars);
    let found = text.chars().count();
    if found < min || max.is_some_and(|max| found > max) {
        return Err(AnswerErrorKind::WrongLength { min, max, found }.into());
    }
    if !question.multiline && text.contains(['\n', '\r']) {
        return Err(AnswerErrorKind::LineEnd.into());
    }
    match (&checker.pattern, &question.pattern) {
        (Some(regex), Some(pattern)) if !regex.is_match(text) => {
            Err(AnswerErrorKind::PatternMismatch { pattern: pattern.clone() }.into())
        }
        _ => Ok(()),
    }
}

fn check_date(only: DateGranularity, text: &str) -> Result<(), Wrong> {
    if is_date(only, text) {
        return Ok(());
    }
    Err(AnswerErrorKind::NotADate { text: text.to_owned(), expected: only }.into())
}

/// Whether a text is a date of the calendar in its one form.
pub(super) fn is_date(only: DateGranularity, text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match only {
        DateGranularity::Date => {
            text.len() == 10 && NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok_and(|date| date.to_string() == text)
        }
        DateGranularity::DateTime => DateTime::parse_from_rfc3339(text).is_ok(),
        DateGranularity::Year => text.len() == 4 && digits(text),
    }
}

fn check_structured(checker: &Checker, value: &Value) -> Result<(), Wrong> {
    if !(value.is_object() || value.is_array()) {
        let found = read::type_name(value);
        return Err(AnswerErrorKind::WrongType { expected: "an object or a list", found }.into());
    }
    check_schema(checker, value)
        .map_err(|(path, message)| Wrong { path, kind: AnswerErrorKind::SchemaMismatch { message } })
}

/// Checks a value against the compiled JSON Schema, if there is one.
///
/// # Errors
/// Where, and what is wrong there.
pub(super) fn check_schema(checker: &Checker, value: &Value) -> Result<(), (String, String)> {
    let Some(validator) = &checker.schema else { return Ok(()) };
    validator.validate(value).map_err(|error| (error.instance_path().to_string(), error.to_string()))
}

fn check_preference(tie: bool, preference: Preference) -> Result<(), Wrong> {
    if preference == Preference::Tie && !tie {
        return Err(unknown_option("tie", read::preferences(tie)).into());
    }
    Ok(())
}

fn check_path(tree: &[TaxonomyNode], path: &[String]) -> Result<(), Wrong> {
    check_count(path.len(), 1, None)?;
    let mut nodes = tree;
    for (depth, term) in path.iter().enumerate() {
        let terms = nodes.iter().map(|node| node.option.value.as_str());
        match nodes.iter().find(|node| node.option.value == *term) {
            Some(node) => nodes = &node.children,
            None => return Err(Wrong::at(depth, unknown_option(term, terms))),
        }
    }
    Ok(())
}

fn check_spans(labels: &[QuestionOption], overlap: bool, spans: &[LabelSpan]) -> Result<(), Wrong> {
    check_each(spans, |span| {
        check_option(labels, &span.label)?;
        if span.start < span.end {
            return Ok(());
        }
        Err(AnswerErrorKind::InvalidSpan { start: span.start, end: span.end, len: None }.into())
    })?;
    check_distinct(spans, |span| format!("{}..{} {}", span.start, span.end, span.label))?;
    if overlap { Ok(()) } else { check_overlap(spans) }
}

fn check_overlap(spans: &[LabelSpan]) -> Result<(), Wrong> {
    let mut places: Vec<_> = spans.iter().map(|span| (span.start, span.end)).collect();
    places.sort_unstable();
    match places.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        Some(pair) => Err(AnswerErrorKind::Overlap { first: pair[0].0, second: pair[1].0 }.into()),
        None => Ok(()),
    }
}
