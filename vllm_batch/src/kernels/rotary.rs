//! Rotary position embedding, and writing rotated keys and values into the paged cache.

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Result, bail};
use half::f16;

use super::LANES;
use super::attention::MAX_PANELS;
use super::cache::{CacheNumber, SharedCache, round};
use super::isa::{Isa, per_isa};
use super::parallel::{Shared, for_each};
use super::registers::Registers;
use super::storage::{f32_slice, f32_slice_mut};

/// Heads of an attention layer. A row of `qkv` holds all query heads, then the key heads, then the value heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadShape {
    /// Query heads; a multiple of `num_kv_heads`.
    pub(crate) num_heads: usize,
    /// Key and value heads.
    pub(crate) num_kv_heads: usize,
    /// Numbers per head.
    pub(crate) head_dim: usize,
}

impl HeadShape {
    /// Width of a row of `qkv`.
    pub(crate) fn qkv_width(&self) -> usize {
        (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
    }

    /// `head_dim` rounded up to whole registers.
    pub(super) fn padded_dim(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Numbers that one head's keys, or values, take in one block.
    fn half_block(&self) -> usize {
        self.padded_dim() * LANES
    }

    /// Numbers in one block of one layer's cache: for each key head its keys as `[head_dim, 16 tokens]`, then its values
    /// as `[head_dim / 16, 16 tokens, 16]`.
    pub(crate) fn block_len(&self) -> usize {
        2 * self.num_kv_heads * self.half_block()
    }

    /// Where a head's keys start in the cache.
    pub(super) fn keys_at(&self, block: u32, kv_head: usize) -> usize {
        block as usize * self.block_len() + 2 * kv_head * self.half_block()
    }

    /// Where a head's values start in the cache.
    pub(super) fn values_at(&self, block: u32, kv_head: usize) -> usize {
        self.keys_at(block, kv_head) + self.half_block()
    }
}

/// Cosines and sines for each position: shape `[positions, pairs]`. A head's numbers after its first `2 * pairs` are not
/// turned, so that a table without pairs leaves heads as they are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RotaryTable {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl RotaryTable {
    /// The table for positions `0..positions`: pair `i` turns by `position * inv_freq[i]` and grows by `magnitude`.
    ///
    /// The angle is rounded to f32, as transformers computes it.
    pub(crate) fn new(inv_freq: &[f32], magnitude: f32, positions: usize) -> Self {
        let angles = (0..positions).flat_map(|position| inv_freq.iter().map(move |freq| position as f32 * freq));
        let turns = angles.map(|angle| f64::from(angle).sin_cos());
        let (sin, cos) = turns.map(|(sin, cos)| (sin as f32 * magnitude, cos as f32 * magnitude)).unzip();
        Self { cos, sin, half: inv_freq.len() }
    }

    /// Turns the head `x` to `position`.
    fn rotate_in_place(&self, x: &mut [f32], position: usize) {
        let range = position * self.half..(position + 1) * self.half;
        let (low, high) = x[..2 * self.half].split_at_mut(self.half);
        let turns = self.cos[range.clone()].iter().zip(&self.sin[range]);
        for ((low, high), (cos, sin)) in low.iter_mut().zip(high).zip(turns) {
            (*low, *high) = (*low * cos - *high * sin, *high * cos + *low * sin);
        }
    }

    /// Writes the head `x` turned to `position` through `put(index, value)`: pairs are `(i, i + pairs)`.
    #[inline]
    pub(super) fn rotate(&self, x: &[f32], position: usize, mut put: impl FnMut(usize, f32)) {
        let range = position * self.half..(position + 1) * self.half;
        let (turned, rest) = x.split_at(2 * self.half);
        let (low, high) = turned.split_at(self.half);
        let turns = self.cos[range.clone()].iter().zip(&self.sin[range]);
        for (i, ((low, high), (cos, sin))) in low.iter().zip(high).zip(turns).enumerate() {
            put(i, low * cos - high * sin);
            put(i + self.half, high * cos + low * sin);
        }
        for (i, value) in rest.iter().enumerate() {
            put(2 * self.half + i, *value);
        }
    }
}

/// Turns the query heads of `qkv` to their tokens' positions, where they are.
pub(crate) struct RotateQueries<'a> {
    /// The position of each token.
    pub(crate) positions: &'a [u32],
    /// The layer's heads.
    pub(crate) heads: HeadShape,
    /// Turns for each position.
    pub(crate) table: &'a RotaryTable,
}

impl InplaceOp1 for RotateQueries<'_> {
    fn name(&self) -> &'static str {
        "rotate_queries"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        check(layout, self.positions, self.heads)?;
        let (width, head_dim) = (self.heads.qkv_width(), self.heads.head_dim);
        let query_width = self.heads.num_heads * head_dim;
        let qkv = Shared::new(f32_slice_mut(storage, layout)?);
        for_each(self.positions.len(), query_width, |token| {
            // SAFETY: each call changes its own row.
            let queries = unsafe { qkv.part(token * width, query_width) };
            let position = self.positions[token] as usize;
            queries.chunks_exact_mut(head_dim).for_each(|head| self.table.rotate_in_place(head, position));
        });
        Ok(())
    }
}

/// Writes the rotated keys and the values of `qkv` into one layer's cache of f32 or f16, each token into its slot
/// (`block * 16 + offset`). No slot may occur twice.
pub(crate) struct KvWrite<'a> {
    /// The position of each token.
    pub(crate) positions: &'a [u32],
    /// The slot of each token.
    pub(crate) slots: &'a [u32],
    /// The layer's heads.
    pub(crate) heads: HeadShape,
    /// Turns for each position.
    pub(crate) table: &'a RotaryTable,
}

impl InplaceOp2 for KvWrite<'_> {
    fn name(&self) -> &'static str {
        "kv_write"
    }

    fn cpu_fwd(&self, cache: &mut CpuStorage, cl: &Layout, storage: &CpuStorage, layout: &Layout) -> Result<()> {
        check(layout, self.positions, self.heads)?;
        let qkv = f32_slice(storage, layout)?;
        let blocks = cl.shape().elem_count() / self.heads.block_len();
        if let Some(slot) = self.slots.iter().find(|slot| **slot as usize >= blocks * LANES) {
            bail!("kv_write: slot {slot} of {blocks} blocks");
        }
        let (cache, isa) = (SharedCache::of(cache, cl)?, Isa::detect());
        // A task is the keys or the values of one head.
        for_each(2 * self.heads.num_kv_heads, self.slots.len() * self.heads.head_dim, |task| {
            write_on(isa, self, qkv, cache, task);
        });
        Ok(())
    }
}

per_isa! { fn write_on(op: &KvWrite<'_>, qkv: &[f32], cache: SharedCache<'_>, task: usize) = write }

#[inline(always)]
fn write<V: Registers>(op: &KvWrite<'_>, qkv: &[f32], cache: SharedCache<'_>, task: usize) {
    match cache {
        SharedCache::F32(cache) => op.write_half::<V, f32>(qkv, cache, task),
        SharedCache::F16(cache) => op.write_half::<V, f16>(qkv, cache, task),
    }
}

impl KvWrite<'_> {
    /// Even tasks are the keys of a head, odd ones its values.
    #[inline(always)]
    fn write_half<V: Registers, T: CacheNumber>(&self, qkv: &[f32], cache: Shared<'_, T>, task: usize) {
        let HeadShape { num_heads, num_kv_heads, head_dim } = self.heads;
        let (kv_head, is_values, panels) = (task / 2, task % 2 == 1, self.heads.padded_dim() / LANES);
        let index = num_heads + usize::from(is_values) * num_kv_heads + kv_head;
        let (mut exact, mut rounded) = ([[0.0; LANES]; MAX_PANELS], [[T::default(); LANES]; MAX_PANELS]);
        for (token, slot) in self.slots.iter().enumerate() {
            let (block, offset) = (slot / LANES as u32, *slot as usize % LANES);
            let head = &qkv[token * self.heads.qkv_width() + index * head_dim..][..head_dim];
            let numbers = &mut exact.as_flattened_mut()[..head_dim];
            if is_values {
                numbers.copy_from_slice(head);
            } else {
                self.table.rotate(head, self.positions[token] as usize, |i, value| numbers[i] = value);
            }
            round::<V, T>(&exact[..panels], &mut rounded[..panels]);
            let start = self.heads.keys_at(block, kv_head) + usize::from(is_values) * self.heads.half_block();
            // SAFETY: each task writes its own half of its head's part of each block.
            let half_block = unsafe { cache.part(start, self.heads.half_block()) };
            if is_values {
                write_values(half_block, &rounded[..panels], offset);
            } else {
                write_keys(half_block, &rounded.as_flattened()[..head_dim], offset);
            }
        }
    }
}

#[inline(always)]
fn write_keys<T: CacheNumber>(half_block: &mut [T], keys: &[T], offset: usize) {
    for (lane, key) in half_block.as_chunks_mut::<LANES>().0.iter_mut().zip(keys) {
        lane[offset] = *key;
    }
}

#[inline(always)]
fn write_values<T: CacheNumber>(half_block: &mut [T], values: &[[T; LANES]], offset: usize) {
    if offset == 0 {
        // Attention multiplies the values after a query by zero: they must be numbers, whoever had the block.
        half_block.fill(T::default());
    }
    for (panel, values) in half_block.as_chunks_mut::<{ LANES * LANES }>().0.iter_mut().zip(values) {
        panel[offset * LANES..][..LANES].copy_from_slice(values);
    }
}

/// Checks the shape of `qkv` against the heads and the tokens.
fn check(layout: &Layout, positions: &[u32], heads: HeadShape) -> Result<()> {
    if layout.shape().dims2()? != (positions.len(), heads.qkv_width()) {
        bail!("qkv has the shape {:?} for {} tokens of {heads:?}", layout.shape(), positions.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotate(table: &RotaryTable, head: &[f32], position: usize) -> Vec<f32> {
        let mut turned = vec![f32::NAN; head.len()];
        table.rotate(head, position, |i, value| turned[i] = value);
        let mut in_place = head.to_vec();
        table.rotate_in_place(&mut in_place, position);
        assert_eq!(in_place, turned);
        turned
    }

    #[test]
    fn pairs_turn_and_grow_and_the_rest_stays() {
        let head = [3.0, 4.0, 4.0, 3.0, 5.0, 6.0];
        let quarter = std::f32::consts::FRAC_PI_2;
        let table = RotaryTable::new(&[quarter, 0.0], 2.0, 2);
        assert_eq!(rotate(&table, &head, 0), [6.0, 8.0, 8.0, 6.0, 5.0, 6.0]);
        let turned = rotate(&table, &head, 1);
        for (actual, expected) in turned.iter().zip([-8.0, 8.0, 6.0, 6.0, 5.0, 6.0]) {
            assert!((actual - expected).abs() < 1e-5, "{turned:?}");
        }
        assert_eq!(rotate(&RotaryTable::new(&[], 1.0, 2), &head, 1), head);
    }
}
