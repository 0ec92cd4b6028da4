//! Options, levels and terms.

use std::collections::HashMap;

use super::super::{LocalizedText, QuestionOption, TaxonomyNode};
use super::place::{Place, are_finite};

/// More than this many are hard to choose from, and slow.
const MANY_OPTIONS: usize = 500;

/// Terms below each other, at most.
const MAX_TERM_DEPTH: usize = 16;

/// The options of a choice, or the labels of stretches of text.
pub(super) fn check(place: &mut Place<'_>, options: &[QuestionOption]) {
    if options.is_empty() {
        return place.error("no_options", "there is nothing to choose from");
    }
    if options.len() > MANY_OPTIONS {
        place.warning("many_options", format!("{} options are more than {MANY_OPTIONS}", options.len()));
    }
    for (at, option) in options.iter().enumerate() {
        check_option(&mut place.at(at), option);
    }
    check_values(place, options);
    check_labels(place, options);
    check_synonyms(place, options);
}

/// The named levels of a scale.
pub(super) fn check_levels(place: &mut Place<'_>, levels: &[QuestionOption]) {
    check(place, levels);
    let scores: Vec<f64> = levels.iter().filter_map(|level| level.score).collect();
    if scores.is_empty() && !levels.is_empty() {
        return place.warning("missing_score", "no level has a score: the first one is taken for the lowest");
    }
    if scores.len() < levels.len() {
        return place.error("missing_score", "some levels have a score and some have none");
    }
    let rises = scores.windows(2).all(|pair| pair[0] < pair[1]);
    let falls = scores.windows(2).all(|pair| pair[0] > pair[1]);
    if scores.iter().enumerate().any(|(at, score)| scores[..at].contains(score)) {
        place.error("duplicate_score", "two levels have the same score");
    } else if !rises && !falls {
        place.warning("unordered_levels", "the levels do not stand in the order of their scores");
    }
}

/// A tree of terms.
pub(super) fn check_tree(place: &mut Place<'_>, tree: &[TaxonomyNode], depth: usize) {
    if depth == MAX_TERM_DEPTH {
        return place.error("too_deep", format!("more than {MAX_TERM_DEPTH} terms are below each other"));
    }
    let options: Vec<QuestionOption> = tree.iter().map(|node| node.option.clone()).collect();
    check(place, &options);
    for (at, node) in tree.iter().enumerate().filter(|(_, node)| !node.children.is_empty()) {
        check_tree(&mut place.at(at).at("children"), &node.children, depth + 1);
    }
}

fn check_option(place: &mut Place<'_>, option: &QuestionOption) {
    let QuestionOption { value, label, help, score, synonyms } = option;
    if value.trim() != value || value.is_empty() {
        place.at("value").error("invalid_option", "the value is empty, or begins or ends with white space");
    } else if value.contains(',') || value.contains(char::is_control) {
        let message =
            format!("{value:?} has a comma or a control character, which labelling configurations cannot have");
        place.at("value").error("invalid_option", message);
    }
    place.at("label").check_text(label);
    if let Some(help) = help {
        place.at("help").check_text(help);
    }
    are_finite(place, &[("score", *score)]);
    for (at, _) in synonyms.iter().enumerate().filter(|(_, synonym)| synonym.trim().is_empty()) {
        place.at("synonyms").at(at).error("empty_text", "the text is empty");
    }
}

fn check_values(place: &mut Place<'_>, options: &[QuestionOption]) {
    let mut seen = HashMap::new();
    for (at, option) in options.iter().enumerate() {
        if let Some(first) = seen.insert(option.value.as_str(), at) {
            let message = format!("{:?} is the value of option {first} too", option.value);
            place.at(at).at("value").error("duplicate_option", message);
        }
    }
}

/// Labels are what people tell options apart by, in each language.
fn check_labels(place: &mut Place<'_>, options: &[QuestionOption]) {
    let mut seen = HashMap::new();
    for (at, option) in options.iter().enumerate() {
        let labels: Vec<(&str, &str)> = match &option.label {
            LocalizedText::Plain(text) => vec![("", text)],
            LocalizedText::ByLocale(texts) => texts.iter().map(|(locale, text)| (&**locale, &**text)).collect(),
        };
        let twice = labels.into_iter().find_map(|label| Some((seen.insert(label, at)?, label.1)));
        if let Some((first, label)) = twice {
            place.at(at).at("label").error("duplicate_label", format!("{label:?} is the label of option {first} too"));
        }
    }
}

/// What means two options means none.
fn check_synonyms(place: &mut Place<'_>, options: &[QuestionOption]) {
    let mut owners: HashMap<String, usize> = HashMap::new();
    for (at, option) in options.iter().enumerate() {
        owners.entry(option.value.to_lowercase()).or_insert(at);
        owners.entry(option.label.as_str().to_lowercase()).or_insert(at);
    }
    for (at, option) in options.iter().enumerate() {
        for (index, synonym) in option.synonyms.iter().enumerate() {
            let owner = *owners.entry(synonym.to_lowercase()).or_insert(at);
            if owner != at {
                let message = format!("{synonym:?} means option {owner} too");
                place.at(at).at("synonyms").at(index).warning("ambiguous_synonym", message);
            }
        }
    }
}
