//! One request on its way through the model.

use crate::kv::{BlockHash, BlockTable};

/// Names a sequence; the engine chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

/// A sequence to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSequence {
    /// Its name; no unfinished sequence may have it.
    pub id: SequenceId,
    /// The prompt, at least one token.
    pub prompt_token_ids: Vec<u32>,
    /// The most tokens it can come to have, prompt and output together.
    pub max_num_tokens: usize,
    /// The lower number is served first; equal ones in order of arrival.
    pub priority: i32,
    /// The most tokens from the front that it may have from the prefix cache: those from here on must be computed for it.
    /// Others may still find its blocks. `usize::MAX` for no limit.
    pub max_cached_tokens: usize,
    /// The adapter that changes the network for it: sequences of different ones share no blocks.
    pub adapter: Option<u32>,
}

/// Where a sequence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SequenceStatus {
    /// It was never admitted.
    Waiting,
    /// It has blocks and takes part in the steps.
    Running,
    /// It ran, lost its blocks to others, and waits to be computed again.
    Preempted,
}

/// The order in which sequences are served: the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) priority: i32,
    pub(super) arrival: u64,
}

/// A sequence that is not finished.
#[derive(Debug)]
pub struct Sequence {
    pub(super) id: SequenceId,
    pub(super) rank: Rank,
    pub(super) status: SequenceStatus,
    pub(super) token_ids: Vec<u32>,
    pub(super) num_prompt_tokens: usize,
    pub(super) max_num_tokens: usize,
    pub(super) max_cached_tokens: usize,
    pub(super) adapter: Option<u32>,
    pub(super) num_computed_tokens: usize,
    /// Tokens that were scheduled, but not completed yet.
    pub(super) num_scheduled_tokens: usize,
    pub(super) num_cached_tokens: usize,
    pub(super) draft_token_ids: Vec<u32>,
    /// One for each full block of `token_ids`, if prefixes are cached.
    pub(super) block_hashes: Vec<BlockHash>,
    pub(super) block_table: BlockTable,
}

impl Sequence {
    pub(super) fn new(new: NewSequence, arrival: u64) -> Self {
        Self {
            id: new.id,
            rank: Rank { priority: new.priority, arrival },
            status: SequenceStatus::Waiting,
            num_prompt_tokens: new.prompt_token_ids.len(),
            token_ids: new.prompt_token_ids,
            max_num_tokens: new.max_num_tokens,
            max_cached_tokens: new.max_cached_tokens,
            adapter: new.adapter,
            num_computed_tokens: 0,
            num_scheduled_tokens: 0,
            num_cached_tokens: 0,
            draft_token_ids: Vec::new(),
            block_hashes: Vec::new(),
            block_table: BlockTable::default(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> SequenceId {
        self.id
    }

    /// Where it is.
    #[must_use]
    pub fn status(&self) -> SequenceStatus {
        self.status
    }

    /// The lower number is served first.
    #[must_use]
    pub fn priority(&self) -> i32 {
        self.rank.priority
    }

    /// The adapter that changes the network for it.
    #[must_use]
    pub fn adapter(&self) -> Option<u32> {
        self.adapter
    }

    /// The prompt and the output.
    #[must_use]
    pub fn token_ids(&self) -> &[u32] {
        &self.token_ids
    }

    /// The tokens after the prompt.
    #[must_use]
    pub fn output_token_ids(&self) -> &[u32] {
        &self.token_ids[self.num_prompt_tokens..]
    }

    /// How many tokens are known, prompt and output together.
    #[must_use]
    pub fn num_tokens(&self) -> usize {
        self.token_ids.len()
    }

    /// How many tokens the prompt has.
    #[must_use]
    pub fn num_prompt_tokens(&self) -> usize {
        self.num_prompt_tokens
    }

    /// The most tokens it can come to have, prompt and output together.
    #[must_use]
    pub fn max_num_tokens(&self) -> usize {
        self.max_num_tokens
    }

    /// How many tokens from the front have their keys and values in the cache.
    #[must_use]
    pub fn num_computed_tokens(&self) -> usize {
        self.num_computed_tokens
    }

    /// Whether all known tokens are computed: after a token was added, whether it was a
    /// [draft](super::Scheduler::draft).
    #[must_use]
    pub fn is_computed(&self) -> bool {
        self.num_pending_tokens() == 0
    }

    /// How many tokens of the prompt the prefix cache held when the sequence was first admitted. What it finds after a
    /// preemption does not count.
    #[must_use]
    pub fn num_cached_tokens(&self) -> usize {
        self.num_cached_tokens
    }

    /// Guesses of the tokens after the known ones. They are computed in the step that chooses the next token, and those
    /// that are still here after it as well: see [`Scheduler::draft`](super::Scheduler::draft).
    #[must_use]
    pub fn draft_token_ids(&self) -> &[u32] {
        &self.draft_token_ids
    }

    /// The blocks of its keys and values: room for all known tokens while it runs, none while it waits. With a sliding
    /// window, room for those that the next steps compute, and for what these see.
    pub fn block_table(&self) -> &BlockTable {
        &self.block_table
    }

    /// How many known tokens are not computed.
    pub(super) fn num_pending_tokens(&self) -> usize {
        self.num_tokens() - self.num_computed_tokens
    }

    /// Adds a token. The draft that it is, if it is the next one, has its keys and values already; otherwise they are of
    /// another token, and so are those of all drafts after it.
    pub(super) fn push(&mut self, token_id: u32) {
        let is_drafted = self.is_computed() && self.draft_token_ids.first() == Some(&token_id);
        if is_drafted {
            self.draft_token_ids.remove(0);
            self.num_computed_tokens += 1;
        } else {
            self.draft_token_ids.clear();
        }
        self.token_ids.push(token_id);
    }

    /// Tokens beyond its blocks for which room should be kept: an eighth of what it wrote so far, because who wrote much
    /// is likely to write more, and half a block, but not beyond its bound. One that leaves blocks behind grows no more.
    pub(super) fn expected_growth(&self, block_size: usize) -> usize {
        if self.block_table.first() > 0 {
            return 0;
        }
        let most = self.max_num_tokens.saturating_sub(self.block_table.end() * block_size);
        most.min(block_size / 2 + self.output_token_ids().len() / 8)
    }

    /// Names the full blocks that have no name yet.
    pub(super) fn hash_full_blocks(&mut self, block_size: usize) {
        let start = self.block_hashes.len() * block_size;
        for tokens in self.token_ids[start..].chunks_exact(block_size) {
            let parent = self.block_hashes.last().copied().or(self.adapter.map(BlockHash::of_adapter));
            self.block_hashes.push(BlockHash::new(parent, tokens));
        }
    }
}
