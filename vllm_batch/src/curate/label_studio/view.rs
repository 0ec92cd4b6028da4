//! How the review page shows fields.

use quick_xml::escape::escape;
use serde_json::{Map, Value, json};

use super::super::prompt::inline;
use super::super::{Display, Field, FieldKind, QuestionKind, TaskSchema, TextFormat};
use super::names::shown_key;

/// The tag that shows a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// A text as it is, in which stretches can be labelled.
    Text,
    /// A text with marks. No question can be about it.
    Markdown,
    /// A conversation.
    Chat,
    /// A picture.
    Image,
    /// A recording.
    Audio,
    /// A film.
    Video,
    /// HTML that is made here, of escaped parts.
    Html,
    /// Items that can be ranked.
    List,
    /// Nothing.
    Hidden,
}

impl View {
    /// How a field of a schema is shown.
    pub(super) fn of(schema: &TaskSchema, field: &Field) -> Self {
        let about = |kind: &QuestionKind| kind.fields().any(|id| *id == field.id);
        let is_ranked = |kind: &QuestionKind| matches!(kind, QuestionKind::Ranking { .. }) && about(kind);
        let is_target = schema.questions.iter().any(|question| about(&question.kind));
        if schema.questions.iter().any(|question| is_ranked(&question.kind)) {
            return Self::List;
        }
        if !is_target && (field.display == Display::Hidden || !schema.rendering.show_fields) {
            return Self::Hidden;
        }
        Self::of_shown(field, is_target)
    }

    fn of_shown(field: &Field, is_target: bool) -> Self {
        let is_marked = |format| format == TextFormat::Markdown || field.display == Display::Markdown;
        match &field.kind {
            FieldKind::Text { format } if !is_target && is_marked(*format) => Self::Markdown,
            FieldKind::Text { .. } if !is_target && field.display == Display::Link => Self::Html,
            FieldKind::Text { .. } | FieldKind::Number | FieldKind::Date => Self::Text,
            FieldKind::Chat => Self::Chat,
            FieldKind::File { media } => {
                let all = |class: &str| !media.is_empty() && media.iter().all(|one| one.starts_with(class));
                [("image/", Self::Image), ("audio/", Self::Audio), ("video/", Self::Video)]
                    .into_iter()
                    .find_map(|(class, view)| all(class).then_some(view))
                    .unwrap_or(Self::Html)
            }
            FieldKind::Structured { .. } | FieldKind::Boolean => Self::Html,
        }
    }

    /// The key of a task's data that is shown.
    pub(super) fn key(self, field: &Field) -> String {
        match self {
            Self::Html | Self::List => shown_key(field),
            _ => field.id.to_string(),
        }
    }

    /// What people see, if it is not the value itself.
    pub(super) fn shown(self, field: &Field, value: Option<&Value>) -> Option<Value> {
        match self {
            Self::Html => Some(value.map_or_else(String::new, |value| html(field, value)).into()),
            Self::List => Some(value.and_then(Value::as_array).map_or_else(Vec::new, |items| list(items)).into()),
            _ => None,
        }
    }
}

/// A value that says that there is none, of the type that the tags want: Label Studio refuses null.
pub(super) fn nothing(field: &Field) -> Value {
    match field.kind {
        FieldKind::Chat | FieldKind::Structured { .. } => json!([]),
        _ => json!(""),
    }
}

fn html(field: &Field, value: &Value) -> String {
    match (field.display, value) {
        (Display::Table, Value::Array(rows)) if rows.iter().all(Value::is_object) => table(rows),
        (Display::Timeline, Value::Array(items)) => items_of("ol", items),
        (_, Value::String(text)) if is_link(field) => link(text),
        _ => fragment(value),
    }
}

fn is_link(field: &Field) -> bool {
    field.display == Display::Link || matches!(field.kind, FieldKind::File { .. })
}

/// Only addresses of pages become links: others could run scripts.
fn link(address: &str) -> String {
    let text = escape(address);
    if address.starts_with("https://") || address.starts_with("http://") {
        format!("<a href=\"{text}\" target=\"_blank\" rel=\"noopener noreferrer\">{text}</a>")
    } else {
        text.into_owned()
    }
}

fn fragment(value: &Value) -> String {
    match value {
        Value::Array(items) => items_of("ul", items),
        Value::Object(members) => {
            let members = members.iter().filter(|(_, value)| !value.is_null());
            let member = |(key, value): (&String, &Value)| {
                [within("dt", &within("b", &escape(key.as_str()))), within("dd", &fragment(value))].concat()
            };
            within("dl", &members.map(member).collect::<String>())
        }
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        other => lines(&inline(other)),
    }
}

fn within(tag: &str, inner: &str) -> String {
    format!("<{tag}>{inner}</{tag}>")
}

fn lines(text: &str) -> String {
    escape(text).replace("\r\n", "\n").replace('\n', "<br>")
}

fn items_of(tag: &str, items: &[Value]) -> String {
    within(tag, &items.iter().map(|item| within("li", &fragment(item))).collect::<String>())
}

/// Objects as rows, with a column for each key, in the order in which the keys are met.
fn table(rows: &[Value]) -> String {
    let rows: Vec<&Map<String, Value>> = rows.iter().filter_map(Value::as_object).collect();
    let mut columns: Vec<&String> = Vec::new();
    for key in rows.iter().flat_map(|row| row.keys()) {
        if !columns.contains(&key) {
            columns.push(key);
        }
    }
    let head: String = columns.iter().map(|key| within("th", &escape(key.as_str()))).collect();
    let cell = |row: &Map<String, Value>, key: &str| row.get(key).map_or_else(String::new, fragment);
    let row = |row: &&Map<String, Value>| {
        within("tr", &columns.iter().map(|key| within("td", &cell(row, key))).collect::<String>())
    };
    within("table", &[within("tr", &head), rows.iter().map(row).collect()].concat())
}

/// Items to rank, as the `List` tag wants them.
fn list(items: &[Value]) -> Vec<Value> {
    let item = |item: &Value| match item {
        Value::Object(members) => {
            let part = |key: &str| members.get(key).map(inline);
            let rest =
                members.iter().filter(|(key, value)| !["id", "title", "body"].contains(&&***key) && !value.is_null());
            let rest: Vec<String> = rest.map(|(key, value)| format!("{key}: {}", inline(value))).collect();
            let body = part("body").into_iter().chain(rest).collect::<Vec<_>>().join("\n");
            let id = part("id").unwrap_or_default();
            json!({"id": id, "title": part("title").unwrap_or_else(|| id.clone()), "body": body})
        }
        other => json!({"id": inline(other), "title": inline(other), "body": ""}),
    };
    items.iter().map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curate::arbitrary::ident;

    fn field(kind: FieldKind, display: Display) -> Field {
        Field { display, ..Field::new(ident("x"), kind) }
    }

    #[test]
    fn what_is_made_of_data_is_inert() {
        let structured = |display| field(FieldKind::Structured { schema: None }, display);
        let file = field(FieldKind::File { media: vec![] }, Display::Body);
        let jobs = json!([{"at": "<b>&\"", "n": 1}, {"at": null, "ok": true}]);
        let cases = [
            (
                structured(Display::Table),
                jobs.clone(),
                "<table><tr><th>at</th><th>n</th><th>ok</th></tr><tr><td>&lt;b&gt;&amp;&quot;</td><td>1</td><td></td></tr><tr><td></td><td></td><td>yes</td></tr></table>",
            ),
            (structured(Display::Timeline), json!(["a\nb"]), "<ol><li>a<br>b</li></ol>"),
            (
                structured(Display::List),
                json!([{"<k>": [1]}]),
                "<ul><li><dl><dt><b>&lt;k&gt;</b></dt><dd><ul><li>1</li></ul></dd></dl></li></ul>",
            ),
            (
                file.clone(),
                json!("https://x.org/?a=\"b\"&c"),
                "<a href=\"https://x.org/?a=&quot;b&quot;&amp;c\" target=\"_blank\" rel=\"noopener noreferrer\">https://x.org/?a=&quot;b&quot;&amp;c</a>",
            ),
            (file, json!("javascript:alert(1)"), "javascript:alert(1)"),
        ];
        for (field, value, expected) in cases {
            assert_eq!(View::Html.shown(&field, Some(&value)), Some(json!(expected)));
        }
    }

    #[test]
    fn items_have_what_a_list_shows() {
        let field = field(FieldKind::Structured { schema: None }, Display::Body);
        let items = json!(["a", {"id": "b", "title": "B", "body": "text", "n": 2}, {"id": "c"}]);
        let expected = json!([
            {"id": "a", "title": "a", "body": ""},
            {"id": "b", "title": "B", "body": "text\nn: 2"},
            {"id": "c", "title": "c", "body": ""},
        ]);
        assert_eq!(View::List.shown(&field, Some(&items)), Some(expected));
    }
}
