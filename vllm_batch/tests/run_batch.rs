//! The `run_batch` example as a user meets it: killed at random points, interrupted, out of disk space, started twice,
//! and given files with bad rows. It runs on the real demo model.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "../../examples/demo_model/mod.rs"]
mod demo_model;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The program, which `cargo test` builds beside the tests.
fn program() -> PathBuf {
    example("run_batch")
}

fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(path.is_file(), "{} is missing: `cargo build --release --examples` makes it", path.display());
    path
}

fn model() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| demo_model::gguf().expect("the demo model"))
}

/// A folder with an input file, and the program's options for it.
struct Job {
    folder: TempDir,
}

impl Job {
    fn new(lines: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("in.jsonl"), lines.join("\n") + "\n").unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn options(&self) -> Vec<String> {
        let options = [
            ("--model", model().to_path_buf()),
            ("--input", self.path("in.jsonl")),
            ("--output", self.path("out.jsonl")),
        ];
        let paths = options.iter().flat_map(|(option, path)| [(*option).to_owned(), path.display().to_string()]);
        let fixed =
            "--served-model-name demo --max-num-seqs 4 --kv-cache-memory 64 --progress json --progress-interval 0";
        paths.chain(fixed.split(' ').map(str::to_owned)).collect()
    }

    fn start(&self) -> Child {
        let mut command = Command::new(program());
        command.args(self.options()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs to the end; returns the exit code and the last report of progress.
    fn finish(&self) -> (i32, Value) {
        let mut child = self.start();
        let last = watch(&mut child, |_| true);
        (child.wait().unwrap().code().unwrap(), last)
    }

    /// The rows of a file by `custom_id`, each without the time it was written; panics if one is there twice.
    fn rows(&self, name: &str) -> BTreeMap<String, Value> {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        assert!(text.is_empty() || text.ends_with('\n'), "{name} ends with a whole line");
        let mut rows = BTreeMap::new();
        for line in text.lines() {
            let mut row: Value = serde_json::from_str(line).unwrap();
            if let Some(body) = row.pointer_mut("/response/body").and_then(Value::as_object_mut) {
                body.remove("created");
            }
            let custom_id = row["custom_id"].as_str().unwrap().to_owned();
            assert!(rows.insert(custom_id.clone(), row).is_none(), "{custom_id} is in {name} twice");
        }
        rows
    }
}

/// Reads reports of progress until `go_on` says no or there are no more; returns the last one.
fn watch(child: &mut Child, mut go_on: impl FnMut(&Value) -> bool) -> Value {
    let mut last = json!({"generated_tokens": 0});
    let stderr = child.stderr.as_mut().unwrap();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if let Ok(progress) = serde_json::from_str::<Value>(&line) {
            last = progress;
            if !go_on(&last) {
                break;
            }
        }
    }
    last
}

fn generated(progress: &Value) -> u64 {
    progress["generated_tokens"].as_u64().unwrap()
}

/// Requests with answers of exactly `max_tokens`, half of them greedy, half sampled.
fn requests(count: usize, max_tokens: usize) -> Vec<String> {
    (0..count)
        .map(|i| {
            let body = json!({
                "model": "demo", "prompt": format!("Fact number {i}: the"), "max_tokens": max_tokens,
                "ignore_eos": true, "temperature": i % 2,
            });
            json!({"custom_id": format!("row-{i}"), "method": "POST", "url": "/v1/completions", "body": body})
                .to_string()
        })
        .collect()
}

#[test]
fn killed_at_25_random_points_it_loses_and_repeats_nothing() {
    const ROWS: usize = 800;
    const MAX_TOKENS: usize = 8;
    const KILLS: u64 = 25;
    let clean = Job::new(&requests(ROWS, MAX_TOKENS));
    let (code, progress) = clean.finish();
    let clean_tokens = (ROWS * MAX_TOKENS) as u64;
    assert_eq!((code, generated(&progress)), (0, clean_tokens));

    let job = Job::new(&requests(ROWS, MAX_TOKENS));
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut total = 0;
    for _ in 0..KILLS {
        let limit = random.next_u64() % (2 * clean_tokens / KILLS);
        let mut child = job.start();
        let mut is_killed = false;
        // What was reported before the end is read to its end: those tokens were generated as well.
        let mut killer = Command::new("kill");
        killer.args(["-KILL", &child.id().to_string()]);
        let last = watch(&mut child, |progress| {
            if !is_killed && generated(progress) >= limit {
                is_killed = killer.status().unwrap().success();
            }
            true
        });
        child.wait().unwrap();
        total += generated(&last);
    }
    let (code, progress) = job.finish();
    total += generated(&progress);

    assert_eq!(code, 0);
    assert_eq!(job.rows("out.jsonl"), clean.rows("out.jsonl"));
    assert_eq!(job.rows("out.errors.jsonl"), BTreeMap::new());
    assert!(total * 10 <= clean_tokens * 11, "{total} tokens were generated for {clean_tokens}");
}

#[test]
fn an_interrupt_keeps_what_is_done() {
    let job = Job::new(&requests(60, 8));
    let mut child = job.start();
    watch(&mut child, |progress| progress["completed"].as_u64() < Some(10));
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    watch(&mut child, |_| true);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let done = job.rows("out.jsonl").len();
    assert!((10..60).contains(&done), "{done} rows are done");
    let (code, progress) = job.finish();
    assert_eq!((code, progress["skipped"].as_u64()), (0, Some(done as u64)));
    assert_eq!(job.rows("out.jsonl").len(), 60);
}

#[test]
fn a_full_disk_ends_the_run_and_nothing_written_is_lost() {
    let job = Job::new(&requests(60, 8));
    // The limit on file sizes is given in blocks of 512 or 1,024 bytes; a row has about 500.
    let limited = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
    let output = Command::new("sh").args(["-c", limited]).arg(program()).args(job.options()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.lines().last().unwrap().starts_with("error: ") && message.contains("out.jsonl"), "{message}");
    let (code, progress) = job.finish();
    assert!(code == 0 && progress["skipped"].as_u64() > Some(0), "{progress}");
    assert_eq!(job.rows("out.jsonl").len(), 60);
}

#[test]
fn a_second_process_on_the_same_output_is_refused() {
    let job = Job::new(&requests(200, 8));
    let mut first = job.start();
    watch(&mut first, |progress| generated(progress) == 0);
    let second = Command::new(program()).args(job.options()).output().unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(message.contains("another") && message.contains("out.jsonl"), "{message}");
}

#[test]
fn bad_rows_are_reported_and_the_others_answered() {
    let mut lines = requests(3, 4);
    lines.push("{not json".to_owned());
    lines.push(lines[0].clone());
    lines.push(lines[1].replace("row-1", "other-model").replace("\"demo\"", "\"another\""));
    lines.push(lines[1].replace("row-1", "too-long").replace("Fact", &"word ".repeat(9000)));
    let job = Job::new(&lines);
    let (code, progress) = job.finish();
    assert_eq!((code, &progress["completed"], &progress["failed"]), (3, &json!(3), &json!(4)));
    assert_eq!(job.rows("out.jsonl").len(), 3);
    let errors = std::fs::read_to_string(job.path("out.errors.jsonl")).unwrap();
    let mut codes: Vec<String> = errors
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| row.pointer("/error/code").or(row.pointer("/response/body/error/code")).unwrap().to_string())
        .collect();
    codes.sort();
    let expected = ["context_length_exceeded", "duplicate_custom_id", "invalid_json_line", "model_not_found"];
    assert_eq!(codes, expected.map(|code| format!("\"{code}\"")));
}

#[test]
fn a_changed_row_is_answered_again_and_the_others_are_kept() {
    let mut lines = requests(10, 4);
    let job = Job::new(&lines);
    assert_eq!(job.finish().0, 0);
    let before = job.rows("out.jsonl");
    lines[3] = lines[3].replace("Fact number 3", "A changed fact");
    std::fs::write(job.path("in.jsonl"), lines.join("\n")).unwrap();
    let (code, progress) = job.finish();
    assert_eq!((code, &progress["completed"], &progress["skipped"]), (0, &json!(1), &json!(9)));
    let mut after = job.rows("out.jsonl");
    assert_ne!(after.remove("row-3"), before.get("row-3").cloned());
    assert!(after.iter().all(|(custom_id, row)| before.get(custom_id) == Some(row)) && after.len() == 9);
    assert_eq!(job.rows("out.stale.jsonl").keys().collect::<Vec<_>>(), ["row-3"]);
}

#[test]
fn wrong_options_and_paths_are_named() {
    let job = Job::new(&requests(1, 1));
    let folder = job.folder.path().display().to_string();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["--max-num-seqs", "many"], 2, "--max-num-seqs"),
        (&["--max-num-seqs", "0"], 1, "max_num_seqs"),
        (&["--input", "/nowhere/in.jsonl"], 1, "/nowhere/in.jsonl"),
        (&["--output", &folder], 1, &folder),
        (&["--output", "/proc/out.jsonl"], 1, "/proc/out.jsonl"),
        (&["--model", "/nowhere/model.gguf"], 1, "/nowhere/model.gguf"),
    ];
    for (options, code, place) in cases {
        // A later option replaces an earlier one.
        let mut all = job.options();
        if let Some(index) = all.iter().position(|option| option == options[0]) {
            all.drain(index..index + 2);
        }
        let output = Command::new(program()).args(all).args(options).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{options:?}: {message}");
        assert!(message.contains(place), "{options:?}: {message}");
    }
}

#[test]
fn the_small_examples_say_what_they_promise() {
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let answers = run(Command::new(example("quickstart")).arg(model()));
    for question in ["Why is the sky blue?", "Name three prime numbers.", "What is a lighthouse for?"] {
        let (_, answer) = answers.split_once(question).unwrap_or_else(|| panic!("{question} in {answers}"));
        assert!(answer.trim().len() > 40, "{question} has an answer: {answers}");
    }
    let rounds = run(&mut Command::new(example("custom_engine")));
    assert!(rounds.ends_with("round 2: TWO\nthe inner engine was asked 2 times\n"), "{rounds}");
}
