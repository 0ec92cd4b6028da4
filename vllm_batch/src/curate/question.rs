//! What is asked about a record.

use serde::Serialize;
use serde_json::Value;

use super::{Answer, Ident, LocalizedText, Pii};

/// One question about a record.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Question {
    /// Its name: the key in the answers.
    pub id: Ident,
    /// The question, or what people call it.
    pub title: LocalizedText,
    /// How to answer it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<LocalizedText>,
    /// What its answers are.
    #[serde(flatten)]
    pub kind: QuestionKind,
    /// Whose question it is.
    pub role: Role,
    /// Whether each record needs an answer, where the question is visible.
    pub required: bool,
    /// The answer of those who give none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Answer>,
    /// When the question is asked. Absent: always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visible_when: Option<Condition>,
    /// How much it counts where questions are taken together; 0 or more.
    pub weight: f64,
    /// The level of measurement that agreement is computed at; absent: that of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Whether its answers are about a person.
    pub pii: Pii,
}

impl Question {
    /// A required question for the model, of one kind, titled by its name, with weight 1.
    pub fn new(id: Ident, kind: QuestionKind) -> Self {
        let title = LocalizedText::Plain(id.replace('_', " "));
        Self {
            id,
            title,
            help: None,
            kind,
            role: Role::Output,
            required: true,
            default: None,
            visible_when: None,
            weight: 1.0,
            level: None,
            pii: Pii::None,
        }
    }

    /// The level of measurement that agreement is computed at: the question's own, else that of its kind. `None` where
    /// answers are compared by their content.
    pub fn level(&self) -> Option<Level> {
        self.level.or_else(|| self.kind.level())
    }
}

/// Whose question it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// The model answers it, a person may correct it, and models are trained on it.
    Output,
    /// A person says it about the model's answers. No model is asked, and none is trained on it.
    Review,
    /// The model thinks aloud before it answers; it comes first, and is no training data unless that is asked for.
    Reasoning,
}

/// What the answers to a question are.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum QuestionKind {
    /// One of a few options, or some of them.
    Choice {
        /// The options.
        options: Vec<QuestionOption>,
        /// Whether several may be chosen.
        multiple: bool,
        /// The fewest that must be, if `multiple`.
        min: usize,
        /// The most that may be, if `multiple`. Absent: all.
        #[serde(skip_serializing_if = "Option::is_none")]
        max: Option<usize>,
    },
    /// A place on an ordered scale.
    Rating {
        /// The scale.
        #[serde(flatten)]
        scale: Scale,
    },
    /// Yes or no.
    Boolean {
        /// What people see for `true`.
        yes: LocalizedText,
        /// What people see for `false`.
        no: LocalizedText,
    },
    /// A number.
    Number(NumberQuestion),
    /// A text, or several.
    Text(TextQuestion),
    /// A date.
    Date {
        /// How exact.
        only: DateGranularity,
    },
    /// An object or a list, described by a JSON Schema.
    Structured {
        /// JSON Schema 2020-12.
        schema: Value,
    },
    /// Which of two fields is better.
    Preference {
        /// The one.
        left: Ident,
        /// The other.
        right: Ident,
        /// Whether they may be equally good.
        tie: bool,
    },
    /// The items of a field in order, best first.
    Ranking {
        /// A field whose value is a list of objects with `id`, or of texts.
        field: Ident,
    },
    /// Places in a tree of terms.
    Taxonomy {
        /// The tree.
        tree: Vec<TaxonomyNode>,
        /// Whether several may be chosen.
        multiple: bool,
    },
    /// Labelled stretches of a field's text.
    Span {
        /// A field of text.
        field: Ident,
        /// The labels.
        labels: Vec<QuestionOption>,
        /// Whether stretches may overlap.
        overlap: bool,
    },
}

impl QuestionKind {
    /// The word for it in a schema's file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Choice { .. } => "choice",
            Self::Rating { .. } => "rating",
            Self::Boolean { .. } => "boolean",
            Self::Number(_) => "number",
            Self::Text(_) => "text",
            Self::Date { .. } => "date",
            Self::Structured { .. } => "structured",
            Self::Preference { .. } => "preference",
            Self::Ranking { .. } => "ranking",
            Self::Taxonomy { .. } => "taxonomy",
            Self::Span { .. } => "span",
        }
    }

    /// The level of measurement of its answers, if they have one.
    pub fn level(&self) -> Option<Level> {
        match self {
            Self::Choice { .. } | Self::Boolean { .. } | Self::Preference { .. } | Self::Taxonomy { .. } => {
                Some(Level::Nominal)
            }
            Self::Rating { .. } => Some(Level::Ordinal),
            Self::Number(_) => Some(Level::Interval),
            Self::Text(_) | Self::Date { .. } | Self::Structured { .. } | Self::Ranking { .. } | Self::Span { .. } => {
                None
            }
        }
    }

    /// The fields that answers are about: parts of their values, or names of parts.
    pub(super) fn fields(&self) -> impl Iterator<Item = &Ident> {
        let fields = match self {
            Self::Preference { left, right, .. } => [Some(left), Some(right)],
            Self::Ranking { field } | Self::Span { field, .. } => [Some(field), None],
            _ => [None, None],
        };
        fields.into_iter().flatten()
    }

    /// The options that answers are taken from; empty for kinds that have none.
    pub fn options(&self) -> &[QuestionOption] {
        match self {
            Self::Choice { options, .. } | Self::Rating { scale: Scale::Levels { levels: options } } => options,
            Self::Span { labels, .. } => labels,
            _ => &[],
        }
    }
}

/// The scale of a rating.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Scale {
    /// Named levels, from the worst (lowest `score`) to the best or the other way round; `score` says which.
    Levels {
        /// The levels.
        #[serde(rename = "options")]
        levels: Vec<QuestionOption>,
    },
    /// Whole numbers.
    Range {
        /// The lowest.
        min: i64,
        /// The highest.
        max: i64,
    },
}

/// One of the answers that a question allows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct QuestionOption {
    /// What is stored: it stays the same when the label changes. Never empty, and without commas, which separate values in
    /// labelling configurations.
    pub value: String,
    /// What people see.
    pub label: LocalizedText,
    /// When it is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<LocalizedText>,
    /// Its place on the scale, higher is better; for named levels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Other words that a model may use for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub synonyms: Vec<String>,
}

impl QuestionOption {
    /// An option of its stored value and what people see.
    pub fn new(value: impl Into<String>, label: impl Into<LocalizedText>) -> Self {
        Self { value: value.into(), label: label.into(), help: None, score: None, synonyms: Vec::new() }
    }
}

/// Bounds of a number.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NumberQuestion {
    /// The least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The greatest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Answers are multiples of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// Whether answers are whole.
    pub integer: bool,
    /// What is counted, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// Bounds of a text.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TextQuestion {
    /// The fewest characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_chars: Option<usize>,
    /// The most characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_chars: Option<usize>,
    /// What the whole of the text matches, in the syntax of Rust's `regex` crate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Whether it may have line ends.
    pub multiline: bool,
    /// Whether the answer is a list of texts.
    pub many: bool,
}

/// How exact a date is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DateGranularity {
    /// `2026-01-31`.
    Date,
    /// `2026-01-31T12:30:00Z`, after RFC 3339.
    DateTime,
    /// `2026`.
    Year,
}

/// A term of a taxonomy.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TaxonomyNode {
    /// The term.
    #[serde(flatten)]
    pub option: QuestionOption,
    /// What is below it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<TaxonomyNode>,
}

/// Levels of measurement (Stevens 1946): which differences between two answers mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Level {
    /// Equal or not.
    Nominal,
    /// In order.
    Ordinal,
    /// Differences mean something.
    Interval,
    /// So do ratios.
    Ratio,
}

/// When a question is asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Condition {
    /// If a question has an answer.
    Answered(Ident),
    /// If a question's answer is one of these (or, of several chosen, has one of them), as JSON.
    Is {
        /// The question.
        question: Ident,
        /// The answers.
        any_of: Vec<Value>,
    },
    /// If a field's value is one of these.
    Field {
        /// The field.
        field: Ident,
        /// The values.
        any_of: Vec<Value>,
    },
    /// If this is not so.
    Not(Box<Condition>),
    /// If all are so.
    All(Vec<Condition>),
    /// If one of them is so.
    Any(Vec<Condition>),
}
