//! Where in the text the answers are.

use std::ops::Range;

use serde_json::Value;

use super::super::{CompiledSchema, Ident, LocalizedText, Question, TaskSchema};
use super::json::{Found, first_key, read_object};
use super::scalars::fold;
use super::{Repair, RepairKind};

/// A key with its value and the place of the value.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) place: Range<usize>,
}

/// So many braces are tried.
const MAX_CANDIDATES: usize = 64;

/// All keys and values of a text: of the JSON object that answers the most questions (of several the last), else of lines,
/// else the text itself if there is one question.
pub(super) fn entries(schema: &CompiledSchema, text: &str, repairs: &mut Vec<Repair>) -> Vec<Entry> {
    let schema = schema.schema();
    let mut note = |kind| repairs.push(Repair { question: None, kind });
    if let Some((start, found)) = best_object(schema, text) {
        let (before, after) = (&text[..start], &text[found.end..]);
        let (fenced, before, after) = without_fence(before, after);
        let surrounded = !(before.trim().is_empty() && after.trim().is_empty());
        let kinds = [
            (fenced, RepairKind::CodeFence),
            (surrounded && !found.is_cut || !before.trim().is_empty() && found.is_cut, RepairKind::SurroundingText),
            (found.is_loose, RepairKind::LooseJson),
            (found.is_cut, RepairKind::TruncatedJson),
        ];
        kinds.into_iter().filter(|(is_so, _)| *is_so).for_each(|(_, kind)| note(kind));
        return found.entries.into_iter().map(|(key, value, place)| Entry { key, value, place }).collect();
    }
    let lines = lines(schema, text);
    if !lines.is_empty() {
        note(RepairKind::Lines);
        return lines;
    }
    let mut questions = schema.model_questions();
    match (questions.next(), questions.next()) {
        (Some(only), None) if !text.trim().is_empty() => {
            note(RepairKind::BareAnswer);
            vec![entry(&only.id, text, 0..text.len())]
        }
        _ => Vec::new(),
    }
}

fn entry(id: &str, text: &str, place: Range<usize>) -> Entry {
    let value = &text[place.clone()];
    let start = place.start + value.len() - value.trim_start().len();
    let value = value.trim();
    Entry { key: id.to_owned(), value: Value::from(value), place: start..start + value.len() }
}

fn best_object(schema: &TaskSchema, text: &str) -> Option<(usize, Found)> {
    let mut best: Option<(usize, usize, Found)> = None;
    let mut from = 0;
    for _ in 0..MAX_CANDIDATES {
        let Some(start) = text[from..].find('{').map(|at| from + at) else { break };
        let found = read_object(text, start);
        let known = found.entries.iter().filter(|(key, _, _)| question(schema, key).is_some()).count();
        let is_open = || first_key(text, start).is_some_and(|key| question(schema, &key).is_some());
        if found.entries.is_empty() && found.is_cut && best.is_none() && is_open() {
            // It broke off within the first answer: objects behind are parts of that answer.
            return Some((start, found));
        }
        from = if known > 0 { found.end.max(start + 1) } else { start + 1 };
        let is_empty_answer = found.entries.is_empty() && !found.is_cut && text.trim().len() == found.end - start;
        if (known > 0 || is_empty_answer) && best.as_ref().is_none_or(|(most, ..)| known >= *most) {
            best = Some((known, start, found));
        }
    }
    best.map(|(_, start, found)| (start, found))
}

/// Takes the marks of a code fence away from what is before and after the JSON.
fn without_fence<'a>(before: &'a str, after: &'a str) -> (bool, &'a str, &'a str) {
    const FENCE: &str = "```";
    let Some((head, language)) = before.rsplit_once(FENCE) else { return (false, before, after) };
    if language.trim().contains(char::is_whitespace) {
        return (false, before, after);
    }
    (true, head, after.trim_start().strip_prefix(FENCE).unwrap_or(after))
}

/// The question that a key names, and whether it does so by other than its id. Questions that no model is asked are known,
/// too: their answers are left out later.
pub(super) fn question<'a>(schema: &'a TaskSchema, key: &str) -> Option<(&'a Question, bool)> {
    if let Some(question) = schema.question(key) {
        return Some((question, false));
    }
    let key = fold(key);
    if key.is_empty() {
        return None;
    }
    let named =
        |question: &&Question| fold(&question.id) == key || texts(&question.title).any(|title| fold(title) == key);
    let found = schema.questions.iter().find(named);
    let found = found.or_else(|| {
        let of_template = template_labels(schema).find(|(label, _)| fold(label) == key);
        of_template.and_then(|(_, id)| schema.question(&id))
    });
    found.map(|question| (question, true))
}

/// All that a text says, in each language.
pub(super) fn texts(text: &LocalizedText) -> impl Iterator<Item = &str> {
    let (plain, all) = match text {
        LocalizedText::Plain(text) => (Some(text), None),
        LocalizedText::ByLocale(texts) => (None, Some(texts.values())),
    };
    plain.into_iter().chain(all.into_iter().flatten()).map(String::as_str)
}

/// Labels of the lines `Label: {question}` of the schema's own template for answers.
fn template_labels(schema: &TaskSchema) -> impl Iterator<Item = (&str, Ident)> {
    let lines = schema.prompt.assistant.as_deref().unwrap_or_default().lines();
    lines.filter_map(|line| {
        let (label, value) = line.split_once(':')?;
        let id = value.trim().trim_matches(['{', '}']).trim().parse().ok()?;
        Some((label, id))
    })
}

/// Lines that begin with a question's name and a colon; what follows up to the next such line is the answer.
fn lines(schema: &TaskSchema, text: &str) -> Vec<Entry> {
    let mut found: Vec<(&str, Range<usize>)> = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let named = line.split_once(':').filter(|(label, _)| label.chars().count() <= 80);
        let named = named.and_then(|(label, value)| {
            // The end of bold type, as in `**Tone:** formal`.
            let bold = if label.contains("**") && value.starts_with("**") { 2 } else { 0 };
            Some((question(schema, label)?.0, at + label.len() + 1 + bold))
        });
        at += line.len();
        match (named, found.last_mut()) {
            (Some((question, start)), _) => found.push((&question.id, start..at)),
            (None, Some((_, place))) => place.end = at,
            (None, None) => {}
        }
    }
    found.into_iter().map(|(id, place)| entry(id, text, place)).collect()
}
