//! One embedding on its way: which hidden states it is made of, and how.

use std::ops::Range;
use std::sync::Arc;

use super::active::Active;
use super::lower::{LoweredRequest, Lowering, Truncation};
use crate::error::RequestError;
use crate::output::{EmbeddingRequestOutput, Usage};
use crate::request::{PoolingParams, PoolingType, Request};
use crate::sched::{FinishedSequence, NewSequence, ScheduledSequence, SequenceId};

/// An unfinished embedding: the mean over the hidden states of some positions.
///
/// They are added in double precision and in the order of their positions, so that the sum does not depend on how the
/// prompt was cut into chunks.
#[derive(Debug)]
pub(super) struct Pooling {
    request_id: String,
    prompt_token_ids: Arc<[u32]>,
    /// The first position whose hidden state counts.
    first: usize,
    /// One more than the last position whose hidden state counts.
    end: usize,
    num_added: usize,
    sum: Vec<f64>,
    normalize: bool,
}

impl Pooling {
    /// The positions of a scheduled part whose hidden states are not there yet.
    pub(super) fn wanted_rows(&self, part: &ScheduledSequence) -> Range<usize> {
        let end = part.start + part.num_tokens;
        let end = end.min(self.end).max(part.start);
        (self.first + self.num_added).clamp(part.start, end)..end
    }

    /// Adds the hidden state of the next position. Whether that was the last.
    pub(super) fn add(&mut self, hidden: &[f32]) -> bool {
        for (sum, number) in self.sum.iter_mut().zip(hidden) {
            *sum += f64::from(*number);
        }
        self.num_added += 1;
        self.first + self.num_added == self.end
    }

    pub(super) fn into_output(self, finished: &FinishedSequence) -> EmbeddingRequestOutput {
        let usage = Usage::new(self.prompt_token_ids.len(), 0, finished.num_cached_tokens);
        let divisor = if self.normalize { length(&self.sum) } else { self.num_added as f64 };
        let embedding = self.sum.iter().map(|number| (number / divisor) as f32).collect();
        EmbeddingRequestOutput::new(self.request_id, self.prompt_token_ids, embedding, usage)
    }
}

/// The positions whose hidden states count. What follows them is not computed, unless tokens see those after them.
fn positions(pooling_type: PoolingType, prompt: &[u32]) -> Range<usize> {
    match pooling_type {
        PoolingType::Last => prompt.len() - 1..prompt.len(),
        PoolingType::Mean => 0..prompt.len(),
        // In a decoder, no token after the first one changes its hidden state.
        PoolingType::Cls => 0..1,
    }
}

/// The Euclidean length of a vector; 1 for one of zeros, which has no direction.
fn length(vector: &[f64]) -> f64 {
    let length = vector.iter().map(|number| number * number).sum::<f64>().sqrt();
    if length > 0.0 { length } else { 1.0 }
}

impl Lowering {
    pub(super) fn lower_embedding(
        &self,
        request: Request,
        params: &PoolingParams,
    ) -> Result<LoweredRequest, RequestError> {
        params.validate()?;
        if request.echo {
            return Err(RequestError::invalid("echo", "an embedding has no text"));
        }
        let dimensions = self.dimensions(params)?;
        let truncation = Truncation { tokens: params.truncate_prompt_tokens, room: self.max_model_len };
        let prompt_token_ids = if self.is_encoder {
            self.text_token_ids(&request, truncation)?
        } else {
            self.prompt_token_ids(&request, truncation)?.token_ids
        };
        self.check_len(prompt_token_ids.len(), 0)?;
        let Range { start: first, end } =
            positions(params.pooling_type.unwrap_or(self.pooling_type), &prompt_token_ids);
        let num_tokens = if self.is_encoder { prompt_token_ids.len() } else { end };
        let sequence = NewSequence {
            id: SequenceId(0),
            prompt_token_ids: prompt_token_ids[..num_tokens].to_vec(),
            max_num_tokens: num_tokens,
            priority: request.priority,
            adapter: self.adapter(&request),
            max_cached_tokens: first,
        };
        let pooling = Pooling {
            request_id: request.request_id,
            prompt_token_ids: prompt_token_ids.into(),
            first,
            end,
            num_added: 0,
            sum: vec![0.0; dimensions],
            normalize: params.normalize.unwrap_or(self.normalize),
        };
        Ok(LoweredRequest { sequences: vec![sequence], active: Active::Embed(pooling) })
    }

    fn dimensions(&self, params: &PoolingParams) -> Result<usize, RequestError> {
        let hidden_size = self.hidden_size;
        match params.dimensions.map_or(hidden_size, |dimensions| dimensions as usize) {
            dimensions if dimensions <= hidden_size => Ok(dimensions),
            dimensions => {
                let message = format!("must be at most {hidden_size}, the model's hidden size, found {dimensions}");
                Err(RequestError::invalid("dimensions", message))
            }
        }
    }
}
