//! What do formats cost, and what do they save? Answers a batch file whose rows have schemas, then the same rows without them,
//! with as many sampled tokens each; in turn, several times.
//!
//! `cargo bench --bench structured` takes the file of the tests; `-- FILE.jsonl` another one.

#[path = "../examples/demo_model/mod.rs"]
mod demo_model;

use std::io::{self, Write};
use std::time::Instant;

use serde_json::Value;
use vllm_batch::batch::BatchLine;
use vllm_batch::{EngineCore, FinishReason, LocalEngine, OutputEvent, Request, RequestOutput, SamplingParams};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/structured_requests.jsonl");
const ROUNDS: usize = 3;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let path = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_else(|| FILE.to_owned());
    let text = std::fs::read_to_string(path)?;
    let mut out = io::stdout();
    for _ in 0..ROUNDS {
        let mut engine = engine()?;
        let rows = rows(&text, &engine)?;
        let held = run(&mut engine, rows.iter().map(|(request, _)| request.clone()))?;
        let (forced, mask_time) = (engine.num_forced_tokens(), engine.mask_time());
        let valid = held.outputs.iter().zip(&rows).filter(|(output, (_, schema))| is_valid(output, schema)).count();
        let cut = held.outputs.iter().filter(|output| output.outputs[0].finish_reason == FinishReason::Length).count();
        let tokens = held.tokens();
        writeln!(
            out,
            "held to schemas: {valid} of {} valid, {cut} cut off; {tokens} tokens in {:.2} s, {forced} ({:.0} %) forced; \
             masks {:.0} ms, {:.1} us for each sampled token",
            rows.len(),
            held.seconds,
            100.0 * forced as f64 / tokens as f64,
            mask_time.as_secs_f64() * 1e3,
            mask_time.as_secs_f64() * 1e6 / (tokens as f64 - forced as f64),
        )?;
        let sampled = (tokens as u64 - forced) as f64 / tokens as f64;
        let free = rows.iter().zip(&held.outputs).map(|((request, _), output)| unheld(request, output, sampled));
        let free = run(&mut self::engine()?, free)?;
        let (held_rate, free_rate) = (tokens as f64 / held.seconds, free.tokens() as f64 / free.seconds);
        writeln!(
            out,
            "free, as many sampled: {} tokens in {:.2} s\nanswers a second: {:.2} times as many with schemas; tokens a second: {:.2} times\n",
            free.tokens(),
            free.seconds,
            free.seconds / held.seconds,
            held_rate / free_rate,
        )?;
    }
    Ok(())
}

fn engine() -> Outcome<EngineCore> {
    Ok(LocalEngine::builder(demo_model::gguf()?).served_model_name(demo_model::NAME).build_core()?)
}

/// The requests with their schemas.
fn rows(text: &str, engine: &EngineCore) -> Outcome<Vec<(Request, Value)>> {
    let row = |(index, line): (usize, &str)| {
        let mut parsed = BatchLine::parse(line.as_bytes(), index as u64 + 1, engine.spec())?;
        let mut body: Value = serde_json::from_str(line)?;
        let schema = body["body"]["response_format"]["json_schema"]["schema"].take();
        Ok((parsed.requests.remove(0), schema))
    };
    text.lines().enumerate().map(row).collect()
}

/// The request without its schema, with as many tokens as were sampled of the answer.
fn unheld(request: &Request, output: &RequestOutput, sampled: f64) -> Request {
    let tokens = (output.outputs[0].token_ids.len() as f64 * sampled).round().max(1.0);
    let params = SamplingParams::greedy().with_max_tokens(tokens as u32).with_ignore_eos(true);
    request.clone().with_sampling_params(params)
}

struct Run {
    /// In the order of the requests.
    outputs: Vec<RequestOutput>,
    seconds: f64,
}

impl Run {
    fn tokens(&self) -> usize {
        self.outputs.iter().map(|output| output.outputs[0].token_ids.len()).sum()
    }
}

fn run(engine: &mut EngineCore, requests: impl Iterator<Item = Request>) -> Outcome<Run> {
    let started = Instant::now();
    let ids = requests.map(|request| engine.add_request(request)).collect::<Result<Vec<_>, _>>()?;
    let mut outputs: Vec<Option<RequestOutput>> = ids.iter().map(|_| None).collect();
    while engine.has_unfinished() {
        for (id, event) in engine.step()? {
            let index = ids.iter().position(|other| *other == id).ok_or("an unknown id")?;
            match event {
                OutputEvent::Finished(output) => outputs[index] = Some(output),
                OutputEvent::Failed(error) => return Err(error.into()),
                _ => {}
            }
        }
    }
    let outputs = outputs.into_iter().flatten().collect();
    Ok(Run { outputs, seconds: started.elapsed().as_secs_f64() })
}

fn is_valid(output: &RequestOutput, schema: &Value) -> bool {
    serde_json::from_str(&output.outputs[0].text).is_ok_and(|answer: Value| jsonschema::is_valid(schema, &answer))
}
