use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::batch::BatchLine;
use crate::curate::{AnswerForm, SchemaRegistry, ScoreKind};
use crate::engine::EngineSpec;
use crate::error::RequestError;
use crate::testing::ScriptedEngine;

fn answer() -> String {
    json!({
        "tone": "formal", "clarity": "mud",
    })
    .to_string()
}

#[test]
fn a_line_of_the_batch_file_is_the_schema_s_request() {
    let spec = EngineSpec::new("m", "r");
    let mut compared = 0;
    for schema in SchemaRegistry::builtin().iter() {
        let mut record = Record::new("r-1");
        for field in schema.schema().fields.iter().filter(|field| field.required) {
            record = record.with_field(field.id.as_str(), "text");
        }
        let options = RequestOptions::default();
        let varied =
            options.clone().with_logprobs(true).with_n(3).with_temperature(0.7).with_seed(5).with_max_tokens(9);
        for options in [options.clone(), varied, options.with_form(AnswerForm::Template)] {
            let Ok(request) = schema.request(&record, &options) else { continue };
            let line = serde_json::to_vec(&batch_line(&request, "m")).unwrap();
            assert_eq!(BatchLine::parse(&line, 1, &spec).unwrap().requests, [request]);
            compared += 1;
        }
    }
    assert!(compared >= 9, "{compared}");
}

/// A folder with records, and the lines of a file in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(records: &[Value]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines: Vec<_> = records.iter().map(Value::to_string).collect();
        fs::write(folder.path().join("records.jsonl"), lines.join("\n")).unwrap();
        Self(folder)
    }

    fn run(&self, engine: &ScriptedEngine) -> CurationReport {
        self.try_run(engine).unwrap()
    }

    fn try_run(&self, engine: &ScriptedEngine) -> Result<CurationReport> {
        let schema = SchemaRegistry::builtin().get("email_evaluation").unwrap();
        let pipeline = CurationPipeline::new(&schema, engine).records(self.0.path().join("records.jsonl"));
        let pipeline = pipeline.folder(self.0.path()).batch_id("b1");
        let report = pipeline.run()?;
        assert_eq!(pipeline.suggested()?.count(), report.suggested);
        Ok(report)
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.0.path().join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn mail(id: &str) -> Value {
    json!({"id": id, "fields": {"from": "ann", "to": "bob", "subject": format!("Hello {id}"), "email_body": "Please reply."}})
}

#[test]
fn every_record_has_suggestions_or_a_reason() {
    let folder = Folder::new(&[mail("a"), json!({"id": "b"}), mail("refused"), mail("mumbles"), mail("a"), mail("c")]);
    let script = |request: &crate::Request| match request.request_id.as_str() {
        "refused" => Err(RequestError::invalid("messages", "too rude")),
        "mumbles" => Ok("hm".to_owned()),
        _ => Ok(answer()),
    };
    // Alike requests run once; the script tells them apart by name.
    let engine = ScriptedEngine::new(move |request| script(request));
    let report = folder.run(&engine);
    let lines = folder.lines("suggestions.jsonl");
    let ids: Vec<_> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    let rejected = folder.lines("rejected.jsonl");
    let of = |stage: &str| rejected.iter().filter(|line| line["stage"] == stage).count();
    assert_eq!((report.records, of("read")), (6, 2));
    assert_eq!((report.suggested, report.rejected), (ids.len(), of("read") + of("model")));
    assert_eq!(report.unreadable_answers, of("answer"));
    let first = &lines[0]["suggestions"][0];
    assert_eq!(first["provenance"]["batch_id"], "b1");
    assert_eq!(first["provenance"]["model_revision"], "scripted-1");
    let tone = first["suggestions"].as_array().unwrap().iter().find(|one| one["question"] == "tone").unwrap();
    assert_eq!((&tone["answer"], &tone["score"]), (&json!("formal"), &json!(1.0)));
    assert_eq!(tone["score_kind"], json!(ScoreKind::Logprob));
}

#[test]
fn a_second_run_costs_nothing_and_says_the_same() {
    let folder = Folder::new(&[mail("a"), mail("b"), json!([])]);
    let engine = ScriptedEngine::new(|_| Ok(answer()));
    let first = folder.run(&engine);
    let (suggestions, rejected, asked) =
        (folder.lines("suggestions.jsonl"), folder.lines("rejected.jsonl"), engine.stats().submitted);
    let second = folder.run(&engine);
    assert_eq!((second.suggested, second.rejected), (first.suggested, first.rejected));
    assert_eq!(folder.lines("suggestions.jsonl"), suggestions);
    assert_eq!(folder.lines("rejected.jsonl"), rejected);
    assert_eq!(engine.stats().submitted, asked);
}

#[test]
fn what_stops_it_is_typed_and_named() {
    let schema = SchemaRegistry::builtin().get("email_evaluation").unwrap();
    let engine = ScriptedEngine::echo();
    let pipeline = || CurationPipeline::new(&schema, &engine);
    assert_eq!(pipeline().run().unwrap_err().code(), "missing_option");
    let nowhere = Path::new("/nowhere/at/all");
    assert_eq!(pipeline().folder(nowhere).records(nowhere).run().unwrap_err().code(), "curation_io");
    let folder = Folder::new(&[json!({"id": "a"})]);
    let report = folder.run(&engine);
    assert_eq!((report.records, report.rejected, report.batch), (1, 1, None));
    let folder = Folder::new(&(0..40).map(|at| mail(&format!("{at}"))).collect::<Vec<_>>());
    let dead = ScriptedEngine::new(|_| Ok(answer())).dying_after(0);
    assert!(matches!(folder.try_run(&dead).unwrap_err(), CurationError::Run(_)));
    assert_eq!(folder.run(&ScriptedEngine::new(|_| Ok(answer()))).suggested, 40);
}
