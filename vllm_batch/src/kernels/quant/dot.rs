//! Sums of products of bytes, sixteen columns at a time, on each instruction set.

use super::matrix::CacheLine;
use crate::kernels::registers::Registers;
use crate::kernels::{LANES, Lane};

/// How an instruction set sums products of codes (0 to 255) and activations (−127 to 127) in groups of at most 32.
///
/// The sums are those of integers without any limit: exact, and so the same on every instruction set.
///
/// # Safety
/// All functions need the instruction set of the implementing type. They are called only from functions that
/// `per_dot!` compiled for it. Pointers must be readable.
pub(super) trait Dot {
    /// Sixteen floats.
    type Floats: Registers;
    /// A quad of codes of sixteen columns.
    type Codes: Copy;
    /// A quad of activations, as [`add`](Self::add) needs it.
    type Quad: Copy;
    /// The sums of sixteen columns.
    type Sums: Copy;

    /// Whether a tile of four rows and a panel fits the registers; else two rows are the most.
    const FOUR_ROWS: bool = true;

    /// What [`add`](Self::add) takes off each code of a format whose greatest code is this: nothing, unless it has to.
    #[inline(always)]
    fn bias(_max_code: u8) -> i32 {
        0
    }

    /// After so many quads at most, [`fold`](Self::fold) or [`end`](Self::end) must be called: never, with sums of 32 bits.
    #[inline(always)]
    fn quads_between_folds(_max_code: u8) -> usize {
        usize::MAX
    }

    /// A line of codes of a byte each.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn bytes(line: *const CacheLine, max_code: u8) -> Self::Codes;

    /// The low or the high nibbles of a line.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn nibbles(line: *const CacheLine, high: bool) -> Self::Codes;

    /// The activations of quad `I` of the group that begins there, for all columns.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn quad<const I: usize>(group: *const [i8; 4]) -> Self::Quad;

    /// Sums to which nothing was added, of a group whose sums begin at `start`.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn begin(start: i32) -> Self::Sums;

    /// Adds the products of quad `I` of a group.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn add<const I: usize>(sums: Self::Sums, codes: Self::Codes, quad: Self::Quad, max_code: u8) -> Self::Sums;

    /// Makes room for more products.
    ///
    /// # Safety
    /// See the trait.
    #[inline(always)]
    unsafe fn fold(sums: Self::Sums) -> Self::Sums {
        sums
    }

    /// The sums of a group that began at `start`.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn end(sums: Self::Sums, start: i32) -> Self::Floats;
}

/// Whatever the compiler makes of plain arrays.
pub(super) enum Plain {}

impl Dot for Plain {
    type Floats = Lane;
    type Codes = [u8; 64];
    type Quad = [i8; 4];
    type Sums = [i32; LANES];

    #[inline(always)]
    unsafe fn bytes(line: *const CacheLine, _: u8) -> Self::Codes {
        // SAFETY: readable, as the caller promises.
        unsafe { (*line).0 }
    }

    #[inline(always)]
    unsafe fn nibbles(line: *const CacheLine, high: bool) -> Self::Codes {
        // SAFETY: readable, as the caller promises.
        unsafe { (*line).0 }.map(|byte| if high { byte >> 4 } else { byte & 15 })
    }

    #[inline(always)]
    unsafe fn quad<const I: usize>(group: *const [i8; 4]) -> Self::Quad {
        // SAFETY: readable, as the caller promises.
        unsafe { *group.add(I) }
    }

    #[inline(always)]
    unsafe fn begin(start: i32) -> Self::Sums {
        [start; LANES]
    }

    #[inline(always)]
    unsafe fn add<const I: usize>(mut sums: Self::Sums, codes: Self::Codes, quad: Self::Quad, _: u8) -> Self::Sums {
        for (sum, codes) in sums.iter_mut().zip(codes.as_chunks::<4>().0) {
            for (code, activation) in codes.iter().zip(quad) {
                *sum += i32::from(i16::from(*code) * i16::from(activation));
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn end(sums: Self::Sums, _: i32) -> Self::Floats {
        sums.map(|sum| sum as f32)
    }
}

/// Declares a function with one type parameter, the [`Form`](super::tile::Form), that runs `$body` as compiled for the
/// instruction set in its first argument. `$body` is an `#[inline(always)]` function with two type parameters: the
/// [`Dot`] of the instruction set, and the form.
macro_rules! per_dot {
    ($(#[$meta:meta])* fn $name:ident<$form:ident>($($arg:ident: $type:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        fn $name<F: $form>(isa: $crate::kernels::isa::Isa, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2<F: $form>($($arg: $type),*) {
                $body::<$crate::kernels::quant::dot_x86::Avx2, F>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
            fn avx_vnni<F: $form>($($arg: $type),*) {
                $body::<$crate::kernels::quant::dot_x86::AvxVnni, F>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq,avx512vnni")]
            fn avx512_vnni<F: $form>($($arg: $type),*) {
                $body::<$crate::kernels::quant::dot_x86::Avx512Vnni, F>($($arg),*);
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            fn neon<F: $form>($($arg: $type),*) {
                $body::<$crate::kernels::quant::dot_neon::Neon, F>($($arg),*);
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon,dotprod")]
            fn neon_dotprod<F: $form>($($arg: $type),*) {
                $body::<$crate::kernels::quant::dot_neon::Dotprod, F>($($arg),*);
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon,i8mm")]
            fn neon_i8mm<F: $form>($($arg: $type),*) {
                $body::<$crate::kernels::quant::dot_neon::I8mm, F>($($arg),*);
            }
            match isa {
                $crate::kernels::isa::Isa::Baseline => $body::<$crate::kernels::quant::dot::Plain, F>($($arg),*),
                // SAFETY: `Isa::available` reports these only where the features of AVX2 were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::isa::Isa::Avx2 | $crate::kernels::isa::Isa::Avx512 => unsafe {
                    avx2::<F>($($arg),*);
                },
                // SAFETY: `Isa::available` reports this only where all the features were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::isa::Isa::AvxVnni => unsafe { avx_vnni::<F>($($arg),*) },
                // SAFETY: `Isa::available` reports this only where all the features were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::isa::Isa::Avx512Vnni => unsafe { avx512_vnni::<F>($($arg),*) },
                // SAFETY: `Isa::available` reports this only where Neon was detected.
                #[cfg(target_arch = "aarch64")]
                $crate::kernels::isa::Isa::Neon => unsafe { neon::<F>($($arg),*) },
                // SAFETY: `Isa::available` reports this only where all the features were detected.
                #[cfg(target_arch = "aarch64")]
                $crate::kernels::isa::Isa::NeonDotprod => unsafe { neon_dotprod::<F>($($arg),*) },
                // SAFETY: `Isa::available` reports this only where all the features were detected.
                #[cfg(target_arch = "aarch64")]
                $crate::kernels::isa::Isa::NeonI8mm => unsafe { neon_i8mm::<F>($($arg),*) },
            }
        }
    };
}
pub(super) use per_dot;
