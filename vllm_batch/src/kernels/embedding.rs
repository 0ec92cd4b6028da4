//! Looking up token embeddings in a packed matrix, which also serves as the head of a model with tied embeddings.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::LANES;
use super::packed::{PackedMatrix, Weights};

/// The rows of `weights` for each token: shape `[tokens, depth]`, f32.
pub(crate) fn embed(token_ids: &[u32], weights: &PackedMatrix) -> Result<Tensor> {
    weights.panels.apply_op1_no_bwd(&Embed { token_ids, weights })
}

struct Embed<'a> {
    token_ids: &'a [u32],
    weights: &'a PackedMatrix,
}

impl CustomOp1 for Embed<'_> {
    fn name(&self) -> &'static str {
        "embed"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (weights, depth) = (Weights::of(storage, layout)?, self.weights.depth());
        let mut rows = Vec::with_capacity(self.token_ids.len() * depth);
        for token in self.token_ids.iter().map(|token| *token as usize) {
            if token >= self.weights.rows() {
                bail!("embed: token {token} of {}", self.weights.rows());
            }
            let first = (token / LANES) * depth * LANES + token % LANES;
            rows.extend((0..depth).map(|k| weights.get(first + k * LANES)));
        }
        Ok((CpuStorage::F32(rows), (self.token_ids.len(), depth).into()))
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
}
