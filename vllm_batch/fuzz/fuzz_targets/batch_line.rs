//! Any bytes as a line of a batch file: a request, or an error with a place and a code.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vllm_batch::EngineSpec;
use vllm_batch::batch::BatchLine;

fuzz_target!(|line: &[u8]| {
    let spec = EngineSpec::new("tiny", "r1");
    match BatchLine::parse(line, 7, &spec) {
        Ok(parsed) => {
            assert_eq!(BatchLine::parse(line, 7, &spec).as_ref(), Ok(&parsed), "the same line, the same request");
        }
        Err(error) => {
            assert_eq!(error.line, 7);
            assert!(!error.code().is_empty() && !error.to_string().is_empty());
        }
    }
});
