//! Rows of numbers as signed bytes, quantised when they are about to be multiplied, or by what writes them.

use crate::kernels::isa::{Isa, per_isa};
use crate::kernels::parallel::{Shared, for_each};
use crate::kernels::registers::Registers;

/// Neighbouring numbers of a row with a common scale.
pub(in crate::kernels) const BLOCK: usize = 32;

/// [`BLOCK`] neighbouring numbers of a row: `x ≈ scale · code`. A line of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(C, align(64))]
pub(super) struct Block {
    /// −127 to 127, the nearest to `x / scale`.
    pub(super) codes: [i8; BLOCK],
    /// The greatest magnitude divided by 127; NaN if one of the numbers is not finite.
    pub(super) scale: f32,
    /// Sums of the first 16 codes, of the last 16, and of all.
    pub(super) sums: [i32; 3],
    /// The same sums times the scale.
    pub(super) scaled_sums: [f32; 3],
}

/// Rows that are multiplied with a group of panels before the next ones: they, and what they are multiplied with, stay in
/// the nearest cache.
pub(in crate::kernels) const CHUNK_ROWS: usize = 24;

/// Quantised rows, in chunks of [`CHUNK_ROWS`] neighbours, the last of which may have fewer. Within a chunk, the first
/// blocks of all rows come first, then the second blocks, and so on: what a tile multiplies at once lies side by side.
/// The memory serves the next rows.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Activations {
    pub(super) blocks: Vec<Block>,
    /// Blocks of a row.
    pub(super) per_row: usize,
}

/// A chunk of rows.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Chunk<'a> {
    /// `[per_row, rows]`
    pub(super) blocks: &'a [Block],
    /// Number of rows.
    pub(super) rows: usize,
    /// Blocks of a row.
    pub(super) per_row: usize,
}

impl Activations {
    /// Takes rows of `depth` numbers, a multiple of [`BLOCK`], instead of what was here, on the installed team.
    pub(in crate::kernels) fn quantize(&mut self, x: &[f32], depth: usize, isa: Isa) {
        let rows = x.len() / depth.max(1);
        let out = self.rows((rows, depth), isa);
        // SAFETY: each call writes its own row.
        for_each(rows, depth, |row| unsafe { out.write(row, &x[row * depth..(row + 1) * depth]) });
    }

    /// Makes room for rows of so many numbers, a multiple of [`BLOCK`], instead of what was here.
    pub(in crate::kernels) fn rows(&mut self, (rows, depth): (usize, usize), isa: Isa) -> QuantRows<'_> {
        let per_row = depth / BLOCK;
        self.per_row = per_row;
        self.blocks.resize(rows * per_row, Block::default());
        QuantRows { blocks: Shared::new(&mut self.blocks), rows, per_row, isa }
    }

    /// Chunk number `index`.
    ///
    /// # Panics
    /// If there is no such chunk.
    pub(in crate::kernels) fn chunk(&self, index: usize) -> Chunk<'_> {
        let start = index * CHUNK_ROWS * self.per_row;
        let end = (start + CHUNK_ROWS * self.per_row).min(self.blocks.len());
        let blocks = &self.blocks[start..end];
        Chunk { blocks, rows: blocks.len().checked_div(self.per_row).unwrap_or(0), per_row: self.per_row }
    }
}

/// Room for quantised rows, which several threads may write to, each its own.
pub(in crate::kernels) struct QuantRows<'a> {
    blocks: Shared<'a, Block>,
    rows: usize,
    per_row: usize,
    isa: Isa,
}

impl QuantRows<'_> {
    /// Quantises `x` as a row.
    ///
    /// # Safety
    /// No two calls for a row may be made at the same time.
    ///
    /// # Panics
    /// If there is no such row, or `x` is longer than one.
    pub(in crate::kernels) unsafe fn write(&self, row: usize, x: &[f32]) {
        let first = row / CHUNK_ROWS * CHUNK_ROWS;
        let rows = CHUNK_ROWS.min(self.rows - first);
        let place = Place { first: first * self.per_row + row - first, stride: rows };
        assert!(row < self.rows && x.len() <= self.per_row * BLOCK, "row {row} of {}, {} numbers", self.rows, x.len());
        quantize_on(self.isa, x, self.blocks, place);
    }
}

/// Where the blocks of a row lie.
pub(super) struct Place {
    pub(super) first: usize,
    /// Blocks from one of the row to its next one.
    pub(super) stride: usize,
}

fn quantize_on(isa: Isa, x: &[f32], out: Shared<'_, Block>, place: Place) {
    match isa {
        // SAFETY: `Isa::available` reports these only where the features of AVX-512 were detected.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Vnni => unsafe { super::activations_x86::quantize_row(x, out, place) },
        _ => quantize_plainly(isa, x, out, place),
    }
}

per_isa! { fn quantize_plainly(x: &[f32], out: Shared<'_, Block>, place: Place) = quantize_row }

/// A row, of which each place is written by this call alone.
#[inline(always)]
#[allow(clippy::extra_unused_type_parameters)] // Plain loops, which the compiler turns into each set's instructions.
fn quantize_row<V: Registers>(x: &[f32], out: Shared<'_, Block>, Place { mut first, stride }: Place) {
    for x in x.as_chunks().0 {
        // SAFETY: the caller of `QuantRows::write` lets nobody else write to this row.
        let block = unsafe { out.part(first, 1) };
        quantize_block(x, &mut block[0]);
        first += stride;
    }
}

/// Below this greatest magnitude (1.5e-36) a scale would lose bits, and all codes are zero.
pub(super) const SMALLEST: f32 = 127.0 * f32::MIN_POSITIVE;

/// What codes count in the sum of both halves: that of the first 16 stands in the upper 16 bits.
const PLACES: [i32; BLOCK] = {
    let mut places = [1; BLOCK];
    let mut i = 0;
    while i < BLOCK / 2 {
        places[i] = 1 << 16;
        i += 1;
    }
    places
};

#[inline(always)]
fn quantize_block(x: &[f32; BLOCK], block: &mut Block) {
    // As integers, magnitudes are in their own order, with infinity and what is not a number above all others.
    let greatest = x.iter().fold(0, |greatest: u32, x| greatest.max(x.to_bits() & 0x7fff_ffff));
    let greatest = f32::from_bits(greatest);
    let (scale, inverse) = if greatest.is_finite() && greatest >= SMALLEST {
        (greatest / 127.0, 127.0 / greatest)
    } else {
        (if greatest.is_finite() { 0.0 } else { f32::NAN }, 0.0)
    };
    let mut sums = 0;
    for ((byte, x), place) in block.codes.iter_mut().zip(x).zip(&PLACES) {
        let code = nearest(x * inverse);
        *byte = code as i8;
        sums += code * place;
    }
    let last = i32::from(sums as i16);
    let first = (sums - last) >> 16;
    block.scale = scale;
    block.sums = [first, last, first + last];
    block.scaled_sums = [scale * first as f32, scale * last as f32, scale * (first + last) as f32];
}

/// 1.5 · 2²³: adding it leaves no room for a fraction, and the last bits of the sum are the nearest integer.
pub(super) const SHIFT: f32 = 12_582_912.0;

/// The nearest integer, the even one of two, of a number from −127 to 127. What is not a number becomes one of them.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    ((x + SHIFT).to_bits().cast_signed() - SHIFT.to_bits().cast_signed()).clamp(-127, 127)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quantized(x: &[f32; BLOCK]) -> Block {
        let mut activations = Activations::default();
        let mut quantize = |isa| {
            activations.quantize(x, BLOCK, isa);
            activations.blocks[0]
        };
        let blocks: Vec<Block> = Isa::available().into_iter().map(&mut quantize).collect();
        let bits =
            |block: &Block| (block.codes, block.scale.to_bits(), block.sums, block.scaled_sums.map(f32::to_bits));
        assert!(blocks.iter().all(|block| bits(block) == bits(&blocks[0])), "{blocks:?}");
        blocks[0]
    }

    proptest! {
        #[test]
        fn any_finite_block_is_within_half_a_scale(bits in proptest::array::uniform32(any::<u32>())) {
            let x = bits.map(f32::from_bits).map(|x| if x.is_finite() { x } else { 1.0 });
            let block = quantized(&x);
            prop_assert!(block.scale.is_finite());
            for (x, code) in x.iter().zip(block.codes) {
                let error = (f64::from(*x) - f64::from(block.scale) * f64::from(code)).abs();
                prop_assert!(error <= f64::from(block.scale) * 0.500_02 + f64::from(SMALLEST), "{} as {}", x, code);
                prop_assert!(code >= -127);
            }
            let sum = |codes: &[i8]| codes.iter().map(|code| i32::from(*code)).sum::<i32>();
            let sums = [sum(&block.codes[..16]), sum(&block.codes[16..]), sum(&block.codes)];
            prop_assert_eq!(block.sums, sums);
            prop_assert_eq!(block.scaled_sums, sums.map(|sum| block.scale * sum as f32));
        }
    }

    #[test]
    fn what_is_not_finite_shows_in_the_scale_and_nothing_else_does() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0; BLOCK];
            x[17] = bad;
            let block = quantized(&x);
            assert!(block.scale.is_nan(), "{bad}");
        }
        assert_eq!(quantized(&[0.0; BLOCK]), Block::default());
        assert_eq!(quantized(&[-1e-40; BLOCK]), Block::default());
        assert_eq!(quantized(&[f32::MAX; BLOCK]).codes, [127; BLOCK]);
    }

    #[test]
    fn ties_go_to_the_even_code() {
        let mut x = [0.0; BLOCK];
        x[..6].copy_from_slice(&[127.0, 0.5, 1.5, 2.5, -0.5, -1.5]);
        assert_eq!(quantized(&x).codes[..6], [127, 0, 2, 2, 0, -2]);
    }
}
