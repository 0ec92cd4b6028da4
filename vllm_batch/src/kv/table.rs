//! The blocks of one sequence.

/// The number of a block in its pool, from 0: its place in the cache's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

impl BlockId {
    /// The number as an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The blocks that one sequence holds: the token at position `p` is in the sequence's block `p / block_size`, at place
/// `p % block_size`. The first ones may be gone, because no token to come sees theirs: see
/// [`BlockPool::slide`](super::BlockPool::slide).
///
/// It comes from [`BlockPool::allocate`](super::BlockPool::allocate) and must go back by
/// [`BlockPool::free`](super::BlockPool::free). The default is an empty table, which need not go back.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "a table that is dropped leaks its blocks: give it back to its pool"]
pub struct BlockTable {
    /// From the sequence's block `first` on.
    pub(super) block_ids: Vec<BlockId>,
    pub(super) first: usize,
    /// So many blocks from the front are done with the prefix index: found there, entered there, or known to it under
    /// another block.
    pub(super) num_registered: usize,
}

impl BlockTable {
    /// The blocks that are there, in the order of the tokens that they hold: the sequence's block
    /// [`first`](Self::first) and those after it.
    #[must_use]
    pub fn block_ids(&self) -> &[BlockId] {
        &self.block_ids
    }

    /// How many blocks from the front are gone.
    #[must_use]
    pub fn first(&self) -> usize {
        self.first
    }

    /// How many blocks there are from the front to the last one, those that are gone included.
    #[must_use]
    pub fn end(&self) -> usize {
        self.first + self.block_ids.len()
    }

    /// The sequence's block number `index`; `None` if it is gone, or was never there.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<BlockId> {
        self.block_ids.get(index.checked_sub(self.first)?).copied()
    }

    /// How many blocks are there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.block_ids.len()
    }

    /// Whether no block is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.block_ids.is_empty()
    }

    /// How many blocks from the front are done with the prefix index.
    #[must_use]
    pub fn num_registered(&self) -> usize {
        self.num_registered
    }
}
