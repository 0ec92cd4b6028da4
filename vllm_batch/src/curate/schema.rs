//! The document that everything else follows from.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Field, Ident, LocalizedText, Question, Version};

/// What is shown, what is asked, and how the answers are used. A plain document: nothing in it is checked before it is
/// compiled.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TaskSchema {
    /// Version of this kind of document: 1. (0 are files without `format`, of an older system.)
    pub format: u16,
    /// Its name.
    pub id: Ident,
    /// Its version: what changes when, [`diff`](super) says.
    pub version: Version,
    /// What people call it.
    pub name: LocalizedText,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<LocalizedText>,
    /// How to answer, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidelines: Option<LocalizedText>,
    /// What is shown, in order.
    pub fields: Vec<Field>,
    /// What is asked, in order.
    pub questions: Vec<Question>,
    /// How a model is asked.
    pub prompt: PromptSpec,
    /// How the review page looks.
    pub rendering: Rendering,
    /// What makes a record gold.
    pub gold: GoldPolicy,
    /// What training data consist of.
    pub export: ExportSpec,
    /// How answers of older versions become answers of this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub migrations: Vec<Migration>,
    /// Keys that are not known here; they are kept.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl TaskSchema {
    /// A schema without fields and questions, called by its id.
    pub fn new(id: Ident, version: Version) -> Self {
        let name = LocalizedText::Plain(id.replace('_', " "));
        Self {
            format: 1,
            id,
            version,
            name,
            description: None,
            guidelines: None,
            fields: Vec::new(),
            questions: Vec::new(),
            prompt: PromptSpec::default(),
            rendering: Rendering::default(),
            gold: GoldPolicy::default(),
            export: ExportSpec::default(),
            migrations: Vec::new(),
            extra: Map::new(),
        }
    }

    /// Adds a field.
    #[must_use]
    pub fn with_field(mut self, field: Field) -> Self {
        self.fields.push(field);
        self
    }

    /// Adds a question.
    #[must_use]
    pub fn with_question(mut self, question: Question) -> Self {
        self.questions.push(question);
        self
    }

    /// A field by name.
    pub fn field(&self, id: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.id == id)
    }

    /// A question by name.
    pub fn question(&self, id: &str) -> Option<&Question> {
        self.questions.iter().find(|question| question.id == id)
    }

    /// Its name and version.
    pub fn reference(&self) -> SchemaRef {
        SchemaRef { id: self.id.clone(), version: self.version.clone() }
    }
}

/// A schema's name and version, written `email_evaluation@1.2.0`.
///
/// # Example
/// ```
/// use vllm_batch::curate::SchemaRef;
///
/// let named: SchemaRef = "email_evaluation@1.2.0".parse()?;
/// assert_eq!((named.id.as_str(), named.version.minor), ("email_evaluation", 2));
/// assert!("email_evaluation".parse::<SchemaRef>().is_err());
/// # Ok::<(), vllm_batch::curate::InvalidSchemaRef>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SchemaRef {
    /// The name.
    pub id: Ident,
    /// The version.
    pub version: Version,
}

impl fmt::Display for SchemaRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.version)
    }
}

/// A text that is not a [`SchemaRef`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no name and version of a schema, such as email_evaluation@1.2.0")]
#[non_exhaustive]
pub struct InvalidSchemaRef {
    /// The text.
    pub text: String,
}

impl FromStr for SchemaRef {
    type Err = InvalidSchemaRef;

    fn from_str(text: &str) -> Result<Self, InvalidSchemaRef> {
        let parts =
            text.split_once('@').and_then(|(id, version)| Some((id.parse().ok()?, Version::parse(version).ok()?)));
        let (id, version) = parts.ok_or_else(|| InvalidSchemaRef { text: text.to_owned() })?;
        Ok(Self { id, version })
    }
}

/// How a model is asked. Templates have `{field}` for a field's value, or the syntax of Jinja.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PromptSpec {
    /// The system message; absent: made of the schema's name, description and guidelines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The user's message; absent: each field that is in the prompt under its title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How an answer is written in examples without structured output; absent: as JSON. Has `{question}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assistant: Option<String>,
    /// How many gold examples come before the record.
    pub num_examples: usize,
}

/// How the review page looks.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Rendering {
    /// How fields and questions stand to each other.
    pub layout: Layout,
    /// The look's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theme: Option<String>,
    /// Whether the reviewer sees what the model says.
    pub show_suggestions: bool,
    /// Whether the reviewer sees the fields.
    pub show_fields: bool,
    /// Whether the reviewer sees how to answer.
    pub show_help: bool,
    /// The style sheet to add.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_css: Option<String>,
    /// The labelling configuration to use in place of the one that follows from the schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_config: Option<String>,
}

impl Default for Rendering {
    /// Two columns, with everything shown.
    fn default() -> Self {
        Self {
            layout: Layout::TwoColumns,
            theme: None,
            show_suggestions: true,
            show_fields: true,
            show_help: true,
            custom_css: None,
            label_config: None,
        }
    }
}

/// How fields and questions stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Layout {
    /// Questions below the fields.
    SingleColumn,
    /// Questions beside the fields.
    TwoColumns,
    /// Fields in a grid.
    Grid,
}

/// What makes a record gold.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GoldPolicy {
    /// Whether a person may say so.
    pub manual: bool,
    /// The rule, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto: Option<AutoGold>,
    /// Whether a record with an answer that does not hold can never be.
    pub forbid_invalid: bool,
}

impl Default for GoldPolicy {
    /// By hand only, and only what holds.
    fn default() -> Self {
        Self { manual: true, auto: None, forbid_invalid: true }
    }
}

/// A rule that makes a record gold. All that it says must hold.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AutoGold {
    /// The least agreement between people, from 0 to 1, as the weighted share of questions that they answer alike.
    pub min_agreement: f64,
    /// The fewest people who answered.
    pub min_annotators: usize,
    /// The greatest weighted share of questions that people answered otherwise than the model. Absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_edit: Option<f64>,
    /// Whether each required question needs an answer.
    pub require_all_required: bool,
}

impl Default for AutoGold {
    /// Two people who agree on four fifths, with all required answers.
    fn default() -> Self {
        Self { min_agreement: 0.8, min_annotators: 2, max_edit: None, require_all_required: true }
    }
}

/// What training data consist of.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExportSpec {
    /// Fields that go in; absent: those in the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Vec<Ident>>,
    /// Questions whose answers are learnt; absent: those with the role `output`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<Ident>>,
    /// The field whose value keeps records together: those with the same value are never split between training and test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<Ident>,
}

/// How answers of an older version become answers of this one: one step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Migration {
    /// A question has another name.
    RenameQuestion {
        /// The version that brought it.
        since: Version,
        /// The old name.
        from: Ident,
        /// The new name.
        to: Ident,
    },
    /// Options have other values; several may become one.
    MapOptions {
        /// The version that brought it.
        since: Version,
        /// The question.
        question: Ident,
        /// New values by old ones.
        map: std::collections::BTreeMap<String, String>,
    },
    /// A scale of numbers becomes another one, linearly and rounded.
    MapScale {
        /// The version that brought it.
        since: Version,
        /// The question.
        question: Ident,
        /// Lowest and highest before.
        from: (i64, i64),
        /// Lowest and highest now.
        to: (i64, i64),
    },
    /// Options become yes or no.
    ChoiceToBoolean {
        /// The version that brought it.
        since: Version,
        /// The question.
        question: Ident,
        /// The options that mean yes.
        yes: Vec<String>,
    },
    /// A question that is new has this answer.
    SetDefault {
        /// The version that brought it.
        since: Version,
        /// The question.
        question: Ident,
        /// The answer, as JSON.
        value: Value,
    },
    /// A question is gone, and its answers with it.
    DropQuestion {
        /// The version that brought it.
        since: Version,
        /// The question.
        question: Ident,
    },
}

impl Migration {
    /// The version that brought the step: answers of older ones need it.
    pub fn since(&self) -> &Version {
        match self {
            Self::RenameQuestion { since, .. }
            | Self::MapOptions { since, .. }
            | Self::MapScale { since, .. }
            | Self::ChoiceToBoolean { since, .. }
            | Self::SetDefault { since, .. }
            | Self::DropQuestion { since, .. } => since,
        }
    }
}
