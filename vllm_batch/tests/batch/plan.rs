//! Rows that ask for the same run once, and the order in which rows run changes none of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use vllm_batch::batch::{Contract, PlanPolicy, RunStatus};
use vllm_batch::testing::ScriptedEngine;
use vllm_batch::{CancellationToken, RequestError};

use crate::{Job, counts, moody};

const COMPLETIONS: &str = "/v1/completions";

fn row(custom_id: &str, url: &str, body: Value) -> String {
    let mut body = body;
    body["model"] = json!("scripted");
    json!({"custom_id": custom_id, "method": "POST", "url": url, "body": body}).to_string() + "\n"
}

/// A request with one possible answer.
fn greedy(custom_id: &str, prompt: &str) -> String {
    row(custom_id, COMPLETIONS, json!({"prompt": prompt, "temperature": 0}))
}

/// The rows of the output and the error file, by name, without what differs between rows of the same work.
fn answers(job: &Job) -> Vec<(String, Value)> {
    let rows = job.rows().into_iter().map(|row| serde_json::from_str::<Value>(&row).expect("rows are JSON"));
    let mut answers: Vec<_> = rows
        .map(|mut row| {
            let body = &mut row["response"]["body"];
            if let Some(body) = body.as_object_mut() {
                body.remove("id");
                if let Some(usage) = body.get_mut("usage").and_then(Value::as_object_mut) {
                    usage.remove("prompt_tokens_details");
                }
            }
            (
                row["custom_id"].as_str().expect("it has a name").to_owned(),
                json!([row["response"]["body"], row["error"]]),
            )
        })
        .collect();
    answers.sort_by(|(left, _), (right, _)| left.cmp(right));
    answers
}

#[test]
fn rows_that_ask_for_the_same_run_once() {
    // Name, url, body, and whether a row before has the same answer.
    let cases = [
        ("a", COMPLETIONS, json!({"prompt": "x y", "temperature": 0}), false),
        ("b", COMPLETIONS, json!({"temperature": 0, "user": "u", "prompt": "x y", "top_p": null}), true),
        ("c", COMPLETIONS, json!({"prompt": "x y", "temperature": 0, "priority": 1}), false),
        ("d", COMPLETIONS, json!({"prompt": "x y"}), false),
        ("e", COMPLETIONS, json!({"prompt": "x y"}), false),
        ("f", COMPLETIONS, json!({"prompt": "x y", "seed": 7, "n": 3}), false),
        ("g", COMPLETIONS, json!({"prompt": "x y", "seed": 7, "n": 3}), true),
        ("h", COMPLETIONS, json!({"prompt": "x y", "seed": 8, "n": 3}), false),
        (
            "i",
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": "x y"}], "temperature": 0}),
            false,
        ),
        ("j", "/v1/embeddings", json!({"input": ["x", "y"]}), false),
        ("k", "/v1/embeddings", json!({"input": ["x", "y"]}), true),
        ("l", "/v1/embeddings", json!({"input": ["x", "y"], "encoding_format": "base64"}), false),
        ("m", "/v1/score", json!({"prompt": "x", "labels": ["1", "2"]}), false),
        ("n", "/v1/score", json!({"prompt": "x", "labels": ["1", "2"]}), true),
        ("o", COMPLETIONS, json!({"prompt": ["x", "y"], "temperature": 0}), false),
        ("p", COMPLETIONS, json!({"prompt": ["x", "y"], "temperature": 0}), true),
        ("q", COMPLETIONS, json!({"prompt": "fail", "temperature": 0}), false),
        ("r", COMPLETIONS, json!({"prompt": "fail", "temperature": 0}), true),
    ];
    let input: String = cases.iter().map(|(name, url, body, _)| row(name, url, body.clone())).collect();
    let expected = cases.iter().filter(|(.., is_same)| *is_same).count();
    for contract in [Contract::Lenient, Contract::Vllm] {
        let (job, plain) = (Job::new(&input), Job::new(&input));
        let (engine, other) = (moody(), moody());
        let report = job.runner(&engine).contract(contract).run().expect("the run completes");
        assert_eq!((counts(&report), report.deduplicated), ([18, 16, 2, 0, 0, 0], expected));
        let report = plain.runner(&other).contract(contract).deduplicate(false).run().expect("the run completes");
        assert_eq!((counts(&report), report.deduplicated), ([18, 16, 2, 0, 0, 0], 0));
        assert_eq!(answers(&job), answers(&plain));
        // Two rows of the same work have two parts each.
        assert_eq!(other.stats().submitted, engine.stats().submitted + expected + 2);
        let report = job.runner(&moody()).contract(contract).resume(true).run().expect("nothing is left to do");
        assert_eq!(counts(&report), [18, 0, 0, 18, 2, 0]);
    }
}

#[test]
fn a_row_that_was_not_computed_is_billed_with_a_cached_prompt() {
    let job = Job::new(greedy("a", "x y z") + &greedy("b", "x y z"));
    let report = job.run(&ScriptedEngine::echo()).expect("the run completes");
    let usage = |cached: usize| {
        json!({"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6,
            "prompt_tokens_details": {"cached_tokens": cached}})
    };
    let rows: Vec<Value> = job.read("out.jsonl").lines().map(|row| serde_json::from_str(row).expect("JSON")).collect();
    let found: Vec<_> = rows.iter().map(|row| (&row["custom_id"], &row["response"]["body"]["usage"])).collect();
    assert_eq!(found, [(&json!("a"), &usage(0)), (&json!("b"), &usage(3))]);
    assert_ne!(rows[0]["response"]["body"]["id"], rows[1]["response"]["body"]["id"]);
    assert_eq!(
        (report.prompt_tokens, report.cached_tokens, report.completion_tokens, report.generated_tokens),
        (6, 3, 6, 3)
    );
}

#[test]
fn what_fails_for_a_reason_that_may_pass_is_tried_with_the_next_row() {
    for failures in 0..=4 {
        let input: String = ["a", "b", "c", "d"].map(|name| greedy(name, "x")).concat() + &greedy("z", "y");
        let job = Job::new(input);
        let left = Mutex::new(failures);
        let engine = ScriptedEngine::new(move |request| {
            let mut left = left.lock().expect("nobody panics");
            if *left > 0 && request.request_id != "z" {
                *left -= 1;
                let (code, message) = ("timeout".to_owned(), "too slow".to_owned());
                return Err(RequestError::Remote { status: None, code, message });
            }
            Ok("done".to_owned())
        });
        let report = job.run(&engine).expect("the run completes");
        let answered = 4 - failures + 1;
        assert_eq!(counts(&report), [5, answered, failures, 0, 0, 0]);
        assert_eq!(
            (report.deduplicated, engine.stats().submitted),
            (3_usize.saturating_sub(failures), 2 + failures.min(3))
        );
        assert_eq!(counts(&job.resume(&moody())), [5, failures, 0, answered, 0, failures]);
        assert_eq!(job.rows().len(), 5);
    }
}

#[test]
fn a_run_that_stops_accounts_for_rows_that_have_not_got_their_answer() {
    for contract in [Contract::Lenient, Contract::open_ai()] {
        let names: Vec<_> = (0..20).map(|number| format!("row-{number}")).collect();
        let job = Job::new(names.iter().map(|name| greedy(name, "x")).collect::<String>());
        let (engine, token) = (ScriptedEngine::echo(), CancellationToken::new());
        let runner = job.runner(&engine).contract(contract).cancellation(token.clone());
        let runner = runner.progress_interval(Duration::ZERO).on_progress(|progress| {
            if progress.completed == 5 {
                token.cancel();
            }
        });
        let report = runner.run().expect("a cancelled run is no error");
        let closed = if contract == Contract::Lenient { 0 } else { 15 };
        assert_eq!((report.status, counts(&report)), (RunStatus::Cancelled, [20, 5, closed, 0, 0, 0]));
        assert_eq!((report.deduplicated, engine.stats().submitted, job.rows().len()), (4, 1, 5 + closed));
        let report = job.runner(&engine).contract(contract).resume(true).run().expect("the run can be resumed");
        assert_eq!((counts(&report), report.deduplicated), ([20, 15, 0, 5, 0, closed], 14));
        assert_eq!((engine.stats().submitted, job.rows().len()), (2, 20));
    }
}

#[test]
fn a_name_that_is_taken_is_no_work() {
    let job = Job::new([greedy("a", "x"), greedy("a", "x"), greedy("b", "x")].concat());
    let report = job.run(&moody()).expect("the run completes");
    assert_eq!((counts(&report), report.deduplicated), ([3, 2, 1, 0, 0, 0], 1));
    assert!(job.read("out.errors.jsonl").contains("duplicate_custom_id"));
}

#[test]
fn rows_run_in_the_order_of_the_plan() {
    let names = ["a0", "b0", "a1", "c0", "b1", "a2"];
    let input: String = names
        .map(|name| {
            let messages = json!([{"role": "system", "content": &name[..1]}, {"role": "user", "content": name}]);
            row(name, "/v1/chat/completions", json!({"messages": messages}))
        })
        .concat();
    for (policy, expected) in [(PlanPolicy::Prefix, ["a0", "a1", "a2", "b0", "b1", "c0"]), (PlanPolicy::Fifo, names)] {
        let job = Job::new(&input);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let engine = ScriptedEngine::new(move |request| {
            log.lock().expect("nobody panics").push(request.request_id.clone());
            Ok("done".to_owned())
        });
        job.runner(&engine).window(1).plan(policy).run().expect("the run completes");
        assert_eq!(*seen.lock().expect("nobody panics"), expected);
    }
}

#[test]
fn the_runner_s_priority_comes_on_top_of_the_rows_own() {
    let rows = [-3, 0, 2_000_000_000]
        .map(|priority| row(&priority.to_string(), "/v1/completions", json!({"prompt": "x", "priority": priority})));
    let job = Job::new(rows.concat());
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let log = Arc::clone(&seen);
    let engine = ScriptedEngine::new(move |request| {
        log.lock().expect("nobody panics").insert(request.request_id.clone(), request.priority);
        Ok("done".to_owned())
    });
    job.runner(&engine).priority(10).run().expect("the run completes");
    let seen: Vec<i32> = seen.lock().expect("nobody panics").values().copied().collect();
    assert_eq!(seen, [7, 10, 1_000_010]);
}
