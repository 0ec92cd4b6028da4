//! Who holds which block, and which blocks can be found again.

use std::collections::HashMap;

use super::free_list::FreeList;
use super::hash::BlockHash;
use super::table::{BlockId, BlockTable};
use super::window::SlidingWindow;

/// Lends blocks, counts their holders, and finds full blocks by their content.
///
/// # Example
/// ```
/// use vllm_batch::kv::{BlockHash, BlockPool};
///
/// let mut pool = BlockPool::new(4, 2, true);
/// let hashes = [BlockHash::new(None, &[10, 11])];
/// let first = pool.allocate(&hashes, 3, 0).expect("4 blocks are free");
/// let mut first_table = first.table;
/// pool.register(&mut first_table, &hashes);
///
/// let second = pool.allocate(&hashes, 3, 0).expect("2 blocks are free, 1 is needed");
/// assert_eq!((first.num_cached_blocks, second.num_cached_blocks), (0, 1));
/// assert_eq!(first_table.block_ids()[0], second.table.block_ids()[0]);
/// assert_eq!(pool.check_integrity([&first_table, &second.table]), Ok(()));
///
/// pool.free(first_table);
/// pool.free(second.table);
/// assert_eq!(pool.num_free_blocks(), 4);
/// ```
#[derive(Debug)]
pub struct BlockPool {
    block_size: usize,
    enable_prefix_caching: bool,
    /// What tokens see, if not all, and the most blocks of a table.
    window: Option<(SlidingWindow, usize)>,
    blocks: Vec<Block>,
    free: FreeList,
    prefix_index: HashMap<BlockHash, BlockId>,
}

/// What the pool knows about one block.
#[derive(Debug, Clone, Default)]
struct Block {
    ref_count: u32,
    /// Set exactly while the prefix index leads from this hash to this block.
    hash: Option<BlockHash>,
}

/// A new table, and how much of it was there already.
#[derive(Debug)]
#[must_use = "the table must go back to its pool"]
pub struct Allocation {
    /// The blocks.
    pub table: BlockTable,
    /// The tokens of so many blocks from the front need no computing: those among them that later tokens see were found in
    /// the prefix index.
    pub num_cached_blocks: usize,
}

impl BlockPool {
    /// A pool of `num_blocks` blocks, all free, of `block_size` tokens each. Without `enable_prefix_caching` nothing is
    /// ever found.
    ///
    /// # Panics
    /// If `block_size` is 0, or `num_blocks` is not below 2³².
    #[must_use]
    pub fn new(num_blocks: usize, block_size: usize, enable_prefix_caching: bool) -> Self {
        assert!(block_size > 0, "a block must hold at least one token");
        assert!(u32::try_from(num_blocks).is_ok(), "a block's number must fit 32 bits");
        Self {
            block_size,
            enable_prefix_caching,
            window: None,
            blocks: vec![Block::default(); num_blocks],
            free: FreeList::new(num_blocks),
            prefix_index: HashMap::new(),
        }
    }

    /// The pool for sequences whose tokens see no more than a window, and of which at most `num_new_tokens` tokens are
    /// computed at a time. Tables then have no more blocks than that takes, or than there are, and [`slide`](Self::slide)
    /// gives back what is left behind.
    ///
    /// # Panics
    /// If the window, or `num_new_tokens`, is 0, or the window's blocks are of another size.
    #[must_use]
    pub fn with_sliding_window(mut self, window: SlidingWindow, num_new_tokens: usize) -> Self {
        assert!(window.num_tokens > 0 && num_new_tokens > 0, "a token sees itself, and a step has at least one");
        assert!(window.block_size == self.block_size, "a window in blocks of this pool");
        self.window = Some((window, window.num_blocks(num_new_tokens).min(self.blocks.len())));
        self
    }

    /// How many blocks there are.
    #[must_use]
    pub fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// How many tokens a block holds.
    #[must_use]
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// How many blocks nobody holds. Those that can still be found count too.
    #[must_use]
    pub fn num_free_blocks(&self) -> usize {
        self.free.len()
    }

    /// How many blocks `num_tokens` tokens fill or begin.
    #[must_use]
    pub fn num_blocks_for(&self, num_tokens: usize) -> usize {
        num_tokens.div_ceil(self.block_size)
    }

    /// How many blocks [`allocate`](Self::allocate) takes for `num_tokens` tokens of which it finds none.
    #[must_use]
    pub fn num_blocks_to_allocate(&self, num_tokens: usize) -> usize {
        self.end_for(0, num_tokens)
    }

    /// How many blocks become free if all of these tables are freed: those that no other table holds.
    pub fn num_held_by_none_but<'a>(&self, tables: impl Iterator<Item = &'a BlockTable>) -> usize {
        let mut holders: HashMap<BlockId, u32> = HashMap::new();
        for id in tables.flat_map(|table| &table.block_ids) {
            *holders.entry(*id).or_default() += 1;
        }
        holders.into_iter().filter(|(id, count)| self.blocks[id.index()].ref_count == *count).count()
    }

    /// Takes blocks for `num_tokens` tokens: first those that the prefix index finds under the leading `hashes`, up to
    /// the first that is missing, then free ones, which can no longer be found from then on. With a sliding window, only
    /// blocks that are seen by what is to be computed count as missing, and there may be fewer blocks than for all tokens.
    ///
    /// Gives `None` and changes nothing if fewer than `reserve` blocks would be free afterwards.
    pub fn allocate(&mut self, hashes: &[BlockHash], num_tokens: usize, reserve: usize) -> Option<Allocation> {
        let hashes = &hashes[..hashes.len().min(self.num_blocks_for(num_tokens))];
        let (first, mut block_ids) = self.find(hashes);
        let num_cached_blocks = first + block_ids.len();
        let num_blocks = self.end_for(first, num_tokens);
        let num_found_free = block_ids.iter().filter(|id| self.blocks[id.index()].ref_count == 0).count();
        if self.free.len() < num_blocks - num_cached_blocks + num_found_free + reserve {
            return None;
        }
        for id in &block_ids {
            self.share(*id);
        }
        block_ids.extend((num_cached_blocks..num_blocks).map_while(|_| self.take()));
        Some(Allocation {
            table: BlockTable { block_ids, first, num_registered: num_cached_blocks },
            num_cached_blocks,
        })
    }

    /// The first block that a token at `position`, or any after it, sees: 0 without a window.
    #[must_use]
    pub fn first_visible_block(&self, position: usize) -> usize {
        self.window.map_or(0, |(window, _)| window.first_block(position))
    }

    /// Frees the blocks of a table that neither the token at `position` nor any after it sees; those in the prefix index
    /// can still be found.
    pub fn slide(&mut self, table: &mut BlockTable, position: usize) {
        let count = self.first_visible_block(position).saturating_sub(table.first).min(table.len());
        table.first += count;
        let left_behind: Vec<BlockId> = table.block_ids.drain(..count).collect();
        left_behind.into_iter().rev().for_each(|id| self.release(id));
    }

    /// Adds free blocks to a table until it has room for `num_tokens` tokens, or the most blocks that a table has. Gives
    /// `false` and changes nothing if there are too few free blocks.
    #[must_use = "without the blocks the tokens have no place"]
    pub fn grow(&mut self, table: &mut BlockTable, num_tokens: usize) -> bool {
        let missing = self.end_for(table.first, num_tokens).saturating_sub(table.end());
        if missing > self.free.len() {
            return false;
        }
        table.block_ids.extend((0..missing).map_while(|_| self.take()));
        true
    }

    /// Enters the leading blocks of a table into the prefix index, under `hashes`: one for each block from the table's
    /// first on. From now on they are found, so their tokens must be computed before anybody reads them. A hash that
    /// the index knows already stays with the block that it has. Hashes beyond the table's end are ignored.
    pub fn register(&mut self, table: &mut BlockTable, hashes: &[BlockHash]) {
        if !self.enable_prefix_caching {
            return;
        }
        let start = table.num_registered.max(table.first);
        let new = hashes.iter().skip(start).zip(table.block_ids.iter().skip(start - table.first));
        for (hash, id) in new {
            self.prefix_index.entry(*hash).or_insert_with(|| {
                self.blocks[id.index()].hash = Some(*hash);
                *id
            });
        }
        table.num_registered = table.num_registered.max(hashes.len().min(table.end()));
    }

    /// Takes all blocks of a table but the first `num_blocks` out of the prefix index again, because their tokens were
    /// never computed.
    pub fn unregister(&mut self, table: &mut BlockTable, num_blocks: usize) {
        let (start, end) = (num_blocks.saturating_sub(table.first), table.num_registered.saturating_sub(table.first));
        for id in table.block_ids.iter().take(end).skip(start) {
            self.forget(*id);
        }
        table.num_registered = table.num_registered.min(num_blocks);
    }

    /// Takes a table back. Blocks that nobody else holds become free; those in the prefix index can still be found.
    pub fn free(&mut self, table: BlockTable) {
        table.block_ids.into_iter().rev().for_each(|id| self.release(id));
    }

    /// Checks the pool against all tables that came from it and were not given back. For tests and for the debugging
    /// of a program that embeds the pool: it reads everything.
    ///
    /// # Errors
    /// What is wrong: a block whose count is not the number of its holders (a table was dropped, or is missing here), a
    /// free list that is not exactly the blocks without holder, a prefix index that disagrees with the blocks.
    pub fn check_integrity<'a>(&self, tables: impl IntoIterator<Item = &'a BlockTable>) -> Result<(), String> {
        self.check_ref_counts(tables)?;
        self.check_free_list()?;
        self.check_prefix_index()
    }

    /// The longest beginning under `hashes` after which tokens see none but blocks that are found: the number of its
    /// first block that is seen, and these blocks.
    fn find(&self, hashes: &[BlockHash]) -> (usize, Vec<BlockId>) {
        let found = |hash: &BlockHash| self.prefix_index.get(hash).copied();
        let Some((window, _)) = self.window else { return (0, hashes.iter().map_while(found).collect()) };
        let first_seen = |end: usize| window.first_block(end * self.block_size);
        let (mut start, mut end) = (hashes.len(), hashes.len());
        while start > first_seen(end) {
            start -= 1;
            if found(&hashes[start]).is_none() {
                end = start;
            }
        }
        (start, hashes[start..end].iter().filter_map(found).collect())
    }

    /// Where a table ends that begins with block `first` and should have room for `num_tokens` tokens.
    fn end_for(&self, first: usize, num_tokens: usize) -> usize {
        let all = self.num_blocks_for(num_tokens);
        self.window.map_or(all, |(_, most)| all.min(first + most))
    }

    /// Gives up one holder of a block.
    fn release(&mut self, id: BlockId) {
        let block = &mut self.blocks[id.index()];
        block.ref_count -= 1;
        match (block.ref_count, block.hash) {
            (0, Some(_)) => self.free.push_back(id),
            (0, None) => self.free.push_front(id),
            _ => {}
        }
    }

    /// Lends a free block, which is no longer found.
    fn take(&mut self) -> Option<BlockId> {
        let id = self.free.pop_front()?;
        self.forget(id);
        self.blocks[id.index()].ref_count = 1;
        Some(id)
    }

    /// Lends a block that was found, whether somebody holds it or not.
    fn share(&mut self, id: BlockId) {
        let block = &mut self.blocks[id.index()];
        if block.ref_count == 0 {
            self.free.remove(id);
        }
        block.ref_count += 1;
    }

    fn forget(&mut self, id: BlockId) {
        if let Some(hash) = self.blocks[id.index()].hash.take() {
            self.prefix_index.remove(&hash);
        }
    }

    fn check_ref_counts<'a>(&self, tables: impl IntoIterator<Item = &'a BlockTable>) -> Result<(), String> {
        let mut holders = vec![0; self.blocks.len()];
        for table in tables {
            ensure(table.num_registered <= table.end(), || format!("{table:?} registered more than it has"))?;
            for id in &table.block_ids {
                let count = holders.get_mut(id.index()).ok_or_else(|| format!("{id:?} is not of this pool"))?;
                *count += 1;
            }
        }
        let counts: Vec<u32> = self.blocks.iter().map(|block| block.ref_count).collect();
        ensure(counts == holders, || format!("blocks have the counts {counts:?}, but the holders {holders:?}"))
    }

    fn check_free_list(&self) -> Result<(), String> {
        let listed: Vec<BlockId> = self.free.iter(self.blocks.len() + 1).collect();
        ensure(listed.len() == self.free.len(), || format!("{} free blocks, but {listed:?}", self.free.len()))?;
        let mut sorted = listed;
        sorted.sort_unstable();
        let ids = (0..self.blocks.len()).map(|index| BlockId(index as u32));
        let without_holder: Vec<BlockId> = ids.filter(|id| self.blocks[id.index()].ref_count == 0).collect();
        ensure(sorted == without_holder, || format!("free are {sorted:?}, but without holder {without_holder:?}"))
    }

    fn check_prefix_index(&self) -> Result<(), String> {
        for (hash, id) in &self.prefix_index {
            let entry = self.blocks.get(id.index()).and_then(|block| block.hash);
            ensure(entry == Some(*hash), || format!("{hash:?} leads to {id:?}, which is named {entry:?}"))?;
        }
        let num_named = self.blocks.iter().filter(|block| block.hash.is_some()).count();
        let num_indexed = self.prefix_index.len();
        ensure(num_named == num_indexed, || format!("{num_named} blocks are named, but {num_indexed} are indexed"))
    }
}

fn ensure(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the full blocks of `token_ids`, two tokens each.
    fn hashes(token_ids: &[u32]) -> Vec<BlockHash> {
        let mut hashes: Vec<BlockHash> = Vec::new();
        for tokens in token_ids.chunks_exact(2) {
            hashes.push(BlockHash::new(hashes.last().copied(), tokens));
        }
        hashes
    }

    /// A table for these tokens whose full blocks are computed, and how many of them were found.
    fn fill(pool: &mut BlockPool, token_ids: &[u32]) -> (BlockTable, usize) {
        let hashes = hashes(token_ids);
        let Allocation { mut table, num_cached_blocks } = pool.allocate(&hashes, token_ids.len(), 0).expect("room");
        pool.register(&mut table, &hashes);
        (table, num_cached_blocks)
    }

    fn ids(table: &BlockTable) -> Vec<u32> {
        table.block_ids().iter().map(|id| id.0).collect()
    }

    #[test]
    fn full_blocks_are_shared_and_partial_ones_are_not() {
        let mut pool = BlockPool::new(8, 2, true);
        let (first, _) = fill(&mut pool, &[1, 2, 3, 4, 5]);
        let cases: [(&[u32], usize); 5] =
            [(&[1, 2, 3, 4, 5], 2), (&[1, 2, 3], 1), (&[1, 2, 9, 4], 1), (&[3, 4], 0), (&[1], 0)];
        for (token_ids, num_shared) in cases {
            let (table, num_cached_blocks) = fill(&mut pool, token_ids);
            assert_eq!(num_cached_blocks, num_shared, "{token_ids:?}");
            assert_eq!(ids(&table)[..num_shared], ids(&first)[..num_shared]);
            assert_eq!(pool.check_integrity([&first, &table]), Ok(()));
            pool.free(table);
        }
        pool.free(first);
        assert_eq!(pool.check_integrity([]), Ok(()));
    }

    #[test]
    fn nothing_is_found_without_prefix_caching() {
        let mut pool = BlockPool::new(8, 2, false);
        let (first, _) = fill(&mut pool, &[1, 2, 3, 4]);
        let (second, num_cached_blocks) = fill(&mut pool, &[1, 2, 3, 4]);
        assert_eq!((num_cached_blocks, ids(&first), ids(&second)), (0, vec![0, 1], vec![2, 3]));
    }

    #[test]
    fn free_blocks_are_lent_nameless_first_then_by_age_and_tails_before_heads() {
        let mut pool = BlockPool::new(6, 2, true);
        let (old, _) = fill(&mut pool, &[1, 2, 3, 4, 5]);
        let (new, _) = fill(&mut pool, &[6, 7, 8, 9]);
        assert_eq!((ids(&old), ids(&new)), (vec![0, 1, 2], vec![3, 4]));
        pool.free(old);
        pool.free(new);
        let (all, num_cached_blocks) = fill(&mut pool, &[20; 12]);
        assert_eq!((ids(&all), num_cached_blocks), (vec![2, 5, 1, 0, 4, 3], 0));
    }

    #[test]
    fn a_free_block_is_found_until_it_is_lent() {
        let mut pool = BlockPool::new(3, 2, true);
        let (table, _) = fill(&mut pool, &[1, 2, 3, 4]);
        pool.free(table);
        let (table, num_cached_blocks) = fill(&mut pool, &[1, 2, 3, 4]);
        assert_eq!(num_cached_blocks, 2);
        pool.free(table);
        let (other, _) = fill(&mut pool, &[7, 7, 8, 8]);
        pool.free(other);
        let (_, num_cached_blocks) = fill(&mut pool, &[1, 2, 3, 4]);
        assert_eq!(num_cached_blocks, 1, "the tail was lent, the head was not");
    }

    #[test]
    fn too_few_blocks_change_nothing() {
        let mut pool = BlockPool::new(4, 2, true);
        let (mut table, _) = fill(&mut pool, &[1, 2, 3, 4]);
        let cases = [(hashes(&[9, 9]), 6, 0), (hashes(&[9, 9]), 4, 1), (hashes(&[1, 2, 3, 4]), 8, 1)];
        for (hashes, num_tokens, reserve) in cases {
            assert!(pool.allocate(&hashes, num_tokens, reserve).is_none());
        }
        assert!(!pool.grow(&mut table, 9));
        assert_eq!((table.len(), pool.num_free_blocks()), (2, 2));
        assert_eq!(pool.check_integrity([&table]), Ok(()));
        assert!(pool.grow(&mut table, 8) && pool.grow(&mut table, 1));
        assert_eq!((table.len(), pool.num_free_blocks()), (4, 0));
    }

    #[test]
    fn found_blocks_that_are_free_are_not_counted_as_room() {
        let mut pool = BlockPool::new(3, 2, true);
        let (table, _) = fill(&mut pool, &[1, 2, 3, 4]);
        pool.free(table);
        assert!(pool.allocate(&hashes(&[1, 2, 3, 4]), 8, 0).is_none());
        assert!(pool.allocate(&hashes(&[1, 2, 3, 4]), 6, 1).is_none());
        assert!(pool.allocate(&hashes(&[1, 2, 3, 4]), 6, 0).is_some());
    }

    #[test]
    fn equal_content_computed_twice_is_indexed_once() {
        let mut pool = BlockPool::new(4, 2, true);
        let hashes = hashes(&[1, 2]);
        let mut tables = [2, 2].map(|num_tokens| pool.allocate(&[], num_tokens, 0).expect("room").table);
        for table in &mut tables {
            pool.register(table, &hashes);
        }
        assert_eq!(pool.check_integrity(&tables), Ok(()));
        let found = pool.allocate(&hashes, 2, 0).expect("room");
        assert_eq!(ids(&found.table), ids(&tables[0]));
    }

    #[test]
    fn what_was_never_computed_can_be_taken_back() {
        let mut pool = BlockPool::new(4, 2, true);
        let (mut table, _) = fill(&mut pool, &[1, 2, 3, 4]);
        pool.unregister(&mut table, 1);
        assert_eq!(table.num_registered(), 1);
        assert_eq!(pool.check_integrity([&table]), Ok(()));
        pool.free(table);
        assert_eq!(fill(&mut pool, &[1, 2, 3, 4]).1, 1);
    }

    fn windowed(num_blocks: usize) -> BlockPool {
        let window = SlidingWindow { num_tokens: 4, block_size: 2 };
        BlockPool::new(num_blocks, 2, true).with_sliding_window(window, 2)
    }

    #[test]
    fn what_is_left_behind_is_given_back_and_a_table_holds_no_more_than_a_window_and_a_chunk() {
        let mut pool = windowed(9);
        let Allocation { mut table, .. } = pool.allocate(&[], 20, 0).expect("room");
        // Two tokens at a time and the three before them: at most three blocks.
        assert_eq!((table.first(), table.end(), pool.num_free_blocks()), (0, 3, 6));
        for (position, first, end) in [(2, 0, 3), (4, 0, 3), (5, 1, 4), (6, 1, 4), (7, 2, 5), (12, 4, 7), (16, 6, 9)] {
            pool.slide(&mut table, position);
            assert!(pool.grow(&mut table, 20));
            assert_eq!((table.first(), table.end()), (first, end), "{position}");
            assert_eq!((table.get(first - first.min(1)).is_some(), table.get(first).is_some()), (first == 0, true));
            assert_eq!(pool.check_integrity([&table]), Ok(()));
        }
        pool.free(table);
        assert_eq!((pool.num_free_blocks(), pool.check_integrity([])), (9, Ok(())));
    }

    #[test]
    fn a_beginning_is_found_where_what_later_tokens_see_of_it_is_there() {
        let (mut pool, token_ids) = (windowed(8), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let hashes = hashes(&token_ids);
        let Allocation { mut table, .. } = pool.allocate(&[], 10, 0).expect("room");
        for block in 1..=5 {
            pool.register(&mut table, &hashes[..block]);
            pool.slide(&mut table, 2 * block);
            assert!(pool.grow(&mut table, 10));
        }
        pool.free(table);
        // The first two blocks are lent to another, after three that had no name, which are free again.
        let nameless = pool.allocate(&[], 6, 0).expect("room").table;
        let other = pool.allocate(&[], 4, 0).expect("room").table;
        pool.free(nameless);
        let mut found = |len: usize| {
            let Allocation { table, num_cached_blocks } = pool.allocate(&hashes[..len], 2 * len + 1, 0)?;
            let result = (num_cached_blocks, table.first(), ids(&table).len());
            pool.free(table);
            Some(result)
        };
        let results = [found(5), found(4), found(3), found(2)];
        pool.free(other);
        assert_eq!(pool.check_integrity([]), Ok(()));
        assert_eq!(results, [Some((5, 3, 3)), Some((4, 2, 3)), Some((0, 0, 3)), Some((0, 0, 3))]);
    }

    #[test]
    fn integrity_finds_a_leak_and_a_foreign_table() {
        let mut pool = BlockPool::new(2, 2, true);
        let (table, _) = fill(&mut pool, &[1, 2]);
        let twice = BlockTable { block_ids: table.block_ids.clone(), ..BlockTable::default() };
        let foreign = BlockTable { block_ids: vec![BlockId(7)], ..BlockTable::default() };
        assert_eq!(pool.check_integrity([&table]), Ok(()));
        for tables in [vec![], vec![&table, &twice], vec![&table, &foreign]] {
            assert!(pool.check_integrity(tables).is_err());
        }
    }
}
