//! Sums of products of bytes on 64-bit Arm.
//!
//! Registers have 16 bytes: quads of four columns. A line is four of them.

use std::arch::aarch64::{
    int8x16_t, int16x8_t, int32x4_t, uint8x16_t, vaddq_s32, vandq_u8, vcvtq_f32_s32, vdupq_n_s16, vdupq_n_s32,
    vdupq_n_u8, veorq_u8, vget_low_s8, vld1q_s8, vld1q_u8, vmlal_high_s8, vmlal_s8, vpaddlq_s16, vpaddq_s32,
    vreinterpretq_s8_s32, vreinterpretq_s8_u8, vshrq_n_u8,
};
use std::arch::asm;

use super::dot::Dot;
use super::matrix::CacheLine;
use crate::kernels::registers_neon;

/// The quads of four columns in each register.
type Line = [uint8x16_t; 4];

/// The sums of four columns in each register.
type Sums = [int32x4_t; 4];

/// A line in its four registers.
///
/// # Safety
/// Needs Neon; `line` must be readable.
#[inline(always)]
unsafe fn load_line(line: *const CacheLine) -> Line {
    let first = line.cast::<u8>();
    // SAFETY: a line is four registers long.
    unsafe { [vld1q_u8(first), vld1q_u8(first.add(16)), vld1q_u8(first.add(32)), vld1q_u8(first.add(48))] }
}

/// The low or the high nibbles of a line.
///
/// # Safety
/// As [`load_line`].
#[inline(always)]
unsafe fn load_nibbles(line: *const CacheLine, high: bool) -> Line {
    // SAFETY: as the caller promises.
    unsafe {
        let mut line = load_line(line);
        for codes in &mut line {
            *codes = if high { vshrq_n_u8::<4>(*codes) } else { vandq_u8(*codes, vdupq_n_u8(15)) };
        }
        line
    }
}

/// What [`signed_line`] takes off each code of a format whose greatest code is this.
fn signed_bias(max_code: u8) -> i32 {
    if max_code > 127 { 128 } else { 0 }
}

/// The codes of a line less their [`signed_bias`], which makes all of them signed bytes.
///
/// # Safety
/// As [`load_line`].
#[inline(always)]
unsafe fn signed_line(line: *const CacheLine, max_code: u8) -> Line {
    // SAFETY: as the caller promises.
    unsafe {
        let mut line = load_line(line);
        if max_code > 127 {
            for codes in &mut line {
                // Turning the highest bit over takes 128 off.
                *codes = veorq_u8(*codes, vdupq_n_u8(128));
            }
        }
        line
    }
}

/// Sixteen integers as floats.
///
/// # Safety
/// Needs Neon.
#[inline(always)]
unsafe fn floats([a, b, c, d]: Sums) -> registers_neon::Neon {
    // SAFETY: as the caller promises.
    unsafe { registers_neon::Neon([vcvtq_f32_s32(a), vcvtq_f32_s32(b), vcvtq_f32_s32(c), vcvtq_f32_s32(d)]) }
}

/// What every 64-bit Arm processor has: products are added to sums of 16 bits, one for each place in a quad, which are
/// widened before they can overflow.
pub(super) enum Neon {}

/// Sums of 16 bits, of two columns a register, and what was widened of them.
#[derive(Clone, Copy)]
pub(super) struct WideningSums {
    narrow: [[int16x8_t; 2]; 4],
    wide: Sums,
}

impl Dot for Neon {
    type Floats = registers_neon::Neon;
    type Codes = Line;
    type Quad = int8x16_t;
    type Sums = WideningSums;

    /// The narrow sums of four rows alone would be all 32 registers.
    const FOUR_ROWS: bool = false;

    #[inline(always)]
    fn bias(max_code: u8) -> i32 {
        signed_bias(max_code)
    }

    /// As many as 16 bits have room for, if all codes and activations are the greatest.
    #[inline(always)]
    fn quads_between_folds(max_code: u8) -> usize {
        i16::MAX as usize / (127 * usize::from(max_code.min(128)))
    }

    #[inline(always)]
    unsafe fn bytes(line: *const CacheLine, max_code: u8) -> Self::Codes {
        // SAFETY: as the caller promises.
        unsafe { signed_line(line, max_code) }
    }

    #[inline(always)]
    unsafe fn nibbles(line: *const CacheLine, high: bool) -> Self::Codes {
        // SAFETY: as the caller promises.
        unsafe { load_nibbles(line, high) }
    }

    #[inline(always)]
    unsafe fn quad<const I: usize>(group: *const [i8; 4]) -> Self::Quad {
        // SAFETY: as the caller promises.
        unsafe { opaque(vreinterpretq_s8_s32(vdupq_n_s32(group.add(I).cast::<i32>().read_unaligned()))) }
    }

    #[inline(always)]
    unsafe fn begin(start: i32) -> Self::Sums {
        // SAFETY: the caller runs on Neon.
        unsafe { WideningSums { narrow: [[vdupq_n_s16(0); 2]; 4], wide: [vdupq_n_s32(start); 4] } }
    }

    #[inline(always)]
    unsafe fn add<const I: usize>(mut sums: Self::Sums, codes: Self::Codes, quad: Self::Quad, _: u8) -> Self::Sums {
        for (narrow, codes) in sums.narrow.iter_mut().zip(codes) {
            // SAFETY: the caller runs on Neon.
            unsafe {
                let codes = vreinterpretq_s8_u8(codes);
                narrow[0] = vmlal_s8(narrow[0], vget_low_s8(codes), vget_low_s8(quad));
                narrow[1] = vmlal_high_s8(narrow[1], codes, quad);
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn fold(mut sums: Self::Sums) -> Self::Sums {
        for (wide, narrow) in sums.wide.iter_mut().zip(&mut sums.narrow) {
            // SAFETY: the caller runs on Neon.
            unsafe {
                *wide = vaddq_s32(*wide, vpaddq_s32(vpaddlq_s16(narrow[0]), vpaddlq_s16(narrow[1])));
                *narrow = [vdupq_n_s16(0); 2];
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn end(sums: Self::Sums, _: i32) -> Self::Floats {
        // SAFETY: the caller runs on Neon.
        unsafe { floats(Self::fold(sums).wide) }
    }
}

/// Neon with an instruction for the dot products of quads of signed bytes.
pub(super) enum Dotprod {}

impl Dot for Dotprod {
    type Floats = registers_neon::Neon;
    type Codes = Line;
    /// Four quads, of which the instruction takes one.
    type Quad = int8x16_t;
    type Sums = Sums;

    #[inline(always)]
    fn bias(max_code: u8) -> i32 {
        signed_bias(max_code)
    }

    #[inline(always)]
    unsafe fn bytes(line: *const CacheLine, max_code: u8) -> Self::Codes {
        // SAFETY: as the caller promises.
        unsafe { signed_line(line, max_code) }
    }

    #[inline(always)]
    unsafe fn nibbles(line: *const CacheLine, high: bool) -> Self::Codes {
        // SAFETY: as the caller promises.
        unsafe { load_nibbles(line, high) }
    }

    #[inline(always)]
    unsafe fn quad<const I: usize>(group: *const [i8; 4]) -> Self::Quad {
        // SAFETY: a group is whole registers.
        unsafe { vld1q_s8(group.add(I / 4 * 4).cast()) }
    }

    #[inline(always)]
    unsafe fn begin(start: i32) -> Self::Sums {
        // SAFETY: the caller runs on Neon.
        [unsafe { vdupq_n_s32(start) }; 4]
    }

    #[inline(always)]
    unsafe fn add<const I: usize>(mut sums: Self::Sums, codes: Self::Codes, quad: Self::Quad, _: u8) -> Self::Sums {
        for (sums, codes) in sums.iter_mut().zip(codes) {
            // SAFETY: the caller runs on Neon with dot products.
            *sums = unsafe { sdot::<I>(*sums, vreinterpretq_s8_u8(codes), quad) };
        }
        sums
    }

    #[inline(always)]
    unsafe fn end(sums: Self::Sums, _: i32) -> Self::Floats {
        // SAFETY: the caller runs on Neon.
        unsafe { floats(sums) }
    }
}

/// Neon with an instruction for the dot products of unsigned and signed bytes, so that codes stay as they are.
pub(super) enum I8mm {}

impl Dot for I8mm {
    type Floats = registers_neon::Neon;
    type Codes = Line;
    type Quad = int8x16_t;
    type Sums = Sums;

    #[inline(always)]
    unsafe fn bytes(line: *const CacheLine, _: u8) -> Self::Codes {
        // SAFETY: as the caller promises.
        unsafe { load_line(line) }
    }

    #[inline(always)]
    unsafe fn nibbles(line: *const CacheLine, high: bool) -> Self::Codes {
        // SAFETY: as the caller promises.
        unsafe { load_nibbles(line, high) }
    }

    #[inline(always)]
    unsafe fn quad<const I: usize>(group: *const [i8; 4]) -> Self::Quad {
        // SAFETY: as the caller promises.
        unsafe { Dotprod::quad::<I>(group) }
    }

    #[inline(always)]
    unsafe fn begin(start: i32) -> Self::Sums {
        // SAFETY: the caller runs on Neon.
        unsafe { Dotprod::begin(start) }
    }

    #[inline(always)]
    unsafe fn add<const I: usize>(mut sums: Self::Sums, codes: Self::Codes, quad: Self::Quad, _: u8) -> Self::Sums {
        for (sums, codes) in sums.iter_mut().zip(codes) {
            // SAFETY: the caller runs on Neon with products of matrices of bytes.
            *sums = unsafe { usdot::<I>(*sums, codes, quad) };
        }
        sums
    }

    #[inline(always)]
    unsafe fn end(sums: Self::Sums, _: i32) -> Self::Floats {
        // SAFETY: the caller runs on Neon.
        unsafe { floats(sums) }
    }
}

/// The same register, of which the compiler knows nothing more. It would see that both halves of a repeated quad are equal,
/// and move the high half of each register of codes to a low one, rather than take both high halves where they are.
///
/// # Safety
/// Needs Neon.
#[inline(always)]
unsafe fn opaque(mut quad: int8x16_t) -> int8x16_t {
    // SAFETY: there is no instruction.
    unsafe { asm!("/* {0:v} */", inlateout(vreg) quad, options(pure, nomem, nostack, preserves_flags)) };
    quad
}

/// Adds the products of the quads of four columns and quad `I % 4` of `quads`.
///
/// Written as assembly because its intrinsic is not stable (<https://github.com/rust-lang/rust/issues/117224>).
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot<const I: usize>(mut sums: int32x4_t, codes: int8x16_t, quads: int8x16_t) -> int32x4_t {
    // SAFETY: one instruction of the features above, on registers alone.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {codes:v}.16b, {quads:v}.4b[{lane}]",
            sums = inout(vreg) sums,
            codes = in(vreg) codes,
            quads = in(vreg) quads,
            lane = const I % 4,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// As [`sdot`], of unsigned codes (<https://github.com/rust-lang/rust/issues/117223>).
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn usdot<const I: usize>(mut sums: int32x4_t, codes: uint8x16_t, quads: int8x16_t) -> int32x4_t {
    // SAFETY: one instruction of the features above, on registers alone.
    unsafe {
        asm!(
            "usdot {sums:v}.4s, {codes:v}.16b, {quads:v}.4b[{lane}]",
            sums = inout(vreg) sums,
            codes = in(vreg) codes,
            quads = in(vreg) quads,
            lane = const I % 4,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}
