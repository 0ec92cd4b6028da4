//! The multiplication itself: a few quantised rows times a group of panels.
//!
//! Each result is one chain over the groups of its column: `sum = fma(float(Σ q·a), s·d, sum)`, and, in formats with
//! offsets, `sum = fma(m, s·Σa, sum)` after it, whatever the shape of the tile that computes it.

use half::f16;

use super::activations::{BLOCK, Block, Chunk};
use super::dot::{Dot, per_dot};
use super::format::{Layout, QuantFormat};
use super::matrix::{CacheLine, QuantMatrix, Scale};
use crate::kernels::LANES;
use crate::kernels::isa::Isa;
use crate::kernels::packed::{GROUP_WIDTH, PANELS_PER_GROUP};
use crate::kernels::parallel::Strided;
use crate::kernels::registers::{Registers, Stored};

/// Adds the products of the rows of `x` and a group of panels of `weights` to `out`, which has 64 columns for each row.
///
/// # Panics
/// If the rows are not as deep as the weights, or there is no such group or no room for the results.
pub(in crate::kernels) fn multiply_group(
    isa: Isa,
    x: Chunk<'_>,
    (weights, group): (&QuantMatrix, usize),
    out: Strided<'_>,
) {
    let product = Product { x, weights, group };
    match weights.format {
        QuantFormat::Q4_0 => multiply::<Q4_0>(isa, &product, out),
        QuantFormat::Q4_1 => multiply::<Q4_1>(isa, &product, out),
        QuantFormat::Q5_0 => multiply::<Q5_0>(isa, &product, out),
        QuantFormat::Q5_1 => multiply::<Q5_1>(isa, &product, out),
        QuantFormat::Q8_0 => multiply::<Q8_0>(isa, &product, out),
        QuantFormat::Q2_K => multiply::<Q2_K>(isa, &product, out),
        QuantFormat::Q3_K => multiply::<Q3_K>(isa, &product, out),
        QuantFormat::Q4_K => multiply::<Q4_K>(isa, &product, out),
        QuantFormat::Q5_K => multiply::<Q5_K>(isa, &product, out),
        QuantFormat::Q6_K => multiply::<Q6_K>(isa, &product, out),
    }
}

/// A format as a type, so that a kernel is compiled for each.
trait Form {
    type Scale: Scale;
    const LAYOUT: Layout;
}

macro_rules! forms {
    ($($name:ident: $scale:ty),*) => {
        $(
            #[allow(non_camel_case_types)] // The field's names.
            enum $name {}

            impl Form for $name {
                type Scale = $scale;
                const LAYOUT: Layout = QuantFormat::$name.layout();
            }
        )*
    };
}
forms! {
    Q4_0: f16, Q4_1: f16, Q5_0: f16, Q5_1: f16, Q8_0: f16, Q2_K: f32, Q3_K: f32, Q4_K: f32, Q5_K: f32, Q6_K: f32
}

/// What is multiplied.
struct Product<'a> {
    x: Chunk<'a>,
    weights: &'a QuantMatrix,
    group: usize,
}

per_dot! { fn multiply<Form>(product: &Product<'_>, out: Strided<'_>) = multiply_rows }

#[inline(always)]
fn multiply_rows<D: Dot, F: Form>(product: &Product<'_>, out: Strided<'_>) {
    let (blocks, count) = (product.x.per_row, product.x.rows);
    let per_group = blocks * PANELS_PER_GROUP;
    let part = |per_panel: usize| product.group * per_group * per_panel..(product.group + 1) * per_group * per_panel;
    let codes = &product.weights.codes[part(F::LAYOUT.lines())];
    let scales = &F::Scale::all(&product.weights.scales)[part(F::LAYOUT.groups() * F::LAYOUT.scales())];
    assert!(product.x.blocks.len() == blocks * count, "whole rows");
    assert!(product.weights.depth() == blocks * BLOCK, "rows as deep as the weights");
    let (start, stride) = out.start(count, GROUP_WIDTH);
    let out = Out { start, stride };
    let weights = Panels::<F> { codes: codes.as_ptr(), scales: scales.as_ptr() };
    let x = Rows { start: product.x.blocks.as_ptr(), stride: count, count };
    // SAFETY: the chunk and the group are as long as asserted above.
    unsafe { multiply_panels::<D, F>(x, weights, blocks, out) };
}

/// Adds the products of all rows and a group of panels of so many blocks.
///
/// # Safety
/// The rows and the group must have as many blocks, and `out` 64 columns for each row.
#[inline(always)]
unsafe fn multiply_panels<D: Dot, F: Form>(x: Rows, weights: Panels<F>, blocks: usize, out: Out) {
    // SAFETY: as the caller promises; no step takes more rows than are left.
    unsafe {
        let mut done = 0;
        if D::Floats::WIDE {
            done = add_tiles::<D, F, 6, 2>(x, done, weights, blocks, out);
            done = add_tiles::<D, F, 4, 2>(x, done, weights, blocks, out);
            done = add_tiles::<D, F, 2, 4>(x, done, weights, blocks, out);
            add_tiles::<D, F, 1, 4>(x, done, weights, blocks, out);
        } else {
            if D::FOUR_ROWS {
                done = add_tiles::<D, F, 4, 1>(x, done, weights, blocks, out);
            }
            done = add_tiles::<D, F, 2, 1>(x, done, weights, blocks, out);
            add_tiles::<D, F, 1, 2>(x, done, weights, blocks, out);
        }
    }
}

/// Rows of a chunk.
#[derive(Clone, Copy)]
struct Rows {
    /// The first block of the first row; those of the other rows follow.
    start: *const Block,
    /// Blocks from one block of a row to its next one.
    stride: usize,
    /// Number of rows.
    count: usize,
}

/// Results of some rows.
#[derive(Clone, Copy)]
struct Out {
    start: *mut f32,
    /// Numbers from one row's start to the next one's.
    stride: usize,
}

impl Out {
    /// The results from a row and a panel on.
    ///
    /// # Safety
    /// There must be such a place.
    #[inline(always)]
    unsafe fn at(self, row: usize, panel: usize) -> Self {
        // SAFETY: as the caller promises.
        Self { start: unsafe { self.start.add(row * self.stride + panel * LANES) }, ..self }
    }
}

/// Panels of one group, the first of a tile first.
struct Panels<F: Form> {
    codes: *const CacheLine,
    scales: *const [F::Scale; LANES],
}

impl<F: Form> Clone for Panels<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Form> Copy for Panels<F> {}

impl<F: Form> Panels<F> {
    /// As many panels further, which leads from a panel of one block to the same of the next one. There need not be one.
    #[inline(always)]
    fn add(self, panels: usize) -> Self {
        Self {
            codes: self.codes.wrapping_add(panels * F::LAYOUT.lines()),
            scales: self.scales.wrapping_add(panels * F::LAYOUT.groups() * F::LAYOUT.scales()),
        }
    }

    /// The codes of a quad of the block.
    ///
    /// # Safety
    /// There must be such a panel.
    #[inline(always)]
    unsafe fn codes<D: Dot>(self, quad: usize) -> D::Codes {
        // SAFETY: as the caller promises.
        unsafe {
            if F::LAYOUT.is_nibbles() {
                D::nibbles(self.codes.add(quad % F::LAYOUT.lines()), quad >= F::LAYOUT.lines())
            } else {
                D::bytes(self.codes.add(quad), F::LAYOUT.max_code)
            }
        }
    }

    /// The scales (`0`) or offsets (`1`) of a group of the block, in `P` panels.
    ///
    /// # Safety
    /// There must be such panels, with such numbers.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // As in `tile`.
    unsafe fn scales<V: Registers, const P: usize>(self, group: usize, which: usize) -> [V; P] {
        // SAFETY: as the caller promises.
        unsafe {
            let mut scales = [V::splat(0.0); P];
            for p in 0..P {
                scales[p] = Stored::load(self.add(p).scales.add(group * F::LAYOUT.scales() + which));
            }
            scales
        }
    }
}

/// Quads in a block.
const QUADS: usize = BLOCK / 4;

/// Adds the products of a group of panels and all rows from `done` on that are whole tiles of `R` rows; a group must be
/// whole tiles of `P` panels. Returns how many rows are done.
///
/// # Safety
/// As [`multiply_panels`].
#[inline(always)]
unsafe fn add_tiles<D: Dot, F: Form, const R: usize, const P: usize>(
    x: Rows,
    done: usize,
    weights: Panels<F>,
    blocks: usize,
    out: Out,
) -> usize {
    let end = done + (x.count - done) / R * R;
    // The weights of a tile stay near while all rows pass them.
    for panel in (0..PANELS_PER_GROUP).step_by(P) {
        for row in (done..end).step_by(R) {
            // SAFETY: `R` rows from `row` on and `P` panels from `panel` on are there.
            unsafe {
                let rows = Rows { start: x.start.add(row), ..x };
                tile::<D, F, R, P>(rows, weights.add(panel), blocks, out.at(row, panel));
            }
        }
    }
    end
}

/// The sums of `R` rows and `P` panels stay in registers over the whole depth.
///
/// # Safety
/// As [`multiply_panels`], for `R` rows and `P` panels.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // `r` and `p` index registers and memory alike.
unsafe fn tile<D: Dot, F: Form, const R: usize, const P: usize>(
    rows: Rows,
    mut weights: Panels<F>,
    blocks: usize,
    out: Out,
) {
    // SAFETY: all places are within the rows, the panels and the results, as the caller promises.
    unsafe {
        let mut sums = [[D::Floats::splat(0.0); P]; R];
        for r in 0..R {
            for p in 0..P {
                sums[r][p] = D::Floats::load(out.at(r, p).start.cast());
            }
        }
        for block in 0..blocks {
            let x = rows.start.add(block * rows.stride);
            add_group::<D, F, R, P>(x, weights, 0, &mut sums);
            if F::LAYOUT.groups() == 2 {
                add_group::<D, F, R, P>(x, weights, 1, &mut sums);
            }
            weights = weights.add(PANELS_PER_GROUP);
        }
        for r in 0..R {
            for p in 0..P {
                sums[r][p].store(out.at(r, p).start.cast());
            }
        }
    }
}

/// Adds the products of one group.
///
/// # Safety
/// As [`tile`]; `x` and `weights` are at the group's block.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // As in `tile`.
unsafe fn add_group<D: Dot, F: Form, const R: usize, const P: usize>(
    x: *const Block,
    weights: Panels<F>,
    group: usize,
    sums: &mut [[D::Floats; P]; R],
) {
    // SAFETY: as the caller promises.
    unsafe {
        let which = if F::LAYOUT.groups() == 1 { 2 } else { group };
        let mut start = [0; R];
        for r in 0..R {
            start[r] = (*x.add(r)).sums[which] * (D::bias(F::LAYOUT.max_code) - F::LAYOUT.zero.unwrap_or(0));
        }
        let products = group_products::<D, F, R, P>(x, weights, group, start);
        let scales = weights.scales::<D::Floats, P>(group, 0);
        for r in 0..R {
            let scale = D::Floats::splat((*x.add(r)).scale);
            for p in 0..P {
                sums[r][p] = D::end(products[r][p], start[r]).mul_add(scale.mul(scales[p]), sums[r][p]);
            }
        }
        if F::LAYOUT.zero.is_none() {
            let offsets = weights.scales::<D::Floats, P>(group, 1);
            for r in 0..R {
                let sum = D::Floats::splat((*x.add(r)).scaled_sums[which]);
                for p in 0..P {
                    sums[r][p] = offsets[p].mul_add(sum, sums[r][p]);
                }
            }
        }
    }
}

/// The sums of the products of codes and activations in one group, beginning at `start`.
///
/// # Safety
/// As [`add_group`].
#[inline(always)]
#[allow(clippy::needless_range_loop)] // As in `tile`.
unsafe fn group_products<D: Dot, F: Form, const R: usize, const P: usize>(
    x: *const Block,
    weights: Panels<F>,
    group: usize,
    start: [i32; R],
) -> [[D::Sums; P]; R] {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[D::begin(0); P]; R];
        for r in 0..R {
            sums[r] = [D::begin(start[r]); P];
        }
        let quads = QUADS / F::LAYOUT.groups();
        // Written out, so that each has its place and nibble as constants.
        add_quad::<D, F, R, P, 0>(x, weights, group * quads, &mut sums);
        add_quad::<D, F, R, P, 1>(x, weights, group * quads, &mut sums);
        add_quad::<D, F, R, P, 2>(x, weights, group * quads, &mut sums);
        add_quad::<D, F, R, P, 3>(x, weights, group * quads, &mut sums);
        if quads == QUADS {
            add_quad::<D, F, R, P, 4>(x, weights, 0, &mut sums);
            add_quad::<D, F, R, P, 5>(x, weights, 0, &mut sums);
            add_quad::<D, F, R, P, 6>(x, weights, 0, &mut sums);
            add_quad::<D, F, R, P, 7>(x, weights, 0, &mut sums);
        }
        sums
    }
}

/// Adds the products of quad `I` of the group that begins with quad `first`.
///
/// # Safety
/// As [`add_group`].
#[inline(always)]
#[allow(clippy::needless_range_loop)] // As in `tile`.
unsafe fn add_quad<D: Dot, F: Form, const R: usize, const P: usize, const I: usize>(
    x: *const Block,
    weights: Panels<F>,
    first: usize,
    sums: &mut [[D::Sums; P]; R],
) {
    // SAFETY: as the caller promises.
    unsafe {
        let (quad, max_code) = (first + I, F::LAYOUT.max_code);
        let mut codes = [weights.codes::<D>(quad); P];
        for p in 1..P {
            codes[p] = weights.add(p).codes::<D>(quad);
        }
        for r in 0..R {
            let activations = D::quad::<I>((*x.add(r)).codes.as_ptr().add(first * 4).cast());
            for p in 0..P {
                sums[r][p] = D::add::<I>(sums[r][p], codes[p], activations, max_code);
            }
        }
        let is_last = I + 1 == QUADS / F::LAYOUT.groups();
        if !is_last && (I + 1).is_multiple_of(D::quads_between_folds(max_code)) {
            for r in 0..R {
                for p in 0..P {
                    sums[r][p] = D::fold(sums[r][p]);
                }
            }
        }
    }
}

/// Multiplies codes and activations that stay in registers, and returns how many pairs.
#[cfg(feature = "bench")]
pub(in crate::kernels) fn sum_in_registers(isa: Isa, rounds: usize) -> usize {
    let mut out = [[0.0; LANES]; CHAINS];
    sum_on::<Q4_0>(isa, rounds, &mut out);
    std::hint::black_box(out);
    rounds * QUADS * CHAINS * LANES * 4
}

/// Sums that do not wait for each other.
#[cfg(feature = "bench")]
const CHAINS: usize = 12;

#[cfg(feature = "bench")]
per_dot! { fn sum_on<Form>(rounds: usize, out: &mut [[f32; LANES]]) = sum_rounds }

#[cfg(feature = "bench")]
#[inline(always)]
fn sum_rounds<D: Dot, F: Form>(rounds: usize, out: &mut [[f32; LANES]]) {
    let (line, block) = (CacheLine([1; 64]), Block::default());
    // SAFETY: the line and the block are readable, and `out` has a place for each chain.
    unsafe {
        let (codes, quad) = (D::nibbles(&raw const line, false), D::quad::<0>(block.codes.as_ptr().cast()));
        let mut sums = [D::begin(0); CHAINS];
        for _ in 0..rounds {
            for _ in 0..QUADS {
                for sum in &mut sums {
                    *sum = D::add::<0>(*sum, codes, quad, F::LAYOUT.max_code);
                }
            }
            for sum in &mut sums {
                *sum = D::fold(*sum);
            }
        }
        for (sum, out) in sums.into_iter().zip(out) {
            D::end(sum, 0).store(out);
        }
    }
}

#[cfg(test)]
#[path = "tile_tests.rs"]
mod tests;
