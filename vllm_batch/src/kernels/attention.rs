//! Causal attention over a paged cache of keys and values, for any mix of sequences.

use candle_core::{CpuStorage, InplaceOp3, Layout, Result, bail};

use super::exp::exp;
use super::isa::{Isa, per_isa};
use super::norm::sum_lane;
use super::parallel::{Shared, for_each};
use super::registers::Registers;
use super::rotary::HeadShape;
use super::storage::{f32_slice, f32_slice_mut, lanes};
use super::tanh::tanh;
use super::tile::{Rows, multiply};
use super::{LANES, Lane};

/// Largest head that fits the registers' scratch space.
pub(crate) const MAX_HEAD_DIM: usize = 256;
const MAX_PANELS: usize = MAX_HEAD_DIM / LANES;
/// Rows of queries that go over the keys together.
const MAX_ROWS: usize = 16;
/// Blocks of keys that share one step of the running softmax.
const BLOCKS_PER_STEP: usize = 4;

/// The tokens of one sequence that are computed in this step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QuerySpan {
    /// Index of its first token in the packed input.
    pub(crate) query_start: usize,
    /// Number of tokens.
    pub(crate) query_len: usize,
    /// Position of its first token in the sequence.
    pub(crate) position: usize,
    /// The blocks that hold the sequence's keys and values, from position 0 on.
    pub(crate) block_table: Vec<u32>,
}

/// `softmax(cap(q · kᵀ · scale)) · v` per head, each query over the keys at and before its own position, and within its
/// window. Written to `[tokens, num_heads * head_dim]`; the operands are `qkv`, whose queries are rotated, and a layer's cache.
///
/// The softmax runs over the keys in steps of 64 positions, with a running maximum (Milakov and Gimelshein,
/// <https://arxiv.org/abs/1805.02867>): the order depends on a query's position alone. Steps that no query of a task can
/// see are left out; where another query of the task can, their keys count as minus infinity and add exact zeros.
pub(crate) struct Attention<'a> {
    /// The sequences.
    pub(crate) spans: &'a [QuerySpan],
    /// The layer's heads.
    pub(crate) heads: HeadShape,
    /// Factor of the scores.
    pub(crate) scale: f32,
    /// Scores grow to at most this: `soft_cap * tanh(score / soft_cap)`.
    pub(crate) soft_cap: Option<f32>,
    /// Keys that a query sees: its own and those before it, so many in all. At least 1; all if absent.
    pub(crate) window: Option<usize>,
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
        let (qkv, cache) = (f32_slice(qkv, ql)?, f32_slice(cache, cl)?);
        let out = f32_slice_mut(out, ol)?;
        self.check(qkv, cache, out)?;
        let group = self.heads.num_heads / self.heads.num_kv_heads;
        let tasks = self.tasks(group);
        let shared = Shared::new(out);
        let context = self.spans.iter().map(|span| span.position + span.query_len).max().unwrap_or(0);
        for_each(tasks.len(), context * self.heads.head_dim, |task| {
            self.task(&tasks[task], (qkv, cache), shared);
        });
        Ok(())
    }
}

/// Some query rows of one sequence and one key head: row `r` is token `r / group`, head `r % group` of the group.
struct Task<'a> {
    span: &'a QuerySpan,
    kv_head: usize,
    rows: std::ops::Range<usize>,
}

impl Attention<'_> {
    fn check(&self, qkv: &[f32], cache: &[f32], out: &[f32]) -> Result<()> {
        let blocks = cache.len() / self.heads.block_len();
        let rows = (qkv.len() / self.heads.qkv_width()).min(out.len() / (self.heads.num_heads * self.heads.head_dim));
        for span in self.spans {
            let needed = (span.position + span.query_len).div_ceil(LANES);
            let in_cache = span.block_table.iter().all(|block| (*block as usize) < blocks);
            let in_rows = span.query_start + span.query_len <= rows;
            if span.block_table.len() < needed || !in_cache || !in_rows {
                bail!("attention: {span:?} does not fit {blocks} blocks and {rows} rows");
            }
        }
        Ok(())
    }

    fn tasks(&self, group: usize) -> Vec<Task<'_>> {
        let tiles = |span: &QuerySpan| (0..span.query_len * group).step_by(MAX_ROWS);
        let task =
            |span, kv_head, first: usize, end: usize| Task { span, kv_head, rows: first..end.min(first + MAX_ROWS) };
        self.spans
            .iter()
            .flat_map(|span| (0..self.heads.num_kv_heads).map(move |kv_head| (span, kv_head)))
            .flat_map(|(span, kv_head)| {
                tiles(span).map(move |first| task(span, kv_head, first, span.query_len * group))
            })
            .collect()
    }

    fn task(&self, task: &Task<'_>, (qkv, cache): (&[f32], &[f32]), out: Shared<'_>) {
        let HeadShape { num_heads, num_kv_heads, head_dim } = self.heads;
        let group = num_heads / num_kv_heads;
        // Where a row's numbers start, among rows of so many.
        let start = |row: usize, width: usize| {
            (task.span.query_start + row / group) * width + (task.kv_head * group + row % group) * head_dim
        };
        let mut rows = [0f32; MAX_ROWS * MAX_HEAD_DIM];
        let mut positions = [0; MAX_ROWS];
        for (i, row) in task.rows.clone().enumerate() {
            rows[i * head_dim..][..head_dim].copy_from_slice(&qkv[start(row, self.heads.qkv_width())..][..head_dim]);
            positions[i] = task.span.position + row / group;
        }
        let count = task.rows.len();
        let tile = Tile {
            rows: Rows { numbers: &rows[..count * head_dim], stride: head_dim, count },
            positions: &positions[..count],
            blocks: Blocks { cache, table: &task.span.block_table, heads: self.heads, kv_head: task.kv_head },
            scale: self.scale,
            soft_cap: self.soft_cap,
            window: self.window.unwrap_or(usize::MAX),
        };
        let mut sums = [[0f32; LANES]; MAX_ROWS * MAX_PANELS];
        let panels = self.heads.padded_dim() / LANES;
        attend_on(self.isa, &tile, &mut sums[..count * panels]);
        for (row, sums) in task.rows.clone().zip(sums.chunks(panels)) {
            // SAFETY: a query row belongs to one task.
            let out = unsafe { out.part(start(row, num_heads * head_dim), head_dim) };
            out.copy_from_slice(&sums.as_flattened()[..head_dim]);
        }
    }
}

/// What one task computes.
struct Tile<'a> {
    rows: Rows<'a>,
    positions: &'a [usize],
    blocks: Blocks<'a>,
    scale: f32,
    soft_cap: Option<f32>,
    window: usize,
}

impl Tile<'_> {
    /// The first key that the query at `position` sees.
    #[inline(always)]
    fn first_visible(&self, position: usize) -> usize {
        (position + 1).saturating_sub(self.window)
    }

    /// The blocks to go over: from the step of the first visible key to the last query's own block.
    fn visible_blocks(&self) -> std::ops::Range<usize> {
        let first = self.positions.iter().min().map_or(0, |first| self.first_visible(*first));
        let end = self.positions.iter().max().map_or(0, |last| last / LANES + 1);
        first / (LANES * BLOCKS_PER_STEP) * BLOCKS_PER_STEP..end
    }
}

/// The keys and values of one head of one sequence.
struct Blocks<'a> {
    cache: &'a [f32],
    table: &'a [u32],
    heads: HeadShape,
    kv_head: usize,
}

impl<'a> Blocks<'a> {
    /// Keys of a block: `[head_dim]` lanes of 16 tokens.
    #[inline(always)]
    fn keys(&self, block: usize) -> &'a [Lane] {
        lanes(&self.cache[self.heads.keys_at(self.table[block], self.kv_head)..][..self.heads.head_dim * LANES])
    }

    /// Values of a block for one panel of 16 of the head's numbers: a lane for each of the 16 tokens.
    #[inline(always)]
    fn values(&self, block: usize, panel: usize) -> &'a [Lane] {
        let start = self.heads.values_at(self.table[block], self.kv_head) + panel * LANES * LANES;
        lanes(&self.cache[start..][..LANES * LANES])
    }
}

per_isa! { fn attend_on(tile: &Tile<'_>, sums: &mut [Lane]) = attend }

/// `sums[row * panels + panel]`, zero at first, becomes the result.
#[inline(always)]
fn attend<V: Registers>(tile: &Tile<'_>, sums: &mut [Lane]) {
    let panels = sums.len() / tile.rows.count;
    let visible = tile.visible_blocks();
    let mut softmax = [RunningSoftmax { max: f32::NEG_INFINITY, total: [0.0; LANES] }; MAX_ROWS];
    let mut weights = [[0f32; LANES]; MAX_ROWS * BLOCKS_PER_STEP];
    for first in visible.clone().step_by(BLOCKS_PER_STEP) {
        let count = BLOCKS_PER_STEP.min(visible.end - first);
        let keys: [&[Lane]; BLOCKS_PER_STEP] = std::array::from_fn(|b| tile.blocks.keys(first + b.min(count - 1)));
        let weights = &mut weights[..tile.rows.count * count];
        weights.fill([0.0; LANES]);
        multiply::<V>(tile.rows, &keys[..count], weights);
        for (row, weights) in weights.chunks_exact_mut(count).enumerate() {
            tile.scale(weights);
            tile.mask(weights, first * LANES, tile.positions[row]);
            let shrink = softmax[row].absorb(weights);
            scale_all(&mut sums[row * panels..(row + 1) * panels], shrink);
        }
        add_values::<V>(tile, (first, count), weights, sums);
    }
    for (sums, softmax) in sums.chunks_exact_mut(panels).zip(softmax) {
        let total = sum_lane(softmax.total);
        scale_all(sums, 1.0 / total);
    }
}

#[inline(always)]
fn scale_all(lanes: &mut [Lane], factor: f32) {
    for x in lanes.as_flattened_mut() {
        *x *= factor;
    }
}

impl Tile<'_> {
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

/// Adds `weights · values` of the blocks from `first` on, block by block.
#[inline(always)]
fn add_values<V: Registers>(tile: &Tile<'_>, (first, count): (usize, usize), weights: &[Lane], sums: &mut [Lane]) {
    let panels = sums.len() / tile.rows.count;
    for block in 0..count {
        let numbers = &weights.as_flattened()[block * LANES..];
        let rows = Rows { numbers, stride: count * LANES, count: tile.rows.count };
        let mut values: [&[Lane]; MAX_PANELS] = [&[]; MAX_PANELS];
        for (panel, values) in values[..panels].iter_mut().enumerate() {
            *values = tile.blocks.values(first + block, panel);
        }
        multiply::<V>(rows, &values[..panels], sums);
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
                *max = max.max(*score);
            }
        }
        let max = maxima.into_iter().fold(self.max, f32::max);
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

#[cfg(test)]
#[path = "attention_tests.rs"]
mod tests;
