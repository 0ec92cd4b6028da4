//! Looking up token embeddings in a packed matrix, which also serves as the head of a model with tied embeddings.

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, bail};

use super::LANES;
use super::packed::{PackedMatrix, Part};

/// The rows of `weights` for each token: shape `[tokens, depth]`, f32.
pub(crate) fn embed(token_ids: &[u32], weights: &PackedMatrix) -> Result<Tensor> {
    Tensor::new(token_ids, &Device::Cpu)?.apply_op1_no_bwd(&Embed { weights })
}

struct Embed<'a> {
    weights: &'a PackedMatrix,
}

impl CustomOp1 for Embed<'_> {
    fn name(&self) -> &'static str {
        "embed"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("token ids must be contiguous") };
        let (token_ids, depth) = (&storage.as_slice::<u32>()?[start..end], self.weights.depth());
        let mut rows = vec![0f32; token_ids.len() * depth];
        for (token, row) in token_ids.iter().zip(rows.chunks_exact_mut(depth.max(1))) {
            self.read_row(*token as usize, row)?;
        }
        Ok((CpuStorage::F32(rows), (token_ids.len(), depth).into()))
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

    #[test]
    fn a_lookup_gives_the_row_that_was_packed() {
        let (rows, depth) = (70, 5);
        let weights: Vec<f32> = (0..rows * depth).map(|i| i as f32).collect();
        let packed = PackedMatrix::pack(&weights, (rows, depth), WeightDtype::F32).unwrap();
        let found = embed(&[69, 0, 16, 15], &packed).unwrap().to_vec2::<f32>().unwrap();
        let expected: Vec<Vec<f32>> =
            [69, 0, 16, 15].iter().map(|row| weights[row * depth..(row + 1) * depth].to_vec()).collect();
        assert_eq!(found, expected);
        assert!(embed(&[70], &packed).is_err());
    }

    #[test]
    fn rows_of_quantised_parts_are_widened_when_they_are_looked_up() {
        let depth = 32;
        // Multiples of a half up to 127 halves, which 8 bits hold exactly.
        let half = |i: usize| if i.is_multiple_of(depth) { 63.5 } else { (i % 255) as f32 / 2.0 - 63.5 };
        let weights: Vec<f32> = (0..70 * depth).map(half).collect();
        let pack = |dtype| PackedMatrix::pack(&weights, (70, depth), dtype).unwrap();
        let packed = PackedMatrix::stack(vec![pack(WeightDtype::Q8_0), pack(WeightDtype::F32)]).unwrap();
        let found = embed(&[69, 70, 0, 139], &packed).unwrap().to_vec2::<f32>().unwrap();
        let row = |row: usize| weights[row * depth..(row + 1) * depth].to_vec();
        assert_eq!(found, [row(69), row(0), row(0), row(69)]);
        assert!(embed(&[140], &packed).is_err());
    }
}
