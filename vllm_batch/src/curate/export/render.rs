//! Rows in the form that their readers know.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::ExportFormat;
use super::sample::Sample;
use crate::curate::compile::hex;
use crate::request::{Message, Role};

/// A row, without where it comes from.
pub(super) fn body(format: ExportFormat, sample: &Sample) -> Map<String, Value> {
    let answer = || vec![assistant(&sample.answer)];
    let rejected = || vec![assistant(sample.rejected.as_deref().unwrap_or_default())];
    let prompt = || sample.prompt.iter().map(plain).collect::<Vec<_>>();
    let row = match format {
        ExportFormat::OpenAiChat => json!({"messages": weighted(sample)}),
        ExportFormat::OpenAiDpo => {
            json!({"input": {"messages": prompt()}, "preferred_output": answer(), "non_preferred_output": rejected()})
        }
        ExportFormat::TrlPromptCompletion => json!({"prompt": prompt(), "completion": answer()}),
        ExportFormat::TrlMessages => json!({"messages": conversation(sample)}),
        ExportFormat::TrlPreference => json!({"prompt": prompt(), "chosen": answer(), "rejected": rejected()}),
        ExportFormat::TrlKto => json!({"prompt": prompt(), "completion": answer(), "label": sample.label}),
        ExportFormat::Alpaca => {
            json!({"instruction": system(sample), "input": user(sample), "output": sample.answer})
        }
        ExportFormat::AlpacaPreference => json!({
            "instruction": system(sample),
            "input": user(sample),
            "chosen": sample.answer,
            "rejected": sample.rejected.as_deref().unwrap_or_default(),
        }),
        ExportFormat::ShareGpt => json!({
            "conversations": [turn("human", user(sample)), turn("gpt", &sample.answer)],
            "system": system(sample),
        }),
        ExportFormat::ShareGptPreference => json!({
            "conversations": [turn("human", user(sample))],
            "system": system(sample),
            "chosen": turn("gpt", &sample.answer),
            "rejected": turn("gpt", sample.rejected.as_deref().unwrap_or_default()),
        }),
        ExportFormat::Axolotl => json!({"messages": marked(sample)}),
        ExportFormat::Distilabel => {
            let id = hex(&Sha256::digest(user(sample)));
            json!({"prompt": user(sample), "prompt_id": id, "messages": conversation(sample)})
        }
        ExportFormat::IclJson => icl(sample),
        ExportFormat::IclMessages => {
            json!({"messages": [{"role": "user", "content": user(sample)}, assistant(&sample.answer)]})
        }
        ExportFormat::IclText => json!({"text": block(sample)}),
        ExportFormat::Argilla => json!({}),
    };
    match row {
        Value::Object(row) => row,
        _ => Map::new(),
    }
}

fn plain(message: &Message) -> Value {
    let role = match message.role {
        Role::Assistant => "assistant",
        Role::User => "user",
        _ => "system",
    };
    json!({"role": role, "content": message.content})
}

fn assistant(content: &str) -> Value {
    json!({"role": "assistant", "content": content})
}

fn turn(from: &str, value: &str) -> Value {
    json!({"from": from, "value": value})
}

fn conversation(sample: &Sample) -> Vec<Value> {
    sample.prompt.iter().map(plain).chain([assistant(&sample.answer)]).collect()
}

/// With examples, answers of examples have the weight 0.
fn weighted(sample: &Sample) -> Vec<Value> {
    let mut messages = conversation(sample);
    let answers: Vec<usize> = (0..messages.len()).filter(|at| messages[*at]["role"] == "assistant").collect();
    if let Some((last, examples)) = answers.split_last().filter(|(_, examples)| !examples.is_empty()) {
        for at in examples {
            messages[*at]["weight"] = json!(0);
        }
        messages[*last]["weight"] = json!(1);
    }
    messages
}

/// Only the last answer is learnt.
fn marked(sample: &Sample) -> Vec<Value> {
    let mut messages = conversation(sample);
    let last = messages.len() - 1;
    for (at, message) in messages.iter_mut().enumerate() {
        message["train"] = json!(at == last);
    }
    messages
}

fn system(sample: &Sample) -> &str {
    sample.prompt.first().map_or("", |message| message.content.as_str())
}

fn user(sample: &Sample) -> &str {
    sample.prompt.last().map_or("", |message| message.content.as_str())
}

fn icl(sample: &Sample) -> Value {
    let source = &sample.source;
    json!({
        "id": source.id,
        "schema": source.schema,
        "input": sample.record.fields,
        "output": sample.answers,
        "rendered": {"user": user(sample), "assistant": sample.answer},
        "quality": {
            "gold": source.gold,
            "agreement": Some(source.agreement).filter(|agreement| *agreement >= 0.0),
            "annotators": source.num_annotators,
        },
    })
}

/// An example between marks that its texts cannot have.
fn block(sample: &Sample) -> String {
    let safe = |text: &str| {
        ["example", "record", "answer"]
            .iter()
            .fold(text.to_owned(), |text, mark| text.replace(&format!("</{mark}>"), &format!("<\\/{mark}>")))
    };
    let (user, answer) = (safe(user(sample)), safe(&sample.answer));
    format!("<example>\n<record>\n{user}\n</record>\n<answer>\n{answer}\n</answer>\n</example>\n")
}
