//! How many tokens a second: prefill, and decoding at several batch sizes, with the demo model, with its weights as they
//! are in the file and widened to f32.

#![allow(missing_docs)]

#[path = "../examples/demo_model/mod.rs"]
mod demo_model;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vllm_batch::sched::SequenceId;
use vllm_batch::{EngineCore, LocalEngine, OutputEvent, Prompt, Request, SamplingParams, WeightDtype};

const DTYPES: [WeightDtype; 2] = [WeightDtype::Auto, WeightDtype::F32];

fn engine(dtype: WeightDtype, max_num_seqs: usize) -> EngineCore {
    LocalEngine::builder(demo_model::gguf().expect("the demo model"))
        .dtype(dtype)
        .max_num_seqs(max_num_seqs)
        .enable_prefix_caching(false)
        .speculative_config(None)
        .kv_cache_memory(2 << 30)
        .max_model_len(2048)
        .build_core()
        .expect("the model loads")
}

/// A prompt of `len` tokens that no other index has, and an answer of exactly `max_tokens`.
fn add(engine: &mut EngineCore, index: u32, len: u32, max_tokens: u32) {
    let prompt = (0..len).map(|i| 1000 + (i * 7919 + index * 104_729) % 40_000).collect();
    let params = SamplingParams::greedy().with_max_tokens(max_tokens).with_ignore_eos(true);
    let request = Request::new(index.to_string(), Prompt::TokenIds(prompt)).with_sampling_params(params);
    engine.add_request(request).expect("a good request");
}

fn drain(engine: &mut EngineCore) {
    while engine.has_unfinished() {
        black_box(engine.step().expect("a step"));
    }
}

/// 512 tokens of prompt and one of answer.
fn prefill(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prefill");
    group.sample_size(10).throughput(Throughput::Elements(512));
    for dtype in DTYPES {
        let mut engine = engine(dtype, 1);
        group.bench_function(BenchmarkId::new(dtype.as_str(), 512), |bencher| {
            bencher.iter(|| {
                add(&mut engine, 0, 512, 1);
                drain(&mut engine);
            });
        });
    }
    group.finish();
}

/// One step of `batch` running sequences, each with 64 to 192 tokens behind it.
fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.sample_size(10);
    for (batch, dtype) in [1, 8, 32, 128].into_iter().flat_map(|batch| DTYPES.map(|dtype| (batch, dtype))) {
        let mut engine = engine(dtype, batch);
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_with_input(BenchmarkId::new(dtype.as_str(), batch), &batch, |bencher, batch| {
            bencher.iter_custom(|steps| (0..steps).map(|_| one_decode_step(&mut engine, *batch)).sum());
        });
    }
    group.finish();
}

/// The time of a step in which every sequence decodes. Before it, and outside that time, the batch is filled again when
/// its answers have reached their length.
fn one_decode_step(engine: &mut EngineCore, batch: usize) -> Duration {
    if !engine.has_unfinished() {
        for index in 0..batch as u32 {
            add(engine, index, 64, 129);
        }
        // Until every sequence has its first token.
        while num_events(&engine.step().expect("a step")) < batch {}
    }
    let start = Instant::now();
    let events = black_box(engine.step().expect("a step"));
    let elapsed = start.elapsed();
    // When the first sequences end, the others go on alone: they are let go.
    if num_finished(&events) > 0 {
        drain(engine);
    }
    elapsed
}

fn num_events(events: &[(SequenceId, OutputEvent)]) -> usize {
    events.iter().filter(|(_, event)| matches!(event, OutputEvent::Delta(_))).count()
}

fn num_finished(events: &[(SequenceId, OutputEvent)]) -> usize {
    events.len() - num_events(events)
}

criterion_group!(benches, prefill, decode);
criterion_main!(benches);
