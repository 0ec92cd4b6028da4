//! What does it cost to load schemas, to write training data and to compute agreement?
//!
//! `cargo bench --bench curate`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vllm_batch::curate::agreement::{AgreementOptions, agreement};
use vllm_batch::curate::export::{
    DuplicateOptions, Duplicates, ExportFormat, ExportOptions, Exporter, validate_dataset,
};
use vllm_batch::curate::{
    Answer, Answers, Question, QuestionKind, Record, Response, Scale, SchemaRegistry, TaskSchema, Version,
};

#[path = "../examples/made_up_records/mod.rs"]
mod made_up_records;

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

/// Records to rows, rows to what their readers say.
fn bench_exports(criterion: &mut Criterion) {
    let schema = SchemaRegistry::builtin().get("email_evaluation").expect("a schema of the library");
    let records = made_up_records::records(&schema, 2000);
    let folder = tempfile::tempdir().expect("a folder");
    let mut group = criterion.benchmark_group("training data");
    group.sample_size(10);
    for format in [ExportFormat::TrlPromptCompletion, ExportFormat::TrlPreference, ExportFormat::Alpaca] {
        let write = || {
            let mut rows = Vec::new();
            let mut exporter = Exporter::new(&schema, ExportOptions::new(format)).expect("something to learn");
            exporter.write(&records, &mut rows).expect("distinct names");
            rows
        };
        let rows = write();
        group.throughput(Throughput::Bytes(rows.len() as u64));
        group.bench_function(format!("write {format}"), |bencher| bencher.iter(write));
        let path = folder.path().join(format.name());
        std::fs::write(&path, rows).expect("room for a file");
        group.bench_function(format!("check {format}"), |bencher| {
            bencher.iter(|| black_box(validate_dataset(&path, format).expect("a file")));
        });
    }
    let texts: Vec<String> =
        records.iter().map(|record| serde_json::to_string(&record.fields).expect("JSON")).collect();
    group.throughput(Throughput::Bytes(texts.iter().map(|text| text.len() as u64).sum()));
    group.bench_function("find duplicates", |bencher| {
        bencher.iter(|| {
            let mut seen = Duplicates::new(DuplicateOptions::default());
            texts.iter().filter_map(|text| seen.insert("record", text)).count()
        });
    });
    group.finish();
}

/// 100,000 records with answers of two people to ten questions.
fn bench_agreement(criterion: &mut Criterion) {
    let id = |at: usize| format!("q{at}").parse().expect("a name");
    let kind = || QuestionKind::Rating { scale: Scale::Range { min: 1, max: 5 } };
    let schema = TaskSchema::new("ratings".parse().expect("a name"), Version::new(1, 0, 0));
    let schema = (0..10).fold(schema, |schema, at| schema.with_question(Question::new(id(at), kind())));
    let record = |number: usize| {
        let answers = |person: usize| -> Answers {
            (0..10)
                .map(|at| (id(at), Answer::Rating(((number * 7 + at + (number + at) % 9 / 8 * person) % 5 + 1) as i64)))
                .collect()
        };
        let mut record = Record::new(number.to_string());
        record.responses = vec![Response::submitted("ann", answers(0)), Response::submitted("bob", answers(1))];
        record
    };
    let records: Vec<Record> = (0..100_000).map(record).collect();
    let mut group = criterion.benchmark_group("agreement");
    group.sample_size(10);
    group.bench_function("100000 records, 10 questions, 2 people", |bencher| {
        bencher.iter(|| black_box(agreement(&schema, &records, &AgreementOptions::default())));
    });
    group.finish();
}

criterion_group!(benches, bench_schemas, bench_exports, bench_agreement);
criterion_main!(benches);
