//! What does a batch file cost apart from the model? Runs rows through an engine that answers at once, and prints rows a
//! second and the peak of resident memory.
//!
//! `cargo bench --bench million_rows` runs a million rows; `-- 50000` runs so many.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use vllm_batch::BatchRunner;
use vllm_batch::testing::ScriptedEngine;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rows = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir()?;
    let input = folder.path().join("in.jsonl");
    write_input(&input, rows)?;
    let bytes = fs::metadata(&input)?.len();
    let mut out = io::stdout();
    writeln!(out, "{rows} rows, {} MB", bytes / 1_000_000)?;
    for what in ["run", "resume with nothing left to do"] {
        let started = Instant::now();
        let output = folder.path().join("out.jsonl");
        let engine = ScriptedEngine::echo();
        let report = BatchRunner::new(&engine).input(&input).output(output).resume(true).run()?;
        let seconds = started.elapsed().as_secs_f64();
        let per_second = rows as f64 / seconds;
        writeln!(out, "\n{what}: {seconds:.1} s, {per_second:.0} rows/s, peak {}\n{report}", peak_memory())?;
    }
    Ok(())
}

fn write_input(path: &Path, rows: usize) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let system = "You sort passages of technical documentation by how clear they are. Answer with one word.";
    for row in 0..rows {
        writeln!(
            file,
            r#"{{"custom_id":"row-{row}","method":"POST","url":"/v1/chat/completions","body":{{"model":"scripted","messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"Passage {row} is about number {row}."}}],"temperature":0,"max_tokens":8}}}}"#
        )?;
    }
    file.flush()
}

/// The peak of resident memory, where the operating system tells it.
fn peak_memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.map_or_else(|| "unknown".to_owned(), |peak| peak.trim().to_owned())
}
