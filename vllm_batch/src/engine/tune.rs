//! How many tokens should a step have on this machine?
//!
//! A step takes about `a + b · tokens`: `a` to read the weights and to bring the threads together, `b` to compute. The more
//! tokens, the less `a` counts, up to where more of them gain next to nothing. Forward passes of a few sizes tell where.

use std::time::{Duration, Instant};

use crate::model::{BLOCK_SIZE, KvCache, ModelInput, Network, Workspace};

/// Sizes of the steps that are measured, in tokens.
const SIZES: [usize; 4] = [1, 16, 64, 256];
/// No size is begun that is expected to end later than this, but for the two that are always needed.
const TIME_LIMIT: Duration = Duration::from_millis(800);
/// The share of the highest rate that is enough.
const ENOUGH: f64 = 0.95;
/// Budgets are multiples of this, and at least so large.
const BUDGET_STEP: usize = 64;
/// The largest budget: beyond it a step keeps running requests waiting for seconds.
const MAX_BUDGET: usize = 2048;
/// Tokens of a sequence that no other sequence shares, as far as nothing is known: a short prompt and a short answer.
const OWN_TOKENS: usize = 128;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tuned {
    pub(super) max_num_seqs: usize,
    pub(super) max_num_batched_tokens: usize,
}

/// A step of so many tokens takes so many seconds.
type Measured = (usize, f64);

/// Measures a network that has logits. The cache must not be in use; what is written to it is of no meaning.
///
/// # Errors
/// If a forward pass fails.
pub(super) fn tune(network: &Network, cache: &mut KvCache, num_blocks: usize) -> candle_core::Result<Tuned> {
    let started = Instant::now();
    let (mut measured, mut work): (Vec<Measured>, _) = (Vec::new(), Workspace::default());
    for size in SIZES.into_iter().filter(|size| *size <= num_blocks) {
        let expected = measured.last().map_or(0.0, |(tokens, seconds)| seconds * 2.0 * size as f64 / *tokens as f64);
        if measured.len() >= 2 && started.elapsed().as_secs_f64() + expected > TIME_LIMIT.as_secs_f64() {
            break;
        }
        let input = step_of(size);
        let first = time(network, &input, cache, &mut work)?;
        measured.push((size, first.min(time(network, &input, cache, &mut work)?)));
    }
    let tuned = choose(&measured, num_blocks);
    tracing::info!(?measured, ?tuned, elapsed = ?started.elapsed(), "measured the machine");
    Ok(tuned)
}

/// So many sequences of one token each, as when all are decoding.
fn step_of(size: usize) -> ModelInput {
    let mut input = ModelInput::default();
    for block in 0..size as u32 {
        input.push(&[0], 0, vec![block], 0..1);
    }
    input
}

fn time(network: &Network, input: &ModelInput, cache: &mut KvCache, work: &mut Workspace) -> candle_core::Result<f64> {
    let started = Instant::now();
    let hidden = network.forward(input, cache, work)?;
    network.logits(&hidden, work)?;
    Ok(started.elapsed().as_secs_f64())
}

/// The smallest budget that is enough, and as many sequences as fill it, if the cache holds them.
fn choose(measured: &[Measured], num_blocks: usize) -> Tuned {
    let (fixed, per_token) = fit(measured);
    // tokens / (a + b · tokens) reaches the share s of 1 / b where tokens is s / (1 - s) · a / b.
    let enough = ENOUGH / (1.0 - ENOUGH) * fixed.max(0.0) / per_token.max(f64::MIN_POSITIVE);
    let budget = (enough.min(MAX_BUDGET as f64) as usize).next_multiple_of(BUDGET_STEP).clamp(BUDGET_STEP, MAX_BUDGET);
    let seats = (num_blocks * BLOCK_SIZE / OWN_TOKENS).clamp(1, budget);
    Tuned { max_num_seqs: seats, max_num_batched_tokens: budget }
}

/// The line `a + b · tokens` with the least squares of relative errors: `(a, b)`.
fn fit(measured: &[Measured]) -> (f64, f64) {
    let [mut weights, mut x, mut y, mut xx, mut xy] = [0.0; 5];
    for (tokens, seconds) in measured {
        let (tokens, weight) = (*tokens as f64, 1.0 / seconds.max(1e-9).powi(2));
        weights += weight;
        x += weight * tokens;
        y += weight * seconds;
        xx += weight * tokens * tokens;
        xy += weight * tokens * seconds;
    }
    let spread = weights * xx - x * x;
    if spread <= 0.0 {
        return (0.0, 0.0);
    }
    ((xx * y - x * xy) / spread, (weights * xy - x * y) / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(fixed: f64, per_token: f64) -> Vec<Measured> {
        SIZES.map(|size| (size, fixed + per_token * size as f64)).to_vec()
    }

    #[test]
    fn a_line_is_found_again() {
        let (fixed, per_token) = fit(&machine(0.012, 0.0005));
        assert!((fixed - 0.012).abs() < 1e-9 && (per_token - 0.0005).abs() < 1e-9, "{fixed} {per_token}");
    }

    #[test]
    fn the_budget_is_the_smallest_that_is_enough() {
        // 19 · a / b tokens, in steps of 64; 128 tokens of cache for each sequence.
        let cases = [
            (machine(0.010, 0.0005), 100_000, (384, 384)),
            (machine(0.010, 0.0005), 80, (10, 384)),
            (machine(0.010, 0.0005), 1, (1, 384)),
            (machine(0.0, 0.0005), 100_000, (64, 64)),
            (machine(1.0, 0.0005), 100_000, (2048, 2048)),
            (vec![(1, 0.5), (16, 0.4)], 100_000, (2048, 2048)),
            (vec![(1, 0.5)], 1, (1, 64)),
            (vec![], 1, (1, 64)),
        ];
        for (measured, num_blocks, (max_num_seqs, max_num_batched_tokens)) in cases {
            let expected = Tuned { max_num_seqs, max_num_batched_tokens };
            assert_eq!(choose(&measured, num_blocks), expected, "{measured:?} {num_blocks}");
        }
    }
}
