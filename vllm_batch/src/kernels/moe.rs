//! Choosing the experts of each token, and adding up what they computed.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::exp::exp;
use super::isa::{Isa, per_isa};
use super::parallel::{Shared, for_each};
use super::registers::Registers;
use super::storage::f32_slice;

/// Which tokens each expert computes, and how much their results count.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Routing {
    /// For each expert the tokens that chose it, in order.
    pub(crate) tokens: Vec<Vec<u32>>,
    /// For each token its experts in order: the row of the result when all experts' rows stand one below the other, and
    /// its weight.
    choices: Vec<(usize, f32)>,
    experts_per_token: usize,
}

/// Chooses for each row of `logits`, `[tokens, experts]`, the `experts_per_token` experts with the largest softmax; of
/// equals the first. With `normalize`, their weights add up to 1. (Shazeer and others, <https://arxiv.org/abs/1701.06538>)
///
/// # Errors
/// If there are not that many experts.
pub(crate) fn route(logits: &Tensor, experts_per_token: usize, normalize: bool) -> Result<Routing> {
    let (num_tokens, num_experts) = logits.dims2()?;
    if !(1..=num_experts).contains(&experts_per_token) {
        bail!("route: {experts_per_token} of {num_experts} experts");
    }
    let mut tokens = vec![Vec::new(); num_experts];
    let mut choices = Vec::with_capacity(num_tokens * experts_per_token);
    for (token, logits) in logits.to_vec2::<f32>()?.iter_mut().enumerate() {
        softmax_on(Isa::detect(), logits);
        for (expert, weight) in choose(logits, experts_per_token, normalize) {
            choices.push((expert, weight));
            tokens[expert].push(token as u32);
        }
    }
    let mut next_row = first_rows(&tokens);
    for (expert, _) in &mut choices {
        let row = next_row[*expert];
        next_row[*expert] += 1;
        *expert = row;
    }
    Ok(Routing { tokens, choices, experts_per_token })
}

impl Routing {
    /// The weighted sum of each token's experts, in their order. `results` are the rows of all experts one below the other,
    /// each expert's in the order of its [`tokens`](Self::tokens); the sum is `[tokens, width]`.
    ///
    /// # Errors
    /// If there are more or fewer rows than choices.
    pub(crate) fn combine(&self, results: &Tensor) -> Result<Tensor> {
        results.apply_op1_no_bwd(&Combine { routing: self, isa: Isa::detect() })
    }
}

/// Where each expert's rows start.
fn first_rows(tokens: &[Vec<u32>]) -> Vec<usize> {
    let starts = tokens.iter().scan(0, |next, tokens| {
        let start = *next;
        *next += tokens.len();
        Some(start)
    });
    starts.collect()
}

/// The experts in order, each with its weight.
fn choose(probabilities: &[f32], count: usize, normalize: bool) -> Vec<(usize, f32)> {
    let mut chosen: Vec<(usize, f32)> = probabilities.iter().copied().enumerate().collect();
    chosen.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    chosen.truncate(count);
    chosen.sort_unstable_by_key(|(expert, _)| *expert);
    if normalize {
        let total: f32 = chosen.iter().map(|(_, weight)| weight).sum();
        for (_, weight) in &mut chosen {
            *weight /= total;
        }
    }
    chosen
}

per_isa! { fn softmax_on(x: &mut [f32]) = softmax }

#[inline(always)]
fn softmax<V: Registers>(x: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for x in x.iter_mut() {
        *x = exp(*x - max);
    }
    let mut total = 0.0;
    for x in x.iter() {
        total += *x;
    }
    for x in x {
        *x /= total;
    }
}

struct Combine<'a> {
    routing: &'a Routing,
    isa: Isa,
}

impl CustomOp1 for Combine<'_> {
    fn name(&self) -> &'static str {
        "combine_experts"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let results = f32_slice(storage, layout)?;
        let (rows, width) = layout.shape().dims2()?;
        let Routing { choices, experts_per_token, .. } = self.routing;
        if rows != choices.len() {
            bail!("combine_experts: {rows} rows for {} choices", choices.len());
        }
        let num_tokens = choices.len() / experts_per_token;
        let mut y = vec![0f32; num_tokens * width];
        let out = Shared::new(&mut y);
        for_each(num_tokens, width * experts_per_token, |token| {
            // SAFETY: each call writes its own row.
            let sum = unsafe { out.part(token * width, width) };
            for (row, weight) in &choices[token * experts_per_token..(token + 1) * experts_per_token] {
                add_weighted_on(self.isa, *weight, &results[row * width..(row + 1) * width], sum);
            }
        });
        Ok((CpuStorage::F32(y), (num_tokens, width).into()))
    }
}

per_isa! { fn add_weighted_on(weight: f32, x: &[f32], sum: &mut [f32]) = add_weighted }

#[inline(always)]
fn add_weighted<V: Registers>(weight: f32, x: &[f32], sum: &mut [f32]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum = weight.mul_add(*x, *sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn logits(rows: &[[f32; 4]]) -> Tensor {
        Tensor::from_slice(rows.as_flattened(), (rows.len(), 4), &Device::Cpu).unwrap()
    }

    #[test]
    fn the_largest_are_chosen_and_of_equals_the_first() {
        let logits = logits(&[[0.0, 3.0, 1.0, 2.0], [5.0, 5.0, 5.0, 5.0], [f32::NEG_INFINITY, 0.0, 9.0, 8.0]]);
        let routing = route(&logits, 2, true).unwrap();
        assert_eq!(routing.tokens, [vec![1], vec![0, 1], vec![2], vec![0, 2]]);
        let rows: Vec<usize> = routing.choices.iter().map(|(row, _)| *row).collect();
        assert_eq!(rows, [1, 4, 0, 2, 3, 5]);
        for weights in routing.choices.chunks(2) {
            assert!((weights[0].1 + weights[1].1 - 1.0).abs() < 1e-6, "{weights:?}");
        }
        assert!(route(&logits, 0, true).is_err() && route(&logits, 5, true).is_err());
    }

    #[test]
    fn weights_are_those_of_the_softmax_unless_normalised() {
        let routing = route(&logits(&[[1.0, 2.0, 3.0, 4.0]]), 2, false).unwrap();
        let total: f64 = (1..=4).map(|x| f64::from(x).exp()).sum();
        for ((_, weight), x) in routing.choices.iter().zip([3.0f64, 4.0]) {
            assert!((f64::from(*weight) - x.exp() / total).abs() < 1e-6, "{weight}");
        }
    }

    #[test]
    fn results_are_added_in_the_order_of_the_experts_whoever_else_is_there() {
        let rows = [[0.3, 3.0, 1.0, 2.0], [5.0, 0.1, 0.2, 4.9], [1.0, 0.0, 9.0, 8.0]];
        // Expert `e` multiplies by `e + 1`.
        let run = |rows: &[[f32; 4]]| {
            let routing = route(&logits(rows), 3, false).unwrap();
            let parts = routing.tokens.iter().enumerate().flat_map(|(expert, tokens)| {
                tokens.iter().flat_map(move |token| rows[*token as usize].map(|x| x * (expert + 1) as f32))
            });
            let parts: Vec<f32> = parts.collect();
            let results = Tensor::from_slice(&parts, (parts.len() / 4, 4), &Device::Cpu).unwrap();
            assert!(routing.combine(&results.narrow(0, 1, 2).unwrap().contiguous().unwrap()).is_err());
            routing.combine(&results).unwrap().to_vec2::<f32>().unwrap()
        };
        let together = run(&rows);
        for (i, row) in rows.iter().enumerate() {
            let alone = run(&[*row]);
            assert_eq!(alone[0], together[i]);
            let routing = route(&logits(&[*row]), 3, false).unwrap();
            let mut sum = [0f32; 4];
            for (expert, tokens) in routing.tokens.iter().enumerate().filter(|(_, tokens)| !tokens.is_empty()) {
                assert_eq!(tokens, &[0]);
                let before = routing.tokens[..expert].iter().filter(|tokens| !tokens.is_empty()).count();
                let weight = routing.choices[before].1;
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum = weight.mul_add(x * (expert + 1) as f32, *sum));
            }
            assert_eq!(alone[0], sum);
        }
    }
}
