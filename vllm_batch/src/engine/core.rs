//! The loop itself: schedule, forward, sample, update.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Storage, Tensor};
use rayon::prelude::*;

use super::lower::{LoweredRequest, Lowering, StopTokens};
use super::{EngineSpec, builder::Loaded};
use crate::error::{EngineError, RequestError};
use crate::model::{Decoder, KvCache, ModelInput};
use crate::output::{CompletionOutput, FinishReason, OutputEvent, RequestOutput, StopReason, TextDelta, Usage};
use crate::request::Request;
use crate::sample::{SampleScratch, Sampler};
use crate::sched::{NewSequence, Scheduler, SchedulerOutput, SequenceId};
use crate::text::OutputText;

/// The engine without its thread: for programs that want to own the loop.
///
/// # Example
/// ```no_run
/// use vllm_batch::{LocalEngine, OutputEvent, Request};
///
/// let mut core = LocalEngine::builder("model.gguf").build_core()?;
/// core.add_request(Request::new("1", "The capital of France is"))?;
/// while core.has_unfinished() {
///     for (_, event) in core.step()? {
///         if let OutputEvent::Finished(output) = event {
///             println!("{}", output.outputs[0].text);
///         }
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EngineCore {
    spec: EngineSpec,
    lowering: Arc<Lowering>,
    decoder: Decoder,
    cache: KvCache,
    scheduler: Scheduler,
    active: HashMap<SequenceId, Active>,
    threads: rayon::ThreadPool,
    next_id: u64,
    num_preemptions: u64,
}

/// What the engine keeps of an unfinished request besides its tokens.
#[derive(Debug)]
struct Active {
    request_id: String,
    sampler: Sampler,
    stop: StopTokens,
    max_num_tokens: usize,
    text: OutputText,
}

impl EngineCore {
    pub(super) fn new(loaded: Loaded) -> Self {
        Self {
            spec: loaded.spec,
            lowering: Arc::new(loaded.lowering),
            decoder: loaded.decoder,
            cache: loaded.cache,
            scheduler: loaded.scheduler,
            active: HashMap::new(),
            threads: loaded.threads,
            next_id: 0,
            num_preemptions: 0,
        }
    }

    /// What this engine serves.
    pub fn spec(&self) -> &EngineSpec {
        &self.spec
    }

    /// Takes a request; its events carry the returned id.
    ///
    /// # Errors
    /// What is wrong with the request itself. The engine is as before then.
    pub fn add_request(&mut self, request: Request) -> Result<SequenceId, RequestError> {
        let lowered = self.lowering.lower(request)?;
        self.add(lowered)
    }

    /// Takes a request that was lowered elsewhere.
    pub(super) fn add(&mut self, request: LoweredRequest) -> Result<SequenceId, RequestError> {
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        let LoweredRequest { request_id, prompt_token_ids, max_num_tokens, priority, sampler, stop, text } = request;
        self.scheduler
            .add(NewSequence { id, prompt_token_ids, max_num_tokens, priority })
            .map_err(|error| RequestError::EngineFailed { message: error.to_string() })?;
        self.active.insert(id, Active { request_id, sampler, stop, max_num_tokens, text });
        Ok(id)
    }

    /// Forgets a request and frees what it held. Returns whether it was there. It has no further events.
    pub fn abort(&mut self, id: SequenceId) -> bool {
        self.active.remove(&id);
        self.scheduler.finish(id).is_some()
    }

    /// Whether there is work for [`step`](Self::step).
    pub fn has_unfinished(&self) -> bool {
        self.scheduler.has_unfinished()
    }

    /// Computes one step: some tokens of some requests. Returns what is new, each request's events in order.
    ///
    /// # Errors
    /// [`EngineError`] if the forward pass failed. The step can be taken again, but is likely to fail again.
    pub fn step(&mut self) -> Result<Vec<(SequenceId, OutputEvent)>, EngineError> {
        let step = self.scheduler.schedule();
        if step.is_empty() {
            return Ok(Vec::new());
        }
        let input = self.model_input(&step);
        let sampled = self.compute(&step, &input).map_err(|source| EngineError::Forward {
            num_tokens: input.num_tokens(),
            num_seqs: input.num_seqs(),
            source,
        })?;
        self.scheduler.complete(&step);
        self.num_preemptions += step.preempted.len() as u64;
        tracing::trace!(
            tokens = input.num_tokens(),
            seqs = input.num_seqs(),
            waiting = self.scheduler.num_waiting(),
            preempted = step.preempted.len(),
            "step"
        );
        Ok(sampled.into_iter().flat_map(|(id, token)| self.advance(id, token)).collect())
    }

    /// How often a running request lost its place to others because the KV cache was full, and had to be computed
    /// again. Many mean that `kv_cache_memory` is too small for `max_num_seqs`.
    pub fn num_preemptions(&self) -> u64 {
        self.num_preemptions
    }

    fn model_input(&self, step: &SchedulerOutput) -> ModelInput {
        let mut input = ModelInput::default();
        for scheduled in &step.scheduled {
            let Some(sequence) = self.scheduler.get(scheduled.id) else { continue };
            let token_ids = &sequence.token_ids()[scheduled.start..scheduled.start + scheduled.num_tokens];
            let block_table = sequence.block_table().block_ids().iter().map(|block| block.0).collect();
            input.push(token_ids, scheduled.start, block_table, scheduled.samples);
        }
        input
    }

    /// Runs the network and chooses the next token of each sequence that is caught up.
    fn compute(&mut self, step: &SchedulerOutput, input: &ModelInput) -> candle_core::Result<Vec<(SequenceId, u32)>> {
        let (decoder, cache) = (&self.decoder, &mut self.cache);
        let logits = self.threads.install(|| decoder.forward(input, cache))?;
        let ids: Vec<_> = step.scheduled.iter().filter(|scheduled| scheduled.samples).map(|s| s.id).collect();
        let tokens = self.sample(&ids, &logits)?;
        Ok(ids.into_iter().zip(tokens).collect())
    }

    /// One token for each row of `logits`, all rows in parallel.
    fn sample(&self, ids: &[SequenceId], logits: &Tensor) -> candle_core::Result<Vec<u32>> {
        let (storage, layout) = logits.storage_and_layout();
        let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
            candle_core::bail!("the logits are not one piece of this machine's memory");
        };
        let logits = &storage.as_slice::<f32>()?[start..end];
        let choose = |scratch: &mut SampleScratch, (id, row): (&SequenceId, &[f32])| {
            let position = self.scheduler.get(*id).map_or(0, |sequence| sequence.output_token_ids().len());
            self.active.get(id).map_or(0, |active| active.sampler.sample(row, position, scratch))
        };
        let rows: Vec<_> = ids.iter().zip(logits.chunks_exact(self.spec.vocab_size)).collect();
        Ok(self.threads.install(|| rows.into_par_iter().map_init(SampleScratch::default, choose).collect()))
    }

    /// Gives a sequence its next token, and ends it if that was the last.
    fn advance(&mut self, id: SequenceId, token_id: u32) -> Vec<(SequenceId, OutputEvent)> {
        let Some(sequence) = self.scheduler.append_token(id, token_id) else { return Vec::new() };
        let (num_tokens, num_output) = (sequence.num_tokens(), sequence.output_token_ids().len());
        let Some(active) = self.active.get_mut(&id) else { return Vec::new() };
        let events = match active.accept(token_id, num_tokens, num_output) {
            Ok(Progress::Goes(text)) => vec![OutputEvent::Delta(TextDelta::new(text, 1))],
            Ok(Progress::Ends { text, finish_reason, stop_reason }) => {
                let delta = OutputEvent::Delta(TextDelta::new(text, 1));
                let output = self.finish(id, finish_reason, stop_reason);
                std::iter::once(delta).chain(output.map(OutputEvent::Finished)).collect()
            }
            Err(error) => {
                self.abort(id);
                vec![OutputEvent::Failed(error)]
            }
        };
        events.into_iter().map(|event| (id, event)).collect()
    }

    fn finish(
        &mut self,
        id: SequenceId,
        finish_reason: FinishReason,
        stop_reason: Option<StopReason>,
    ) -> Option<RequestOutput> {
        let (active, finished) = (self.active.remove(&id)?, self.scheduler.finish(id)?);
        let (prompt, output) = finished.token_ids.split_at(finished.num_prompt_tokens);
        let usage = Usage::new(prompt.len(), output.len(), finished.num_cached_tokens);
        let completion = CompletionOutput::new(active.text.into_text(), output.to_vec(), finish_reason, stop_reason);
        Some(RequestOutput::new(active.request_id, prompt.into(), vec![completion], usage))
    }

    /// What lowers requests for this engine.
    pub(super) fn lowering(&self) -> Arc<Lowering> {
        Arc::clone(&self.lowering)
    }
}

/// What a new token does to an answer; `text` is what can be shown.
enum Progress {
    Goes(String),
    Ends { text: String, finish_reason: FinishReason, stop_reason: Option<StopReason> },
}

impl Active {
    /// Takes a token. The token that ends an answer is not part of the text.
    fn accept(&mut self, token_id: u32, num_tokens: usize, num_output: usize) -> Result<Progress, RequestError> {
        let may_stop = num_output > self.stop.min_tokens;
        if may_stop && self.stop.eos.contains(&token_id) {
            return self.end(String::new(), FinishReason::Stop, None);
        }
        if may_stop && self.stop.requested.contains(&token_id) {
            return self.end(String::new(), FinishReason::Stop, Some(StopReason::Token(token_id)));
        }
        let step = self.text.push(token_id)?;
        if let Some(stop) = step.stopped_by {
            let stop_reason = Some(StopReason::String(stop));
            return Ok(Progress::Ends { text: step.delta, finish_reason: FinishReason::Stop, stop_reason });
        }
        if num_tokens >= self.max_num_tokens {
            return self.end(step.delta, FinishReason::Length, None);
        }
        Ok(Progress::Goes(step.delta))
    }

    /// Ends the answer with what was held back.
    fn end(
        &mut self,
        mut text: String,
        finish_reason: FinishReason,
        stop_reason: Option<StopReason>,
    ) -> Result<Progress, RequestError> {
        let step = self.text.finish()?;
        text += &step.delta;
        Ok(match step.stopped_by {
            Some(stop) => {
                Progress::Ends { text, finish_reason: FinishReason::Stop, stop_reason: Some(StopReason::String(stop)) }
            }
            None => Progress::Ends { text, finish_reason, stop_reason },
        })
    }
}
