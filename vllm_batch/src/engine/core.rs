//! The loop itself: schedule, forward, sample, update.

use std::sync::Arc;
use std::time::Duration;

use candle_core::{Storage, Tensor};
use rayon::prelude::*;

use super::active::{Active, ActiveRequests};
use super::answer::{Choice, Ending, Progress, token_logprobs};
use super::guided::Guided;
use super::lower::{LoweredRequest, Lowering};
use super::speculate::SpeculativeConfig;
use super::{EngineSpec, builder::Loaded};
use crate::error::{EngineError, RequestError};
use crate::kernels::Team;
use crate::model::{HeldBlocks, KvCache, ModelInput, Network, Workspace};
use crate::output::{OutputEvent, RequestOutput, TextDelta, TokenLogprobs};
use crate::request::Request;
use crate::sample::SampleScratch;
use crate::sched::{ScheduledSequence, Scheduler, SchedulerOutput, Sequence, SequenceId};

/// So many rows of logits are in memory at the same time.
const MAX_LOGIT_ROWS: usize = 64;
/// Guesses fill steps up to so many tokens. In larger ones, little of the time is left that reading the weights takes.
const MAX_DRAFTED_STEP: usize = 16;

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
    network: Network,
    cache: KvCache,
    work: Workspace,
    scheduler: Scheduler,
    active: ActiveRequests,
    /// Threads of the network's loops.
    team: Team,
    threads: rayon::ThreadPool,
    next_id: u64,
    speculative_config: Option<SpeculativeConfig>,
    /// Those that have not been in a step, and may begin with tokens that need none.
    starting: Vec<SequenceId>,
    num_preemptions: u64,
    num_forced_tokens: u64,
    num_draft_tokens: u64,
    num_accepted_tokens: u64,
    mask_time: Duration,
}

/// A row of logits or of hidden states, and what it is for.
#[derive(Debug, Clone, Copy)]
struct LogitRow {
    id: SequenceId,
    /// The row is that after the token at this position.
    position: usize,
    /// Whether the next token is to be chosen; otherwise it is known, and its log-probability is wanted.
    samples: bool,
}

/// The rows of a step: first those of logits, then those of hidden states.
#[derive(Debug, Default)]
struct Rows {
    all: Vec<LogitRow>,
    num_logit_rows: usize,
}

/// What came of a row.
enum Outcome {
    Start,
    Prompt(TokenLogprobs),
    Next(Choice),
    /// The log-probabilities of the tokens that a label has there.
    Labels(Vec<f32>),
    Hidden(Vec<f32>),
}

type Event = (SequenceId, OutputEvent);

impl EngineCore {
    pub(super) fn new(loaded: Loaded) -> Self {
        Self {
            spec: loaded.spec,
            lowering: Arc::new(loaded.lowering),
            network: loaded.network,
            cache: loaded.cache,
            work: Workspace::default(),
            scheduler: loaded.scheduler,
            active: ActiveRequests::default(),
            team: loaded.team,
            threads: loaded.threads,
            next_id: 0,
            speculative_config: loaded.speculative_config,
            starting: Vec::new(),
            num_preemptions: 0,
            num_forced_tokens: 0,
            num_draft_tokens: 0,
            num_accepted_tokens: 0,
            mask_time: Duration::ZERO,
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
        let first = SequenceId(self.next_id);
        let LoweredRequest { sequences, active } = request;
        self.next_id += sequences.len() as u64;
        for mut new in sequences {
            new.id.0 += first.0;
            if let Err(error) = self.scheduler.add(new) {
                (first.0..self.next_id).for_each(|id| drop(self.scheduler.finish(SequenceId(id))));
                return Err(RequestError::EngineFailed { message: error.to_string() });
            }
        }
        self.active.insert(first, active);
        self.starting.extend((first.0..self.next_id).map(SequenceId));
        Ok(first)
    }

    /// Forgets a request, given the id that [`add_request`](Self::add_request) returned, and frees what it held. Returns
    /// whether it was there. It has no further events.
    pub fn abort(&mut self, id: SequenceId) -> bool {
        let Some(request) = self.active.remove(id) else { return false };
        let ids = id.0..id.0 + request.num_sequences() as u64;
        ids.for_each(|id| drop(self.scheduler.finish(SequenceId(id))));
        true
    }

    /// Whether there is work for [`step`](Self::step).
    pub fn has_unfinished(&self) -> bool {
        self.scheduler.has_unfinished()
    }

    /// Computes one step: some tokens of some requests. Returns what is new, each request's events in order. Where
    /// answers begin with tokens that their formats leave no choice about, those come first, without a computation.
    ///
    /// # Errors
    /// [`EngineError`] if the forward pass failed. All requests must be [aborted](Self::abort) then, before another step.
    pub fn step(&mut self) -> Result<Vec<(SequenceId, OutputEvent)>, EngineError> {
        let events = self.start();
        if !events.is_empty() {
            return Ok(events);
        }
        let step = self.schedule();
        let (waiting, preempted) = (self.scheduler.num_waiting(), step.preempted.len());
        self.num_preemptions += preempted as u64;
        if step.is_empty() {
            return Ok(Vec::new());
        }
        let (input, rows) = self.model_input(&step);
        let (num_tokens, num_seqs) = (input.num_tokens(), input.num_seqs());
        tracing::trace!(num_tokens, num_seqs, waiting, preempted, "step");
        let events = self.forward(&input, &rows.all).and_then(|hidden| {
            self.scheduler.complete(&step);
            self.take_rows(&rows, &hidden)
        });
        events.map_err(|source| EngineError::Forward { num_tokens, num_seqs, source })
    }

    /// How often a running request lost its place to others, and had to be computed again: because the KV cache was full, or
    /// for one of a higher priority. Many among requests of one priority mean that `kv_cache_memory` is too small for
    /// `max_num_seqs`.
    pub fn num_preemptions(&self) -> u64 {
        self.num_preemptions
    }

    /// How many tokens of answers were taken without being sampled, because their formats left no choice. They are part
    /// of the answers, and of [`completion_tokens`](crate::Usage::completion_tokens).
    pub fn num_forced_tokens(&self) -> u64 {
        self.num_forced_tokens
    }

    /// How many tokens were guessed ahead, and computed before it was known whether they come: see
    /// [`EngineBuilder::speculative_config`](crate::EngineBuilder::speculative_config).
    pub fn num_draft_tokens(&self) -> u64 {
        self.num_draft_tokens
    }

    /// How many of those came true. As many steps of a single sequence were saved.
    pub fn num_accepted_tokens(&self) -> u64 {
        self.num_accepted_tokens
    }

    /// How long it took to find out which tokens may come next in answers with a format, all answers added up. It runs
    /// beside the network, on the same threads.
    pub fn mask_time(&self) -> Duration {
        self.mask_time
    }

    /// What lowers requests for this engine.
    pub(super) fn lowering(&self) -> Arc<Lowering> {
        Arc::clone(&self.lowering)
    }

    /// The tokens of the next step, with guesses where there is room for them.
    fn schedule(&mut self) -> SchedulerOutput {
        let mut step = self.scheduler.schedule();
        if let Some(config) = &self.speculative_config {
            let (active, num_tokens) = (&mut self.active, step.num_tokens());
            self.scheduler.draft(&mut step, MAX_DRAFTED_STEP, |sequence, room| {
                active
                    .answer_mut(sequence.id())
                    .map_or_else(Vec::new, |answer| answer.propose(config, sequence, (room, num_tokens)))
            });
            self.num_draft_tokens += step.num_draft_tokens() as u64;
        }
        step
    }

    /// The order of the sequences changes no result, so those whose hidden states are wanted come last.
    fn model_input(&self, step: &SchedulerOutput) -> (ModelInput, Rows) {
        let (mut input, mut rows) = (ModelInput::default(), Rows::default());
        let (pooled, others): (Vec<_>, Vec<_>) = step.scheduled.iter().partition(|part| self.active.is_pooled(part.id));
        for part in others {
            self.push_part(part, &mut input, &mut rows.all);
        }
        rows.num_logit_rows = rows.all.len();
        for part in pooled {
            self.push_part(part, &mut input, &mut rows.all);
        }
        (input, rows)
    }

    fn push_part(&self, part: &ScheduledSequence, input: &mut ModelInput, rows: &mut Vec<LogitRow>) {
        let Some(sequence) = self.scheduler.get(part.id) else { return };
        let (id, start, end) = (part.id, part.start, part.start + part.num_tokens);
        let table = sequence.block_table();
        let ids = table.block_ids().iter().map(|block| block.0).collect();
        let block_table = HeldBlocks { first: table.first(), ids };
        let wanted = self.active.wanted_rows(part, sequence.num_prompt_tokens());
        let token_ids = [&sequence.token_ids()[start..end], sequence.draft_token_ids()].concat();
        input.push(&token_ids, start, block_table, wanted.start - start..wanted.end - start);
        if let Some(adapter) = sequence.adapter() {
            input.set_adapter(adapter);
        }
        let samples = |position| part.samples && position + 1 >= end;
        rows.extend(wanted.map(|position| LogitRow { id, position, samples: samples(position) }));
    }

    /// Does with each row what it is for.
    fn take_rows(&mut self, rows: &Rows, hidden: &Tensor) -> candle_core::Result<Vec<Event>> {
        let (of_logits, of_hidden) = rows.all.split_at(rows.num_logit_rows);
        let mut events = Vec::new();
        for (index, some) in of_logits.chunks(MAX_LOGIT_ROWS).enumerate() {
            let hidden = hidden.narrow(0, index * MAX_LOGIT_ROWS, some.len())?;
            let (network, team, work) = (&self.network, &self.team, &mut self.work);
            let logits = team.install(|| network.logits(&hidden, work))?;
            self.take_logits(some, &logits, &mut events)?;
        }
        if !of_hidden.is_empty() {
            let hidden = hidden.narrow(0, of_logits.len(), of_hidden.len())?.to_vec2()?;
            for (row, hidden) in of_hidden.iter().zip(hidden) {
                events.extend(self.take(row.id, hidden_state(row.position, hidden)));
            }
        }
        Ok(events)
    }

    /// First the rows that are due, all in parallel; then those of drafts that these confirmed, and so on.
    fn take_logits(&mut self, rows: &[LogitRow], logits: &Tensor, events: &mut Vec<Event>) -> candle_core::Result<()> {
        let (storage, layout) = logits.storage_and_layout();
        let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
            candle_core::bail!("the logits are not one piece of this machine's memory");
        };
        let logits = storage.as_slice::<f32>()?[start..end].chunks_exact(self.spec.vocab_size);
        let mut left: Vec<(LogitRow, &[f32])> = rows.iter().copied().zip(logits).collect();
        while !left.is_empty() {
            let (due, later): (Vec<_>, Vec<_>) = left.into_iter().partition(|(row, _)| self.is_due(*row));
            if due.is_empty() {
                break;
            }
            for ((row, _), outcome) in due.iter().zip(self.evaluate(&due)) {
                events.extend(self.take(row.id, outcome));
            }
            left = later;
        }
        Ok(())
    }

    /// Whether the tokens up to the row are those of the sequence, and, if the row samples, all of them.
    fn is_due(&self, row: LogitRow) -> bool {
        let is_last = |sequence: &Sequence| sequence.num_tokens() == row.position + 1 && sequence.is_computed();
        !row.samples || self.scheduler.get(row.id).is_some_and(is_last)
    }

    /// Runs the network up to its logits, and computes beside it which tokens may come then.
    fn forward(&mut self, input: &ModelInput, rows: &[LogitRow]) -> candle_core::Result<Tensor> {
        let mut guided = self.take_guided(rows.iter());
        let (network, team, cache, work) = (&self.network, &self.team, &mut self.cache, &mut self.work);
        let states = || team.install(|| network.forward(input, cache, work));
        let (hidden, mask_time) = self.threads.install(|| rayon::join(states, || mask(&mut guided)));
        self.put_guided(guided, mask_time);
        hidden
    }

    /// What keeps answers to formats and does not know which tokens may come next, of those that are to be sampled.
    fn take_guided<'a>(&mut self, rows: impl Iterator<Item = &'a LogitRow>) -> Vec<(SequenceId, Guided)> {
        let take = |row: &LogitRow| Some((row.id, self.active.answer_mut(row.id)?.take_guided()?));
        rows.filter(|row| row.samples).filter_map(take).collect()
    }

    fn put_guided(&mut self, guided: Vec<(SequenceId, Guided)>, mask_time: Duration) {
        self.mask_time += mask_time;
        for (id, guided) in guided {
            if let Some(answer) = self.active.answer_mut(id) {
                answer.put_guided(guided);
            }
        }
    }

    /// All rows in parallel.
    fn evaluate(&mut self, rows: &[(LogitRow, &[f32])]) -> Vec<Result<Outcome, RequestError>> {
        // There are some only where drafts came true: the others were computed beside the network.
        let mut guided = self.take_guided(rows.iter().map(|(row, _)| row));
        if !guided.is_empty() {
            let mask_time = self.threads.install(|| mask(&mut guided));
            self.put_guided(guided, mask_time);
        }
        let evaluate = |scratch: &mut SampleScratch, (row, logits): &(LogitRow, &[f32])| {
            self.outcome(*row, logits, scratch).unwrap_or(Err(RequestError::Aborted))
        };
        self.threads.install(|| rows.par_iter().map_init(SampleScratch::default, evaluate).collect())
    }

    /// `None` if the sequence is not there.
    fn outcome(
        &self,
        row: LogitRow,
        logits: &[f32],
        scratch: &mut SampleScratch,
    ) -> Option<Result<Outcome, RequestError>> {
        let (sequence, (request, index)) = (self.scheduler.get(row.id)?, self.active.get(row.id)?);
        if !logits.iter().any(|logit| logit.is_finite()) {
            return Some(Err(RequestError::NonFiniteLogits { num_tokens: row.position + 1 }));
        }
        let request = match request {
            Active::Generate(request) => request,
            Active::Score(request) => {
                return Some(Ok(Outcome::Labels(request.logprobs(index, row.position, logits, scratch))));
            }
            Active::Embed(_) => return None,
        };
        if row.samples {
            let answer = request.answers.get(index)?.as_ref()?;
            return Some(answer.choose(logits, sequence.output_token_ids(), scratch).map(Outcome::Next));
        }
        let next = *sequence.token_ids().get(row.position + 1)?;
        let wanted = (next, request.prompt_logprobs.as_ref()?.num_top);
        Some(token_logprobs(self.lowering.tokenizer(), logits, wanted, scratch).map(Outcome::Prompt))
    }

    /// Gives new answers the tokens that they must begin with.
    fn start(&mut self) -> Vec<Event> {
        let starting = std::mem::take(&mut self.starting);
        starting.into_iter().flat_map(|id| self.take(id, Ok(Outcome::Start))).collect()
    }

    /// What came of a row, as events of the request. A request fails as a whole.
    fn take(&mut self, id: SequenceId, outcome: Result<Outcome, RequestError>) -> Vec<Event> {
        let Some((request, index)) = self.active.find(id) else { return Vec::new() };
        let events = match outcome {
            Ok(Outcome::Prompt(logprobs)) => {
                self.add_prompt_logprobs(id, logprobs);
                Ok(Vec::new())
            }
            Ok(Outcome::Labels(logprobs)) => Ok(self.add_label_logprobs(id, &logprobs).into_iter().collect()),
            Ok(Outcome::Hidden(hidden)) => Ok(self.add_hidden(id, &hidden).into_iter().collect()),
            Ok(Outcome::Start) => self.advance(id, index, None),
            Ok(Outcome::Next(choice)) => self.advance(id, index, Some(choice)),
            Err(error) => Err(error),
        };
        let events = events.unwrap_or_else(|error| {
            self.abort(request);
            vec![OutputEvent::Failed(error)]
        });
        events.into_iter().map(|event| (request, event)).collect()
    }

    fn add_prompt_logprobs(&mut self, id: SequenceId, logprobs: TokenLogprobs) {
        let Some((Active::Generate(request), _)) = self.active.get_mut(id) else { return };
        if let Some(prompt_logprobs) = request.prompt_logprobs.as_mut() {
            prompt_logprobs.rows.push(logprobs);
        }
    }

    /// Adds what was wanted at a place of the labels; the scores if that was the last.
    fn add_label_logprobs(&mut self, id: SequenceId, logprobs: &[f32]) -> Option<OutputEvent> {
        let (Active::Score(request), index) = self.active.get_mut(id)? else { return None };
        if !request.add(index, logprobs) {
            return None;
        }
        let finished = self.scheduler.finish(id)?;
        if !request.finish(&finished) {
            return None;
        }
        let (first, _) = self.active.find(id)?;
        let Some(Active::Score(request)) = self.active.remove(first) else { return None };
        Some(OutputEvent::Scored(request.into_output()))
    }

    /// Adds a hidden state to an embedding; the whole of it if that was the last.
    fn add_hidden(&mut self, id: SequenceId, hidden: &[f32]) -> Option<OutputEvent> {
        let (Active::Embed(request), _) = self.active.get_mut(id)? else { return None };
        if !request.add(hidden) {
            return None;
        }
        let finished = self.scheduler.finish(id)?;
        let Some(Active::Embed(request)) = self.active.remove(id) else { return None };
        Some(OutputEvent::Embedded(request.into_output(&finished)))
    }

    /// Gives a sequence its next token, if one was chosen, and those that must follow. Ends it with the last.
    fn advance(
        &mut self,
        id: SequenceId,
        index: usize,
        chosen: Option<Choice>,
    ) -> Result<Vec<OutputEvent>, RequestError> {
        let mut delta = TextDelta::new(String::new(), 0).with_index(index);
        let mut next = if chosen.is_some() { chosen } else { self.forced(id)? };
        while let Some(choice) = next {
            let Some(progress) = self.append(id, choice)? else { break };
            delta.num_tokens += 1;
            if let Some(ending) = progress.show(&mut delta) {
                let finished = self.finish(id, ending).map(OutputEvent::Finished);
                return Ok(std::iter::once(OutputEvent::Delta(delta)).chain(finished).collect());
            }
            next = self.forced(id)?;
        }
        Ok(if delta.num_tokens > 0 { vec![OutputEvent::Delta(delta)] } else { Vec::new() })
    }

    /// Adds a token to a sequence and its answer; `None` if they are not there.
    fn append(&mut self, id: SequenceId, choice: Choice) -> Result<Option<Progress>, RequestError> {
        let Some(sequence) = self.scheduler.append_token(id, choice.token_id) else { return Ok(None) };
        self.num_forced_tokens += u64::from(choice.is_forced);
        self.num_accepted_tokens += u64::from(sequence.is_computed());
        self.active.answer_mut(id).map(|answer| answer.accept(choice, sequence)).transpose()
    }

    /// The token that must come next, if there is one.
    fn forced(&mut self, id: SequenceId) -> Result<Option<Choice>, RequestError> {
        let (sequence, answer) = (self.scheduler.get(id), self.active.answer_mut(id));
        sequence.zip(answer).map_or(Ok(None), |(sequence, answer)| answer.forced(sequence.output_token_ids()))
    }

    /// Ends a sequence; the output of its request if that was the last.
    fn finish(&mut self, id: SequenceId, ending: Ending) -> Option<RequestOutput> {
        let finished = self.scheduler.finish(id)?;
        self.active.complete(&finished, ending)
    }
}

/// Finds out which tokens may come next; returns how long that took, all added up.
fn mask(guided: &mut [(SequenceId, Guided)]) -> Duration {
    guided.par_iter_mut().map(|(_, guided)| guided.timed_mask()).sum()
}

/// A row of hidden states, if it is one of numbers.
fn hidden_state(position: usize, hidden: Vec<f32>) -> Result<Outcome, RequestError> {
    if hidden.iter().all(|number| number.is_finite()) {
        Ok(Outcome::Hidden(hidden))
    } else {
        Err(RequestError::NonFiniteLogits { num_tokens: position + 1 })
    }
}
