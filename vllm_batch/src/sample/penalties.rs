//! Penalties on tokens that are there already.

use std::collections::HashMap;

use crate::request::SamplingParams;

/// The three penalties of one sequence, and how often each token has occurred.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Penalties {
    repetition: f32,
    frequency: f32,
    presence: f32,
    /// How often the output has each token. Tokens that only the prompt has count 0; they are here only if the repetition
    /// penalty needs them.
    counts: HashMap<u32, u32>,
}

impl Penalties {
    pub(super) fn new(params: &SamplingParams) -> Self {
        Self {
            repetition: params.repetition_penalty,
            frequency: params.frequency_penalty,
            presence: params.presence_penalty,
            counts: HashMap::new(),
        }
    }

    /// Takes the tokens of the prompt.
    pub(super) fn observe_prompt(&mut self, token_ids: &[u32]) {
        if self.repetition != 1.0 {
            self.counts.extend(token_ids.iter().map(|token_id| (*token_id, 0)));
        }
    }

    /// Takes the next token of the output.
    pub(super) fn observe(&mut self, token_id: u32) {
        if (self.repetition, self.frequency, self.presence) != (1.0, 0.0, 0.0) {
            *self.counts.entry(token_id).or_default() += 1;
        }
    }

    /// Whether no logit changes.
    pub(super) fn is_idle(&self) -> bool {
        self.counts.is_empty()
    }

    /// Changes the logits of the tokens that have occurred.
    pub(super) fn apply(&self, logits: &mut [f32]) {
        for (token_id, count) in &self.counts {
            let Some(logit) = logits.get_mut(*token_id as usize) else { continue };
            *logit = if *logit > 0.0 { *logit / self.repetition } else { *logit * self.repetition };
            if *count > 0 {
                *logit -= self.frequency * *count as f32;
                *logit -= self.presence;
            }
        }
    }
}
