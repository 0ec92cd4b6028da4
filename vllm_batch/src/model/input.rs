//! One step's tokens, packed without padding.

use std::ops::Range;

use super::cache::BLOCK_SIZE;
use super::projection::AdapterRows;
use crate::kernels::QuerySpan;

pub(crate) use crate::kernels::HeldBlocks;

/// The tokens of one forward pass: any number of sequences, any number of tokens of each, one after the other.
#[derive(Debug, Default)]
pub(crate) struct ModelInput {
    pub(super) token_ids: Vec<u32>,
    pub(super) positions: Vec<u32>,
    pub(super) slots: Vec<u32>,
    pub(super) spans: Vec<QuerySpan>,
    pub(super) logit_rows: Vec<u32>,
    pub(super) adapters: AdapterRows,
}

impl ModelInput {
    /// Adds the tokens of one sequence, the first of which stands at `position`. `block_table` holds its blocks, at least
    /// those from what the first token sees up to the last token. `logits` says after which of these tokens logits are
    /// wanted, counted from the first one of them.
    pub(crate) fn push(
        &mut self,
        token_ids: &[u32],
        position: usize,
        block_table: impl Into<HeldBlocks>,
        logits: Range<usize>,
    ) {
        let (query_start, block_table) = (self.token_ids.len(), block_table.into());
        self.token_ids.extend_from_slice(token_ids);
        for position in position..position + token_ids.len() {
            self.positions.push(position as u32);
            // Without its block, the token has a slot that no cache has: writing to it is an error.
            let slot = block_table.get(position / BLOCK_SIZE).map(|block| block * BLOCK_SIZE as u32);
            self.slots.push(slot.map_or(u32::MAX, |slot| slot + (position % BLOCK_SIZE) as u32));
        }
        self.spans.push(QuerySpan { query_start, query_len: token_ids.len(), position, block_table });
        self.logit_rows.extend(logits.map(|row| (query_start + row) as u32));
    }

    /// Lets the sequence that was pushed last be changed by an adapter, given by its number.
    pub(crate) fn set_adapter(&mut self, adapter: u32) {
        if let Some(span) = self.spans.last() {
            self.adapters.extend(adapter, span.query_start as u32..self.token_ids.len() as u32);
        }
    }

    /// Number of tokens.
    pub(crate) fn num_tokens(&self) -> usize {
        self.token_ids.len()
    }

    /// Number of sequences.
    pub(crate) fn num_seqs(&self) -> usize {
        self.spans.len()
    }
}
