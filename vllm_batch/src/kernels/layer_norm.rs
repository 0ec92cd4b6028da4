//! Layer normalisation.

use candle_core::{CpuStorage, InplaceOp3, Layout, Result, Tensor, bail};

use super::isa::{Isa, per_isa};
use super::norm::sum_by;
use super::parallel::{Shared, for_each};
use super::registers::Registers;
use super::storage::{f32_slice, f32_slice_mut};

/// `x = (x - mean(x)) / sqrt(var(x) + eps) · weight + bias` for each row: `x` is `[tokens, width]`, `weight` and `bias`
/// `[width]` (Ba, Kiros and Hinton, <https://arxiv.org/abs/1607.06450>).
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<()> {
    x.inplace_op3(weight, bias, &LayerNorm { eps, isa: Isa::detect() })
}

struct LayerNorm {
    eps: f32,
    isa: Isa,
}

impl InplaceOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        xl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
        bias: &CpuStorage,
        bl: &Layout,
    ) -> Result<()> {
        let (weight, bias) = (f32_slice(weight, wl)?, f32_slice(bias, bl)?);
        let (tokens, width) = xl.shape().dims2()?;
        if weight.len() != width || bias.len() != width {
            bail!("layer_norm: rows of {width} numbers, {} weights, {} biases", weight.len(), bias.len());
        }
        let x = Shared::new(f32_slice_mut(x, xl)?);
        for_each(tokens, width, |token| {
            // SAFETY: each call changes its own row.
            norm_row(self.isa, unsafe { x.part(token * width, width) }, (weight, bias), self.eps);
        });
        Ok(())
    }
}

per_isa! { fn norm_row(x: &mut [f32], affine: (&[f32], &[f32]), eps: f32) = norm }

#[inline(always)]
fn norm<V: Registers>(x: &mut [f32], (weight, bias): (&[f32], &[f32]), eps: f32) {
    let width = x.len() as f32;
    let mean = sum_by(x, |sum, x| sum + x) / width;
    let variance = sum_by(x, |sum, x| (x - mean).mul_add(x - mean, sum)) / width;
    let scale = 1.0 / (variance + eps).sqrt();
    for (x, (weight, bias)) in x.iter_mut().zip(weight.iter().zip(bias)) {
        *x = ((*x - mean) * scale).mul_add(*weight, *bias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn rows_are_close_to_the_definition_and_have_equal_bits_on_every_instruction_set() {
        for width in [1, 15, 16, 17, 64, 577] {
            let x: Vec<f32> = (0..width).map(|i| ((i * 37 % 101) as f32 - 20.0) * 0.37).collect();
            let weight: Vec<f32> = (0..width).map(|i| (i * 7 % 5) as f32 - 1.5).collect();
            let bias: Vec<f32> = (0..width).map(|i| (i * 3 % 7) as f32 * 0.1).collect();
            let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
            let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / width as f64;
            let mut first: Option<Vec<f32>> = None;
            for isa in Isa::available() {
                let mut y = x.clone();
                norm_row(isa, &mut y, (&weight, &bias), 1e-5);
                for i in 0..width {
                    let normed = (f64::from(x[i]) - mean) / (variance + 1e-5).sqrt();
                    let exact = normed * f64::from(weight[i]) + f64::from(bias[i]);
                    assert!((f64::from(y[i]) - exact).abs() < 1e-5, "{width} {i}: {} for {exact}", y[i]);
                }
                assert_eq!(first.get_or_insert_with(|| y.clone()), &y, "{isa:?} {width}");
            }
        }
    }

    #[test]
    fn each_row_is_normalised_for_itself() {
        let x = Tensor::new(&[[1f32, 3.0], [5.0, 5.0]], &Device::Cpu).unwrap();
        let (weight, bias) = (Tensor::new(&[2f32, 1.0], &Device::Cpu), Tensor::new(&[0f32, 1.0], &Device::Cpu));
        let (weight, bias) = (weight.unwrap(), bias.unwrap());
        layer_norm(&x, &weight, &bias, 0.001).unwrap();
        let y = x.to_vec2::<f32>().unwrap();
        let unit = 1.0 / 1.001f32.sqrt();
        assert_eq!(y[1], [0.0, 1.0]);
        assert!((y[0][0] + 2.0 * unit).abs() < 1e-6 && (y[0][1] - 1.0 - unit).abs() < 1e-6, "{y:?}");
        assert!(layer_norm(&x, &weight, &x.flatten_all().unwrap(), 0.0).is_err());
    }
}
