//! Any bytes as a GGUF file: header, metadata, tensors, tokenizer and template. The model loads and answers, or is refused
//! with a code.

#![no_main]

mod loading;

use libfuzzer_sys::{Corpus, fuzz_target};
use loading::{load_and_run, with_zeros};
use tempfile::TempDir;

thread_local! {
    static FOLDER: TempDir = tempfile::tempdir().expect("a folder for the file");
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(bytes) = with_zeros(input) else { return Corpus::Reject };
    FOLDER.with(|folder| {
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, bytes).expect("the file is written");
        load_and_run(&path);
    });
    Corpus::Keep
});
