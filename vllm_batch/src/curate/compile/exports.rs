//! What makes a record gold, and what training data consist of.

use std::collections::HashSet;

use super::super::{ExportSpec, GoldPolicy, Ident, Pii, QuestionRole, TaskSchema};
use super::names;
use super::place::Place;

pub(super) fn check_gold(place: &mut Place<'_>, gold: &GoldPolicy) {
    let Some(auto) = &gold.auto else {
        if !gold.manual {
            place.warning("never_gold", "no person may say what is gold, and there is no rule");
        }
        return;
    };
    let mut place = place.at("auto");
    place.at("min_agreement").check_share(auto.min_agreement);
    if let Some(max_edit) = auto.max_edit {
        place.at("max_edit").check_share(max_edit);
    }
    if auto.min_annotators == 0 {
        place.at("min_annotators").error("out_of_range", "a rule needs at least one person's answers");
    }
}

pub(super) fn check_export(place: &mut Place<'_>, schema: &TaskSchema) {
    let ExportSpec { inputs, outputs, group_by } = &schema.export;
    if let Some(inputs) = inputs {
        check_inputs(&mut place.at("inputs"), schema, inputs);
    }
    if let Some(outputs) = outputs {
        check_outputs(&mut place.at("outputs"), schema, outputs);
    }
    if let Some(field) = group_by {
        names::field(&mut place.at("group_by"), schema, field);
    }
}

fn check_inputs(place: &mut Place<'_>, schema: &TaskSchema, inputs: &[Ident]) {
    check_each_once(place, inputs);
    for (at, id) in inputs.iter().enumerate() {
        let mut place = place.at(at);
        if names::field(&mut place, schema, id).is_some_and(|field| field.pii == Pii::Drop) {
            place.error("private_input", format!("`{id}` is about a person and never leaves the process"));
        }
    }
}

/// What people say about an answer is nothing that a model should learn to answer.
fn check_outputs(place: &mut Place<'_>, schema: &TaskSchema, outputs: &[Ident]) {
    if outputs.is_empty() {
        place.error("no_outputs", "there is nothing to learn");
    }
    check_each_once(place, outputs);
    for (at, id) in outputs.iter().enumerate() {
        let mut place = place.at(at);
        let Some(question) = names::question(&mut place, schema, id) else { continue };
        if question.role == QuestionRole::Review {
            let help = "leave it out, or give the question the role `output`".to_owned();
            let message = format!("`{id}` is what people say about the answers: no model is trained on it");
            place.error_with_help("review_output", message, Some(help));
        }
        if question.pii == Pii::Drop {
            place.error("private_output", format!("answers to `{id}` never leave the process"));
        }
    }
}

fn check_each_once(place: &mut Place<'_>, ids: &[Ident]) {
    let mut seen = HashSet::new();
    for (at, id) in ids.iter().enumerate().filter(|(_, id)| !seen.insert(*id)) {
        place.at(at).error("duplicate_id", format!("`{id}` is there twice"));
    }
}
