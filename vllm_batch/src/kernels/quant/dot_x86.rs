//! Sums of products of bytes on x86.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_abs_epi8, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256, _mm256_cvtepi32_ps,
    _mm256_dpbusd_avx_epi32, _mm256_load_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_srli_epi16, _mm256_xor_si256,
    _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_load_si512, _mm512_set1_epi8, _mm512_set1_epi32,
    _mm512_srli_epi16,
};

use super::dot::Dot;
use super::matrix::CacheLine;
use crate::kernels::registers;

/// A register for each eight columns.
type Pair = [__m256i; 2];

/// Both halves of a line.
///
/// # Safety
/// Needs AVX2; `line` must be readable.
#[inline(always)]
unsafe fn load_pair(line: *const CacheLine) -> Pair {
    // SAFETY: a line is two registers long and aligned.
    unsafe { [_mm256_load_si256(line.cast()), _mm256_load_si256(line.cast::<__m256i>().add(1))] }
}

/// The low or the high nibbles of a line.
///
/// # Safety
/// As [`load_pair`].
#[inline(always)]
unsafe fn nibble_pair(line: *const CacheLine, high: bool) -> Pair {
    // SAFETY: as the caller promises.
    unsafe {
        let (mut codes, mask) = (load_pair(line), _mm256_set1_epi8(15));
        for half in &mut codes {
            *half = _mm256_and_si256(if high { _mm256_srli_epi16::<4>(*half) } else { *half }, mask);
        }
        codes
    }
}

/// AVX2: products are added in pairs to sums of 16 bits, which are widened before they can overflow.
pub(super) enum Avx2 {}

/// Codes, and, for formats with codes above 127, the magnitudes and the signed bytes that they stand for.
#[derive(Clone, Copy)]
pub(super) struct SignedCodes {
    magnitudes: Pair,
    signed: Pair,
}

/// Sums of 16 bits for each pair of products, and what was widened of them.
#[derive(Clone, Copy)]
pub(super) struct WideningSums {
    narrow: Pair,
    wide: Pair,
}

impl Dot for Avx2 {
    type Floats = registers::Avx2;
    type Codes = SignedCodes;
    type Quad = __m256i;
    type Sums = WideningSums;

    #[inline(always)]
    fn bias(max_code: u8) -> i32 {
        if max_code > 127 { 128 } else { 0 }
    }

    /// As many as 16 bits have room for, if all codes and activations are the greatest.
    #[inline(always)]
    fn quads_between_folds(max_code: u8) -> usize {
        i16::MAX as usize / (2 * 127 * usize::from(max_code.min(128)))
    }

    #[inline(always)]
    unsafe fn bytes(line: *const CacheLine, max_code: u8) -> Self::Codes {
        // SAFETY: as the caller promises.
        unsafe {
            let codes = load_pair(line);
            if max_code <= 127 {
                return SignedCodes { magnitudes: codes, signed: codes };
            }
            let flip = _mm256_set1_epi8(i8::MIN);
            let signed = [_mm256_xor_si256(codes[0], flip), _mm256_xor_si256(codes[1], flip)];
            SignedCodes { magnitudes: [_mm256_abs_epi8(signed[0]), _mm256_abs_epi8(signed[1])], signed }
        }
    }

    #[inline(always)]
    unsafe fn nibbles(line: *const CacheLine, high: bool) -> Self::Codes {
        // SAFETY: as the caller promises.
        let codes = unsafe { nibble_pair(line, high) };
        SignedCodes { magnitudes: codes, signed: codes }
    }

    #[inline(always)]
    unsafe fn quad<const I: usize>(group: *const [i8; 4]) -> Self::Quad {
        // SAFETY: as the caller promises.
        unsafe { _mm256_set1_epi32(group.add(I).cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn begin(_: i32) -> Self::Sums {
        // SAFETY: the caller runs on AVX2.
        let zero = unsafe { _mm256_setzero_si256() };
        WideningSums { narrow: [zero; 2], wide: [zero; 2] }
    }

    #[inline(always)]
    unsafe fn add<const I: usize>(
        mut sums: Self::Sums,
        codes: Self::Codes,
        quad: Self::Quad,
        max_code: u8,
    ) -> Self::Sums {
        for (i, narrow) in sums.narrow.iter_mut().enumerate() {
            // SAFETY: the caller runs on AVX2.
            unsafe {
                // The sign goes to the activation, which has room for it: −128 · a is 128 · −a.
                let quad = if max_code > 127 { _mm256_sign_epi8(quad, codes.signed[i]) } else { quad };
                *narrow = _mm256_add_epi16(*narrow, _mm256_maddubs_epi16(codes.magnitudes[i], quad));
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn fold(mut sums: Self::Sums) -> Self::Sums {
        for (wide, narrow) in sums.wide.iter_mut().zip(&mut sums.narrow) {
            // SAFETY: the caller runs on AVX2.
            unsafe {
                *wide = _mm256_add_epi32(*wide, _mm256_madd_epi16(*narrow, _mm256_set1_epi16(1)));
                *narrow = _mm256_setzero_si256();
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn end(sums: Self::Sums, start: i32) -> Self::Floats {
        // SAFETY: the caller runs on AVX2.
        unsafe {
            let (wide, start) = (Self::fold(sums).wide, _mm256_set1_epi32(start));
            let sums = [_mm256_add_epi32(wide[0], start), _mm256_add_epi32(wide[1], start)];
            registers::Avx2(_mm256_cvtepi32_ps(sums[0]), _mm256_cvtepi32_ps(sums[1]))
        }
    }
}

/// AVX2 with an instruction for the dot products of quads.
pub(super) enum AvxVnni {}

impl Dot for AvxVnni {
    type Floats = registers::Avx2;
    type Codes = Pair;
    type Quad = __m256i;
    type Sums = Pair;

    #[inline(always)]
    unsafe fn bytes(line: *const CacheLine, _: u8) -> Self::Codes {
        // SAFETY: as the caller promises.
        unsafe { load_pair(line) }
    }

    #[inline(always)]
    unsafe fn nibbles(line: *const CacheLine, high: bool) -> Self::Codes {
        // SAFETY: as the caller promises.
        unsafe { nibble_pair(line, high) }
    }

    #[inline(always)]
    unsafe fn quad<const I: usize>(group: *const [i8; 4]) -> Self::Quad {
        // SAFETY: as the caller promises.
        unsafe { Avx2::quad::<I>(group) }
    }

    #[inline(always)]
    unsafe fn begin(start: i32) -> Self::Sums {
        // SAFETY: the caller runs on AVX2.
        [unsafe { _mm256_set1_epi32(start) }; 2]
    }

    #[inline(always)]
    unsafe fn add<const I: usize>(sums: Self::Sums, codes: Self::Codes, quad: Self::Quad, _: u8) -> Self::Sums {
        // SAFETY: the caller runs on AVX-VNNI.
        unsafe { [_mm256_dpbusd_avx_epi32(sums[0], codes[0], quad), _mm256_dpbusd_avx_epi32(sums[1], codes[1], quad)] }
    }

    #[inline(always)]
    unsafe fn end(sums: Self::Sums, _: i32) -> Self::Floats {
        // SAFETY: the caller runs on AVX2.
        unsafe { registers::Avx2(_mm256_cvtepi32_ps(sums[0]), _mm256_cvtepi32_ps(sums[1])) }
    }
}

/// AVX-512 with an instruction for the dot products of quads.
pub(super) enum Avx512Vnni {}

impl Dot for Avx512Vnni {
    type Floats = registers::Avx512;
    type Codes = __m512i;
    type Quad = __m512i;
    type Sums = __m512i;

    #[inline(always)]
    unsafe fn bytes(line: *const CacheLine, _: u8) -> Self::Codes {
        // SAFETY: a line is a register long and aligned.
        unsafe { _mm512_load_si512(line.cast()) }
    }

    #[inline(always)]
    unsafe fn nibbles(line: *const CacheLine, high: bool) -> Self::Codes {
        // SAFETY: as above.
        unsafe {
            let bytes = _mm512_load_si512(line.cast());
            let nibbles = if high { _mm512_srli_epi16::<4>(bytes) } else { bytes };
            _mm512_and_si512(nibbles, _mm512_set1_epi8(15))
        }
    }

    #[inline(always)]
    unsafe fn quad<const I: usize>(group: *const [i8; 4]) -> Self::Quad {
        // SAFETY: as the caller promises.
        unsafe { _mm512_set1_epi32(group.add(I).cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn begin(start: i32) -> Self::Sums {
        // SAFETY: the caller runs on AVX-512.
        unsafe { _mm512_set1_epi32(start) }
    }

    #[inline(always)]
    unsafe fn add<const I: usize>(sums: Self::Sums, codes: Self::Codes, quad: Self::Quad, _: u8) -> Self::Sums {
        // SAFETY: the caller runs on AVX-512 with VNNI.
        unsafe { _mm512_dpbusd_epi32(sums, codes, quad) }
    }

    #[inline(always)]
    unsafe fn end(sums: Self::Sums, _: i32) -> Self::Floats {
        // SAFETY: the caller runs on AVX-512.
        unsafe { registers::Avx512(_mm512_cvtepi32_ps(sums)) }
    }
}
