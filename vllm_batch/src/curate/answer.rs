//! Typed answers.

use serde::Serialize;
use serde_json::Value;

use super::Ident;

/// The answer to one question. Which of the kinds it is, the question's kind says.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Answer {
    /// The value of one option: of a choice, or a named level of a rating.
    Option(String),
    /// The values of several options, each once, in the order of the question.
    Options(Vec<String>),
    /// A place on a scale of whole numbers.
    Rating(i64),
    /// Yes or no.
    Boolean(bool),
    /// A finite number. Whole ones are written without a fraction.
    #[serde(serialize_with = "serialize_number")]
    Number(f64),
    /// A text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// A date, as its question has it.
    Date(String),
    /// An object or a list.
    Structured(Value),
    /// Which of two is better.
    Preference(Preference),
    /// Ids of items, best first, each once.
    Ranking(Vec<String>),
    /// Paths from the root of a taxonomy.
    Taxonomy(Vec<Vec<String>>),
    /// Labelled stretches of text, by their beginning.
    Spans(Vec<LabelSpan>),
}

/// Writes whole numbers that a double holds exactly without a fraction.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form.
fn serialize_number<S: serde::Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2⁵³
    if number.fract() == 0.0 && number.abs() <= EXACT {
        serializer.serialize_i64(*number as i64)
    } else {
        serializer.serialize_f64(*number)
    }
}

/// Which of two is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Preference {
    /// The left one.
    Left,
    /// The right one.
    Right,
    /// Neither.
    Tie,
}

/// A labelled stretch of a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct LabelSpan {
    /// Where it begins, in characters (Unicode scalar values) from 0.
    pub start: usize,
    /// Where it ends: the first character that is not in it.
    pub end: usize,
    /// The value of its label.
    pub label: String,
}

impl LabelSpan {
    /// A stretch of its parts.
    pub fn new(start: usize, end: usize, label: impl Into<String>) -> Self {
        Self { start, end, label: label.into() }
    }
}

/// The answers to the questions of one schema about one record, in the order in which they were given. A question that has
/// none is absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers(Vec<(Ident, Answer)>);

impl Answers {
    /// No answers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The answer to a question.
    pub fn get(&self, question: &str) -> Option<&Answer> {
        self.0.iter().find(|(id, _)| id == question).map(|(_, answer)| answer)
    }

    /// Answers a question; an earlier answer to it is given back.
    pub fn insert(&mut self, question: Ident, answer: Answer) -> Option<Answer> {
        if let Some((_, old)) = self.0.iter_mut().find(|(id, _)| *id == question) {
            return Some(std::mem::replace(old, answer));
        }
        self.0.push((question, answer));
        None
    }

    /// Takes the answer to a question away.
    pub fn remove(&mut self, question: &str) -> Option<Answer> {
        let index = self.0.iter().position(|(id, _)| id == question)?;
        Some(self.0.remove(index).1)
    }

    /// Questions with their answers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Ident, &Answer)> {
        self.0.iter().map(|(id, answer)| (id, answer))
    }

    /// How many questions are answered.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Ident, Answer)> for Answers {
    fn from_iter<I: IntoIterator<Item = (Ident, Answer)>>(answers: I) -> Self {
        let mut all = Self::new();
        for (question, answer) in answers {
            all.insert(question, answer);
        }
        all
    }
}

impl Serialize for Answers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
