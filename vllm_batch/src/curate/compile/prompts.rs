//! What the prompt has of the schema. Whether templates are some, and what they name is there, is said where they are compiled.

use super::super::prompt::Templates;
use super::super::{Display, QuestionRole, TaskSchema};
use super::place::Place;

/// More examples than this fill the context of most models.
const MANY_EXAMPLES: usize = 64;

pub(super) fn check(place: &mut Place<'_>, schema: &TaskSchema, templates: &Templates) {
    if let Some(names) = templates.names_in_assistant() {
        let outputs = schema.questions.iter().filter(|question| question.role == QuestionRole::Output);
        for question in outputs.filter(|question| !names.contains(question.id.as_str())) {
            let message = format!("the answer to `{}` is not in the template", question.id);
            place.at("assistant").warning("question_not_in_template", message);
        }
    }
    let num_examples = schema.prompt.num_examples;
    if num_examples > MANY_EXAMPLES {
        let message = format!("{num_examples} examples are more than {MANY_EXAMPLES}");
        place.at("num_examples").warning("many_examples", message);
    }
}

/// Whoever sees less than the model, or more, does not judge by the same facts.
pub(super) fn check_fields(place: &mut Place<'_>, schema: &TaskSchema, templates: &Templates) {
    let names = templates.names_in_user();
    if schema.prompt.user.is_some() && names.is_none() {
        // What the template would name is not known.
        return;
    }
    for (at, field) in schema.fields.iter().enumerate() {
        let seen = schema.rendering.show_fields && field.display != Display::Hidden;
        let prompted = names.as_ref().map_or(field.in_prompt, |names| names.contains(field.id.as_str()));
        let mut place = place.at(at);
        if seen && !prompted {
            place.warning("field_not_in_prompt", format!("the reviewer sees `{}`, and the model does not", field.id));
        } else if prompted && !seen {
            place.warning("field_not_shown", format!("the model sees `{}`, and the reviewer does not", field.id));
        }
    }
}
