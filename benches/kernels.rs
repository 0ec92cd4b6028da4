//! How fast is the matrix product? Each shape of the demo model's layers and head, in each format, on one thread, beside
//! what the processor's dot product instruction can do at most. Names of formats choose among them:
//! `cargo bench --bench kernels --features bench -- Q4_0 Q8_0`.

#![allow(missing_docs, clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use vllm_batch::bench::{Product, dot_limit};

/// What a matrix is for, its rows and its depth.
const SHAPES: [(&str, usize, usize); 5] =
    [("qkv", 960, 576), ("output", 576, 576), ("gate_up", 3072, 576), ("down", 576, 1536), ("head", 49_152, 576)];
/// As many rows as SmolLM2's, as deep as the formats with blocks of 256 need.
const DEEP: (&str, usize, usize) = ("deep", 3072, 768);
const TOKENS: [usize; 6] = [1, 8, 32, 64, 256, 512];
const ROUNDS: usize = 100_000;

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    pool.install(measure_all);
}

fn measure_all() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_chosen = |format: &&str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == format);
    let limit = rate(dot_limit(1) * ROUNDS, || {
        black_box(dot_limit(ROUNDS));
    });
    println!("limit of the dot product instruction: {limit:.0} GOP/s\n");
    println!("{:8} {:6} {}", "matrix", "format", TOKENS.map(|tokens| format!("{tokens:>12}")).concat());
    for (name, rows, depth) in SHAPES.into_iter().chain([DEEP]) {
        for format in Product::FORMATS.into_iter().filter(is_chosen) {
            // Formats with blocks of 256 have no rows of the demo model's depth.
            if let Some(rates) = TOKENS.map(|tokens| measure(format, tokens, rows, depth)).into_iter().collect() {
                let rates: Vec<f64> = rates;
                let cells = rates.iter().map(|rate| format!("{rate:6.0} {:3.0} %", rate / limit * 100.0));
                println!("{name:8} {format:6} {}", cells.collect::<Vec<_>>().join(" "));
            }
        }
    }
}

/// Billions of operations a second.
fn measure(format: &str, tokens: usize, rows: usize, depth: usize) -> Option<f64> {
    let mut product = Product::new(format, tokens, rows, depth).ok()?;
    let operations = product.operations().expect("a product");
    Some(rate(operations, || {
        black_box(product.run().expect("a product"));
    }))
}

/// Of the fastest of several runs.
fn rate(operations: usize, mut run: impl FnMut()) -> f64 {
    let (start, mut fastest) = (Instant::now(), Duration::MAX);
    let mut runs = 0;
    while runs < 3 || start.elapsed() < Duration::from_millis(120) {
        let before = Instant::now();
        run();
        fastest = fastest.min(before.elapsed());
        runs += 1;
    }
    operations as f64 / fastest.as_nanos() as f64
}
