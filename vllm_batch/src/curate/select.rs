//! Which records are worth a person's time?

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use super::agreement::similarity;
use super::hash::{FNV_OFFSET, fnv_1a};
use super::{Question, QuestionRole, Record, ResponseStatus, SuggestionSet, TaskSchema};

/// How records are chosen for review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Strategy {
    /// Those that a model is least sure of: by the mean of `1 - score` over the questions, by their weights. An answer without
    /// a score, or no answer, counts as not sure at all.
    Uncertainty,
    /// Those that models answer most differently: by the mean of `1 - similarity` of each two models' answers. An answer that
    /// only one of two gave counts as a complete difference.
    Disagreement,
    /// Any.
    Random,
}

/// A record that was chosen.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Selected {
    /// Its place among the records.
    pub index: usize,
    /// Its name.
    pub id: String,
    /// How much it is worth, from 0 to 1.
    pub priority: f64,
}

/// Chooses at most `limit` records that no person has answered or discarded yet, those that are worth most first. Of records
/// that are worth the same, `seed` decides; the order of the records does not matter for what it decides.
///
/// # Example
/// ```
/// use vllm_batch::curate::{Agent, Answer, Provenance, Question, QuestionKind, Record, ScoreKind, Suggestion};
/// use vllm_batch::curate::{Strategy, SuggestionSet, TaskSchema, Version, select};
///
/// let kind = QuestionKind::Boolean { yes: "yes".into(), no: "no".into() };
/// let schema = TaskSchema::new("spam".parse()?, Version::new(1, 0, 0)).with_question(Question::new("spam".parse()?, kind));
/// let records: Vec<Record> = [("sure", 0.99), ("unsure", 0.51)].into_iter().map(|(id, score)| {
///     let answer = Suggestion::new("spam".parse().unwrap(), Answer::Boolean(true)).with_score(score, ScoreKind::Logprob);
///     let mut record = Record::new(id);
///     record.suggestions.push(SuggestionSet::new(Agent::model("m"), vec![answer], Provenance::default()));
///     record
/// }).collect();
///
/// let selected = select(&schema, &records, Strategy::Uncertainty, 1, 0);
/// assert_eq!(selected[0].id, "unsure");
/// # Ok::<(), vllm_batch::curate::InvalidIdent>(())
/// ```
pub fn select(schema: &TaskSchema, records: &[Record], strategy: Strategy, limit: usize, seed: u64) -> Vec<Selected> {
    let open = records.iter().enumerate().filter(|(_, record)| is_open(record));
    let mut ranked: Vec<(f64, u64, usize)> =
        open.map(|(index, record)| (strategy.priority(schema, record), lot(&record.id, seed), index)).collect();
    ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    ranked.truncate(limit);
    let selected =
        |(priority, _, index): (f64, u64, usize)| Selected { index, id: records[index].id.clone(), priority };
    ranked.into_iter().map(selected).collect()
}

fn is_open(record: &Record) -> bool {
    record.responses.iter().all(|response| response.status == ResponseStatus::Draft)
}

impl Strategy {
    /// How much a record is worth a person's time, from 0 to 1.
    pub fn priority(self, schema: &TaskSchema, record: &Record) -> f64 {
        let questions: Vec<&Question> =
            schema.questions.iter().filter(|question| question.role == QuestionRole::Output).collect();
        match self {
            Self::Uncertainty => record.suggestions.last().map_or(1.0, |set| uncertainty(&questions, set)),
            Self::Disagreement => disagreement(&questions, record),
            Self::Random => 1.0,
        }
    }
}

fn uncertainty(questions: &[&Question], set: &SuggestionSet) -> f64 {
    let score = |question: &Question| {
        let suggestion = set.suggestions.iter().find(|one| one.question == question.id);
        suggestion.and_then(|one| one.score).unwrap_or(0.0).clamp(0.0, 1.0)
    };
    weighted(questions, |question| 1.0 - score(question))
}

fn disagreement(questions: &[&Question], record: &Record) -> f64 {
    let answers: Vec<_> = record.latest_suggestions().map(SuggestionSet::answers).collect();
    let pairs = || (0..answers.len()).flat_map(|a| (a + 1..answers.len()).map(move |b| (a, b)));
    let num_pairs = pairs().count();
    if num_pairs == 0 {
        return 0.0;
    }
    let difference = |question: &Question| {
        let of_pair = |(a, b): (usize, usize)| match (answers[a].get(&question.id), answers[b].get(&question.id)) {
            (Some(a), Some(b)) => 1.0 - similarity(a, b),
            (None, None) => 0.0,
            _ => 1.0,
        };
        pairs().map(of_pair).sum::<f64>() / num_pairs as f64
    };
    weighted(questions, difference)
}

/// The mean over questions, by their weights; 0 if nothing has a weight.
fn weighted(questions: &[&Question], value: impl Fn(&Question) -> f64) -> f64 {
    let total: f64 = questions.iter().map(|question| question.weight).sum();
    if total <= 0.0 {
        return 0.0;
    }
    questions.iter().map(|question| question.weight * value(question)).sum::<f64>() / total
}

/// A number that the seed and a record's name decide.
pub(crate) fn lot(id: &str, seed: u64) -> u64 {
    ChaCha8Rng::seed_from_u64(fnv_1a(seed ^ FNV_OFFSET, id.as_bytes())).next_u64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curate::{
        Agent, Answer, Answers, Provenance, QuestionKind, Response, ScoreKind, Suggestion, TextQuestion, Version,
    };

    fn schema() -> TaskSchema {
        let boolean = || QuestionKind::Boolean { yes: "yes".into(), no: "no".into() };
        let mut heavy = Question::new("heavy".parse().unwrap(), boolean());
        heavy.weight = 3.0;
        let mut review = Question::new("review".parse().unwrap(), QuestionKind::Text(TextQuestion::default()));
        review.role = QuestionRole::Review;
        TaskSchema::new("task".parse().unwrap(), Version::new(1, 0, 0))
            .with_question(heavy)
            .with_question(Question::new("light".parse().unwrap(), boolean()))
            .with_question(review)
    }

    fn set(model: &str, answers: &[(&str, bool, f64)]) -> SuggestionSet {
        let suggestion = |(question, answer, score): &(&str, bool, f64)| {
            Suggestion::new(question.parse().unwrap(), Answer::Boolean(*answer)).with_score(*score, ScoreKind::Logprob)
        };
        SuggestionSet::new(Agent::model(model), answers.iter().map(suggestion).collect(), Provenance::default())
    }

    fn record(id: &str, suggestions: Vec<SuggestionSet>) -> Record {
        Record { suggestions, ..Record::new(id) }
    }

    fn chosen(records: &[Record], strategy: Strategy) -> Vec<(String, f64)> {
        let selected = select(&schema(), records, strategy, 10, 7);
        selected.into_iter().map(|one| (one.id, (one.priority * 1e6).round() / 1e6)).collect()
    }

    #[test]
    fn uncertain_answers_count_by_the_weight_of_their_question() {
        let records = [
            record("sure", vec![set("m", &[("heavy", true, 1.0), ("light", true, 1.0)])]),
            record("light", vec![set("m", &[("heavy", true, 1.0), ("light", true, 0.0)])]),
            record("heavy", vec![set("m", &[("heavy", true, 0.5), ("light", true, 1.0)])]),
            record("partly", vec![set("m", &[("light", true, 1.0)])]),
            record("none", vec![]),
        ];
        let expected = [("none", 1.0), ("partly", 0.75), ("heavy", 0.375), ("light", 0.25), ("sure", 0.0)];
        assert_eq!(chosen(&records, Strategy::Uncertainty), expected.map(|(id, worth)| (id.to_owned(), worth)));
    }

    #[test]
    fn models_that_differ_are_compared_by_their_latest_answers() {
        let agree = [("heavy", true, 1.0), ("light", false, 1.0)];
        let differ = [("heavy", false, 1.0), ("light", false, 1.0)];
        let records = [
            record("corrected", vec![set("a", &differ), set("b", &agree), set("a", &agree)]),
            record("differ", vec![set("a", &agree), set("b", &differ)]),
            record("missing", vec![set("a", &agree), set("b", &agree[..1])]),
            record("three", vec![set("a", &agree), set("b", &agree), set("c", &differ)]),
        ];
        let expected = [("differ", 0.75), ("three", 0.5), ("missing", 0.25), ("corrected", 0.0)];
        assert_eq!(chosen(&records, Strategy::Disagreement), expected.map(|(id, worth)| (id.to_owned(), worth)));
    }

    #[test]
    fn what_people_have_answered_is_left_out() {
        let mut records = [record("open", vec![]), record("draft", vec![]), record("done", vec![])];
        records[1].responses.push(Response::submitted("ann", Answers::new()));
        records[1].responses[0].status = ResponseStatus::Draft;
        records[2].responses.push(Response::submitted("ann", Answers::new()));
        let mut ids: Vec<_> = chosen(&records, Strategy::Random).into_iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["draft", "open"]);
    }

    #[test]
    fn chance_depends_on_names_and_seed_alone() {
        let mut records: Vec<Record> = (0..20).map(|n| record(&format!("r{n}"), vec![])).collect();
        let ids = |records: &[Record], seed| -> Vec<String> {
            select(&schema(), records, Strategy::Random, 5, seed).into_iter().map(|one| one.id).collect()
        };
        let first = ids(&records, 1);
        assert_ne!(first, ids(&records, 2));
        records.reverse();
        assert_eq!(first, ids(&records, 1));
    }
}
