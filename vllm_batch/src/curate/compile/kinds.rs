//! What the answers to a question are.

use serde_json::Value;

use super::super::pattern;
use super::super::{
    Display, FieldKind, Ident, Level, NumberQuestion, Question, QuestionKind, QuestionRole, Scale, TaskSchema,
    TextQuestion,
};
use super::place::{Place, are_finite};
use super::{json_schema, names, options};

/// More steps than this are no scale that people can use.
const WIDE_SCALE: i64 = 100;

pub(super) fn check(place: &mut Place<'_>, schema: &TaskSchema, question: &Question) {
    match &question.kind {
        QuestionKind::Choice { options, multiple, min, max } => {
            options::check(&mut place.at("options"), options);
            check_count(place, *multiple, (*min, *max), options.len());
        }
        QuestionKind::Rating { scale: Scale::Levels { levels } } => {
            options::check_levels(&mut place.at("options"), levels);
        }
        QuestionKind::Rating { scale: Scale::Range { min, max } } => check_range(place, *min, *max),
        QuestionKind::Boolean { yes, no } => {
            place.at("yes").check_text(yes);
            place.at("no").check_text(no);
            if yes == no {
                place.at("no").error("duplicate_label", "yes and no have the same label");
            }
        }
        QuestionKind::Number(number) => check_number(place, number),
        QuestionKind::Text(text) => check_text(place, text),
        QuestionKind::Date { .. } => {}
        QuestionKind::Structured { schema } => json_schema::check(&mut place.at("schema"), schema),
        QuestionKind::Preference { left, right, .. } => check_preference(place, schema, left, right),
        QuestionKind::Ranking { field } => {
            check_field(&mut place.at("field"), schema, field, |kind| matches!(kind, FieldKind::Structured { .. }));
        }
        QuestionKind::Taxonomy { tree, .. } => options::check_tree(&mut place.at("tree"), tree, 0),
        QuestionKind::Span { field, labels, .. } => {
            check_field(&mut place.at("field"), schema, field, |kind| matches!(kind, FieldKind::Text { .. }));
            options::check(&mut place.at("labels"), labels);
        }
    }
    check_role(place, question);
    check_level(place, question);
}

fn check_count(place: &mut Place<'_>, multiple: bool, (min, max): (usize, Option<usize>), options: usize) {
    match max {
        Some(_) if !multiple => place.at("max").warning("unused_bound", "only a choice that is `multiple` has bounds"),
        Some(max) if max < min.max(1) => {
            place.at("max").error("crossed_bounds", format!("at most {max}, but at least {}", min.max(1)));
        }
        Some(max) if max > options => {
            place.at("max").warning("unused_bound", format!("there are no {max} options, but {options}"));
        }
        _ => {}
    }
    if multiple && min > options {
        place.at("min").error("crossed_bounds", format!("at least {min} of {options} options"));
    }
}

fn check_range(place: &mut Place<'_>, min: i64, max: i64) {
    if min >= max {
        place.at("max").error("crossed_bounds", format!("the highest, {max}, is not above the lowest, {min}"));
    } else if max.saturating_sub(min) > WIDE_SCALE {
        place.at("max").warning("wide_scale", format!("more than {WIDE_SCALE} steps: a number would be easier"));
    }
}

fn check_number(place: &mut Place<'_>, number: &NumberQuestion) {
    let NumberQuestion { min, max, step, integer, .. } = number;
    if !are_finite(place, &[("min", *min), ("max", *max), ("step", *step)]) {
        return;
    }
    if let Some(step) = step.filter(|step| *step <= 0.0) {
        return place.at("step").error("invalid_step", format!("a step is more than 0, not {step}"));
    }
    let (Some(min), Some(max)) = (min, max) else { return };
    let step = step.or(integer.then_some(1.0));
    let first = step.map_or(*min, |step| (min / step).ceil() * step);
    if min > max {
        place.at("max").error("crossed_bounds", format!("the greatest, {max}, is below the least, {min}"));
    } else if first > *max {
        place.at("max").error("crossed_bounds", format!("no number that is allowed lies between {min} and {max}"));
    }
}

fn check_text(place: &mut Place<'_>, text: &TextQuestion) {
    match (text.min_chars, text.max_chars) {
        (_, Some(0)) => place.at("max_chars").error("crossed_bounds", "a text of no characters is no answer"),
        (Some(min), Some(max)) if min > max => {
            place.at("max_chars").error("crossed_bounds", format!("at most {max} characters, but at least {min}"));
        }
        _ => {}
    }
    let longest = text.pattern.as_deref().and_then(pattern::longest);
    let least = text.min_chars.unwrap_or(0).max(1);
    if let Some(longest) = longest.filter(|longest| *longest < least) {
        let message = format!("it matches at most {longest} characters, and an answer has at least {least}");
        place.at("pattern").error("crossed_bounds", message);
    }
}

fn check_preference(place: &mut Place<'_>, schema: &TaskSchema, left: &Ident, right: &Ident) {
    let can_be_better = |kind: &FieldKind| !matches!(kind, FieldKind::Number | FieldKind::Boolean | FieldKind::Date);
    check_field(&mut place.at("left"), schema, left, can_be_better);
    if left == right {
        place.at("right").error("same_field", "a field cannot be better than itself");
    } else {
        check_field(&mut place.at("right"), schema, right, can_be_better);
    }
}

/// The field is there, is of a kind that the question can be about, and is seen by whoever answers.
fn check_field(place: &mut Place<'_>, schema: &TaskSchema, id: &Ident, fits: impl Fn(&FieldKind) -> bool) {
    let Some(field) = names::field(place, schema, id) else { return };
    if !fits(&field.kind) {
        place.error("wrong_field_kind", format!("the question cannot be about `{id}`: it is of another type"));
    }
    if field.display == Display::Hidden || !schema.rendering.show_fields {
        place.warning("hidden_field", format!("the question is about `{id}`, which the reviewer does not see"));
    }
}

fn check_role(place: &mut Place<'_>, question: &Question) {
    let is_text = matches!(&question.kind, QuestionKind::Text(text) if !text.many);
    if question.role == QuestionRole::Reasoning && !is_text {
        place.at("role").error("wrong_role", "what a model thinks is one text");
    }
}

/// Only numbers have distances.
fn check_level(place: &mut Place<'_>, question: &Question) {
    let Some(level) = question.level else { return };
    let fits = match &question.kind {
        QuestionKind::Rating { .. } | QuestionKind::Number(_) => true,
        QuestionKind::Choice { options, multiple: false, .. } => {
            level <= Level::Ordinal || options.iter().all(|option| option.score.is_some())
        }
        QuestionKind::Date { .. } => level <= Level::Ordinal,
        _ => level == Level::Nominal,
    };
    if !fits {
        let message = format!("answers to a question of the type `{}` do not have that level", question.kind.name());
        place.at("level").error("wrong_level", message);
    }
}

/// The answer of those who give none can be given.
pub(super) fn check_default(place: &mut Place<'_>, question: &Question) {
    let wrong = question.default.as_ref().and_then(|answer| question.check(answer).err());
    if let Some(error) = wrong {
        place.at("default").error("invalid_default", error.to_string());
    }
}

/// Whether a value fits a field's kind, as far as the kind alone says.
pub(super) fn fits_field(kind: &FieldKind, value: &Value) -> bool {
    match kind {
        FieldKind::Text { .. } | FieldKind::File { .. } | FieldKind::Date => value.is_string(),
        FieldKind::Chat => value.is_array(),
        FieldKind::Structured { .. } => !value.is_null(),
        FieldKind::Number => value.is_number(),
        FieldKind::Boolean => value.is_boolean(),
    }
}
