//! A whole pipeline that is killed again and again loses nothing and does nothing twice.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use vllm_batch::curate::label_studio::dedup_key;
use vllm_batch::curate::{Record, SchemaRegistry};
use vllm_batch::pipeline::CurationPipeline;
use vllm_batch::pipeline::label_studio::{ImportOptions, LabelStudio};
use vllm_batch::testing::ScriptedEngine;

use crate::fake::{Fake, Fault};

const RECORDS: usize = 1200;

fn record(at: usize) -> Record {
    Record::new(format!("cv-{at}")).with_field("resume_text", format!("Ann number {at}, with {at} years of Rust"))
}

fn write_records(folder: &Path) {
    let mut lines: Vec<_> = (0..RECORDS).map(|at| serde_json::to_string(&record(at)).unwrap()).collect();
    lines.insert(7, "{\"id\": \"bad\"}".to_owned());
    std::fs::write(folder.join("records.jsonl"), lines.join("\n")).unwrap();
}

/// All stages, in a folder, against a server.
fn run(folder: &Path, url: &str, on_progress: impl Fn(usize)) {
    let schema = SchemaRegistry::builtin().get("cv_parsing").unwrap();
    let engine = ScriptedEngine::new(|_| Ok(r#"{"years_experience": 8, "full_name": "Ann"}"#.to_owned()));
    let pipeline = CurationPipeline::new(&schema, &engine)
        .records(folder.join("records.jsonl"))
        .folder(folder)
        .progress_interval(Duration::ZERO)
        .on_progress(|progress| on_progress(progress.completed));
    let report = pipeline.run().unwrap();
    assert_eq!((report.records, report.suggested, report.rejected), (RECORDS + 1, RECORDS, 1));
    let server = LabelStudio::builder(url, "0123").retry_base(Duration::ZERO).build().unwrap();
    let review = pipeline.import_into(&server, 1, &ImportOptions::default().with_max_tasks(50)).unwrap();
    assert_eq!((review.import.imported + review.import.present, review.rejected.len()), (RECORDS, 0));
}

/// What the other test starts, as a process of its own.
#[test]
#[ignore = "is started by the test that kills it"]
fn one_process() {
    let read = |name: &str| std::env::var(name).unwrap();
    run(Path::new(&read("PIPELINE_FOLDER")), &read("PIPELINE_SERVER"), |done| {
        let _ = writeln!(std::io::stderr(), "done {done}");
    });
}

fn start(folder: &Path, url: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "pipeline::one_process", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("PIPELINE_FOLDER", folder).env("PIPELINE_SERVER", url);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn kill(process: u32) -> bool {
    Command::new("kill").args(["-KILL", &process.to_string()]).status().unwrap().success()
}

fn lines(folder: &Path, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
#[cfg(unix)]
fn killed_at_random_points_each_record_is_there_once() {
    const KILLS: usize = 24;
    // Of which request to the server the process dies, before it is done or after; and of which process.
    let (process, deadly) = (Arc::new(AtomicU32::new(u32::MAX)), Arc::new(AtomicUsize::new(usize::MAX)));
    let seen = Arc::new(Mutex::new(0_usize));
    let (victim, number) = (Arc::clone(&process), Arc::clone(&deadly));
    let fake = Fake::start(move |_, _| {
        let mut seen = seen.lock().unwrap();
        *seen += 1;
        let limit = number.load(Ordering::SeqCst);
        if limit == usize::MAX || *seen < limit / 2 {
            return Fault::None;
        }
        *seen = 0;
        number.store(usize::MAX, Ordering::SeqCst);
        kill(victim.load(Ordering::SeqCst));
        Fault::Breaks { done: limit % 2 == 0 }
    });
    let folder = tempfile::tempdir().unwrap();
    write_records(folder.path());
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let (mut by_engine, mut by_server) = (0, 0);
    for round in 0..KILLS {
        // The first half die while the engine works, or else at the first request to the server; the others at a later one.
        let is_early = round < KILLS / 2;
        let rows = if is_early { random.next_u64() as usize % (4 * RECORDS / KILLS) } else { usize::MAX };
        deadly.store(if is_early { 2 } else { 4 + random.next_u64() as usize % 8 }, Ordering::SeqCst);
        let mut child = start(folder.path(), &fake.url());
        process.store(child.id(), Ordering::SeqCst);
        let mut is_killed = false;
        for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
            let done = line.strip_prefix("done ").and_then(|count| count.parse::<usize>().ok());
            if !is_killed && done.is_some_and(|done| done >= rows) {
                is_killed = kill(child.id());
                by_engine += 1;
            }
        }
        let has_died = !child.wait().unwrap().success();
        by_server += usize::from(has_died && !is_killed);
    }
    assert!(by_engine >= 4 && by_server >= 6, "{by_engine} {by_server}");
    deadly.store(usize::MAX, Ordering::SeqCst);
    run(folder.path(), &fake.url(), |_| ());

    let schema = SchemaRegistry::builtin().get("cv_parsing").unwrap();
    let mut keys: Vec<_> = (0..RECORDS).map(|at| dedup_key(&schema, &record(at))).collect();
    keys.sort();
    assert_eq!(fake.keys(), keys);
    // What is there is what a run without accidents makes.
    let clean = tempfile::tempdir().unwrap();
    write_records(clean.path());
    run(clean.path(), &Fake::start(|_, _| Fault::None).url(), |_| ());
    assert_eq!(lines(folder.path(), "suggestions.jsonl"), lines(clean.path(), "suggestions.jsonl"));
    assert_eq!(lines(folder.path(), "rejected.jsonl"), lines(clean.path(), "rejected.jsonl"));
    assert_eq!(lines(folder.path(), "answers.jsonl").len(), RECORDS);
    let state = fake.state.lock().unwrap();
    let task = state.tasks.values().find(|task| task["data"]["vb_record"] == "cv-3").unwrap();
    assert_eq!(task["predictions"][0]["model_version"], json!("scripted@cv_parsing@1.0.0"));
}
