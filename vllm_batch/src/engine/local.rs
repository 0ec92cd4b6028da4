//! The engine in this process, on threads of its own.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use futures::channel::mpsc::UnboundedSender;

use super::builder::EngineBuilder;
use super::core::EngineCore;
use super::lower::{LoweredRequest, Lowering};
use super::{BatchEngine, EngineSpec, OutputStream};
use crate::error::{LoadError, RequestError};
use crate::model::ModelSource;
use crate::output::OutputEvent;
use crate::request::Request;
use crate::sched::SequenceId;
use crate::text::Tokenizer;

/// A model in this process. Requests are batched with whatever else is running; one thread tokenises, one runs the loop
/// on a thread pool of its own.
///
/// Dropping the engine ends its threads after the step they are in and gives the memory back; streams that are still
/// open then end with [`RequestError::EngineFailed`].
///
/// # Example
/// ```no_run
/// use vllm_batch::{BatchEngineExt, LocalEngine, Message, SamplingParams};
///
/// let engine = LocalEngine::builder("HuggingFaceTB/SmolLM2-135M-Instruct").build()?;
/// let questions = ["Why is the sky blue?", "Name three primes."].map(|text| vec![Message::user(text)]);
/// for answer in engine.chat(questions, &SamplingParams::greedy().with_max_tokens(64)) {
///     println!("{}", answer?.outputs[0].text);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LocalEngine {
    spec: EngineSpec,
    tokenizer: Arc<Tokenizer>,
    /// Absent only while the engine is being dropped.
    requests: Option<Sender<(Request, Events)>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

type Events = UnboundedSender<OutputEvent>;

impl LocalEngine {
    /// The options of an engine for a model: a folder, a `.gguf` file or a hub id.
    pub fn builder(source: impl Into<ModelSource>) -> EngineBuilder {
        EngineBuilder::new(source.into())
    }

    pub(super) fn start(core: EngineCore) -> Result<Self, LoadError> {
        let (spec, lowering, stop) = (core.spec().clone(), core.lowering(), Arc::new(AtomicBool::new(false)));
        let (tokenizer, stop_lowering) = (Arc::clone(&lowering.tokenizer), Arc::clone(&stop));
        let (requests, from_callers) = channel();
        let (lowered, from_lowering) = channel();
        let engine_loop = EngineLoop { core, streams: HashMap::new(), stop: Arc::clone(&stop) };
        let threads = vec![
            spawn("vllm_batch-lower", move || lower_all(&lowering, (&from_callers, &stop_lowering), &lowered))?,
            spawn("vllm_batch-engine", move || engine_loop.run(&from_lowering))?,
        ];
        Ok(Self { spec, tokenizer, requests: Some(requests), stop, threads })
    }

    /// The model's tokenizer: what a text costs before it is sent, and token ids for prompts, `logit_bias` and their like.
    ///
    /// # Example
    /// ```no_run
    /// use vllm_batch::LocalEngine;
    ///
    /// let engine = LocalEngine::builder("model.gguf").build()?;
    /// println!("{} tokens", engine.tokenizer().encode("How long is this?", true)?.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }
}

impl BatchEngine for LocalEngine {
    fn spec(&self) -> &EngineSpec {
        &self.spec
    }

    fn submit(&self, request: Request) -> OutputStream {
        let (events, stream) = OutputStream::channel();
        if let Some(requests) = &self.requests {
            // If the thread is gone, the sender goes with the message, and the stream ends with an error.
            let _ = requests.send((request, events));
        }
        stream
    }
}

impl Drop for LocalEngine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.requests = None;
        for thread in self.threads.drain(..) {
            // A panic was reported when it happened, and every stream has ended with an error.
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LoadError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| LoadError::Threads { message: error.to_string() })
}

/// Lowers requests in order of arrival until the engine is dropped.
fn lower_all(
    lowering: &Lowering,
    (requests, stop): (&Receiver<(Request, Events)>, &AtomicBool),
    lowered: &Sender<(LoweredRequest, Events)>,
) {
    for (request, events) in requests {
        if stop.load(Ordering::Acquire) {
            return;
        }
        if events.is_closed() {
            continue;
        }
        // Tokenizers and templates are data from elsewhere: what breaks on one text must not take the others along.
        let result = catch_unwind(AssertUnwindSafe(|| lowering.lower(request)));
        match result.unwrap_or_else(|_| Err(RequestError::Tokenizer { message: "it panicked".to_owned() })) {
            Ok(request) => {
                if lowered.send((request, events)).is_err() {
                    return;
                }
            }
            Err(error) => send(&events, OutputEvent::Failed(error)),
        }
    }
}

/// If the stream was dropped, nobody wants the event.
fn send(events: &Events, event: OutputEvent) {
    let _ = events.unbounded_send(event);
}

struct EngineLoop {
    core: EngineCore,
    streams: HashMap<SequenceId, Events>,
    stop: Arc<AtomicBool>,
}

impl EngineLoop {
    fn run(mut self, requests: &Receiver<(LoweredRequest, Events)>) {
        while !self.stop.load(Ordering::Acquire) {
            if !self.core.has_unfinished() {
                match requests.recv() {
                    Ok(request) => self.admit(request),
                    Err(_) => return,
                }
            }
            for request in requests.try_iter() {
                self.admit(request);
            }
            self.abort_dropped();
            match self.core.step() {
                Ok(events) => self.deliver(events),
                Err(error) => self.fail_all(&error.to_string()),
            }
        }
    }

    fn admit(&mut self, (request, events): (LoweredRequest, Events)) {
        match self.core.add(request) {
            Ok(id) => {
                self.streams.insert(id, events);
            }
            Err(error) => send(&events, OutputEvent::Failed(error)),
        }
    }

    /// Aborts the requests whose streams nobody holds any more.
    fn abort_dropped(&mut self) {
        let core = &mut self.core;
        self.streams.retain(|id, events| {
            if events.is_closed() {
                core.abort(*id);
            }
            !events.is_closed()
        });
    }

    fn deliver(&mut self, events: Vec<(SequenceId, OutputEvent)>) {
        for (id, event) in events {
            let ends = !matches!(event, OutputEvent::Delta(_));
            if let Some(stream) = self.streams.get(&id) {
                send(stream, event);
            }
            if ends {
                self.streams.remove(&id);
            }
        }
    }

    /// A step failed: every request in the engine does, later ones get their own chance.
    fn fail_all(&mut self, message: &str) {
        tracing::error!(message, "the engine failed");
        for (id, events) in self.streams.drain() {
            self.core.abort(id);
            send(&events, OutputEvent::Failed(RequestError::EngineFailed { message: message.to_owned() }));
        }
    }
}
