//! Tags that show fields.

use super::super::super::{Display, Field, TaskSchema};
use super::super::names::{Objects, RECORD};
use super::super::view::View;
use super::super::xml::Element;

/// The record's name, which all questions are about that are not about a field of their own. So no change of the fields
/// takes away what answers are about.
pub(super) fn record(objects: &Objects) -> Element {
    let text = Element::new("Text").with("name", objects.record()).with("value", format!("${RECORD}"));
    Element::new("View").with("className", "vb-record").child(text)
}

/// The tags of a field, with its title; `None` if it is not shown.
pub(super) fn element(schema: &TaskSchema, field: &Field, objects: &Objects, locale: &str) -> Option<Element> {
    let view = View::of(schema, field);
    let object = object(view, field, objects.field(&field.id))?;
    let title = field.title.get(locale);
    if field.display == Display::Collapsible {
        let panel = Element::new("Panel").shown("value", title).child(object);
        let collapse = Element::new("Collapse").child(panel);
        return Some(Element::new("View").with("className", "vb-field").child(collapse));
    }
    let class = if field.display == Display::Header { "vb-field vb-head" } else { "vb-field" };
    let header = Element::new("Header").shown("value", title).with("size", "5");
    Some(Element::new("View").with("className", class).child(header).child(object))
}

fn object(view: View, field: &Field, name: String) -> Option<Element> {
    let value = format!("${}", view.key(field));
    let tag = match view {
        View::Hidden => return None,
        // Not a tag that questions can be about: it has no name.
        View::Markdown => return Some(Element::new("Markdown").with("value", value)),
        View::Text => "Text",
        View::Chat => "Paragraphs",
        View::Image => "Image",
        View::Audio => "Audio",
        View::Video => "Video",
        View::Html => "HyperText",
        View::List => "List",
    };
    let object = Element::new(tag).with("name", name).with("value", value);
    Some(match view {
        View::Chat => object.with("layout", "dialogue").with("nameKey", "role").with("textKey", "content"),
        _ => object,
    })
}
