//! Options, terms and conditions.

use serde_json::Value;

use super::super::ident::slug;
use super::super::{Condition, LocalizedText, QuestionOption, TaxonomyNode};
use super::OptionValues;
use super::node::{DROPPED, Node, Object, Read};

impl Read for QuestionOption {
    fn read(node: &Node<'_>) -> Option<Self> {
        if let Value::String(text) = node.value {
            return of_text(node, text);
        }
        let mut object = node.object()?;
        let option = members(node, &mut object);
        object.finish(DROPPED);
        option
    }
}

/// An option that is a text. In the older system's files its value is not the text, which may change.
fn of_text(node: &Node<'_>, text: &str) -> Option<QuestionOption> {
    if !node.report.legacy || node.report.option_values == OptionValues::Text {
        return Some(QuestionOption::new(text, text));
    }
    let value = slug(text);
    if value.is_empty() {
        let message = format!("no value can be made of {text:?}");
        let help = "write the option as an object with `value` and `label`".to_owned();
        return node.error_with_help("invalid_option", message, Some(help));
    }
    let synonyms = if value == text { Vec::new() } else { vec![text.to_owned()] };
    Some(QuestionOption { synonyms, ..QuestionOption::new(value, text) })
}

fn members(node: &Node<'_>, object: &mut Object<'_, '_>) -> Option<QuestionOption> {
    let value: Option<String> = object.required("value");
    let label: Option<Option<LocalizedText>> = object.optional("label");
    let help = object.optional("help");
    let score = object.optional("score");
    let synonyms = object.or("synonyms", Vec::new());
    let value = value?;
    if value.is_empty() {
        return node.error("invalid_option", "`value` is empty");
    }
    let label = label?.unwrap_or_else(|| value.as_str().into());
    Some(QuestionOption { value, label, help: help?, score: score?, synonyms: synonyms? })
}

impl Read for TaxonomyNode {
    fn read(node: &Node<'_>) -> Option<Self> {
        if let Value::String(text) = node.value {
            return of_text(node, text).map(|option| Self { option, children: Vec::new() });
        }
        let mut object = node.object()?;
        let option = members(node, &mut object);
        let children = object.or("children", Vec::new());
        object.finish(DROPPED);
        Some(Self { option: option?, children: children? })
    }
}

impl Read for Condition {
    fn read(node: &Node<'_>) -> Option<Self> {
        let Value::Object(members) = node.value else {
            return node.wrong_type("an object");
        };
        let mut members = members.iter();
        let (Some((key, value)), None) = (members.next(), members.next()) else {
            return node.error("invalid_condition", "a condition has one key: what kind of condition it is");
        };
        let inner = node.below(key, value);
        Some(match kind(node, key)? {
            Kind::Answered => Self::Answered(Read::read(&inner)?),
            Kind::Is => {
                let (question, any_of) = about(&inner, "question")?;
                Self::Is { question, any_of }
            }
            Kind::Field => {
                let (field, any_of) = about(&inner, "field")?;
                Self::Field { field, any_of }
            }
            Kind::Not => Self::Not(Read::read(&inner)?),
            Kind::All => Self::All(Read::read(&inner)?),
            Kind::Any => Self::Any(Read::read(&inner)?),
        })
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Answered,
    Is,
    Field,
    Not,
    All,
    Any,
}

const KINDS: &[(&str, Kind)] = &[
    ("answered", Kind::Answered),
    ("is", Kind::Is),
    ("field", Kind::Field),
    ("not", Kind::Not),
    ("all", Kind::All),
    ("any", Kind::Any),
];

fn kind(node: &Node<'_>, key: &str) -> Option<Kind> {
    Node { value: &Value::from(key), path: node.path.clone(), report: node.report }.word(KINDS)
}

fn about(node: &Node<'_>, what: &'static str) -> Option<(super::super::Ident, Vec<Value>)> {
    let mut object = node.object()?;
    let (id, any_of) = (object.required(what), object.required("any_of"));
    object.finish(DROPPED);
    Some((id?, any_of?))
}
