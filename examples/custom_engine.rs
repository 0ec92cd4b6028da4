//! An engine of one's own behind [`BatchEngine`]: everything that takes an engine takes it too.
//!
//! This one answers from a second engine, but keeps each answer, so that a request that was asked before costs nothing.
//! `cargo run --release --example custom_engine`
#![allow(clippy::print_stdout)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use vllm_batch::testing::ScriptedEngine;
use vllm_batch::{BatchEngine, BatchEngineExt, EngineSpec, OutputEvent, OutputStream, Prompt, Request, RequestOutput};

/// Remembers the answers of another engine.
struct Memo<E> {
    inner: E,
    answers: Arc<Mutex<HashMap<String, RequestOutput>>>,
}

impl<E: BatchEngine> BatchEngine for Memo<E> {
    fn spec(&self) -> &EngineSpec {
        self.inner.spec()
    }

    fn submit(&self, request: Request) -> OutputStream {
        let key = format!("{:?} {:?}", request.prompt, request.task);
        let known = self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(mut output) = known {
            output.request_id = request.request_id;
            return OutputStream::new(futures::stream::iter([OutputEvent::Finished(output)]));
        }
        let answers = Arc::clone(&self.answers);
        OutputStream::new(self.inner.submit(request).inspect(move |event| {
            if let OutputEvent::Finished(output) = event {
                answers.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), output.clone());
            }
        }))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let shout = |request: &Request| match &request.prompt {
        Prompt::Text(text) => Ok(text.to_uppercase()),
        _ => Ok("?".to_owned()),
    };
    let engine = Memo { inner: ScriptedEngine::new(shout), answers: Arc::default() };
    for round in 1..=2 {
        for result in engine.generate([Request::new("a", "one"), Request::new("b", "two")]) {
            println!("round {round}: {}", result?.outputs[0].text);
        }
    }
    println!("the inner engine was asked {} times", engine.inner.stats().submitted);
    Ok(())
}
