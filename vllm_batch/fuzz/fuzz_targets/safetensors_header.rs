//! Any bytes as the `model.safetensors` of a model whose other files are right: it loads and answers, or is refused with a
//! code.

#![no_main]

mod loading;

use libfuzzer_sys::{Corpus, fuzz_target};
use loading::{load_and_run, test_data, with_zeros};
use tempfile::TempDir;

thread_local! {
    static FOLDER: TempDir = folder();
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder for the model");
    for name in ["config.json", "tokenizer.json"] {
        let from = test_data("arch/llama").join(name);
        std::fs::copy(from, folder.path().join(name)).expect("the test data is there");
    }
    folder
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(bytes) = with_zeros(input) else { return Corpus::Reject };
    FOLDER.with(|folder| {
        std::fs::write(folder.path().join("model.safetensors"), bytes).expect("the file is written");
        load_and_run(folder.path());
    });
    Corpus::Keep
});
