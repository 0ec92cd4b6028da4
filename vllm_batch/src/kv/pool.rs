//! Who holds which block, and which blocks can be found again.

use std::collections::HashMap;

use super::free_list::FreeList;
use super::hash::BlockHash;
use super::table::{BlockId, BlockTable};

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
    /// So many blocks from the front were found in the prefix index: their tokens need no computing.
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
            blocks: vec![Block::default(); num_blocks],
            free: FreeList::new(num_blocks),
            prefix_index: HashMap::new(),
        }
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

    /// Takes blocks for `num_tokens` tokens: first those that the prefix index finds under the leading `hashes`, up to
    /// the first that is missing, then free ones, which can no longer be found from then on.
    ///
    /// Gives `None` and changes nothing if fewer than `reserve` blocks would be free afterwards.
    pub fn allocate(&mut self, hashes: &[BlockHash], num_tokens: usize, reserve: usize) -> Option<Allocation> {
        let num_blocks = self.num_blocks_for(num_tokens);
        let found = hashes.iter().take(num_blocks).map_while(|hash| self.prefix_index.get(hash).copied());
        let mut block_ids: Vec<BlockId> = found.collect();
        let num_cached_blocks = block_ids.len();
        let num_found_free = block_ids.iter().filter(|id| self.blocks[id.index()].ref_count == 0).count();
        if self.free.len() < num_blocks - num_cached_blocks + num_found_free + reserve {
            return None;
        }
        for id in &block_ids {
            self.share(*id);
        }
        block_ids.extend((num_cached_blocks..num_blocks).map_while(|_| self.take()));
        Some(Allocation { table: BlockTable { block_ids, num_registered: num_cached_blocks }, num_cached_blocks })
    }

    /// Adds free blocks to a table until it has room for `num_tokens` tokens; a table never shrinks. Gives `false` and
    /// changes nothing if there are too few free blocks.
    #[must_use = "without the blocks the tokens have no place"]
    pub fn grow(&mut self, table: &mut BlockTable, num_tokens: usize) -> bool {
        let missing = self.num_blocks_for(num_tokens).saturating_sub(table.len());
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
        for (hash, id) in hashes.iter().zip(&table.block_ids).skip(table.num_registered) {
            self.prefix_index.entry(*hash).or_insert_with(|| {
                self.blocks[id.index()].hash = Some(*hash);
                *id
            });
        }
        table.num_registered = table.num_registered.max(hashes.len().min(table.len()));
    }

    /// Takes all blocks of a table but the first `num_blocks` out of the prefix index again, because their tokens were
    /// never computed.
    pub fn unregister(&mut self, table: &mut BlockTable, num_blocks: usize) {
        for id in table.block_ids.iter().take(table.num_registered).skip(num_blocks) {
            self.forget(*id);
        }
        table.num_registered = table.num_registered.min(num_blocks);
    }

    /// Takes a table back. Blocks that nobody else holds become free; those in the prefix index can still be found.
    pub fn free(&mut self, table: BlockTable) {
        for id in table.block_ids.into_iter().rev() {
            let block = &mut self.blocks[id.index()];
            block.ref_count -= 1;
            match (block.ref_count, block.hash) {
                (0, Some(_)) => self.free.push_back(id),
                (0, None) => self.free.push_front(id),
                _ => {}
            }
        }
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
            ensure(table.num_registered <= table.len(), || format!("{table:?} registered more than it has"))?;
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

    #[test]
    fn integrity_finds_a_leak_and_a_foreign_table() {
        let mut pool = BlockPool::new(2, 2, true);
        let (table, _) = fill(&mut pool, &[1, 2]);
        let twice = BlockTable { block_ids: table.block_ids.clone(), num_registered: 0 };
        let foreign = BlockTable { block_ids: vec![BlockId(7)], num_registered: 0 };
        assert_eq!(pool.check_integrity([&table]), Ok(()));
        for tables in [vec![], vec![&table, &twice], vec![&table, &foreign]] {
            assert!(pool.check_integrity(tables).is_err());
        }
    }
}
