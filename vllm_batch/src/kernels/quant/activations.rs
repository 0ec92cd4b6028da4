//! Rows of numbers as signed bytes, quantised when they are about to be multiplied.

use rayon::prelude::*;

use crate::kernels::isa::{Isa, per_isa};
use crate::kernels::registers::Registers;

/// Neighbouring numbers of a row with a common scale.
pub(in crate::kernels) const BLOCK: usize = 32;

/// [`BLOCK`] neighbouring numbers of a row: `x ≈ scale · code`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(C)]
pub(super) struct Block {
    /// −127 to 127, the nearest to `x / scale`.
    pub(super) codes: [i8; BLOCK],
    /// The greatest magnitude divided by 127; NaN if one of the numbers is not finite.
    pub(super) scale: f32,
    /// Sums of the first and of the last 16 codes.
    pub(super) sums: [i32; 2],
}

/// Quantised rows.
pub(in crate::kernels) struct Activations {
    /// Row after row.
    pub(super) blocks: Vec<Block>,
    /// Blocks of a row.
    pub(super) per_row: usize,
}

impl Activations {
    /// Quantises rows of `depth` numbers, a multiple of [`BLOCK`], rows in parallel on the current thread pool.
    pub(in crate::kernels) fn quantize(x: &[f32], depth: usize, isa: Isa) -> Self {
        /// Blocks that are worth a task of their own.
        const TASK: usize = 512;
        let mut blocks = vec![Block::default(); x.len() / BLOCK];
        if blocks.len() <= 2 * TASK {
            quantize_blocks(isa, x, &mut blocks);
        } else {
            let tasks = blocks.par_chunks_mut(TASK).zip(x.par_chunks(TASK * BLOCK));
            tasks.for_each(|(blocks, x)| quantize_blocks(isa, x, blocks));
        }
        Self { blocks, per_row: depth / BLOCK }
    }
}

per_isa! { fn quantize_blocks(x: &[f32], blocks: &mut [Block]) = quantize_all }

#[inline(always)]
#[allow(clippy::extra_unused_type_parameters)] // Plain loops, which the compiler turns into each set's instructions.
fn quantize_all<V: Registers>(x: &[f32], blocks: &mut [Block]) {
    for (block, x) in blocks.iter_mut().zip(x.as_chunks::<BLOCK>().0) {
        quantize_block(x, block);
    }
}

/// Below this greatest magnitude (1.5e-36) a scale would lose bits, and all codes are zero.
const SMALLEST: f32 = 127.0 * f32::MIN_POSITIVE;

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
    block.scale = scale;
    for (code, x) in block.codes.iter_mut().zip(x) {
        *code = nearest(x * inverse);
    }
    let (first, last) = block.codes.split_at(BLOCK / 2);
    let sum = |codes: &[i8]| codes.iter().map(|code| i32::from(*code)).sum();
    block.sums = [sum(first), sum(last)];
}

/// The nearest integer, the even one of two, of a number between −127.5 and 127.5. What is not a number becomes
/// anything between −128 and 127.
#[inline(always)]
fn nearest(x: f32) -> i8 {
    // 1.5 · 2²³: adding it leaves no room for a fraction, and the last bits of the sum are the integer.
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()) as i8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quantized(x: &[f32; BLOCK]) -> Block {
        let blocks = Isa::available().into_iter().map(|isa| Activations::quantize(x, BLOCK, isa).blocks[0]);
        let blocks: Vec<Block> = blocks.collect();
        let bits = |block: &Block| (block.codes, block.scale.to_bits(), block.sums);
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
            prop_assert_eq!(block.sums, [sum(&block.codes[..16]), sum(&block.codes[16..])]);
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
