//! The gate of the feed-forward layer.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::exp::exp;
use super::isa::{Isa, per_isa};
use super::parallel::{Shared, for_each};
use super::registers::Registers;
use super::storage::f32_slice;

/// `silu(gate) · up`: `x` is `[tokens, 2 · width]`, gates first; the result is `[tokens, width]`
/// (Shazeer, <https://arxiv.org/abs/2002.05202>).
pub(crate) fn swiglu(x: &Tensor) -> Result<Tensor> {
    x.apply_op1_no_bwd(&SwiGlu { isa: Isa::detect() })
}

struct SwiGlu {
    isa: Isa,
}

impl CustomOp1 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = f32_slice(storage, layout)?;
        let (tokens, both) = layout.shape().dims2()?;
        let width = both / 2;
        let mut y = vec![0f32; tokens * width];
        let out = Shared::new(&mut y);
        for_each(tokens, both, |token| {
            let (gate, up) = x[token * both..(token + 1) * both].split_at(width);
            // SAFETY: each call writes its own row.
            swiglu_row(self.isa, gate, up, unsafe { out.part(token * width, width) });
        });
        Ok((CpuStorage::F32(y), (tokens, width).into()))
    }
}

per_isa! { fn swiglu_row(gate: &[f32], up: &[f32], y: &mut [f32]) = gated }

#[inline(always)]
fn gated<V: Registers>(gate: &[f32], up: &[f32], y: &mut [f32]) {
    for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
        *y = gate / (1.0 + exp(-gate)) * up;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn it_is_close_to_the_definition() {
        let gates: Vec<f32> = (-200..200).map(|i| i as f32 * 0.5).collect();
        let row: Vec<f32> = gates.iter().copied().chain(gates.iter().map(|_| 1.5)).collect();
        let x = Tensor::from_slice(&row, (1, row.len()), &Device::Cpu).unwrap();
        let y = swiglu(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (gate, y) in gates.iter().zip(y) {
            let exact = f64::from(*gate) / (1.0 + (-f64::from(*gate)).exp()) * 1.5;
            assert!((f64::from(y) - exact).abs() <= 1e-6 * exact.abs() + 1e-30, "{gate}: {y} for {exact}");
        }
    }
}
