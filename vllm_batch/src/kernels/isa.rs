//! Which instruction set is there?

/// Instruction sets that kernels are compiled for, the widest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    /// What every processor of the architecture has (NEON on 64-bit Arm).
    Baseline,
    /// AVX2 with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 as in servers since 2017.
    #[cfg(target_arch = "x86_64")]
    Avx512,
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
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            found.push(Self::Avx2);
            if ["avx512f", "avx512vl", "avx512bw", "avx512dq"].map(detected).iter().all(|has| *has) {
                found.push(Self::Avx512);
            }
        }
        found
    }

    /// Every instruction set of this processor, the widest last.
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn available() -> Vec<Self> {
        vec![Self::Baseline]
    }
}

#[cfg(target_arch = "x86_64")]
fn detected(feature: &str) -> bool {
    match feature {
        "avx512f" => is_x86_feature_detected!("avx512f"),
        "avx512vl" => is_x86_feature_detected!("avx512vl"),
        "avx512bw" => is_x86_feature_detected!("avx512bw"),
        "avx512dq" => is_x86_feature_detected!("avx512dq"),
        _ => false,
    }
}

/// Declares a function that runs `$body` as compiled for the instruction set in its first argument. `$body` is an
/// `#[inline(always)]` function with one type parameter: its [`Registers`](super::registers::Registers).
macro_rules! per_isa {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        fn $name(isa: $crate::kernels::isa::Isa, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) {
                $body::<$crate::kernels::registers::Avx2>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512bw,avx512dq")]
            fn avx512($($arg: $type),*) {
                $body::<$crate::kernels::registers::Avx512>($($arg),*);
            }
            match isa {
                $crate::kernels::isa::Isa::Baseline => $body::<$crate::kernels::Lane>($($arg),*),
                // SAFETY: `Isa::available` reports AVX2 only where both features were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::isa::Isa::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: `Isa::available` reports AVX-512 only where all the features were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::isa::Isa::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(crate) use per_isa;
