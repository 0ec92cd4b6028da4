//! Answers of an older version become answers of a newer one.

use semver::Version;
use serde::Serialize;

use super::super::{Answer, Answers, CompiledSchema, Ident, Migration};

/// What became of the answers that are not as they were.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MigrationReport {
    /// Answers that there is no place for any more, in their order.
    pub lost: Vec<LostAnswer>,
    /// Answers that say the same in another way, or that are new, in their order.
    pub changed: Vec<ChangedAnswer>,
}

impl MigrationReport {
    /// Whether all answers are as they were.
    pub fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.changed.is_empty()
    }
}

/// An answer that there is no place for any more.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LostAnswer {
    /// The question, by its name at that time.
    pub question: Ident,
    /// The answer, as it was.
    pub answer: Answer,
    /// Why it was lost.
    pub reason: LossReason,
}

/// Why an answer was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LossReason {
    /// A step says that the question is gone.
    Dropped,
    /// A step cannot be done with an answer of this kind.
    NotConvertible,
    /// There is no such question, and no step says what became of it.
    UnknownQuestion,
    /// The question does not allow it any more: why, for people.
    NotAllowed(String),
}

/// An answer that is not as it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ChangedAnswer {
    /// The question and the answer before; `None` if there was none.
    pub from: Option<(Ident, Answer)>,
    /// The question and the answer now.
    pub to: (Ident, Answer),
}

impl CompiledSchema {
    /// Makes answers of an older version answers of this one, by the steps of the schema that came after that version, and
    /// leaves out what is no answer any more. What is kept, lost and changed together is all that there was.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::curate::{Answer, Answers, LossReason, TaskSchema, Version};
    ///
    /// let schema = TaskSchema::from_json(r#"{
    ///     "format": 1, "id": "mail", "version": "2.0.0", "fields": [],
    ///     "questions": [{"id": "voice", "type": "choice", "options": ["formal", "casual"]}],
    ///     "migrations": [{"op": "rename_question", "since": "2.0.0", "from": "tone", "to": "voice"},
    ///                    {"op": "map_options", "since": "2.0.0", "question": "voice", "map": {"stiff": "formal"}}]
    /// }"#)?.schema.compile()?;
    /// let old = Answers::from_iter([
    ///     ("tone".parse()?, Answer::Option("stiff".into())),
    ///     ("length".parse()?, Answer::Rating(3)),
    /// ]);
    ///
    /// let (answers, report) = schema.migrate(&old, &Version::new(1, 0, 0));
    /// assert_eq!(answers.get("voice"), Some(&Answer::Option("formal".into())));
    /// assert_eq!(report.lost[0].question, "length");
    /// assert_eq!(report.lost[0].reason, LossReason::UnknownQuestion);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn migrate(&self, answers: &Answers, from: &Version) -> (Answers, MigrationReport) {
        let (moved, report) = self.migrate_items(answers, from);
        (moved.into_iter().map(|Moved { question, answer, .. }| (question, answer)).collect(), report)
    }

    /// As [`migrate`](Self::migrate), and says which answer each was.
    pub(super) fn migrate_items(&self, answers: &Answers, from: &Version) -> (Vec<Moved>, MigrationReport) {
        let steps: Vec<&Migration> = self.schema().migrations.iter().filter(|step| step.since() > from).collect();
        let original: Vec<(Ident, Answer)> = answers.iter().map(|(id, answer)| (id.clone(), answer.clone())).collect();
        let mut run = Run {
            items: original
                .iter()
                .enumerate()
                .map(|(at, (id, answer))| Moved { origin: Some(at), question: id.clone(), answer: answer.clone() })
                .collect(),
            lost: Vec::new(),
        };
        for (at, step) in steps.iter().enumerate() {
            run.apply(self, step, &steps[at + 1..]);
        }
        let items = std::mem::take(&mut run.items);
        let kept: Vec<Moved> = items.into_iter().filter(|item| run.keep(self, item)).collect();
        run.lost.sort_by_key(|(at, _)| *at);
        let lost = run.lost.into_iter().map(|(at, reason)| {
            let (question, answer) = original[at].clone();
            LostAnswer { question, answer, reason }
        });
        let lost = lost.collect();
        let changed = kept.iter().filter_map(|item| item.change(&original)).collect();
        (kept, MigrationReport { lost, changed })
    }
}

/// An answer on its way.
#[derive(Debug)]
pub(super) struct Moved {
    /// Which of the answers it was; `None` for those that a step brought.
    pub(super) origin: Option<usize>,
    pub(super) question: Ident,
    pub(super) answer: Answer,
}

impl Moved {
    fn change(&self, original: &[(Ident, Answer)]) -> Option<ChangedAnswer> {
        let from = self.origin.map(|at| original[at].clone());
        let to = (self.question.clone(), self.answer.clone());
        (from.as_ref() != Some(&to)).then_some(ChangedAnswer { from, to })
    }
}

struct Run {
    items: Vec<Moved>,
    lost: Vec<(usize, LossReason)>,
}

impl Run {
    fn apply(&mut self, schema: &CompiledSchema, step: &Migration, later: &[&Migration]) {
        match step {
            Migration::RenameQuestion { from, to, .. } => {
                self.items.iter_mut().filter(|item| item.question == *from).for_each(|item| item.question = to.clone());
            }
            Migration::MapOptions { question, map, .. } => {
                let new = |value: &String| map.get(value).unwrap_or(value).clone();
                self.convert(question, |answer| match answer {
                    Answer::Option(value) => Some(Answer::Option(new(&value))),
                    Answer::Options(values) => {
                        let mut merged: Vec<String> = Vec::new();
                        for value in values.iter().map(new) {
                            if !merged.contains(&value) {
                                merged.push(value);
                            }
                        }
                        Some(Answer::Options(merged))
                    }
                    _ => None,
                });
            }
            Migration::MapScale { question, from, to, .. } => self.convert(question, |answer| match answer {
                Answer::Rating(place) => map_scale(place, *from, *to).map(Answer::Rating),
                _ => None,
            }),
            Migration::ChoiceToBoolean { question, yes, .. } => self.convert(question, |answer| match answer {
                Answer::Option(value) => Some(Answer::Boolean(yes.contains(&value))),
                _ => None,
            }),
            Migration::SetDefault { question, value, .. } => {
                let is_open = self.items.iter().all(|item| item.question != *question);
                // Unless the question is gone since, the value was checked when the schema was compiled.
                if let Some(answer) = schema.read_answer(today(question, later), value).ok().filter(|_| is_open) {
                    self.items.push(Moved { origin: None, question: question.clone(), answer });
                }
            }
            Migration::DropQuestion { question, .. } => self.drop(question, &LossReason::Dropped),
        }
    }

    /// Makes another answer of the one to a question; it is lost where there is none.
    fn convert(&mut self, question: &Ident, convert: impl Fn(Answer) -> Option<Answer>) {
        let found = self.items.iter_mut().find(|item| item.question == *question);
        let Some(item) = found else { return };
        match convert(item.answer.clone()) {
            Some(answer) => item.answer = answer,
            None => self.drop(question, &LossReason::NotConvertible),
        }
    }

    fn drop(&mut self, question: &Ident, reason: &LossReason) {
        let lost = self.items.extract_if(.., |item| item.question == *question);
        self.lost.extend(lost.filter_map(|item| item.origin).map(|at| (at, reason.clone())));
    }

    /// Whether an answer at the end of its way is one; if not, it is lost.
    fn keep(&mut self, schema: &CompiledSchema, item: &Moved) -> bool {
        let reason = match schema.schema().question(&item.question) {
            None => LossReason::UnknownQuestion,
            Some(question) => match schema.check_answer(&question.id, &item.answer) {
                Ok(()) => return true,
                Err(error) => LossReason::NotAllowed(error.to_string()),
            },
        };
        self.lost.extend(item.origin.map(|at| (at, reason)));
        false
    }
}

/// The name that a question has today.
fn today<'m>(question: &'m Ident, later: &[&'m Migration]) -> &'m Ident {
    later.iter().fold(question, |name, step| match step {
        Migration::RenameQuestion { from, to, .. } if from == name => to,
        _ => name,
    })
}

/// The place on a new scale that corresponds to one on an old scale, rounded to the nearest, halves up.
fn map_scale(place: i64, from: (i64, i64), to: (i64, i64)) -> Option<i64> {
    if !(from.0..=from.1).contains(&place) || from.0 >= from.1 {
        return None;
    }
    let (place, from, to) =
        (i128::from(place), (i128::from(from.0), i128::from(from.1)), (i128::from(to.0), i128::from(to.1)));
    let (steps, new_steps) = (from.1 - from.0, to.1 - to.0);
    // In halves of an old step, so that nothing is rounded twice. At most 2¹²⁹ could not be held: the checked forms say so.
    let scaled = (place - from.0).checked_mul(new_steps)?.checked_mul(2)?.checked_add(steps)?;
    i64::try_from(to.0 + scaled.div_euclid(2 * steps)).ok()
}

#[cfg(test)]
mod tests {
    use super::map_scale;

    #[test]
    fn scales_are_mapped_linearly_and_rounded() {
        let cases = [
            ((1, (1, 5), (1, 10)), Some(1)),
            ((5, (1, 5), (1, 10)), Some(10)),
            ((3, (1, 5), (1, 10)), Some(6)), // 5.5
            ((2, (1, 5), (1, 10)), Some(3)), // 3.25
            ((7, (1, 10), (1, 5)), Some(4)), // 3.67
            ((1, (1, 5), (5, 1)), Some(5)),
            ((0, (1, 5), (1, 10)), None),
            ((1, (1, 1), (1, 10)), None),
            ((i64::MAX, (i64::MIN, i64::MAX), (0, 1)), Some(1)),
            ((0, (i64::MIN, i64::MAX), (i64::MIN, i64::MAX)), None),
        ];
        for ((place, from, to), expected) in cases {
            assert_eq!(map_scale(place, from, to), expected, "{place} of {from:?} to {to:?}");
        }
    }
}
