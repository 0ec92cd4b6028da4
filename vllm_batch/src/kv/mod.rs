//! Which block holds which tokens?
//!
//! The cache of keys and values is cut into blocks of `block_size` tokens. A [`BlockPool`] lends them, a [`BlockTable`]
//! holds those of one sequence, in order. Here are numbers only: where the tensors are is the model's affair.
//!
//! * **Sharing.** A full block is named by its [`BlockHash`], which covers its tokens and all tokens before it. A
//!   sequence that begins with the same tokens takes the same blocks, and their tokens are not computed again. Only
//!   full blocks are shared, and nobody writes to a full block: there is no copy on write.
//! * **Reuse.** A block that nobody holds keeps its content and can still be found, until it is lent again. Blocks
//!   that cannot be found go first, then the one unused for longest; of one sequence the last block before the first.
//! * **Windows.** Where a token sees only the last ones before it, a sequence gives back the blocks that it has left
//!   behind, and is found by those that a token after its beginning would see.
//! * **Ownership.** A table cannot be cloned and is given back by value, so no block is freed twice. A table that is
//!   dropped instead leaks its blocks; [`BlockPool::check_integrity`] finds that.

mod free_list;
mod hash;
mod pool;
mod table;
mod window;

pub use hash::BlockHash;
pub use pool::{Allocation, BlockPool};
pub use table::{BlockId, BlockTable};
pub use window::SlidingWindow;
