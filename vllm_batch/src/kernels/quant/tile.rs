//! The multiplication itself: a few quantised rows times a group of panels.
//!
//! Each result is one chain over the groups of its column: `sum = fma(float(Σ q·a), s·d, sum)`, and, in formats with
//! offsets, `sum = fma(m, s·Σa, sum)` after it, whatever the shape of the tile that computes it.

use std::ops::Range;

use half::f16;

use super::activations::{Activations, BLOCK, Block};
use super::dot::{Dot, per_dot};
use super::format::{Layout, QuantFormat};
use super::matrix::{CacheLine, QuantMatrix, Scale};
use crate::kernels::isa::Isa;
use crate::kernels::packed::PANELS_PER_GROUP;
use crate::kernels::registers::Registers;
use crate::kernels::{LANES, Lane};

/// Adds the products of some rows of `x` and a group of panels of `weights` to `out`, which has four panels for each row.
///
/// # Panics
/// If the rows are not as deep as the weights, or rows, group or results are not there.
pub(in crate::kernels) fn multiply_group(
    isa: Isa,
    x: &Activations,
    rows: Range<usize>,
    (weights, group): (&QuantMatrix, usize),
    out: &mut [Lane],
) {
    let product = Product { x, rows, weights, group };
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
    x: &'a Activations,
    rows: Range<usize>,
    weights: &'a QuantMatrix,
    group: usize,
}

per_dot! { fn multiply<Form>(product: &Product<'_>, out: &mut [Lane]) = multiply_rows }

#[inline(always)]
fn multiply_rows<D: Dot, F: Form>(product: &Product<'_>, out: &mut [Lane]) {
    let (blocks, count) = (product.x.per_row, product.rows.len());
    let x = &product.x.blocks[product.rows.start * blocks..product.rows.end * blocks];
    let per_group = blocks * PANELS_PER_GROUP;
    let part = |per_panel: usize| product.group * per_group * per_panel..(product.group + 1) * per_group * per_panel;
    let codes = &product.weights.codes[part(F::LAYOUT.lines())];
    let scales = &F::Scale::all(&product.weights.scales)[part(F::LAYOUT.groups() * F::LAYOUT.scales())];
    assert!(product.weights.depth() == blocks * BLOCK, "rows as deep as the weights");
    assert!(out.len() >= count * PANELS_PER_GROUP, "room for the results");
    let weights = Panels::<F> { codes: codes.as_ptr(), scales: scales.as_ptr() };
    let mut first = 0;
    while first < count {
        let rows = Rows { start: x[first * blocks..].as_ptr(), blocks };
        let result = out[first * PANELS_PER_GROUP..].as_mut_ptr();
        // SAFETY: the rows from `first` on are within `x` and `out`, as many as the match takes; a group's codes and
        // scales are as long as sliced above.
        first += unsafe {
            match count - first {
                6.. if D::Floats::WIDE => row_of_tiles::<D, F, 6, 2>(rows, weights, result),
                4.. if D::Floats::WIDE => row_of_tiles::<D, F, 4, 2>(rows, weights, result),
                2.. if D::Floats::WIDE => row_of_tiles::<D, F, 2, 4>(rows, weights, result),
                4.. => row_of_tiles::<D, F, 4, 1>(rows, weights, result),
                2.. => row_of_tiles::<D, F, 2, 1>(rows, weights, result),
                _ if D::Floats::WIDE => row_of_tiles::<D, F, 1, 4>(rows, weights, result),
                _ => row_of_tiles::<D, F, 1, 2>(rows, weights, result),
            }
        };
    }
}

/// Quantised rows, one after the other.
#[derive(Clone, Copy)]
struct Rows {
    start: *const Block,
    /// Blocks of a row.
    blocks: usize,
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
    /// As many panels further, which leads from the last panel of a block to the first of the next one.
    ///
    /// # Safety
    /// There must be as many panels.
    #[inline(always)]
    unsafe fn add(self, panels: usize) -> Self {
        // SAFETY: as the caller promises.
        unsafe {
            Self {
                codes: self.codes.add(panels * F::LAYOUT.lines()),
                scales: self.scales.add(panels * F::LAYOUT.groups() * F::LAYOUT.scales()),
            }
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
                scales[p] = F::Scale::load(self.add(p).scales.add(group * F::LAYOUT.scales() + which));
            }
            scales
        }
    }
}

/// Quads in a block.
const QUADS: usize = BLOCK / 4;

/// `R` rows times a group of panels, `P` panels at a time, of which a group must be a multiple. Returns `R`.
///
/// # Safety
/// There must be `R` rows and a whole group of panels, both of `rows.blocks` blocks, and room for the results.
#[inline(always)]
unsafe fn row_of_tiles<D: Dot, F: Form, const R: usize, const P: usize>(
    rows: Rows,
    weights: Panels<F>,
    out: *mut Lane,
) -> usize {
    for first in (0..PANELS_PER_GROUP).step_by(P) {
        // SAFETY: `P` panels from `first` on are within the group and a row of `out`.
        unsafe { tile::<D, F, R, P>(rows, weights.add(first), out.add(first)) };
    }
    R
}

/// The sums of `R` rows and `P` panels stay in registers over the whole depth.
///
/// # Safety
/// As [`row_of_tiles`], for `P` panels.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // `r` and `p` index registers and memory alike.
unsafe fn tile<D: Dot, F: Form, const R: usize, const P: usize>(rows: Rows, mut weights: Panels<F>, out: *mut Lane) {
    // SAFETY: all places are within the rows, the panels and the results, as the caller promises.
    unsafe {
        let mut sums = [[D::Floats::splat(0.0); P]; R];
        for r in 0..R {
            for p in 0..P {
                sums[r][p] = D::Floats::load(out.add(r * PANELS_PER_GROUP + p));
            }
        }
        for block in 0..rows.blocks {
            let mut x = [rows.start; R];
            for r in 0..R {
                x[r] = rows.start.add(r * rows.blocks + block);
            }
            for group in 0..F::LAYOUT.groups() {
                add_group::<D, F, R, P>(x, weights, group, &mut sums);
            }
            weights = weights.add(PANELS_PER_GROUP);
        }
        for r in 0..R {
            for p in 0..P {
                sums[r][p].store(out.add(r * PANELS_PER_GROUP + p));
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
    x: [*const Block; R],
    weights: Panels<F>,
    group: usize,
    sums: &mut [[D::Floats; P]; R],
) {
    // SAFETY: as the caller promises.
    unsafe {
        let (mut activations, mut start) = ([0; R], [0; R]);
        for r in 0..R {
            activations[r] = sum_of::<F>(x[r], group);
            start[r] = activations[r] * (D::bias(F::LAYOUT.max_code) - F::LAYOUT.zero.unwrap_or(0));
        }
        let products = group_products::<D, F, R, P>(x, weights, group, start);
        let scales = weights.scales::<D::Floats, P>(group, 0);
        for r in 0..R {
            let scale = D::Floats::splat((*x[r]).scale);
            for p in 0..P {
                sums[r][p] = D::end(products[r][p], start[r]).mul_add(scale.mul(scales[p]), sums[r][p]);
            }
        }
        if F::LAYOUT.zero.is_none() {
            let offsets = weights.scales::<D::Floats, P>(group, 1);
            for r in 0..R {
                let sum = D::Floats::splat((*x[r]).scale * activations[r] as f32);
                for p in 0..P {
                    sums[r][p] = offsets[p].mul_add(sum, sums[r][p]);
                }
            }
        }
    }
}

/// The sum of the activations of a group.
///
/// # Safety
/// `x` must be readable.
#[inline(always)]
unsafe fn sum_of<F: Form>(x: *const Block, group: usize) -> i32 {
    // SAFETY: as the caller promises.
    let halves = unsafe { (*x).sums };
    if F::LAYOUT.groups() == 1 { halves[0] + halves[1] } else { halves[group] }
}

/// The sums of the products of codes and activations in one group, beginning at `start`.
///
/// # Safety
/// As [`add_group`].
#[inline(always)]
#[allow(clippy::needless_range_loop)] // As in `tile`.
unsafe fn group_products<D: Dot, F: Form, const R: usize, const P: usize>(
    x: [*const Block; R],
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
        let (quads, max_code) = (QUADS / F::LAYOUT.groups(), F::LAYOUT.max_code);
        for i in 0..quads {
            let quad = group * quads + i;
            let mut codes = [weights.codes::<D>(quad); P];
            for p in 1..P {
                codes[p] = weights.add(p).codes::<D>(quad);
            }
            for r in 0..R {
                let activations = D::quad((*x[r]).codes.as_ptr().add(quad * 4).cast());
                for p in 0..P {
                    sums[r][p] = D::add(sums[r][p], codes[p], activations, max_code);
                }
            }
            if (i + 1) % D::quads_between_folds(max_code) == 0 {
                for r in 0..R {
                    for p in 0..P {
                        sums[r][p] = D::fold(sums[r][p]);
                    }
                }
            }
        }
        sums
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
per_dot! { fn sum_on<Form>(rounds: usize, out: &mut [Lane]) = sum_rounds }

#[cfg(feature = "bench")]
#[inline(always)]
fn sum_rounds<D: Dot, F: Form>(rounds: usize, out: &mut [Lane]) {
    let (line, block) = (CacheLine([1; 64]), Block::default());
    // SAFETY: the line and the block are readable, and `out` has a place for each chain.
    unsafe {
        let (codes, quad) = (D::nibbles(&raw const line, false), D::quad(block.codes.as_ptr().cast()));
        let mut sums = [D::begin(0); CHAINS];
        for _ in 0..rounds {
            for _ in 0..QUADS {
                for sum in &mut sums {
                    *sum = D::add(*sum, codes, quad, F::LAYOUT.max_code);
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
