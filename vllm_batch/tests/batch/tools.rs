//! Rows whose answers call functions: the same bytes on every machine, and as other programs read them.

use std::collections::BTreeSet;

use async_openai::types::chat::CreateChatCompletionResponse;
use serde_json::Value;
use vllm_batch::batch::{BatchRequestOutput, Contract};
use vllm_batch::testing::ScriptedEngine;

use crate::{Job, counts, data, sorted};

/// The answer of each row is its last message.
fn run(contract: Contract) -> Job {
    let job = Job::new(data("tools.input.jsonl"));
    let report = job.runner(&ScriptedEngine::echo()).contract(contract).run().expect("the run completes");
    assert_eq!(counts(&report), [9, 9, 0, 0, 0, 0]);
    job
}

#[test]
fn calls_come_out_byte_for_byte() {
    for (contract, golden) in [
        (Contract::Lenient, "tools.output.jsonl"),
        (Contract::open_ai(), "tools.output.jsonl"),
        (Contract::Vllm, "vllm.tools.output.jsonl"),
    ] {
        let job = run(contract);
        assert_eq!(job.sorted("out.jsonl"), sorted(&data(golden)), "{golden}");
        // Resumed, nothing is done again.
        let report = job.runner(&ScriptedEngine::echo()).contract(contract).resume(true).run().expect("it is done");
        assert_eq!(counts(&report)[3], 9);
    }
}

#[test]
fn other_programs_and_this_one_read_the_rows() {
    let job = run(Contract::open_ai());
    let mut ids = BTreeSet::new();
    for row in job.rows() {
        let read: BatchRequestOutput = serde_json::from_str(&row).expect("our own rows can be read");
        assert_eq!(serde_json::to_string(&read).expect("rows can be written"), row);
        let value: Value = serde_json::from_str(&row).expect("rows are JSON");
        let body: CreateChatCompletionResponse =
            serde_json::from_value(value["response"]["body"].clone()).expect("other programs can read our rows");
        for choice in body.choices {
            let written = &value["response"]["body"]["choices"][choice.index as usize]["message"];
            let calls = serde_json::to_value(choice.message.tool_calls).expect("calls can be written");
            assert_eq!(calls, written["tool_calls"]);
            assert_eq!(choice.message.content.as_deref(), written["content"].as_str());
            for call in calls.as_array().into_iter().flatten() {
                assert!(ids.insert(call["id"].to_string()), "{call}");
            }
        }
    }
    assert_eq!(ids.len(), 7);
}
