//! Names of tags, and of keys in a task's data.

use super::super::{Field, Ident, QuestionKind, TaskSchema};

/// Keys of a task's data that begin so are not fields.
pub(super) const RESERVED: &str = "vb_";

/// The record's name; also shown, so that each page has a tag that all questions can be about.
pub(super) const RECORD: &str = "vb_record";
/// What tells whether a task is there already.
pub(super) const KEY: &str = "vb_key";
/// The schema, as `id@version`.
pub(super) const SCHEMA: &str = "vb_schema";
/// The batch that the record is part of.
pub(super) const BATCH: &str = "vb_batch_id";
/// The record's name in that batch.
pub(super) const CUSTOM_ID: &str = "vb_custom_id";
/// Fields that the record has not got: they are there, but empty, since a configuration names them.
pub(super) const ABSENT: &str = "vb_absent";
/// Fields whose values did not leave the process.
pub(super) const WITHHELD: &str = "vb_withheld";

/// Names of the tags that show something.
#[derive(Debug)]
pub(super) struct Objects {
    prefix: String,
}

impl Objects {
    /// `src_`, unless a question has such a name: names are unique over all tags.
    pub(super) fn new(schema: &TaskSchema) -> Self {
        let mut prefix = "src_".to_owned();
        while schema.questions.iter().any(|question| question.id.starts_with(&prefix)) {
            prefix.push('_');
        }
        Self { prefix }
    }

    /// The tag that shows a field.
    pub(super) fn field(&self, id: &Ident) -> String {
        format!("{}{id}", self.prefix)
    }

    /// The tag that shows the record's name.
    pub(super) fn record(&self) -> String {
        format!("{}{RECORD}", self.prefix)
    }

    /// The tags that a question is about.
    pub(super) fn of(&self, kind: &QuestionKind) -> Vec<String> {
        match kind {
            QuestionKind::Preference { left, right, tie: false } => vec![self.field(left), self.field(right)],
            QuestionKind::Ranking { field } | QuestionKind::Span { field, .. } => vec![self.field(field)],
            _ => vec![self.record()],
        }
    }
}

/// The key of a field's value as people see it, where that is not the value itself.
pub(super) fn shown_key(field: &Field) -> String {
    format!("{RESERVED}show_{}", field.id)
}
