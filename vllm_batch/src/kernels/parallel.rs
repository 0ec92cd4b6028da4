//! Letting threads write disjoint parts of one result.

use super::team::for_each_index;

/// A slice that several threads may write to, each to its own part.
pub(super) struct Shared<'a, T = f32> {
    start: *mut T,
    len: usize,
    lifetime: std::marker::PhantomData<&'a mut [T]>,
}

impl<'a> Shared<'a> {
    /// `width` numbers of each of `rows` rows, the first one from `start` on, the others at distances of `stride`.
    ///
    /// # Safety
    /// As [`part`](Self::part), for each of the rows.
    ///
    /// # Panics
    /// If the last row does not lie within the slice.
    pub(super) unsafe fn rows(&self, start: usize, stride: usize, (rows, width): (usize, usize)) -> Strided<'a> {
        let end = if rows == 0 { start } else { start + (rows - 1) * stride + width };
        assert!(end <= self.len, "{rows} rows of {width} from {start} on, of {}", self.len);
        // SAFETY: within the slice as asserted.
        let start = unsafe { self.start.add(start) };
        Strided { start, stride, width, rows, lifetime: std::marker::PhantomData }
    }
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

// SAFETY: `part` is the only access, and its contract forbids overlapping parts.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), lifetime: std::marker::PhantomData }
    }

    /// `len` elements from `start` on.
    ///
    /// # Safety
    /// No two parts that are alive at the same time may overlap.
    ///
    /// # Panics
    /// If the part does not lie within the slice.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn part(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start + len <= self.len, "part {start}+{len} of {}", self.len);
        // SAFETY: within the slice as asserted; exclusive as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

/// Rows of numbers at equal distances, to write to.
#[derive(Clone, Copy)]
pub(super) struct Strided<'a> {
    start: *mut f32,
    /// Numbers from one row's start to the next one's.
    stride: usize,
    /// Length of a row.
    width: usize,
    /// Number of rows.
    rows: usize,
    lifetime: std::marker::PhantomData<&'a mut [f32]>,
}

impl<'a> Strided<'a> {
    /// Rows without a distance between them.
    pub(super) fn new(numbers: &'a mut [f32], width: usize) -> Self {
        let rows = numbers.len().checked_div(width).unwrap_or(0);
        Self { start: numbers.as_mut_ptr(), stride: width, width, rows, lifetime: std::marker::PhantomData }
    }

    /// The start of the first row and the distance to the next one: of each of `rows` rows, `width` numbers may be read
    /// and written.
    ///
    /// # Panics
    /// If there are no such rows of such a width.
    pub(super) fn start(&self, rows: usize, width: usize) -> (*mut f32, usize) {
        assert!(rows <= self.rows && width <= self.width, "{rows} x {width} of {} x {}", self.rows, self.width);
        (self.start, self.stride)
    }
}

/// Below this many numbers of work a second thread costs more than it brings.
const MIN_WORK: usize = 16 * 1024;

/// Runs `work` for `0..count`, on the installed [`Team`](super::Team) if there are enough numbers for several threads.
pub(super) fn for_each(count: usize, numbers_per_call: usize, work: impl Fn(usize) + Sync) {
    if count * numbers_per_call < 2 * MIN_WORK {
        (0..count).for_each(work);
    } else {
        for_each_index(count, MIN_WORK.div_ceil(numbers_per_call.max(1)), &work);
    }
}
