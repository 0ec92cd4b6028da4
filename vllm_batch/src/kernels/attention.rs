//! Attention over a paged cache of keys and values, for any mix of sequences.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp3, Layout, Result, bail};
use half::f16;

use super::cache::{CacheNumber, CacheNumbers, widen};
use super::exp::exp;
use super::isa::{Isa, per_isa};
use super::norm::sum_lane;
use super::parallel::{Shared, for_each};
use super::registers::Registers;
use super::rotary::HeadShape;
use super::spans::{BLOCKS_PER_STEP, HeldBlocks, MAX_ROWS, QuerySpan, QueryTiles, Segment};
use super::storage::{f32_slice, f32_slice_mut};
use super::tanh::tanh;
use super::tile::{Rows, multiply};
use super::{LANES, Lane};

/// Largest head that fits the registers' scratch space.
pub(crate) const MAX_HEAD_DIM: usize = 256;
/// Registers that such a head takes.
pub(super) const MAX_PANELS: usize = MAX_HEAD_DIM / LANES;
/// So many rows read a narrow cache as it is; for more of them, what they read is widened first, once for all.
const MAX_NARROW_ROWS: usize = 6;

/// `softmax(cap(q · kᵀ · scale)) · v` per head, each query over the keys at and before its own position, or over all of its
/// span's if it is not causal, and within its window. Written to `[tokens, num_heads * head_dim]`; the operands are `qkv`,
/// whose queries are rotated, and a layer's cache, whose numbers may be f16. All arithmetic is f32.
///
/// The softmax runs over the keys in steps of 64 positions, with a running maximum (Milakov and Gimelshein,
/// <https://arxiv.org/abs/1805.02867>): the order depends on a query's position alone. Steps that no query of a task can
/// see are left out; where another query of its sequence and tile can, their keys count as minus infinity and add exact zeros.
pub(crate) struct Attention<'a> {
    /// The sequences.
    pub(crate) spans: &'a [QuerySpan],
    /// How their rows go over the keys.
    pub(crate) tiles: &'a QueryTiles,
    /// The layer's heads.
    pub(crate) heads: HeadShape,
    /// Factor of the scores.
    pub(crate) scale: f32,
    /// Scores grow to at most this: `soft_cap * tanh(score / soft_cap)`.
    pub(crate) soft_cap: Option<f32>,
    /// Keys that a query sees: its own and those before it, so many in all. At least 1; all if absent.
    pub(crate) window: Option<usize>,
    /// Whether a query sees no key after its own. Otherwise it sees what the span's last one sees.
    pub(crate) causal: bool,
    /// Instruction set to use.
    pub(crate) isa: Isa,
}

impl InplaceOp3 for Attention<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        out: &mut CpuStorage,
        ol: &Layout,
        qkv: &CpuStorage,
        ql: &Layout,
        cache: &CpuStorage,
        cl: &Layout,
    ) -> Result<()> {
        let (qkv, cache) = (f32_slice(qkv, ql)?, CacheNumbers::of(cache, cl)?);
        let out = f32_slice_mut(out, ol)?;
        self.check(qkv, cache.len(), out)?;
        let shared = Shared::new(out);
        let context = self.spans.iter().map(|span| span.position + span.query_len).max().unwrap_or(0);
        let tiles = self.tiles.tiles.len();
        for_each(tiles * self.heads.num_kv_heads, context * self.heads.head_dim, |task| {
            self.task(&self.tiles.tiles[task % tiles], task / tiles, (qkv, cache), shared);
        });
        Ok(())
    }
}

impl Attention<'_> {
    fn check(&self, qkv: &[f32], cache_len: usize, out: &[f32]) -> Result<()> {
        let blocks = cache_len / self.heads.block_len();
        let rows = (qkv.len() / self.heads.qkv_width()).min(out.len() / (self.heads.num_heads * self.heads.head_dim));
        for span in self.spans {
            let needed = self.first_visible(span.position) / LANES..(span.position + span.query_len).div_ceil(LANES);
            let in_cache = span.block_table.ids.iter().all(|block| (*block as usize) < blocks);
            let in_rows = span.query_start + span.query_len <= rows;
            if !span.block_table.hold(needed) || !in_cache || !in_rows {
                bail!("attention: {span:?} does not fit {blocks} blocks and {rows} rows");
            }
        }
        Ok(())
    }

    fn task(&self, segments: &[Segment], kv_head: usize, (qkv, cache): (&[f32], CacheNumbers<'_>), out: Shared<'_>) {
        let HeadShape { num_heads, head_dim, .. } = self.heads;
        let group = self.tiles.group;
        let rows = || segments.iter().flat_map(|segment| segment.rows.clone().map(move |row| (segment.span, row)));
        let place =
            |span: usize, row: usize| (self.spans[span].query_start + row / group, kv_head * group + row % group);
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            for (span, row) in rows() {
                let (token, head) = place(span, row);
                let query = &qkv[token * self.heads.qkv_width() + head * head_dim..][..head_dim];
                scratch.queries.extend_from_slice(query);
                let seen = if self.causal { row / group } else { self.spans[span].query_len - 1 };
                scratch.positions.push(self.spans[span].position + seen);
            }
            let panels = self.heads.padded_dim() / LANES;
            scratch.sums.resize(scratch.positions.len() * panels, [0.0; LANES]);
            let Scratch { queries, positions, sums, wide } = scratch;
            let tile = Tile { attention: self, queries, positions, segments };
            attend_on(self.isa, &tile, (cache, kv_head), (sums, wide));
            for ((span, row), sums) in rows().zip(sums.chunks_exact(panels)) {
                let (token, head) = place(span, row);
                // SAFETY: a query row belongs to one tile.
                let out = unsafe { out.part((token * num_heads + head) * head_dim, head_dim) };
                out.copy_from_slice(&sums.as_flattened()[..head_dim]);
            }
        });
    }

    /// The first key that a query sees whose last one is at `position`.
    #[inline(always)]
    fn first_visible(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const {
        RefCell::new(Scratch { queries: vec![], positions: vec![], sums: vec![], wide: vec![] })
    };
}

/// A thread's memory for one tile after the other.
struct Scratch {
    queries: Vec<f32>,
    /// The last key that each row sees.
    positions: Vec<usize>,
    /// What becomes the result: `[rows, panels]`.
    sums: Vec<Lane>,
    /// Keys, or values, that were widened.
    wide: Vec<Lane>,
}

impl Scratch {
    fn clear(&mut self) {
        self.queries.clear();
        self.positions.clear();
        self.sums.clear();
    }
}

/// What one task computes: some rows of queries.
struct Tile<'a> {
    attention: &'a Attention<'a>,
    queries: &'a [f32],
    /// The last key that each row sees.
    positions: &'a [usize],
    /// Whose rows these are.
    segments: &'a [Segment],
}

/// The keys and values of one head.
struct Blocks<'a, T> {
    cache: &'a [T],
    heads: HeadShape,
    kv_head: usize,
}

impl<'a, T> Blocks<'a, T> {
    /// Keys of a block: `[head_dim]` lanes of 16 tokens.
    #[inline(always)]
    fn keys(&self, block: u32) -> &'a [[T; LANES]] {
        self.cache[self.heads.keys_at(block, self.kv_head)..][..self.heads.head_dim * LANES].as_chunks().0
    }

    /// Values of a block for one panel of 16 of the head's numbers: a lane for each of the 16 tokens.
    #[inline(always)]
    fn values(&self, block: u32, panel: usize) -> &'a [[T; LANES]] {
        let start = self.heads.values_at(block, self.kv_head) + panel * LANES * LANES;
        self.cache[start..][..LANES * LANES].as_chunks().0
    }
}

/// Rows of a tile, one after the other, that are of one sequence, and the keys that they see.
#[derive(Clone, Copy)]
struct Part<'a> {
    first_row: usize,
    end_row: usize,
    /// From the step of the first key that one of them sees,
    first_block: usize,
    /// to the block of the last one.
    end_block: usize,
    block_table: &'a HeldBlocks,
}

impl<'a> Part<'a> {
    const NOTHING: Self =
        Self { first_row: 0, end_row: 0, first_block: 0, end_block: 0, block_table: &HeldBlocks::NONE };

    /// The parts of a tile; those that follow have no keys.
    fn all(tile: &Tile<'a>) -> [Self; MAX_ROWS] {
        let mut parts = [Self::NOTHING; MAX_ROWS];
        let mut first_row = 0;
        for (part, segment) in parts.iter_mut().zip(tile.segments) {
            let end_row = first_row + segment.rows.len();
            let first_key = tile.attention.first_visible(tile.positions[first_row]);
            *part = Self {
                first_row,
                end_row,
                first_block: first_key / (LANES * BLOCKS_PER_STEP) * BLOCKS_PER_STEP,
                end_block: tile.positions[end_row - 1] / LANES + 1,
                block_table: &tile.attention.spans[segment.span].block_table,
            };
            first_row = end_row;
        }
        parts
    }

    /// The blocks of the step that begins with the sequence's block number `first`, and the number of the first one that
    /// is there; none if no row sees them. What is not there is seen by no row.
    #[inline(always)]
    fn blocks(&self, first: usize) -> (usize, &'a [u32]) {
        let end = self.end_block.min(first + BLOCKS_PER_STEP);
        if first < self.first_block || end <= first { (first, &[]) } else { self.block_table.within(first..end) }
    }
}

per_isa! { fn attend_on(tile: &Tile<'_>, cache: (CacheNumbers<'_>, usize), out: (&mut [Lane], &mut Vec<Lane>)) = attend }

/// One head of the keys, with the cache's kind of numbers.
#[inline(always)]
fn attend<V: Registers>(
    tile: &Tile<'_>,
    (cache, kv_head): (CacheNumbers<'_>, usize),
    (sums, wide): (&mut [Lane], &mut Vec<Lane>),
) {
    let heads = tile.attention.heads;
    match cache {
        CacheNumbers::F32(cache) => attend_to::<V, f32>(tile, &Blocks { cache, heads, kv_head }, sums, wide),
        CacheNumbers::F16(cache) => attend_to::<V, f16>(tile, &Blocks { cache, heads, kv_head }, sums, wide),
    }
}

/// `sums[row * panels + panel]`, zero at first, becomes the result.
#[inline(always)]
fn attend_to<V: Registers, T: CacheNumber>(
    tile: &Tile<'_>,
    cache: &Blocks<'_, T>,
    sums: &mut [Lane],
    wide: &mut Vec<Lane>,
) {
    let panels = sums.len() / tile.positions.len();
    let parts = Part::all(tile);
    let parts = &parts[..tile.segments.len()];
    let first = parts.iter().map(|part| part.first_block).min().unwrap_or(0);
    let end = parts.iter().map(|part| part.end_block).max().unwrap_or(0);
    let mut softmax = [RunningSoftmax { max: f32::NEG_INFINITY, total: [0.0; LANES] }; MAX_ROWS];
    let mut weights = [[0f32; LANES]; MAX_ROWS * BLOCKS_PER_STEP];
    for first in (first..end).step_by(BLOCKS_PER_STEP) {
        let mut next = 0;
        while next < parts.len() {
            let (held, first_row) = (parts[next].blocks(first), parts[next].first_row);
            next += 1;
            // Sequences go together as far as they share blocks.
            while next < parts.len() && parts[next].blocks(first) == held {
                next += 1;
            }
            let (first_held, blocks) = held;
            let rows = first_row..parts[next - 1].end_row;
            if !blocks.is_empty() {
                let state = Running {
                    softmax: &mut softmax[rows.clone()],
                    sums: &mut sums[rows.start * panels..rows.end * panels],
                    weights: &mut weights[..rows.len() * blocks.len()],
                    wide: &mut *wide,
                };
                attend_step::<V, T>((tile, cache), rows.start, (first_held * LANES, blocks), state);
            }
        }
    }
    for (sums, softmax) in sums.chunks_exact_mut(panels).zip(softmax) {
        let total = sum_lane(softmax.total);
        scale_all(sums, 1.0 / total);
    }
}

/// What some rows have come to.
struct Running<'a> {
    softmax: &'a mut [RunningSoftmax],
    /// `[rows, panels]`
    sums: &'a mut [Lane],
    /// Room for a step's scores, which become weights: `[rows, blocks]`.
    weights: &'a mut [Lane],
    /// Room for keys or values that are widened.
    wide: &'a mut Vec<Lane>,
}

/// One step of the softmax for neighbouring rows that see the same blocks.
#[inline(always)]
fn attend_step<V: Registers, T: CacheNumber>(
    (tile, cache): (&Tile<'_>, &Blocks<'_, T>),
    first_row: usize,
    (first_key, blocks): (usize, &[u32]),
    Running { softmax, sums, weights, wide }: Running<'_>,
) {
    let (rows, panels) = (softmax.len(), sums.len() / softmax.len());
    let head_dim = tile.attention.heads.head_dim;
    let mut keys: [&[[T; LANES]]; BLOCKS_PER_STEP] = [&[]; BLOCKS_PER_STEP];
    for (keys, block) in keys.iter_mut().zip(blocks) {
        *keys = cache.keys(*block);
    }
    weights.fill([0.0; LANES]);
    let queries = &tile.queries[first_row * head_dim..(first_row + rows) * head_dim];
    let queries = Rows { numbers: queries, stride: head_dim, count: rows };
    multiply_cached::<V, T>(queries, &keys[..blocks.len()], weights, wide);
    for (row, weights) in weights.chunks_exact_mut(blocks.len()).enumerate() {
        tile.attention.scale(weights);
        tile.attention.mask(weights, first_key, tile.positions[first_row + row]);
        let shrink = softmax[row].absorb(weights);
        scale_all(&mut sums[row * panels..(row + 1) * panels], shrink);
    }
    add_values::<V, T>(cache, blocks, (weights, sums), wide);
}

/// As [`multiply`], where the panels are those of a cache: each of their numbers is widened once, or next to once.
#[inline(always)]
fn multiply_cached<V: Registers, T: CacheNumber>(
    rows: Rows<'_>,
    panels: &[&[[T; LANES]]],
    out: &mut [Lane],
    wide: &mut Vec<Lane>,
) {
    if T::MAX.is_none() || rows.count <= MAX_NARROW_ROWS {
        return multiply::<V>(rows, panels, out);
    }
    let depth = panels.first().map_or(0, |panel| panel.len());
    wide.resize(panels.len() * depth, [0.0; LANES]);
    let mut wide_panels: [&[Lane]; MAX_PANELS] = [&[]; MAX_PANELS];
    for ((panel, wide), wide_panel) in panels.iter().zip(wide.chunks_exact_mut(depth.max(1))).zip(&mut wide_panels) {
        widen::<V>(panel, wide);
        *wide_panel = wide;
    }
    multiply::<V>(rows, &wide_panels[..panels.len()], out);
}

#[inline(always)]
fn scale_all(lanes: &mut [Lane], factor: f32) {
    for x in lanes.as_flattened_mut() {
        *x *= factor;
    }
}

impl Attention<'_> {
    /// Scores times the scale, then under the cap.
    #[inline(always)]
    fn scale(&self, scores: &mut [Lane]) {
        let scores = scores.as_flattened_mut();
        for score in scores.iter_mut() {
            *score *= self.scale;
        }
        if let Some(cap) = self.soft_cap {
            for score in scores {
                *score = cap * tanh(*score / cap);
            }
        }
    }

    /// Minus infinity where a key comes after the query, or before its window.
    #[inline(always)]
    fn mask(&self, scores: &mut [Lane], first_key: usize, query: usize) {
        let first_visible = self.first_visible(query);
        if first_visible <= first_key && first_key + scores.len() * LANES <= query + 1 {
            return;
        }
        for (key, score) in scores.as_flattened_mut().iter_mut().enumerate() {
            let key = first_key + key;
            *score = if first_visible <= key && key <= query { *score } else { f32::NEG_INFINITY };
        }
    }
}

/// Adds `weights · values` of the blocks, block by block.
#[inline(always)]
fn add_values<V: Registers, T: CacheNumber>(
    cache: &Blocks<'_, T>,
    blocks: &[u32],
    (weights, sums): (&[Lane], &mut [Lane]),
    wide: &mut Vec<Lane>,
) {
    let rows = weights.len() / blocks.len();
    let panels = sums.len() / rows;
    for (i, block) in blocks.iter().enumerate() {
        let numbers = &weights.as_flattened()[i * LANES..];
        let mut values: [&[[T; LANES]]; MAX_PANELS] = [&[]; MAX_PANELS];
        for (panel, values) in values[..panels].iter_mut().enumerate() {
            *values = cache.values(*block, panel);
        }
        let rows = Rows { numbers, stride: blocks.len() * LANES, count: rows };
        multiply_cached::<V, T>(rows, &values[..panels], sums, wide);
    }
}

/// The maximum and the sum of one row's softmax so far.
#[derive(Clone, Copy)]
struct RunningSoftmax {
    max: f32,
    total: Lane,
}

impl RunningSoftmax {
    /// Turns scores into weights relative to the new maximum. Returns the factor by which all earlier weights shrink.
    #[inline(always)]
    fn absorb(&mut self, scores: &mut [Lane]) -> f32 {
        let mut maxima = [f32::NEG_INFINITY; LANES];
        for scores in scores.iter() {
            for (max, score) in maxima.iter_mut().zip(scores) {
                *max = larger(*max, *score);
            }
        }
        let max = larger(self.max, max_lane(maxima));
        // As long as the row has seen no key, all is zero, relative to any number.
        let base = if max == f32::NEG_INFINITY { 0.0 } else { max };
        let shrink = exp(self.max - base);
        scale_all(std::slice::from_mut(&mut self.total), shrink);
        for scores in scores.iter_mut() {
            for (total, score) in self.total.iter_mut().zip(scores.iter_mut()) {
                *score = exp(*score - base);
                *total += *score;
            }
        }
        self.max = max;
        shrink
    }
}

/// The larger one of two numbers; `a` if `b` is none.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// The largest of sixteen numbers.
#[inline(always)]
fn max_lane(mut maxima: Lane) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            maxima[i] = larger(maxima[i], maxima[i + half]);
        }
        half /= 2;
    }
    maxima[0]
}

#[cfg(test)]
#[path = "attention_tests.rs"]
mod tests;
