//! Who comes in, and who makes way?

use super::output::ScheduledSequence;
use super::scheduler::{Scheduler, schedule_chunk};
use super::sequence::{Sequence, SequenceId, SequenceStatus};

impl Scheduler {
    /// Preempts sequences of a lower priority than the first that waits, the last by rank first, until that one has a seat and
    /// blocks; none of them, if that would not be enough. What it may find in the prefix cache is not counted.
    pub(super) fn make_way(&mut self, preempted: &mut Vec<SequenceId>) {
        let Some((rank, first)) = self.waiting.first_key_value() else { return };
        let num_blocks = self.pool.num_blocks_to_allocate(first.num_tokens());
        let num_kept = self.running.partition_point(|sequence| sequence.rank.priority <= rank.priority);
        if num_kept == self.running.len() || self.has_room_for(num_blocks) {
            return;
        }
        let lower = self.running[num_kept..].iter().map(|sequence| &sequence.block_table);
        if num_blocks + self.reserve(num_kept) > self.pool.num_free_blocks() + self.pool.num_held_by_none_but(lower) {
            return;
        }
        while self.running.len() > num_kept && !self.has_room_for(num_blocks) {
            if let Some(last) = self.running.pop() {
                preempted.push(last.id);
                self.preempt(last);
            }
        }
    }

    /// Whether a sequence that needs so many blocks would be admitted.
    fn has_room_for(&self, num_blocks: usize) -> bool {
        let num_running = self.running.len();
        num_running < self.config.max_num_seqs && num_blocks + self.reserve(num_running) <= self.pool.num_free_blocks()
    }

    /// Blocks that must stay free, so that the first of those that run can grow.
    fn reserve(&self, num_running: usize) -> usize {
        self.expected_growth(num_running) / self.config.block_size
    }

    /// Tokens by which the first of those that run are expected to outgrow their blocks.
    fn expected_growth(&self, num_running: usize) -> usize {
        self.running[..num_running].iter().map(|sequence| sequence.expected_growth(self.config.block_size)).sum()
    }

    /// Spends the budget on waiting sequences of a higher priority than running ones that have nothing of it yet.
    pub(super) fn admit_before_others(&mut self, budget: &mut usize, scheduled: &mut Vec<ScheduledSequence>) {
        let left = self.running.iter().rev().find(|one| one.num_scheduled_tokens == 0 && one.num_pending_tokens() > 0);
        if let Some(priority) = left.map(|sequence| sequence.rank.priority) {
            self.admit(Some(priority), budget, scheduled);
        }
    }

    /// Spends the budget on waiting sequences, by rank, until one finds no room; only on those before a priority, if one is given.
    pub(super) fn admit(&mut self, before: Option<i32>, budget: &mut usize, scheduled: &mut Vec<ScheduledSequence>) {
        let block_size = self.config.block_size;
        let mut growth = self.expected_growth(self.running.len());
        while *budget > 0 && self.running.len() < self.config.max_num_seqs {
            let first = self.waiting.first_key_value().map(|(rank, _)| rank.priority);
            if before.is_some_and(|before| first.is_none_or(|first| first >= before)) {
                return;
            }
            let Some(mut sequence) = self.take_admissible(growth / block_size, *budget) else { return };
            growth += sequence.expected_growth(block_size);
            scheduled.extend(schedule_chunk(&mut self.pool, &mut sequence, budget));
            let index = self.running.partition_point(|other| other.rank < sequence.rank);
            self.running.insert(index, sequence);
        }
    }

    /// The first waiting sequence, with blocks for its known tokens, if `reserve` blocks stay free, and `budget` is
    /// enough where it must be computed whole.
    fn take_admissible(&mut self, reserve: usize, budget: usize) -> Option<Sequence> {
        let mut entry = self.waiting.first_entry()?;
        let sequence = entry.get_mut();
        if !self.config.enable_chunked_prefill && sequence.num_tokens() > budget {
            return None;
        }
        // The last known token is always computed: its logits choose the next one.
        let num_shareable = (sequence.num_tokens() - 1).min(sequence.max_cached_tokens) / self.config.block_size;
        let hashes = &sequence.block_hashes[..num_shareable.min(sequence.block_hashes.len())];
        let allocation = self.pool.allocate(hashes, sequence.token_ids.len(), reserve)?;
        sequence.block_table = allocation.table;
        sequence.num_computed_tokens = allocation.num_cached_blocks * self.config.block_size;
        if sequence.status == SequenceStatus::Waiting {
            sequence.num_cached_tokens = sequence.num_computed_tokens.min(sequence.num_prompt_tokens);
        }
        sequence.status = SequenceStatus::Running;
        Some(entry.remove())
    }
}
