//! What does a dataset say about itself?

use std::fmt::Write as _;

use serde_json::Value;

use super::side_files::data_path;
use super::{AnswerSource, ExportFormat, ExportedFolder, Exporter, FolderOptions};
use crate::curate::agreement::{AgreementReport, Compared, Estimate, Measure, QuestionAgreement, Shown, Undefined};
use crate::curate::{Pii, TaskSchema};

/// The card, as Hugging Face has it.
pub(super) fn card(
    exporter: &Exporter<'_>,
    options: &FolderOptions,
    written: &ExportedFolder,
    agreement: Option<&AgreementReport>,
) -> String {
    let schema = exporter.full_schema();
    let name = options.name.as_deref().unwrap_or(schema.name.as_str());
    let mut card = front_matter(exporter, options, written, name);
    let _ = write!(card, "\n# {}\n\n", one_line(name));
    if let Some(description) = &schema.description {
        let _ = write!(card, "{}\n\n", description.as_str());
    }
    about(&mut card, exporter);
    fields(&mut card, exporter, schema);
    questions(&mut card, exporter.schema().schema());
    if let Some(report) = agreement {
        agreement_of(&mut card, exporter, written, report);
    }
    rows(&mut card, written);
    if !options.notes.is_empty() {
        let _ = write!(card, "\n{}\n", options.notes.trim_end());
    }
    card
}

fn front_matter(exporter: &Exporter<'_>, options: &FolderOptions, written: &ExportedFolder, name: &str) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let mut yaml = String::from("---\n");
    let _ = writeln!(yaml, "pretty_name: {}", quoted(name));
    let _ = writeln!(yaml, "license: {}", quoted(options.license.as_deref().unwrap_or("other")));
    if !options.languages.is_empty() {
        let languages: Vec<_> = options.languages.iter().map(|language| quoted(language)).collect();
        let _ = writeln!(yaml, "language: [{}]", languages.join(", "));
    }
    yaml.push_str("task_categories: [text-generation]\n");
    yaml.push_str("annotations_creators: [expert-generated, machine-generated]\n");
    let _ = writeln!(yaml, "size_categories: [\"{}\"]", size_category(written.report.num_rows));
    if exporter.options().format != ExportFormat::IclText && !written.files.is_empty() {
        yaml.push_str("configs:\n- config_name: default\n  data_files:\n");
        for file in &written.files {
            let _ = writeln!(yaml, "  - {{split: {}, path: {}}}", file.split, data_path(file));
        }
    }
    yaml.push_str("---\n");
    yaml
}

/// The classes of Hugging Face's dataset cards.
fn size_category(num_rows: usize) -> &'static str {
    match num_rows {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        1_000_000..10_000_000 => "1M<n<10M",
        _ => "n>10M",
    }
}

fn about(card: &mut String, exporter: &Exporter<'_>) {
    let (options, full) = (exporter.options(), exporter.full_schema());
    let answers = match options.answers {
        AnswerSource::Gold => "the settled answers of records that are gold",
        AnswerSource::SingleResponse => "what the one person said who answered the record",
    };
    let _ = write!(
        card,
        "| | |\n|---|---|\n| Format | `{}` |\n| Schema | `{}` (SHA-256 `{}`) |\n| Schema of what is learnt | SHA-256 `{}` |\n\
         | Answers | {answers} |\n| Thinking aloud | {} |\n| Examples in each prompt | {} |\n",
        options.format,
        full.reference(),
        exporter.full_sha256(),
        exporter.schema().sha256(),
        if options.reasoning { "is learnt" } else { "is left out" },
        options.examples.len(),
    );
    let rule = full.gold.auto.as_ref().map_or_else(
        || "by a person's word".to_owned(),
        |rule| {
            let (people, agreement) = (rule.min_annotators, rule.min_agreement);
            format!("by a person's word, or where at least {people} people agree on {agreement} of the questions")
        },
    );
    let _ = writeln!(card, "| Gold | {rule} |");
}

fn fields(card: &mut String, exporter: &Exporter<'_>, full: &TaskSchema) {
    card.push_str("\n## Fields\n\n| name | title | type | here |\n|---|---|---|---|\n");
    for field in &full.fields {
        let is_input = exporter.schema().schema().field(&field.id).is_some_and(|field| field.in_prompt);
        let here = match field.pii {
            _ if !is_input => "no",
            Pii::Mask => "masked",
            _ => "yes",
        };
        let kind = serde_json::to_value(&field.kind).ok();
        let kind = kind.as_ref().and_then(|kind| kind["type"].as_str()).unwrap_or_default();
        let _ = writeln!(card, "| `{}` | {} | {kind} | {here} |", field.id, cell(field.title.as_str()));
    }
}

fn questions(card: &mut String, learnt: &TaskSchema) {
    card.push_str("\n## Questions\n\n| name | title | type | options |\n|---|---|---|---|\n");
    for question in learnt.model_questions() {
        let options: Vec<_> = question.kind.options().iter().map(|option| cell(&option.value)).collect();
        let (id, title) = (&question.id, cell(question.title.as_str()));
        let _ = writeln!(card, "| `{id}` | {title} | {} | {} |", question.kind.name(), options.join(", "));
    }
}

/// How much people agree on what is learnt.
fn agreement_of(card: &mut String, exporter: &Exporter<'_>, written: &ExportedFolder, report: &AgreementReport) {
    let Some(all) = report.group(&Compared::Humans, Shown::All) else { return };
    let _ = write!(
        card,
        "\n## Agreement\n\nOf people with each other, in all records that two or more answered, also those that are in no \
         file. Alpha is Krippendorff's: 1 is complete agreement, 0 what comes by chance. In brackets: where {:.0} % of \
         resampled data lie.\n\n\
         | question | records | answered differently | alike | measure | alpha |\n|---|---|---|---|---|---|\n",
        100.0 * report.confidence,
    );
    let learnt = exporter.schema().schema();
    for one in all.questions.iter().filter(|one| learnt.question(&one.question).is_some()) {
        let conflicts = written.report.conflicts.get(&one.question).copied().unwrap_or_default();
        let _ = writeln!(card, "{}", agreement_row(one, conflicts));
    }
    let overall = |shown, name: &str| {
        let overall = report.group(&Compared::Humans, shown).and_then(|group| group.overall);
        overall.map(|overall| format!("{name} {overall:.2}"))
    };
    let shown = [(Shown::All, "all"), (Shown::Blind, "without a model's answers"), (Shown::Prefilled, "with them")];
    let overall: Vec<_> = shown.into_iter().filter_map(|(shown, name)| overall(shown, name)).collect();
    if !overall.is_empty() {
        let _ = writeln!(card, "\nOver all questions of the schema, by their weights: {}.", overall.join(", "));
    }
}

fn agreement_row(one: &QuestionAgreement, conflicts: usize) -> String {
    let shown = |estimate: &Result<Estimate, Undefined>| match estimate {
        Ok(Estimate { value, interval: Some(interval) }) => {
            format!("{value:.2} [{:.2}, {:.2}]", interval.low, interval.high)
        }
        Ok(Estimate { value, interval: None }) => format!("{value:.2}"),
        Err(undefined) => format!("none: {undefined}"),
    };
    let measure = match one.measure {
        Measure::PercentAgreement => "equal answers",
        Measure::F1 => "F1",
        Measure::LeafAgreement => "equal leaves",
        Measure::Concordance => "pairs in the same order",
    };
    let (id, units, alike, alpha) = (&one.question, one.num_units, shown(&one.similarity), shown(&one.alpha));
    format!("| `{id}` | {units} | {conflicts} | {alike} | {measure} | {alpha} |")
}

fn rows(card: &mut String, written: &ExportedFolder) {
    card.push_str("\n## Files\n\n| file | rows | bytes | SHA-256 |\n|---|---|---|---|\n");
    for file in &written.files {
        let _ =
            writeln!(card, "| `{}` | {} | {} | `{}` |", data_path(file), file.num_rows, file.num_bytes, file.sha256);
    }
    if written.report.skipped.is_empty() {
        return;
    }
    card.push_str("\nRecords that are not in them (`skipped.jsonl` has each):\n\n| reason | records |\n|---|---|\n");
    for (code, count) in &written.report.skipped {
        let _ = writeln!(card, "| `{code}` | {count} |");
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    one_line(text).replace('|', "\\|")
}
