//! Who is compared with whom.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use serde::Serialize;

use super::bootstrap::Bootstrap;
use super::summary::{self, QuestionAgreement};
use crate::curate::{
    Answer, Answers, Question, QuestionKind, QuestionRole, Record, Response, ResponseStatus, TaskSchema,
};

/// What is compared, and how intervals are made.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AgreementOptions {
    /// Decides the draws of the bootstrap: the same seed gives the same intervals.
    pub seed: u64,
    /// Draws of the bootstrap; 0 for no intervals.
    pub num_resamples: usize,
    /// The share of draws within an interval.
    pub confidence: f64,
    /// Whether free text counts in the overall score. It is compared word for word, which few texts survive.
    pub include_text: bool,
}

impl Default for AgreementOptions {
    /// 95 % intervals of 1,000 draws; free text does not count in the overall score.
    fn default() -> Self {
        Self { seed: 0, num_resamples: 1_000, confidence: 0.95, include_text: false }
    }
}

/// How much people and models agree.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AgreementReport {
    /// One entry for each comparison that the records allow.
    pub groups: Vec<AgreementGroup>,
    /// The share of draws within the intervals.
    pub confidence: f64,
}

impl AgreementReport {
    /// One comparison.
    pub fn group(&self, compared: &Compared, shown: Shown) -> Option<&AgreementGroup> {
        self.groups.iter().find(|group| group.compared == *compared && group.shown == shown)
    }
}

/// How much those of one comparison agree.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AgreementGroup {
    /// Who is compared.
    pub compared: Compared,
    /// Which of the people's answers count.
    pub shown: Shown,
    /// Question by question, in the schema's order.
    pub questions: Vec<QuestionAgreement>,
    /// The mean similarity over the questions, by their weights; `None` if none has one.
    pub overall: Option<f64>,
}

/// Who is compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compared {
    /// People with each other.
    Humans,
    /// A model with each person.
    ModelHuman {
        /// The model's name.
        model: String,
    },
    /// Models with each other.
    Models,
}

/// Which of the people's answers count. Those who see an answer before they give their own tend to keep it, so the two are
/// reported apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// All.
    All,
    /// Those of people who did not see a model's answers.
    Blind,
    /// Those of people who did.
    Prefilled,
}

impl Shown {
    fn includes(self, response: &Response) -> bool {
        match self {
            Self::All => true,
            Self::Blind => response.prefilled == Some(false),
            Self::Prefilled => response.prefilled == Some(true),
        }
    }
}

/// Compares all who answered. Drafts and discarded responses do not count; of several answers by one model the latest does.
/// A comparison is there if two answers can be compared in it.
///
/// # Example
/// ```
/// use vllm_batch::curate::agreement::{AgreementOptions, Compared, Shown, Undefined, agreement};
/// use vllm_batch::curate::{Answer, Answers, Question, QuestionKind, Record, Response, TaskSchema, Version};
///
/// let kind = QuestionKind::Boolean { yes: "yes".into(), no: "no".into() };
/// let schema = TaskSchema::new("spam".parse()?, Version::new(1, 0, 0)).with_question(Question::new("spam".parse()?, kind));
/// let said = |name: &str, spam| {
///     let question = "spam".parse().unwrap();
///     Response::submitted(name, Answers::from_iter([(question, Answer::Boolean(spam))]))
/// };
/// let mut records = [Record::new("1"), Record::new("2")];
/// records[0].responses = vec![said("ann", true), said("bob", true)];
/// records[1].responses = vec![said("ann", false), said("bob", true)];
///
/// let report = agreement(&schema, &records, &AgreementOptions::default());
/// let spam = &report.group(&Compared::Humans, Shown::All).unwrap().questions[0];
/// assert_eq!(spam.similarity.unwrap().value, 0.5);
/// assert_eq!(spam.alpha.unwrap().value, 0.0);
///
/// let report = agreement(&schema, &records[..1], &AgreementOptions::default());
/// assert_eq!(report.groups[0].questions[0].alpha, Err(Undefined::OneValue));
/// # Ok::<(), vllm_batch::curate::InvalidIdent>(())
/// ```
pub fn agreement<R: Borrow<Record>>(schema: &TaskSchema, records: &[R], options: &AgreementOptions) -> AgreementReport {
    let records: Vec<&Record> = records.iter().map(Borrow::borrow).collect();
    let mut comparisons = vec![(Compared::Humans, Shown::All)];
    let apart = [Shown::Blind, Shown::Prefilled];
    comparisons.extend(apart.map(|shown| (Compared::Humans, shown)));
    for model in models(&records) {
        let compared = Compared::ModelHuman { model };
        comparisons.extend([Shown::All].into_iter().chain(apart).map(|shown| (compared.clone(), shown)));
    }
    comparisons.push((Compared::Models, Shown::All));
    let group = |(compared, shown)| compare(schema, &records, options, (compared, shown));
    let groups = comparisons.into_iter().filter_map(group).collect();
    AgreementReport { groups, confidence: options.confidence }
}

fn models(records: &[&Record]) -> BTreeSet<String> {
    let sets = records.iter().flat_map(|record| &record.suggestions);
    sets.map(|set| set.agent.name.as_str()).collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect()
}

/// One comparison; `None` if there is nothing to compare.
fn compare(
    schema: &TaskSchema,
    records: &[&Record],
    options: &AgreementOptions,
    (compared, shown): (Compared, Shown),
) -> Option<AgreementGroup> {
    let sources: Vec<Source<'_>> = records.iter().flat_map(|record| sources(record, &compared, shown)).collect();
    if sources.iter().all(|source| source.0.len() < 2) {
        return None;
    }
    let two_raters = have_two_raters(&sources);
    let of_question = |(index, question): (usize, &Question)| {
        let units = units(&sources, question, &compared);
        let seed = options.seed.wrapping_add(index as u64);
        let bootstrap = Bootstrap { seed, num_resamples: options.num_resamples, confidence: options.confidence };
        summary::Compared::new(question, units, two_raters).summary(&bootstrap)
    };
    let questions: Vec<_> = schema.questions.iter().enumerate().map(of_question).collect();
    let overall = overall(schema, &questions, options.include_text);
    Some(AgreementGroup { compared, shown, questions, overall })
}

/// Those whose answers make one unit: each with a name, and a way to the answers.
#[derive(Debug)]
struct Source<'a>(Vec<(&'a str, Said<'a>)>);

#[derive(Debug, Clone, Copy)]
enum Said<'a> {
    Human(&'a Answers),
    Model(&'a [crate::curate::Suggestion]),
}

impl<'a> Said<'a> {
    fn answer(self, question: &str) -> Option<&'a Answer> {
        match self {
            Self::Human(answers) => answers.get(question),
            Self::Model(suggestions) => suggestions.iter().find(|one| one.question == question).map(|one| &one.answer),
        }
    }
}

/// The units of a record: one of all people or all models, or one for each person with the model.
fn sources<'a>(record: &'a Record, compared: &Compared, shown: Shown) -> Vec<Source<'a>> {
    let submitted = |response: &&Response| response.status == ResponseStatus::Submitted && shown.includes(response);
    let humans = record.responses.iter().filter(submitted);
    let humans = humans.map(|response| (response.agent.name.as_str(), Said::Human(&response.answers)));
    match compared {
        Compared::Humans => vec![Source(humans.collect())],
        Compared::Models => vec![Source(latest(record))],
        Compared::ModelHuman { model } => {
            let Some(of_model) = latest(record).into_iter().find(|(name, _)| name == model) else {
                return Vec::new();
            };
            // All people are one side.
            humans.map(|(_, said)| Source(vec![of_model, ("", said)])).collect()
        }
    }
}

/// The latest answers of each model, by name.
fn latest(record: &Record) -> Vec<(&str, Said<'_>)> {
    let mut latest = std::collections::BTreeMap::new();
    for set in &record.suggestions {
        latest.insert(set.agent.name.as_str(), Said::Model(&set.suggestions));
    }
    latest.into_iter().collect()
}

fn have_two_raters(sources: &[Source<'_>]) -> bool {
    let names: BTreeSet<&str> = sources.iter().flat_map(|source| &source.0).map(|(name, _)| *name).collect();
    names.len() == 2
}

/// The answers to one question; those of two who answer in the order of their names.
fn units<'a>(sources: &[Source<'a>], question: &Question, compared: &Compared) -> Vec<Vec<&'a Answer>> {
    if question.role == QuestionRole::Review && *compared != Compared::Humans {
        return Vec::new();
    }
    let unit = |source: &Source<'a>| {
        let mut said = source.0.clone();
        if *compared == Compared::Humans {
            said.sort_by_key(|(name, _)| *name);
        }
        said.into_iter().filter_map(|(_, said)| said.answer(&question.id)).collect()
    };
    sources.iter().map(unit).collect()
}

fn overall(schema: &TaskSchema, questions: &[QuestionAgreement], include_text: bool) -> Option<f64> {
    let counts = |question: &Question| include_text || !is_free_text(question);
    let terms = schema.questions.iter().zip(questions).filter(|(question, _)| counts(question));
    let terms: Vec<(f64, f64)> =
        terms.filter_map(|(question, one)| Some((question.weight, one.similarity.ok()?.value))).collect();
    let total: f64 = terms.iter().map(|(weight, _)| weight).sum();
    (total > 0.0).then(|| terms.iter().map(|(weight, value)| weight * value).sum::<f64>() / total)
}

fn is_free_text(question: &Question) -> bool {
    matches!(question.kind, QuestionKind::Text(_)) && question.level.is_none()
}
