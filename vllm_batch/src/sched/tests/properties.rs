use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// What a user or an engine may do.
#[derive(Debug, Clone)]
enum Op {
    Add {
        prompt_token_ids: Vec<u32>,
        num_output_tokens: usize,
        spare_tokens: usize,
        priority: i32,
        max_cached_tokens: usize,
        adapter: Option<u32>,
    },
    /// Drafts may fill the step up to so many tokens.
    Step { most: usize },
    /// Finishes one of the unfinished sequences early.
    Abort(prop::sample::Index),
    /// Schedules a step that is never computed: its sequences are all aborted.
    FailStep { most: usize },
}

/// An engine with a model that writes, for each token, the name of all tokens up to it into the cache.
struct World {
    scheduler: Scheduler,
    cache: Vec<u64>,
    expected: HashMap<SequenceId, Expected>,
    num_added: u64,
    /// How many drafts came true.
    num_accepted: usize,
}

/// What is known about a sequence without asking the scheduler.
struct Expected {
    token_ids: Vec<u32>,
    num_prompt_tokens: usize,
    num_final_tokens: usize,
    num_computed_tokens: usize,
    /// Set at the first admission.
    num_cached_tokens: Option<usize>,
    runs: bool,
    max_cached_tokens: usize,
    adapter: Option<u32>,
}

impl Expected {
    /// What the cache holds at a position.
    fn content(&self, position: usize) -> u64 {
        name(&self.token_ids[..=position]) ^ u64::from(self.adapter.map_or(0, |adapter| adapter + 1))
    }

    /// The same with more tokens.
    fn followed_by(&self, token_ids: &[u32]) -> Self {
        Self { token_ids: [&self.token_ids, token_ids].concat(), ..*self }
    }
}

impl World {
    fn new(config: SchedulerConfig) -> Self {
        let cache = vec![0; config.num_blocks * config.block_size];
        Self { scheduler: scheduler(config), cache, expected: HashMap::new(), num_added: 0, num_accepted: 0 }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Add { .. } => self.add(op),
            Op::Step { most } => self.step(*most),
            Op::Abort(index) => {
                let mut ids: Vec<_> = self.expected.keys().copied().collect();
                ids.sort_unstable();
                if !ids.is_empty() {
                    self.finish(*index.get(&ids));
                }
            }
            Op::FailStep { most } => {
                let output = self.schedule(*most);
                output.scheduled.iter().for_each(|part| self.finish(part.id));
                self.scheduler.complete(&output);
            }
        }
        assert_eq!(self.scheduler.check_integrity(), Ok(()));
    }

    /// Adds a sequence if it can ever fit.
    fn add(&mut self, op: &Op) {
        let Op::Add { prompt_token_ids, num_output_tokens, spare_tokens, priority, max_cached_tokens, adapter } =
            op.clone()
        else {
            return;
        };
        let (id, num_prompt_tokens) = (SequenceId(self.num_added), prompt_token_ids.len());
        let num_final_tokens = num_prompt_tokens + num_output_tokens;
        let capacity = self.cache.len();
        let has_window = self.scheduler.config().sliding_window.is_some();
        let most = if has_window { usize::MAX } else { capacity.max(num_final_tokens) };
        let max_num_tokens = (num_final_tokens + spare_tokens).min(most);
        let new = NewSequence {
            id,
            prompt_token_ids: prompt_token_ids.clone(),
            max_num_tokens,
            priority,
            max_cached_tokens,
            adapter,
        };
        let added = self.scheduler.add(new);
        if self.scheduler.config().min_blocks_for(max_num_tokens) > self.scheduler.config().num_blocks {
            assert_eq!(added, Err(AddError::ExceedsCache { max_num_tokens, capacity }));
            return;
        }
        let SchedulerConfig { max_num_batched_tokens, enable_chunked_prefill, .. } = *self.scheduler.config();
        if !enable_chunked_prefill && max_num_tokens > max_num_batched_tokens {
            assert_eq!(added, Err(AddError::ExceedsBudget { max_num_tokens, max_num_batched_tokens }));
            return;
        }
        assert_eq!(added, Ok(()));
        self.num_added += 1;
        let expected = Expected {
            token_ids: prompt_token_ids,
            num_prompt_tokens,
            num_final_tokens,
            num_computed_tokens: 0,
            num_cached_tokens: None,
            runs: false,
            max_cached_tokens,
            adapter,
        };
        self.expected.insert(id, expected);
    }

    fn step(&mut self, most: usize) {
        let output = self.schedule(most);
        self.forward(&output);
        self.scheduler.complete(&output);
        for part in &output.scheduled {
            let expected = self.expected.get_mut(&part.id).expect("only unfinished ones are scheduled");
            expected.num_computed_tokens += part.num_tokens;
            if part.samples {
                self.sample(part);
            }
        }
    }

    /// Appends the next token, and one more for each draft that came true.
    fn sample(&mut self, part: &ScheduledSequence) {
        let draft_token_ids = self.scheduler.get(part.id).expect("it is unfinished").draft_token_ids().to_vec();
        assert_eq!(draft_token_ids.len(), part.num_draft_tokens);
        for draft in draft_token_ids.into_iter().map(Some).chain([None]) {
            let expected = self.expected.get_mut(&part.id).expect("it is unfinished");
            let token_id = next_token(&expected.token_ids);
            expected.token_ids.push(token_id);
            let came_true = draft == Some(token_id);
            expected.num_computed_tokens += usize::from(came_true);
            let is_complete = expected.token_ids.len() == expected.num_final_tokens;
            let sequence = self.scheduler.append_token(part.id, token_id).expect("it is unfinished");
            assert_eq!(sequence.num_computed_tokens(), expected.num_computed_tokens);
            assert_eq!(sequence.is_computed(), came_true);
            self.num_accepted += usize::from(came_true);
            if is_complete {
                self.finish(part.id);
            }
            if is_complete || !came_true {
                return;
            }
        }
    }

    /// Schedules and checks the step against what is expected.
    fn schedule(&mut self, most: usize) -> SchedulerOutput {
        let config = *self.scheduler.config();
        let mut output = self.scheduler.schedule();
        let num_known = output.num_tokens();
        self.scheduler.draft(&mut output, most, |sequence, room| {
            assert!(room > 0 && sequence.draft_token_ids().is_empty());
            guesses(sequence.token_ids())
        });
        assert!(output.num_tokens() <= num_known.max(most), "drafts do not exceed their bound");
        assert_eq!(output.num_tokens(), num_known + output.num_draft_tokens());
        assert_eq!(self.scheduler.check_integrity(), Ok(()));
        assert_eq!(output.is_empty(), self.expected.is_empty(), "no step is wasted");
        assert!(output.num_tokens() <= config.max_num_batched_tokens);
        for id in &output.preempted {
            let expected = self.expected.get_mut(id).expect("only unfinished ones are preempted");
            assert!(std::mem::take(&mut expected.runs), "it ran");
            expected.num_computed_tokens = 0;
        }
        for part in &output.scheduled {
            self.check_part(part);
        }
        let mut ids: Vec<_> = output.scheduled.iter().map(|part| part.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), output.scheduled.len(), "no sequence is scheduled twice");
        output
    }

    /// Each part begins where the last one ended; only an admission may skip blocks, and never the last token.
    fn check_part(&mut self, part: &ScheduledSequence) {
        let SchedulerConfig { block_size, enable_prefix_caching, enable_chunked_prefill, .. } =
            *self.scheduler.config();
        let expected = self.expected.get_mut(&part.id).expect("only unfinished ones are scheduled");
        if !std::mem::replace(&mut expected.runs, true) {
            let most = if enable_prefix_caching { expected.max_cached_tokens } else { 0 };
            assert!(part.start.is_multiple_of(block_size) && part.start <= most);
            expected.num_computed_tokens = part.start;
            expected.num_cached_tokens.get_or_insert(part.start);
        }
        let end = part.start + part.num_tokens;
        assert_eq!(part.start, expected.num_computed_tokens);
        assert!(part.num_tokens > 0 && end <= expected.token_ids.len());
        assert_eq!(part.samples, end == expected.token_ids.len());
        assert!(part.samples || enable_chunked_prefill);
        assert!(part.samples || part.num_draft_tokens == 0);
    }

    /// Writes all scheduled tokens and drafts, then reads all tokens that the scheduled ones attend to.
    fn forward(&mut self, output: &SchedulerOutput) {
        for part in &output.scheduled {
            for position in part.start..part.start + part.num_tokens {
                let slot = self.slot(part.id, position);
                self.cache[slot] = self.expected[&part.id].content(position);
            }
            let drafts = self.scheduler.get(part.id).expect("it is unfinished").draft_token_ids();
            let (end, expected) = (part.start + part.num_tokens, &self.expected[&part.id]);
            let drafted = expected.followed_by(drafts);
            for position in end..end + part.num_draft_tokens {
                let slot = self.slot(part.id, position);
                self.cache[slot] = drafted.content(position);
            }
        }
        for part in &output.scheduled {
            let expected = &self.expected[&part.id];
            let window = self.scheduler.config().sliding_window.unwrap_or(usize::MAX);
            for position in (part.start + 1).saturating_sub(window)..part.start + part.num_tokens {
                assert_eq!(self.cache[self.slot(part.id, position)], expected.content(position), "{part:?}");
            }
        }
    }

    fn slot(&self, id: SequenceId, position: usize) -> usize {
        let block_size = self.scheduler.config().block_size;
        let block_table = self.scheduler.get(id).expect("it is unfinished").block_table();
        let block = block_table.get(position / block_size).expect("what is seen or computed has its block");
        block.index() * block_size + position % block_size
    }

    fn finish(&mut self, id: SequenceId) {
        let expected = self.expected.remove(&id).expect("it is unfinished");
        let finished = FinishedSequence {
            id,
            token_ids: expected.token_ids,
            num_prompt_tokens: expected.num_prompt_tokens,
            num_cached_tokens: expected.num_cached_tokens.unwrap_or(0),
        };
        assert_eq!(self.scheduler.finish(id), Some(finished));
    }

    /// Runs until nobody is left. The first by rank among those that run moves in every step, and is only set back by
    /// one that ranks before it.
    fn drain(&mut self) {
        let num_tokens: usize = self.expected.values().map(|expected| expected.num_final_tokens).sum();
        let limit = num_tokens * (self.expected.len() + 1);
        for _ in 0..limit {
            self.apply(&Op::Step { most: 16 });
        }
        assert!(self.expected.is_empty() && !self.scheduler.has_unfinished());
        assert_eq!(self.scheduler.block_pool().num_free_blocks(), self.scheduler.config().num_blocks);
    }
}

/// FNV-1a: names what a cache slot holds.
fn name(token_ids: &[u32]) -> u64 {
    token_ids.iter().fold(0xcbf2_9ce4_8422_2325, |hash, id| (hash ^ u64::from(*id + 1)).wrapping_mul(0x0100_0000_01b3))
}

/// What the model says after these tokens.
fn next_token(token_ids: &[u32]) -> u32 {
    (name(token_ids) % 2) as u32
}

/// Some tokens that the model will say, then some that it may say.
fn guesses(token_ids: &[u32]) -> Vec<u32> {
    let (num_right, num_random) = ((name(token_ids) >> 8) & 3, (name(token_ids) >> 10) & 3);
    let mut guessed = token_ids.to_vec();
    (0..num_right).for_each(|_| guessed.push(next_token(&guessed)));
    guessed.extend((0..num_random).map(|bit| ((name(token_ids) >> (12 + bit)) & 1) as u32));
    guessed.split_off(token_ids.len())
}

fn config() -> impl Strategy<Value = SchedulerConfig> {
    let window = prop_oneof![Just(None), (1usize..12).prop_map(Some)];
    let switches = (prop::bool::weighted(0.8), prop::bool::weighted(0.7), window);
    (1usize..6, 1usize..32, 1usize..5, 3usize..16, switches).prop_map(
        |(max_num_seqs, max_num_batched_tokens, block_size, num_blocks, switches)| SchedulerConfig {
            max_num_seqs,
            max_num_batched_tokens,
            block_size,
            num_blocks,
            enable_prefix_caching: switches.0,
            enable_chunked_prefill: switches.1,
            // Sequences that are computed whole keep all their blocks.
            sliding_window: switches.2.filter(|_| switches.1),
        },
    )
}

/// Prompts of one leading token repeated and a random rest over two tokens: many have a prefix in common.
fn op() -> impl Strategy<Value = Op> {
    let prompt = (0u32..2, 0usize..10, prop::collection::vec(0u32..2, 1..6));
    let priority = prop_oneof![4 => Just(0), 1 => -1i32..2];
    let max_cached_tokens = prop_oneof![4 => Just(usize::MAX), 1 => 0usize..8];
    let adapter = prop_oneof![3 => Just(None), 1 => (0u32..2).prop_map(Some)];
    let add = (prompt, 1usize..12, 0usize..20, priority, (max_cached_tokens, adapter));
    prop_oneof![
        4 => add.prop_map(|((token_id, num_tokens, rest), num_output_tokens, spare_tokens, priority, limits)| Op::Add {
            prompt_token_ids: [vec![token_id; num_tokens], rest].concat(),
            num_output_tokens,
            spare_tokens,
            priority,
            max_cached_tokens: limits.0,
            adapter: limits.1,
        }),
        8 => (0usize..24).prop_map(|most| Op::Step { most }),
        1 => any::<prop::sample::Index>().prop_map(Op::Abort),
        1 => (0usize..24).prop_map(|most| Op::FailStep { most }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn every_sequence_ends_with_its_tokens_computed_in_order(
        config in config(),
        ops in prop::collection::vec(op(), 0..40),
    ) {
        let mut world = World::new(config);
        for op in &ops {
            world.apply(op);
        }
        world.drain();
    }

    #[test]
    fn equal_calls_give_equal_steps(config in config(), ops in prop::collection::vec(op(), 0..20)) {
        let mut worlds = [World::new(config), World::new(config)];
        for op in &ops {
            for world in &mut worlds {
                world.apply(op);
            }
            let [first, second] = worlds.each_ref().map(|world| format!("{:?}", world.scheduler.running));
            prop_assert_eq!(first, second);
        }
    }
}

#[test]
fn the_worlds_do_preempt_and_share_and_guess() {
    let config = SchedulerConfig {
        max_num_seqs: 4,
        max_num_batched_tokens: 8,
        block_size: 2,
        num_blocks: 8,
        enable_prefix_caching: true,
        ..CONFIG
    };
    let mut world = World::new(config);
    for _ in 0..6 {
        world.add(&Op::Add {
            prompt_token_ids: vec![1; 5],
            num_output_tokens: 9,
            spare_tokens: 0,
            priority: 0,
            max_cached_tokens: usize::MAX,
            adapter: None,
        });
    }
    let (mut num_preempted, mut num_skipped) = (0, 0);
    while world.scheduler.has_unfinished() {
        let before: Vec<bool> = (0..6).map(|id| world.expected.get(&SequenceId(id)).is_some_and(|e| e.runs)).collect();
        world.apply(&Op::Step { most: 16 });
        let now = |id: usize| world.expected.get(&SequenceId(id as u64));
        num_preempted += (0..6).filter(|id| before[*id] && now(*id).is_some_and(|expected| !expected.runs)).count();
        num_skipped += (0..6).filter(|id| !before[*id] && now(*id).is_some_and(|e| e.num_computed_tokens > 5)).count();
    }
    assert!(num_preempted > 0 && num_skipped > 0, "{num_preempted} preempted, {num_skipped} came back with hits");
    assert!(world.num_accepted > 0, "no draft came true");
}
