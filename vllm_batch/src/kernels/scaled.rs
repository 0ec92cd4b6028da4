//! Factors on the residual stream and on logits, which few models have.

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Result, Tensor, bail};

use super::storage::{f32_slice, f32_slice_mut};

/// `x = x · factor`.
pub(crate) fn scale(x: &Tensor, factor: f32) -> Result<()> {
    if factor == 1.0 { Ok(()) } else { x.inplace_op1(&Scale { factor }) }
}

/// `x = x + delta · factor`, both of the same shape.
pub(crate) fn add_scaled(x: &Tensor, delta: &Tensor, factor: f32) -> Result<()> {
    x.inplace_op2(delta, &AddScaled { factor })
}

struct Scale {
    factor: f32,
}

impl InplaceOp1 for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        f32_slice_mut(x, layout)?.iter_mut().for_each(|x| *x *= self.factor);
        Ok(())
    }
}

struct AddScaled {
    factor: f32,
}

impl InplaceOp2 for AddScaled {
    fn name(&self) -> &'static str {
        "add_scaled"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, xl: &Layout, delta: &CpuStorage, dl: &Layout) -> Result<()> {
        if xl.shape() != dl.shape() {
            bail!("add_scaled: {:?} and {:?}", xl.shape(), dl.shape());
        }
        let (x, delta) = (f32_slice_mut(x, xl)?, f32_slice(delta, dl)?);
        x.iter_mut().zip(delta).for_each(|(x, delta)| *x += delta * self.factor);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn factors_apply_where_the_numbers_are() {
        let tensor = |numbers: &[f32]| Tensor::new(numbers, &Device::Cpu).unwrap();
        let x = tensor(&[1.0, -2.0, 4.0]);
        scale(&x, 0.5).unwrap();
        add_scaled(&x, &tensor(&[10.0, 20.0, 30.0]), 0.25).unwrap();
        assert_eq!(x.to_vec1::<f32>().unwrap(), [3.0, 4.0, 9.5]);
        assert!(add_scaled(&x, &tensor(&[1.0]), 1.0).is_err());
    }
}
