//! The queues, and the way between them.

use std::collections::{BTreeMap, HashMap};

use super::output::{AddError, FinishedSequence, ScheduledSequence, SchedulerOutput};
use super::sequence::{NewSequence, Rank, Sequence, SequenceId, SequenceStatus};
use crate::error::LoadError;
use crate::kv::{BlockPool, SlidingWindow};

/// The limits of a [`Scheduler`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// The most sequences that run at the same time.
    pub max_num_seqs: usize,
    /// The budget: the most tokens that one step computes. Below `max_num_seqs`, some sequences pause in each step.
    pub max_num_batched_tokens: usize,
    /// Tokens in a block of the cache.
    pub block_size: usize,
    /// Blocks in the cache.
    pub num_blocks: usize,
    /// Whether a sequence may use blocks that were computed for another one with the same beginning.
    pub enable_prefix_caching: bool,
    /// Whether a step may compute a part of what a sequence lacks. Otherwise a sequence waits until the budget has room for
    /// all of it, and none is taken that could have more tokens than the budget.
    pub enable_chunked_prefill: bool,
    /// Tokens that each token sees, its own and those before it, where no part of the model sees more: a sequence gives
    /// back the blocks that it has left behind. All if absent, and where sequences are computed whole.
    pub sliding_window: Option<usize>,
}

impl SchedulerConfig {
    /// The fewest blocks with which a sequence can come to have `num_tokens` tokens.
    #[must_use]
    pub fn min_blocks_for(&self, num_tokens: usize) -> usize {
        let all = num_tokens.div_ceil(self.block_size);
        self.window().map_or(all, |window| all.min(window.num_blocks(1)))
    }

    /// The window, if blocks can be left behind.
    fn window(&self) -> Option<SlidingWindow> {
        let num_tokens = self.sliding_window.filter(|_| self.enable_chunked_prefill)?;
        Some(SlidingWindow { num_tokens, block_size: self.block_size })
    }
}

/// Decides what each step computes, and owns the sequences and the blocks.
///
/// # Example
/// ```
/// use vllm_batch::sched::{NewSequence, ScheduledSequence, Scheduler, SchedulerConfig, SequenceId};
///
/// let mut scheduler = Scheduler::new(SchedulerConfig {
///     max_num_seqs: 8,
///     max_num_batched_tokens: 4,
///     block_size: 2,
///     num_blocks: 16,
///     enable_prefix_caching: true,
///     enable_chunked_prefill: true,
///     sliding_window: None,
/// })?;
/// let id = SequenceId(1);
/// scheduler.add(NewSequence {
///     id,
///     prompt_token_ids: vec![5, 6, 7, 8, 9],
///     max_num_tokens: 6,
///     priority: 0,
///     max_cached_tokens: usize::MAX,
///     adapter: None,
/// })?;
///
/// let step = scheduler.schedule();
/// assert_eq!(step.scheduled, [ScheduledSequence { id, start: 0, num_tokens: 4, num_draft_tokens: 0, samples: false }]);
/// scheduler.complete(&step);
///
/// let step = scheduler.schedule();
/// assert_eq!(step.scheduled, [ScheduledSequence { id, start: 4, num_tokens: 1, num_draft_tokens: 0, samples: true }]);
/// scheduler.complete(&step);
///
/// scheduler.append_token(id, 42);
/// let finished = scheduler.finish(id).expect("it was there");
/// assert_eq!(finished.output_token_ids(), [42]);
/// assert!(!scheduler.has_unfinished());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Scheduler {
    pub(super) config: SchedulerConfig,
    pub(super) pool: BlockPool,
    /// In order of rank.
    pub(super) running: Vec<Sequence>,
    pub(super) waiting: BTreeMap<Rank, Sequence>,
    pub(super) ranks: HashMap<SequenceId, Rank>,
    num_arrivals: u64,
}

impl Scheduler {
    /// A scheduler without sequences; all blocks are free.
    ///
    /// # Errors
    /// [`LoadError::InvalidOption`] for a limit that is 0, or more blocks than 32 bits can number.
    pub fn new(config: SchedulerConfig) -> Result<Self, LoadError> {
        let limits = [
            ("max_num_seqs", config.max_num_seqs),
            ("max_num_batched_tokens", config.max_num_batched_tokens),
            ("block_size", config.block_size),
            ("num_blocks", config.num_blocks),
            ("sliding_window", config.sliding_window.unwrap_or(1)),
        ];
        if let Some((option, _)) = limits.into_iter().find(|(_, limit)| *limit == 0) {
            return Err(LoadError::InvalidOption { option, message: "must be at least 1".to_owned() });
        }
        if u32::try_from(config.num_blocks).is_err() {
            return Err(LoadError::InvalidOption { option: "num_blocks", message: "must be below 2^32".to_owned() });
        }
        let mut pool = BlockPool::new(config.num_blocks, config.block_size, config.enable_prefix_caching);
        if let Some(window) = config.window() {
            pool = pool.with_sliding_window(window, config.max_num_batched_tokens);
        }
        Ok(Self { config, pool, running: Vec::new(), waiting: BTreeMap::new(), ranks: HashMap::new(), num_arrivals: 0 })
    }

    /// Takes a sequence, which waits until there is room.
    ///
    /// # Errors
    /// The sequence has no token, has more than it may have, could outgrow the whole cache or, if it must be computed
    /// whole, the budget, or has the id of another one that is not finished. Nothing changes then.
    pub fn add(&mut self, new: NewSequence) -> Result<(), AddError> {
        self.check_new(&new)?;
        let mut sequence = Sequence::new(new, self.num_arrivals);
        self.num_arrivals += 1;
        if self.config.enable_prefix_caching {
            sequence.hash_full_blocks(self.config.block_size);
        }
        self.ranks.insert(sequence.id, sequence.rank);
        self.waiting.insert(sequence.rank, sequence);
        Ok(())
    }

    /// Removes a sequence, wherever it is, and frees its blocks: it is complete, or nobody wants it any more. `None` if
    /// it is not there.
    ///
    /// Between [`schedule`](Self::schedule) and [`complete`](Self::complete), other scheduled sequences may count on
    /// tokens that this one was to compute: then either compute the step as it was scheduled, or finish all of its
    /// sequences.
    pub fn finish(&mut self, id: SequenceId) -> Option<FinishedSequence> {
        let rank = self.ranks.remove(&id)?;
        let mut sequence = match self.running_index(rank) {
            Some(index) => self.running.remove(index),
            None => self.waiting.remove(&rank)?,
        };
        self.release_blocks(&mut sequence);
        Some(FinishedSequence {
            id,
            token_ids: sequence.token_ids,
            num_prompt_tokens: sequence.num_prompt_tokens,
            num_cached_tokens: sequence.num_cached_tokens,
        })
    }

    /// Chooses the tokens of the next step, gives them blocks, and enters the blocks that the step fills into the prefix
    /// index, so that sequences admitted in the same step share them already. Preempts sequences if blocks run out.
    ///
    /// Takes time in the number of running sequences; how many wait does not matter. Follow it by
    /// [`complete`](Self::complete) before the next call. Sequences are left out that have no token to compute: those
    /// that sampled and got no new token.
    #[must_use = "what was scheduled must be computed"]
    pub fn schedule(&mut self) -> SchedulerOutput {
        let mut output = SchedulerOutput::default();
        let mut budget = self.config.max_num_batched_tokens;
        self.make_room(&mut output.preempted);
        let has_room = output.preempted.is_empty();
        if has_room {
            self.make_way(&mut output.preempted);
        }
        self.schedule_running(&mut budget, &mut output.scheduled, |sequence| sequence.num_pending_tokens() == 1);
        if has_room {
            self.admit_before_others(&mut budget, &mut output.scheduled);
        }
        self.schedule_running(&mut budget, &mut output.scheduled, |_| true);
        if has_room {
            self.admit(None, &mut budget, &mut output.scheduled);
        }
        output
    }

    /// Adds draft tokens to a step that was just scheduled, up to `max_num_tokens` tokens in all: guesses of what will
    /// follow, computed along with the last known token. `propose` is asked once for each sequence that samples, with the
    /// most tokens that there is room for; what it gives beyond them is dropped. Each has its share of the room, with what
    /// those before it left over.
    ///
    /// Drafts come last: they take nothing that a known token could have in this step, and no block that a running sequence
    /// may need in the next one. When the step is complete, [`append_token`](Self::append_token) tells which of them came
    /// true. A block that holds a draft is not in the prefix index.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::sched::{NewSequence, Scheduler, SchedulerConfig, SequenceId};
    ///
    /// # let mut scheduler = Scheduler::new(SchedulerConfig {
    /// #     max_num_seqs: 8,
    /// #     max_num_batched_tokens: 16,
    /// #     block_size: 2,
    /// #     num_blocks: 16,
    /// #     enable_prefix_caching: true,
    /// #     enable_chunked_prefill: true,
    /// #     sliding_window: None,
    /// # })?;
    /// # let id = SequenceId(1);
    /// # let prompt_token_ids = vec![5, 6, 7];
    /// # let (priority, max_cached_tokens, adapter) = (0, usize::MAX, None);
    /// # scheduler.add(NewSequence { id, prompt_token_ids, max_num_tokens: 9, priority, max_cached_tokens, adapter })?;
    /// let mut step = scheduler.schedule();
    /// scheduler.draft(&mut step, 8, |_, _| vec![10, 11, 12]);
    /// assert_eq!((step.num_tokens(), step.num_draft_tokens()), (6, 3));
    /// scheduler.complete(&step);
    /// // What the logits choose: the first two drafts, then another token.
    /// for token_id in [10, 11, 42] {
    ///     scheduler.append_token(id, token_id);
    /// }
    /// let sequence = scheduler.get(id).expect("it is there");
    /// assert_eq!((sequence.num_tokens(), sequence.num_computed_tokens()), (6, 5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn draft(
        &mut self,
        output: &mut SchedulerOutput,
        max_num_tokens: usize,
        mut propose: impl FnMut(&Sequence, usize) -> Vec<u32>,
    ) {
        let most = max_num_tokens.min(self.config.max_num_batched_tokens);
        let mut budget = most.saturating_sub(output.num_tokens());
        let mut num_left = output.scheduled.iter().filter(|part| part.samples).count();
        for part in output.scheduled.iter_mut().filter(|part| part.samples) {
            let share = budget.div_ceil(num_left);
            num_left -= 1;
            let Some(index) = self.ranks.get(&part.id).and_then(|rank| self.running_index(*rank)) else { continue };
            let room = share.min(self.draft_room(&self.running[index]));
            if room == 0 {
                continue;
            }
            let sequence = &mut self.running[index];
            let mut draft_token_ids = propose(sequence, room);
            draft_token_ids.truncate(room);
            if self.pool.grow(&mut sequence.block_table, sequence.token_ids.len() + draft_token_ids.len()) {
                part.num_draft_tokens = draft_token_ids.len();
                budget -= draft_token_ids.len();
                sequence.draft_token_ids = draft_token_ids;
            }
        }
    }

    /// Counts the tokens of a step as computed. Sequences that were finished since are skipped.
    pub fn complete(&mut self, output: &SchedulerOutput) {
        for scheduled in &output.scheduled {
            let Some(sequence) = self.get_mut(scheduled.id) else { continue };
            if sequence.num_scheduled_tokens == scheduled.num_tokens {
                sequence.num_computed_tokens += sequence.num_scheduled_tokens;
                sequence.num_scheduled_tokens = 0;
            }
        }
    }

    /// Adds a token to the output of a sequence and gives the sequence back; `None` if it is not there. Several tokens
    /// may be added before the next step, and some before the first: they are computed like those of a prompt. A token that
    /// is the next of the [drafts](Self::draft) is computed already; any other ends them.
    ///
    /// # Panics
    /// If the sequence has `max_num_tokens` tokens already: it must be finished then.
    pub fn append_token(&mut self, id: SequenceId, token_id: u32) -> Option<&Sequence> {
        let SchedulerConfig { block_size, enable_prefix_caching, .. } = self.config;
        let sequence = self.get_mut(id)?;
        assert!(sequence.num_tokens() < sequence.max_num_tokens, "{id:?} must be finished at its bound");
        sequence.push(token_id);
        if enable_prefix_caching {
            sequence.hash_full_blocks(block_size);
        }
        Some(sequence)
    }

    /// A sequence that is not finished.
    #[must_use]
    pub fn get(&self, id: SequenceId) -> Option<&Sequence> {
        let rank = *self.ranks.get(&id)?;
        match self.running_index(rank) {
            Some(index) => self.running.get(index),
            None => self.waiting.get(&rank),
        }
    }

    /// The running sequences, in the order in which they are served.
    pub fn running_ids(&self) -> impl Iterator<Item = SequenceId> {
        self.running.iter().map(Sequence::id)
    }

    /// The most sequences that run at the same time.
    #[must_use]
    pub fn max_num_seqs(&self) -> usize {
        self.config.max_num_seqs
    }

    /// How many sequences run.
    #[must_use]
    pub fn num_running(&self) -> usize {
        self.running.len()
    }

    /// How many sequences wait, for the first time or again.
    #[must_use]
    pub fn num_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is a sequence at all.
    #[must_use]
    pub fn has_unfinished(&self) -> bool {
        !self.ranks.is_empty()
    }

    /// The limits.
    #[must_use]
    pub fn config(&self) -> &SchedulerConfig {
        &self.config
    }

    /// The blocks, to see how many are free.
    #[must_use]
    pub fn block_pool(&self) -> &BlockPool {
        &self.pool
    }

    fn check_new(&self, new: &NewSequence) -> Result<(), AddError> {
        let (num_prompt_tokens, max_num_tokens) = (new.prompt_token_ids.len(), new.max_num_tokens);
        let capacity = self.config.num_blocks.saturating_mul(self.config.block_size);
        let SchedulerConfig { max_num_batched_tokens, enable_chunked_prefill, .. } = self.config;
        if num_prompt_tokens == 0 {
            Err(AddError::Empty)
        } else if num_prompt_tokens > max_num_tokens {
            Err(AddError::PromptTooLong { num_prompt_tokens, max_num_tokens })
        } else if self.config.min_blocks_for(max_num_tokens) > self.config.num_blocks {
            Err(AddError::ExceedsCache { max_num_tokens, capacity })
        } else if !enable_chunked_prefill && max_num_tokens > max_num_batched_tokens {
            Err(AddError::ExceedsBudget { max_num_tokens, max_num_batched_tokens })
        } else if self.ranks.contains_key(&new.id) {
            Err(AddError::DuplicateId { id: new.id })
        } else {
            Ok(())
        }
    }

    /// Takes the blocks that running sequences have left behind, and gives each one blocks for its known tokens, by rank,
    /// at the cost of the last by rank.
    fn make_room(&mut self, preempted: &mut Vec<SequenceId>) {
        for sequence in &mut self.running {
            self.pool.slide(&mut sequence.block_table, sequence.num_computed_tokens);
        }
        let mut index = 0;
        while let Some(sequence) = self.running.get_mut(index) {
            if self.pool.grow(&mut sequence.block_table, sequence.token_ids.len()) {
                index += 1;
            } else if let Some(last) = self.running.pop() {
                preempted.push(last.id);
                self.preempt(last);
            }
        }
    }

    pub(super) fn preempt(&mut self, mut sequence: Sequence) {
        self.release_blocks(&mut sequence);
        sequence.num_computed_tokens = 0;
        sequence.status = SequenceStatus::Preempted;
        self.waiting.insert(sequence.rank, sequence);
    }

    /// Frees the blocks of a sequence. Those that were scheduled but not computed must not be found any more; those that were
    /// filled by drafts which came true may.
    fn release_blocks(&mut self, sequence: &mut Sequence) {
        let mut table = std::mem::take(&mut sequence.block_table);
        sequence.draft_token_ids.clear();
        let num_full_blocks = sequence.num_computed_tokens / self.config.block_size;
        if sequence.num_scheduled_tokens > 0 {
            self.pool.unregister(&mut table, num_full_blocks);
            sequence.num_scheduled_tokens = 0;
        } else {
            let hashes = &sequence.block_hashes[..num_full_blocks.min(sequence.block_hashes.len())];
            self.pool.register(&mut table, hashes);
        }
        self.pool.free(table);
    }

    /// Spends the budget on some of the running sequences that have nothing of it yet, by rank.
    fn schedule_running(
        &mut self,
        budget: &mut usize,
        scheduled: &mut Vec<ScheduledSequence>,
        is_meant: impl Fn(&Sequence) -> bool,
    ) {
        let sequences = self.running.iter_mut().filter(|sequence| sequence.num_scheduled_tokens == 0);
        for sequence in sequences.filter(|sequence| is_meant(sequence)) {
            if self.config.enable_chunked_prefill || sequence.num_pending_tokens() <= *budget {
                scheduled.extend(schedule_chunk(&mut self.pool, sequence, budget));
            }
        }
    }

    /// How many drafts a running sequence has room for: it ends with the token after them, and for each running sequence
    /// a block must stay free.
    fn draft_room(&self, sequence: &Sequence) -> usize {
        let num_spare_blocks = self.pool.num_free_blocks().saturating_sub(self.running.len());
        let capacity = (sequence.block_table.end() + num_spare_blocks) * self.config.block_size;
        capacity.min(sequence.max_num_tokens.saturating_sub(1)).saturating_sub(sequence.num_tokens())
    }

    fn get_mut(&mut self, id: SequenceId) -> Option<&mut Sequence> {
        let rank = *self.ranks.get(&id)?;
        match self.running_index(rank) {
            Some(index) => self.running.get_mut(index),
            None => self.waiting.get_mut(&rank),
        }
    }

    fn running_index(&self, rank: Rank) -> Option<usize> {
        self.running.binary_search_by_key(&rank, |sequence| sequence.rank).ok()
    }
}

/// Takes tokens of a sequence that has blocks for them from the budget; `None` if there is no token or no budget.
pub(super) fn schedule_chunk(
    pool: &mut BlockPool,
    sequence: &mut Sequence,
    budget: &mut usize,
) -> Option<ScheduledSequence> {
    let room = sequence.block_table.end() * pool.block_size() - sequence.num_computed_tokens;
    let num_tokens = sequence.num_pending_tokens().min(*budget).min(room);
    if num_tokens == 0 {
        return None;
    }
    *budget -= num_tokens;
    sequence.num_scheduled_tokens = num_tokens;
    sequence.draft_token_ids.clear();
    let start = sequence.num_computed_tokens;
    let num_full_blocks = (start + num_tokens) / pool.block_size();
    let hashes = &sequence.block_hashes[..num_full_blocks.min(sequence.block_hashes.len())];
    pool.register(&mut sequence.block_table, hashes);
    let samples = start + num_tokens == sequence.num_tokens();
    Some(ScheduledSequence { id: sequence.id, start, num_tokens, num_draft_tokens: 0, samples })
}
