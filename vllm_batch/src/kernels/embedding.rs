//! Looking up token embeddings in a packed matrix, which also serves as the head of a model with tied embeddings.

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, bail};

use super::LANES;
use super::packed::{PackedMatrix, Part};
use super::storage::f32_slice_mut;

/// `y`, of shape `[tokens, depth]`, becomes the row of `weights` for each token.
pub(crate) fn embed(token_ids: &[u32], weights: &PackedMatrix, y: &Tensor) -> Result<()> {
    y.inplace_op1(&Embed { token_ids, weights })
}

struct Embed<'a> {
    token_ids: &'a [u32],
    weights: &'a PackedMatrix,
}

impl InplaceOp1 for Embed<'_> {
    fn name(&self) -> &'static str {
        "embed"
    }

    fn cpu_fwd(&self, y: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (tokens, depth) = (self.token_ids.len(), self.weights.depth());
        if layout.shape().dims2()? != (tokens, depth) {
            bail!("embed: {tokens} rows of {depth} numbers do not become {:?}", layout.shape());
        }
        let rows = f32_slice_mut(y, layout)?.chunks_exact_mut(depth.max(1));
        self.token_ids.iter().zip(rows).try_for_each(|(token, row)| self.read_row(*token as usize, row))
    }
}

impl Embed<'_> {
    fn read_row(&self, token: usize, row: &mut [f32]) -> Result<()> {
        let mut index = token;
        for part in &self.weights.parts {
            if index < part.rows() {
                match part {
                    Part::Quantized(weights) => weights.read_row(index, row),
                    Part::Dense(dense) => dense.with(|weights| {
                        let first = (index / LANES) * row.len() * LANES + index % LANES;
                        (0..).step_by(LANES).zip(row).for_each(|(k, x)| *x = weights.get(first + k));
                    })?,
                }
                return Ok(());
            }
            index -= part.rows();
        }
        bail!("embed: token {token} of {}", self.weights.rows())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::WeightDtype;
    use candle_core::{DType, Device};

    fn rows(token_ids: &[u32], weights: &PackedMatrix) -> Result<Vec<Vec<f32>>> {
        let y = Tensor::zeros((token_ids.len(), weights.depth()), DType::F32, &Device::Cpu)?;
        embed(token_ids, weights, &y)?;
        assert!(embed(&token_ids[1..], weights, &y).is_err());
        y.to_vec2()
    }

    #[test]
    fn a_lookup_gives_the_row_that_was_packed() {
        let depth = 5;
        let weights: Vec<f32> = (0..70 * depth).map(|i| i as f32).collect();
        let packed = PackedMatrix::pack(&weights, (70, depth), WeightDtype::F32).unwrap();
        let found = rows(&[69, 0, 16, 15], &packed).unwrap();
        let expected: Vec<Vec<f32>> =
            [69, 0, 16, 15].iter().map(|row| weights[row * depth..(row + 1) * depth].to_vec()).collect();
        assert_eq!(found, expected);
        assert!(rows(&[70], &packed).is_err());
    }

    #[test]
    fn rows_of_quantised_parts_are_widened_when_they_are_looked_up() {
        let depth = 32;
        // Multiples of a half up to 127 halves, which 8 bits hold exactly.
        let half = |i: usize| if i.is_multiple_of(depth) { 63.5 } else { (i % 255) as f32 / 2.0 - 63.5 };
        let weights: Vec<f32> = (0..70 * depth).map(half).collect();
        let pack = |dtype| PackedMatrix::pack(&weights, (70, depth), dtype).unwrap();
        let packed = PackedMatrix::stack(vec![pack(WeightDtype::Q8_0), pack(WeightDtype::F32)]).unwrap();
        let found = rows(&[69, 70, 0, 139], &packed).unwrap();
        let row = |row: usize| weights[row * depth..(row + 1) * depth].to_vec();
        assert_eq!(found, [row(69), row(0), row(0), row(69)]);
        assert!(rows(&[140], &packed).is_err());
    }
}
