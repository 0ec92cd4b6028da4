//! What is shown to whoever answers.

use serde::Serialize;
use serde_json::Value;

use super::{Ident, LocalizedText};

/// One thing that the model reads and the reviewer sees.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Field {
    /// Its name: the key in a record.
    pub id: Ident,
    /// What people call it.
    pub title: LocalizedText,
    /// What its values are.
    #[serde(flatten)]
    pub kind: FieldKind,
    /// Whether each record must have it.
    pub required: bool,
    /// The value of records that do not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// How the review page shows it.
    pub display: Display,
    /// Whether the default prompt has it. A template of the schema's own says for itself.
    pub in_prompt: bool,
    /// Whether it is about a person.
    pub pii: Pii,
    /// The most characters of its text that go into a prompt; what is longer is cut off, and the request says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_chars: Option<usize>,
}

impl Field {
    /// A required field of one kind, titled by its name.
    pub fn new(id: Ident, kind: FieldKind) -> Self {
        let title = LocalizedText::Plain(id.replace('_', " "));
        Self {
            id,
            title,
            kind,
            required: true,
            default: None,
            display: Display::Body,
            in_prompt: true,
            pii: Pii::None,
            max_chars: None,
        }
    }
}

/// What the values of a field are.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FieldKind {
    /// A text.
    Text {
        /// How it is written.
        format: TextFormat,
    },
    /// A conversation: a list of objects with `role` and `content`.
    Chat,
    /// Any JSON.
    Structured {
        /// The JSON Schema that it keeps to, if one is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        schema: Option<Value>,
    },
    /// The address of a file.
    File {
        /// Its media types, as `image/png`; empty for any.
        media: Vec<String>,
    },
    /// A number.
    Number,
    /// Yes or no.
    Boolean,
    /// A date, as `2026-01-31`, or a time after RFC 3339.
    Date,
}

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TextFormat {
    /// As it is.
    Plain,
    /// In Markdown.
    Markdown,
    /// In HTML: never shown without being cleaned.
    Html,
}

/// How the review page shows a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Display {
    /// In the head of the page.
    Header,
    /// As a text.
    Body,
    /// As a list of its items.
    List,
    /// As events in time.
    Timeline,
    /// As a table.
    Table,
    /// Closed until it is asked for.
    Collapsible,
    /// As Markdown.
    Markdown,
    /// As a link.
    Link,
    /// Not at all.
    Hidden,
}

/// Whether something is about a person, and what is done with it before it leaves the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pii {
    /// It is not.
    None,
    /// It is, and may be shown.
    Keep,
    /// It is replaced by a mark before it goes to a review server or into an export.
    Mask,
    /// It never goes there.
    Drop,
}
