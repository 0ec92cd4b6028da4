//! The hyperbolic tangent, the same bits on every instruction set, and what is capped with it.

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor};

use super::exp::exp;
use super::isa::{Isa, per_isa};
use super::parallel::{Shared, for_each};
use super::registers::Registers;
use super::storage::f32_slice_mut;

/// `tanh(x)`, off by at most 3·10⁻⁷ of it; exactly 0 at 0, exactly ±1 far out.
///
/// Near 0 an odd polynomial, fitted at Chebyshev nodes (relative error 4·10⁻⁹); else `1 - 2 / (e^2|x| + 1)`.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    const SMALL: f32 = 0.55;
    let square = x * x;
    let mut sum = -6.615_746_6e-3;
    for coefficient in [0.021_312_74, -0.053_910_065, 0.133_331_18, -0.333_333_3] {
        sum = square.mul_add(sum, coefficient);
    }
    let near = (x * square).mul_add(sum, x);
    let far = (1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0)).copysign(x);
    // Not a number compares as false both ways; `near` keeps it.
    if x.abs() > SMALL { far } else { near }
}

/// `x = cap * tanh(x / cap)` for each number of `[rows, width]`.
pub(crate) fn soft_cap(x: &Tensor, cap: f32) -> Result<()> {
    x.inplace_op1(&SoftCap { cap, isa: Isa::detect() })
}

struct SoftCap {
    cap: f32,
    isa: Isa,
}

impl InplaceOp1 for SoftCap {
    fn name(&self) -> &'static str {
        "soft_cap"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (rows, width) = layout.shape().dims2()?;
        let out = Shared::new(f32_slice_mut(x, layout)?);
        for_each(rows, width, |row| {
            // SAFETY: each call changes its own row.
            cap_row(self.isa, self.cap, unsafe { out.part(row * width, width) });
        });
        Ok(())
    }
}

per_isa! { fn cap_row(cap: f32, x: &mut [f32]) = cap_all }

#[inline(always)]
fn cap_all<V: Registers>(cap: f32, x: &mut [f32]) {
    for x in x {
        *x = cap * tanh(*x / cap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn it_is_close_to_the_exact_value() {
        for step in -200_000..=200_000 {
            let x = step as f32 * 1e-4;
            let exact = f64::from(x).tanh();
            let error = (f64::from(tanh(x)) - exact).abs();
            assert!(error <= 3e-7 * exact.abs(), "tanh({x}) is off by {error}");
        }
    }

    #[test]
    fn the_ends_are_exact() {
        let cases = [(0.0, 0.0), (20.0, 1.0), (-20.0, -1.0), (f32::INFINITY, 1.0), (f32::NEG_INFINITY, -1.0)];
        for (x, expected) in cases {
            assert_eq!(tanh(x), expected, "tanh({x})");
        }
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn capped_numbers_stay_in_order_below_the_cap_with_the_same_bits_everywhere() {
        let x: Vec<f32> = (-500..500).map(|i| i as f32 * 0.37).collect();
        let tensor = Tensor::from_slice(&x, (10, 100), &Device::Cpu).unwrap();
        soft_cap(&tensor, 30.0).unwrap();
        let capped = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(capped.is_sorted() && capped.iter().all(|y| y.abs() <= 30.0));
        assert!(x.iter().zip(&capped).all(|(x, y)| y.abs() <= x.abs()));
        for isa in Isa::available() {
            let mut y = x.clone();
            cap_row(isa, 30.0, &mut y);
            assert_eq!(y, capped, "{isa:?}");
        }
    }
}
