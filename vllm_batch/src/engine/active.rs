//! The requests that the engine works on, each with its answers.

use std::collections::BTreeMap;
use std::ops::Range;

use super::answer::{Answer, Ending};
use super::pool::Pooling;
use super::score::Scoring;
use crate::output::{CompletionOutput, RequestOutput, TokenLogprobs, Usage};
use crate::sched::{FinishedSequence, ScheduledSequence, SequenceId};

/// All unfinished requests. A request has the name of its first sequence; its other sequences have the numbers that
/// follow.
#[derive(Debug, Default)]
pub(super) struct ActiveRequests(BTreeMap<SequenceId, Active>);

/// An unfinished request, besides its tokens.
#[derive(Debug)]
// Nearly all requests are of the large kind.
#[allow(clippy::large_enum_variant)]
pub(super) enum Active {
    Generate(Generation),
    Embed(Pooling),
    Score(Scoring),
}

/// An unfinished text, or several. Each has a sequence of its own.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) request_id: String,
    /// The prompt's text, if it is wanted back.
    pub(super) prompt: Option<String>,
    pub(super) prompt_logprobs: Option<PromptLogprobs>,
    /// By index; those that are finished are gone.
    pub(super) answers: Vec<Option<Answer>>,
    /// The finished ones.
    pub(super) outputs: Vec<CompletionOutput>,
    /// How many answers are given, at most.
    pub(super) n: usize,
    /// Whether the best answers come first; otherwise they come by index.
    pub(super) is_ranked: bool,
    pub(super) usage: Usage,
}

/// Log-probabilities of the prompt's tokens, from the second on. The first sequence computes them.
#[derive(Debug)]
pub(super) struct PromptLogprobs {
    /// How many of the most likely tokens are wanted in each place.
    pub(super) num_top: usize,
    pub(super) rows: Vec<TokenLogprobs>,
}

impl ActiveRequests {
    /// Enters a request under the name of its first sequence.
    pub(super) fn insert(&mut self, first: SequenceId, request: Active) {
        self.0.insert(first, request);
    }

    /// Forgets a request.
    pub(super) fn remove(&mut self, first: SequenceId) -> Option<Active> {
        self.0.remove(&first)
    }

    /// The request that a sequence belongs to: its name, and which of its sequences it is.
    pub(super) fn find(&self, id: SequenceId) -> Option<(SequenceId, usize)> {
        let (first, request) = self.0.range(..=id).next_back()?;
        let index = (id.0 - first.0) as usize;
        (index < request.num_sequences()).then_some((*first, index))
    }

    /// The request that a sequence belongs to, and which of its sequences it is.
    pub(super) fn get(&self, id: SequenceId) -> Option<(&Active, usize)> {
        let (first, index) = self.find(id)?;
        Some((self.0.get(&first)?, index))
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, id: SequenceId) -> Option<(&mut Active, usize)> {
        let (first, index) = self.find(id)?;
        Some((self.0.get_mut(&first)?, index))
    }

    /// The unfinished answer that a sequence is, to be changed.
    pub(super) fn answer_mut(&mut self, id: SequenceId) -> Option<&mut Answer> {
        let (Active::Generate(request), index) = self.get_mut(id)? else { return None };
        request.answers.get_mut(index)?.as_mut()
    }

    /// Whether hidden states of the sequence are wanted, and no logits.
    pub(super) fn is_pooled(&self, id: SequenceId) -> bool {
        matches!(self.get(id), Some((Active::Embed(_), _)))
    }

    /// The positions of a scheduled part after which logits or hidden states are needed. What is there already is computed
    /// again after a preemption, and not needed again.
    pub(super) fn wanted_rows(&self, part: &ScheduledSequence, num_prompt_tokens: usize) -> Range<usize> {
        match self.get(part.id) {
            Some((Active::Generate(request), index)) => request.wanted_rows(index, part, num_prompt_tokens),
            Some((Active::Embed(request), _)) => request.wanted_rows(part),
            Some((Active::Score(request), index)) => request.wanted_rows(index, part),
            None => part.start..part.start,
        }
    }

    /// Takes the answer of a finished sequence. Gives the request's output, and forgets the request, if it was the last.
    pub(super) fn complete(&mut self, finished: &FinishedSequence, ending: Ending) -> Option<RequestOutput> {
        let (first, index) = self.find(finished.id)?;
        let Active::Generate(request) = self.0.get_mut(&first)? else { return None };
        request.complete(index, finished, ending)?;
        if request.outputs.len() < request.answers.len() {
            return None;
        }
        let Some(Active::Generate(request)) = self.0.remove(&first) else { return None };
        Some(request.into_output(finished))
    }
}

impl Active {
    /// How many sequences the request has in all.
    pub(super) fn num_sequences(&self) -> usize {
        match self {
            Self::Generate(request) => request.answers.len(),
            Self::Embed(_) => 1,
            Self::Score(request) => request.num_sequences(),
        }
    }
}

impl Generation {
    /// The last position if the part samples, with those of its drafts, and those before tokens of the prompt whose log-probabilities are wanted.
    fn wanted_rows(&self, index: usize, part: &ScheduledSequence, num_prompt_tokens: usize) -> Range<usize> {
        let known_end = part.start + part.num_tokens;
        let sampled = if part.samples { known_end - 1 } else { known_end };
        let end = known_end + part.num_draft_tokens;
        let num_there = self.prompt_logprobs.as_ref().filter(|_| index == 0).map(|logprobs| logprobs.rows.len());
        match num_there.filter(|num_there| num_there + 1 < num_prompt_tokens) {
            Some(num_there) => num_there.max(part.start).min(sampled)..end,
            None => sampled..end,
        }
    }

    fn complete(&mut self, index: usize, finished: &FinishedSequence, ending: Ending) -> Option<()> {
        let answer = self.answers.get_mut(index)?.take()?;
        let output = answer.into_output(index, finished.output_token_ids(), ending);
        self.usage.prompt_tokens = finished.num_prompt_tokens;
        self.usage.completion_tokens += output.token_ids.len();
        if index == 0 {
            self.usage.cached_tokens = finished.num_cached_tokens;
        }
        self.outputs.push(output);
        Some(())
    }

    /// The output of all answers; any of the sequences has the prompt.
    fn into_output(mut self, finished: &FinishedSequence) -> RequestOutput {
        self.outputs.sort_by_key(|output| output.index);
        if self.is_ranked {
            self.outputs.sort_by(|a, b| mean_logprob(b).total_cmp(&mean_logprob(a)));
            self.outputs.truncate(self.n);
            self.outputs.iter_mut().enumerate().for_each(|(index, output)| output.index = index);
        }
        let prompt_token_ids = &finished.token_ids[..finished.num_prompt_tokens];
        let prompt_logprobs = self.prompt_logprobs.map(PromptLogprobs::into_entries);
        RequestOutput {
            prompt: self.prompt,
            prompt_logprobs,
            ..RequestOutput::new(self.request_id, prompt_token_ids.into(), self.outputs, self.usage)
        }
    }
}

impl PromptLogprobs {
    /// One entry for each token of the prompt.
    fn into_entries(self) -> Vec<Option<TokenLogprobs>> {
        std::iter::once(None).chain(self.rows.into_iter().map(Some)).collect()
    }
}

fn mean_logprob(output: &CompletionOutput) -> f64 {
    output.cumulative_logprob.unwrap_or(f64::NEG_INFINITY) / output.token_ids.len() as f64
}
