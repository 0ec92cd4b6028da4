//! From records to training data: the demo model answers a schema's questions, people review the answers, and what they say is
//! written for fine-tuning.
//!
//! `cargo run --release --features label-studio --example curate -- FOLDER [URL TOKEN]`
//!
//! With the URL and a token of a Label Studio server, mails go there for review; run it again when people are done. Without
//! one, FOLDER has `page.xml` and `tasks.json` to set up a project by hand, and its JSON export is read as FOLDER/`export.json`.
#![allow(clippy::print_stdout)]

mod demo_model;

use std::path::PathBuf;

use serde_json::Value;
use vllm_batch::LocalEngine;
use vllm_batch::curate::export::{ExportFormat, ExportOptions, Exporter};
use vllm_batch::curate::label_studio::{LabelConfigOptions, TaskOptions, harvest, label_config, task};
use vllm_batch::curate::{Record, SchemaRegistry};
use vllm_batch::pipeline::CurationPipeline;
use vllm_batch::pipeline::label_studio::{ExportFilter, ImportOptions, LabelStudio, ProjectSpec};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = PathBuf::from(arguments.first().map_or("curated", String::as_str));
    std::fs::create_dir_all(&folder)?;
    let registry = SchemaRegistry::builtin();
    let schema = registry.get("email_evaluation").ok_or("it is built in")?;
    let page = label_config(&schema, &LabelConfigOptions::default())?.xml;

    let engine = demo_model::load(|source| LocalEngine::builder(source).build())?;
    let pipeline = CurationPipeline::new(&schema, &engine).records("examples/data/mails.jsonl").folder(&folder);
    println!("{}", pipeline.run()?);

    let mut reviewed: Vec<Record> = Vec::new();
    if let [_, url, token] = arguments.as_slice() {
        let server = LabelStudio::builder(url, token).build()?;
        let project = server.ensure_project(&ProjectSpec::new(&schema, &page), &registry)?;
        let review = pipeline.import_into(&server, project.id, &ImportOptions::default())?;
        println!("{url}/projects/{}: {} new, {} there", project.id, review.import.imported, review.import.present);
        pipeline.harvest_from(&server, project.id, ExportFilter::Annotated, |task| reviewed.push(task.record))?;
    } else {
        let suggested: Vec<Record> = pipeline.suggested()?.collect::<Result<_, _>>()?;
        let tasks = suggested.iter().map(|record| task(&schema, record, &TaskOptions::default()));
        std::fs::write(folder.join("page.xml"), &page)?;
        std::fs::write(folder.join("tasks.json"), Value::from(tasks.collect::<Result<Vec<_>, _>>()?).to_string())?;
        println!("page.xml and tasks.json in {} are for review", folder.display());
        if let Ok(export) = std::fs::read(folder.join("export.json")) {
            let tasks: Vec<Value> = serde_json::from_slice(&export)?;
            reviewed.extend(tasks.iter().map(|task| harvest(&schema, task).record));
        }
    }
    let file = std::fs::File::create(folder.join("train.jsonl"))?;
    let written = Exporter::new(&schema, ExportOptions::new(ExportFormat::OpenAiChat))?.write(&reviewed, file)?;
    println!("train.jsonl: {} rows of {} reviewed mails", written.num_rows, reviewed.len());
    Ok(())
}
