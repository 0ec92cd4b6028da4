//! Quantising rows with AVX-512: bit for bit what the plain loops of `activations.rs` compute, of which the compiler makes
//! four times as many instructions.

use std::arch::x86_64::{
    __m256i, __m512, __m512i, _CMP_GE_OQ, _CMP_LE_OQ, _mm256_add_epi32, _mm256_add_epi64, _mm256_blend_epi32,
    _mm256_castps_si256, _mm256_cvtepi32_ps, _mm256_maskz_permutexvar_epi32, _mm256_mul_ps, _mm256_permutexvar_epi32,
    _mm256_sad_epu8, _mm256_set_epi32, _mm256_set_m128i, _mm256_set1_epi8, _mm256_set1_ps, _mm256_setzero_si256,
    _mm256_shuffle_epi32, _mm256_store_si256, _mm256_xor_si256, _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512,
    _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtepi32_epi8, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_blend_ps, _mm512_mask_cmp_ps_mask, _mm512_maskz_div_ps, _mm512_max_epi32, _mm512_max_epu32,
    _mm512_min_epi32, _mm512_mul_ps, _mm512_reduce_max_epu32, _mm512_set1_epi32, _mm512_set1_ps, _mm512_storeu_ps,
    _mm512_sub_epi32,
};

use super::activations::{BLOCK, Block, Place, SHIFT, SMALLEST};
use crate::kernels::LANES;
use crate::kernels::parallel::Shared;

/// The blocks of a row, sixteen at a time, so that their scales are divided at once.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq")]
pub(super) fn quantize_row(x: &[f32], out: Shared<'_, Block>, Place { mut first, stride }: Place) {
    for x in x.as_chunks::<BLOCK>().0.chunks(LANES) {
        let mut greatest = [0; LANES];
        for (greatest, x) in greatest.iter_mut().zip(x) {
            *greatest = greatest_magnitude(x);
        }
        let (scales, inverses) = scales_and_inverses(&greatest);
        for (x, (scale, inverse)) in x.iter().zip(scales.into_iter().zip(inverses)) {
            // SAFETY: the caller of `QuantRows::write` lets nobody else write to this row.
            let block = unsafe { out.part(first, 1) };
            quantize_block(x, (scale, inverse), &mut block[0]);
            first += stride;
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn greatest_magnitude(x: &[f32; BLOCK]) -> u32 {
    let mask = _mm512_set1_epi32(i32::MAX);
    let [low, high] = halves(x);
    let (low, high) = (_mm512_castps_si512(low), _mm512_castps_si512(high));
    _mm512_reduce_max_epu32(_mm512_max_epu32(_mm512_and_si512(low, mask), _mm512_and_si512(high, mask)))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn halves(x: &[f32; BLOCK]) -> [__m512; 2] {
    // SAFETY: a block is two registers long.
    unsafe { [_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(LANES))] }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn scales_and_inverses(greatest: &[u32; LANES]) -> ([f32; LANES], [f32; LANES]) {
    // SAFETY: sixteen numbers are a register long.
    let greatest = _mm512_castsi512_ps(unsafe { _mm512_loadu_si512(greatest.as_ptr().cast()) });
    let finite = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(greatest, _mm512_set1_ps(f32::MAX));
    let usual = _mm512_mask_cmp_ps_mask::<_CMP_GE_OQ>(finite, greatest, _mm512_set1_ps(SMALLEST));
    let most = _mm512_set1_ps(127.0);
    let scale = _mm512_maskz_div_ps(usual, greatest, most);
    let scale = _mm512_mask_blend_ps(finite, _mm512_set1_ps(f32::NAN), scale);
    let (mut scales, mut inverses) = ([0.0; LANES], [0.0; LANES]);
    // SAFETY: as above.
    unsafe {
        _mm512_storeu_ps(scales.as_mut_ptr(), scale);
        _mm512_storeu_ps(inverses.as_mut_ptr(), _mm512_maskz_div_ps(usual, most, greatest));
    }
    (scales, inverses)
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512vl,avx512bw")]
fn quantize_block(x: &[f32; BLOCK], (scale, inverse): (f32, f32), block: &mut Block) {
    let [low, high] = halves(x);
    let inverse = _mm512_set1_ps(inverse);
    let [low, high] = [nearest(_mm512_mul_ps(low, inverse)), nearest(_mm512_mul_ps(high, inverse))];
    let codes = _mm256_set_m128i(_mm512_cvtepi32_epi8(high), _mm512_cvtepi32_epi8(low));
    let numbers = sums_and_scale(codes, scale);
    let block = std::ptr::from_mut(block).cast::<__m256i>();
    // SAFETY: a block is its codes and, in the other half of its 64 bytes, a scale, three sums, the same times the scale,
    // and four bytes that nobody reads.
    unsafe {
        _mm256_store_si256(block, codes);
        _mm256_store_si256(block.add(1), numbers);
    }
}

/// The nearest integers, from −127 to 127.
#[inline]
#[target_feature(enable = "avx512f")]
fn nearest(x: __m512) -> __m512i {
    let shift = _mm512_set1_ps(SHIFT);
    let code = _mm512_sub_epi32(_mm512_castps_si512(_mm512_add_ps(x, shift)), _mm512_castps_si512(shift));
    _mm512_min_epi32(_mm512_max_epi32(code, _mm512_set1_epi32(-127)), _mm512_set1_epi32(127))
}

/// What a block has beside its codes.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512vl")]
fn sums_and_scale(codes: __m256i, scale: f32) -> __m256i {
    // Sums of eight bytes without a sign, each 128 above the code; then those of sixteen at the places 0 and 4.
    let bytes = _mm256_xor_si256(codes, _mm256_set1_epi8(i8::MIN));
    let eights = _mm256_sad_epu8(bytes, _mm256_setzero_si256());
    let halves = _mm256_add_epi64(eights, _mm256_shuffle_epi32::<0b01_00_11_10>(eights));
    // At 1, 2 and 3, and again at 4, 5 and 6: that of the first half, of the last one, and of both.
    let one = _mm256_permutexvar_epi32(_mm256_set_epi32(0, 0, 4, 0, 0, 4, 0, 0), halves);
    let other = _mm256_maskz_permutexvar_epi32(0b0100_1000, _mm256_set_epi32(0, 4, 0, 0, 4, 0, 0, 0), halves);
    let excess = _mm256_set_epi32(0, -4096, -2048, -2048, -4096, -2048, -2048, 0);
    let sums = _mm256_add_epi32(_mm256_add_epi32(one, other), excess);
    let scale = _mm256_set1_ps(scale);
    let scaled = _mm256_castps_si256(_mm256_mul_ps(_mm256_cvtepi32_ps(sums), scale));
    _mm256_blend_epi32::<0b0000_0001>(_mm256_blend_epi32::<0b1111_0000>(sums, scaled), _mm256_castps_si256(scale))
}
