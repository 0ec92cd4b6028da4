//! Every bad line is a typed error that names itself, and the other lines go on.

use serde_json::Value;
use vllm_batch::EngineSpec;
use vllm_batch::batch::BatchLine;
use vllm_batch::testing::ScriptedEngine;

use crate::{Job, counts, line};

/// A line whose outer fields are right.
fn chat(body: &str) -> Vec<u8> {
    format!(r#"{{"custom_id":"x","method":"POST","url":"/v1/chat/completions","body":{{"model":"scripted",{body}}}}}"#)
        .into_bytes()
}

fn completion(body: &str) -> Vec<u8> {
    format!(r#"{{"custom_id":"x","method":"POST","url":"/v1/completions","body":{{"model":"scripted",{body}}}}}"#)
        .into_bytes()
}

/// A conversation with one more parameter.
fn with(param: &str) -> Vec<u8> {
    chat(&format!(r#""messages":[{{"role":"user","content":"Hi"}}],{param}"#))
}

/// A conversation of these messages.
fn messages(messages: &str) -> Vec<u8> {
    chat(&format!(r#""messages":{messages}"#))
}

/// What a line's error row says: code, parameter, and the line where the row has no response.
type Expected = (&'static str, Option<&'static str>, Option<u64>);

fn no_response(code: &'static str, param: &'static str) -> Expected {
    (code, Some(param).filter(|param| !param.is_empty()), Some(2))
}

fn refused(code: &'static str, param: &'static str) -> Expected {
    (code, Some(param).filter(|param| !param.is_empty()), None)
}

fn raw(line: &str) -> Vec<u8> {
    line.as_bytes().to_vec()
}

type Case = (Vec<u8>, Expected);

fn bad_lines() -> Vec<Case> {
    [no_objects(), bad_outer_fields(), bad_models_and_prompts(), bad_messages(), bad_params()].concat()
}

fn no_objects() -> Vec<Case> {
    vec![
        (raw("oops"), no_response("invalid_json_line", "")),
        (raw(r#"{"custom_id":"x""#), no_response("invalid_json_line", "")),
        (raw(r#"{"custom_id":"x"} {}"#), no_response("invalid_json_line", "")),
        (raw(r#"{"custom_id":"x","n":1e999}"#), no_response("invalid_json_line", "")),
        (raw(&"[".repeat(10_000)), no_response("invalid_json_line", "")),
        (raw("[1]"), no_response("not_an_object", "")),
        (raw("null"), no_response("not_an_object", "")),
        (raw("\"text\""), no_response("not_an_object", "")),
        (b"{\"custom_id\":\"\0\"}".to_vec(), no_response("nul_byte", "")),
        (vec![0; 100], no_response("nul_byte", "")),
        (b"{\"custom_id\":\"\xff\xfe\"}".to_vec(), no_response("invalid_utf8", "")),
        (b"{\"custom_id\":\"\xc3".to_vec(), no_response("invalid_utf8", "")),
    ]
}

fn bad_outer_fields() -> Vec<Case> {
    vec![
        (raw("{}"), no_response("missing_custom_id", "custom_id")),
        (raw(r#"{"custom_id":null}"#), no_response("missing_custom_id", "custom_id")),
        (raw(r#"{"custom_id":7}"#), no_response("invalid_custom_id", "custom_id")),
        (raw(r#"{"custom_id":""}"#), no_response("invalid_custom_id", "custom_id")),
        (raw(r#"{"custom_id":["x"]}"#), no_response("invalid_custom_id", "custom_id")),
        (raw(&line("first", "again")), no_response("duplicate_custom_id", "custom_id")),
        (raw(r#"{"custom_id":"first"}"#), no_response("duplicate_custom_id", "custom_id")),
        (raw(r#"{"custom_id":"x"}"#), no_response("missing_field", "method")),
        (raw(r#"{"custom_id":"x","method":1}"#), no_response("wrong_field_type", "method")),
        (raw(r#"{"custom_id":"x","method":"GET"}"#), no_response("method_not_post", "method")),
        (raw(r#"{"custom_id":"x","method":"POST"}"#), no_response("missing_field", "url")),
        (raw(r#"{"custom_id":"x","method":"POST","url":[]}"#), no_response("wrong_field_type", "url")),
        (raw(r#"{"custom_id":"x","method":"POST","url":"/v1/embeddings"}"#), no_response("url_mismatch", "url")),
        (raw(r#"{"custom_id":"x","method":"POST","url":"/v1/completions"}"#), no_response("missing_field", "body")),
        (
            raw(r#"{"custom_id":"x","method":"POST","url":"/v1/completions","body":"x"}"#),
            no_response("wrong_field_type", "body"),
        ),
    ]
}

fn bad_models_and_prompts() -> Vec<Case> {
    vec![
        (
            raw(r#"{"custom_id":"x","method":"POST","url":"/v1/completions","body":{"prompt":"x"}}"#),
            refused("missing_required_parameter", "model"),
        ),
        (completion(r#""model":"other","prompt":"x""#), refused("model_not_found", "model")),
        (completion(r#""model":3,"prompt":"x""#), refused("invalid_value", "model")),
        (completion(r#""messages":[]"#), refused("missing_required_parameter", "prompt")),
        (completion(r#""prompt":null"#), refused("missing_required_parameter", "prompt")),
        (completion(r#""prompt":5"#), refused("invalid_value", "prompt")),
        (completion(r#""prompt":[1,-2]"#), refused("invalid_value", "prompt[1]")),
        (completion(r#""prompt":[1,"x"]"#), refused("invalid_value", "prompt[1]")),
        (completion(r#""prompt":[4294967296]"#), refused("invalid_value", "prompt[0]")),
        (completion(r#""prompt":["a","b"]"#), refused("unsupported_parameter", "prompt")),
        (completion(r#""prompt":[[1],[2]]"#), refused("unsupported_parameter", "prompt")),
        (completion(r#""prompt":"""#), refused("empty_prompt", "prompt")),
        (completion(r#""prompt":[]"#), refused("empty_prompt", "prompt")),
        (completion(r#""prompt":"x","messages":[]"#), refused("unsupported_parameter", "messages")),
    ]
}

fn bad_messages() -> Vec<Case> {
    vec![
        (chat(r#""n":1"#), refused("missing_required_parameter", "messages")),
        (messages("{}"), refused("invalid_value", "messages")),
        (messages("[]"), refused("invalid_value", "messages")),
        (messages(r#"["Hi"]"#), refused("invalid_value", "messages[0]")),
        (messages(r#"[{"content":"Hi"}]"#), refused("missing_required_parameter", "messages[0].role")),
        (messages(r#"[{"role":"robot","content":"Hi"}]"#), refused("invalid_value", "messages[0].role")),
        (messages(r#"[{"role":"user"}]"#), refused("missing_required_parameter", "messages[0].content")),
        (messages(r#"[{"role":"user","content":1}]"#), refused("invalid_value", "messages[0].content")),
        (messages(r#"[{"role":"user","content":[]}]"#), refused("invalid_value", "messages[0].content")),
        (messages(r#"[{"role":"user","content":["Hi"]}]"#), refused("invalid_value", "messages[0].content[0]")),
        (
            messages(r#"[{"role":"user","content":[{"type":"text"}]}]"#),
            refused("missing_required_parameter", "messages[0].content[0].text"),
        ),
        (
            messages(r#"[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}}]}]"#),
            refused("unsupported_parameter", "messages[0].content[1].type"),
        ),
        (
            messages(r#"[{"role":"user","content":"Hi","name":"Ada"}]"#),
            refused("unsupported_parameter", "messages[0].name"),
        ),
    ]
}

fn bad_params() -> Vec<Case> {
    vec![
        (with(r#""temperature":"warm""#), refused("invalid_value", "temperature")),
        (with(r#""temperature":-1"#), refused("invalid_value", "temperature")),
        (with(r#""temperature":1e300"#), refused("invalid_value", "temperature")),
        (with(r#""top_p":0"#), refused("invalid_value", "top_p")),
        (with(r#""top_k":-2"#), refused("invalid_value", "top_k")),
        (with(r#""min_p":2"#), refused("invalid_value", "min_p")),
        (with(r#""seed":1.5"#), refused("invalid_value", "seed")),
        (with(r#""max_tokens":0"#), refused("invalid_value", "max_tokens")),
        (with(r#""max_completion_tokens":0"#), refused("invalid_value", "max_completion_tokens")),
        (with(r#""max_tokens":2,"min_tokens":3"#), refused("invalid_value", "min_tokens")),
        (with(r#""stop":[1]"#), refused("invalid_value", "stop[0]")),
        (with(r#""stop":"""#), refused("invalid_value", "stop")),
        (with(r#""stop_token_ids":["x"]"#), refused("invalid_value", "stop_token_ids[0]")),
        (with(r#""ignore_eos":"yes""#), refused("invalid_value", "ignore_eos")),
        (with(r#""priority":1e10"#), refused("invalid_value", "priority")),
        (with(r#""n":2"#), refused("unsupported_parameter", "n")),
        (with(r#""stream":true"#), refused("unsupported_parameter", "stream")),
        (with(r#""logprobs":true"#), refused("unsupported_parameter", "logprobs")),
        (with(r#""tools":[{}]"#), refused("unsupported_parameter", "tools")),
        (with(r#""response_format":{"type":"json_object"}"#), refused("unsupported_parameter", "response_format")),
        (with(r#""temprature":1"#), refused("unsupported_parameter", "temprature")),
        (with(r#""suffix":"""#), refused("unsupported_parameter", "suffix")),
        (with(r#""zeta":1,"alpha":1"#), refused("unsupported_parameter", "alpha")),
    ]
}

#[test]
fn every_bad_line_is_told_exactly_and_alone() {
    for (bad, expected) in bad_lines() {
        let shown = String::from_utf8_lossy(&bad).into_owned();
        let file = [line("first", "a").as_bytes(), &bad, line("last", "b").as_bytes()].join(&b'\n');
        let job = Job::new(file);
        let report = job.run(&ScriptedEngine::echo()).expect("the run completes");
        assert_eq!(counts(&report), [3, 2, 1, 0, 0, 0], "{shown}");
        assert_eq!(told(&job), expected.told(), "{shown}");
        let again = job.resume(&ScriptedEngine::echo());
        assert_eq!(counts(&again), [3, 0, 0, 3, 1, 0], "{shown}");
    }
}

#[test]
fn a_line_alone_says_the_same() {
    let mut spec = EngineSpec::new("scripted", "r");
    spec.max_model_len = 100;
    for (bad, (code, param, _)) in bad_lines() {
        // Only a file has duplicates, and only an engine counts the tokens of a prompt.
        if let Err(error) = BatchLine::parse(&bad, 2, &spec) {
            let is_duplicate = code == "duplicate_custom_id";
            assert!(is_duplicate || (error.code(), error.param(), error.line) == (code, param, 2), "{error}");
        } else {
            assert!(["duplicate_custom_id", "empty_prompt"].contains(&code), "{code}");
        }
    }
}

#[test]
fn long_lines_are_run_or_skipped() {
    let words = "a ".repeat(5_000_000);
    let file = format!("{}\n{}\n{}\n", line("1", "x"), line("2", &words), line("3", "y"));
    let job = Job::new(&file);
    let report = job.run(&ScriptedEngine::echo()).expect("the run completes");
    assert_eq!(counts(&report), [3, 2, 1, 0, 0, 0]);
    assert_eq!(told(&job), refused("context_length_exceeded", "prompt").told());

    let job = Job::new(&file);
    let engine = ScriptedEngine::echo();
    for expected in [[3, 2, 1, 0, 0, 0], [3, 0, 0, 3, 1, 0]] {
        let report = job.runner(&engine).max_line_bytes(1 << 20).resume(true).run().expect("the run completes");
        assert_eq!(counts(&report), expected);
        assert_eq!(told(&job), no_response("line_too_long", "").told());
    }
}

trait Told {
    fn told(&self) -> Vec<(Value, Value, Value)>;
}

impl Told for Expected {
    fn told(&self) -> Vec<(Value, Value, Value)> {
        vec![(self.0.into(), self.1.into(), self.2.into())]
    }
}

/// Code, parameter and line of each row in the error file.
fn told(job: &Job) -> Vec<(Value, Value, Value)> {
    let rows = job.read("out.errors.jsonl");
    let rows = rows.lines().map(|row| serde_json::from_str::<Value>(row).expect("rows are JSON"));
    let told = |row: Value| {
        let error = if row["response"].is_null() { &row["error"] } else { &row["response"]["body"]["error"] };
        (error["code"].clone(), error["param"].clone(), error["line"].clone())
    };
    rows.map(told).collect()
}
