//! Root mean square normalisation.

use candle_core::{CpuStorage, InplaceOp3, Layout, Result, Tensor, bail};

use super::LANES;
use super::isa::{Isa, per_isa};
use super::linear::Operand;
use super::parallel::{Shared, for_each};
use super::quant::{Activations, QuantRows};
use super::registers::Registers;
use super::rotary::HeadShape;
use super::storage::{f32_slice, f32_slice_mut};

/// `y = x / sqrt(mean(x²) + eps) · weight` for each row: `x` and `y` are `[tokens, width]`, `weight` `[width]`
/// (Zhang and Sennrich, <https://arxiv.org/abs/1910.07467>). With room for it, the rows are quantised as well, each while
/// it is in the nearest cache.
pub(crate) fn rms_norm<'a>(
    x: &Tensor,
    (weight, eps): (&Tensor, f32),
    y: Tensor,
    quantized: Option<&'a mut Activations>,
) -> Result<Operand<'a>> {
    Operand::written(y, quantized, |y, quantized| {
        y.inplace_op3(x, weight, &RmsNorm { eps, rows: None, quantized, isa: Isa::detect() })
    })
}

/// [`rms_norm`] of some rows alone: `y` is `[rows.len(), width]`.
pub(crate) fn rms_norm_rows(x: &Tensor, rows: &[u32], weight: &Tensor, eps: f32, y: &Tensor) -> Result<()> {
    y.inplace_op3(x, weight, &RmsNorm { eps, rows: Some(rows), quantized: None, isa: Isa::detect() })
}

struct RmsNorm<'a> {
    eps: f32,
    /// The rows to normalise; all if absent.
    rows: Option<&'a [u32]>,
    quantized: Option<QuantRows<'a>>,
    isa: Isa,
}

impl InplaceOp3 for RmsNorm<'_> {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        y: &mut CpuStorage,
        yl: &Layout,
        x: &CpuStorage,
        xl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
    ) -> Result<()> {
        let (x, weight) = (f32_slice(x, xl)?, f32_slice(weight, wl)?);
        let (tokens, width) = xl.shape().dims2()?;
        let out_of_range = |rows: &[u32]| rows.iter().any(|row| *row as usize >= tokens);
        let count = self.rows.map_or(tokens, <[u32]>::len);
        if weight.len() != width || yl.shape().dims2()? != (count, width) || self.rows.is_some_and(out_of_range) {
            bail!("rms_norm: {tokens} rows of {width} numbers, {} weights, rows {:?}", weight.len(), self.rows);
        }
        let out = Shared::new(f32_slice_mut(y, yl)?);
        for_each(count, width, |i| {
            let row = self.rows.map_or(i, |rows| rows[i] as usize);
            // SAFETY: each call writes its own row.
            let y = unsafe { out.part(i * width, width) };
            norm_row(self.isa, &x[row * width..(row + 1) * width], weight, self.eps, y);
            if let Some(quantized) = &self.quantized {
                // SAFETY: as above.
                unsafe { quantized.write(i, y) };
            }
        });
        Ok(())
    }
}

/// Normalises the queries and the keys of `qkv` in place, as [`rms_norm`] does: each head for itself if the weights are as
/// long as a head, all heads together if they are as long as all of them.
pub(crate) struct QkNorm {
    /// The layer's heads.
    pub(crate) heads: HeadShape,
    /// Added to the mean square.
    pub(crate) eps: f32,
    /// Instruction set to use.
    pub(crate) isa: Isa,
}

impl InplaceOp3 for QkNorm {
    fn name(&self) -> &'static str {
        "qk_norm"
    }

    fn cpu_fwd(
        &self,
        qkv: &mut CpuStorage,
        layout: &Layout,
        query_weight: &CpuStorage,
        ql: &Layout,
        key_weight: &CpuStorage,
        kl: &Layout,
    ) -> Result<()> {
        let (tokens, width) = layout.shape().dims2()?;
        let HeadShape { num_heads, num_kv_heads, head_dim } = self.heads;
        let parts = [(num_heads, f32_slice(query_weight, ql)?), (num_kv_heads, f32_slice(key_weight, kl)?)];
        let fits = |(heads, weight): &(usize, &[f32])| [head_dim, heads * head_dim].contains(&weight.len());
        if width != self.heads.qkv_width() || !parts.iter().all(fits) {
            bail!("qk_norm: {width} numbers and weights of {} and {}", parts[0].1.len(), parts[1].1.len());
        }
        let qkv = Shared::new(f32_slice_mut(qkv, layout)?);
        for_each(tokens, width, |token| {
            // SAFETY: each call changes its own row.
            let (queries, rest) = unsafe { qkv.part(token * width, width) }.split_at_mut(num_heads * head_dim);
            let keys = &mut rest[..num_kv_heads * head_dim];
            for (numbers, (_, weight)) in [queries, keys].into_iter().zip(parts) {
                let chunks = numbers.chunks_exact_mut(weight.len());
                chunks.for_each(|chunk| norm_in_place(self.isa, chunk, weight, self.eps));
            }
        });
        Ok(())
    }
}

per_isa! { fn norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) = norm_self }

#[inline(always)]
fn norm_self<V: Registers>(x: &mut [f32], weight: &[f32], eps: f32) {
    let scale = norm_scale(x, eps);
    for (x, weight) in x.iter_mut().zip(weight) {
        *x = *x * scale * weight;
    }
}

per_isa! { fn norm_row(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) = norm }

#[inline(always)]
fn norm<V: Registers>(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let scale = norm_scale(x, eps);
    for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
        *y = x * scale * weight;
    }
}

#[inline(always)]
fn norm_scale(x: &[f32], eps: f32) -> f32 {
    1.0 / (sum_of_squares(x) / x.len() as f32 + eps).sqrt()
}

#[inline(always)]
fn sum_of_squares(x: &[f32]) -> f32 {
    sum_by(x, |sum, x| x.mul_add(x, sum))
}

/// Sixteen partial sums over every sixteenth number, then pairs: the same order at every register width. `add(sum, x)` is
/// the sum with what `x` adds.
#[inline(always)]
pub(super) fn sum_by(x: &[f32], add: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum = add(*sum, *x);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum = add(*sum, *x);
    }
    sum_lane(sums)
}

/// The sum of sixteen numbers, always in the same order.
#[inline(always)]
pub(super) fn sum_lane(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_unit_mean_square_and_equal_bits_on_every_instruction_set() {
        for width in [1, 15, 16, 17, 64, 577] {
            let x: Vec<f32> = (0..width).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.37 + 0.01).collect();
            let weight = vec![1f32; width];
            let mut first: Option<Vec<f32>> = None;
            for isa in Isa::available() {
                let mut y = vec![0f32; width];
                norm_row(isa, &x, &weight, 0.0, &mut y);
                let mean = y.iter().map(|y| f64::from(y * y)).sum::<f64>() / width as f64;
                assert!((mean - 1.0).abs() < 1e-5, "{width}: {mean}");
                assert_eq!(first.get_or_insert_with(|| y.clone()), &y, "{isa:?} {width}");
            }
        }
    }

    #[test]
    fn queries_and_keys_are_normalised_by_head_or_together_and_values_stay() {
        let heads = HeadShape { num_heads: 2, num_kv_heads: 1, head_dim: 3 };
        let numbers: Vec<f32> = (0..24).map(|i| (i * 7 % 11) as f32 - 4.5).collect();
        let qkv = || Tensor::from_slice(&numbers, (2, 12), &candle_core::Device::Cpu).unwrap();
        let weight = |len: usize| Tensor::arange(1f32, 1.0 + len as f32, &candle_core::Device::Cpu).unwrap();
        let norm = |numbers: &[f32], len| {
            let x = Tensor::from_slice(numbers, (numbers.len() / len, len), &candle_core::Device::Cpu).unwrap();
            let y = x.zeros_like().unwrap();
            rms_norm(&x, (&weight(len), 1e-6), y.clone(), None).unwrap();
            y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        for query_len in [3, 6] {
            let x = qkv();
            let op = QkNorm { heads, eps: 1e-6, isa: Isa::detect() };
            x.inplace_op3(&weight(query_len), &weight(3), &op).unwrap();
            let expected = numbers
                .chunks(12)
                .map(|row| [norm(&row[..6], query_len), norm(&row[6..9], 3), row[9..].to_vec()].concat());
            assert_eq!(x.to_vec2::<f32>().unwrap(), expected.collect::<Vec<_>>());
            assert!(qkv().inplace_op3(&weight(4), &weight(3), &op).is_err());
        }
    }

    #[test]
    fn chosen_rows_are_those_of_the_whole() {
        let x = candle_core::Tensor::arange(0f32, 12.0, &candle_core::Device::Cpu).unwrap().reshape((4, 3)).unwrap();
        let weight = candle_core::Tensor::new(&[1f32, 2.0, 3.0], &candle_core::Device::Cpu).unwrap();
        let (all, some) = (x.zeros_like().unwrap(), x.narrow(0, 0, 2).unwrap().zeros_like().unwrap());
        rms_norm(&x, (&weight, 1e-5), all.clone(), None).unwrap();
        rms_norm_rows(&x, &[3, 0], &weight, 1e-5, &some).unwrap();
        let all = all.to_vec2::<f32>().unwrap();
        assert_eq!(some.to_vec2::<f32>().unwrap(), [all[3].clone(), all[0].clone()]);
        assert!(rms_norm_rows(&x, &[4, 0], &weight, 1e-5, &some).is_err());
        assert!(rms_norm_rows(&x, &[0], &weight, 1e-5, &some).is_err());
    }
}
