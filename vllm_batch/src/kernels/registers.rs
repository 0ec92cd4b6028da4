//! Sixteen numbers in vector registers, on each instruction set.

use half::f16;

use super::{LANES, Lane};

/// Sixteen numbers, in as many registers as they take.
///
/// # Safety
/// All functions need the instruction set of the implementing type. They are called only from functions that
/// `per_isa!` compiled for it.
pub(super) trait Registers: Copy {
    /// Whether sixteen numbers are one register of many, so that a tile can hold four panels.
    const WIDE: bool;

    /// The numbers at `source`, which may lie anywhere.
    ///
    /// # Safety
    /// `source` must be readable.
    unsafe fn load(source: *const Lane) -> Self;

    /// The f16 numbers at `source`, which may lie anywhere, widened.
    ///
    /// # Safety
    /// `source` must be readable.
    unsafe fn load_f16(source: *const [f16; LANES]) -> Self;

    /// Sixteen times `x`.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn splat(x: f32) -> Self;

    /// `self * factor`.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn mul(self, factor: Self) -> Self;

    /// `self * factor + addend`, rounded once.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;

    /// Writes the numbers to `target`, which may lie anywhere.
    ///
    /// # Safety
    /// `target` must be writable.
    unsafe fn store(self, target: *mut Lane);

    /// Writes the numbers to `target`, which may lie anywhere, rounded to the nearest f16, to the even one of two.
    ///
    /// # Safety
    /// `target` must be writable.
    #[inline(always)]
    unsafe fn store_f16(self, target: *mut [f16; LANES]) {
        let mut numbers = [0.0; LANES];
        // SAFETY: `numbers` is writable, and so is `target`, as the caller promises.
        unsafe {
            self.store(&raw mut numbers);
            target.write_unaligned(numbers.map(f16::from_f32_const));
        }
    }
}

/// A number as it lies in memory. In registers it is f32.
pub(super) trait Stored: Copy {
    /// Sixteen of them, at `source`, which may lie anywhere.
    ///
    /// # Safety
    /// As [`Registers::load`].
    unsafe fn load<V: Registers>(source: *const [Self; LANES]) -> V;

    /// Writes sixteen of them to `target`, which may lie anywhere.
    ///
    /// # Safety
    /// As [`Registers::store`].
    unsafe fn store<V: Registers>(numbers: V, target: *mut [Self; LANES]);
}

impl Stored for f32 {
    #[inline(always)]
    unsafe fn load<V: Registers>(source: *const Lane) -> V {
        // SAFETY: as the caller promises.
        unsafe { V::load(source) }
    }

    #[inline(always)]
    unsafe fn store<V: Registers>(numbers: V, target: *mut Lane) {
        // SAFETY: as the caller promises.
        unsafe { numbers.store(target) }
    }
}

impl Stored for f16 {
    #[inline(always)]
    unsafe fn load<V: Registers>(source: *const [Self; LANES]) -> V {
        // SAFETY: as the caller promises.
        unsafe { V::load_f16(source) }
    }

    #[inline(always)]
    unsafe fn store<V: Registers>(numbers: V, target: *mut [Self; LANES]) {
        // SAFETY: as the caller promises.
        unsafe { numbers.store_f16(target) }
    }
}

/// Whatever the compiler makes of plain arrays.
impl Registers for Lane {
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn load(source: *const Lane) -> Self {
        // SAFETY: readable, as the caller promises.
        unsafe { source.read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_f16(source: *const [f16; LANES]) -> Self {
        // SAFETY: readable, as the caller promises.
        unsafe { source.read_unaligned() }.map(f16::to_f32_const)
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn mul(mut self, factor: Self) -> Self {
        for (x, factor) in self.iter_mut().zip(factor) {
            *x *= factor;
        }
        self
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, mut addend: Self) -> Self {
        for (sum, (a, b)) in addend.iter_mut().zip(self.iter().zip(factor)) {
            *sum = a.mul_add(b, *sum);
        }
        addend
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut Lane) {
        // SAFETY: writable, as the caller promises.
        unsafe { target.write_unaligned(self) }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128, _mm_storeu_si128,
        _mm256_cvtph_ps, _mm256_cvtps_ph, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_mul_ps,
        _mm256_set1_ps, _mm256_storeu_ps, _mm256_storeu_si256, _mm512_cvtph_ps, _mm512_cvtps_ph, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_storeu_ps,
    };

    use half::f16;

    use super::{LANES, Lane, Registers};

    /// Two registers of eight.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(pub(in super::super) __m256, pub(in super::super) __m256);

    impl Registers for Avx2 {
        const WIDE: bool = false;

        #[inline(always)]
        unsafe fn load(source: *const Lane) -> Self {
            // SAFETY: sixteen numbers are readable, as the caller promises.
            unsafe { Self(_mm256_loadu_ps(source.cast()), _mm256_loadu_ps(source.cast::<f32>().add(8))) }
        }

        #[inline(always)]
        unsafe fn load_f16(source: *const [f16; LANES]) -> Self {
            let halves = source.cast();
            // SAFETY: sixteen numbers are readable, as the caller promises, and F16C is part of its set.
            unsafe { Self(_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves.add(1)))) }
        }

        #[inline(always)]
        unsafe fn mul(self, factor: Self) -> Self {
            // SAFETY: the caller runs on AVX2.
            unsafe { Self(_mm256_mul_ps(self.0, factor.0), _mm256_mul_ps(self.1, factor.1)) }
        }

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: the caller runs on AVX2.
            let half = unsafe { _mm256_set1_ps(x) };
            Self(half, half)
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
            // SAFETY: the caller runs on AVX2 with FMA.
            unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, addend.0), _mm256_fmadd_ps(self.1, factor.1, addend.1)) }
        }

        #[inline(always)]
        unsafe fn store(self, target: *mut Lane) {
            // SAFETY: sixteen numbers are writable, as the caller promises.
            unsafe {
                _mm256_storeu_ps(target.cast(), self.0);
                _mm256_storeu_ps(target.cast::<f32>().add(8), self.1);
            }
        }

        #[inline(always)]
        unsafe fn store_f16(self, target: *mut [f16; LANES]) {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;
            let halves = target.cast();
            // SAFETY: sixteen numbers are writable, as the caller promises, and F16C is part of its set.
            unsafe {
                _mm_storeu_si128(halves, _mm256_cvtps_ph::<NEAREST>(self.0));
                _mm_storeu_si128(halves.add(1), _mm256_cvtps_ph::<NEAREST>(self.1));
            }
        }
    }

    /// One register.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(pub(in super::super) __m512);

    impl Registers for Avx512 {
        const WIDE: bool = true;

        #[inline(always)]
        unsafe fn load(source: *const Lane) -> Self {
            // SAFETY: sixteen numbers are readable, as the caller promises.
            unsafe { Self(_mm512_loadu_ps(source.cast())) }
        }

        #[inline(always)]
        unsafe fn load_f16(source: *const [f16; LANES]) -> Self {
            // SAFETY: sixteen numbers are readable, as the caller promises.
            unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(source.cast()))) }
        }

        #[inline(always)]
        unsafe fn mul(self, factor: Self) -> Self {
            // SAFETY: the caller runs on AVX-512.
            unsafe { Self(_mm512_mul_ps(self.0, factor.0)) }
        }

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: the caller runs on AVX-512.
            unsafe { Self(_mm512_set1_ps(x)) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
            // SAFETY: the caller runs on AVX-512.
            unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, addend.0)) }
        }

        #[inline(always)]
        unsafe fn store(self, target: *mut Lane) {
            // SAFETY: sixteen numbers are writable, as the caller promises.
            unsafe { _mm512_storeu_ps(target.cast(), self.0) }
        }

        #[inline(always)]
        unsafe fn store_f16(self, target: *mut [f16; LANES]) {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            // SAFETY: sixteen numbers are writable, as the caller promises.
            unsafe { _mm256_storeu_si256(target.cast(), _mm512_cvtps_ph::<NEAREST>(self.0)) }
        }
    }
}
