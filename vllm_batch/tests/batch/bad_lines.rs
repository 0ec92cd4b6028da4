//! Every bad line is a typed error that names itself, and the other lines go on.

use serde_json::Value;
use vllm_batch::batch::BatchLine;
use vllm_batch::testing::ScriptedEngine;
use vllm_batch::{EngineSpec, Request, RequestError};

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
    [
        no_objects(),
        bad_outer_fields(),
        bad_models_and_prompts(),
        bad_messages(),
        bad_calls(),
        bad_tools(),
        bad_params(),
        bad_logit_params(),
        bad_repetitions_and_templates(),
        bad_formats(),
        bad_embeddings(),
        bad_scores(),
    ]
    .concat()
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
        (raw(r#"{"custom_id":"x","method":"POST","url":"/v1/moderations"}"#), no_response("url_mismatch", "url")),
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
        (completion(r#""prompt":["a",1]"#), refused("invalid_value", "prompt[1]")),
        (completion(r#""prompt":[[1],[2,"x"]]"#), refused("invalid_value", "prompt[1][1]")),
        (completion(r#""prompt":["a",""]"#), refused("empty_prompt", "prompt[1]")),
        (completion(r#""prompt":["a",[]]"#), refused("empty_prompt", "prompt[1]")),
        (completion(r#""prompt":"""#), refused("empty_prompt", "prompt")),
        (completion(r#""prompt":[]"#), refused("empty_prompt", "prompt")),
        (completion(r#""prompt":"x","messages":[]"#), refused("unsupported_parameter", "messages")),
    ]
}

fn body_of(url: &str, body: &str) -> Vec<u8> {
    format!(r#"{{"custom_id":"x","method":"POST","url":"{url}","body":{{"model":"scripted",{body}}}}}"#).into_bytes()
}

fn bad_embeddings() -> Vec<Case> {
    let many = format!(r#""input":[{}"a"]"#, r#""a","#.repeat(2048));
    let too_long = format!(r#""input":["a","{}"]"#, "b ".repeat(5000));
    let cases = [
        (r#""prompt":"a""#, "missing_required_parameter", "input"),
        (r#""input":7"#, "invalid_value", "input"),
        (r#""input":"""#, "invalid_value", "input"),
        (r#""input":[]"#, "invalid_value", "input"),
        (r#""input":["a",""]"#, "invalid_value", "input[1]"),
        (r#""input":[[1],[]]"#, "invalid_value", "input[1]"),
        (r#""input":["a",["b"]]"#, "invalid_value", "input[1][0]"),
        (&many, "invalid_value", "input"),
        (&too_long, "context_length_exceeded", "input[1]"),
        (r#""input":"a","dimensions":0"#, "invalid_value", "dimensions"),
        (r#""input":"a","encoding_format":"hex""#, "invalid_value", "encoding_format"),
        (r#""input":"a","truncate_prompt_tokens":0"#, "invalid_value", "truncate_prompt_tokens"),
        (r#""input":"a","normalize":true"#, "unsupported_parameter", "normalize"),
        (r#""input":"a","temperature":0"#, "unsupported_parameter", "temperature"),
        (r#""input":"a","embed_dtype":"float16""#, "unsupported_parameter", "embed_dtype"),
    ];
    cases.map(|(body, code, param)| (body_of("/v1/embeddings", body), refused(code, param))).to_vec()
}

fn bad_scores() -> Vec<Case> {
    let cases = [
        (r#""labels":["a"]"#, "missing_required_parameter", "prompt"),
        (r#""prompt":"a""#, "missing_required_parameter", "labels"),
        (r#""prompt":"a","labels":[]"#, "missing_required_parameter", "labels"),
        (r#""prompt":"a","labels":["x",""]"#, "invalid_value", "labels[1]"),
        (r#""prompt":"a","labels":"x""#, "invalid_value", "labels"),
        (r#""prompt":"a","label_token_ids":[-1]"#, "invalid_value", "label_token_ids[0]"),
        (r#""prompt":"a","messages":[{"role":"user","content":"b"}],"labels":["x"]"#, "invalid_value", "prompt"),
        (r#""prompt":["a",""],"labels":["x"]"#, "empty_prompt", "prompt[1]"),
        (r#""prompt":"a","labels":["x"],"apply_softmax":false"#, "unsupported_parameter", "apply_softmax"),
        (r#""text_1":"a","text_2":["b"],"labels":["x"]"#, "invalid_value", "labels"),
        (r#""text_1":["a","b"],"text_2":["b"]"#, "invalid_value", "text_1"),
        (r#""text_1":"a","text_2":[]"#, "invalid_value", "text_2"),
        (r#""queries":"a","documents":[1]"#, "invalid_value", "documents[0]"),
        (r#""queries":"a","documents":"b","items":"c""#, "invalid_value", "items"),
        (r#""text_1":"a""#, "missing_required_parameter", "text_2"),
    ];
    cases.map(|(body, code, param)| (body_of("/v1/score", body), refused(code, param))).to_vec()
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
            messages(r#"[{"role":"user","content":"Hi","mood":"good"}]"#),
            refused("unsupported_parameter", "messages[0].mood"),
        ),
        (messages(r#"[{"role":"user","content":"Hi","name":1}]"#), refused("invalid_value", "messages[0].name")),
    ]
}

/// A conversation whose assistant makes this call.
fn calling(call: &str) -> Vec<u8> {
    messages(&format!(
        r#"[{{"role":"user","content":"Hi"}},{{"role":"assistant","content":null,"tool_calls":[{call}]}}]"#
    ))
}

fn bad_calls() -> Vec<Case> {
    vec![
        (
            messages(r#"[{"role":"assistant","content":null}]"#),
            refused("missing_required_parameter", "messages[0].content"),
        ),
        (
            messages(
                r#"[{"role":"user","content":"x","tool_calls":[{"id":"1","type":"function","function":{"name":"f"}}]}]"#,
            ),
            refused("invalid_value", "messages[0].tool_calls"),
        ),
        (
            messages(r#"[{"role":"user","content":"x","tool_call_id":"1"}]"#),
            refused("invalid_value", "messages[0].tool_call_id"),
        ),
        (calling("1"), refused("invalid_value", "messages[1].tool_calls[0]")),
        (calling(r#"{"type":"function"}"#), refused("missing_required_parameter", "messages[1].tool_calls[0].id")),
        (
            calling(r#"{"id":"1","type":"function"}"#),
            refused("missing_required_parameter", "messages[1].tool_calls[0].function"),
        ),
        (
            calling(r#"{"id":"1","type":"custom","custom":{}}"#),
            refused("unsupported_parameter", "messages[1].tool_calls[0].type"),
        ),
        (
            calling(r#"{"id":"1","type":"function","function":{"name":"f","arguments":{}}}"#),
            refused("invalid_value", "messages[1].tool_calls[0].function.arguments"),
        ),
        (
            calling(r#"{"id":"1","type":"function","function":{"name":"f","arguments":"{"}}"#),
            refused("invalid_value", "messages[1].tool_calls[0].function.arguments"),
        ),
        (
            calling(r#"{"id":"1","type":"function","function":{"name":"f","mood":"good"}}"#),
            refused("unsupported_parameter", "messages[1].tool_calls[0].function.mood"),
        ),
    ]
}

fn bad_tools() -> Vec<Case> {
    const F: &str = r#"{"type":"function","function":{"name":"f"}}"#;
    let choice = |value: &str| with(&format!(r#""tools":[{F}],"tool_choice":{value}"#));
    let named = |name: &str| format!(r#"{{"type":"function","function":{{"name":"{name}"}}}}"#);
    let allowed = |mode: &str, names: &str| {
        choice(&format!(r#"{{"type":"allowed_tools","allowed_tools":{{"mode":"{mode}","tools":[{names}]}}}}"#))
    };
    vec![
        (with(r#""tools":{}"#), refused("invalid_value", "tools")),
        (with(r#""tools":[{}]"#), refused("missing_required_parameter", "tools[0].type")),
        (with(r#""tools":[{"type":"web_search"}]"#), refused("unsupported_parameter", "tools[0].type")),
        (
            with(r#""tools":[{"type":"function","function":{}}]"#),
            refused("missing_required_parameter", "tools[0].function.name"),
        ),
        (
            with(r#""tools":[{"type":"function","function":{"name":"a b"}}]"#),
            refused("invalid_value", "tools[0].function.name"),
        ),
        (
            with(r#""tools":[{"type":"function","function":{"name":"f","parameters":[]}}]"#),
            refused("invalid_value", "tools[0].function.parameters"),
        ),
        (
            with(r#""tools":[{"type":"function","function":{"name":"f","returns":1}}]"#),
            refused("unsupported_parameter", "tools[0].function.returns"),
        ),
        (with(&format!(r#""tools":[{F},{F}]"#)), refused("invalid_value", "tools[1].function.name")),
        (with(r#""tool_choice":"required""#), refused("invalid_value", "tool_choice")),
        (choice("1"), refused("invalid_value", "tool_choice")),
        (choice(r#""any""#), refused("invalid_value", "tool_choice")),
        (choice(&named("g")), refused("invalid_value", "tool_choice.function.name")),
        (choice("{}"), refused("missing_required_parameter", "tool_choice.type")),
        (allowed("some", F), refused("invalid_value", "tool_choice.allowed_tools.mode")),
        (allowed("auto", ""), refused("invalid_value", "tool_choice.allowed_tools.tools")),
        (allowed("auto", &named("g")), refused("invalid_value", "tool_choice.allowed_tools.tools[0].function.name")),
        (with(r#""parallel_tool_calls":1"#), refused("invalid_value", "parallel_tool_calls")),
        (with(r#""functions":[{"name":"f"}]"#), refused("unsupported_parameter", "functions")),
        (with(r#""function_call":{"name":"f"}"#), refused("unsupported_parameter", "function_call")),
        (with(r#""documents":["d"]"#), refused("invalid_value", "documents[0]")),
        (with(r#""include_reasoning":"no""#), refused("invalid_value", "include_reasoning")),
        (with(r#""thinking_token_budget":-2"#), refused("invalid_value", "thinking_token_budget")),
        (with(r#""reasoning_effort":"huge""#), refused("invalid_value", "reasoning_effort")),
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
        (with(r#""n":0"#), refused("invalid_value", "n")),
        (with(r#""n":129"#), refused("invalid_value", "n")),
        (with(r#""n":"2""#), refused("invalid_value", "n")),
        (with(r#""n":2,"temperature":0"#), refused("invalid_value", "n")),
        (with(r#""best_of":2"#), refused("unsupported_parameter", "best_of")),
        (completion(r#""prompt":"x","n":3,"best_of":2"#), refused("invalid_value", "best_of")),
        (with(r#""stream":true"#), refused("unsupported_parameter", "stream")),
        (with(r#""temprature":1"#), refused("unsupported_parameter", "temprature")),
        (with(r#""suffix":"""#), refused("unsupported_parameter", "suffix")),
        (with(r#""zeta":1,"alpha":1"#), refused("unsupported_parameter", "alpha")),
    ]
}

fn bad_logit_params() -> Vec<Case> {
    vec![
        (with(r#""presence_penalty":2.5"#), refused("invalid_value", "presence_penalty")),
        (with(r#""frequency_penalty":"low""#), refused("invalid_value", "frequency_penalty")),
        (with(r#""repetition_penalty":0"#), refused("invalid_value", "repetition_penalty")),
        (with(r#""logit_bias":[1]"#), refused("invalid_value", "logit_bias")),
        (with(r#""logit_bias":{"a":1}"#), refused("invalid_value", "logit_bias.a")),
        (with(r#""logit_bias":{"-1":1}"#), refused("invalid_value", "logit_bias.-1")),
        (with(r#""logit_bias":{"1":"x"}"#), refused("invalid_value", "logit_bias.1")),
        (with(r#""logit_bias":{"1":101}"#), refused("invalid_value", "logit_bias")),
        (with(r#""allowed_token_ids":[]"#), refused("invalid_value", "allowed_token_ids")),
        (with(r#""allowed_token_ids":[1.5]"#), refused("invalid_value", "allowed_token_ids[0]")),
        (with(r#""bad_words":[""]"#), refused("invalid_value", "bad_words")),
        (with(r#""bad_words":"x""#), refused("invalid_value", "bad_words")),
        (with(r#""logprobs":5"#), refused("invalid_value", "logprobs")),
        (with(r#""top_logprobs":5"#), refused("invalid_value", "top_logprobs")),
        (with(r#""logprobs":true,"top_logprobs":21"#), refused("invalid_value", "top_logprobs")),
        (completion(r#""prompt":"x","logprobs":true"#), refused("invalid_value", "logprobs")),
        (completion(r#""prompt":"x","logprobs":21"#), refused("invalid_value", "logprobs")),
        (completion(r#""prompt":"x","top_logprobs":1"#), refused("unsupported_parameter", "top_logprobs")),
        (with(r#""prompt_logprobs":-1"#), refused("invalid_value", "prompt_logprobs")),
        (with(r#""echo":true"#), refused("unsupported_parameter", "echo")),
        (completion(r#""prompt":"x","echo":1"#), refused("invalid_value", "echo")),
        (with(r#""include_stop_str_in_output":0"#), refused("invalid_value", "include_stop_str_in_output")),
        (with(r#""truncate_prompt_tokens":0"#), refused("invalid_value", "truncate_prompt_tokens")),
        (with(r#""truncate_prompt_tokens":-2"#), refused("invalid_value", "truncate_prompt_tokens")),
        (with(r#""add_special_tokens":1"#), refused("invalid_value", "add_special_tokens")),
    ]
}

fn bad_repetitions_and_templates() -> Vec<Case> {
    vec![
        (with(r#""repetition_detection":3"#), refused("invalid_value", "repetition_detection")),
        (
            with(r#""repetition_detection":{"max_pattern_size":3,"min_count":1}"#),
            refused("invalid_value", "repetition_detection.min_count"),
        ),
        (
            with(r#""repetition_detection":{"min_count":-1}"#),
            refused("invalid_value", "repetition_detection.min_count"),
        ),
        (with(r#""repetition_detection":{"count":1}"#), refused("unsupported_parameter", "repetition_detection.count")),
        (with(r#""max_repetition_pattern_size":3"#), refused("invalid_value", "repetition_min_count")),
        (
            with(r#""max_repetition_pattern_size":3,"min_repetition_pattern_size":4,"repetition_min_count":2"#),
            refused("invalid_value", "min_repetition_pattern_size"),
        ),
        (
            with(r#""repetition_detection":{},"repetition_min_count":2"#),
            refused("invalid_value", "repetition_detection"),
        ),
        (with(r#""chat_template":1"#), refused("invalid_value", "chat_template")),
        (with(r#""chat_template_kwargs":[]"#), refused("invalid_value", "chat_template_kwargs")),
        (with(r#""chat_template_kwargs":{"tools":[]}"#), refused("invalid_value", "chat_template_kwargs.tools")),
        (with(r#""continue_final_message":true"#), refused("invalid_value", "continue_final_message")),
        (
            completion(r#""prompt":"x","add_generation_prompt":true"#),
            refused("unsupported_parameter", "add_generation_prompt"),
        ),
    ]
}

fn bad_formats() -> Vec<Case> {
    let format = |format: &str| with(&format!(r#""response_format":{format}"#));
    let schema = |schema: &str| format(&format!(r#"{{"type":"json_schema","json_schema":{schema}}}"#));
    let outputs = |outputs: &str| with(&format!(r#""structured_outputs":{outputs}"#));
    let inner = "response_format.json_schema";
    let missing = |field: &str| ("missing_required_parameter", field.to_owned());
    let invalid = |field: &str| ("invalid_value", field.to_owned());
    let unsupported = |field: &str| ("unsupported_parameter", field.to_owned());
    let cases = vec![
        (format(r#""json""#), invalid("response_format")),
        (format("{}"), missing("response_format.type")),
        (format(r#"{"type":"xml"}"#), invalid("response_format.type")),
        (format(r#"{"type":"structural_tag"}"#), unsupported("response_format.type")),
        (format(r#"{"type":"text","schema":{}}"#), unsupported("response_format.schema")),
        (format(r#"{"type":"json_schema"}"#), missing(inner)),
        (schema("[]"), invalid(inner)),
        (schema(r#"{"schema":{}}"#), missing(&format!("{inner}.name"))),
        (schema(r#"{"name":"a"}"#), missing(&format!("{inner}.schema"))),
        (schema(r#"{"name":"a","schema":3}"#), invalid(&format!("{inner}.schema"))),
        (schema(r#"{"name":"a","schema":"{"}"#), invalid(&format!("{inner}.schema"))),
        (schema(r#"{"name":"a","schema":{},"strict":"yes"}"#), invalid(&format!("{inner}.strict"))),
        (schema(r#"{"name":"a","schema":{},"description":1}"#), invalid(&format!("{inner}.description"))),
        (schema(r#"{"name":"a","schema":{},"depth":1}"#), unsupported(&format!("{inner}.depth"))),
        (outputs("true"), invalid("structured_outputs")),
        (outputs("{}"), invalid("structured_outputs")),
        (outputs(r#"{"json_object":false}"#), invalid("structured_outputs")),
        (outputs(r#"{"regex":"a","choice":["a"]}"#), invalid("structured_outputs")),
        (outputs(r#"{"json_object":1}"#), invalid("structured_outputs.json_object")),
        (outputs(r#"{"json":[]}"#), invalid("structured_outputs.json")),
        (outputs(r#"{"regex":["a"]}"#), invalid("structured_outputs.regex")),
        (outputs(r#"{"choice":["a",1]}"#), invalid("structured_outputs.choice[1]")),
        (outputs(r#"{"grammar":{}}"#), invalid("structured_outputs.grammar")),
        (outputs(r#"{"structural_tag":"{}"}"#), unsupported("structured_outputs.structural_tag")),
        (outputs(r#"{"regex":"a","backend":"x"}"#), unsupported("structured_outputs.backend")),
        (outputs(r#"{"json":{},"whitespace_pattern":1}"#), invalid("structured_outputs.whitespace_pattern")),
        (outputs(r#"{"json":{},"disable_any_whitespace":1}"#), invalid("structured_outputs.disable_any_whitespace")),
        (with(r#""guided_json":1"#), invalid("guided_json")),
        (with(r#""guided_regex":1"#), invalid("guided_regex")),
        (with(r#""guided_choice":"a""#), invalid("guided_choice")),
        (with(r#""guided_grammar":[]"#), invalid("guided_grammar")),
        (with(r#""guided_regex":"a","structured_outputs":{"regex":"a"}"#), invalid("structured_outputs")),
        (with(r#""guided_json":{},"response_format":{"type":"json_object"}"#), invalid("response_format")),
    ];
    cases.into_iter().map(|(line, (code, param))| (line, refused(code, param.leak()))).collect()
}

/// The engine speaks of `structured_outputs`; a row names what its line has.
#[test]
fn an_engine_that_refuses_a_format_names_it_as_written() {
    let refuse = |request: &Request| {
        let params = request.sampling_params().expect("text is asked for");
        let format = params.structured_outputs.as_ref().expect("a format");
        let param = format!("structured_outputs.{}", format.format.name());
        Err(RequestError::InvalidGrammar { param, pointer: None, message: "no".to_owned() })
    };
    let cases = [
        (
            r#""response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{}}}"#,
            "response_format.json_schema.schema",
        ),
        (r#""response_format":{"type":"json_object"}"#, "response_format"),
        (r#""structured_outputs":{"json":{}}"#, "structured_outputs.json"),
        (r#""guided_json":"{}""#, "guided_json"),
        (r#""guided_regex":"(""#, "guided_regex"),
        (r#""guided_choice":[]"#, "guided_choice"),
        (r#""guided_grammar":"""#, "guided_grammar"),
    ];
    for (param, expected) in cases {
        let job = Job::new(with(param));
        // Nothing but failures is no engine failure: these are the request's own.
        job.run(&ScriptedEngine::new(refuse)).expect("the run completes");
        assert_eq!(told(&job), refused("invalid_grammar", expected).told(), "{param}");
    }
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
            assert!(["duplicate_custom_id", "empty_prompt", "context_length_exceeded"].contains(&code), "{code}");
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
