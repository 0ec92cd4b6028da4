//! What a scripted engine answers where no text is asked for.

use std::sync::Arc;

use crate::output::{EmbeddingRequestOutput, ScoringRequestOutput, Usage};
use crate::request::{Label, PoolingParams, Request, ScoringParams};

/// Numbers of an embedding, unless the request says.
const DIMENSIONS: usize = 8;

/// Each word of the prompt adds 1 at a place that follows from its bytes: texts with common words are close to each other.
pub(super) fn embedding(request: &Request, params: &PoolingParams, words: &[String]) -> EmbeddingRequestOutput {
    let dimensions = params.dimensions.map_or(DIMENSIONS, |dimensions| dimensions as usize);
    let mut numbers = vec![0f32; dimensions];
    for word in words {
        let hash = word.bytes().fold(7u32, |hash, byte| hash.wrapping_mul(31) ^ u32::from(byte));
        numbers[hash as usize % dimensions] += 1.0;
    }
    let length = numbers.iter().map(|number| number * number).sum::<f32>().sqrt();
    if params.normalize != Some(false) && length > 0.0 {
        for number in &mut numbers {
            *number /= length;
        }
    }
    let (prompt_token_ids, usage) = prompt(words);
    EmbeddingRequestOutput::new(request.request_id.clone(), prompt_token_ids, numbers, usage)
}

/// What the script says is certain, and other labels are impossible; without such a label, all are equally likely.
pub(super) fn scores(
    request: &Request,
    params: &ScoringParams,
    answer: &str,
    words: &[String],
) -> ScoringRequestOutput {
    let label = |label: &Label| match label {
        Label::Text(text) => (if text.trim() == answer.trim() { 0.0 } else { f64::NEG_INFINITY }, 1),
        Label::TokenIds(token_ids) => (f64::NEG_INFINITY, token_ids.len()),
    };
    let (prompt_token_ids, usage) = prompt(words);
    ScoringRequestOutput::new(request.request_id.clone(), prompt_token_ids, params.labels.iter().map(label), usage)
}

fn prompt(words: &[String]) -> (Arc<[u32]>, Usage) {
    ((0..words.len() as u32).collect(), Usage::new(words.len(), 0, 0))
}
