//! The name of a full block.

use sha2::{Digest, Sha256};

/// Names the content of a full block: its tokens, and through its parent all tokens before them.
///
/// These are the first 128 bits of a SHA-256, so that no two contents have the same name, not even on purpose: prompts
/// of different users meet in one cache.
///
/// # Example
/// ```
/// use vllm_batch::kv::BlockHash;
///
/// let first = BlockHash::new(None, &[1, 2]);
/// assert_eq!(first, BlockHash::new(None, &[1, 2]));
/// assert_ne!(BlockHash::new(Some(first), &[3, 4]), BlockHash::new(None, &[3, 4]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockHash([u8; 16]);

impl BlockHash {
    /// Stands before the first block of sequences that an adapter changes: their blocks hold other numbers for the same
    /// tokens.
    #[must_use]
    pub fn of_adapter(adapter: u32) -> Self {
        // Of another length than the content of any block.
        Self::of(Sha256::new().chain_update(b"adapter").chain_update(adapter.to_le_bytes()))
    }

    /// The name of the block that holds `token_ids` and follows the block named `parent`; no parent at the beginning.
    #[must_use]
    pub fn new(parent: Option<Self>, token_ids: &[u32]) -> Self {
        let mut sha = Sha256::new();
        sha.update(parent.map_or([0; 16], |parent| parent.0));
        for token_id in token_ids {
            sha.update(token_id.to_le_bytes());
        }
        Self::of(sha)
    }

    fn of(sha: Sha256) -> Self {
        let digest = sha.finalize();
        Self(std::array::from_fn(|index| digest[index]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_content_counts() {
        let parent = BlockHash::new(None, &[7]);
        let names = [
            BlockHash::new(None, &[1, 2]),
            BlockHash::new(None, &[2, 1]),
            BlockHash::new(None, &[1, 2, 0]),
            BlockHash::new(None, &[1 << 8, 2]),
            BlockHash::new(Some(parent), &[1, 2]),
            BlockHash::new(Some(BlockHash::new(None, &[8])), &[1, 2]),
            BlockHash::new(Some(BlockHash::of_adapter(0)), &[1, 2]),
            BlockHash::new(Some(BlockHash::of_adapter(1)), &[1, 2]),
        ];
        for (index, name) in names.iter().enumerate() {
            assert_eq!(names.iter().position(|other| other == name), Some(index));
        }
    }

    #[test]
    fn names_do_not_change_between_versions() {
        let expected = [0x0c, 0x80, 0x66, 0xa5, 0x5a, 0x0b, 0x27, 0x43, 0xb9, 0xb1, 0x35, 0xe9, 0xd8, 0x45, 0x86, 0x6e];
        assert_eq!(BlockHash::new(None, &[1, 2, 3]), BlockHash(expected));
    }
}
