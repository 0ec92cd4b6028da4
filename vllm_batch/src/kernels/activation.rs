//! What stands between the two layers of a feed-forward network.

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Result, Tensor, bail};

use super::exp::exp;
use super::isa::{Isa, per_isa};
use super::linear::Operand;
use super::parallel::{Shared, for_each};
use super::quant::{Activations, QuantRows};
use super::registers::Registers;
use super::storage::{f32_slice, f32_slice_mut};

/// What is done to the gates of a feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x · σ(x)` (Elfwing and others, <https://arxiv.org/abs/1702.03118>).
    Silu,
    /// The approximation `x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))` of GELU (Hendrycks and Gimpel,
    /// <https://arxiv.org/abs/1606.08415>).
    GeluTanh,
}

/// `y = activation(gate) · up`: `x` is `[tokens, 2 · width]`, gates first, and `y` `[tokens, width]`
/// (Shazeer, <https://arxiv.org/abs/2002.05202>). With room for it, the rows of `y` are quantised as well, each while it
/// is in the nearest cache.
pub(crate) fn gated<'a>(
    x: &Tensor,
    activation: Activation,
    y: Tensor,
    quantized: Option<&'a mut Activations>,
) -> Result<Operand<'a>> {
    Operand::written(y, quantized, |y, quantized| {
        y.inplace_op2(x, &Gated { activation, quantized, isa: Isa::detect() })
    })
}

struct Gated<'a> {
    activation: Activation,
    quantized: Option<QuantRows<'a>>,
    isa: Isa,
}

impl InplaceOp2 for Gated<'_> {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(&self, y: &mut CpuStorage, yl: &Layout, x: &CpuStorage, xl: &Layout) -> Result<()> {
        let ((tokens, both), x) = (xl.shape().dims2()?, f32_slice(x, xl)?);
        let width = both / 2;
        if yl.shape().dims2()? != (tokens, width) {
            bail!("gated: {tokens} rows of {both} numbers do not become {:?}", yl.shape());
        }
        let out = Shared::new(f32_slice_mut(y, yl)?);
        let row = match self.activation {
            Activation::Silu => silu_row,
            Activation::GeluTanh => gelu_tanh_row,
        };
        for_each(tokens, both, |token| {
            let (gate, up) = x[token * both..(token + 1) * both].split_at(width);
            // SAFETY: each call writes its own row.
            let y = unsafe { out.part(token * width, width) };
            row(self.isa, gate, up, y);
            if let Some(quantized) = &self.quantized {
                // SAFETY: as above.
                unsafe { quantized.write(token, y) };
            }
        });
        Ok(())
    }
}

per_isa! { fn silu_row(gate: &[f32], up: &[f32], y: &mut [f32]) = silu }

#[inline(always)]
fn silu<V: Registers>(gate: &[f32], up: &[f32], y: &mut [f32]) {
    for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
        *y = gate / (1.0 + exp(-gate)) * up;
    }
}

per_isa! { fn gelu_tanh_row(gate: &[f32], up: &[f32], y: &mut [f32]) = gelu_tanh }

/// `(1 + tanh u) / 2` is `σ(2u)`, which keeps its precision where it is small.
#[inline(always)]
fn gelu_tanh<V: Registers>(gate: &[f32], up: &[f32], y: &mut [f32]) {
    const TWO_SQRT_2_OVER_PI: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;
    for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
        let twice = TWO_SQRT_2_OVER_PI * gate * (0.044_715 * gate).mul_add(*gate, 1.0);
        *y = gate / (1.0 + exp(-twice)) * up;
    }
}

/// `x = x · Φ(x)` for each number of `[tokens, width]`, where `Φ` is the distribution function of the normal distribution
/// (Hendrycks and Gimpel, <https://arxiv.org/abs/1606.08415>).
pub(crate) fn gelu(x: &Tensor) -> Result<()> {
    x.inplace_op1(&Gelu { isa: Isa::detect() })
}

struct Gelu {
    isa: Isa,
}

impl InplaceOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (tokens, width) = layout.shape().dims2()?;
        let x = Shared::new(f32_slice_mut(x, layout)?);
        for_each(tokens, width, |token| {
            // SAFETY: each call changes its own row.
            gelu_row(self.isa, unsafe { x.part(token * width, width) });
        });
        Ok(())
    }
}

per_isa! { fn gelu_row(x: &mut [f32]) = gelu_exact }

/// `Φ(x) = 1 - erfc(x / √2) / 2`, and the same of `-x` on the other side; `erfc` to 1.5e-7 by formula 7.1.26 of Abramowitz
/// and Stegun, Handbook of Mathematical Functions, 1964.
#[inline(always)]
fn gelu_exact<V: Registers>(x: &mut [f32]) {
    const COEFFICIENTS: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    for x in x {
        let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
        let t = 1.0 / 0.327_591_1f32.mul_add(z, 1.0);
        let polynomial = COEFFICIENTS.iter().fold(0f32, |sum, coefficient| sum.mul_add(t, *coefficient)) * t;
        let erfc = polynomial * exp(-z * z);
        *x = x.max(0.0) - 0.5 * x.abs() * erfc;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Of twice the normal distribution's tail, by its series near 0 and its continued fraction far from it.
    fn erfc(z: f64) -> f64 {
        if z < 3.0 {
            let terms = (0..200).scan(z, |term, n| {
                let this = *term / f64::from(2 * n + 1);
                *term *= -z * z / f64::from(n + 1);
                Some(this)
            });
            return 1.0 - std::f64::consts::FRAC_2_SQRT_PI * terms.sum::<f64>();
        }
        let fraction = (1..=100).rev().fold(z, |fraction, k| z + f64::from(k) / 2.0 / fraction);
        (-z * z).exp() / fraction / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn gelu_is_close_to_the_definition_and_has_the_same_bits_everywhere() {
        let x: Vec<f32> = (-3000..3000).map(|i| i as f32 * 0.004).collect();
        let tensor = Tensor::from_slice(&x, (3, 2000), &Device::Cpu).unwrap();
        gelu(&tensor).unwrap();
        let found = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (x, found) in x.iter().zip(&found) {
            let wide = f64::from(*x);
            let tail = wide.abs() / 2.0 * erfc(wide.abs() / std::f64::consts::SQRT_2);
            let exact = wide.max(0.0) - tail;
            let error = (f64::from(*found) - exact).abs();
            assert!(error <= 2e-7 * wide.abs(), "{x}: {found} for {exact}");
        }
        for isa in Isa::available() {
            let mut y = x.clone();
            gelu_row(isa, &mut y);
            assert_eq!(y, found, "{isa:?}");
        }
    }

    #[test]
    fn it_is_close_to_the_definition() {
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let gelu = |x: f64| {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            x / (1.0 + (-2.0 * u).exp())
        };
        let gates: Vec<f32> = (-200..200).map(|i| i as f32 * 0.25).collect();
        let row: Vec<f32> = gates.iter().copied().chain(gates.iter().map(|_| 1.5)).collect();
        let x = Tensor::from_slice(&row, (1, row.len()), &Device::Cpu).unwrap();
        let cases: [(_, &dyn Fn(f64) -> f64); 2] = [(Activation::Silu, &silu), (Activation::GeluTanh, &gelu)];
        for (activation, definition) in cases {
            let y = Tensor::zeros((1, gates.len()), candle_core::DType::F32, &Device::Cpu).unwrap();
            gated(&x, activation, y.clone(), None).unwrap();
            assert!(gated(&y, activation, x.clone(), None).is_err());
            let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (gate, y) in gates.iter().zip(y) {
                let exact = definition(f64::from(*gate)) * 1.5;
                let error = (f64::from(y) - exact).abs();
                assert!(error <= 5e-6 * exact.abs() + 1e-30, "{activation:?} {gate}: {y} for {exact}");
            }
        }
    }

    #[test]
    fn instruction_sets_give_the_same_bits() {
        let gate: Vec<f32> = (-300..300).map(|i| i as f32 * 0.043).collect();
        let up = vec![0.7f32; gate.len()];
        for row in [silu_row, gelu_tanh_row] {
            let of = |isa| {
                let mut y = vec![0f32; gate.len()];
                row(isa, &gate, &up, &mut y);
                y
            };
            let expected = of(Isa::Baseline);
            assert!(Isa::available().into_iter().all(|isa| of(isa) == expected));
        }
    }
}
