//! What is done to a row of logits before its distribution is looked at.

use super::penalties::Penalties;
use super::sampler::Mask;
use crate::request::SamplingParams;

/// The masks, biases and penalties of one sequence.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Processors {
    allowed_token_ids: Option<Vec<u32>>,
    /// Each with at least one token.
    pub(super) bad_words: Vec<Vec<u32>>,
    pub(super) min_tokens: usize,
    pub(super) end_token_ids: Vec<u32>,
    logit_bias: Vec<(u32, f32)>,
    pub(super) penalties: Penalties,
}

impl Processors {
    pub(super) fn new(params: &SamplingParams, end_token_ids: Vec<u32>) -> Self {
        Self {
            allowed_token_ids: params.allowed_token_ids.clone(),
            bad_words: Vec::new(),
            min_tokens: params.min_tokens as usize,
            end_token_ids,
            logit_bias: params.logit_bias.iter().map(|(token_id, bias)| (*token_id, *bias)).collect(),
            penalties: Penalties::new(params),
        }
    }

    /// The logits for the token after `output`, written to `buffer`; `None` if they are `logits` as they are. The mask
    /// comes first, and the order of the other steps is vLLM's: it decides how a bias and a penalty on the same token
    /// come together.
    pub(super) fn apply<'a>(
        &self,
        logits: &[f32],
        output: &[u32],
        mask: Option<Mask<'_>>,
        buffer: &'a mut Vec<f32>,
    ) -> Option<&'a [f32]> {
        if mask.is_none() && self.are_idle(output) {
            return None;
        }
        self.copy_allowed(logits, buffer);
        if let Some(mask) = mask {
            mask(buffer);
        }
        for token_id in self.bad_tokens(output).chain(self.held_back(output)) {
            set(buffer, token_id, |logit| *logit = f32::NEG_INFINITY);
        }
        for (token_id, bias) in &self.logit_bias {
            set(buffer, *token_id, |logit| *logit += bias);
        }
        self.penalties.apply(buffer);
        Some(buffer)
    }

    /// Whether no step makes the token after `output` impossible, whatever the mask.
    pub(super) fn allow(&self, token_id: u32, output: &[u32]) -> bool {
        self.allowed_token_ids.as_ref().is_none_or(|token_ids| token_ids.contains(&token_id))
            && !self.bad_tokens(output).chain(self.held_back(output)).any(|forbidden| forbidden == token_id)
    }

    /// Whether the next row stays as it is, and need not be copied.
    fn are_idle(&self, output: &[u32]) -> bool {
        self.allowed_token_ids.is_none()
            && self.logit_bias.is_empty()
            && self.penalties.is_idle()
            && self.held_back(output).next().is_none()
            && self.bad_tokens(output).next().is_none()
    }

    fn copy_allowed(&self, logits: &[f32], buffer: &mut Vec<f32>) {
        buffer.clear();
        match &self.allowed_token_ids {
            None => buffer.extend_from_slice(logits),
            Some(token_ids) => {
                buffer.resize(logits.len(), f32::NEG_INFINITY);
                for token_id in token_ids {
                    let logit = logits.get(*token_id as usize).copied();
                    set(buffer, *token_id, |allowed| *allowed = logit.unwrap_or(*allowed));
                }
            }
        }
    }

    /// The last tokens of the bad words that the output ends with, but for that token.
    fn bad_tokens<'a>(&'a self, output: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
        let words = self.bad_words.iter().filter_map(|word| word.split_last());
        words.filter(|(_, beginning)| output.ends_with(beginning)).map(|(last, _)| *last)
    }

    /// The tokens that would end the answer too early.
    fn held_back(&self, output: &[u32]) -> impl Iterator<Item = u32> {
        let is_early = output.len() < self.min_tokens;
        self.end_token_ids.iter().filter(move |_| is_early).copied()
    }
}

/// Changes one logit; tokens beyond the row have none.
fn set(logits: &mut [f32], token_id: u32, change: impl FnOnce(&mut f32)) {
    if let Some(logit) = logits.get_mut(token_id as usize) {
        change(logit);
    }
}
