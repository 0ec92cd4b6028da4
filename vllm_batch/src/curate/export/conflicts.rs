//! Where do people say different things?

use serde::Serialize;

use super::Exporter;
use crate::curate::agreement::similarity;
use crate::curate::gold::submitted;
use crate::curate::{Answer, Ident, Record};

/// A question that people answered differently.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Conflict {
    /// The record's name.
    #[serde(rename = "record_id")]
    pub record: String,
    /// The question.
    pub question: Ident,
    /// What each said who answered it.
    pub answers: Vec<ConflictingAnswer>,
    /// The answer that counts, if the record is gold.
    pub settled: Option<Answer>,
}

/// What one of them said.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ConflictingAnswer {
    /// Who, as [`AnnotatorNames`](super::AnnotatorNames) says; empty if nobody is named.
    pub annotator: String,
    /// What.
    pub answer: Answer,
}

impl Exporter<'_> {
    /// What people said differently about a record, of the questions that are learnt: whoever looks at these finds what the
    /// guidelines leave open. Answers that differ in case or white space only are alike.
    pub fn conflicts(&self, record: &Record) -> Vec<Conflict> {
        let responses = submitted(record);
        if responses.len() < 2 {
            return Vec::new();
        }
        let questions = self.schema().schema().model_questions();
        let mut conflicts: Vec<Conflict> = questions
            .filter_map(|question| {
                let said = responses.iter().filter_map(|one| Some((one, one.answers.get(&question.id)?)));
                let (_, first) = said.clone().next()?;
                let is_alike = |answer: &Answer| answer == first || similarity(answer, first) >= 1.0;
                if said.clone().all(|(_, answer)| is_alike(answer)) {
                    return None;
                }
                let answers = said.map(|(one, answer)| ConflictingAnswer {
                    annotator: self.options().annotators.column(&[&one.agent.name]),
                    answer: answer.clone(),
                });
                let (record, question) = (record.id.clone(), question.id.clone());
                Some(Conflict { record, question, answers: answers.collect(), settled: None })
            })
            .collect();
        if !conflicts.is_empty() {
            let decision = self.decide_gold(record);
            for conflict in conflicts.iter_mut().filter(|_| decision.is_gold) {
                conflict.settled = decision.answers.get(&conflict.question).cloned();
            }
        }
        conflicts
    }
}
