//! The most likely tokens and their log-probabilities, the simple way.

/// The `k` most likely tokens with the natural logarithms of their probabilities, by rank; equal ones by id. The
/// softmax is over all logits, at temperature 1, in double precision.
pub(crate) fn top_logprobs(logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    let maximum = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|logit| f64::from(logit - maximum).exp()).sum();
    let logprob = |logit: f32| (f64::from(logit - maximum) - total.ln()) as f32;
    let mut tokens: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    tokens.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    tokens.truncate(k);
    tokens.into_iter().map(|(token_id, logit)| (token_id, logprob(logit))).collect()
}
