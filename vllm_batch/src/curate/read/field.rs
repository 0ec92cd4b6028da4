//! Fields.

use super::super::{Display, Field, FieldKind, Pii, TextFormat};
use super::node::{DROPPED, Node, Object, Read};

/// How a field is shown. The first is what is meant where nothing is said.
const DISPLAYS: &[(&str, Display)] = &[
    ("body", Display::Body),
    ("header", Display::Header),
    ("list", Display::List),
    ("timeline", Display::Timeline),
    ("table", Display::Table),
    ("collapsible", Display::Collapsible),
    ("markdown", Display::Markdown),
    ("link", Display::Link),
    ("hidden", Display::Hidden),
    ("default", Display::Body),
];

pub(super) const PII: &[(&str, Pii)] =
    &[("none", Pii::None), ("keep", Pii::Keep), ("mask", Pii::Mask), ("drop", Pii::Drop)];

#[derive(Clone, Copy)]
enum Type {
    Text,
    Chat,
    Structured,
    File,
    Number,
    Boolean,
    Date,
}

const TYPES: &[(&str, Type)] = &[
    ("text", Type::Text),
    ("chat", Type::Chat),
    ("structured", Type::Structured),
    ("file", Type::File),
    ("number", Type::Number),
    ("boolean", Type::Boolean),
    ("date", Type::Date),
];

impl Read for Field {
    fn read(node: &Node<'_>) -> Option<Self> {
        let mut object = node.object()?;
        let id = object.required("id");
        let title = object.optional(("title", "name"));
        let kind = kind(node, &mut object);
        let required = object.or("required", true);
        let default = object.optional("default");
        let display = display(node, &mut object);
        let in_prompt = object.or("in_prompt", true);
        let pii = object.word("pii", PII);
        let max_chars = object.optional("max_chars");
        // What a field of an unknown type may have is not known.
        if kind.is_some() {
            object.finish(DROPPED);
        }
        let mut field = Self::new(id?, kind?);
        field.title = title?.unwrap_or(field.title);
        (field.required, field.default, field.display) = (required?, default?, display?);
        (field.in_prompt, field.pii, field.max_chars) = (in_prompt?, pii?, max_chars?);
        Some(field)
    }
}

fn kind(node: &Node<'_>, object: &mut Object<'_, '_>) -> Option<FieldKind> {
    let Some(name) = object.node("type") else {
        return node.error("missing_key", "`type` is missing");
    };
    Some(match name.word(TYPES)? {
        Type::Text => FieldKind::Text { format: format(node, object)? },
        Type::Chat => FieldKind::Chat,
        Type::Structured => FieldKind::Structured { schema: object.optional("schema")? },
        Type::File => FieldKind::File { media: object.or("media", Vec::new())? },
        Type::Number => FieldKind::Number,
        Type::Boolean => FieldKind::Boolean,
        Type::Date => FieldKind::Date,
    })
}

/// The older system says how a text is written by how it is shown.
fn format(node: &Node<'_>, object: &mut Object<'_, '_>) -> Option<TextFormat> {
    let shown = object.node(("display", "displayFormat")).and_then(|display| display.value.as_str());
    if node.report.legacy && shown == Some("markdown") {
        return Some(TextFormat::Markdown);
    }
    object
        .word("format", &[("plain", TextFormat::Plain), ("markdown", TextFormat::Markdown), ("html", TextFormat::Html)])
}

fn display(node: &Node<'_>, object: &mut Object<'_, '_>) -> Option<Display> {
    let words = if node.report.legacy { DISPLAYS } else { &DISPLAYS[..DISPLAYS.len() - 1] };
    object.word(("display", "displayFormat"), words)
}
