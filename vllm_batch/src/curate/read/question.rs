//! Questions.

use serde_json::{Value, json};

use super::super::{
    DateGranularity, Level, LocalizedText, NumberQuestion, Question, QuestionKind, QuestionOption, QuestionRole, Scale,
    TextQuestion,
};
use super::field::PII;
use super::node::{DROPPED, Node, Object, Read};

type Reader = fn(&Node<'_>, &mut Object<'_, '_>) -> Option<QuestionKind>;

const KINDS: &[(&str, Reader)] = &[
    ("choice", choice),
    ("rating", rating),
    ("boolean", boolean),
    ("number", number),
    ("text", text),
    ("date", date),
    ("structured", structured),
    ("preference", preference),
    ("ranking", ranking),
    ("taxonomy", taxonomy),
    ("span", span),
];

const ROLES: &[(&str, QuestionRole)] =
    &[("output", QuestionRole::Output), ("review", QuestionRole::Review), ("reasoning", QuestionRole::Reasoning)];

const LEVELS: &[(&str, Level)] =
    &[("nominal", Level::Nominal), ("ordinal", Level::Ordinal), ("interval", Level::Interval), ("ratio", Level::Ratio)];

impl Read for Question {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut object = node.object()?;
        let id = object.required("id");
        let title = object.optional(("title", "text"));
        let help = object.optional(("help", "helpText"));
        let kind = kind(node, &mut object);
        let role = object.word("role", ROLES);
        let required = object.or("required", true);
        let visible_when = object.optional("visible_when");
        let weight = object.or("weight", 1.0);
        let level = object.optional("level");
        let pii = object.word("pii", PII);
        let default = object.node("default");
        // What a question of an unknown type may have is not known.
        if kind.is_some() {
            object.finish(DROPPED);
        }
        let mut question = Self::new(id?, kind?);
        question.title = title?.unwrap_or(question.title);
        (question.help, question.role, question.required) = (help?, role?, required?);
        (question.visible_when, question.weight, question.level, question.pii) = (visible_when?, weight?, level?, pii?);
        if let Some(default) = default {
            match question.read_answer(default.value) {
                Ok(answer) => question.default = Some(answer),
                Err(error) => return default.error("invalid_default", error.to_string()),
            }
        }
        Some(question)
    }
}

impl Read for Level {
    fn read(node: &Node<'_>) -> Option<Self> {
        node.word(LEVELS)
    }
}

fn kind(node: &Node<'_>, object: &mut Object<'_, '_>) -> Option<QuestionKind> {
    let Some(name) = object.node("type") else {
        return node.error("missing_key", "`type` is missing");
    };
    name.word(KINDS)?(node, object)
}

fn choice(_: &Node<'_>, object: &mut Object<'_, '_>) -> Option<QuestionKind> {
    let options = object.required("options");
    let multiple = object.or("multiple", false);
    let (min, max) = (object.or("min", 1), object.optional("max"));
    Some(QuestionKind::Choice { options: options?, multiple: multiple?, min: min?, max: max? })
}

fn rating(node: &Node<'_>, object: &mut Object<'_, '_>) -> Option<QuestionKind> {
    let levels: Option<Option<Vec<QuestionOption>>> = object.optional("options");
    let (min, max) = (object.optional("min"), object.optional("max"));
    let scale = match (levels?, min?, max?) {
        (Some(levels), None, None) => Scale::Levels { levels: scored(node, levels) },
        (None, Some(min), Some(max)) => Scale::Range { min, max },
        (None, None, None) if node.report.legacy => Scale::Range { min: 1, max: 5 },
        (Some(_), ..) => return node.error("conflicting_keys", "a rating has `options`, or `min` and `max`"),
        (None, ..) => return node.error("missing_key", "a rating needs `options`, or both `min` and `max`"),
    };
    Some(QuestionKind::Rating { scale })
}

/// The older system's files have the best level first, and no scores.
fn scored(node: &Node<'_>, mut levels: Vec<QuestionOption>) -> Vec<QuestionOption> {
    if node.report.legacy && levels.iter().all(|level| level.score.is_none()) {
        for (score, level) in levels.iter_mut().rev().enumerate() {
            level.score = Some(score as f64 + 1.0);
        }
    }
    levels
}

fn boolean(node: &Node<'_>, object: &mut Object<'_, '_>) -> Option<QuestionKind> {
    let (yes, no) = (object.or("yes", "Yes".into()), object.or("no", "No".into()));
    let labels = if node.report.legacy { object.node("options") } else { None };
    let (yes, no) = (yes?, no?);
    match labels {
        Some(labels) => two_labels(&labels).map(|(yes, no)| QuestionKind::Boolean { yes, no }),
        None => Some(QuestionKind::Boolean { yes, no }),
    }
}

/// What people see for `true` and for `false`: the first and the second option, or the other way round if these say so.
fn two_labels(node: &Node<'_>) -> Option<(LocalizedText, LocalizedText)> {
    let labels: Vec<String> = Read::read(node)?;
    let [first, second] = labels.as_slice() else {
        let message = format!("a question for yes or no has two options, not {}", labels.len());
        return node.error("invalid_option", message);
    };
    let swapped = matches!(first.to_lowercase().as_str(), "no" | "false");
    let (yes, no) = if swapped { (second, first) } else { (first, second) };
    Some((yes.as_str().into(), no.as_str().into()))
}

fn number(_: &Node<'_>, object: &mut Object<'_, '_>) -> Option<QuestionKind> {
    let (min, max, step) = (object.optional("min"), object.optional("max"), object.optional("step"));
    let (integer, unit) = (object.or("integer", false), object.optional("unit"));
    Some(QuestionKind::Number(NumberQuestion { min: min?, max: max?, step: step?, integer: integer?, unit: unit? }))
}

fn text(node: &Node<'_>, object: &mut Object<'_, '_>) -> Option<QuestionKind> {
    let (min_chars, max_chars) = (object.optional("min_chars"), object.optional("max_chars"));
    let pattern = object.optional("pattern");
    let (multiline, many) = (object.or("multiline", node.report.legacy), object.or("many", false));
    Some(QuestionKind::Text(TextQuestion {
        min_chars: min_chars?,
        max_chars: max_chars?,
        pattern: pattern?,
        multiline: multiline?,
        many: many?,
    }))
}

fn date(_: &Node<'_>, object: &mut Object<'_, '_>) -> Option<QuestionKind> {
    let words =
        [("date", DateGranularity::Date), ("date_time", DateGranularity::DateTime), ("year", DateGranularity::Year)];
    object.word("only", &words).map(|only| QuestionKind::Date { only })
}

fn structured(node: &Node<'_>, object: &mut Object<'_, '_>) -> Option<QuestionKind> {
    let schema: Option<Option<Value>> = object.optional("schema");
    let schema = match schema? {
        Some(schema) => schema,
        None if node.report.legacy => {
            let message = "nothing says what the answer consists of: a list of texts or objects is taken";
            node.warning("structured_without_schema", message, "give the question a JSON Schema as `schema`");
            json!({"type": "array", "items": {"type": ["string", "object"]}})
        }
        None => return node.error("missing_key", "`schema` is missing"),
    };
    Some(QuestionKind::Structured { schema })
}

fn preference(_: &Node<'_>, object: &mut Object<'_, '_>) -> Option<QuestionKind> {
    let (left, right, tie) = (object.required("left"), object.required("right"), object.or("tie", false));
    Some(QuestionKind::Preference { left: left?, right: right?, tie: tie? })
}

fn ranking(_: &Node<'_>, object: &mut Object<'_, '_>) -> Option<QuestionKind> {
    object.required("field").map(|field| QuestionKind::Ranking { field })
}

fn taxonomy(_: &Node<'_>, object: &mut Object<'_, '_>) -> Option<QuestionKind> {
    let (tree, multiple) = (object.required("tree"), object.or("multiple", false));
    Some(QuestionKind::Taxonomy { tree: tree?, multiple: multiple? })
}

fn span(_: &Node<'_>, object: &mut Object<'_, '_>) -> Option<QuestionKind> {
    let (field, labels, overlap) = (object.required("field"), object.required("labels"), object.or("overlap", false));
    Some(QuestionKind::Span { field: field?, labels: labels?, overlap: overlap? })
}
