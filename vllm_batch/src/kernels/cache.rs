//! The numbers of a cache of keys and values: f32, or f16, which take half the memory and half the time to fetch.

use candle_core::{CpuStorage, Layout, Result, bail};
use half::f16;

use super::parallel::Shared;
use super::registers::{Registers, Stored};
use super::storage::contiguous;
use super::{LANES, Lane};

/// A number of a cache.
pub(super) trait CacheNumber: Stored + Default + Send + Sync {
    /// The largest one, if f32 has larger ones.
    const MAX: Option<f32>;
}

impl CacheNumber for f32 {
    const MAX: Option<f32> = None;
}

impl CacheNumber for f16 {
    const MAX: Option<f32> = Some(f16::MAX.to_f32_const());
}

/// The numbers of one layer.
#[derive(Clone, Copy)]
pub(super) enum CacheNumbers<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
}

impl<'a> CacheNumbers<'a> {
    /// Those of a contiguous tensor.
    pub(super) fn of(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let (start, end) = contiguous(layout)?;
        match storage {
            CpuStorage::F32(numbers) => Ok(Self::F32(&numbers[start..end])),
            CpuStorage::F16(numbers) => Ok(Self::F16(&numbers[start..end])),
            other => unusable(other),
        }
    }

    /// How many these are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::F16(numbers) => numbers.len(),
        }
    }
}

/// The numbers of one layer, which several threads write to.
#[derive(Clone, Copy)]
pub(super) enum SharedCache<'a> {
    F32(Shared<'a, f32>),
    F16(Shared<'a, f16>),
}

impl<'a> SharedCache<'a> {
    /// Those of a contiguous tensor.
    pub(super) fn of(storage: &'a mut CpuStorage, layout: &Layout) -> Result<Self> {
        let (start, end) = contiguous(layout)?;
        match storage {
            CpuStorage::F32(numbers) => Ok(Self::F32(Shared::new(&mut numbers[start..end]))),
            CpuStorage::F16(numbers) => Ok(Self::F16(Shared::new(&mut numbers[start..end]))),
            other => unusable(other),
        }
    }
}

fn unusable<T>(storage: &CpuStorage) -> Result<T> {
    bail!("a cache of f32 or f16, not {:?}", candle_core::backend::BackendStorage::dtype(storage))
}

/// Rounds numbers to those of a cache, as many in `target` as in `numbers`. What is too large for it becomes its largest
/// number: an infinite key would make all that see it NaN. What is infinite already, or NaN, stays so, and is told where
/// the logits are looked at.
#[inline(always)]
pub(super) fn round<V: Registers, T: CacheNumber>(numbers: &[Lane], target: &mut [[T; LANES]]) {
    for (numbers, target) in numbers.iter().zip(target) {
        let numbers = match T::MAX {
            Some(max) => numbers.map(|x| if x.is_finite() { x.clamp(-max, max) } else { x }),
            None => *numbers,
        };
        // SAFETY: both are references; the caller runs on the instruction set of `V`.
        unsafe { T::store(V::load(&raw const numbers), target) }
    }
}

/// The same numbers as f32, one register's worth after the other.
#[inline(always)]
pub(super) fn widen<V: Registers>(numbers: &[[impl CacheNumber; LANES]], target: &mut [Lane]) {
    for (numbers, target) in numbers.iter().zip(target) {
        // SAFETY: both are references; the caller runs on the instruction set of `V`.
        unsafe { V::store(Stored::load(numbers), target) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::isa::{Isa, per_isa};

    per_isa! { fn round_on(numbers: &[Lane], target: &mut [[f16; LANES]]) = round_to_f16 }
    per_isa! { fn widen_on(numbers: &[[f16; LANES]], target: &mut [Lane]) = widen_f16 }

    #[inline(always)]
    fn round_to_f16<V: Registers>(numbers: &[Lane], target: &mut [[f16; LANES]]) {
        round::<V, f16>(numbers, target);
    }

    #[inline(always)]
    fn widen_f16<V: Registers>(numbers: &[[f16; LANES]], target: &mut [Lane]) {
        widen::<V>(numbers, target);
    }

    fn rounded(isa: Isa, numbers: &[f32]) -> Vec<u16> {
        let mut numbers = numbers.to_vec();
        let len = numbers.len();
        numbers.resize(len.next_multiple_of(LANES), 0.0);
        let mut halves = vec![[f16::NAN; LANES]; numbers.len() / LANES];
        round_on(isa, numbers.as_chunks().0, &mut halves);
        halves.as_flattened()[..len].iter().map(|half| half.to_bits()).collect()
    }

    #[test]
    fn every_number_of_f16_comes_back_on_every_instruction_set() {
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        for isa in Isa::available() {
            let mut wide = vec![[0.0; LANES]; halves.len() / LANES];
            widen_on(isa, halves.as_chunks().0, &mut wide);
            for ((half, wide), rounded) in halves.iter().zip(wide.as_flattened()).zip(rounded(isa, wide.as_flattened()))
            {
                assert!(half.to_f32_const().to_bits() == wide.to_bits() || (half.is_nan() && wide.is_nan()), "{half}");
                assert!(half.to_bits() == rounded || (half.is_nan() && f16::from_bits(rounded).is_nan()), "{half}");
            }
        }
    }

    #[test]
    fn between_two_numbers_the_nearer_one_or_the_even_one_is_taken_on_every_instruction_set() {
        let positive = (0..0x7bff_u16).map(|bits| (f16::from_bits(bits), f16::from_bits(bits + 1)));
        let (mut numbers, mut expected) = (vec![], vec![]);
        for (low, high) in positive {
            let middle = f32::midpoint(low.to_f32(), high.to_f32());
            let even = if low.to_bits().is_multiple_of(2) { low } else { high };
            numbers.extend([middle.next_down(), middle, middle.next_up(), -middle]);
            expected.extend([low.to_bits(), even.to_bits(), high.to_bits(), even.to_bits() | 0x8000]);
        }
        for isa in Isa::available() {
            assert!(rounded(isa, &numbers) == expected, "{isa:?}");
        }
    }

    #[test]
    fn what_is_too_large_becomes_the_largest_number_and_what_is_infinite_stays_so() {
        let numbers =
            [65_504.0, 65_519.9, 65_520.0, 1e9, f32::MAX, -65_520.0, f32::MIN, f32::INFINITY, f32::NEG_INFINITY];
        let (max, min) = (f16::MAX, f16::MIN);
        let expected = [max, max, max, max, max, min, min, f16::INFINITY, f16::NEG_INFINITY].map(f16::to_bits);
        for isa in Isa::available() {
            assert_eq!(rounded(isa, &numbers), expected, "{isa:?}");
            assert!(f16::from_bits(rounded(isa, &[f32::NAN])[0]).is_nan(), "{isa:?}");
        }
    }
}
