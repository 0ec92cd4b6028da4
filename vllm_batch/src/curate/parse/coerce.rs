//! What a value may mean for a question that it is no answer to as it is.

use serde_json::{Value, json};

use super::super::decode::paths;
use super::super::{LocalizedText, QuestionKind, QuestionOption, Scale, TaxonomyNode, TextQuestion};
use super::RepairKind;
use super::find::texts;
use super::json::read_value;
use super::scalars::{self, fold, split};

/// A value with what was done to get it.
type Mended = (Value, Vec<RepairKind>);

/// The value in the form that the question asks for, if it is clear which one is meant; whether it holds is not checked.
/// `field` has the texts of the record's fields.
pub(super) fn coerce<'a>(
    kind: &QuestionKind,
    value: &Value,
    field: &dyn Fn(&str) -> Option<&'a str>,
) -> Option<Mended> {
    match kind {
        QuestionKind::Choice { options, multiple: true, .. } => many(value, |item| option(options, item)),
        QuestionKind::Choice { options, .. } | QuestionKind::Rating { scale: Scale::Levels { levels: options } } => {
            one(value, |item| option(options, item))
        }
        QuestionKind::Rating { scale: Scale::Range { max, .. } } => one(value, |item| rating(*max, item)),
        QuestionKind::Boolean { yes, no } => one(value, |item| boolean(yes, no, item)),
        QuestionKind::Number(_) => one(value, number),
        QuestionKind::Text(question) if question.many => many(value, |item| text(question, item)),
        QuestionKind::Text(question) => text(question, value),
        QuestionKind::Date { only } => one(value, |item| {
            let date = scalars::date(*only, &scalar(item)?)?;
            Some((Value::from(date), vec![RepairKind::DateRewritten]))
        }),
        QuestionKind::Structured { schema } => structured(schema, value),
        QuestionKind::Preference { left, right, .. } => one(value, |item| preference(left, right, item)),
        QuestionKind::Ranking { .. } => ranking(value),
        QuestionKind::Taxonomy { tree, .. } => taxonomy(tree, value),
        QuestionKind::Span { field: name, labels, .. } => spans(labels, field(name)?, value),
    }
}

/// A text, number or yes or no as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// One value, or a list of one.
fn one(value: &Value, mend: impl Fn(&Value) -> Option<Mended>) -> Option<Mended> {
    match value.as_array().map(Vec::as_slice) {
        Some([item]) => {
            let (mended, mut kinds) = mend(item).unwrap_or_else(|| (item.clone(), Vec::new()));
            kinds.insert(0, RepairKind::ListToSingle);
            Some((mended, kinds))
        }
        Some(_) => None,
        None => mend(value),
    }
}

/// A list of values, one value, or a text that lists them; what is empty or there twice is left out.
fn many(value: &Value, mend: impl Fn(&Value) -> Option<Mended>) -> Option<Mended> {
    let mut kinds = Vec::new();
    let items = match value {
        Value::Array(items) => items.clone(),
        Value::String(text) => match mend(value) {
            Some(whole) if !text.contains(['\n', ';', ',']) => {
                kinds.push(RepairKind::SingleToList);
                vec![whole.0]
            }
            _ => {
                kinds.push(RepairKind::SplitText);
                split(text).into_iter().map(Value::from).collect()
            }
        },
        Value::Number(_) | Value::Bool(_) => {
            kinds.push(RepairKind::SingleToList);
            vec![value.clone()]
        }
        _ => return None,
    };
    let mut mended: Vec<Value> = Vec::new();
    for item in items {
        let (item, repairs) = mend(&item).unwrap_or((item, Vec::new()));
        push_new(&mut kinds, repairs);
        if item.is_null() || item == "" || mended.contains(&item) {
            push_new(&mut kinds, vec![RepairKind::ItemRemoved]);
        } else {
            mended.push(item);
        }
    }
    Some((Value::from(mended), kinds))
}

fn push_new(kinds: &mut Vec<RepairKind>, more: Vec<RepairKind>) {
    for kind in more {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
}

/// The option that a value names.
fn option(options: &[QuestionOption], value: &Value) -> Option<Mended> {
    let of = |option: &QuestionOption, kinds: Vec<RepairKind>| Some((Value::from(option.value.as_str()), kinds));
    let words = scalar(value)?;
    if let Some(exact) = options.iter().find(|option| option.value == words) {
        return of(exact, if value.is_string() { Vec::new() } else { vec![RepairKind::OptionBySpelling] });
    }
    let named = |option: &&QuestionOption| names(option).any(|name| name == words);
    if let Some(named) = unique(options.iter().filter(named)) {
        return of(named, vec![RepairKind::OptionByLabel]);
    }
    let folded = fold(&words);
    let same = |option: &&QuestionOption| all_names(option).any(|name| fold(name) == folded);
    if let Some(spelled) = unique(options.iter().filter(same)) {
        return of(spelled, vec![RepairKind::OptionBySpelling]);
    }
    if let Some((score, _)) = scalars::number(&words).filter(|_| folded.chars().all(|c| !c.is_alphabetic())) {
        let scored = unique(options.iter().filter(|option| option.score == Some(score)))?;
        return of(scored, vec![RepairKind::OptionByScore]);
    }
    of(before_sign(options, &words)?, vec![RepairKind::OptionInText])
}

/// The option whose name is all that stands before a sign that ends a phrase; of several the one with the longest name.
fn before_sign<'a>(options: &'a [QuestionOption], text: &str) -> Option<&'a QuestionOption> {
    let signs = text.char_indices().filter(|(at, sign)| match sign {
        '-' => text[..*at].ends_with(' ') && text[at + 1..].starts_with(' '),
        sign => matches!(sign, ',' | '.' | ':' | ';' | '(' | '\n' | '–' | '—'),
    });
    let heads: Vec<_> = signs.map(|(at, _)| fold(&text[..at])).filter(|head| !head.is_empty()).collect();
    let called =
        |head: &String| unique(options.iter().filter(|option| all_names(option).any(|name| fold(name) == *head)));
    heads.iter().rev().find_map(called)
}

fn names(option: &QuestionOption) -> impl Iterator<Item = &str> {
    texts(&option.label).chain(option.synonyms.iter().map(String::as_str))
}

fn all_names(option: &QuestionOption) -> impl Iterator<Item = &str> {
    std::iter::once(option.value.as_str()).chain(names(option))
}

fn unique<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let only = items.next()?;
    items.next().is_none().then_some(only)
}

/// A number out of the scale's highest, or alone.
fn rating(max: i64, value: &Value) -> Option<Mended> {
    let (number, of) = scalars::number(value.as_str()?)?;
    let fits = of.is_none_or(|of| of == max as f64) && number.fract() == 0.0;
    fits.then(|| (json!(number as i64), vec![RepairKind::NumberFromText]))
}

fn boolean(yes: &LocalizedText, no: &LocalizedText, value: &Value) -> Option<Mended> {
    let words = scalar(value)?;
    let folded = fold(&words);
    let is = |text: &LocalizedText| texts(text).any(|text| fold(text) == folded);
    let answer = match (is(yes), is(no)) {
        (true, false) => true,
        (false, true) => false,
        _ => scalars::boolean(&words)?,
    };
    Some((Value::from(answer), vec![RepairKind::BooleanFromText]))
}

fn number(value: &Value) -> Option<Mended> {
    let (number, of) = scalars::number(value.as_str()?)?;
    of.is_none().then(|| (super::super::Answer::Number(number).to_json(), vec![RepairKind::NumberFromText]))
}

fn text(question: &TextQuestion, value: &Value) -> Option<Mended> {
    let (text, mut kinds) = match value {
        Value::String(text) => (text.clone(), Vec::new()),
        Value::Array(items) => {
            let parts: Vec<_> = items.iter().map(scalar).collect::<Option<_>>()?;
            (parts.join(if question.multiline { "\n" } else { "; " }), vec![RepairKind::TextFromValue])
        }
        other => (scalar(other)?, vec![RepairKind::TextFromValue]),
    };
    if question.multiline || !text.contains(['\n', '\r']) {
        return Some((Value::from(text), kinds));
    }
    kinds.push(RepairKind::LineEndsRemoved);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Some((Value::from(lines.collect::<Vec<_>>().join(" ").replace('\r', " ")), kinds))
}

fn structured(schema: &Value, value: &Value) -> Option<Mended> {
    match value {
        Value::String(text) => match read_value(text.trim()) {
            Some(json) if json.is_object() || json.is_array() => Some((json, vec![RepairKind::JsonInText])),
            _ => Some((split(text).into(), vec![RepairKind::SplitText])),
        },
        Value::Object(_) if schema["type"] == "array" => Some((json!([value]), vec![RepairKind::SingleToList])),
        Value::Array(items) if schema["type"] == "object" && items.len() == 1 => {
            Some((items[0].clone(), vec![RepairKind::ListToSingle]))
        }
        _ => None,
    }
}

fn preference(left: &str, right: &str, value: &Value) -> Option<Mended> {
    let folded = fold(value.as_str()?);
    let (is_left, is_right) = (fold(left) == folded, fold(right) == folded);
    let answer = match folded.as_str() {
        _ if is_left != is_right => {
            if is_left {
                "left"
            } else {
                "right"
            }
        }
        "left" | "a" | "first" | "1" => "left",
        "right" | "b" | "second" | "2" => "right",
        "tie" | "equal" | "both" | "neither" | "same" => "tie",
        _ => return None,
    };
    Some((Value::from(answer), vec![RepairKind::OptionBySpelling]))
}

fn ranking(value: &Value) -> Option<Mended> {
    match value {
        Value::String(text) => {
            let parts: Vec<_> = text.split('>').map(|part| part.trim().to_owned()).collect();
            let parts = if parts.len() > 1 { parts } else { split(text) };
            Some((parts.into(), vec![RepairKind::SplitText]))
        }
        Value::Array(items) => {
            let id = |item: &Value| scalar(item).or_else(|| scalar(item.get("id")?));
            let ids: Vec<_> = items.iter().map(id).collect::<Option<_>>()?;
            Some((ids.into(), vec![RepairKind::TextFromValue]))
        }
        _ => None,
    }
}

/// Paths as lists of terms or as texts; a single path may stand alone.
fn taxonomy(tree: &[TaxonomyNode], value: &Value) -> Option<Mended> {
    if let Some(path) = place(tree, value) {
        return Some((json!([path]), vec![RepairKind::PathFromText]));
    }
    let found: Vec<_> = value.as_array()?.iter().map(|item| place(tree, item)).collect::<Option<_>>()?;
    let mut kinds = vec![RepairKind::PathFromText];
    let mut distinct: Vec<Vec<&str>> = Vec::new();
    for path in found {
        if distinct.contains(&path) {
            push_new(&mut kinds, vec![RepairKind::ItemRemoved]);
        } else {
            distinct.push(path);
        }
    }
    Some((json!(distinct), kinds))
}

/// The path that a value names: by all its terms, or by the last one if no other path ends in it.
fn place<'a>(tree: &'a [TaxonomyNode], value: &Value) -> Option<Vec<&'a str>> {
    let terms: Vec<String> = match value {
        Value::String(text) => text.split(['>', '/', '→']).map(fold).collect(),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(fold)).collect::<Option<_>>()?,
        _ => return None,
    };
    let named = |path: &Vec<&str>| {
        let labels = path.iter().scan(tree, |nodes, term| {
            let node = nodes.iter().find(|node| node.option.value == *term)?;
            *nodes = &node.children;
            Some(&node.option)
        });
        let labels: Vec<_> = labels.collect();
        let is = |(option, term): (&&QuestionOption, &String)| all_names(option).any(|name| fold(name) == *term);
        let is_whole = labels.len() == terms.len() && labels.iter().zip(&terms).all(is);
        let is_last = terms.len() == 1 && labels.last().is_some_and(|last| is((last, &terms[0])));
        (is_whole, is_last)
    };
    let all = paths(tree);
    let whole = unique(all.iter().filter(|path| named(path).0));
    whole.or_else(|| unique(all.iter().filter(|path| named(path).1))).cloned()
}

/// Stretches by their texts, where a text says which one is meant: the first that is not taken yet.
fn spans(labels: &[QuestionOption], field: &str, value: &Value) -> Option<Mended> {
    let one = [value.clone()];
    let items = if value.is_object() { &one[..] } else { value.as_array()? };
    let mut kinds = Vec::new();
    let mut found: Vec<(usize, usize, String)> = Vec::new();
    for item in items {
        let (label, repairs) = option(labels, item.get("label")?)?;
        push_new(&mut kinds, repairs);
        let place = match item["text"].as_str() {
            Some(text) => {
                push_new(&mut kinds, vec![RepairKind::SpanByText]);
                find_text(field, text, &item["start"], &found)?
            }
            None => (item["start"].as_u64()? as usize, item["end"].as_u64()? as usize),
        };
        let span = (place.0, place.1, label.as_str()?.to_owned());
        if found.contains(&span) {
            push_new(&mut kinds, vec![RepairKind::ItemRemoved]);
        } else {
            found.push(span);
        }
    }
    let spans = found.into_iter().map(|(start, end, label)| json!({"start": start, "end": end, "label": label}));
    Some((spans.collect(), kinds))
}

/// The place of a text in a field, in characters: where it is said to begin, if it is there, else the first one that does
/// not overlap with those found before.
fn find_text(field: &str, text: &str, start: &Value, taken: &[(usize, usize, String)]) -> Option<(usize, usize)> {
    if text.is_empty() {
        return None;
    }
    let len = text.chars().count();
    let places = field.match_indices(text).map(|(at, _)| field[..at].chars().count());
    let places: Vec<_> = places.map(|at| (at, at + len)).collect();
    let said = places.iter().find(|(at, _)| start.as_u64() == Some(*at as u64));
    let is_free = |(start, end): &&(usize, usize)| taken.iter().all(|(from, to, _)| end <= from || start >= to);
    said.or_else(|| places.iter().find(is_free)).copied()
}
