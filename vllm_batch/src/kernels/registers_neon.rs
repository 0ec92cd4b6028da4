//! Sixteen numbers in vector registers of 64-bit Arm.

use std::arch::aarch64::{
    float32x4_t, vcvt_f16_f32, vcvt_f32_f16, vdupq_n_f32, vfmaq_f32, vld1_u16, vld1q_f32, vmulq_f32,
    vreinterpret_f16_u16, vreinterpret_u16_f16, vst1_u16, vst1q_f32,
};

use half::f16;

use super::registers::Registers;
use super::{LANES, Lane};

/// Four registers of four.
///
/// Neon has 32 registers of 16 bytes, as many bytes as AVX2 has in 16 of 32, so the tiles of AVX2 fit it too: six rows and
/// a panel are 24 registers of sums and four of weights, which leaves four for the factors.
#[derive(Clone, Copy)]
pub(super) struct Neon(pub(super) [float32x4_t; 4]);

impl Registers for Neon {
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn load(source: *const Lane) -> Self {
        let first = source.cast::<f32>();
        // SAFETY: sixteen numbers are readable, as the caller promises.
        unsafe { Self([vld1q_f32(first), vld1q_f32(first.add(4)), vld1q_f32(first.add(8)), vld1q_f32(first.add(12))]) }
    }

    #[inline(always)]
    unsafe fn load_f16(source: *const [f16; LANES]) -> Self {
        // SAFETY: sixteen numbers are readable, as the caller promises.
        unsafe { Self([widen(source, 0), widen(source, 4), widen(source, 8), widen(source, 12)]) }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller runs on Neon.
        Self([unsafe { vdupq_n_f32(x) }; 4])
    }

    #[inline(always)]
    unsafe fn mul(mut self, factor: Self) -> Self {
        for (x, factor) in self.0.iter_mut().zip(factor.0) {
            // SAFETY: the caller runs on Neon.
            *x = unsafe { vmulq_f32(*x, factor) };
        }
        self
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, mut addend: Self) -> Self {
        for (sum, (a, b)) in addend.0.iter_mut().zip(self.0.into_iter().zip(factor.0)) {
            // SAFETY: the caller runs on Neon.
            *sum = unsafe { vfmaq_f32(*sum, a, b) };
        }
        addend
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut Lane) {
        for (i, numbers) in self.0.into_iter().enumerate() {
            // SAFETY: sixteen numbers are writable, as the caller promises.
            unsafe { vst1q_f32(target.cast::<f32>().add(4 * i), numbers) };
        }
    }

    #[inline(always)]
    unsafe fn store_f16(self, target: *mut [f16; LANES]) {
        for (i, numbers) in self.0.into_iter().enumerate() {
            // SAFETY: sixteen numbers are writable, as the caller promises, and an f16 has the size of its bits.
            unsafe { vst1_u16(target.cast::<u16>().add(4 * i), vreinterpret_u16_f16(vcvt_f16_f32(numbers))) };
        }
    }
}

/// Four f16 numbers from number `first` on, as f32.
///
/// # Safety
/// Needs Neon; `source` must be readable.
#[inline(always)]
unsafe fn widen(source: *const [f16; LANES], first: usize) -> float32x4_t {
    // SAFETY: as the caller promises, and an f16 has the size of its bits.
    unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(source.cast::<u16>().add(first)))) }
}
