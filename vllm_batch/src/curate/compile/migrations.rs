//! Steps from older versions: whether they lead to this one.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{Ident, Migration, QuestionKind, TaskSchema};
use super::names;
use super::place::Place;

/// Checks the steps from the last one back: which questions there were before each follows from those that there are after.
pub(super) fn check(place: &mut Place<'_>, schema: &TaskSchema) {
    check_versions(place, schema);
    let mut later = Later {
        schema,
        names: schema.questions.iter().map(|question| (question.id.clone(), Some(question.id.clone()))).collect(),
        changed: BTreeSet::new(),
    };
    for (at, migration) in schema.migrations.iter().enumerate().rev() {
        later.step_back(&mut place.at(at), migration);
    }
}

fn check_versions(place: &mut Place<'_>, schema: &TaskSchema) {
    for (at, migration) in schema.migrations.iter().enumerate() {
        let mut place = place.at(at);
        if *migration.since() > schema.version {
            let message = format!("{} is newer than the schema, {}", migration.since(), schema.version);
            place.error("migration_too_new", message);
        }
        if at > 0 && schema.migrations[at - 1].since() > migration.since() {
            place.error(
                "unordered_migrations",
                "the step before it came with a newer version: steps go from old to new",
            );
        }
    }
}

/// The questions as they are after a step.
struct Later<'s> {
    schema: &'s TaskSchema,
    /// Names then, and what became of these questions: today's name, unless they are gone.
    names: Vec<(Ident, Option<Ident>)>,
    /// Questions of today whose answers change later, so that their kind then is not known.
    changed: BTreeSet<Ident>,
}

impl Later<'_> {
    fn step_back(&mut self, place: &mut Place<'_>, migration: &Migration) {
        match migration {
            Migration::RenameQuestion { from, to, .. } => self.rename(place, from, to),
            Migration::MapOptions { question, map, .. } => {
                if let Some(kind) = self.settled(&mut place.at("question"), question) {
                    check_options(&mut place.at("map"), &kind, map.values().map(String::as_str));
                }
                self.change(question);
            }
            Migration::MapScale { question, from, to, .. } => {
                for (key, (low, high)) in [("from", from), ("to", to)] {
                    if low >= high {
                        place.at(key).error("crossed_bounds", format!("{high} is not above {low}"));
                    }
                }
                let kind = self.settled(&mut place.at("question"), question);
                expect(place, kind, "rating", |kind| matches!(kind, QuestionKind::Rating { .. }));
                self.change(question);
            }
            Migration::ChoiceToBoolean { question, yes, .. } => {
                let kind = self.settled(&mut place.at("question"), question);
                expect(place, kind, "boolean", |kind| matches!(kind, QuestionKind::Boolean { .. }));
                if yes.is_empty() {
                    place.at("yes").error("no_options", "no option means yes");
                }
                self.change(question);
            }
            Migration::SetDefault { question, value, .. } => self.set_default(place, question, value),
            Migration::DropQuestion { question, .. } => self.bring_back(&mut place.at("question"), question, None),
        }
    }

    fn rename(&mut self, place: &mut Place<'_>, from: &Ident, to: &Ident) {
        let Some(today) = self.take(&mut place.at("to"), to) else { return };
        self.bring_back(&mut place.at("from"), from, today);
    }

    fn set_default(&mut self, place: &mut Place<'_>, question: &Ident, value: &Value) {
        let Some(today) = self.take(&mut place.at("question"), question) else { return };
        let Some(today) = today else { return };
        if self.changed.contains(&today) {
            return place.error("migration_conflict", "a later step changes the answers: set the default after it");
        }
        let wrong = self.schema.question(&today).and_then(|question| question.read_answer(value).err());
        if let Some(error) = wrong {
            place.at("value").error("invalid_default", error.to_string());
        }
    }

    /// The kind of a question whose answers do not change any more after this step.
    fn settled(&self, place: &mut Place<'_>, question: &Ident) -> Option<QuestionKind> {
        let today = self.find(place, question)?.filter(|today| !self.changed.contains(today))?;
        self.schema.question(&today).map(|question| question.kind.clone())
    }

    fn change(&mut self, question: &Ident) {
        let today = self.names.iter().find(|(name, _)| name == question).and_then(|(_, today)| today.clone());
        self.changed.extend(today);
    }

    /// What became of the question of a name; reported if there is none.
    #[expect(clippy::option_option, reason = "a question that is gone is not one that never was")]
    fn find(&self, place: &mut Place<'_>, name: &Ident) -> Option<Option<Ident>> {
        let found = self.names.iter().find(|(then, _)| then == name);
        if found.is_none() {
            let help = super::super::check::nearest(name, self.names.iter().map(|(then, _)| then.as_str()));
            let message = format!("after this step there is no question `{name}`");
            place.error_with_help("unknown_question", message, help.map(names::meant));
        }
        found.map(|(_, today)| today.clone())
    }

    /// As [`find`](Self::find), of a question that was not there before.
    #[expect(clippy::option_option, reason = "a question that is gone is not one that never was")]
    fn take(&mut self, place: &mut Place<'_>, name: &Ident) -> Option<Option<Ident>> {
        let today = self.find(place, name)?;
        self.names.retain(|(then, _)| then != name);
        Some(today)
    }

    /// A question that was there before under this name.
    fn bring_back(&mut self, place: &mut Place<'_>, name: &Ident, today: Option<Ident>) {
        if self.names.iter().any(|(then, _)| then == name) {
            place.error("migration_conflict", format!("after this step there still is a question `{name}`"));
        } else {
            self.names.push((name.clone(), today));
        }
    }
}

fn expect(place: &mut Place<'_>, kind: Option<QuestionKind>, name: &str, fits: impl Fn(&QuestionKind) -> bool) {
    if let Some(kind) = kind.filter(|kind| !fits(kind)) {
        let message = format!("the question becomes one of the type `{name}`, but is one of `{}`", kind.name());
        place.at("question").error("migration_conflict", message);
    }
}

/// The new values are options of the question.
fn check_options<'m>(place: &mut Place<'_>, kind: &QuestionKind, values: impl Iterator<Item = &'m str>) {
    let options = kind.options();
    if options.is_empty() {
        let message = format!("a question of the type `{}` has no options", kind.name());
        return place.error("migration_conflict", message);
    }
    for value in values.filter(|value| options.iter().all(|option| option.value != **value)) {
        let help = super::super::check::nearest(value, options.iter().map(|option| option.value.as_str()));
        place.error_with_help("unknown_option", format!("there is no option {value:?}"), help.map(names::meant));
    }
}
