//! The library in fifteen lines: load a model, ask several questions at once, print the answers.
//!
//! `cargo run --release --example quickstart` takes the demo model; a folder, a `.gguf` file or a hub id can be given.
#![allow(clippy::print_stdout)]

mod demo_model;

use vllm_batch::{BatchEngineExt, LocalEngine, Message, SamplingParams};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = match std::env::args().nth(1) {
        Some(model) => LocalEngine::builder(model).build()?,
        None => demo_model::load(|source| LocalEngine::builder(source).build())?,
    };
    let questions = ["Why is the sky blue?", "Name three prime numbers.", "What is a lighthouse for?"];
    let conversations = questions.map(|question| vec![Message::user(question)]);
    let params = SamplingParams::greedy().with_max_tokens(64);
    for (question, answer) in questions.iter().zip(engine.chat(conversations, &params)) {
        println!("{question}\n    {}\n", answer?.outputs[0].text);
    }
    Ok(())
}
