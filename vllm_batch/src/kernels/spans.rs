//! Which tokens a step computes, where their keys and values are, and which of them go over these together.

use std::ops::Range;

use super::rotary::HeadShape;

/// Rows of queries that go over the keys together.
pub(super) const MAX_ROWS: usize = 16;
/// Blocks of keys that share one step of the running softmax.
pub(super) const BLOCKS_PER_STEP: usize = 4;

/// The blocks of a sequence that are there: its first ones may be gone, because no token to come sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldBlocks {
    /// Number of the sequence's first block that is there.
    pub(crate) first: usize,
    /// This block and those after it.
    pub(crate) ids: Vec<u32>,
}

impl From<Vec<u32>> for HeldBlocks {
    /// All blocks from position 0 on.
    fn from(ids: Vec<u32>) -> Self {
        Self { first: 0, ids }
    }
}

impl HeldBlocks {
    pub(super) const NONE: Self = Self { first: 0, ids: Vec::new() };

    /// The block number `index` of the sequence, if it is there.
    pub(crate) fn get(&self, index: usize) -> Option<u32> {
        self.ids.get(index.checked_sub(self.first)?).copied()
    }

    /// Whether all blocks of a range are there.
    pub(super) fn hold(&self, blocks: Range<usize>) -> bool {
        self.first <= blocks.start && blocks.end <= self.first + self.ids.len()
    }

    /// Those of a range that are there, and the number of the first one.
    #[inline(always)]
    pub(super) fn within(&self, blocks: Range<usize>) -> (usize, &[u32]) {
        let past = self.first + self.ids.len();
        let start = blocks.start.clamp(self.first, past);
        let end = blocks.end.clamp(start, past);
        (start, &self.ids[start - self.first..end - self.first])
    }
}

/// The tokens of one sequence that are computed in this step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QuerySpan {
    /// Index of its first token in the packed input.
    pub(crate) query_start: usize,
    /// Number of tokens.
    pub(crate) query_len: usize,
    /// Position of its first token in the sequence.
    pub(crate) position: usize,
    /// The blocks that hold the sequence's keys and values.
    pub(crate) block_table: HeldBlocks,
}

/// Which query rows go over the keys together: the same for all layers of a step. Row `r` of a sequence is token
/// `r / group`, head `r % group` of the query heads that share a key head.
#[derive(Debug)]
pub(crate) struct QueryTiles {
    pub(super) tiles: Vec<Vec<Segment>>,
    /// Query heads that share a key head.
    pub(super) group: usize,
}

/// Some query rows of one sequence.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Index of the sequence.
    pub(super) span: usize,
    pub(super) rows: Range<usize>,
}

impl QueryTiles {
    /// Sequences that share the first blocks, and have few rows, get into one tile: its keys and values are read once.
    pub(crate) fn new(spans: &[QuerySpan], heads: HeadShape) -> Self {
        let group = heads.num_heads / heads.num_kv_heads;
        let mut order: Vec<usize> = (0..spans.len()).filter(|span| spans[*span].query_len > 0).collect();
        order.sort_by(|a, b| spans[*a].block_table.ids.cmp(&spans[*b].block_table.ids));
        let mut tiles: Vec<Vec<Segment>> = Vec::new();
        let mut room = 0;
        for (i, span) in order.iter().enumerate() {
            let rows = spans[*span].query_len * group;
            let shares = i > 0 && share_first_blocks(&spans[order[i - 1]], &spans[*span]);
            match tiles.last_mut() {
                Some(tile) if shares && rows <= room => tile.push(Segment { span: *span, rows: 0..rows }),
                _ => {
                    room = MAX_ROWS;
                    let starts = (0..rows).step_by(MAX_ROWS);
                    let segment = |first: usize| Segment { span: *span, rows: first..rows.min(first + MAX_ROWS) };
                    tiles.extend(starts.map(|first| vec![segment(first)]));
                }
            }
            room = room.saturating_sub(rows);
        }
        Self { tiles, group }
    }
}

/// Whether both see the same keys in at least one step of the softmax.
fn share_first_blocks(a: &QuerySpan, b: &QuerySpan) -> bool {
    let first = |span: &QuerySpan| span.block_table.ids.first_chunk::<BLOCKS_PER_STEP>().copied();
    first(a).is_some() && first(a) == first(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_are_gone_are_not_within_any_range() {
        let blocks = HeldBlocks { first: 5, ids: vec![50, 60, 70] };
        let cases = [
            (4..8, (5, &[50, 60, 70][..]), false),
            (5..8, (5, &[50, 60, 70]), true),
            (6..7, (6, &[60]), true),
            (0..4, (5, &[]), false),
            (7..12, (7, &[70]), false),
            (0..6, (5, &[50]), false),
            (9..12, (8, &[]), false),
        ];
        for (range, within, hold) in cases {
            assert_eq!((blocks.within(range.clone()), blocks.hold(range.clone())), (within, hold), "{range:?}");
        }
        assert_eq!([4, 5, 7, 8].map(|index| blocks.get(index)), [None, Some(50), Some(70), None]);
    }
}
