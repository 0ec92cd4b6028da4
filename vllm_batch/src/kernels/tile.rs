//! The multiplication at the bottom of everything: a few rows times a few panels.
//!
//! A panel is `[Lane]`: for each `k`, the values of [`LANES`](super::LANES) neighbouring columns. Each result is the chain
//! `((init + a₀·b₀) + a₁·b₁) + …` of fused multiply-adds, whatever the shape of the tile that computes it.

use super::Lane;

/// `out[r * panels.len() + p] += rows[r] · panels[p]` for all rows and panels. Each row has as many numbers as each panel
/// has lanes.
#[inline(always)]
pub(super) fn multiply<const WIDE: bool>(rows: &[&[f32]], panels: &[&[Lane]], out: &mut [Lane]) {
    let mut first = 0;
    while first < rows.len() {
        let (rows, out) = (&rows[first..], &mut out[first * panels.len()..]);
        first += match rows.len() {
            16.. if WIDE => row_of_tiles::<16, 1>(rows, panels, out),
            8.. if WIDE => row_of_tiles::<8, 1>(rows, panels, out),
            2.. if WIDE => row_of_tiles::<2, 4>(rows, panels, out),
            4.. => row_of_tiles::<4, 1>(rows, panels, out),
            2.. => row_of_tiles::<2, 2>(rows, panels, out),
            _ => row_of_tiles::<1, 4>(rows, panels, out),
        };
    }
}

/// The first `R` rows times all panels, `P` panels at a time. Returns `R`.
#[inline(always)]
fn row_of_tiles<const R: usize, const P: usize>(rows: &[&[f32]], panels: &[&[Lane]], out: &mut [Lane]) -> usize {
    let stride = panels.len();
    let rows: [&[f32]; R] = std::array::from_fn(|r| rows[r]);
    let mut first = 0;
    while first + P <= stride {
        tile::<R, P>(rows, std::array::from_fn(|p| panels[first + p]), &mut out[first..], stride);
        first += P;
    }
    while first < stride {
        tile::<R, 1>(rows, [panels[first]], &mut out[first..], stride);
        first += 1;
    }
    R
}

/// The accumulators of `R` rows and `P` panels stay in registers over the whole of `k`. The shapes that
/// [`multiply`] uses are those that the compiler turns into register tiles.
#[inline(always)]
fn tile<const R: usize, const P: usize>(rows: [&[f32]; R], panels: [&[Lane]; P], out: &mut [Lane], stride: usize) {
    let depth = panels[0].len();
    let rows: [&[f32]; R] = std::array::from_fn(|r| &rows[r][..depth]);
    let panels: [&[Lane]; P] = std::array::from_fn(|p| &panels[p][..depth]);
    let mut sums: [[Lane; P]; R] = std::array::from_fn(|r| std::array::from_fn(|p| out[r * stride + p]));
    for k in 0..depth {
        for p in 0..P {
            let weights = &panels[p][k];
            for r in 0..R {
                let factor = rows[r][k];
                for (sum, weight) in sums[r][p].iter_mut().zip(weights) {
                    *sum = factor.mul_add(*weight, *sum);
                }
            }
        }
    }
    for r in 0..R {
        for p in 0..P {
            out[r * stride + p] = sums[r][p];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::LANES;
    use crate::kernels::isa::{Isa, per_isa};

    per_isa! { fn multiply_on(rows: &[&[f32]], panels: &[&[Lane]], out: &mut [Lane]) = multiply }

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / 8_388_608.0 - 1.0) * 3.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// The same chain, one number at a time.
    fn reference(rows: &[&[f32]], panels: &[&[Lane]], out: &mut [Lane]) {
        for (r, row) in rows.iter().enumerate() {
            for (p, panel) in panels.iter().enumerate() {
                for (k, factor) in row.iter().enumerate() {
                    for l in 0..LANES {
                        let sum = &mut out[r * panels.len() + p][l];
                        *sum = factor.mul_add(panel[k][l], *sum);
                    }
                }
            }
        }
    }

    #[test]
    fn every_shape_gives_the_bits_of_the_plain_loop_on_every_instruction_set() {
        for (num_rows, num_panels, depth) in
            [(1, 1, 1), (1, 4, 7), (2, 3, 5), (3, 4, 64), (5, 2, 33), (8, 1, 16), (13, 5, 9), (31, 4, 21), (40, 3, 2)]
        {
            let values = numbers(num_rows * depth, 1);
            let rows: Vec<&[f32]> = values.chunks(depth).collect();
            let weights = numbers(num_panels * depth * LANES, 2);
            let lanes: Vec<Lane> = weights.as_chunks().0.to_vec();
            let panels: Vec<&[Lane]> = lanes.chunks(depth).collect();
            let start: Vec<Lane> = numbers(num_rows * num_panels * LANES, 3).as_chunks().0.to_vec();
            let mut expected = start.clone();
            reference(&rows, &panels, &mut expected);
            for isa in Isa::available() {
                let mut actual = start.clone();
                multiply_on(isa, &rows, &panels, &mut actual);
                assert_eq!(actual, expected, "{isa:?} {num_rows}x{num_panels}x{depth}");
            }
        }
    }
}
