//! From candle's storage to plain slices.

use candle_core::{CpuStorage, Layout, Result, bail};

use super::{LANES, Lane};

/// The numbers of a contiguous f32 tensor.
pub(super) fn f32_slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (start, end) = contiguous(layout)?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// The numbers of a contiguous f32 tensor, to write to.
pub(super) fn f32_slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let (start, end) = contiguous(layout)?;
    match storage {
        CpuStorage::F32(numbers) => Ok(&mut numbers[start..end]),
        other => bail!("expected f32, found {:?}", candle_core::backend::BackendStorage::dtype(other)),
    }
}

/// The same numbers, one register's worth at a time; their count is a multiple of [`LANES`].
#[inline(always)]
pub(super) fn lanes(numbers: &[f32]) -> &[Lane] {
    debug_assert_eq!(numbers.len() % LANES, 0);
    numbers.as_chunks().0
}

/// The same numbers to write to, one register's worth at a time; their count is a multiple of [`LANES`].
#[inline(always)]
pub(super) fn lanes_mut(numbers: &mut [f32]) -> &mut [Lane] {
    debug_assert_eq!(numbers.len() % LANES, 0);
    numbers.as_chunks_mut().0
}

/// Where the numbers of a contiguous tensor lie.
pub(super) fn contiguous(layout: &Layout) -> Result<(usize, usize)> {
    match layout.contiguous_offsets() {
        Some(offsets) => Ok(offsets),
        None => bail!("expected a contiguous tensor, found the strides {:?}", layout.stride()),
    }
}
