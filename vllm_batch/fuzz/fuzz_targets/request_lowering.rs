//! Any request that a line can hold, lowered for a real engine: templates, tokens, limits, grammars. It is taken, or refused
//! with a code; the engine goes on.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::{Corpus, fuzz_target};
use vllm_batch::batch::BatchLine;
use vllm_batch::{EngineCore, LocalEngine};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/arch/llama");

thread_local! {
    static ENGINE: RefCell<EngineCore> = RefCell::new(
        LocalEngine::builder(MODEL)
            .served_model_name("tiny")
            .kv_cache_memory(1 << 20)
            .max_num_seqs(4)
            .threads(1)
            .build_core()
            .expect("the model of the tests loads"),
    );
}

fuzz_target!(|line: &[u8]| -> Corpus {
    ENGINE.with_borrow_mut(|engine| {
        let Ok(line) = BatchLine::parse(line, 1, engine.spec()) else { return Corpus::Reject };
        for request in line.requests {
            match engine.add_request(request) {
                Ok(id) => assert!(engine.abort(id), "a request that was taken can be aborted"),
                Err(error) => assert!(!error.code().is_empty() && !error.to_string().is_empty()),
            }
        }
        assert!(!engine.has_unfinished());
        Corpus::Keep
    })
});
