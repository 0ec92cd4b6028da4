//! What changed between two versions of a schema, and what that means for answers that are there.

use std::fmt;

use semver::{Prerelease, Version};
use serde::Serialize;

use super::super::TaskSchema;
use super::compare::compare;

/// Which part of a version must grow, after Semantic Versioning 2.0.0: what are answers is what users of a library's interface
/// are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bump {
    /// People see something else; answers mean the same.
    Patch,
    /// All answers that were right still are, and there may be new ones.
    Minor,
    /// Answers that were right may be wrong now, missing, or mean something else.
    Major,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// Where, as a JSON pointer (RFC 6901): in the new document, or in the old one for what is gone.
    pub path: String,
    /// What changed.
    pub kind: ChangeKind,
}

impl Change {
    /// Which part of the version must grow.
    pub fn bump(&self) -> Bump {
        self.kind.bump()
    }
}

/// What can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChangeKind {
    /// The schema has another name: it is another one.
    IdChanged,
    /// There is a new field that each record must have.
    RequiredFieldAdded,
    /// There is a new field that records may have.
    OptionalFieldAdded,
    /// A field is gone, or has another name.
    FieldRemoved,
    /// A field's values are of another type.
    FieldRetyped,
    /// There is a new question that must be answered.
    RequiredQuestionAdded,
    /// There is a new question that may be answered.
    OptionalQuestionAdded,
    /// A question is gone, or has another name.
    QuestionRemoved,
    /// A question's answers are of another type.
    QuestionRetyped,
    /// A question has another role.
    RoleChanged,
    /// A question is asked under other conditions.
    ConditionChanged,
    /// What could be absent must be there.
    NowRequired,
    /// What had to be there can be absent.
    NowOptional,
    /// There is a new option, label or term.
    OptionAdded,
    /// An option, label or term is gone.
    OptionRemoved,
    /// The same place on a scale means something else.
    ScaleChanged,
    /// Answers that were right are not any more.
    BoundsNarrowed,
    /// Answers are right that were not.
    BoundsWidened,
    /// A JSON Schema says something else.
    JsonSchemaChanged,
    /// What stands for an absent value is another.
    DefaultChanged,
    /// How much a question counts, or at which level agreement is computed.
    MeasureChanged,
    /// What is done with what is about a person.
    PiiChanged,
    /// What the model reads, or how.
    PromptChanged,
    /// What makes a record gold.
    GoldChanged,
    /// What training data consist of.
    ExportChanged,
    /// Steps from older versions.
    MigrationsChanged,
    /// What people read.
    TextChanged,
    /// How the review page looks.
    RenderingChanged,
    /// What is the same stands in another order.
    Reordered,
    /// A key without a meaning.
    ExtraChanged,
}

impl ChangeKind {
    /// Which part of the version must grow.
    pub fn bump(self) -> Bump {
        match self {
            Self::IdChanged
            | Self::RequiredFieldAdded
            | Self::FieldRemoved
            | Self::FieldRetyped
            | Self::RequiredQuestionAdded
            | Self::QuestionRemoved
            | Self::QuestionRetyped
            | Self::RoleChanged
            | Self::ConditionChanged
            | Self::NowRequired
            | Self::OptionRemoved
            | Self::ScaleChanged
            | Self::BoundsNarrowed
            | Self::JsonSchemaChanged => Bump::Major,
            Self::OptionalFieldAdded
            | Self::OptionalQuestionAdded
            | Self::NowOptional
            | Self::OptionAdded
            | Self::BoundsWidened
            | Self::DefaultChanged
            | Self::MeasureChanged
            | Self::PiiChanged
            | Self::PromptChanged
            | Self::GoldChanged
            | Self::ExportChanged => Bump::Minor,
            Self::MigrationsChanged
            | Self::TextChanged
            | Self::RenderingChanged
            | Self::Reordered
            | Self::ExtraChanged => Bump::Patch,
        }
    }
}

/// All differences between two versions of a schema.
///
/// # Example
/// ```
/// use vllm_batch::curate::{Bump, Question, QuestionKind, SchemaDiff, TaskSchema, TextQuestion, Version};
///
/// let old = TaskSchema::new("mail".parse()?, Version::new(1, 4, 0));
/// let notes = Question::new("notes".parse()?, QuestionKind::Text(TextQuestion::default()));
/// let new = old.clone().with_question(notes);
///
/// let diff = SchemaDiff::between(&old, &new);
/// assert_eq!(diff.changes()[0].path, "/questions/0");
/// assert_eq!(diff.bump(), Some(Bump::Major));
/// assert_eq!(diff.next_version(&old.version), Version::new(2, 0, 0));
/// # Ok::<(), vllm_batch::curate::InvalidIdent>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SchemaDiff {
    changes: Vec<Change>,
}

impl SchemaDiff {
    /// Compares an older document with a newer one. Their versions are not compared.
    pub fn between(old: &TaskSchema, new: &TaskSchema) -> Self {
        Self { changes: compare(old, new) }
    }

    /// The differences: first what is there, in the order of the new document, then what is gone, part by part.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Which part of the version must grow; `None` if the documents say the same.
    pub fn bump(&self) -> Option<Bump> {
        self.changes.iter().map(Change::bump).max()
    }

    /// The least version that the newer document can have. Before 1.0.0 the minor version grows where otherwise the major one
    /// would, and the patch for the rest, as in Cargo.
    pub fn next_version(&self, old: &Version) -> Version {
        let Version { major, minor, patch, .. } = *old;
        match (self.bump(), major) {
            (None, _) => old.clone(),
            (Some(Bump::Major), 1..) => Version::new(major + 1, 0, 0),
            (Some(Bump::Major), 0) | (Some(Bump::Minor), 1..) => Version::new(major, minor + 1, 0),
            (Some(Bump::Minor), 0) | (Some(Bump::Patch), _) => Version::new(major, minor, patch + 1),
        }
    }

    /// Whether the newer document may have the version `new` when the older one has `old`. A pre-release may, if what it comes
    /// before might.
    pub fn allows(&self, old: &Version, new: &Version) -> bool {
        let release = Version { pre: Prerelease::EMPTY, ..new.clone() };
        new > old && release >= self.next_version(old)
    }
}

impl fmt::Display for SchemaDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, change) in self.changes.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{:?}: {:?} at {}", change.bump(), change.kind, change.path)?;
        }
        Ok(())
    }
}
