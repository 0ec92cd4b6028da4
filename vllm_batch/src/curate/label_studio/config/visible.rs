//! When questions are seen, as far as Label Studio can say it.

use serde_json::Value;

use super::super::super::{Condition, Ident, Question, QuestionKind, TaskSchema};
use super::super::control::{Tag, is_asked};
use super::super::xml::Element;

/// One condition on what is chosen in one control; several hold together by nesting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct When {
    question: Ident,
    selected: bool,
    /// One of these; empty for any.
    values: Vec<String>,
}

impl When {
    /// What is seen only then.
    pub(super) fn around(&self, inner: Element) -> Element {
        let when = if self.selected { "choice-selected" } else { "choice-unselected" };
        let view = Element::new("View").with("visibleWhen", when).with("whenTagName", self.question.as_str());
        let view = if self.values.is_empty() { view } else { view.with("whenChoiceValue", self.values.join(",")) };
        view.child(inner)
    }
}

/// The conditions that a question is seen under, those of the questions that they name included, and whether that is all: the
/// rest cannot be said, and the question is seen although it is not asked.
pub(super) fn conditions(schema: &TaskSchema, question: &Question) -> (Vec<When>, bool) {
    let mut found = Found { schema, whens: Vec::new(), is_complete: true };
    if let Some(condition) = &question.visible_when {
        found.add(condition, true);
    }
    (found.whens, found.is_complete)
}

struct Found<'s> {
    schema: &'s TaskSchema,
    whens: Vec<When>,
    is_complete: bool,
}

impl Found<'_> {
    /// Adds what must hold for a condition to be so, or not to be so.
    fn add(&mut self, condition: &Condition, holds: bool) {
        match (condition, holds) {
            (Condition::Not(inner), _) => self.add(inner, !holds),
            (Condition::All(all), true) | (Condition::Any(all), false) => {
                for one in all {
                    self.add(one, holds);
                }
            }
            (Condition::Any(one) | Condition::All(one), _) if one.len() == 1 => self.add(&one[0], holds),
            (Condition::Any(any), true) => match one_of(any) {
                Some((question, values)) => self.add_when(question, &values, holds),
                None => self.is_complete = false,
            },
            (Condition::Is { question, any_of }, _) => self.add_when(question, any_of, holds),
            (Condition::Answered(question), _) => self.add_when(question, &[], holds),
            (Condition::All(_), false) | (Condition::Field { .. }, _) => self.is_complete = false,
        }
    }

    /// Without values: that there is an answer.
    fn add_when(&mut self, id: &Ident, values: &[Value], selected: bool) {
        let question = self.schema.question(id).filter(|question| is_asked(self.schema, question));
        let Some((question, values)) = question.and_then(|question| Some((question, words(question, values)?))) else {
            self.is_complete = false;
            return;
        };
        let when = When { question: id.clone(), selected, values };
        if !self.whens.contains(&when) {
            self.whens.push(when);
            // A choice that was made and then hidden stays made.
            if let Some(condition) = question.visible_when.as_ref().filter(|_| selected) {
                self.add(condition, true);
            }
        }
    }
}

/// The question and the values, if all conditions compare the answer to one question.
fn one_of(any: &[Condition]) -> Option<(&Ident, Vec<Value>)> {
    let mut parts = Vec::new();
    for condition in any {
        let Condition::Is { question, any_of } = condition else { return None };
        parts.push((question, any_of));
    }
    let (first, _) = parts.first()?;
    let values = || parts.iter().flat_map(|(_, values)| values.iter().cloned()).collect();
    parts.iter().all(|(question, _)| question == first).then(|| (*first, values()))
}

/// Values as the aliases of choices; `None` if the question's control can't be asked for them.
fn words(question: &Question, values: &[Value]) -> Option<Vec<String>> {
    let has_choices = matches!(Tag::of(&question.kind), Tag::Choices);
    let is_tree = matches!(question.kind, QuestionKind::Taxonomy { .. });
    if values.is_empty() {
        return (has_choices || is_tree).then(Vec::new);
    }
    let word = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) => Some(value.to_string()),
        Value::Number(number) => number.as_f64().filter(|x| x.fract() == 0.0).map(|x| x.to_string()),
        _ => None,
    };
    if has_choices { values.iter().map(word).collect() } else { None }
}
