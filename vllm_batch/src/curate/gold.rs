//! Which answers are settled?

use std::collections::HashMap;

use serde::Serialize;

use super::agreement::similarity;
use super::{
    AgentKind, Answers, AutoGold, CompiledSchema, Question, QuestionKind, QuestionRole, Record, Response,
    ResponseStatus, TaskSchema,
};

/// Whether a record is gold, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GoldDecision {
    /// Whether it is.
    pub is_gold: bool,
    /// All that spoke for it or against it.
    pub reasons: Vec<GoldReason>,
    /// The answers that people agree on, those of questions where they do not by majority; the latest model's where no person
    /// answered at all and one said that the record is gold.
    pub answers: Answers,
    /// The weighted share of questions that people answer alike, from 0 to 1; absent for fewer than two people.
    pub agreement: Option<f64>,
    /// People who answered.
    pub num_annotators: usize,
}

/// What speaks for or against a record being gold.
#[derive(Debug, Clone, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum GoldReason {
    /// A person said that it is.
    #[error("a person said that it is gold")]
    Manual,
    /// A person said that it is not.
    #[error("a person said that it is not gold")]
    ManuallyRejected,
    /// A person's word does not count in this schema.
    #[error("the schema's rule decides, not a person's word")]
    ManualNotAllowed,
    /// Nobody said so, and there is no rule.
    #[error("nobody said that it is gold, and there is no rule")]
    NobodySaid,
    /// All that the rule asks for is there.
    #[error("the rule holds")]
    Rule,
    /// Too few people answered.
    #[error("{found} people answered, and the rule asks for {wanted}")]
    TooFewAnnotators {
        /// How many did.
        found: usize,
        /// How many should.
        wanted: usize,
    },
    /// People agree on too little.
    #[error("people agree on {found:.2} of the questions, and the rule asks for {wanted:.2}")]
    TooLittleAgreement {
        /// How much they do.
        found: f64,
        /// How much they should.
        wanted: f64,
    },
    /// People changed too much of what the model said.
    #[error("people changed {found:.2} of the model's answers, and the rule allows {allowed:.2}")]
    TooManyEdits {
        /// How much they did.
        found: f64,
        /// How much they may.
        allowed: f64,
    },
    /// A required question has no answer.
    #[error("{question} has no answer")]
    MissingAnswer {
        /// The question.
        question: String,
    },
    /// An answer does not hold.
    #[error("{message}")]
    InvalidAnswer {
        /// The question.
        question: String,
        /// What is wrong.
        message: String,
    },
    /// There are no answers at all.
    #[error("there are no answers")]
    NoAnswers,
}

impl GoldReason {
    /// Whether it speaks for the record.
    fn is_for(&self) -> bool {
        matches!(self, Self::Manual | Self::Rule)
    }
}

impl CompiledSchema {
    /// Decides whether a record is gold, after the schema's [`GoldPolicy`](super::GoldPolicy): by a person's word
    /// ([`Record::gold`]), else by its rule. All reasons are given, not the first alone.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::curate::{Answer, Answers, AutoGold, GoldReason, Question, QuestionKind, Record, Response};
    /// use vllm_batch::curate::{TaskSchema, Version};
    ///
    /// let kind = QuestionKind::Boolean { yes: "yes".into(), no: "no".into() };
    /// let mut schema = TaskSchema::new("spam".parse()?, Version::new(1, 0, 0)).with_question(Question::new("spam".parse()?, kind));
    /// schema.gold.auto = Some(AutoGold::default());
    /// let schema = schema.compile().expect("a sound schema");
    ///
    /// let spam = Answers::from_iter([("spam".parse()?, Answer::Boolean(true))]);
    /// let mut record = Record::new("1");
    /// record.responses.push(Response::submitted("ann", spam.clone()));
    /// assert_eq!(schema.decide_gold(&record).reasons, [GoldReason::TooFewAnnotators { found: 1, wanted: 2 }]);
    /// record.responses.push(Response::submitted("bob", spam));
    /// assert!(schema.decide_gold(&record).is_gold);
    /// # Ok::<(), vllm_batch::curate::InvalidIdent>(())
    /// ```
    pub fn decide_gold(&self, record: &Record) -> GoldDecision {
        let schema = self.schema();
        let responses = submitted(record);
        let (answers, agent) = settled(schema, record, &responses);
        let agreement = people_agree(schema, &responses);
        let mut reasons = self.verdict(record, &answers, (responses.len(), agreement));
        if schema.gold.forbid_invalid {
            self.object(record, agent, &answers, &mut reasons);
        }
        GoldDecision {
            is_gold: !reasons.is_empty() && reasons.iter().all(GoldReason::is_for),
            reasons,
            answers,
            agreement,
            num_annotators: responses.len(),
        }
    }

    /// What a person's word, or the rule, says of the settled answers of so many people, who agree so much.
    fn verdict(&self, record: &Record, answers: &Answers, people: (usize, Option<f64>)) -> Vec<GoldReason> {
        let policy = &self.schema().gold;
        if answers.is_empty() {
            return vec![GoldReason::NoAnswers];
        }
        match (record.gold, &policy.auto) {
            (Some(false), _) if policy.manual => vec![GoldReason::ManuallyRejected],
            (Some(true), _) if policy.manual => vec![GoldReason::Manual],
            (_, Some(rule)) => self.apply_rule(rule, record, answers, people),
            (Some(_), None) => vec![GoldReason::ManualNotAllowed],
            (None, None) => vec![GoldReason::NobodySaid],
        }
    }

    fn apply_rule(
        &self,
        rule: &AutoGold,
        record: &Record,
        settled: &Answers,
        (num_annotators, agreement): (usize, Option<f64>),
    ) -> Vec<GoldReason> {
        let mut against = Vec::new();
        if num_annotators < rule.min_annotators {
            against.push(GoldReason::TooFewAnnotators { found: num_annotators, wanted: rule.min_annotators });
        }
        if let Some(found) = agreement.filter(|found| *found < rule.min_agreement) {
            against.push(GoldReason::TooLittleAgreement { found, wanted: rule.min_agreement });
        }
        if let (Some(allowed), Some(model)) = (rule.max_edit, record.suggestions.last()) {
            let found = edits(self.schema(), &model.answers(), settled);
            if found > allowed {
                against.push(GoldReason::TooManyEdits { found, allowed });
            }
        }
        if rule.require_all_required {
            against.extend(self.missing(record, settled));
        }
        if against.is_empty() { vec![GoldReason::Rule] } else { against }
    }

    fn missing(&self, record: &Record, answers: &Answers) -> Vec<GoldReason> {
        let asked = self.schema().visible_questions(answers, &record.fields);
        let wanted = asked.into_iter().filter(|question| question.required && question.role == QuestionRole::Output);
        let missing = wanted.filter(|question| answers.get(&question.id).is_none());
        missing.map(|question| GoldReason::MissingAnswer { question: question.id.to_string() }).collect()
    }

    /// Adds what is wrong with the answers.
    fn object(&self, record: &Record, agent: AgentKind, answers: &Answers, reasons: &mut Vec<GoldReason>) {
        for error in self.check(agent, &record.fields, answers) {
            let reason = match error.code() {
                "missing_answer" => GoldReason::MissingAnswer { question: error.question.clone() },
                _ => GoldReason::InvalidAnswer { question: error.question.clone(), message: error.to_string() },
            };
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
    }
}

/// Responses that are handed in.
pub(super) fn submitted(record: &Record) -> Vec<&Response> {
    record.responses.iter().filter(|response| response.status == ResponseStatus::Submitted).collect()
}

/// The answers that count, and whose they are.
fn settled(schema: &TaskSchema, record: &Record, responses: &[&Response]) -> (Answers, AgentKind) {
    match (responses, record.suggestions.last()) {
        ([], Some(model)) => (model.answers(), AgentKind::Model),
        _ => (consensus(schema, responses), AgentKind::Human),
    }
}

/// Question by question, the answer that is most like all others; of equally good ones the earliest.
pub(super) fn consensus(schema: &TaskSchema, responses: &[&Response]) -> Answers {
    let settle = |question: &Question| {
        let given: Vec<_> = responses.iter().filter_map(|response| response.answers.get(&question.id)).collect();
        let support = |at: usize| given.iter().map(|other| similarity(given[at], other)).sum::<f64>();
        let better = |best: usize, at: usize| if support(at) > support(best) { at } else { best };
        let best = (0..given.len()).reduce(better)?;
        // An answer that fewer than half gave is none.
        (2 * given.len() >= responses.len()).then(|| (question.id.clone(), given[best].clone()))
    };
    schema.questions.iter().filter_map(settle).collect()
}

/// The mean similarity of two people's answers over the questions that the model answers too, by their weights, without free
/// text.
fn people_agree(schema: &TaskSchema, responses: &[&Response]) -> Option<f64> {
    let pairs = (0..responses.len()).flat_map(|a| (a + 1..responses.len()).map(move |b| (a, b)));
    let alike: Vec<f64> =
        pairs.map(|(a, b)| 1.0 - edits(schema, &responses[a].answers, &responses[b].answers)).collect();
    (!alike.is_empty()).then(|| alike.iter().sum::<f64>() / alike.len() as f64)
}

/// The weighted share of questions that were answered otherwise, from 0 to 1. Questions that neither answered, questions about
/// the model's answers and free text do not count.
pub(super) fn edits(schema: &TaskSchema, before: &Answers, after: &Answers) -> f64 {
    difference(schema.questions.iter().filter(|question| is_compared(question)), before, after).share
}

/// How much was answered otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Difference {
    /// The weighted share of questions, from 0 to 1; questions that neither answered do not count.
    pub(super) share: f64,
    /// Questions with different answers.
    pub(super) num_changed: usize,
}

/// Compares the answers to some questions.
pub(super) fn difference<'q>(
    questions: impl Iterator<Item = &'q Question>,
    before: &Answers,
    after: &Answers,
) -> Difference {
    let (mut weights, mut changed, mut num_changed) = (0.0, 0.0, 0);
    for question in questions {
        let alike = match (before.get(&question.id), after.get(&question.id)) {
            (Some(before), Some(after)) => similarity(before, after),
            (None, None) => continue,
            _ => 0.0,
        };
        weights += question.weight;
        changed += question.weight * (1.0 - alike);
        num_changed += usize::from(alike < 1.0);
    }
    Difference { share: if weights > 0.0 { changed / weights } else { 0.0 }, num_changed }
}

fn is_compared(question: &Question) -> bool {
    question.role == QuestionRole::Output && !matches!(question.kind, QuestionKind::Text(_))
}

/// Says of many records at once whether they are gold.
///
/// # Errors
/// The names that no record has, in their order; all others are marked.
///
/// # Example
/// ```
/// use vllm_batch::curate::{Record, mark_gold};
///
/// let mut records = [Record::new("a"), Record::new("b")];
/// assert_eq!(mark_gold(&mut records, &["b", "c"], true), Err(vec!["c".to_owned()]));
/// assert_eq!((records[0].gold, records[1].gold), (None, Some(true)));
/// ```
pub fn mark_gold(records: &mut [Record], ids: &[&str], is_gold: bool) -> Result<(), Vec<String>> {
    let mut wanted: HashMap<&str, bool> = ids.iter().map(|id| (*id, false)).collect();
    for record in records {
        if let Some(found) = wanted.get_mut(record.id.as_str()) {
            *found = true;
            record.gold = Some(is_gold);
        }
    }
    let unknown: Vec<String> = ids.iter().filter(|id| !wanted[**id]).map(|id| (*id).to_owned()).collect();
    if unknown.is_empty() { Ok(()) } else { Err(unknown) }
}

#[cfg(test)]
mod tests;
