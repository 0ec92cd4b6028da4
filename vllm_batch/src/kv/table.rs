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

/// The blocks that one sequence holds: the token at position `p` is in block `p / block_size`, at place
/// `p % block_size`.
///
/// It comes from [`BlockPool::allocate`](super::BlockPool::allocate) and must go back by
/// [`BlockPool::free`](super::BlockPool::free). The default is an empty table, which need not go back.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "a table that is dropped leaks its blocks: give it back to its pool"]
pub struct BlockTable {
    pub(super) block_ids: Vec<BlockId>,
    /// So many blocks from the front are done with the prefix index: found there, entered there, or known to it under
    /// another block.
    pub(super) num_registered: usize,
}

impl BlockTable {
    /// The blocks, in the order of the tokens that they hold.
    #[must_use]
    pub fn block_ids(&self) -> &[BlockId] {
        &self.block_ids
    }

    /// How many blocks these are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.block_ids.len()
    }

    /// Whether there is no block.
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
