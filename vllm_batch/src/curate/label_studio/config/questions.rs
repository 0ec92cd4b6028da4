//! Tags that ask questions.

use super::super::super::{
    AgentKind, DateGranularity, NumberQuestion, Question, QuestionKind, QuestionOption, Scale, TaskSchema,
    TaxonomyNode, TextQuestion,
};
use super::super::control::{Tag, date_format};
use super::super::names::Objects;
use super::super::xml::Element;

/// More options than this fold into a menu.
const MAX_OPEN: usize = 12;

/// The question with its help and the tag that asks it.
pub(super) fn element(schema: &TaskSchema, question: &Question, objects: &Objects, locale: &str) -> Element {
    let title = Element::new("Header").shown("value", question.title.get(locale)).with("size", "4");
    let help = question.help.as_ref().filter(|_| schema.rendering.show_help);
    let help = help.map(|help| Element::new("Header").shown("value", help.get(locale)).with("size", "6"));
    let tag = Tag::of(&question.kind);
    let control = Element::new(tag.name())
        .with("name", question.id.as_str())
        .with("toName", objects.of(&question.kind).join(","));
    let control = fill(control, tag, &question.kind, locale);
    let is_required = question.required && question.role.asks(AgentKind::Human);
    // Nothing can be required of the others.
    let control = match tag {
        Tag::Labels | Tag::Pairwise | Tag::Ranker => control,
        _ if is_required => control.with("required", "true"),
        _ => control,
    };
    Element::new("View").with("className", "vb-question").child(title).children(help).child(control)
}

fn fill(control: Element, tag: Tag, kind: &QuestionKind, locale: &str) -> Element {
    match tag {
        Tag::Choices => choices(control, kind, locale),
        Tag::Taxonomy => taxonomy(control, kind, locale),
        Tag::Labels => control.children(options("Label", kind.options(), locale)),
        Tag::Rating | Tag::Number => number(control, tag, kind),
        Tag::TextArea => text(control, kind),
        Tag::DateTime => date(control, kind),
        Tag::Pairwise | Tag::Ranker => control,
    }
}

fn choices(control: Element, kind: &QuestionKind, locale: &str) -> Element {
    let is_multiple = matches!(kind, QuestionKind::Choice { multiple: true, .. });
    let choices = match kind {
        QuestionKind::Boolean { yes, no } => {
            pairs("Choice", &[("true".to_owned(), yes.get(locale)), ("false".to_owned(), no.get(locale))])
        }
        QuestionKind::Rating { scale: Scale::Range { min, max } } => {
            let place =
                |place: i64| Element::new("Choice").with("value", place.to_string()).with("alias", place.to_string());
            (*min..=*max).map(place).collect()
        }
        // Which is which, the titles of the two fields say.
        QuestionKind::Preference { .. } => {
            let words = [("left", "Left"), ("right", "Right"), ("tie", "Equally good")];
            pairs("Choice", &words.map(|(value, label)| (value.to_owned(), label)))
        }
        kind => options("Choice", kind.options(), locale),
    };
    let control = control.with("choice", if is_multiple { "multiple" } else { "single" });
    let control = match choices.len() {
        ..=5 => control.with("showInline", "true"),
        MAX_OPEN.. => control.with("layout", "select"),
        _ => control,
    };
    control.children(choices)
}

/// Options under their stored values, with what people see. Label Studio tells options apart by what people see too, so one
/// that looks like another says its value.
fn options(tag: &'static str, options: &[QuestionOption], locale: &str) -> Vec<Element> {
    let labelled: Vec<_> = options.iter().map(|option| (option.value.clone(), option.label.get(locale))).collect();
    let with_help = pairs(tag, &labelled).into_iter().zip(options).map(|(element, option)| match &option.help {
        Some(help) => element.shown("hint", help.get(locale)),
        None => element,
    });
    with_help.collect()
}

fn pairs(tag: &'static str, pairs: &[(String, &str)]) -> Vec<Element> {
    let is_taken = |at: usize, label: &str| {
        let mut others = pairs.iter().enumerate().filter(|(other, _)| *other != at);
        others.any(|(_, (value, other))| value == label || *other == label)
    };
    let element = |(at, (value, label)): (usize, &(String, &str))| {
        let shown = if is_taken(at, label) { format!("{label} ({value})") } else { (*label).to_owned() };
        Element::new(tag).shown("value", &shown).with("alias", value)
    };
    pairs.iter().enumerate().map(element).collect()
}

fn taxonomy(control: Element, kind: &QuestionKind, locale: &str) -> Element {
    let QuestionKind::Taxonomy { tree, multiple } = kind else { return control };
    let control = if *multiple { control } else { control.with("maxUsages", "1") };
    control.children(terms(tree, locale))
}

fn terms(tree: &[TaxonomyNode], locale: &str) -> Vec<Element> {
    let own: Vec<QuestionOption> = tree.iter().map(|node| node.option.clone()).collect();
    let elements = options("Choice", &own, locale).into_iter().zip(tree);
    elements.map(|(element, node)| element.children(terms(&node.children, locale))).collect()
}

fn number(control: Element, tag: Tag, kind: &QuestionKind) -> Element {
    match kind {
        QuestionKind::Rating { scale: Scale::Range { max, .. } } if tag == Tag::Rating => {
            control.with("maxRating", max.to_string())
        }
        QuestionKind::Rating { scale: Scale::Range { min, max } } => {
            control.with("min", min.to_string()).with("max", max.to_string()).with("step", "1")
        }
        QuestionKind::Number(NumberQuestion { min, max, step, integer, .. }) => {
            let step = step.or(integer.then_some(1.0));
            let bounds = [("min", *min), ("max", *max), ("step", step)];
            let bounds = bounds.into_iter().filter_map(|(key, value)| Some((key, value?)));
            bounds.fold(control, |control, (key, value)| control.with(key, value.to_string()))
        }
        _ => control,
    }
}

fn text(control: Element, kind: &QuestionKind) -> Element {
    let (rows, many) = match kind {
        QuestionKind::Text(TextQuestion { multiline, many, .. }) => (if *multiline { 4 } else { 1 }, *many),
        _ => (8, false),
    };
    let control = control.with("rows", rows.to_string()).with("editable", "true");
    if many { control } else { control.with("maxSubmissions", "1") }
}

fn date(control: Element, kind: &QuestionKind) -> Element {
    let QuestionKind::Date { only } = kind else { return control };
    let (parts, format) = date_format(*only);
    let control = control.with("only", parts).with("format", format);
    // Years are a menu, which would begin at 2000 and end with this year.
    if *only == DateGranularity::Year { control.with("min", "1900").with("max", "2100") } else { control }
}
