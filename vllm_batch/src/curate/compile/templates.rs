//! What prompts name, and what the reviewer sees of it.

use super::super::check::nearest;
use super::super::prompt::{OF_SYSTEM, names_in};
use super::super::{Display, PromptSpec, QuestionRole, TaskSchema};
use super::names::meant;
use super::place::Place;

/// More examples than this fill the context of most models.
const MANY_EXAMPLES: usize = 64;

pub(super) fn check(place: &mut Place<'_>, schema: &TaskSchema) {
    let PromptSpec { system, user, assistant, num_examples } = &schema.prompt;
    let fields: Vec<&str> = schema.fields.iter().map(|field| field.id.as_str()).collect();
    let questions: Vec<&str> = schema.questions.iter().map(|question| question.id.as_str()).collect();
    for (key, template, known) in
        [("system", system, &OF_SYSTEM[..]), ("user", user, &fields), ("assistant", assistant, &questions)]
    {
        if let Some(template) = template {
            check_template(&mut place.at(key), template, known);
        }
    }
    if let Some(assistant) = assistant {
        check_assistant(&mut place.at("assistant"), schema, assistant);
    }
    if *num_examples > MANY_EXAMPLES {
        place
            .at("num_examples")
            .warning("many_examples", format!("{num_examples} examples are more than {MANY_EXAMPLES}"));
    }
}

fn check_template(place: &mut Place<'_>, template: &str, known: &[&str]) {
    match names_in(template) {
        Ok(names) => {
            for name in names.iter().filter(|name| !known.contains(&name.as_str())) {
                let help = nearest(name, known.iter().copied()).map(meant);
                place.error_with_help("unknown_placeholder", format!("nothing is called `{name}`"), help);
            }
        }
        Err(message) => place.error("invalid_template", message),
    }
}

fn check_assistant(place: &mut Place<'_>, schema: &TaskSchema, template: &str) {
    let names = names_in(template).unwrap_or_default();
    for question in schema.questions.iter().filter(|question| question.role == QuestionRole::Output) {
        if !names.contains(question.id.as_str()) {
            let message = format!("the answer to `{}` is not in the template", question.id);
            place.warning("question_not_in_template", message);
        }
    }
}

/// Whoever sees less than the model, or more, does not judge by the same facts.
pub(super) fn check_fields(place: &mut Place<'_>, schema: &TaskSchema) {
    let Ok(own) = schema.prompt.user.as_deref().map(names_in).transpose() else {
        // What the template would name is not known.
        return;
    };
    for (at, field) in schema.fields.iter().enumerate() {
        let seen = schema.rendering.show_fields && field.display != Display::Hidden;
        let prompted = own.as_ref().map_or(field.in_prompt, |names| names.contains(field.id.as_str()));
        let mut place = place.at(at);
        if seen && !prompted {
            place.warning("field_not_in_prompt", format!("the reviewer sees `{}`, and the model does not", field.id));
        } else if prompted && !seen {
            place.warning("field_not_shown", format!("the model sees `{}`, and the reviewer does not", field.id));
        }
    }
}
