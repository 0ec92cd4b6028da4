//! Adding a product to some rows of another one.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, bail};

use super::parallel::{Shared, for_each};
use super::storage::{f32_slice, f32_slice_mut};

/// `y[row, column..] += scale · x[i]` for each row `rows[i]`, all different, of `y`, which is `[tokens, width]`; `x` is
/// `[rows.len(), part]`, with `column + part <= width`.
pub(crate) struct AddRows<'a> {
    /// The rows of `y`, one for each of `x`, in ascending order.
    pub(crate) rows: &'a [u32],
    /// Where the part begins.
    pub(crate) column: usize,
    /// Factor of what is added.
    pub(crate) scale: f32,
}

impl InplaceOp2 for AddRows<'_> {
    fn name(&self) -> &'static str {
        "add_rows"
    }

    fn cpu_fwd(&self, y: &mut CpuStorage, yl: &Layout, x: &CpuStorage, xl: &Layout) -> Result<()> {
        let ((tokens, width), (count, part)) = (yl.shape().dims2()?, xl.shape().dims2()?);
        let in_order =
            self.rows.is_sorted_by(|a, b| a < b) && self.rows.last().is_none_or(|row| (*row as usize) < tokens);
        if !in_order || count != self.rows.len() || self.column + part > width {
            bail!(
                "add_rows: {count} x {part} numbers to {:?} from {} on of {tokens} x {width}",
                self.rows,
                self.column
            );
        }
        let x = f32_slice(x, xl)?;
        let y = Shared::new(f32_slice_mut(y, yl)?);
        for_each(count, part, |i| {
            let start = self.rows[i] as usize * width + self.column;
            // SAFETY: each call changes its own row: they ascend.
            let y = unsafe { y.part(start, part) };
            for (y, x) in y.iter_mut().zip(&x[i * part..]) {
                *y = self.scale.mul_add(*x, *y);
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    #[test]
    fn a_part_of_some_rows_grows() {
        let y = || Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap().reshape((4, 3)).unwrap();
        let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let sum = y();
        sum.inplace_op2(&x, &AddRows { rows: &[0, 3], column: 1, scale: 10.0 }).unwrap();
        let expected = [[0.0, 11.0, 22.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0], [9.0, 40.0, 51.0]];
        assert_eq!(sum.to_vec2::<f32>().unwrap(), expected);
        for (rows, column) in [(&[0, 3][..], 2), (&[0, 4], 0), (&[1], 0), (&[1, 1], 0), (&[2, 1], 0)] {
            assert!(y().inplace_op2(&x, &AddRows { rows, column, scale: 1.0 }).is_err(), "{rows:?} {column}");
        }
    }
}
