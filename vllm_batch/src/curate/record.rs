//! Records, and what models and people said about them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Answers, Ident, SchemaRef};
use crate::output::Usage;

/// One thing that questions are asked about.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Record {
    /// Its name: unique among the records of a task.
    pub id: String,
    /// Values by the names of the schema's fields.
    pub fields: Map<String, Value>,
    /// What else is known about it; not shown, and never in a prompt.
    pub metadata: Map<String, Value>,
    /// What models said, the latest last.
    pub suggestions: Vec<SuggestionSet>,
    /// What people said.
    pub responses: Vec<Response>,
    /// Whether a person said that it is gold; absent: nobody said anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gold: Option<bool>,
}

impl Record {
    /// A record of its name and fields.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::curate::Record;
    ///
    /// let record = Record::new("mail-1").with_field("subject", "Hello").with_field("words", 12);
    /// assert_eq!(record.fields["words"], 12);
    /// ```
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), ..Self::default() }
    }

    /// Adds the value of a field.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.insert(field.into(), value.into());
        self
    }

    /// Each model's latest answers, in the order in which they came.
    pub(super) fn latest_suggestions(&self) -> impl Iterator<Item = &SuggestionSet> {
        let sets = self.suggestions.iter().enumerate();
        sets.filter(|(at, set)| self.suggestions[at + 1..].iter().all(|later| later.agent != set.agent))
            .map(|(_, set)| set)
    }
}

/// What one model said about one record.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SuggestionSet {
    /// Who said it.
    pub agent: Agent,
    /// What it said, question by question.
    pub suggestions: Vec<Suggestion>,
    /// How it came about.
    pub provenance: Provenance,
}

impl SuggestionSet {
    /// What a model said, of its parts.
    pub fn new(agent: Agent, suggestions: Vec<Suggestion>, provenance: Provenance) -> Self {
        Self { agent, suggestions, provenance }
    }

    /// The answers alone.
    pub fn answers(&self) -> Answers {
        self.suggestions.iter().map(|one| (one.question.clone(), one.answer.clone())).collect()
    }
}

/// A model's answer to one question.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Suggestion {
    /// The question.
    pub question: Ident,
    /// The answer.
    pub answer: super::Answer,
    /// How sure the model is, from 0 to 1, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Where the score comes from.
    pub score_kind: ScoreKind,
}

impl Suggestion {
    /// An answer without a score.
    pub fn new(question: Ident, answer: super::Answer) -> Self {
        Self { question, answer, score: None, score_kind: ScoreKind::None }
    }

    /// Says how sure the model is, and how that is known.
    #[must_use]
    pub fn with_score(mut self, score: f64, kind: ScoreKind) -> Self {
        self.score = Some(score);
        self.score_kind = kind;
        self
    }
}

/// Where a score comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScoreKind {
    /// There is none.
    None,
    /// The probabilities of the answer's tokens.
    Logprob,
    /// The share of several answers that say the same.
    Vote,
    /// The model said a number.
    SelfReport,
}

/// Who answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Agent {
    /// Their name: of a model, or of a person's account.
    pub name: String,
    /// Whether it is a model or a person.
    pub kind: AgentKind,
}

impl Agent {
    /// A model.
    pub fn model(name: impl Into<String>) -> Self {
        Self { name: name.into(), kind: AgentKind::Model }
    }

    /// A person.
    pub fn human(name: impl Into<String>) -> Self {
        Self { name: name.into(), kind: AgentKind::Human }
    }
}

/// A model or a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentKind {
    /// A model.
    Model,
    /// A person.
    Human,
}

/// What one person said about one record.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Response {
    /// Who said it.
    pub agent: Agent,
    /// What they said.
    pub answers: Answers,
    /// Whether they are done.
    pub status: ResponseStatus,
    /// Whether they saw a model's answers before they gave their own; `None` if that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefilled: Option<bool>,
    /// Seconds that it took them, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead_time: Option<f64>,
}

impl Response {
    /// A person's answers that are handed in.
    pub fn submitted(name: impl Into<String>, answers: Answers) -> Self {
        let status = ResponseStatus::Submitted;
        Self { agent: Agent::human(name), answers, status, prefilled: None, lead_time: None }
    }
}

/// Whether a person is done with a record. Argilla's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseStatus {
    /// Not yet.
    Draft,
    /// Yes.
    Submitted,
    /// They did not want to answer.
    Discarded,
}

/// How a model's answers came about: enough to make them again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Provenance {
    /// The model.
    pub model: String,
    /// Its weights, tokenizer and arithmetic, as the engine names them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_revision: Option<String>,
    /// The schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaRef>,
    /// SHA-256 of the schema's canonical JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_sha256: Option<String>,
    /// SHA-256 of the messages that the model read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_sha256: Option<String>,
    /// The sampling parameters, as JSON.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub sampling: Value,
    /// The batch that it was part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<String>,
    /// Its name in that batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_id: Option<String>,
    /// Tokens that it cost.
    #[serde(skip)]
    pub usage: Usage,
    /// Why the answer ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// What was mended in the model's text before it could be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<String>,
}
