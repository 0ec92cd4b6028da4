//! Names: each once, and those that are named elsewhere are there.

use std::collections::HashSet;

use super::super::check::nearest;
use super::super::{Field, Ident, Question, TaskSchema};
use super::place::Place;

/// Each name is given once. A field and a question may have the same one: nothing takes one for the other.
pub(super) fn check_unique<'a>(place: &mut Place<'_>, what: &str, ids: impl Iterator<Item = &'a Ident>) {
    let mut seen = HashSet::new();
    for (at, id) in ids.enumerate() {
        if !seen.insert(id) {
            place.at(at).at("id").error("duplicate_id", format!("there are two {what}s `{id}`"));
        }
    }
}

/// The field of a name, or a report that there is none.
pub(super) fn field<'s>(place: &mut Place<'_>, schema: &'s TaskSchema, id: &Ident) -> Option<&'s Field> {
    let found = schema.field(id);
    if found.is_none() {
        let help = nearest(id, schema.fields.iter().map(|field| field.id.as_str())).map(meant);
        place.error_with_help("unknown_field", format!("there is no field `{id}`"), help);
    }
    found
}

/// The question of a name, or a report that there is none.
pub(super) fn question<'s>(place: &mut Place<'_>, schema: &'s TaskSchema, id: &Ident) -> Option<&'s Question> {
    let found = schema.question(id);
    if found.is_none() {
        let help = nearest(id, schema.questions.iter().map(|question| question.id.as_str())).map(meant);
        place.error_with_help("unknown_question", format!("there is no question `{id}`"), help);
    }
    found
}

pub(super) fn meant(name: impl std::fmt::Display) -> String {
    format!("`{name}` is meant?")
}
