//! What an export has.

use super::{ExportFormat, PickedExample, Split};

/// What an export has.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ExportOptions {
    /// The form of the rows.
    pub format: ExportFormat,
    /// Which answers are the right ones.
    pub answers: AnswerSource,
    /// Whether models learn to think aloud: answers to questions with the role `reasoning` go in.
    pub reasoning: bool,
    /// Examples that each prompt begins with.
    pub examples: Vec<PickedExample>,
    /// What the rows are for.
    pub split: Split,
    /// The weighted share of questions, from 0 to 1, that a person must have answered otherwise than a model for the two
    /// answers to be a preference, and for the model's to be a bad example. It must be more than this.
    pub min_strength: f64,
    /// What rows say about the people who answered.
    pub annotators: AnnotatorNames,
}

impl ExportOptions {
    /// Gold answers, without reasoning and examples, all for training.
    pub fn new(format: ExportFormat) -> Self {
        Self {
            format,
            answers: AnswerSource::Gold,
            reasoning: false,
            examples: Vec::new(),
            split: Split::Train,
            min_strength: 0.0,
            annotators: AnnotatorNames::Omitted,
        }
    }

    /// Says which answers are the right ones.
    #[must_use]
    pub fn with_answers(mut self, answers: AnswerSource) -> Self {
        self.answers = answers;
        self
    }

    /// Says whether models learn to think aloud.
    #[must_use]
    pub fn with_reasoning(mut self, reasoning: bool) -> Self {
        self.reasoning = reasoning;
        self
    }

    /// Lets each prompt begin with examples.
    #[must_use]
    pub fn with_examples(mut self, examples: Vec<PickedExample>) -> Self {
        self.examples = examples;
        self
    }

    /// Says how much must differ for a preference.
    #[must_use]
    pub fn with_min_strength(mut self, min_strength: f64) -> Self {
        self.min_strength = min_strength;
        self
    }

    /// Says what rows tell about the people who answered.
    #[must_use]
    pub fn with_annotators(mut self, annotators: AnnotatorNames) -> Self {
        self.annotators = annotators;
        self
    }
}

/// Which answers are the right ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnswerSource {
    /// The settled answers of records that are gold ([`CompiledSchema::decide_gold`](crate::curate::CompiledSchema::decide_gold)).
    Gold,
    /// What the one person said who answered the record.
    SingleResponse,
}

/// What rows say about the people who answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnnotatorNames {
    /// Nothing but how many there were.
    Omitted,
    /// The same 12 hexadecimal digits for the same person: of the SHA-256 of the salt and the name. Whoever knows the salt
    /// can find the person by trying names.
    Pseudonyms {
        /// The salt: keep it to yourself.
        salt: String,
    },
    /// Their names.
    Names,
}
