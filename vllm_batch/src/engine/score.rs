//! Labels on their way to their log-probabilities: which tokens are looked at after which place.
//!
//! A label's tokens but the last, its stem, are computed after the prompt; then the logits after the prompt and after each
//! token of the stem say how likely the label's tokens are. Labels whose stems begin each other share a sequence: all labels
//! of one token need nothing but the prompt. Several sequences share the blocks of their prompt.

use std::ops::Range;
use std::sync::Arc;

use super::active::Active;
use super::lower::{LoweredRequest, Lowering, Truncation};
use crate::error::RequestError;
use crate::output::{ScoringRequestOutput, Usage};
use crate::request::{Label, Request, ScoringParams};
use crate::sample::{SampleScratch, logprobs};
use crate::sched::{FinishedSequence, NewSequence, ScheduledSequence, SequenceId};

/// Unfinished scores.
#[derive(Debug)]
pub(super) struct Scoring {
    request_id: String,
    prompt_token_ids: Arc<[u32]>,
    /// Log-probability and number of tokens of each label.
    labels: Vec<(f64, usize)>,
    sequences: Vec<Continuations>,
    num_finished: usize,
    num_cached_tokens: usize,
}

/// What is looked at in one sequence.
#[derive(Debug, Default)]
struct Continuations {
    /// For each place from the end of the prompt on, which tokens may follow, each with the index of its label.
    places: Vec<Vec<(usize, u32)>>,
    /// So many places are done.
    num_done: usize,
}

impl Scoring {
    pub(super) fn num_sequences(&self) -> usize {
        self.sequences.len()
    }

    /// The positions of a scheduled part that have places which are not done.
    pub(super) fn wanted_rows(&self, index: usize, part: &ScheduledSequence) -> Range<usize> {
        let end = part.start + part.num_tokens;
        let num_done = self.sequences.get(index).map_or(0, |sequence| sequence.num_done);
        (self.first_place() + num_done).max(part.start).min(end)..end
    }

    /// The log-probabilities of all tokens that are looked at after a position.
    pub(super) fn logprobs(
        &self,
        index: usize,
        position: usize,
        logits: &[f32],
        scratch: &mut SampleScratch,
    ) -> Vec<f32> {
        let places = self.sequences.get(index).map_or(&[][..], |sequence| &sequence.places);
        let place = places.get(position - self.first_place()).map_or(&[][..], Vec::as_slice);
        place.iter().map(|(_, token_id)| logprobs(logits, *token_id, 0, scratch).chosen.logprob).collect()
    }

    /// Adds the log-probabilities of the next place of a sequence. Whether that was the sequence's last.
    pub(super) fn add(&mut self, index: usize, logprobs: &[f32]) -> bool {
        let Some(sequence) = self.sequences.get_mut(index) else { return false };
        let place = sequence.places.get(sequence.num_done).map_or(&[][..], Vec::as_slice);
        for ((label, _), logprob) in place.iter().zip(logprobs) {
            self.labels[*label].0 += f64::from(*logprob);
        }
        sequence.num_done += 1;
        sequence.num_done == sequence.places.len()
    }

    /// Notes that a sequence ended. Whether that was the last one.
    pub(super) fn finish(&mut self, finished: &FinishedSequence) -> bool {
        if self.num_finished == 0 {
            self.num_cached_tokens = finished.num_cached_tokens;
        }
        self.num_finished += 1;
        self.num_finished == self.sequences.len()
    }

    pub(super) fn into_output(self) -> ScoringRequestOutput {
        let usage = Usage::new(self.prompt_token_ids.len(), 0, self.num_cached_tokens);
        ScoringRequestOutput::new(self.request_id, self.prompt_token_ids, self.labels, usage)
    }

    /// The position of the prompt's last token.
    fn first_place(&self) -> usize {
        self.prompt_token_ids.len() - 1
    }
}

impl Lowering {
    pub(super) fn lower_scores(
        &self,
        request: Request,
        params: &ScoringParams,
    ) -> Result<LoweredRequest, RequestError> {
        params.validate()?;
        if request.echo {
            return Err(RequestError::invalid("echo", "scores have no text"));
        }
        let labels = params.labels.iter().enumerate().map(|(index, label)| self.label_token_ids(index, label));
        let labels = labels.collect::<Result<Vec<_>, _>>()?;
        let longest = labels.iter().map(Vec::len).max().unwrap_or(0);
        let Some(room) = self.max_model_len.checked_sub(longest).filter(|room| *room > 0) else {
            let message = format!("leave no room for a prompt in the context of {} tokens", self.max_model_len);
            return Err(RequestError::invalid("labels", message));
        };
        let prompt = self.prompt_token_ids(&request, Truncation { tokens: params.truncate_prompt_tokens, room })?;
        self.check_len(prompt.token_ids.len(), longest)?;
        let adapter = self.adapter(&request);
        Ok(lowered(request, adapter, &prompt.token_ids, &labels))
    }

    fn label_token_ids(&self, index: usize, label: &Label) -> Result<Vec<u32>, RequestError> {
        let param = || format!("labels[{index}]");
        let token_ids = match label {
            Label::Text(text) => self.tokenizer.encode(text, false)?,
            Label::TokenIds(token_ids) => token_ids.clone(),
        };
        if token_ids.is_empty() {
            return Err(RequestError::invalid(param(), "must have at least one token"));
        }
        match token_ids.iter().find(|id| **id as usize >= self.vocab_size) {
            Some(id) => {
                let message = format!("{id} is outside the vocabulary of {}", self.vocab_size);
                Err(RequestError::invalid(param(), message))
            }
            None => Ok(token_ids),
        }
    }
}

fn lowered(request: Request, adapter: Option<u32>, prompt: &[u32], labels: &[Vec<u32>]) -> LoweredRequest {
    let stems = stems(labels);
    let sequence = |(id, stem): (u64, &&[u32])| NewSequence {
        id: SequenceId(id),
        prompt_token_ids: [prompt, stem].concat(),
        max_num_tokens: prompt.len() + stem.len(),
        priority: request.priority,
        adapter,
        // The logits after the prompt's last token are needed.
        max_cached_tokens: prompt.len() - 1,
    };
    let new_sequences = (0..).zip(&stems).map(sequence).collect();
    let scoring = Scoring {
        request_id: request.request_id,
        prompt_token_ids: prompt.into(),
        labels: labels.iter().map(|label| (0.0, label.len())).collect(),
        sequences: continuations(&stems, labels),
        num_finished: 0,
        num_cached_tokens: 0,
    };
    LoweredRequest { sequences: new_sequences, active: Active::Score(scoring) }
}

/// What is looked at after each stem. A label goes to the first stem that begins with its own.
fn continuations(stems: &[&[u32]], labels: &[Vec<u32>]) -> Vec<Continuations> {
    let mut sequences: Vec<_> = stems.iter().map(|_| Continuations::default()).collect();
    for (index, label) in labels.iter().enumerate() {
        let stem = &label[..label.len() - 1];
        let place = stems.iter().position(|other| other.starts_with(stem));
        let Some(sequence) = place.and_then(|place| sequences.get_mut(place)) else { continue };
        let num_places = sequence.places.len().max(label.len());
        sequence.places.resize_with(num_places, Vec::new);
        for (place, token_id) in sequence.places.iter_mut().zip(label) {
            place.push((index, *token_id));
        }
    }
    sequences
}

/// The stems that no other stem begins with, in order.
fn stems(labels: &[Vec<u32>]) -> Vec<&[u32]> {
    let mut stems: Vec<_> = labels.iter().map(|label| &label[..label.len() - 1]).collect();
    stems.sort_unstable();
    stems.dedup();
    // What begins others stands right before them.
    let begins_next: Vec<_> = stems.windows(2).map(|pair| pair[1].starts_with(pair[0])).chain([false]).collect();
    stems.into_iter().zip(begins_next).filter(|(_, begins_next)| !begins_next).map(|(stem, _)| stem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_share_sequences_where_their_stems_begin_each_other() {
        type Lists = &'static [&'static [u32]];
        let cases: [(Lists, Lists); 5] = [
            (&[&[1], &[2], &[3]], &[&[]]),
            (&[&[1], &[1, 2], &[1, 3]], &[&[1]]),
            (&[&[4, 5, 6], &[1, 2, 3]], &[&[1, 2], &[4, 5]]),
            (&[&[1, 2, 3], &[1, 2, 3, 4], &[1, 9, 3], &[7]], &[&[1, 2, 3], &[1, 9]]),
            (&[&[1, 2], &[1, 2]], &[&[1]]),
        ];
        for (labels, expected) in cases {
            let labels: Vec<_> = labels.iter().map(|label| label.to_vec()).collect();
            let found = stems(&labels);
            assert_eq!(found, expected);
            // Each place of each label is looked at once.
            let sequences = continuations(&found, &labels);
            let mut seen = vec![Vec::new(); labels.len()];
            for (sequence, stem) in sequences.iter().zip(&found) {
                assert_eq!(sequence.places.len(), stem.len() + 1);
                sequence.places.iter().flatten().for_each(|(label, token_id)| seen[*label].push(*token_id));
            }
            assert_eq!(seen, labels);
        }
    }
}
