//! Writes training data in every format, for each schema that comes with the library, from made-up records.
//!
//! `cargo run --release --example training_data -- FOLDER`

#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};

use vllm_batch::curate::SchemaRegistry;
use vllm_batch::curate::export::{
    DuplicateOptions, ExportFormat, ExportOptions, Exporter, FolderOptions, Splits, validate_dataset,
};

mod made_up_records;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder: PathBuf = std::env::args().nth(1).unwrap_or_else(|| "training_data".to_owned()).into();
    let mut options = FolderOptions::default();
    options.splits = Some(Splits::new(0.1, 0.1, "made up")?);
    options.duplicates = Some(DuplicateOptions::default());
    options.languages = vec!["en".to_owned()];

    for schema in SchemaRegistry::builtin().iter() {
        let records = made_up_records::records(schema, 120);
        for format in ExportFormat::ALL {
            let target = folder.join(format.name()).join(schema.schema().id.as_str());
            let written =
                Exporter::new(schema, ExportOptions::new(format))?.write_folder(&records, &target, &options)?;
            let mut num_problems = 0;
            for file in &written.files {
                // A few rows for tests are enough here, and fewer than OpenAI takes for training.
                let problems = validate_dataset(&file.path, format)?.problems;
                num_problems += problems.iter().filter(|problem| problem.code != "too_few_rows").count();
            }
            println!("{}: {} rows, {num_problems} problems", target.display(), written.report.num_rows);
        }
    }
    parquet(&folder, options)
}

/// The same rows as Parquet, of one format.
fn parquet(folder: &Path, mut options: FolderOptions) -> Result<(), Box<dyn std::error::Error>> {
    options.parquet = true;
    for schema in SchemaRegistry::builtin().iter() {
        let records = made_up_records::records(schema, 120);
        for format in
            [ExportFormat::TrlPreference, ExportFormat::TrlKto, ExportFormat::Axolotl, ExportFormat::ShareGptPreference]
        {
            let target = folder.join("parquet").join(format.name()).join(schema.schema().id.as_str());
            Exporter::new(schema, ExportOptions::new(format))?.write_folder(&records, &target, &options)?;
        }
    }
    Ok(())
}
