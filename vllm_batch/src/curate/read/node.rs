//! A place in a document that knows where it is and where to report.

use std::cell::RefCell;

use serde_json::{Map, Value};

use super::super::check::{nearest, type_name};
use super::super::diagnostic::{escape, sort_by_place};
use super::super::{Diagnostic, Ident, LocalizedText, Version};
use super::OptionValues;

/// What was found while a document was read, and how it is to be read.
pub(super) struct Report {
    /// Whether the document is one of the older system's: it has that system's keys too.
    pub(super) legacy: bool,
    /// What the value of an option is that has none.
    pub(super) option_values: OptionValues,
    found: RefCell<Vec<Diagnostic>>,
}

impl Report {
    pub(super) fn new(legacy: bool, option_values: OptionValues, found: Vec<Diagnostic>) -> Self {
        Self { legacy, option_values, found: RefCell::new(found) }
    }

    pub(super) fn push(&self, diagnostic: Diagnostic) {
        self.found.borrow_mut().push(diagnostic);
    }

    /// What was found, in the order of the document.
    pub(super) fn into_diagnostics(self, document: &Value) -> Vec<Diagnostic> {
        let mut found = self.found.into_inner();
        sort_by_place(&mut found, document);
        found
    }
}

/// A value, where it is, and where to say what is wrong with it.
pub(super) struct Node<'a> {
    pub(super) value: &'a Value,
    pub(super) path: String,
    pub(super) report: &'a Report,
}

/// What can be read. `None`: it could not, and the report says why.
pub(super) trait Read: Sized {
    fn read(node: &Node<'_>) -> Option<Self>;
}

impl<'a> Node<'a> {
    pub(super) fn error<T>(&self, code: &'static str, message: impl Into<String>) -> Option<T> {
        self.report.push(Diagnostic::error(code, &self.path, message));
        None
    }

    pub(super) fn error_with_help<T>(
        &self,
        code: &'static str,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Option<T> {
        let mut diagnostic = Diagnostic::error(code, &self.path, message);
        diagnostic.help = help;
        self.report.push(diagnostic);
        None
    }

    pub(super) fn warning(&self, code: &'static str, message: impl Into<String>, help: &str) {
        self.report.push(Diagnostic::warning(code, &self.path, message).with_help(help));
    }

    pub(super) fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        self.error("wrong_type", format!("expected {expected}, found {}", type_name(self.value)))
    }

    pub(super) fn below(&self, key: &str, value: &'a Value) -> Node<'a> {
        Node { value, path: format!("{}/{}", self.path, escape(key)), report: self.report }
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        self.value.as_str().or_else(|| self.wrong_type("a text"))
    }

    pub(super) fn items(&self) -> Option<Vec<Node<'a>>> {
        match self.value {
            Value::Array(items) => {
                Some(items.iter().enumerate().map(|(at, item)| self.below(&at.to_string(), item)).collect())
            }
            _ => self.wrong_type("a list"),
        }
    }

    pub(super) fn object(&self) -> Option<Object<'_, 'a>> {
        match self.value {
            Value::Object(members) => Some(Object { node: self, members, known: Vec::new() }),
            _ => self.wrong_type("an object"),
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Clone>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(meaning.clone());
        }
        let all: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let help = nearest(text, words.iter().map(|(word, _)| *word)).map(|word| format!("`{word}` is meant?"));
        self.error_with_help("unknown_word", format!("{text:?} is not one of {}", all.join(", ")), help)
    }
}

/// The name of a key, and what it was called by the older system.
#[derive(Clone, Copy)]
pub(super) struct Key {
    name: &'static str,
    legacy: Option<&'static str>,
}

impl From<&'static str> for Key {
    fn from(name: &'static str) -> Self {
        Self { name, legacy: None }
    }
}

impl From<(&'static str, &'static str)> for Key {
    fn from((name, legacy): (&'static str, &'static str)) -> Self {
        Self { name, legacy: Some(legacy) }
    }
}

/// An object whose keys are read one by one. Each getter reports what is wrong, so that all are called before any result is used.
pub(super) struct Object<'n, 'a> {
    node: &'n Node<'a>,
    members: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Object<'_, 'a> {
    /// A key's value, if it is there and not null.
    pub(super) fn node(&mut self, key: impl Into<Key>) -> Option<Node<'a>> {
        let Key { name, legacy } = key.into();
        let legacy = legacy.filter(|_| self.node.report.legacy);
        self.known.push(name);
        self.known.extend(legacy);
        let (found, value) = [Some(name), legacy]
            .into_iter()
            .flatten()
            .find_map(|key| self.members.get(key).filter(|value| !value.is_null()).map(|value| (key, value)))?;
        if let Some(other) = legacy.filter(|legacy| *legacy != found && self.members.contains_key(*legacy)) {
            self.node.error::<()>("conflicting_keys", format!("`{other}` is the older name of `{name}`: give one"));
        }
        Some(self.node.below(found, value))
    }

    /// A value that must be there.
    pub(super) fn required<T: Read>(&mut self, key: impl Into<Key>) -> Option<T> {
        let key = key.into();
        if let Some(node) = self.node(key) {
            return T::read(&node);
        }
        let legacy = key.legacy.filter(|_| self.node.report.legacy);
        let or = legacy.map(|legacy| format!(" (or `{legacy}`)")).unwrap_or_default();
        self.node.error("missing_key", format!("`{}`{or} is missing", key.name))
    }

    /// A value that may be absent or null.
    #[expect(clippy::option_option, reason = "what could not be read is not what is absent")]
    pub(super) fn optional<T: Read>(&mut self, key: impl Into<Key>) -> Option<Option<T>> {
        match self.node(key) {
            Some(node) => T::read(&node).map(Some),
            None => Some(None),
        }
    }

    /// A value that is this one if it is absent.
    pub(super) fn or<T: Read>(&mut self, key: impl Into<Key>, default: T) -> Option<T> {
        self.optional(key).map(|value| value.unwrap_or(default))
    }

    /// One of a few words; the first one if it is absent.
    pub(super) fn word<T: Clone>(&mut self, key: impl Into<Key>, words: &[(&'static str, T)]) -> Option<T> {
        match self.node(key) {
            Some(node) => node.word(words),
            None => words.first().map(|(_, meaning)| meaning.clone()),
        }
    }

    /// The keys that nobody asked for.
    pub(super) fn unknown(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.members.iter().filter(|(key, _)| !self.known.contains(&key.as_str()))
    }

    /// Says which keys nobody asked for, and what happened to them.
    pub(super) fn finish(self, what_happens: &str) {
        for (key, _) in self.unknown() {
            let path = format!("{}/{}", self.node.path, escape(key));
            let message = format!("the key {key:?} is not known here: it is {what_happens}");
            let mut diagnostic = Diagnostic::warning("unknown_key", path, message);
            let unused = self.known.iter().copied().filter(|known| !self.members.contains_key(*known));
            diagnostic.help = nearest(key, unused).map(|known| format!("`{known}` is meant?"));
            self.node.report.push(diagnostic);
        }
    }
}

/// What happens to keys that are not known, but at the root.
pub(super) const DROPPED: &str = "left out";

impl Read for String {
    fn read(node: &Node<'_>) -> Option<Self> {
        node.text().map(str::to_owned)
    }
}

impl Read for bool {
    fn read(node: &Node<'_>) -> Option<Self> {
        node.value.as_bool().or_else(|| node.wrong_type("true or false"))
    }
}

impl Read for usize {
    fn read(node: &Node<'_>) -> Option<Self> {
        let number = node.value.as_u64().and_then(|number| Self::try_from(number).ok());
        number.or_else(|| node.wrong_type("a whole number, 0 or more"))
    }
}

impl Read for i64 {
    fn read(node: &Node<'_>) -> Option<Self> {
        node.value.as_i64().or_else(|| node.wrong_type("a whole number"))
    }
}

impl Read for f64 {
    fn read(node: &Node<'_>) -> Option<Self> {
        node.value.as_f64().or_else(|| node.wrong_type("a number"))
    }
}

impl Read for Value {
    fn read(node: &Node<'_>) -> Option<Self> {
        Some(node.value.clone())
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(node: &Node<'_>) -> Option<Self> {
        // All are read, and then it is seen whether all could be.
        let items: Vec<Option<T>> = node.items()?.iter().map(T::read).collect();
        items.into_iter().collect()
    }
}

impl<T: Read> Read for Box<T> {
    fn read(node: &Node<'_>) -> Option<Self> {
        T::read(node).map(Box::new)
    }
}

impl Read for Ident {
    fn read(node: &Node<'_>) -> Option<Self> {
        let text = node.text()?;
        text.parse().ok().or_else(|| {
            let help = Ident::slug(text).map(|slug| format!("`{slug}` would do"));
            node.error_with_help("invalid_id", super::super::InvalidIdent { text: text.to_owned() }.to_string(), help)
        })
    }
}

impl Read for Version {
    fn read(node: &Node<'_>) -> Option<Self> {
        let text = node.text()?;
        match text.parse() {
            Ok(version) => Some(version),
            Err(error) => {
                let digits = text.trim_start_matches('v').trim();
                let longer = [format!("{digits}.0"), format!("{digits}.0.0"), digits.to_owned()];
                let help = longer.into_iter().find(|text| text.parse::<Version>().is_ok());
                let help = help.map(|version| format!("`{version}` would do"));
                node.error_with_help("invalid_version", format!("{text:?} is not a semantic version: {error}"), help)
            }
        }
    }
}

impl Read for LocalizedText {
    fn read(node: &Node<'_>) -> Option<Self> {
        match node.value {
            Value::String(text) => Some(Self::Plain(text.clone())),
            Value::Object(texts) if texts.is_empty() => node.error("empty_text", "there is no text in any language"),
            Value::Object(texts) => {
                let texts: Vec<Option<_>> = texts
                    .iter()
                    .map(|(locale, text)| Some((locale.clone(), String::read(&node.below(locale, text))?)))
                    .collect();
                texts.into_iter().collect::<Option<_>>().map(Self::ByLocale)
            }
            _ => node.wrong_type("a text, or texts by locale"),
        }
    }
}
