//! What does it bring to guess tokens ahead, and what does it cost? How long steps of a few sequences take, then the rows of
//! batch files in groups, with and without guesses in turn, from when all of a group have their first token.
//!
//! `cargo bench --bench speculation` takes files of this repository; `-- FILE.jsonl …` others.

#[path = "../examples/demo_model/mod.rs"]
mod demo_model;

use std::collections::HashSet;
use std::io::{self, Write};
use std::time::Instant;

use vllm_batch::batch::BatchLine;
use vllm_batch::{EngineCore, LocalEngine, OutputEvent, Prompt, Request, SamplingParams, SpeculativeConfig};

const FILES: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/review_passages.jsonl"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/structured_requests.jsonl"),
];
const GROUPS: [usize; 5] = [1, 2, 4, 8, 32];
/// So many rows of each file, at most.
const ROWS: usize = 32;
/// Each step's least time of so many counts.
const ROUNDS: usize = 5;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let mut out = io::stdout();
    let mut engines =
        [None, Some(SpeculativeConfig::default())].into_iter().map(engine).collect::<Outcome<Vec<EngineCore>>>()?;
    let [plain, guessing] = engines.as_mut_slice() else { return Err("two engines".into()) };
    for num_seqs in [1, 2, 3, 4, 6, 8, 12, 16] {
        writeln!(out, "a step of {num_seqs:2} sequences: {:.2} ms", 1e3 * step_seconds(plain, num_seqs)?)?;
    }
    let given: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let files = if given.is_empty() { FILES.map(str::to_owned).to_vec() } else { given };
    for file in &files {
        let rows = rows(&std::fs::read_to_string(file)?, plain)?;
        writeln!(out, "\n{file}, {} rows: tokens a second\n| at a time | off | on | ratio | accepted |", rows.len())?;
        for size in GROUPS {
            let before = (guessing.num_draft_tokens(), guessing.num_accepted_tokens());
            let mut total = [Total::default(); 2];
            for group in rows.chunks(size) {
                for (total, best) in total.iter_mut().zip(compare(plain, guessing, group)?) {
                    total.tokens += best.tokens;
                    total.seconds += best.steps.iter().sum::<f64>();
                }
            }
            let [off, on] = total.map(|total| total.tokens as f64 / total.seconds);
            let drafts = guessing.num_draft_tokens() - before.0;
            let accepted = guessing.num_accepted_tokens() - before.1;
            writeln!(out, "| {size} | {off:.0} | {on:.0} | {:.3} | {accepted} of {drafts} |", on / off)?;
        }
    }
    Ok(())
}

fn engine(speculative_config: Option<SpeculativeConfig>) -> Outcome<EngineCore> {
    let builder = LocalEngine::builder(demo_model::gguf()?).served_model_name(demo_model::NAME);
    Ok(builder.speculative_config(speculative_config).build_core()?)
}

fn rows(text: &str, engine: &EngineCore) -> Outcome<Vec<Request>> {
    let row = |(index, line): (usize, &str)| {
        Ok(BatchLine::parse(line.as_bytes(), index as u64 + 1, engine.spec())?.requests.remove(0))
    };
    text.lines().take(ROWS).enumerate().map(row).collect()
}

#[derive(Clone, Copy, Default)]
struct Total {
    tokens: usize,
    seconds: f64,
}

/// Tokens after the first one of each answer, and how many seconds each step took.
struct Decoded {
    tokens: usize,
    steps: Vec<f64>,
}

/// Both engines in turn, several times; the least time of each step. All rounds but the first find their prompts in the
/// cache, and are the same steps: so the first does not count.
fn compare(plain: &mut EngineCore, guessing: &mut EngineCore, group: &[Request]) -> Outcome<[Decoded; 2]> {
    let mut both = |_| -> Outcome<_> { Ok([decode(plain, group)?, decode(guessing, group)?]) };
    let _: [Decoded; 2] = both(0)?;
    let mut best = both(0)?;
    for round in 1..ROUNDS {
        for (best, found) in best.iter_mut().zip(both(round)?) {
            if (best.tokens, best.steps.len()) != (found.tokens, found.steps.len()) {
                return Err("the rounds differ".into());
            }
            best.steps.iter_mut().zip(found.steps).for_each(|(best, found)| *best = best.min(found));
        }
    }
    if best[0].tokens != best[1].tokens {
        return Err("guesses changed an answer".into());
    }
    Ok(best)
}

fn decode(engine: &mut EngineCore, group: &[Request]) -> Outcome<Decoded> {
    let mut without = HashSet::new();
    for request in group {
        without.insert(engine.add_request(request.clone())?);
    }
    let mut decoded = Decoded { tokens: 0, steps: Vec::new() };
    while engine.has_unfinished() {
        let counts = without.is_empty();
        let started = Instant::now();
        let events = engine.step()?;
        decoded.steps.extend(counts.then(|| started.elapsed().as_secs_f64()));
        for (id, event) in events {
            match event {
                OutputEvent::Delta(delta) if counts => decoded.tokens += delta.num_tokens,
                OutputEvent::Failed(error) => return Err(error.into()),
                _ => drop(without.remove(&id)),
            }
        }
    }
    Ok(decoded)
}

/// The least time of a step in which so many sequences decode.
fn step_seconds(engine: &mut EngineCore, num_seqs: usize) -> Outcome<f64> {
    let params = SamplingParams::greedy().with_max_tokens(60).with_ignore_eos(true);
    for index in 0..num_seqs as u32 {
        let prompt = (0..32).map(|i| 1000 + (i * 7919 + index * 104_729) % 40_000).collect();
        let request = Request::new(index.to_string(), Prompt::TokenIds(prompt));
        engine.add_request(request.with_sampling_params(params.clone()))?;
    }
    engine.step()?;
    let mut least = f64::INFINITY;
    for _ in 0..50 {
        let started = Instant::now();
        engine.step()?;
        least = least.min(started.elapsed().as_secs_f64());
    }
    while engine.has_unfinished() {
        engine.step()?;
    }
    Ok(least)
}
