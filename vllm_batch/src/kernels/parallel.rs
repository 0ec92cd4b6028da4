//! Letting threads write disjoint parts of one result.

use rayon::prelude::*;

/// A slice that several threads may write to, each to its own part.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    start: *mut f32,
    len: usize,
    lifetime: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: `part` is the only access, and its contract forbids overlapping parts.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn new(slice: &'a mut [f32]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), lifetime: std::marker::PhantomData }
    }

    /// `len` numbers from `start` on.
    ///
    /// # Safety
    /// No two parts that are alive at the same time may overlap.
    ///
    /// # Panics
    /// If the part does not lie within the slice.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn part(&self, start: usize, len: usize) -> &'a mut [f32] {
        assert!(start + len <= self.len, "part {start}+{len} of {}", self.len);
        // SAFETY: within the slice as asserted; exclusive as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

/// Below this many numbers of work a second thread costs more than it brings.
const MIN_WORK: usize = 16 * 1024;

/// Runs `work` for `0..count`, on the current thread pool if each call touches enough numbers.
pub(super) fn for_each(count: usize, numbers_per_call: usize, work: impl Fn(usize) + Sync + Send) {
    if count * numbers_per_call < 2 * MIN_WORK {
        (0..count).for_each(work);
    } else {
        let min_len = MIN_WORK.div_ceil(numbers_per_call.max(1));
        (0..count).into_par_iter().with_min_len(min_len).for_each(work);
    }
}
