//! When questions are asked.

use std::collections::HashSet;

use serde_json::Value;

use super::super::{Condition, Ident, Question, QuestionKind, QuestionRole, TaskSchema};
use super::place::Place;
use super::{kinds, names};

/// Conditions within each other, at most.
const MAX_DEPTH: usize = 16;

/// The condition of the question at a position: what it names is there, what it compares with can be, and all of that is
/// known when it is asked.
pub(super) fn check(place: &mut Place<'_>, schema: &TaskSchema, at: usize) {
    let question = &schema.questions[at];
    let Some(condition) = &question.visible_when else { return };
    let mut place = place.at("visible_when");
    check_condition(&mut place, schema, condition, 0);
    let mut named = Vec::new();
    questions_of(condition, &mut named);
    if leads_back(schema, &question.id, &named) {
        return place.error("condition_cycle", format!("whether `{}` is asked depends on its own answer", question.id));
    }
    let known = |id: &Ident| schema.questions[..at].iter().any(|earlier| earlier.id == *id);
    for id in named.iter().filter(|id| schema.question(id).is_some_and(|_| !known(id))) {
        place.warning("condition_on_later_question", format!("`{id}` is asked later: a model has not answered it yet"));
    }
    let is_review = |id: &&&Ident| schema.question(id).is_some_and(|other| other.role == QuestionRole::Review);
    if question.role != QuestionRole::Review
        && let Some(id) = named.iter().find(is_review)
    {
        place
            .warning("condition_on_review", format!("only people answer `{id}`: a model is never asked this question"));
    }
}

fn check_condition(place: &mut Place<'_>, schema: &TaskSchema, condition: &Condition, depth: usize) {
    if depth == MAX_DEPTH {
        return place.error("too_deep", format!("more than {MAX_DEPTH} conditions are within each other"));
    }
    match condition {
        Condition::Answered(question) => {
            names::question(&mut place.at("answered"), schema, question);
        }
        Condition::Is { question, any_of } => check_is(&mut place.at("is"), schema, question, any_of),
        Condition::Field { field, any_of } => check_field(&mut place.at("field"), schema, field, any_of),
        Condition::Not(inner) => check_condition(&mut place.at("not"), schema, inner, depth + 1),
        Condition::All(all) => check_list(&mut place.at("all"), schema, all, depth),
        Condition::Any(any) => check_list(&mut place.at("any"), schema, any, depth),
    }
}

fn check_list(place: &mut Place<'_>, schema: &TaskSchema, conditions: &[Condition], depth: usize) {
    if conditions.is_empty() {
        place.error("empty_condition", "there is no condition in the list");
    }
    for (at, condition) in conditions.iter().enumerate() {
        check_condition(&mut place.at(at), schema, condition, depth + 1);
    }
}

fn check_is(place: &mut Place<'_>, schema: &TaskSchema, id: &Ident, any_of: &[Value]) {
    let Some(question) = names::question(&mut place.at("question"), schema, id) else { return };
    check_values(place, any_of, |value| why_impossible(question, value));
}

fn check_field(place: &mut Place<'_>, schema: &TaskSchema, id: &Ident, any_of: &[Value]) {
    let Some(field) = names::field(&mut place.at("field"), schema, id) else { return };
    let fits = |value: &Value| kinds::fits_field(&field.kind, value);
    check_values(place, any_of, |value| (!fits(value)).then(|| format!("`{id}` cannot have this value")));
}

fn check_values(place: &mut Place<'_>, any_of: &[Value], why_impossible: impl Fn(&Value) -> Option<String>) {
    let mut place = place.at("any_of");
    if any_of.is_empty() {
        place.error("empty_condition", "without values it is never so");
    }
    for (at, value) in any_of.iter().enumerate() {
        if let Some(why) = why_impossible(value) {
            place.at(at).error("impossible_value", why);
        }
    }
}

/// Why a question cannot have an answer, or an item of one. Lists are compared item by item, so one item is enough.
fn why_impossible(question: &Question, value: &Value) -> Option<String> {
    let whole = question.read_answer(value).err()?;
    let item = match &question.kind {
        QuestionKind::Choice { options, multiple: true, .. } => {
            options.iter().any(|option| Some(option.value.as_str()) == value.as_str())
        }
        QuestionKind::Text(text) if text.many => value.is_string(),
        QuestionKind::Ranking { .. } => value.is_string(),
        // What these answers consist of is not looked into.
        QuestionKind::Structured { .. } | QuestionKind::Taxonomy { .. } | QuestionKind::Span { .. } => true,
        _ => false,
    };
    (!item).then(|| whole.to_string())
}

/// Whether the conditions of the named questions, and of those that these name, come back to a question.
fn leads_back(schema: &TaskSchema, id: &Ident, named: &[&Ident]) -> bool {
    let mut open = named.to_vec();
    let mut seen = HashSet::new();
    while let Some(next) = open.pop() {
        if next == id {
            return true;
        }
        if seen.insert(next)
            && let Some(condition) = schema.question(next).and_then(|question| question.visible_when.as_ref())
        {
            questions_of(condition, &mut open);
        }
    }
    false
}

fn questions_of<'c>(condition: &'c Condition, into: &mut Vec<&'c Ident>) {
    match condition {
        Condition::Answered(question) | Condition::Is { question, .. } => into.push(question),
        Condition::Field { .. } => {}
        Condition::Not(inner) => questions_of(inner, into),
        Condition::All(all) | Condition::Any(all) => all.iter().for_each(|one| questions_of(one, into)),
    }
}
