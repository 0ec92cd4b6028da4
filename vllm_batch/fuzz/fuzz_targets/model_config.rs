//! Any bytes as the configurations of a model. The first byte chooses the weights, then come `config.json`,
//! `generation_config.json` and `tokenizer_config.json`, a line each. The model loads and answers, or is refused with a code.

#![no_main]

mod loading;

use std::os::unix::fs::symlink;

use libfuzzer_sys::{Corpus, fuzz_target};
use loading::{load_and_run, test_data};
use tempfile::TempDir;

const NAMES: [&str; 3] = ["config.json", "generation_config.json", "tokenizer_config.json"];
/// By the first byte of an input: `a` is the first.
const WEIGHTS: [&str; 14] = [
    "arch/llama",
    "arch/llama3_rope",
    "arch/mistral_swa",
    "arch/smollm3",
    "arch/qwen2",
    "arch/qwen3",
    "arch/qwen3_moe",
    "arch/gemma2",
    "arch/gemma3",
    "arch/phi3",
    "arch/phi4_mini_long",
    "arch/olmo2",
    "arch/granite",
    "encoders/bert",
];

thread_local! {
    static FOLDERS: Vec<TempDir> = WEIGHTS.map(folder).into();
}

fn folder(weights: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder for the model");
    for (name, from) in [("tokenizer.json", "arch/llama"), ("model.safetensors", weights)] {
        symlink(test_data(from).join(name), folder.path().join(name)).expect("a link can be made");
    }
    folder
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((choice, text)) = input.split_first() else { return Corpus::Reject };
    FOLDERS.with(|folders| {
        let folder = folders[usize::from(choice.wrapping_sub(b'a')) % WEIGHTS.len()].path();
        let mut lines = text.splitn(NAMES.len(), |byte| *byte == b'\n');
        for name in NAMES {
            let line = lines.next().unwrap_or(b"{}");
            std::fs::write(folder.join(name), line).expect("the file is written");
        }
        load_and_run(folder);
    });
    Corpus::Keep
});
