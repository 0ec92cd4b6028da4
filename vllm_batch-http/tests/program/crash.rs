//! A server that is killed while it works, and one that works for long.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::support::{Client, answers, lines, model, row, with_model};

/// How often the server is killed.
fn kills() -> u64 {
    std::env::var("VLLM_BATCH_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(5)
}

/// What the rows of a batch answer, by `custom_id`.
fn answers_of(client: &Client, batch: &Value) -> BTreeMap<String, Value> {
    answers(&client.content(&batch["output_file_id"]))
}

#[test]
fn killed_at_random_points_it_loses_nothing_and_does_nothing_twice() {
    const ROWS: usize = 300;
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let options = ["--set", "worker.lease_time=3s", "--set", "worker.chunk_size=40"];
    let start = || with_model(folder.path(), model.path(), &options);
    let input = lines((0..ROWS).map(|i| row(&format!("row-{i}"), 1 + i % 7)));

    let server = start();
    let id = server.client().create_batch(&server.client().upload(&input));
    let expected = answers_of(&server.client(), &server.client().ended(&id));
    assert_eq!(expected.len(), ROWS);

    let id = server.client().create_batch(&server.client().upload(&input));
    let (mut server, mut random) = (Some(server), ChaCha8Rng::seed_from_u64(11));
    let (mut done, kills) = (0, kills());
    for kill in 0..kills {
        // Somewhere in the next part of the work.
        let next = done + random.next_u64() % (2 * ROWS as u64 / kills).max(1);
        let running = server.take().unwrap_or_else(start);
        let completed = |batch: &Value| batch["request_counts"]["completed"].as_u64().unwrap_or(0);
        let batch = running
            .client()
            .batch_when(&id, |batch| completed(batch) >= next.min(ROWS as u64) || batch["status"] == "completed");
        done = completed(&batch);
        // Files that nobody got an answer for, and that stay whole or are gone.
        if kill % 2 == 0 {
            running.client().upload(&input);
        }
        drop(running);
    }
    let server = server.unwrap_or_else(start);
    let batch = server.client().ended(&id);
    assert_eq!(batch["request_counts"], json!({"total": ROWS, "completed": ROWS, "failed": 0}), "{batch}");
    assert_eq!(answers_of(&server.client(), &batch), expected);
}

/// The memory that a process holds, in KiB.
fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn memory_stays_flat_over_many_requests_and_batches() {
    const ROUNDS: usize = 6;
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let options = ["--kv-cache-memory", "8", "--log-level", "warn,vllm_batch_http=info"];
    let server = with_model(folder.path(), model.path(), &options);
    server.logged("ready");
    let client = server.client();
    let input = lines((0..10).map(|i| row(&format!("row-{i}"), 2)));
    let mut memory = Vec::new();
    for _ in 0..ROUNDS {
        let file = client.upload(&input);
        let batches: Vec<_> = (0..20).map(|_| client.create_batch(&file)).collect();
        for _ in 0..200 {
            let body = json!({"model": "tiny", "prompt": "a", "max_tokens": 2});
            assert_eq!(client.post("/v1/completions", &body).0, 200);
        }
        for id in batches {
            assert_eq!(client.ended(&id)["status"], "completed");
        }
        memory.push(resident(server.id()));
    }
    // The first rounds fill caches and pools.
    let (early, late) = (memory[ROUNDS / 2 - 1], memory[ROUNDS - 1]);
    assert!(late < early + early / 10, "KiB after each round: {memory:?}");
}
