//! Two documents, part by part.

use super::super::{Field, Question, TaskSchema};
use super::diff::{Change, ChangeKind};
use super::kinds::compare_kinds;

/// The differences, place by place.
pub(super) fn compare(old: &TaskSchema, new: &TaskSchema) -> Vec<Change> {
    let mut changes = Changes::default();
    changes.if_different("/id", &old.id, &new.id, ChangeKind::IdChanged);
    changes.if_different("/name", &old.name, &new.name, ChangeKind::TextChanged);
    changes.if_different("/description", &old.description, &new.description, ChangeKind::TextChanged);
    changes.if_different("/guidelines", &old.guidelines, &new.guidelines, ChangeKind::TextChanged);
    compare_fields(&mut changes, &old.fields, &new.fields);
    compare_questions(&mut changes, &old.questions, &new.questions);
    changes.if_different("/prompt", &old.prompt, &new.prompt, ChangeKind::PromptChanged);
    changes.if_different("/rendering", &old.rendering, &new.rendering, ChangeKind::RenderingChanged);
    changes.if_different("/gold", &old.gold, &new.gold, ChangeKind::GoldChanged);
    changes.if_different("/export", &old.export, &new.export, ChangeKind::ExportChanged);
    changes.if_different("/migrations", &old.migrations, &new.migrations, ChangeKind::MigrationsChanged);
    changes.if_different("", &old.extra, &new.extra, ChangeKind::ExtraChanged);
    changes.0
}

#[derive(Default)]
pub(super) struct Changes(Vec<Change>);

impl Changes {
    pub(super) fn push(&mut self, path: impl Into<String>, kind: ChangeKind) {
        self.0.push(Change { path: path.into(), kind });
    }

    /// Two things are the same if they are written the same.
    pub(super) fn if_different<T: PartialEq>(&mut self, path: impl Into<String>, old: &T, new: &T, kind: ChangeKind) {
        if old != new {
            self.push(path, kind);
        }
    }
}

/// What two lists have in common, by name, and what only one has.
pub(super) struct Matched<'o, 'n, T> {
    pub(super) both: Vec<(&'o T, &'n T, usize)>,
    pub(super) added: Vec<(&'n T, usize)>,
    pub(super) removed: Vec<usize>,
    pub(super) is_reordered: bool,
}

pub(super) fn match_by<'o, 'n, T, K: PartialEq>(
    old: &'o [T],
    new: &'n [T],
    key: impl Fn(&T) -> &K,
) -> Matched<'o, 'n, T> {
    let find = |list: &[T], wanted: &K| list.iter().position(|one| key(one) == wanted);
    let (mut both, mut added, mut order) = (Vec::new(), Vec::new(), Vec::new());
    for (at, one) in new.iter().enumerate() {
        match find(old, key(one)) {
            Some(before) => {
                both.push((&old[before], one, at));
                order.push(before);
            }
            None => added.push((one, at)),
        }
    }
    let removed = (0..old.len()).filter(|at| find(new, key(&old[*at])).is_none()).collect();
    Matched { both, added, removed, is_reordered: !order.is_sorted() }
}

fn compare_fields(changes: &mut Changes, old: &[Field], new: &[Field]) {
    let matched = match_by(old, new, |field| &field.id);
    for (old, new, at) in &matched.both {
        compare_field(changes, &format!("/fields/{at}"), old, new);
    }
    for (field, at) in matched.added {
        let kind = if field.required && field.default.is_none() {
            ChangeKind::RequiredFieldAdded
        } else {
            ChangeKind::OptionalFieldAdded
        };
        changes.push(format!("/fields/{at}"), kind);
    }
    for at in matched.removed {
        changes.push(format!("/fields/{at}"), ChangeKind::FieldRemoved);
    }
    if matched.is_reordered {
        changes.push("/fields", ChangeKind::Reordered);
    }
}

fn compare_field(changes: &mut Changes, path: &str, old: &Field, new: &Field) {
    changes.if_different(format!("{path}/title"), &old.title, &new.title, ChangeKind::TextChanged);
    compare_field_kinds(changes, path, old, new);
    required(changes, path, old.required, new.required);
    changes.if_different(format!("{path}/default"), &old.default, &new.default, ChangeKind::DefaultChanged);
    changes.if_different(format!("{path}/display"), &old.display, &new.display, ChangeKind::RenderingChanged);
    changes.if_different(format!("{path}/in_prompt"), &old.in_prompt, &new.in_prompt, ChangeKind::PromptChanged);
    changes.if_different(format!("{path}/pii"), &old.pii, &new.pii, ChangeKind::PiiChanged);
    changes.if_different(format!("{path}/max_chars"), &old.max_chars, &new.max_chars, ChangeKind::PromptChanged);
}

fn compare_field_kinds(changes: &mut Changes, path: &str, old: &Field, new: &Field) {
    use super::super::FieldKind::{Boolean, Chat, Date, File, Number, Structured, Text};
    match (&old.kind, &new.kind) {
        (Text { format: old }, Text { format: new }) => {
            changes.if_different(format!("{path}/format"), old, new, ChangeKind::PromptChanged);
        }
        (File { media: old }, File { media: new }) => {
            let fewer = !new.is_empty() && (old.is_empty() || old.iter().any(|media| !new.contains(media)));
            let kind = if fewer { ChangeKind::BoundsNarrowed } else { ChangeKind::BoundsWidened };
            changes.if_different(format!("{path}/media"), old, new, kind);
        }
        (Structured { schema: Some(_) }, Structured { schema: None }) => {
            changes.push(format!("{path}/schema"), ChangeKind::BoundsWidened);
        }
        (Structured { schema: old }, Structured { schema: new }) => {
            super::kinds::compare_json_schemas(changes, &format!("{path}/schema"), old.as_ref(), new.as_ref());
        }
        (Chat, Chat) | (Number, Number) | (Boolean, Boolean) | (Date, Date) => {}
        _ => changes.push(format!("{path}/type"), ChangeKind::FieldRetyped),
    }
}

fn compare_questions(changes: &mut Changes, old: &[Question], new: &[Question]) {
    let matched = match_by(old, new, |question| &question.id);
    for (old, new, at) in &matched.both {
        compare_question(changes, &format!("/questions/{at}"), old, new);
    }
    for (question, at) in matched.added {
        let kind =
            if question.required { ChangeKind::RequiredQuestionAdded } else { ChangeKind::OptionalQuestionAdded };
        changes.push(format!("/questions/{at}"), kind);
    }
    for at in matched.removed {
        changes.push(format!("/questions/{at}"), ChangeKind::QuestionRemoved);
    }
    if matched.is_reordered {
        changes.push("/questions", ChangeKind::Reordered);
    }
}

fn compare_question(changes: &mut Changes, path: &str, old: &Question, new: &Question) {
    changes.if_different(format!("{path}/title"), &old.title, &new.title, ChangeKind::TextChanged);
    changes.if_different(format!("{path}/help"), &old.help, &new.help, ChangeKind::TextChanged);
    compare_kinds(changes, path, &old.kind, &new.kind);
    changes.if_different(format!("{path}/role"), &old.role, &new.role, ChangeKind::RoleChanged);
    required(changes, path, old.required, new.required);
    changes.if_different(format!("{path}/default"), &old.default, &new.default, ChangeKind::DefaultChanged);
    let (before, now) = (&old.visible_when, &new.visible_when);
    changes.if_different(format!("{path}/visible_when"), before, now, ChangeKind::ConditionChanged);
    changes.if_different(format!("{path}/weight"), &old.weight, &new.weight, ChangeKind::MeasureChanged);
    changes.if_different(format!("{path}/level"), &old.level, &new.level, ChangeKind::MeasureChanged);
    changes.if_different(format!("{path}/pii"), &old.pii, &new.pii, ChangeKind::PiiChanged);
}

fn required(changes: &mut Changes, path: &str, old: bool, new: bool) {
    let kind = if new { ChangeKind::NowRequired } else { ChangeKind::NowOptional };
    changes.if_different(format!("{path}/required"), &old, &new, kind);
}
