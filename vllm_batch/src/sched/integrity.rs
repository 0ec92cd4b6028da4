//! Does everything add up?

use super::scheduler::Scheduler;
use super::sequence::{Sequence, SequenceStatus};

impl Scheduler {
    /// Checks everything that must hold between two calls. For tests and for debugging: it reads everything.
    ///
    /// # Errors
    /// What is wrong: see [`BlockPool::check_integrity`](crate::kv::BlockPool::check_integrity), and the queues, their order, their limits, the blocks of each
    /// sequence.
    pub fn check_integrity(&self) -> Result<(), String> {
        self.pool.check_integrity(self.running.iter().map(|sequence| &sequence.block_table))?;
        let problems = [
            (self.running.len() > self.config.max_num_seqs, "too many sequences run"),
            (!self.running.is_sorted_by_key(|sequence| sequence.rank), "the running sequences are not in order"),
            (self.ranks.len() != self.running.len() + self.waiting.len(), "the index and the queues differ in length"),
        ];
        if let Some((_, problem)) = problems.iter().find(|(found, _)| *found) {
            return Err((*problem).to_owned());
        }
        let waiting = self.waiting.iter().map(|(rank, sequence)| (*rank, sequence, false));
        let running = self.running.iter().map(|sequence| (sequence.rank, sequence, true));
        for (rank, sequence, runs) in waiting.chain(running) {
            let known = self.ranks.get(&sequence.id) == Some(&rank) && sequence.rank == rank;
            if !known || !self.is_consistent(sequence, runs) {
                return Err(format!("the state of {sequence:?} contradicts its queue"));
            }
        }
        Ok(())
    }

    fn is_consistent(&self, sequence: &Sequence, runs: bool) -> bool {
        let block_size = self.config.block_size;
        let num_underway = sequence.num_computed_tokens + sequence.num_scheduled_tokens;
        let capacity = sequence.block_table.end() * block_size;
        let num_drafted = sequence.num_tokens() + sequence.draft_token_ids.len();
        let num_hashes = if self.config.enable_prefix_caching { sequence.num_tokens() / block_size } else { 0 };
        runs == (sequence.status == SequenceStatus::Running)
            && sequence.num_tokens() <= sequence.max_num_tokens
            && sequence.block_hashes.len() == num_hashes
            && num_underway <= sequence.num_tokens()
            && sequence.block_table.num_registered() <= num_underway / block_size
            && num_underway <= capacity
            && sequence.block_table.first() <= self.pool.first_visible_block(sequence.num_computed_tokens)
            && (sequence.draft_token_ids.is_empty() || num_drafted <= capacity.min(sequence.max_num_tokens - 1))
            && (runs || (sequence.block_table.is_empty() && num_underway == 0))
    }
}
