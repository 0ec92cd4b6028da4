//! The questions in words.

use std::fmt::Write as _;

use super::super::decode::paths;
use super::super::{
    Condition, DateGranularity, NumberQuestion, Question, QuestionKind, QuestionOption, Scale, TaskSchema, TextQuestion,
};
use super::value::inline;

/// The questions, and that they are answered as JSON.
pub(super) fn asked_as_json(schema: &TaskSchema) -> String {
    let keys = schema.model_questions().map(|question| format!("\"{}\": {}", question.id, hint(question)));
    let form = keys.collect::<Vec<_>>().join(", ");
    format!("{}\n\nAnswer with one JSON object of this form, and nothing else:\n{{{form}}}", list(schema))
}

/// The questions, and that they are answered in a form with `<name>` in the place of each answer.
pub(super) fn asked_as(schema: &TaskSchema, form: &str) -> String {
    format!("{}\n\nAnswer in this form, and say nothing else:\n{form}", list(schema))
}

fn list(schema: &TaskSchema) -> String {
    let mut out = "Answer these questions about what follows:".to_owned();
    for question in schema.model_questions() {
        let _ = write!(out, "\n- {} (`{}`): {}.", question.title.as_str(), question.id, kind(question));
        if let Some(help) = &question.help {
            let _ = write!(out, " {}", help.as_str().trim());
        }
        out.push_str(&options(question.kind.options()));
    }
    out
}

/// The type of an answer, for the form.
fn hint(question: &Question) -> String {
    let hint = match &question.kind {
        QuestionKind::Choice { multiple: true, .. } | QuestionKind::Ranking { .. } => "[string, ...]".to_owned(),
        QuestionKind::Text(text) if text.many => "[string, ...]".to_owned(),
        QuestionKind::Choice { .. }
        | QuestionKind::Rating { scale: Scale::Levels { .. } }
        | QuestionKind::Text(_)
        | QuestionKind::Date { .. }
        | QuestionKind::Preference { .. } => "string".to_owned(),
        QuestionKind::Rating { .. } => "integer".to_owned(),
        QuestionKind::Number(number) => (if number.integer { "integer" } else { "number" }).to_owned(),
        QuestionKind::Boolean { .. } => "boolean".to_owned(),
        QuestionKind::Structured { .. } => "JSON".to_owned(),
        QuestionKind::Taxonomy { .. } => "[[string, ...], ...]".to_owned(),
        QuestionKind::Span { .. } => r#"[{"start": integer, "end": integer, "label": string}, ...]"#.to_owned(),
    };
    if question.may_be_null() { format!("{hint} or null") } else { hint }
}

fn kind(question: &Question) -> String {
    let mut out = match &question.kind {
        QuestionKind::Choice { multiple: false, .. } | QuestionKind::Rating { scale: Scale::Levels { .. } } => {
            "one of the options below".to_owned()
        }
        QuestionKind::Choice { min, max, .. } => format!("{} of the options below, as a list", amount(*min, *max)),
        QuestionKind::Rating { scale: Scale::Range { min, max } } => format!("a whole number from {min} to {max}"),
        QuestionKind::Boolean { yes, no } => format!("true for {:?}, false for {:?}", yes.as_str(), no.as_str()),
        QuestionKind::Number(question) => number(question),
        QuestionKind::Text(question) => text(question),
        QuestionKind::Date { only: DateGranularity::Date } => "a date like 2026-01-31".to_owned(),
        QuestionKind::Date { only: DateGranularity::DateTime } => "a time like 2026-01-31T12:30:00Z".to_owned(),
        QuestionKind::Date { only: DateGranularity::Year } => "a year like 2026, as a string".to_owned(),
        QuestionKind::Structured { schema } => format!("JSON that keeps to this JSON Schema: {schema}"),
        QuestionKind::Preference { left, right, tie } => {
            let tie = if *tie { ", \"tie\" if neither is" } else { "" };
            format!("\"left\" if {left} is better, \"right\" if {right} is{tie}")
        }
        QuestionKind::Ranking { field } => format!("the items of {field} by their ids, best first, as a list"),
        QuestionKind::Taxonomy { tree, multiple } => {
            let paths = paths(tree).iter().map(|path| path.join(" > ")).collect::<Vec<_>>().join("; ");
            let many = if *multiple { "a list of paths" } else { "a list of one path" };
            format!("{many}, each a list of terms from the root, out of: {paths}")
        }
        QuestionKind::Span { field, .. } => {
            format!(
                "stretches of {field} with a label below, by the number of their first character from 0 and of the first one behind them"
            )
        }
    };
    if let Some(condition) = &question.visible_when {
        let _ = write!(out, "; null unless {}", when(condition));
    } else if !question.required {
        out.push_str("; null if there is nothing to say");
    }
    out
}

fn amount(min: usize, max: Option<usize>) -> String {
    match max {
        Some(max) if max == min => format!("{min}"),
        Some(max) if min == 0 => format!("at most {max}"),
        Some(max) => format!("{min} to {max}"),
        None if min == 0 => "any number".to_owned(),
        None => format!("at least {min}"),
    }
}

fn number(question: &NumberQuestion) -> String {
    let mut out = if question.integer { "a whole number" } else { "a number" }.to_owned();
    let _ = match (question.min, question.max) {
        (Some(min), Some(max)) => write!(out, " from {min} to {max}"),
        (Some(min), None) => write!(out, " of at least {min}"),
        (None, Some(max)) => write!(out, " of at most {max}"),
        (None, None) => Ok(()),
    };
    if let Some(step) = question.step {
        let _ = write!(out, " in steps of {step}");
    }
    if let Some(unit) = &question.unit {
        let _ = write!(out, ", in {unit}");
    }
    out
}

fn text(question: &TextQuestion) -> String {
    let mut out = match (question.many, question.multiline) {
        (true, _) => "a list of texts",
        (false, true) => "a text",
        (false, false) => "a text in one line",
    }
    .to_owned();
    let each = if question.many { " each" } else { "" };
    let _ = match (question.min_chars, question.max_chars) {
        (Some(min), Some(max)) => write!(out, " of {min} to {max} characters{each}"),
        (Some(min), None) => write!(out, " of at least {min} characters{each}"),
        (None, Some(max)) => write!(out, " of at most {max} characters{each}"),
        (None, None) => Ok(()),
    };
    if let Some(pattern) = &question.pattern {
        let _ = write!(out, ", matching the regular expression {pattern}");
    }
    out
}

fn options(options: &[QuestionOption]) -> String {
    let mut out = String::new();
    for option in options {
        let _ = write!(out, "\n  - \"{}\"", option.value);
        if option.label.as_str() != option.value {
            let _ = write!(out, ": {}", option.label.as_str());
        }
        if let Some(help) = &option.help {
            let _ = write!(out, " ({})", help.as_str().trim());
        }
    }
    out
}

/// When a question is asked, in words.
fn when(condition: &Condition) -> String {
    let any_of = |values: &[serde_json::Value]| values.iter().map(inline).collect::<Vec<_>>().join(" or ");
    let joined = |conditions: &[Condition], word: &str| match conditions {
        [] => (if word == " and " { "always" } else { "never" }).to_owned(),
        [one] => when(one),
        several => several.iter().map(|one| format!("({})", when(one))).collect::<Vec<_>>().join(word),
    };
    match condition {
        Condition::Answered(question) => format!("`{question}` has an answer"),
        Condition::Is { question: name, any_of: values } | Condition::Field { field: name, any_of: values } => {
            format!("`{name}` is {}", any_of(values))
        }
        Condition::Not(condition) => format!("it is not so that {}", when(condition)),
        Condition::All(conditions) => joined(conditions, " and "),
        Condition::Any(conditions) => joined(conditions, " or "),
    }
}
