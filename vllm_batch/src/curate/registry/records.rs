//! Records of an older version become records of a newer one.

use std::collections::BTreeMap;

use semver::Version;
use serde::Serialize;

use super::super::{Agent, Answers, CompiledSchema, Ident, Record, SchemaRef, Suggestion, SuggestionSet};
use super::{MigrationReport, RegistryError, SchemaRegistry};

/// What became of many records' answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RecordsReport {
    /// How many records there were.
    pub num_records: usize,
    /// Those whose answers are not all as they were, and whose answers these are.
    pub migrated: Vec<RecordMigration>,
}

/// What became of the answers of one model or person to one record.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RecordMigration {
    /// The record's name.
    pub record: String,
    /// Who answered.
    pub agent: Agent,
    /// What became of the answers.
    pub report: MigrationReport,
}

impl RecordsReport {
    /// How many answers to each question were lost, by its name at that time.
    pub fn lost_by_question(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for lost in self.migrated.iter().flat_map(|one| &one.report.lost) {
            *counts.entry(lost.question.as_str()).or_default() += 1;
        }
        counts
    }

    /// How many records lost an answer.
    pub fn num_records_with_loss(&self) -> usize {
        let mut records: Vec<&str> =
            self.migrated.iter().filter(|one| !one.report.lost.is_empty()).map(|one| one.record.as_str()).collect();
        records.sort_unstable();
        records.dedup();
        records.len()
    }
}

impl SchemaRegistry {
    /// Makes the answers of records those of a newer version of their schema: what models said, with their scores, and what
    /// people said. A model's answers are of the version that their provenance names, else, as people's, of `from`.
    ///
    /// A provenance names the new version afterwards, and the old one among its repairs.
    ///
    /// # Errors
    /// There is no such schema, or it is older than `from`. Nothing is changed then.
    pub fn migrate_records(
        &self,
        records: &mut [Record],
        from: &Version,
        to: &SchemaRef,
    ) -> Result<RecordsReport, RegistryError> {
        let unknown = || RegistryError::UnknownSchema { schema: to.clone() };
        let schema = self.get_version(&to.id, &to.version).ok_or_else(unknown)?;
        if *from > to.version {
            return Err(RegistryError::Backwards { schema: to.clone(), from: from.clone() });
        }
        let mut report = RecordsReport { num_records: records.len(), migrated: Vec::new() };
        for record in records {
            migrate_record(&schema, record, from, &mut report);
        }
        Ok(report)
    }
}

fn migrate_record(schema: &CompiledSchema, record: &mut Record, from: &Version, total: &mut RecordsReport) {
    let mut keep = |agent: &Agent, report: MigrationReport| {
        if !report.is_empty() {
            total.migrated.push(RecordMigration { record: record.id.clone(), agent: agent.clone(), report });
        }
    };
    for set in &mut record.suggestions {
        let report = migrate_suggestions(schema, set, from);
        keep(&set.agent, report);
    }
    for response in &mut record.responses {
        let (answers, report) = schema.migrate(&response.answers, from);
        response.answers = answers;
        keep(&response.agent, report);
    }
}

fn migrate_suggestions(schema: &CompiledSchema, set: &mut SuggestionSet, from: &Version) -> MigrationReport {
    let target = schema.schema().reference();
    let named = set.provenance.schema.as_ref().filter(|named| named.id == target.id);
    let from = named.map_or(from, |named| &named.version).clone();
    if from >= target.version {
        return MigrationReport::default();
    }
    let answers: Answers = set.answers();
    let (moved, report) = schema.migrate_items(&answers, &from);
    // Of several answers to one question, the last one counts.
    let of = |id: &Ident| set.suggestions.iter().rev().find(|one| one.question == *id);
    let scores: Vec<_> = answers.iter().map(|(id, _)| of(id).map(|one| (one.score, one.score_kind))).collect();
    let suggestions = moved.into_iter().map(|item| {
        let mut suggestion = Suggestion::new(item.question, item.answer);
        if let Some((score, kind)) = item.origin.and_then(|at| scores[at]) {
            (suggestion.score, suggestion.score_kind) = (score, kind);
        }
        suggestion
    });
    set.suggestions = suggestions.collect();
    set.provenance.repairs.push(format!("migrated_from:{from}"));
    set.provenance.schema = Some(target);
    set.provenance.schema_sha256 = Some(schema.sha256().to_owned());
    report
}
