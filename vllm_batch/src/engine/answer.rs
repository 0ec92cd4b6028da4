//! One answer on its way: how its tokens are chosen, what they do to its text, and what ends it.

use std::sync::Arc;

use super::guided::Guided;
use super::speculate::{Drafter, SpeculativeConfig};
use crate::error::RequestError;
use crate::output::{CompletionOutput, FinishReason, StopReason, TextDelta, TokenLogprob, TokenLogprobs};
use crate::request::RepetitionDetection;
use crate::sample::{RankedToken, SampleScratch, Sampler, logprobs};
use crate::sched::Sequence;
use crate::text::{AnswerPiece, AnswerReader, AnswerStream, OutputText, Tokenizer};

/// What holds for all answers to one request.
#[derive(Debug)]
pub(super) struct AnswerRules {
    /// The model's own tokens that end an answer; empty if they are to be ignored.
    pub(super) eos_token_ids: Vec<u32>,
    /// The request's.
    pub(super) stop_token_ids: Vec<u32>,
    /// Whether the text of the token that ended the answer belongs to it.
    pub(super) include_stop: bool,
    /// Nothing but its length ends the answer before it has this many tokens.
    pub(super) min_tokens: usize,
    /// The most tokens that prompt and answer can have together.
    pub(super) max_num_tokens: usize,
    pub(super) repetition_detection: Option<RepetitionDetection>,
    /// How many of the most likely tokens are wanted in each place.
    pub(super) logprobs: Option<usize>,
    /// Whether answers are compared by their log-probabilities.
    pub(super) is_scored: bool,
    /// The parameter that is at fault when no token is possible.
    pub(super) restriction: &'static str,
    /// What takes finished answers apart, if they have parts.
    pub(super) reader: Option<AnswerReader>,
    pub(super) tokenizer: Arc<Tokenizer>,
}

/// An unfinished answer, besides the tokens themselves.
#[derive(Debug)]
pub(super) struct Answer {
    rules: Arc<AnswerRules>,
    sampler: Sampler,
    text: OutputText,
    /// Takes the text apart as it grows, if it has parts.
    stream: Option<AnswerStream>,
    /// Absent while the mask of the next token is computed.
    guided: Option<Guided>,
    drafter: Drafter,
    logprobs: Vec<TokenLogprobs>,
    cumulative_logprob: f64,
}

/// The next token of an answer.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) token_id: u32,
    logprobs: Option<TokenLogprobs>,
    /// Whether the format left nothing to choose.
    pub(super) is_forced: bool,
}

/// What a new token does to an answer.
#[derive(Debug)]
pub(super) struct Progress {
    /// What can be shown now.
    piece: AnswerPiece,
    /// Why the answer ends here, if it does.
    ending: Option<Ending>,
}

/// Why an answer ended.
#[derive(Debug)]
pub(super) struct Ending {
    finish_reason: FinishReason,
    stop_reason: Option<StopReason>,
}

impl Progress {
    /// Adds what can be shown to a delta; says why the answer ended, if it did.
    pub(super) fn show(self, delta: &mut TextDelta) -> Option<Ending> {
        delta.text += &self.piece.content;
        delta.reasoning += &self.piece.reasoning;
        self.ending
    }
}

impl Answer {
    /// An answer without tokens.
    pub(super) fn new(rules: Arc<AnswerRules>, sampler: Sampler, text: OutputText, guided: Option<Guided>) -> Self {
        let drafter = Drafter::new();
        let stream = rules.reader.as_ref().map(AnswerReader::stream);
        Self { rules, sampler, text, stream, guided, drafter, logprobs: Vec::new(), cumulative_logprob: 0.0 }
    }

    /// Chooses the token after `output`.
    ///
    /// # Errors
    /// If the request's parameters leave no token.
    pub(super) fn choose(
        &self,
        logits: &[f32],
        output: &[u32],
        scratch: &mut SampleScratch,
    ) -> Result<Choice, RequestError> {
        let rules = &self.rules;
        let Some(token_id) = self.next_token(logits, output, scratch)? else {
            return Err(self.no_token(output.len()));
        };
        let num_top = rules.logprobs.or(rules.is_scored.then_some(0));
        let logprobs = num_top
            .map(|num_top| token_logprobs(&rules.tokenizer, logits, (token_id, num_top), scratch))
            .transpose()?;
        Ok(Choice { token_id, logprobs, is_forced: false })
    }

    fn next_token(
        &self,
        logits: &[f32],
        output: &[u32],
        scratch: &mut SampleScratch,
    ) -> Result<Option<u32>, RequestError> {
        let Some(mask) = self.guided.as_ref().map_or(Ok(None), Guided::mask)? else {
            return Ok(self.sampler.sample(logits, output, scratch));
        };
        if mask.token_ids().all(|token_id| self.rules.eos_token_ids.contains(&token_id)) {
            // Nothing may follow but the end, which `min_tokens` cannot hold back any more.
            return Ok(mask.token_ids().next());
        }
        Ok(self.sampler.sample_masked(logits, output, &|logits| mask.apply(logits), scratch))
    }

    /// The token after `output`, if the format leaves only that one.
    ///
    /// # Errors
    /// If the request's other parameters forbid it.
    pub(super) fn forced(&mut self, output: &[u32]) -> Result<Option<Choice>, RequestError> {
        let Some(guided) = &mut self.guided else { return Ok(None) };
        let Some(token_id) = guided.next_forced()? else { return Ok(None) };
        if !self.sampler.allows(token_id, output) {
            return Err(self.no_token(output.len()));
        }
        Ok(Some(Choice { token_id, logprobs: None, is_forced: true }))
    }

    /// Takes out what keeps the answer to a format, if the mask of the next token is not known, to be put back before that
    /// token is chosen.
    pub(super) fn take_guided(&mut self) -> Option<Guided> {
        self.guided.take_if(|guided| guided.needs_mask())
    }

    pub(super) fn put_guided(&mut self, guided: Guided) {
        self.guided = Some(guided);
    }

    /// The error of an answer that has a number of tokens, and may have no other.
    fn no_token(&self, at_token: usize) -> RequestError {
        if self.guided.as_ref().is_some_and(|guided| !matches!(guided.mask(), Ok(None))) {
            return RequestError::ConstraintDeadEnd { at_token };
        }
        let message = format!("together with the other parameters, it leaves no token after {at_token} tokens");
        RequestError::invalid(self.rules.restriction, message)
    }

    /// Guesses of the tokens after those of `sequence`: at most as many as there is room for, in a step of so many tokens.
    pub(super) fn propose(
        &mut self,
        config: &SpeculativeConfig,
        sequence: &Sequence,
        (room, num_tokens): (usize, usize),
    ) -> Vec<u32> {
        self.drafter.propose(config, sequence.token_ids(), (room, num_tokens))
    }

    /// Takes the chosen token, which `sequence` has already. The token that ends an answer is not part of the text,
    /// unless that was asked for.
    ///
    /// # Errors
    /// If the tokenizer or the format fails on the token.
    pub(super) fn accept(&mut self, choice: Choice, sequence: &Sequence) -> Result<Progress, RequestError> {
        let Choice { token_id, logprobs, is_forced } = choice;
        if let Some(guided) = self.guided.as_mut().filter(|_| !is_forced) {
            guided.commit(token_id)?;
        }
        if sequence.is_computed() {
            self.drafter.accept();
        }
        self.sampler.observe(token_id);
        if let Some(logprobs) = logprobs {
            self.cumulative_logprob += f64::from(logprobs.chosen.logprob);
            self.logprobs.extend(self.rules.logprobs.is_some().then_some(logprobs));
        }
        let by_token = self.ending_by_token(token_id, sequence.output_token_ids().len());
        let mut text = String::new();
        if by_token.is_none() || self.rules.include_stop {
            let step = self.text.push(token_id)?;
            text = step.delta;
            if let Some(stop) = step.stopped_by {
                return Ok(Progress { piece: self.last_piece(text), ending: Some(Ending::by_string(stop)) });
            }
        }
        match by_token.or_else(|| self.ending_by_format()).or_else(|| self.ending_by_length(sequence)) {
            Some(ending) => self.end(text, ending),
            None => Ok(Progress { piece: self.piece(text), ending: None }),
        }
    }

    /// What can be shown of new text.
    fn piece(&mut self, text: String) -> AnswerPiece {
        match (&mut self.stream, &self.rules.reader) {
            (Some(stream), Some(reader)) => reader.read_piece(stream.push(&text)),
            _ => AnswerPiece::new(String::new(), text),
        }
    }

    /// The same for the last of it.
    fn last_piece(&mut self, text: String) -> AnswerPiece {
        let mut piece = self.piece(text);
        if let (Some(stream), Some(reader)) = (&mut self.stream, &self.rules.reader) {
            piece += reader.read_piece(stream.finish());
        }
        piece
    }

    /// The finished answer.
    pub(super) fn into_output(self, index: usize, token_ids: &[u32], ending: Ending) -> CompletionOutput {
        let has_score = self.rules.logprobs.is_some() || self.rules.is_scored;
        let output = CompletionOutput {
            index,
            logprobs: self.rules.logprobs.map(|_| self.logprobs),
            cumulative_logprob: has_score.then_some(self.cumulative_logprob),
            ..CompletionOutput::new(self.text.into_text(), token_ids.to_vec(), ending.finish_reason, ending.stop_reason)
        };
        match &self.rules.reader {
            Some(reader) => reader.read(output),
            None => output,
        }
    }

    fn ending_by_token(&self, token_id: u32, num_output_tokens: usize) -> Option<Ending> {
        let AnswerRules { eos_token_ids, stop_token_ids, min_tokens, .. } = &*self.rules;
        let stop_reason = if eos_token_ids.contains(&token_id) {
            if self.guided.as_ref().is_some_and(Guided::holds) {
                return self.ending_by_format();
            }
            None
        } else if stop_token_ids.contains(&token_id) {
            Some(StopReason::Token(token_id))
        } else {
            return None;
        };
        (num_output_tokens > *min_tokens).then_some(Ending { finish_reason: FinishReason::Stop, stop_reason })
    }

    /// An answer that is whole ends, whatever else was asked for.
    fn ending_by_format(&self) -> Option<Ending> {
        let is_complete = self.guided.as_ref().is_some_and(Guided::is_complete);
        is_complete.then_some(Ending { finish_reason: FinishReason::Stop, stop_reason: None })
    }

    fn ending_by_length(&self, sequence: &Sequence) -> Option<Ending> {
        let rules = &self.rules;
        let output = sequence.output_token_ids();
        let goes_in_circles = |detection| output.len() >= rules.min_tokens && repeats(output, detection);
        let finish_reason = if sequence.num_tokens() >= rules.max_num_tokens {
            FinishReason::Length
        } else if rules.repetition_detection.is_some_and(goes_in_circles) {
            FinishReason::Repetition
        } else {
            return None;
        };
        Some(Ending { finish_reason, stop_reason: None })
    }

    /// Ends the answer with what was held back, which may yet complete a stop string.
    fn end(&mut self, mut text: String, ending: Ending) -> Result<Progress, RequestError> {
        let step = self.text.finish()?;
        text += &step.delta;
        let ending = step.stopped_by.map_or(ending, Ending::by_string);
        Ok(Progress { piece: self.last_piece(text), ending: Some(ending) })
    }
}

impl Ending {
    fn by_string(stop: String) -> Self {
        Self { finish_reason: FinishReason::Stop, stop_reason: Some(StopReason::String(stop)) }
    }
}

/// The log-probability of a token, and those of the most likely ones in its place.
///
/// # Errors
/// If the tokenizer fails on a token.
pub(super) fn token_logprobs(
    tokenizer: &Tokenizer,
    logits: &[f32],
    (token_id, num_top): (u32, usize),
    scratch: &mut SampleScratch,
) -> Result<TokenLogprobs, RequestError> {
    let row = logprobs(logits, token_id, num_top, scratch);
    let named = |token: RankedToken| {
        let bytes = tokenizer.token_bytes(token.token_id)?;
        Ok(TokenLogprob::new(token.token_id, token.logprob, token.rank, bytes))
    };
    Ok(TokenLogprobs::new(named(row.chosen)?, row.top.into_iter().map(named).collect::<Result<_, _>>()?))
}

/// Whether the tokens end with one pattern, several times in a row.
fn repeats(token_ids: &[u32], detection: RepetitionDetection) -> bool {
    let RepetitionDetection { max_pattern_size, min_pattern_size, min_count } = detection;
    let count = min_count.max(1) as usize;
    let longest = (max_pattern_size as usize).min(token_ids.len() / count);
    (min_pattern_size.max(1) as usize..=longest).any(|size| {
        let tail = &token_ids[token_ids.len() - size * count..];
        tail[size..] == tail[..tail.len() - size]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_is_one_pattern_at_the_end_several_times_in_a_row() {
        let within = |min: u32, max: u32, count| RepetitionDetection::new(max, count).with_min_pattern_size(min);
        let cases: [(&[u32], RepetitionDetection, bool); 13] = [
            (&[1, 1], within(0, 1, 2), true),
            (&[2, 1, 1, 1], within(1, 1, 3), true),
            (&[1, 1, 1, 2], within(1, 1, 3), false),
            (&[1, 1], within(1, 1, 3), false),
            (&[9, 1, 2, 3, 1, 2, 3], within(0, 3, 2), true),
            (&[9, 1, 2, 3, 1, 2, 3], within(0, 2, 2), false),
            (&[9, 1, 2, 3, 1, 2, 3], within(0, 3, 3), false),
            (&[1, 2, 1, 2, 1, 2], within(3, 5, 2), false),
            (&[1, 2, 1, 2, 1, 2, 1, 2], within(3, 5, 2), true),
            (&[7, 7, 7, 7], within(2, 9, 2), true),
            (&[1, 2, 3, 4], within(0, u32::MAX, 2), false),
            (&[1, 1, 1, 1], RepetitionDetection::default(), false),
            (&[], within(0, 4, 2), false),
        ];
        for (token_ids, detection, expected) in cases {
            assert_eq!(repeats(token_ids, detection), expected, "{token_ids:?} {detection:?}");
        }
    }
}
