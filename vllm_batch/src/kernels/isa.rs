//! Which instruction set is there?

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected;

/// Instruction sets that kernels are compiled for, the widest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    /// Plain code for every processor of the architecture.
    Baseline,
    /// AVX2 with fused multiply-add and half precision.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX2, and dot products of bytes.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 as in servers since 2017.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512, and dot products of bytes.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// Neon, as in every 64-bit Arm processor that runs an operating system.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Neon, and dot products of bytes: Armv8.4, and many processors since 2017.
    #[cfg(target_arch = "aarch64")]
    NeonDotprod,
    /// Neon, and dot products of unsigned and signed bytes: Armv8.6.
    #[cfg(target_arch = "aarch64")]
    NeonI8mm,
}

impl Isa {
    /// The widest instruction set of this processor.
    pub(crate) fn detect() -> Self {
        Self::available().pop().unwrap_or(Self::Baseline)
    }

    /// Every instruction set of this processor, the widest last.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn available() -> Vec<Self> {
        let mut found = vec![Self::Baseline];
        if has(&["avx2", "fma", "f16c"]) {
            found.push(Self::Avx2);
            if has(&["avxvnni"]) {
                found.push(Self::AvxVnni);
            }
            if has(&["avx512f", "avx512vl", "avx512bw", "avx512dq"]) {
                found.push(Self::Avx512);
                if has(&["avx512vnni"]) {
                    found.push(Self::Avx512Vnni);
                }
            }
        }
        found
    }

    /// Every instruction set of this processor, the widest last.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn available() -> Vec<Self> {
        let mut found = vec![Self::Baseline];
        if is_aarch64_feature_detected!("neon") {
            found.push(Self::Neon);
            if is_aarch64_feature_detected!("dotprod") {
                found.push(Self::NeonDotprod);
            }
            if is_aarch64_feature_detected!("i8mm") {
                found.push(Self::NeonI8mm);
            }
        }
        found
    }

    /// Every instruction set of this processor, the widest last.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub(crate) fn available() -> Vec<Self> {
        vec![Self::Baseline]
    }
}

/// Whether this processor has all of these features.
#[cfg(target_arch = "x86_64")]
fn has(features: &[&str]) -> bool {
    features.iter().all(|feature| match *feature {
        "avx2" => is_x86_feature_detected!("avx2"),
        "fma" => is_x86_feature_detected!("fma"),
        "f16c" => is_x86_feature_detected!("f16c"),
        "avxvnni" => is_x86_feature_detected!("avxvnni"),
        "avx512f" => is_x86_feature_detected!("avx512f"),
        "avx512vl" => is_x86_feature_detected!("avx512vl"),
        "avx512bw" => is_x86_feature_detected!("avx512bw"),
        "avx512dq" => is_x86_feature_detected!("avx512dq"),
        "avx512vnni" => is_x86_feature_detected!("avx512vnni"),
        _ => false,
    })
}

/// Declares a function that runs `$body` as compiled for the instruction set in its first argument. `$body` is an
/// `#[inline(always)]` function with one type parameter: its [`Registers`](super::registers::Registers).
macro_rules! per_isa {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        fn $name(isa: $crate::kernels::isa::Isa, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2($($arg: $type),*) {
                $body::<$crate::kernels::registers::Avx2>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512bw,avx512dq")]
            fn avx512($($arg: $type),*) {
                $body::<$crate::kernels::registers::Avx512>($($arg),*);
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            fn neon($($arg: $type),*) {
                $body::<$crate::kernels::registers_neon::Neon>($($arg),*);
            }
            match isa {
                $crate::kernels::isa::Isa::Baseline => $body::<$crate::kernels::Lane>($($arg),*),
                // SAFETY: `Isa::available` reports these only where the features of AVX2 were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::isa::Isa::Avx2 | $crate::kernels::isa::Isa::AvxVnni => unsafe { avx2($($arg),*) },
                // SAFETY: `Isa::available` reports these only where the features of AVX-512 were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::isa::Isa::Avx512 | $crate::kernels::isa::Isa::Avx512Vnni => unsafe { avx512($($arg),*) },
                // SAFETY: `Isa::available` reports these only where Neon was detected.
                #[cfg(target_arch = "aarch64")]
                $crate::kernels::isa::Isa::Neon
                | $crate::kernels::isa::Isa::NeonDotprod
                | $crate::kernels::isa::Isa::NeonI8mm => unsafe { neon($($arg),*) },
            }
        }
    };
}
pub(crate) use per_isa;

#[cfg(all(test, target_arch = "aarch64"))]
mod tests {
    use super::*;

    /// `scripts/test_aarch64.sh` runs this on an emulated processor that has everything, so that the tests of kernels, which
    /// take what is there, leave nothing out.
    #[test]
    #[ignore = "needs a processor with dot products and 8-bit matrix products"]
    fn a_processor_with_everything_has_all_instruction_sets() {
        assert_eq!(Isa::available(), [Isa::Baseline, Isa::Neon, Isa::NeonDotprod, Isa::NeonI8mm]);
    }

    /// As above, on a processor of 2016.
    #[test]
    #[ignore = "needs a processor without dot products"]
    fn a_processor_without_dot_products_has_neon() {
        assert_eq!(Isa::available(), [Isa::Baseline, Isa::Neon]);
    }
}
