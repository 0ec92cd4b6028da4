//! The multiplication at the bottom of everything: a few rows times a few panels.
//!
//! A panel holds, for each `k`, the values of [`LANES`] neighbouring columns: f32, or f16 that are widened as they are
//! read. Each result is the chain `((init + a₀·b₀) + a₁·b₁) + …` of fused multiply-adds, whatever the shape of the tile
//! that computes it.

use super::registers::{Registers, Stored};
use super::{LANES, Lane};

/// Rows of numbers at equal distances: one address and one stride, however many rows a tile takes at once.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// The first row starts at the first number.
    pub(super) numbers: &'a [f32],
    /// Numbers from one row's start to the next one's.
    pub(super) stride: usize,
    /// Number of rows.
    pub(super) count: usize,
}

/// `out[r * panels.len() + p] += rows[r] · panels[p]` for all rows and panels. Each row has as many numbers as each panel
/// has lanes; all panels have the same number.
///
/// # Panics
/// If the rows, the panels or the results are shorter than that.
#[inline(always)]
pub(super) fn multiply<V: Registers>(rows: Rows<'_>, panels: &[&[[impl Stored; LANES]]], out: &mut [Lane]) {
    let Some(depth) = panels.first().map(|panel| panel.len()) else { return };
    assert!(panels.iter().all(|panel| panel.len() == depth), "panels of equal length");
    assert!(rows.count == 0 || rows.numbers.len() >= (rows.count - 1) * rows.stride + depth, "rows as long as panels");
    assert!(out.len() >= rows.count * panels.len(), "room for the results");
    let mut first = 0;
    while first < rows.count {
        let row = Strided { start: rows.numbers[first * rows.stride..].as_ptr(), stride: rows.stride };
        let result = out[first * panels.len()..].as_mut_ptr();
        // SAFETY: as asserted above, for as many rows as the match takes.
        first += unsafe {
            match rows.count - first {
                // No row is left alone: it would wait for each of its own sums.
                5 if V::WIDE => row_of_tiles::<V, 3, 4>(row, panels, result),
                7 if V::WIDE => row_of_tiles::<V, 4, 4>(row, panels, result),
                6.. if V::WIDE => row_of_tiles::<V, 6, 4>(row, panels, result),
                4.. if V::WIDE => row_of_tiles::<V, 4, 4>(row, panels, result),
                3.. if V::WIDE => row_of_tiles::<V, 3, 4>(row, panels, result),
                2.. if V::WIDE => row_of_tiles::<V, 2, 4>(row, panels, result),
                6.. => row_of_tiles::<V, 6, 1>(row, panels, result),
                2.. => row_of_tiles::<V, 2, 2>(row, panels, result),
                _ => row_of_tiles::<V, 1, 4>(row, panels, result),
            }
        };
    }
}

/// Where the rows of a tile start.
#[derive(Clone, Copy)]
struct Strided {
    start: *const f32,
    stride: usize,
}

/// `R` rows times all panels, `P` panels at a time. Returns `R`.
///
/// # Safety
/// There must be `R` rows as long as the panels, all panels must be equally long, and `out` must have room for `R` times
/// their number.
#[inline(always)]
unsafe fn row_of_tiles<V: Registers, const R: usize, const P: usize>(
    rows: Strided,
    panels: &[&[[impl Stored; LANES]]],
    out: *mut Lane,
) -> usize {
    let mut first = 0;
    while first < panels.len() {
        // SAFETY: the panels from `first` on are within both `panels` and a row of `out`.
        unsafe {
            if first + P <= panels.len() {
                let some: [&[_]; P] = std::array::from_fn(|p| panels[first + p]);
                tile::<V, R, P>(rows, some, out.add(first), panels.len());
                first += P;
            } else {
                tile::<V, R, 1>(rows, [panels[first]], out.add(first), panels.len());
                first += 1;
            }
        }
    }
    R
}

/// The sums of `R` rows and `P` panels stay in registers over the whole depth.
///
/// # Safety
/// As [`row_of_tiles`]; `stride` is the distance of the results of neighbouring rows.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // `r` and `p` index registers and memory alike.
unsafe fn tile<V: Registers, const R: usize, const P: usize>(
    rows: Strided,
    panels: [&[[impl Stored; LANES]]; P],
    out: *mut Lane,
    stride: usize,
) {
    // SAFETY: all places are within the rows, the panels and the results, as the caller promises.
    unsafe {
        let mut sums = [[V::splat(0.0); P]; R];
        for r in 0..R {
            for p in 0..P {
                sums[r][p] = V::load(out.add(r * stride + p));
            }
        }
        for k in 0..panels[0].len() {
            if R == 1 {
                // Each weight is needed once, and takes no register from the sums.
                let factor = V::splat(*rows.start.add(k));
                for p in 0..P {
                    sums[0][p] = factor.mul_add(Stored::load(panels[p].as_ptr().add(k)), sums[0][p]);
                }
                continue;
            }
            let mut weights = [V::splat(0.0); P];
            for p in 0..P {
                weights[p] = Stored::load(panels[p].as_ptr().add(k));
            }
            for r in 0..R {
                let factor = V::splat(*rows.start.add(r * rows.stride + k));
                for p in 0..P {
                    sums[r][p] = factor.mul_add(weights[p], sums[r][p]);
                }
            }
        }
        for r in 0..R {
            for p in 0..P {
                sums[r][p].store(out.add(r * stride + p));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::LANES;
    use crate::kernels::isa::{Isa, per_isa};

    per_isa! { fn multiply_on(rows: Rows<'_>, panels: &[&[Lane]], out: &mut [Lane]) = multiply }

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
                multiply_on(isa, Rows { numbers: &values, stride: depth, count: num_rows }, &panels, &mut actual);
                assert_eq!(actual, expected, "{isa:?} {num_rows}x{num_panels}x{depth}");
            }
        }
    }
}
