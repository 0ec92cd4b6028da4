//! How many blocks does a sequence need at a time?

/// What tokens see of their sequence, where it is not all of it.
///
/// # Example
/// ```
/// use vllm_batch::kv::SlidingWindow;
///
/// let window = SlidingWindow { num_tokens: 5, block_size: 2 };
/// // The token at position 9 sees those at 5 to 9: the first is in block 2.
/// assert_eq!(window.first_block(9), 2);
/// assert_eq!(window.num_blocks(1), 3);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Tokens that each token sees, its own and those before it, at least 1.
    pub num_tokens: usize,
    /// Tokens in a block, at least 1.
    pub block_size: usize,
}

impl SlidingWindow {
    /// The first block that the token at `position`, or any after it, sees.
    #[must_use]
    pub fn first_block(self, position: usize) -> usize {
        (position + 1).saturating_sub(self.num_tokens) / self.block_size
    }

    /// The most blocks that `num_tokens` neighbouring tokens, at least 1, see or fill.
    #[must_use]
    pub fn num_blocks(self, num_tokens: usize) -> usize {
        // So many tokens lie in the most blocks if the first one is the last of its block.
        (self.num_tokens - 1 + num_tokens - 1).div_ceil(self.block_size) + 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_are_those_of_the_tokens_that_are_seen(
            num_tokens in 1usize..20, block_size in 1usize..6, position in 0usize..60, new in 1usize..20,
        ) {
            let window = SlidingWindow { num_tokens, block_size };
            let seen = |position: usize| (0..=position).filter(move |key| key + num_tokens > position);
            let first = seen(position).map(|key| key / block_size).min();
            prop_assert_eq!(Some(window.first_block(position)), first);
            let blocks = |start: usize| {
                let last = (start + new - 1) / block_size;
                last + 1 - window.first_block(start)
            };
            // Far enough from the beginning, with every place in a block.
            prop_assert_eq!(Some(window.num_blocks(new)), (60..60 + block_size).map(blocks).max());
        }
    }
}
