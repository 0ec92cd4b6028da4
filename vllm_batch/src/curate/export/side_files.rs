//! What readers want beside the rows.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::folder::DataFile;
use super::{ExportFormat, ExportedFolder, Exporter, FolderOptions, Split, argilla, card};
use crate::curate::agreement::AgreementReport;

/// Names of files with their content.
pub(super) fn side_files(
    exporter: &Exporter<'_>,
    options: &FolderOptions,
    written: &ExportedFolder,
    agreement: Option<&AgreementReport>,
) -> Vec<(&'static str, String)> {
    let mut files = vec![("README.md", card::card(exporter, options, written, agreement))];
    match exporter.options().format {
        ExportFormat::Alpaca
        | ExportFormat::AlpacaPreference
        | ExportFormat::ShareGpt
        | ExportFormat::ShareGptPreference => {
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
    let entry = |file: &DataFile| (format!("{id}_{}", file.split), dataset_info(exporter.options().format, file));
    Value::Object(written.files.iter().map(entry).collect())
}

fn dataset_info(format: ExportFormat, file: &DataFile) -> Value {
    let is_chat = matches!(format, ExportFormat::ShareGpt | ExportFormat::ShareGptPreference);
    let mut info = json!({"file_name": data_path(file)});
    if is_chat {
        info["formatting"] = json!("sharegpt");
        info["columns"] = json!({"messages": "conversations", "system": "system"});
        info["tags"] = json!({"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"});
    } else {
        info["columns"] = json!({"prompt": "instruction", "query": "input"});
    }
    if format.is_preference() {
        info["ranking"] = json!(true);
        for key in ["chosen", "rejected"] {
            info["columns"][key] = json!(key);
        }
    } else if !is_chat {
        info["columns"]["response"] = json!("output");
    }
    info
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
pub(super) fn data_path(file: &DataFile) -> String {
    let name = file.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    format!("data/{name}")
}
