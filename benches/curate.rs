//! What does it cost to load schemas?
//!
//! `cargo bench --bench curate`

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use vllm_batch::curate::{SchemaRegistry, TaskSchema};

/// A thousand documents: those that come with the library, under other names.
fn documents() -> Vec<String> {
    let builtin = SchemaRegistry::builtin();
    let schemas: Vec<&TaskSchema> = builtin.iter().map(|schema| schema.schema()).collect();
    let document = |at: usize| {
        let mut schema = schemas[at % schemas.len()].clone();
        schema.id = format!("{}_{at}", schema.id).parse().expect("a short name");
        serde_json::to_string(&schema).expect("a schema")
    };
    (0..1000).map(document).collect()
}

fn bench_schemas(criterion: &mut Criterion) {
    let documents = documents();
    let mut group = criterion.benchmark_group("schemas");
    group.sample_size(10);
    group.bench_function("read 1000", |bencher| {
        bencher.iter(|| {
            for document in &documents {
                black_box(TaskSchema::from_json(document).expect("a schema"));
            }
        });
    });
    group.bench_function("read, compile and register 1000", |bencher| {
        bencher.iter(|| {
            let mut registry = SchemaRegistry::new();
            for document in &documents {
                registry.register(TaskSchema::from_json(document).expect("a schema").schema).expect("a sound schema");
            }
            black_box(registry.len())
        });
    });
    group.finish();
}

criterion_group!(benches, bench_schemas);
criterion_main!(benches);
