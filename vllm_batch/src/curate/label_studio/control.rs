//! Which tag asks which question.

use super::super::{DateGranularity, Ident, Pii, Question, QuestionKind, Scale, TaskSchema};

/// Tags that people answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Choices,
    Rating,
    Number,
    TextArea,
    DateTime,
    Taxonomy,
    Labels,
    Pairwise,
    Ranker,
}

/// More stars than this cannot be told apart at a glance.
const MAX_STARS: i64 = 10;

/// Wider scales than this are asked for by a number.
const MAX_CHOICES: i128 = 100;

impl Tag {
    /// The tag that asks a question.
    pub(super) fn of(kind: &QuestionKind) -> Self {
        match kind {
            QuestionKind::Choice { .. }
            | QuestionKind::Rating { scale: Scale::Levels { .. } }
            | QuestionKind::Boolean { .. }
            | QuestionKind::Preference { tie: true, .. } => Self::Choices,
            QuestionKind::Rating { scale: Scale::Range { min, max } } => match (*min, *max) {
                (1, ..=MAX_STARS) => Self::Rating,
                (min, max) if i128::from(max) - i128::from(min) <= MAX_CHOICES => Self::Choices,
                _ => Self::Number,
            },
            QuestionKind::Number(_) => Self::Number,
            QuestionKind::Text(_) | QuestionKind::Structured { .. } => Self::TextArea,
            QuestionKind::Date { .. } => Self::DateTime,
            QuestionKind::Preference { .. } => Self::Pairwise,
            QuestionKind::Ranking { .. } => Self::Ranker,
            QuestionKind::Taxonomy { .. } => Self::Taxonomy,
            QuestionKind::Span { .. } => Self::Labels,
        }
    }

    /// Its name in a configuration.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Choices => "Choices",
            Self::Rating => "Rating",
            Self::Number => "Number",
            Self::TextArea => "TextArea",
            Self::DateTime => "DateTime",
            Self::Taxonomy => "Taxonomy",
            Self::Labels => "Labels",
            Self::Pairwise => "Pairwise",
            Self::Ranker => "Ranker",
        }
    }

    /// The type of its regions: its name in lower case.
    pub(super) fn region_type(self) -> &'static str {
        match self {
            Self::Choices => "choices",
            Self::Rating => "rating",
            Self::Number => "number",
            Self::TextArea => "textarea",
            Self::DateTime => "datetime",
            Self::Taxonomy => "taxonomy",
            Self::Labels => "labels",
            Self::Pairwise => "pairwise",
            Self::Ranker => "ranker",
        }
    }

    /// The key of a region's value.
    pub(super) fn value_key(self) -> &'static str {
        match self {
            Self::TextArea => "text",
            Self::Pairwise => "selected",
            other => other.region_type(),
        }
    }
}

/// Whether people are asked the question on a review server at all: not if its answers never go there, nor if what it is about
/// does not.
pub(super) fn is_asked(schema: &TaskSchema, question: &Question) -> bool {
    let is_withheld = |id: &Ident| schema.field(id).is_some_and(|field| is_withheld(field.pii));
    question.pii != Pii::Drop && !question.kind.fields().any(is_withheld)
}

/// Whether a model's answer to it may go to a review server.
pub(super) fn is_shared(schema: &TaskSchema, question: &Question) -> bool {
    is_asked(schema, question) && !is_withheld(question.pii)
}

/// Whether a value does not go to a review server as it is.
pub(super) fn is_withheld(pii: Pii) -> bool {
    matches!(pii, Pii::Mask | Pii::Drop)
}

/// The format of a date in regions, as Label Studio writes it.
pub(super) fn date_format(only: DateGranularity) -> (&'static str, &'static str) {
    match only {
        DateGranularity::Date => ("date", "%Y-%m-%d"),
        DateGranularity::DateTime => ("date,time", "%Y-%m-%dT%H:%M:%SZ"),
        DateGranularity::Year => ("year", "%Y"),
    }
}
