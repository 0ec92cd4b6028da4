//! Each reader's own rules. Sources: docs/contracts.md, "Training data".

use serde_json::{Map, Value};

use super::chat::{AXOLOTL, Chat, OPENAI, SHAREGPT, TRL};
use super::{Checker, Effect, records};
use crate::curate::check::type_name;
use crate::curate::export::ExportFormat;

type Row = Map<String, Value>;

/// What OpenAI takes: examples, bytes of a file, and about what an example may have (65,536 tokens of four characters).
const MIN_EXAMPLES: usize = 10;
const MAX_BYTES: u64 = 512 * 1024 * 1024;
const MAX_EXAMPLE_CHARS: usize = 4 * 65_536;

pub(super) fn check_row(checker: &mut Checker, row: &Row) {
    match checker.format {
        ExportFormat::OpenAiChat => openai_chat(checker, row),
        ExportFormat::OpenAiDpo => openai_dpo(checker, row),
        ExportFormat::TrlPromptCompletion => trl(checker, row, &["completion"]),
        ExportFormat::TrlPreference => trl(checker, row, &["chosen", "rejected"]),
        ExportFormat::TrlKto => {
            trl(checker, row, &["completion"]);
            expect(checker, row, "label", Effect::Refused, ("true or false", Value::is_boolean));
        }
        ExportFormat::TrlMessages => trl_messages(checker, row),
        ExportFormat::Alpaca => alpaca(checker, row),
        ExportFormat::AlpacaPreference => alpaca_preference(checker, row),
        ExportFormat::ShareGpt => sharegpt(checker, row),
        ExportFormat::ShareGptPreference => sharegpt_preference(checker, row),
        ExportFormat::Axolotl => axolotl(checker, row),
        ExportFormat::Distilabel => {
            for key in ["prompt", "prompt_id"] {
                text(checker, row, key, Effect::Refused);
            }
            ends_with_assistant(checker, row, &TRL, Effect::Refused);
        }
        ExportFormat::Argilla => records::argilla(checker, row),
        ExportFormat::IclJson => records::icl_json(checker, row),
        ExportFormat::IclMessages => {
            let roles = TRL.check(checker, "/messages", row.get("messages"));
            if roles.is_some_and(|roles| roles != ["user", "assistant"]) {
                checker.problem(
                    "/messages",
                    "role_order",
                    Effect::Misread,
                    "an example is a user's message and its answer",
                );
            }
        }
        // Read as a whole.
        ExportFormat::IclText => {}
    }
}

/// What only the whole file shows.
pub(super) fn check_file(checker: &mut Checker) {
    if !matches!(checker.format, ExportFormat::OpenAiChat | ExportFormat::OpenAiDpo) {
        return;
    }
    let num_rows = checker.report.num_rows;
    if num_rows < MIN_EXAMPLES {
        let message = format!("there are {num_rows} rows, and {MIN_EXAMPLES} are the fewest");
        checker.problem("", "too_few_rows", Effect::Refused, message);
    }
    if checker.num_bytes > MAX_BYTES {
        let message = format!("the file has {} bytes, and {MAX_BYTES} are the most", checker.num_bytes);
        checker.problem("", "file_too_large", Effect::Refused, message);
    }
}

fn openai_chat(checker: &mut Checker, row: &Row) {
    only_keys(checker, row, &["messages", "tools", "parallel_tool_calls"]);
    ends_with_assistant(checker, row, &OPENAI, Effect::Refused);
    let messages = row.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (at, message) in messages.iter().enumerate() {
        let Some(weight) = message.get("weight") else { continue };
        let path = format!("/messages/{at}/weight");
        if !matches!(weight.as_u64(), Some(0 | 1)) {
            checker.problem(path, "invalid_weight", Effect::Refused, format!("a weight is 0 or 1, not {weight}"));
        } else if message["role"] != "assistant" {
            checker.problem(path, "invalid_weight", Effect::Refused, "only messages of the assistant have a weight");
        }
    }
    if !messages.is_empty() && messages.iter().all(|message| message["role"] != "assistant" || message["weight"] == 0) {
        checker.problem("/messages", "nothing_to_learn", Effect::Refused, "no message of the assistant counts");
    }
    too_long(checker, "/messages", messages);
}

fn openai_dpo(checker: &mut Checker, row: &Row) {
    only_keys(checker, row, &["input", "preferred_output", "non_preferred_output"]);
    let input = row.get("input").and_then(|input| input.get("messages"));
    let roles = OPENAI.check(checker, "/input/messages", input);
    if roles.is_some_and(|roles| roles.last() == Some(&"assistant")) {
        checker.problem(
            "/input/messages",
            "role_order",
            Effect::Refused,
            "the input ends with the assistant's message",
        );
    }
    for key in ["preferred_output", "non_preferred_output"] {
        let path = format!("/{key}");
        let roles = OPENAI.check(checker, &path, row.get(key));
        if roles.is_some_and(|roles| !roles.contains(&"assistant") || roles.iter().any(|role| !is_reply(role))) {
            checker.problem(path, "role_order", Effect::Refused, "outputs are messages of the assistant");
        }
    }
    equal_pair(checker, row, "preferred_output", "non_preferred_output");
    too_long(checker, "/input/messages", input.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default());
}

fn is_reply(role: &str) -> bool {
    role == "assistant" || role == "tool"
}

fn too_long(checker: &mut Checker, path: &str, messages: &[Value]) {
    let contents = messages.iter().filter_map(|message| message["content"].as_str());
    let chars: usize = contents.map(|content| content.chars().count()).sum();
    if chars > MAX_EXAMPLE_CHARS {
        let message = format!("{chars} characters are likely more than 65,536 tokens");
        checker.problem(path, "too_long", Effect::Truncated, message);
    }
}

/// TRL's keys by which it tells the kinds of datasets apart.
const TRL_KEYS: [&str; 6] = ["prompt", "chosen", "rejected", "completion", "messages", "label"];

fn trl_keys(checker: &mut Checker, row: &Row, expected: &[&str]) {
    for key in TRL_KEYS {
        if row.contains_key(key) && !expected.contains(&key) {
            let message = format!("with {key:?} the row is of no kind that TRL knows");
            checker.problem(format!("/{key}"), "unknown_key", Effect::Refused, message);
        }
    }
}

fn trl(checker: &mut Checker, row: &Row, outputs: &[&str]) {
    let label: &[&str] = if checker.format == ExportFormat::TrlKto { &["label"] } else { &[] };
    trl_keys(checker, row, &[&["prompt"], outputs, label].concat());
    let keys = || ["prompt"].iter().chain(outputs);
    if keys().all(|key| row.get(*key).is_some_and(Value::is_string)) {
        for key in keys() {
            text(checker, row, key, Effect::Refused);
        }
    } else {
        let roles = TRL.check(checker, "/prompt", row.get("prompt"));
        if roles.is_some_and(|roles| !matches!(roles.last(), Some(&"user" | &"tool"))) {
            checker.problem(
                "/prompt",
                "role_order",
                Effect::Refused,
                "the prompt does not end with the user's message",
            );
        }
        for key in outputs {
            let path = format!("/{key}");
            let roles = TRL.check(checker, &path, row.get(*key));
            if roles.is_some_and(|roles| roles.iter().any(|role| !is_reply(role))) {
                checker.problem(path, "role_order", Effect::Misread, "there are others than the assistant's messages");
            }
        }
    }
    if let [first, second] = outputs {
        equal_pair(checker, row, first, second);
    }
}

fn trl_messages(checker: &mut Checker, row: &Row) {
    trl_keys(checker, row, &["messages"]);
    ends_with_assistant(checker, row, &TRL, Effect::Misread);
}

fn ends_with_assistant(checker: &mut Checker, row: &Row, chat: &Chat, effect: Effect) {
    let roles = chat.check(checker, "/messages", row.get("messages"));
    if roles.is_some_and(|roles| roles.last() != Some(&"assistant")) {
        checker.problem("/messages", "role_order", effect, "the last message is not the assistant's");
    }
}

/// LLaMA-Factory drops what has no answer in text.
fn alpaca(checker: &mut Checker, row: &Row) {
    text(checker, row, "output", Effect::Skipped);
    alpaca_prompt(checker, row);
}

/// With `ranking`, it drops what has not two answers in text.
fn alpaca_preference(checker: &mut Checker, row: &Row) {
    for key in ["chosen", "rejected"] {
        text(checker, row, key, Effect::Skipped);
    }
    alpaca_prompt(checker, row);
    equal_pair(checker, row, "chosen", "rejected");
}

fn alpaca_prompt(checker: &mut Checker, row: &Row) {
    text(checker, row, "instruction", Effect::Skipped);
    if row.get("input").is_some_and(|input| !input.is_string() && !input.is_null()) {
        checker.problem("/input", "not_a_text", Effect::Refused, "a text is expected");
    }
    if row.get("history").is_some_and(|history| history.as_array().is_some_and(|turns| !turns.is_empty())) {
        checker.problem("/history", "trained_on_history", Effect::Misread, "answers in the history are trained on");
    }
}

fn sharegpt(checker: &mut Checker, row: &Row) {
    if sharegpt_turns(checker, row).is_some_and(|turns| turns % 2 == 1) {
        checker.problem("/conversations", "odd_turns", Effect::Skipped, "the last turn has no answer");
    }
}

/// With `ranking`, the two answers stand beside the conversation.
fn sharegpt_preference(checker: &mut Checker, row: &Row) {
    if sharegpt_turns(checker, row).is_some_and(|turns| turns % 2 == 0) {
        checker.problem("/conversations", "even_turns", Effect::Skipped, "the last turn has an answer already");
    }
    for key in ["chosen", "rejected"] {
        let path = format!("/{key}");
        let Some(message) = row.get(key) else {
            checker.problem(path, "missing_key", Effect::Skipped, "the row has no such key");
            continue;
        };
        let role = SHAREGPT.check_message(checker, &path, message);
        if role.is_some_and(|role| !["gpt", "function_call"].contains(&role)) {
            checker.problem(path, "role_order", Effect::Skipped, "an answer is the assistant's");
        }
    }
    equal_pair(checker, row, "chosen", "rejected");
}

/// How many turns there are, if they come in the order that the reader wants.
fn sharegpt_turns(checker: &mut Checker, row: &Row) -> Option<usize> {
    if row.get("system").is_some_and(|system| !system.is_string() && !system.is_null()) {
        checker.problem("/system", "not_a_text", Effect::Refused, "a text is expected");
    }
    let roles = SHAREGPT.check(checker, "/conversations", row.get("conversations"))?;
    let turns = roles.strip_prefix(&["system"]).unwrap_or(&roles);
    let allowed = |at: usize| if at.is_multiple_of(2) { ["human", "observation"] } else { ["gpt", "function_call"] };
    if let Some(at) = (0..turns.len()).find(|at| !allowed(*at).contains(&turns[*at])) {
        let message = format!("turn {} is {:?}, not {}", at + 1, turns[at], allowed(at).join(" or "));
        checker.problem("/conversations", "role_order", Effect::Skipped, message);
        return None;
    }
    Some(turns.len())
}

fn axolotl(checker: &mut Checker, row: &Row) {
    ends_with_assistant(checker, row, &AXOLOTL, Effect::Misread);
    let messages = row.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_learnt = |message: &Value| message["train"].as_bool().unwrap_or(message["role"] == "assistant");
    if !messages.is_empty() && !messages.iter().any(is_learnt) {
        checker.problem("/messages", "nothing_to_learn", Effect::Skipped, "no message is trained on");
    }
    for (at, message) in messages.iter().enumerate() {
        if message.get("train").is_some_and(|train| !train.is_boolean()) {
            let path = format!("/messages/{at}/train");
            checker.problem(path, "invalid_weight", Effect::Refused, "`train` is true or false");
        }
    }
}

fn only_keys(checker: &mut Checker, row: &Row, known: &[&str]) {
    for key in row.keys().filter(|key| !known.contains(&key.as_str())) {
        let message = format!("rows have no {key:?}: there are {}", known.join(", "));
        checker.problem(format!("/{key}"), "unknown_key", Effect::Refused, message);
    }
}

fn equal_pair(checker: &mut Checker, row: &Row, good: &str, bad: &str) {
    if row.get(good).is_some_and(|value| row.get(bad) == Some(value)) {
        checker.problem(
            format!("/{bad}"),
            "equal_pair",
            Effect::Misread,
            "both answers are the same: there is nothing to learn",
        );
    }
}

/// A text that is not empty.
pub(super) fn text(checker: &mut Checker, row: &Row, key: &str, effect: Effect) {
    if row.get(key).is_some_and(|value| value.as_str() == Some("")) {
        return checker.problem(format!("/{key}"), "empty_text", effect, "the text is empty");
    }
    expect(checker, row, key, effect, ("a text", Value::is_string));
}

/// A kind of value, in words and as a test.
pub(super) type Kind = (&'static str, fn(&Value) -> bool);

pub(super) fn expect(checker: &mut Checker, row: &Row, key: &str, effect: Effect, (expected, holds): Kind) {
    let path = format!("/{key}");
    match row.get(key) {
        None => checker.problem(path, "missing_key", effect, format!("{expected} is expected")),
        Some(value) if holds(value) => {}
        Some(value) => {
            let code = if expected == "a text" { "not_a_text" } else { "wrong_type" };
            checker.problem(path, code, effect, format!("{expected} is expected; this is {}", type_name(value)));
        }
    }
}
