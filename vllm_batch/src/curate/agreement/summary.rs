//! Everything about the agreement on one question.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::alpha::{Reliability, sorted_set};
use super::bootstrap::Bootstrap;
use super::kappa::{Pairs, counted};
use super::similarity::similarity;
use super::structured::normalised;
use super::{Estimate, KappaWeights, Undefined};
use crate::curate::{Answer, Ident, Level, Preference, Question, QuestionKind, Scale};

/// How much those who were compared agree on one question.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct QuestionAgreement {
    /// The question.
    pub question: Ident,
    /// The level of measurement that alpha is computed at.
    pub level: Option<Level>,
    /// Units with two answers or more: records, or pairs of a model's and a person's answer.
    pub num_units: usize,
    /// Answers in these units.
    pub num_answers: usize,
    /// What [`similarity`](Self::similarity) is.
    pub measure: Measure,
    /// The mean [`similarity`] of two answers to the same unit, from 0 to 1.
    #[serde(serialize_with = "value_or_reason")]
    pub similarity: Result<Estimate, Undefined>,
    /// Krippendorff's alpha: 1 for complete agreement, 0 for what comes by chance.
    #[serde(serialize_with = "value_or_reason")]
    pub alpha: Result<Estimate, Undefined>,
    /// Cohen's kappa of exactly two who answered: plain at the nominal level, with quadratic weights at the ordinal one.
    #[serde(serialize_with = "value_or_reason")]
    pub kappa: Result<Estimate, Undefined>,
    /// The mean distance of two answers to the same unit, in steps of the scale or in the number's unit; for ratings and numbers.
    pub mean_absolute_error: Option<f64>,
    /// How often each answer was given, if answers are taken from a few; a set of options counts for each of them.
    pub prevalence: BTreeMap<String, usize>,
    /// How often two answers met, the first one's first; where there are exactly two who answered and answers are taken from
    /// a few.
    pub confusion: Vec<(String, String, u64)>,
}

/// What the similarity of two answers is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Measure {
    /// The share of equal answers.
    PercentAgreement,
    /// The F1 score of sets: options, texts, paths, stretches of text.
    F1,
    /// The share of equal leaves of objects and lists.
    LeafAgreement,
    /// The share of pairs in the same order.
    Concordance,
}

impl Measure {
    /// That of a kind of questions.
    pub(super) fn of(kind: &QuestionKind) -> Self {
        match kind {
            QuestionKind::Choice { multiple: true, .. } | QuestionKind::Taxonomy { .. } | QuestionKind::Span { .. } => {
                Self::F1
            }
            QuestionKind::Text(text) if text.many => Self::F1,
            QuestionKind::Structured { .. } => Self::LeafAgreement,
            QuestionKind::Ranking { .. } => Self::Concordance,
            _ => Self::PercentAgreement,
        }
    }
}

fn value_or_reason<S: Serializer>(result: &Result<Estimate, Undefined>, serializer: S) -> Result<S::Ok, S::Error> {
    match result {
        Ok(estimate) => estimate.serialize(serializer),
        Err(undefined) => serializer.collect_map([("undefined", undefined)]),
    }
}

/// The answers to one question, unit by unit.
#[derive(Debug)]
pub(super) struct Compared<'a> {
    pub(super) question: &'a Question,
    /// Those with fewer than two answers may be among them.
    pub(super) units: Vec<Vec<&'a Answer>>,
    /// Whether the answers of each unit come from the same two, in the same order.
    pub(super) two_raters: bool,
    /// The values of a rating's named levels, the worst first; without scores as they are listed.
    levels: Vec<&'a str>,
}

impl<'a> Compared<'a> {
    pub(super) fn new(question: &'a Question, units: Vec<Vec<&'a Answer>>, two_raters: bool) -> Self {
        let mut levels: Vec<_> = question.kind.options().iter().collect();
        levels.sort_by(|a, b| a.score.unwrap_or(0.0).total_cmp(&b.score.unwrap_or(0.0)));
        let levels = levels.into_iter().map(|level| level.value.as_str()).collect();
        Self { question, units, two_raters, levels }
    }

    pub(super) fn summary(&self, bootstrap: &Bootstrap) -> QuestionAgreement {
        let level = self.question.level();
        let compared: Vec<&[&Answer]> = self.units.iter().map(Vec::as_slice).filter(|unit| unit.len() > 1).collect();
        let pairs = if self.two_raters { self.pairs() } else { Vec::new() };
        QuestionAgreement {
            question: self.question.id.clone(),
            level,
            num_units: compared.len(),
            num_answers: compared.iter().map(|unit| unit.len()).sum(),
            measure: Measure::of(&self.question.kind),
            similarity: mean_similarity(&compared, bootstrap),
            alpha: level.ok_or(Undefined::NoLevel).and_then(|level| self.alpha(&compared, level, bootstrap)),
            kappa: self.kappa(&pairs, bootstrap),
            mean_absolute_error: self.mean_absolute_error(&compared),
            prevalence: self.prevalence(&compared),
            confusion: self.confusion(&pairs),
        }
    }

    fn alpha(&self, compared: &[&[&Answer]], level: Level, bootstrap: &Bootstrap) -> Result<Estimate, Undefined> {
        let coded = |unit: &&[&Answer]| unit.iter().filter_map(|answer| self.code(answer)).collect::<Vec<_>>();
        let units: Vec<Vec<Code>> = compared.iter().map(coded).collect();
        let reliability = if let Some(Code::Set(_)) = units.iter().flatten().next() {
            Reliability::of_sets(units.into_iter().map(Code::sets))?
        } else {
            let units = Code::numbers(units);
            Reliability::of_numbers(units.iter().map(Vec::as_slice), level)?
        };
        let value = reliability.alpha(&reliability.counts)?;
        let interval = bootstrap.interval(&reliability.counts, |counts| reliability.alpha(counts));
        Ok(Estimate { value, interval })
    }

    fn kappa(&self, pairs: &[(usize, usize)], bootstrap: &Bootstrap) -> Result<Estimate, Undefined> {
        if !self.two_raters {
            return Err(Undefined::NotTwoRaters);
        }
        let weights = match self.question.level() {
            Some(Level::Nominal) => KappaWeights::Plain,
            Some(Level::Ordinal) => KappaWeights::Quadratic,
            _ => return Err(Undefined::NotCategorical),
        };
        if !self.has_places() {
            return Err(Undefined::NotCategorical);
        }
        let pairs = Pairs::new(&counted(pairs));
        let kappa = |counts: &[u64]| pairs.kappa(counts, weights);
        Ok(Estimate { value: kappa(&pairs.counts)?, interval: bootstrap.interval(&pairs.counts, kappa) })
    }

    /// What both said of each unit, as places.
    fn pairs(&self) -> Vec<(usize, usize)> {
        let pair = |unit: &Vec<&Answer>| match unit.as_slice() {
            [a, b] => Some((self.place(a)?, self.place(b)?)),
            _ => None,
        };
        self.units.iter().filter_map(pair).collect()
    }

    fn confusion(&self, pairs: &[(usize, usize)]) -> Vec<(String, String, u64)> {
        let named = |((a, b), count)| (self.name(a), self.name(b), count);
        counted(pairs).into_iter().map(named).collect()
    }

    fn mean_absolute_error(&self, compared: &[&[&Answer]]) -> Option<f64> {
        if !matches!(self.question.kind, QuestionKind::Rating { .. } | QuestionKind::Number(_)) {
            return None;
        }
        let (mut sum, mut pairs) = (0.0, 0u64);
        for unit in compared {
            let numbers: Vec<f64> = unit.iter().filter_map(|answer| self.number(answer)).collect();
            for (at, a) in numbers.iter().enumerate() {
                sum += numbers[at + 1..].iter().map(|b| (a - b).abs()).sum::<f64>();
                pairs += (numbers.len() - at - 1) as u64;
            }
        }
        (pairs > 0).then(|| sum / pairs as f64)
    }

    fn prevalence(&self, compared: &[&[&Answer]]) -> BTreeMap<String, usize> {
        let mut prevalence = BTreeMap::new();
        for answer in compared.iter().copied().flatten() {
            match (answer, self.place(answer)) {
                (Answer::Options(options), _) => {
                    for option in options {
                        *prevalence.entry(option.clone()).or_insert(0) += 1;
                    }
                }
                (_, Some(place)) => *prevalence.entry(self.name(place)).or_insert(0) += 1,
                _ => {}
            }
        }
        prevalence
    }

    /// Whether answers are taken from those that the question names.
    fn has_places(&self) -> bool {
        matches!(
            self.question.kind,
            QuestionKind::Choice { multiple: false, .. }
                | QuestionKind::Rating { .. }
                | QuestionKind::Boolean { .. }
                | QuestionKind::Preference { .. }
        )
    }

    /// Where an answer stands among those that are possible, the worst first; `None` for what is not possible.
    fn place(&self, answer: &Answer) -> Option<usize> {
        match (answer, &self.question.kind) {
            (Answer::Option(value), QuestionKind::Rating { scale: Scale::Levels { .. } }) => {
                self.levels.iter().position(|level| level == value)
            }
            (Answer::Option(value), kind) => kind.options().iter().position(|option| option.value == *value),
            (Answer::Rating(value), QuestionKind::Rating { scale: Scale::Range { min, max } }) => {
                (min..=max).contains(&value).then(|| usize::try_from(value.abs_diff(*min)).ok())?
            }
            (Answer::Boolean(value), _) => Some(usize::from(*value)),
            (Answer::Preference(preference), _) => PREFERENCES.iter().position(|(one, _)| one == preference),
            _ => None,
        }
    }

    fn name(&self, place: usize) -> String {
        match &self.question.kind {
            QuestionKind::Rating { scale: Scale::Levels { .. } } => self.levels[place].to_owned(),
            QuestionKind::Rating { scale: Scale::Range { min, .. } } => {
                min.wrapping_add_unsigned(place as u64).to_string()
            }
            QuestionKind::Boolean { .. } => (place == 1).to_string(),
            QuestionKind::Preference { .. } => PREFERENCES[place].1.to_owned(),
            kind => kind.options()[place].value.clone(),
        }
    }

    /// The number that an answer stands for: itself, or its place.
    fn number(&self, answer: &Answer) -> Option<f64> {
        match answer {
            Answer::Number(number) => Some(*number),
            Answer::Rating(rating) => Some(*rating as f64),
            _ => self.place(answer).map(|place| place as f64),
        }
    }

    fn code(&self, answer: &Answer) -> Option<Code> {
        match answer {
            Answer::Options(options) => Some(Code::Set(sorted_set(options.iter().cloned()))),
            Answer::Taxonomy(paths) => Some(Code::Set(sorted_set(paths.iter().map(|path| path.join("\u{1f}"))))),
            Answer::Texts(texts) => Some(Code::Set(sorted_set(texts.iter().map(|text| normalised(text))))),
            Answer::Text(text) => Some(Code::Word(normalised(text))),
            Answer::Date(date) => Some(Code::Word(date.clone())),
            Answer::Structured(value) => Some(Code::Word(value.to_string())),
            Answer::Ranking(items) => Some(Code::Word(items.join("\u{1f}"))),
            Answer::Spans(_) => None,
            answer => self.number(answer).map(Code::Number),
        }
    }
}

const PREFERENCES: [(Preference, &str); 3] =
    [(Preference::Left, "left"), (Preference::Tie, "tie"), (Preference::Right, "right")];

/// An answer as alpha takes it.
#[derive(Debug)]
enum Code {
    Number(f64),
    Word(String),
    Set(Vec<String>),
}

impl Code {
    fn sets(unit: Vec<Self>) -> Vec<Vec<String>> {
        let set = |code| match code {
            Self::Set(set) => set,
            Self::Number(number) => vec![number.to_string()],
            Self::Word(word) => vec![word],
        };
        unit.into_iter().map(set).collect()
    }

    /// Words become numbers, equal ones the same.
    fn numbers(units: Vec<Vec<Self>>) -> Vec<Vec<f64>> {
        let mut words = BTreeMap::new();
        let mut number = |code| {
            let word = match code {
                Self::Number(number) => return number,
                Self::Word(word) => word,
                Self::Set(set) => set.join("\u{1f}"),
            };
            let next = words.len() as f64;
            *words.entry(word).or_insert(next)
        };
        units.into_iter().map(|unit| unit.into_iter().map(&mut number).collect()).collect()
    }
}

/// The mean over units of the mean similarity of two of their answers.
fn mean_similarity(compared: &[&[&Answer]], bootstrap: &Bootstrap) -> Result<Estimate, Undefined> {
    let mut counts = BTreeMap::new();
    for unit in compared {
        // Similarities are not negative, so that their bits have their order.
        *counts.entry(unit_similarity(unit).to_bits()).or_insert(0u64) += 1;
    }
    let (values, counts): (Vec<f64>, Vec<u64>) =
        counts.into_iter().map(|(bits, count)| (f64::from_bits(bits), count)).unzip();
    let mean = |counts: &[u64]| {
        let total: u64 = counts.iter().sum();
        let sum: f64 = values.iter().zip(counts).map(|(value, count)| value * *count as f64).sum();
        if total == 0 { Err(Undefined::NoPairs) } else { Ok(sum / total as f64) }
    };
    Ok(Estimate { value: mean(&counts)?, interval: bootstrap.interval(&counts, mean) })
}

fn unit_similarity(unit: &[&Answer]) -> f64 {
    let (mut sum, mut pairs) = (0.0, 0u64);
    for (at, a) in unit.iter().enumerate() {
        for b in &unit[at + 1..] {
            sum += similarity(a, b);
            pairs += 1;
        }
    }
    sum / pairs as f64
}
