//! What readers want beside the rows.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::folder::DataFile;
use super::{AnswerSource, ExportFormat, ExportedFolder, Exporter, FolderOptions, Split, argilla};
use crate::curate::{Pii, TaskSchema};

/// Names of files with their content.
pub(super) fn side_files(
    exporter: &Exporter<'_>,
    options: &FolderOptions,
    written: &ExportedFolder,
) -> Vec<(&'static str, String)> {
    let mut files = vec![("README.md", card(exporter, options, written))];
    match exporter.options().format {
        ExportFormat::Alpaca | ExportFormat::ShareGpt => {
            let info = llama_factory(exporter, written);
            files.push(("dataset_info.json", format!("{info:#}\n")));
        }
        ExportFormat::Axolotl => files.push(("axolotl.yml", axolotl(written))),
        ExportFormat::Argilla => {
            let settings = argilla::settings(exporter.training());
            files.push(("settings.json", format!("{settings:#}\n")));
        }
        _ => {}
    }
    files
}

/// The files as LLaMA-Factory's `dataset_info.json` has them; the folder is its `dataset_dir`.
fn llama_factory(exporter: &Exporter<'_>, written: &ExportedFolder) -> Value {
    let id = &exporter.schema().schema().id;
    let entry = |file: &DataFile| {
        let name = format!("{id}_{}", file.split);
        let path = data_path(file);
        let entry = match exporter.options().format {
            ExportFormat::ShareGpt => json!({
                "file_name": path,
                "formatting": "sharegpt",
                "columns": {"messages": "conversations", "system": "system"},
                "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
            }),
            _ => json!({
                "file_name": path,
                "columns": {"prompt": "instruction", "query": "input", "response": "output"},
            }),
        };
        (name, entry)
    };
    Value::Object(written.files.iter().map(entry).collect())
}

fn axolotl(written: &ExportedFolder) -> String {
    let mut yaml = String::new();
    for (key, is_wanted) in [("datasets", Split::Train), ("test_datasets", Split::Validation)] {
        for file in written.files.iter().filter(|file| file.split == is_wanted) {
            let _ = write!(
                yaml,
                "{key}:\n  - path: {path}\n    ds_type: {kind}\n    split: train\n    type: chat_template\n    \
                 field_messages: messages\n    message_field_training: train\n    roles_to_train: [\"assistant\"]\n",
                path = data_path(file),
                kind = if file.path.extension().is_some_and(|end| end == "parquet") { "parquet" } else { "json" },
            );
        }
    }
    yaml
}

/// Where a file is in the folder.
fn data_path(file: &DataFile) -> String {
    let name = file.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    format!("data/{name}")
}

/// The card, as Hugging Face has it.
fn card(exporter: &Exporter<'_>, options: &FolderOptions, written: &ExportedFolder) -> String {
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
