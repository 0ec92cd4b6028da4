//! What is a good answer?
//!
//! One [`TaskSchema`] says what a person or a model is shown ([`Field`]s), and what is asked ([`Question`]s). From it follow the
//! prompt, the format that answers are held to, what is checked, the review page, agreement, and training data.
//!
//! Names are those of Argilla and Label Studio: records have fields, questions have suggestions (by models) and responses (by
//! people).

pub mod agreement;
mod answer;
#[cfg(test)]
pub(crate) mod arbitrary;
mod builtin;
mod check;
mod compile;
mod confidence;
mod decode;
mod diagnostic;
pub(crate) mod durable;
mod embed;
pub mod export;
mod field;
mod gold;
mod hash;
mod ident;
pub mod label_studio;
mod length;
mod parse;
mod pattern;
mod prompt;
mod question;
mod read;
mod record;
mod record_json;
mod registry;
mod schema;
mod select;
mod snapshot;
mod text;

pub use answer::{Answer, Answers, LabelSpan, Preference};
pub use check::{AnswerError, AnswerErrorKind, FieldError, FieldErrorKind};
pub use compile::CompiledSchema;
pub use confidence::{Suggested, vote};
pub use diagnostic::{Diagnostic, InvalidSchema, Severity};
pub use field::{Display, Field, FieldKind, Pii, TextFormat};
pub use gold::{GoldDecision, GoldReason, mark_gold};
pub use ident::{Ident, InvalidIdent};
pub use parse::{Parsed, Repair, RepairKind};
pub use prompt::{AnswerForm, Example, PromptError, RecordPrompt, RequestOptions};
pub use question::{
    Condition, DateGranularity, Level, NumberQuestion, Question, QuestionKind, QuestionOption, Role as QuestionRole,
    Scale, TaxonomyNode, TextQuestion,
};
pub use read::{OptionValues, ReadSchema, SchemaReader};
pub use record::{
    Agent, AgentKind, Provenance, Record, Response, ResponseStatus, ScoreKind, Suggestion, SuggestionSet,
};
pub use record_json::RecordError;
#[cfg(feature = "jobs")]
pub(crate) use record_json::{ResponseJson, SetJson};
pub use registry::{
    Bump, Change, ChangeKind, ChangedAnswer, LossReason, LostAnswer, MigrationReport, RecordMigration, RecordsReport,
    RegistryError, SchemaDiff, SchemaFile, SchemaFolder, SchemaRegistry,
};
pub use schema::{
    AutoGold, ExportSpec, GoldPolicy, InvalidSchemaRef, Layout, Migration, PromptSpec, Rendering, SchemaRef, TaskSchema,
};
#[cfg(feature = "jobs")]
pub(crate) use select::lot;
pub use select::{Selected, Strategy, select};
pub use semver::{Version, VersionReq};
pub use snapshot::{GoldRow, GoldSnapshot, SnapshotError};
pub use text::LocalizedText;
