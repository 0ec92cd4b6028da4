//! A place in a schema, to say what is wrong there.

use std::fmt::Display;

use super::super::diagnostic::escape;
use super::super::{Diagnostic, LocalizedText};

/// A place, and the list of what was found.
pub(super) struct Place<'f> {
    path: String,
    found: &'f mut Vec<Diagnostic>,
}

impl<'f> Place<'f> {
    /// The whole of the document.
    pub(super) fn root(found: &'f mut Vec<Diagnostic>) -> Self {
        Self { path: String::new(), found }
    }

    /// What is under a key, or at a position of a list.
    pub(super) fn at(&mut self, key: impl Display) -> Place<'_> {
        Place { path: format!("{}/{}", self.path, escape(&key.to_string())), found: self.found }
    }

    pub(super) fn error(&mut self, code: &'static str, message: impl Into<String>) {
        self.found.push(Diagnostic::error(code, &self.path, message));
    }

    pub(super) fn error_with_help(&mut self, code: &'static str, message: impl Into<String>, help: Option<String>) {
        let mut diagnostic = Diagnostic::error(code, &self.path, message);
        diagnostic.help = help;
        self.found.push(diagnostic);
    }

    pub(super) fn warning(&mut self, code: &'static str, message: impl Into<String>) {
        self.found.push(Diagnostic::warning(code, &self.path, message));
    }

    /// A share lies between 0 and 1.
    pub(super) fn check_share(&mut self, share: f64) {
        if !(0.0..=1.0).contains(&share) {
            self.error("out_of_range", format!("{share} does not lie between 0 and 1"));
        }
    }

    /// People can read it.
    pub(super) fn check_text(&mut self, text: &LocalizedText) {
        let is_empty = match text {
            LocalizedText::Plain(text) => text.trim().is_empty(),
            LocalizedText::ByLocale(texts) => texts.is_empty() || texts.values().any(|text| text.trim().is_empty()),
        };
        if is_empty {
            self.error("empty_text", "the text is empty, or one of its languages is");
        }
    }
}

/// Whether numbers are finite; those that are not are reported.
pub(super) fn are_finite(place: &mut Place<'_>, numbers: &[(&str, Option<f64>)]) -> bool {
    let mut all = true;
    for (key, number) in numbers {
        if number.is_some_and(|number| !number.is_finite()) {
            place.at(key).error("not_finite", "the number is not finite");
            all = false;
        }
    }
    all
}
