//! What answers could be, and can be.

use serde_json::{Map, Value};

use super::super::{NumberQuestion, QuestionKind, QuestionOption, Scale, TaxonomyNode, TextQuestion};
use super::compare::{Changes, match_by};
use super::diff::ChangeKind::{self, BoundsNarrowed, BoundsWidened, JsonSchemaChanged, QuestionRetyped, ScaleChanged};

pub(super) fn compare_kinds(changes: &mut Changes, path: &str, old: &QuestionKind, new: &QuestionKind) {
    use QuestionKind::{Boolean, Choice, Date, Number, Preference, Ranking, Rating, Span, Structured, Taxonomy, Text};
    match (old, new) {
        (Choice { options: old_options, .. }, Choice { options, .. }) => {
            compare_options(changes, &format!("{path}/options"), old_options, options);
            compare_counts(changes, path, old, new);
        }
        (Rating { scale: old }, Rating { scale: new }) => compare_scales(changes, path, old, new),
        (Boolean { yes: old_yes, no: old_no }, Boolean { yes, no }) => {
            changes.if_different(format!("{path}/yes"), old_yes, yes, ChangeKind::TextChanged);
            changes.if_different(format!("{path}/no"), old_no, no, ChangeKind::TextChanged);
        }
        (Number(old), Number(new)) => compare_numbers(changes, path, old, new),
        (Text(old), Text(new)) => compare_texts(changes, path, old, new),
        (Date { only: old }, Date { only: new }) => {
            changes.if_different(format!("{path}/only"), old, new, QuestionRetyped);
        }
        (Structured { schema: old }, Structured { schema: new }) => {
            compare_json_schemas(changes, &format!("{path}/schema"), Some(old), Some(new));
        }
        (Preference { tie: old_tie, .. }, Preference { tie, .. }) if same_fields(old, new) => {
            narrowed_if(changes, format!("{path}/tie"), *old_tie, *tie);
        }
        (Ranking { .. }, Ranking { .. }) => changes.if_different(format!("{path}/field"), old, new, QuestionRetyped),
        (Taxonomy { tree: old_tree, multiple: old }, Taxonomy { tree, multiple }) => {
            compare_trees(changes, &format!("{path}/tree"), old_tree, tree);
            changes.if_different(format!("{path}/multiple"), old, multiple, QuestionRetyped);
        }
        (Span { labels: old_labels, overlap: old_overlap, .. }, Span { labels, overlap, .. })
            if same_fields(old, new) =>
        {
            compare_options(changes, &format!("{path}/labels"), old_labels, labels);
            narrowed_if(changes, format!("{path}/overlap"), *old_overlap, *overlap);
        }
        _ => changes.push(format!("{path}/type"), QuestionRetyped),
    }
}

/// Whether two questions are about the same fields.
fn same_fields(old: &QuestionKind, new: &QuestionKind) -> bool {
    match (old, new) {
        (QuestionKind::Span { field: old, .. }, QuestionKind::Span { field: new, .. }) => old == new,
        (
            QuestionKind::Preference { left: old_left, right: old_right, .. },
            QuestionKind::Preference { left, right, .. },
        ) => (old_left, old_right) == (left, right),
        _ => false,
    }
}

/// What was allowed is not any more, or the other way round.
fn narrowed_if(changes: &mut Changes, path: String, was_allowed: bool, is_allowed: bool) {
    changes.if_different(path, &was_allowed, &is_allowed, if was_allowed { BoundsNarrowed } else { BoundsWidened });
}

fn compare_options(changes: &mut Changes, path: &str, old: &[QuestionOption], new: &[QuestionOption]) {
    let matched = match_by(old, new, |option| &option.value);
    for (old, new, at) in &matched.both {
        let score = format!("{path}/{at}/score");
        changes.if_different(score, &old.score, &new.score, ScaleChanged);
        let words = |option: &QuestionOption| (option.label.clone(), option.help.clone(), option.synonyms.clone());
        changes.if_different(format!("{path}/{at}"), &words(old), &words(new), ChangeKind::TextChanged);
    }
    for (_, at) in matched.added {
        changes.push(format!("{path}/{at}"), ChangeKind::OptionAdded);
    }
    for at in matched.removed {
        changes.push(format!("{path}/{at}"), ChangeKind::OptionRemoved);
    }
    if matched.is_reordered {
        changes.push(path, ChangeKind::Reordered);
    }
}

fn compare_trees(changes: &mut Changes, path: &str, old: &[TaxonomyNode], new: &[TaxonomyNode]) {
    let options = |tree: &[TaxonomyNode]| tree.iter().map(|node| node.option.clone()).collect::<Vec<_>>();
    compare_options(changes, path, &options(old), &options(new));
    for (old, new, at) in match_by(old, new, |node| &node.option.value).both {
        compare_trees(changes, &format!("{path}/{at}/children"), &old.children, &new.children);
    }
}

fn compare_counts(changes: &mut Changes, path: &str, old: &QuestionKind, new: &QuestionKind) {
    let QuestionKind::Choice { multiple: was_multiple, min: old_min, max: old_max, .. } = old else { return };
    let QuestionKind::Choice { multiple, min, max, .. } = new else { return };
    if was_multiple != multiple {
        changes.push(format!("{path}/multiple"), QuestionRetyped);
    } else if *multiple {
        let count = |count: usize| Some(count as f64);
        lower_bound(changes, &format!("{path}/min"), count(*old_min), count(*min));
        upper_bound(changes, &format!("{path}/max"), old_max.and_then(count), max.and_then(count));
    }
}

/// The same place on a longer scale is another place: whatever changes about a range changes what its numbers mean.
fn compare_scales(changes: &mut Changes, path: &str, old: &Scale, new: &Scale) {
    match (old, new) {
        (Scale::Levels { levels: old }, Scale::Levels { levels: new }) => {
            compare_options(changes, &format!("{path}/options"), old, new);
            let is_scored = |levels: &[QuestionOption]| levels.iter().any(|level| level.score.is_some());
            if !is_scored(old) && !is_scored(new) && match_by(old, new, |level| &level.value).is_reordered {
                changes.push(format!("{path}/options"), ScaleChanged);
            }
        }
        (Scale::Range { .. }, Scale::Range { .. }) => changes.if_different(path, old, new, ScaleChanged),
        _ => changes.push(path, QuestionRetyped),
    }
}

fn compare_numbers(changes: &mut Changes, path: &str, old: &NumberQuestion, new: &NumberQuestion) {
    lower_bound(changes, &format!("{path}/min"), old.min, new.min);
    upper_bound(changes, &format!("{path}/max"), old.max, new.max);
    narrowed_if(changes, format!("{path}/integer"), !old.integer, !new.integer);
    let still = match (old.step, new.step) {
        (_, None) => true,
        (Some(old), Some(new)) => (old / new).fract() == 0.0,
        (None, Some(_)) => false,
    };
    changes.if_different(
        format!("{path}/step"),
        &old.step,
        &new.step,
        if still { BoundsWidened } else { BoundsNarrowed },
    );
    // Three of another unit are something else.
    changes.if_different(format!("{path}/unit"), &old.unit, &new.unit, ScaleChanged);
}

fn compare_texts(changes: &mut Changes, path: &str, old: &TextQuestion, new: &TextQuestion) {
    let count = |count: Option<usize>| count.map(|count| count as f64);
    changes.if_different(format!("{path}/many"), &old.many, &new.many, QuestionRetyped);
    lower_bound(changes, &format!("{path}/min_chars"), count(old.min_chars), count(new.min_chars));
    upper_bound(changes, &format!("{path}/max_chars"), count(old.max_chars), count(new.max_chars));
    let kind = if new.pattern.is_some() { BoundsNarrowed } else { BoundsWidened };
    changes.if_different(format!("{path}/pattern"), &old.pattern, &new.pattern, kind);
    narrowed_if(changes, format!("{path}/multiline"), old.multiline, new.multiline);
}

fn lower_bound(changes: &mut Changes, path: &str, old: Option<f64>, new: Option<f64>) {
    let (before, now) = (old.unwrap_or(f64::NEG_INFINITY), new.unwrap_or(f64::NEG_INFINITY));
    changes.if_different(path, &before, &now, if now > before { BoundsNarrowed } else { BoundsWidened });
}

fn upper_bound(changes: &mut Changes, path: &str, old: Option<f64>, new: Option<f64>) {
    let (before, now) = (old.unwrap_or(f64::INFINITY), new.unwrap_or(f64::INFINITY));
    changes.if_different(path, &before, &now, if now < before { BoundsNarrowed } else { BoundsWidened });
}

/// Which of two JSON Schemas allows more cannot be told in general; what only describes does not count.
pub(super) fn compare_json_schemas(changes: &mut Changes, path: &str, old: Option<&Value>, new: Option<&Value>) {
    if old == new {
        return;
    }
    let same = old.map(meaning) == new.map(meaning);
    changes.push(path, if same { ChangeKind::TextChanged } else { JsonSchemaChanged });
}

/// A JSON Schema without its annotations.
fn meaning(schema: &Value) -> Value {
    const ANNOTATIONS: &[&str] = &["title", "description", "examples", "$comment"];
    const NAMED: &[&str] = &["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];
    const VALUES: &[&str] = &["const", "enum", "default"];
    match schema {
        Value::Array(items) => items.iter().map(meaning).collect(),
        Value::Object(members) => {
            let kept = members.iter().filter(|(key, _)| !ANNOTATIONS.contains(&key.as_str()));
            let kept = kept.map(|(key, value)| {
                let value = match value {
                    Value::Object(named) if NAMED.contains(&key.as_str()) => {
                        Value::Object(named.iter().map(|(name, schema)| (name.clone(), meaning(schema))).collect())
                    }
                    value if VALUES.contains(&key.as_str()) => value.clone(),
                    value => meaning(value),
                };
                (key.clone(), value)
            });
            Value::Object(kept.collect::<Map<_, _>>())
        }
        value => value.clone(),
    }
}
