use super::*;

/// Adds sequences and compares the steps that follow.
fn check(config: SchedulerConfig, sequences: Vec<NewSequence>, expected: &[Step]) -> Scheduler {
    let mut scheduler = scheduler(config);
    for sequence in sequences {
        scheduler.add(sequence).expect("it fits");
    }
    let steps: Vec<Step> = expected.iter().map(|_| step(&mut scheduler, 1000)).collect();
    assert_eq!(steps, expected);
    scheduler
}

fn counts(scheduler: &Scheduler) -> (usize, usize) {
    (scheduler.num_running(), scheduler.num_waiting())
}

#[test]
fn added_sequences_wait() {
    let mut scheduler = scheduler(CONFIG);
    for id in 0..10 {
        scheduler.add(sequence(id, 10, 26)).expect("it fits");
        assert_eq!(counts(&scheduler), (0, id as usize + 1));
        let added = scheduler.get(SequenceId(id)).expect("it was added");
        assert_eq!(
            (added.status(), added.num_tokens(), added.token_ids()[0]),
            (SequenceStatus::Waiting, 10, id as u32)
        );
    }
}

#[test]
fn sequences_that_cannot_end_are_refused() {
    let mut scheduler = scheduler(SchedulerConfig { num_blocks: 2, ..CONFIG });
    scheduler.add(sequence(0, 32, 32)).expect("it fills the cache");
    let cases = [
        (sequence(1, 0, 9), AddError::Empty),
        (sequence(1, 10, 9), AddError::PromptTooLong { num_prompt_tokens: 10, max_num_tokens: 9 }),
        (sequence(1, 10, 33), AddError::ExceedsCache { max_num_tokens: 33, capacity: 32 }),
        (sequence(0, 1, 2), AddError::DuplicateId { id: SequenceId(0) }),
    ];
    for (new, error) in cases {
        assert_eq!(scheduler.add(new), Err(error));
    }
    assert_eq!((counts(&scheduler), scheduler.check_integrity()), ((0, 1), Ok(())));
}

#[test]
fn without_chunks_a_sequence_waits_for_a_budget_that_holds_it() {
    let config = SchedulerConfig { max_num_batched_tokens: 20, enable_chunked_prefill: false, ..CONFIG };
    let whole = |id, num_tokens, samples| (id, 0, num_tokens, samples);
    let sequences = vec![sequence(0, 12, 13), sequence(1, 9, 10), sequence(2, 1, 2)];
    let steps =
        [(vec![whole(0, 12, true)], vec![]), (vec![(0, 12, 1, true), whole(1, 9, true), whole(2, 1, true)], vec![])];
    let mut scheduler = scheduler(config);
    for sequence in sequences {
        scheduler.add(sequence).expect("it fits");
    }
    assert_eq!(step(&mut scheduler, 7), steps[0]);
    let error = AddError::ExceedsBudget { max_num_tokens: 21, max_num_batched_tokens: 20 };
    assert_eq!(scheduler.add(sequence(3, 20, 21)), Err(error));
    let output = scheduler.schedule();
    assert_eq!(plain(&output), steps[1]);
}

#[test]
fn limits_of_zero_are_refused_by_name() {
    let cases = [
        (SchedulerConfig { max_num_seqs: 0, ..CONFIG }, "max_num_seqs"),
        (SchedulerConfig { max_num_batched_tokens: 0, ..CONFIG }, "max_num_batched_tokens"),
        (SchedulerConfig { block_size: 0, ..CONFIG }, "block_size"),
        (SchedulerConfig { num_blocks: 0, ..CONFIG }, "num_blocks"),
        (SchedulerConfig { num_blocks: 1 << 32, ..CONFIG }, "num_blocks"),
        (SchedulerConfig { sliding_window: Some(0), ..CONFIG }, "sliding_window"),
    ];
    for (config, expected) in cases {
        let error = Scheduler::new(config).expect_err(expected);
        assert!(matches!(error, crate::LoadError::InvalidOption { option, .. } if option == expected));
    }
}

#[test]
fn finishing_works_in_every_state_and_once() {
    let config = SchedulerConfig { max_num_seqs: 1, ..CONFIG };
    let mut scheduler = check(config, vec![sequence(0, 3, 9), sequence(1, 3, 9)], &[(vec![(0, 0, 3, true)], vec![])]);
    let finished = |id: u32, tokens: &[u32]| FinishedSequence {
        id: SequenceId(u64::from(id)),
        token_ids: [&[id; 3], tokens].concat(),
        num_prompt_tokens: 3,
        num_cached_tokens: 0,
    };
    assert_eq!(scheduler.finish(SequenceId(1)), Some(finished(1, &[])));
    assert_eq!(scheduler.finish(SequenceId(0)), Some(finished(0, &[1000])));
    assert_eq!((scheduler.finish(SequenceId(0)), scheduler.finish(SequenceId(7))), (None, None));
    assert!(!scheduler.has_unfinished() && scheduler.get(SequenceId(0)).is_none());
    assert_eq!(scheduler.block_pool().num_free_blocks(), CONFIG.num_blocks);
    assert_eq!(scheduler.check_integrity(), Ok(()));
}

#[test]
fn everything_that_fits_runs_in_one_step() {
    for enable_prefix_caching in [false, true] {
        let config = SchedulerConfig { enable_prefix_caching, ..CONFIG };
        let first = (0..10).map(|id| (id, 0, 10, true)).collect();
        let second = (0..10).map(|id| (id, 10, 1, true)).collect();
        let scheduler =
            check(config, (0..10).map(|id| sequence(id, 10, 26)).collect(), &[(first, vec![]), (second, vec![])]);
        assert!(scheduler.running_ids().eq((0..10).map(SequenceId)));
        assert_eq!(counts(&scheduler), (10, 0));
    }
}

#[test]
fn no_more_sequences_run_than_there_are_seats() {
    let config = SchedulerConfig { max_num_seqs: 2, ..CONFIG };
    let mut scheduler = check(
        config,
        (0..3).map(|id| sequence(id, 4, 9)).collect(),
        &[(vec![(0, 0, 4, true), (1, 0, 4, true)], vec![]), (vec![(0, 4, 1, true), (1, 4, 1, true)], vec![])],
    );
    scheduler.finish(SequenceId(0)).expect("it runs");
    assert_eq!(step(&mut scheduler, 5), (vec![(1, 5, 1, true), (2, 0, 4, true)], vec![]));
}

#[test]
fn a_prompt_that_exceeds_the_budget_is_cut_and_single_tokens_go_first() {
    let config = SchedulerConfig { max_num_batched_tokens: 1024, ..CONFIG };
    check(
        config,
        (0..3).map(|id| sequence(id, 800, 900)).collect(),
        &[
            (vec![(0, 0, 800, true), (1, 0, 224, false)], vec![]),
            (vec![(0, 800, 1, true), (1, 224, 576, true), (2, 0, 447, false)], vec![]),
            (vec![(0, 801, 1, true), (1, 800, 1, true), (2, 447, 353, true)], vec![]),
            (vec![(0, 802, 1, true), (1, 801, 1, true), (2, 800, 1, true)], vec![]),
        ],
    );
}

#[test]
fn a_budget_below_the_seats_serves_by_rank() {
    let config = SchedulerConfig { max_num_batched_tokens: 2, ..CONFIG };
    let mut scheduler = check(
        config,
        (0..3).map(|id| sequence(id, 1, 9)).collect(),
        &[(vec![(0, 0, 1, true), (1, 0, 1, true)], vec![]), (vec![(0, 1, 1, true), (1, 1, 1, true)], vec![])],
    );
    scheduler.finish(SequenceId(0)).expect("it runs");
    assert_eq!(step(&mut scheduler, 5), (vec![(1, 2, 1, true), (2, 0, 1, true)], vec![]));
}

#[test]
fn a_sequence_that_got_no_token_is_left_out() {
    let mut scheduler = scheduler(CONFIG);
    scheduler.add(sequence(0, 3, 9)).expect("it fits");
    let output = scheduler.schedule();
    scheduler.complete(&output);
    assert_eq!(plain(&scheduler.schedule()), (vec![], vec![]));
    for token_id in [7, 8, 9] {
        scheduler.append_token(SequenceId(0), token_id).expect("it is there");
    }
    assert_eq!(step(&mut scheduler, 1), (vec![(0, 3, 3, true)], vec![]));
}

#[test]
fn a_prefix_is_shared_between_steps_and_within_one() {
    let config = SchedulerConfig { block_size: 2, enable_prefix_caching: true, ..CONFIG };
    let prompt = |id, token_ids: &[u32]| NewSequence { prompt_token_ids: token_ids.to_vec(), ..sequence(id, 0, 20) };
    let mut scheduler = check(
        config,
        vec![prompt(0, &[1, 2, 3, 4, 5]), prompt(1, &[1, 2, 3, 4, 6]), prompt(2, &[1, 2, 3, 4])],
        // The third one is covered wholly, and computes its last block all the same.
        &[(vec![(0, 0, 5, true), (1, 4, 1, true), (2, 2, 2, true)], vec![])],
    );
    scheduler.add(prompt(3, &[1, 2, 9])).expect("it fits");
    assert_eq!(step(&mut scheduler, 5).0[3], (3, 2, 1, true));
    for id in 0..4 {
        scheduler.finish(SequenceId(id)).expect("it runs");
    }
    // What nobody holds any more is still found, output included.
    scheduler.add(prompt(4, &[1, 2, 3, 4, 5, 1000, 7])).expect("it fits");
    assert_eq!(step(&mut scheduler, 5), (vec![(4, 6, 1, true)], vec![]));
    assert_eq!(scheduler.finish(SequenceId(4)).map(|finished| finished.num_cached_tokens), Some(6));
}

#[test]
fn a_prefix_is_shared_as_far_as_it_is_computed() {
    let config = SchedulerConfig { block_size: 2, max_num_batched_tokens: 5, enable_prefix_caching: true, ..CONFIG };
    let mut scheduler = check(config, vec![sequence(0, 9, 12)], &[(vec![(0, 0, 5, false)], vec![])]);
    let same_prompt = NewSequence { id: SequenceId(1), ..sequence(0, 9, 12) };
    scheduler.add(same_prompt).expect("it fits");
    assert_eq!(step(&mut scheduler, 5), (vec![(0, 5, 4, true), (1, 8, 1, true)], vec![]));
}

#[test]
fn a_sequence_may_limit_what_it_has_from_the_prefix_cache_and_is_found_by_others_all_the_same() {
    let config = SchedulerConfig { block_size: 2, enable_prefix_caching: true, ..CONFIG };
    let prompt = |id, max_cached_tokens| NewSequence { id: SequenceId(id), max_cached_tokens, ..sequence(9, 5, 8) };
    let mut scheduler = check(
        config,
        vec![prompt(0, 0), prompt(1, usize::MAX), prompt(2, 0), prompt(3, 3)],
        &[(vec![(0, 0, 5, true), (1, 4, 1, true), (2, 0, 5, true), (3, 2, 3, true)], vec![])],
    );
    let cached = [0, 1, 2, 3].map(|id| scheduler.finish(SequenceId(id)).expect("it runs").num_cached_tokens);
    assert_eq!(cached, [0, 4, 0, 2]);
}

#[test]
fn a_preempted_sequence_that_refuses_the_prefix_cache_is_computed_anew() {
    let config = SchedulerConfig { block_size: 2, num_blocks: 7, enable_prefix_caching: true, ..CONFIG };
    let mut scheduler = scheduler(config);
    for id in 0..2 {
        scheduler.add(NewSequence { max_cached_tokens: 0, ..sequence(id, 4, 12) }).expect("it fits");
    }
    let steps: Vec<Step> = (0..4).map(|_| step(&mut scheduler, 5)).collect();
    assert_eq!(steps[3], (vec![(0, 6, 1, true)], vec![1]));
    scheduler.finish(SequenceId(0)).expect("it runs");
    assert_eq!(step(&mut scheduler, 5), (vec![(1, 0, 7, true)], vec![]));
}

#[test]
fn the_last_is_preempted_and_comes_back() {
    let config = SchedulerConfig { block_size: 4, num_blocks: 4, ..CONFIG };
    let mut scheduler = check(
        config,
        (0..3).map(|id| sequence(id, 3, 12)).collect(),
        &[
            (vec![(0, 0, 3, true), (1, 0, 3, true), (2, 0, 3, true)], vec![]),
            (vec![(0, 3, 1, true), (1, 3, 1, true), (2, 3, 1, true)], vec![]),
        ],
    );
    assert_eq!(step(&mut scheduler, 5), (vec![(0, 4, 1, true), (1, 4, 1, true)], vec![2]));
    let preempted = scheduler.get(SequenceId(2)).expect("it waits");
    assert_eq!(
        (preempted.status(), preempted.num_computed_tokens(), preempted.token_ids()),
        (SequenceStatus::Preempted, 0, &[2, 2, 2, 1000, 1000][..])
    );
    assert!(preempted.block_table().is_empty());
    scheduler.add(sequence(3, 3, 8)).expect("it fits");
    assert_eq!(step(&mut scheduler, 5).0, [(0, 5, 1, true), (1, 5, 1, true)]);
    scheduler.finish(SequenceId(0)).expect("it runs");
    // It comes before the one that arrived later, and computes its output again with its prompt.
    assert_eq!(step(&mut scheduler, 5).0, [(1, 6, 1, true), (2, 0, 5, true)]);
    scheduler.finish(SequenceId(2)).expect("it runs");
    assert_eq!(step(&mut scheduler, 5).0, [(1, 7, 1, true), (3, 0, 3, true)]);
}

#[test]
fn a_preempted_sequence_finds_its_own_blocks_and_reports_no_hit() {
    let config = SchedulerConfig { block_size: 2, num_blocks: 7, enable_prefix_caching: true, ..CONFIG };
    let mut scheduler = scheduler(config);
    for id in 0..2 {
        scheduler.add(sequence(id, 4, 12)).expect("it fits");
    }
    let steps: Vec<Step> = (0..4).map(|_| step(&mut scheduler, 5)).collect();
    assert_eq!(steps[3], (vec![(0, 6, 1, true)], vec![1]));
    scheduler.finish(SequenceId(0)).expect("it runs");
    assert_eq!(step(&mut scheduler, 5), (vec![(1, 6, 1, true)], vec![]));
    assert_eq!(scheduler.get(SequenceId(1)).map(Sequence::num_cached_tokens), Some(0));
}

#[test]
fn the_lower_priority_number_runs_first_and_is_preempted_last() {
    let config = SchedulerConfig { block_size: 4, num_blocks: 4, max_num_seqs: 3, ..CONFIG };
    let with = |id, priority| NewSequence { priority, ..sequence(id, 3, 8) };
    let mut scheduler = check(
        config,
        vec![with(0, 1), with(1, 5), with(2, 0), with(3, 1)],
        &[(vec![(2, 0, 3, true), (0, 0, 3, true), (3, 0, 3, true)], vec![])],
    );
    assert_eq!(step(&mut scheduler, 5), (vec![(2, 3, 1, true), (0, 3, 1, true), (3, 3, 1, true)], vec![]));
    assert_eq!(step(&mut scheduler, 5), (vec![(2, 4, 1, true), (0, 4, 1, true)], vec![3]));
}

#[test]
fn a_higher_priority_takes_the_seat_of_a_lower_one() {
    let config = SchedulerConfig { max_num_seqs: 2, ..CONFIG };
    let with = |id, priority| NewSequence { priority, ..sequence(id, 3, 9) };
    let sequences = vec![with(0, 0), with(1, 7), with(2, 7)];
    let mut scheduler = check(config, sequences, &[(vec![(0, 0, 3, true), (1, 0, 3, true)], vec![])]);
    for (id, priority) in [(3, 0), (4, 0)] {
        scheduler.add(with(id, priority)).expect("it fits");
    }
    // The second newcomer has the priority of all that run, and waits.
    assert_eq!(step(&mut scheduler, 5), (vec![(0, 3, 1, true), (3, 0, 3, true)], vec![1]));
    assert_eq!(step(&mut scheduler, 5), (vec![(0, 4, 1, true), (3, 3, 1, true)], vec![]));
    scheduler.finish(SequenceId(0)).expect("it runs");
    scheduler.finish(SequenceId(3)).expect("it runs");
    assert_eq!(step(&mut scheduler, 5), (vec![(4, 0, 3, true), (1, 0, 4, true)], vec![]));
}

#[test]
fn a_higher_priority_takes_the_blocks_of_lower_ones_and_no_more_than_it_needs() {
    let config = SchedulerConfig { block_size: 4, num_blocks: 6, ..CONFIG };
    let with = |id, num_prompt_tokens, priority| NewSequence { priority, ..sequence(id, num_prompt_tokens, 16) };
    let sequences = vec![with(0, 4, 1), with(1, 4, 1), with(2, 4, 1)];
    let mut scheduler = check(config, sequences, &[(vec![(0, 0, 4, true), (1, 0, 4, true), (2, 0, 4, true)], vec![])]);
    scheduler.add(with(3, 8, 0)).expect("it fits");
    let (scheduled, preempted) = step(&mut scheduler, 5);
    assert_eq!((scheduled, preempted), (vec![(0, 4, 1, true), (3, 0, 8, true)], vec![2, 1]));
}

#[test]
fn nobody_makes_way_if_that_would_not_be_enough() {
    let config = SchedulerConfig { block_size: 4, num_blocks: 6, enable_prefix_caching: true, ..CONFIG };
    let with = |id, num_prompt_tokens, priority| NewSequence { priority, ..sequence(id, num_prompt_tokens, 20) };
    let sequences = vec![with(0, 12, 0), with(1, 4, 1)];
    let mut scheduler = check(config, sequences, &[(vec![(0, 0, 12, true), (1, 0, 4, true)], vec![])]);
    scheduler.add(with(2, 12, 0)).expect("it fits");
    assert_eq!(step(&mut scheduler, 5), (vec![(0, 12, 1, true), (1, 4, 1, true)], vec![]));
}

#[test]
fn a_higher_priority_has_its_part_before_prompts_of_lower_ones() {
    let config = SchedulerConfig { max_num_batched_tokens: 4, ..CONFIG };
    let with = |id, num_prompt_tokens, priority| NewSequence { priority, ..sequence(id, num_prompt_tokens, 40) };
    let mut scheduler = check(config, vec![with(0, 30, 1)], &[(vec![(0, 0, 4, false)], vec![])]);
    for id in [1, 2] {
        scheduler.add(with(id, 3, 2 - id as i32)).expect("it fits");
    }
    // The one of equal priority waits until the prompt before it is computed.
    assert_eq!(step(&mut scheduler, 5), (vec![(2, 0, 3, true), (0, 4, 1, false)], vec![]));
    assert_eq!(step(&mut scheduler, 5), (vec![(2, 3, 1, true), (0, 5, 3, false)], vec![]));
}

#[test]
fn the_first_may_preempt_all_others() {
    let config = SchedulerConfig { block_size: 1, num_blocks: 9, ..CONFIG };
    let mut scheduler = scheduler(config);
    for id in 0..3 {
        scheduler.add(sequence(id, 1, 9)).expect("it fits");
    }
    let mut preempted = Vec::new();
    for _ in 0..8 {
        let (scheduled, lost) = step(&mut scheduler, 5);
        assert_eq!(scheduled[0].0, 0);
        preempted.extend(lost);
    }
    assert_eq!((preempted, counts(&scheduler)), (vec![2, 1], (1, 2)));
}

#[test]
fn a_prompt_is_admitted_only_with_room_for_all_of_it() {
    let config = SchedulerConfig { block_size: 4, num_blocks: 6, max_num_batched_tokens: 6, ..CONFIG };
    let mut scheduler = check(
        config,
        vec![sequence(0, 8, 12), sequence(1, 20, 20), sequence(2, 1, 2)],
        &[(vec![(0, 0, 6, false)], vec![]), (vec![(0, 6, 2, true)], vec![]), (vec![(0, 8, 1, true)], vec![])],
    );
    scheduler.finish(SequenceId(0)).expect("it runs");
    assert_eq!(step(&mut scheduler, 5), (vec![(1, 0, 6, false)], vec![]));
}

#[test]
fn admission_leaves_room_for_those_that_can_grow() {
    let config = SchedulerConfig { block_size: 4, num_blocks: 3, ..CONFIG };
    for (max_num_tokens, num_running) in [(4, 3), (6, 2), (12, 2)] {
        let mut scheduler = scheduler(config);
        for id in 0..3 {
            scheduler.add(sequence(id, 4, max_num_tokens)).expect("it fits");
        }
        assert_eq!(scheduler.schedule().scheduled.len(), num_running, "{max_num_tokens}");
    }
}

#[test]
fn nobody_is_admitted_in_a_step_with_a_preemption() {
    let config = SchedulerConfig { block_size: 2, num_blocks: 7, ..CONFIG };
    let expected = [
        (vec![(0, 0, 4, true), (1, 0, 4, true)], vec![]),
        (vec![(0, 4, 1, true), (1, 4, 1, true)], vec![]),
        (vec![(0, 5, 1, true), (1, 5, 1, true)], vec![]),
    ];
    let mut scheduler = check(config, (0..2).map(|id| sequence(id, 4, 12)).collect(), &expected);
    scheduler.add(NewSequence { priority: -1, ..sequence(2, 2, 2) }).expect("it fits");
    assert_eq!(plain(&scheduler.schedule()), (vec![(0, 6, 1, true)], vec![1]));
}

#[test]
fn finishing_between_schedule_and_complete_leaves_nothing_to_be_found() {
    let config = SchedulerConfig { block_size: 2, enable_prefix_caching: true, ..CONFIG };
    let mut scheduler = scheduler(config);
    scheduler.add(sequence(0, 5, 9)).expect("it fits");
    let output = scheduler.schedule();
    scheduler.finish(SequenceId(0)).expect("it runs");
    scheduler.complete(&output);
    scheduler.add(sequence(0, 5, 9)).expect("it fits");
    assert_eq!(step(&mut scheduler, 5), (vec![(0, 0, 5, true)], vec![]));
}

#[test]
#[should_panic(expected = "must be finished at its bound")]
fn no_token_is_added_beyond_the_bound() {
    let mut scheduler = scheduler(CONFIG);
    scheduler.add(sequence(0, 3, 3)).expect("it fits");
    scheduler.append_token(SequenceId(0), 1);
}

#[test]
fn a_window_takes_its_own_blocks_only_however_long_the_sequence_is() {
    // Of a window of 6 tokens and one more, at most 4 blocks of 2; and 3 with the chunk's last.
    let config = SchedulerConfig {
        block_size: 2,
        num_blocks: 4,
        max_num_batched_tokens: 3,
        sliding_window: Some(6),
        enable_prefix_caching: true,
        ..CONFIG
    };
    let mut scheduler = scheduler(config);
    let error = AddError::ExceedsCache { max_num_tokens: 100, capacity: 6 };
    let smaller = Scheduler::new(SchedulerConfig { num_blocks: 3, ..config }).expect("limits").add(sequence(0, 9, 100));
    assert_eq!(smaller, Err(error));
    scheduler.add(sequence(0, 9, 100)).expect("it fits");
    let starts: Vec<usize> = (0..94)
        .map(|_| {
            let (scheduled, preempted) = step(&mut scheduler, 7);
            assert!(preempted.is_empty());
            scheduled[0].1
        })
        .collect();
    // The chunks of the prompt, the last of them cut to what the cache has room for, then one token after the other.
    let expected: Vec<usize> = [0, 3, 6, 8].into_iter().chain(9..99).collect();
    assert_eq!(starts, expected);
    let sequence = scheduler.get(SequenceId(0)).expect("it runs");
    assert_eq!((sequence.num_tokens(), sequence.block_table().first(), sequence.block_table().len()), (100, 46, 4));
}

#[test]
fn a_prompt_is_found_by_the_blocks_that_the_rest_of_it_sees() {
    let config = SchedulerConfig {
        block_size: 2,
        num_blocks: 8,
        max_num_batched_tokens: 4,
        sliding_window: Some(5),
        enable_prefix_caching: true,
        ..CONFIG
    };
    let mut scheduler = scheduler(config);
    let prompt = || NewSequence { prompt_token_ids: (0..21).collect(), ..sequence(0, 1, 40) };
    scheduler.add(prompt()).expect("it fits");
    while scheduler.get(SequenceId(0)).is_some_and(|sequence| sequence.num_tokens() == 21) {
        step(&mut scheduler, 7);
    }
    scheduler.finish(SequenceId(0));
    // Its first blocks were lent again long ago; token 20 sees those of 16 to 20.
    scheduler.add(prompt()).expect("it fits");
    assert_eq!(step(&mut scheduler, 7), (vec![(0, 20, 1, true)], vec![]));
    assert_eq!(scheduler.get(SequenceId(0)).expect("it runs").block_table().first(), 8);
}

/// A sequence, how many drafts it had room for, and how many it got of five.
type Drafted = (u64, usize, usize);

/// One step of known tokens and drafts, together at most so many.
fn draft(scheduler: &mut Scheduler, most: usize) -> Vec<Drafted> {
    let mut output = scheduler.schedule();
    let mut asked = Vec::new();
    scheduler.draft(&mut output, most, |sequence, room| {
        asked.push((sequence.id().0, room));
        vec![7; 5]
    });
    assert_eq!(scheduler.check_integrity(), Ok(()));
    scheduler.complete(&output);
    let drafts = |id| output.scheduled.iter().find(|part| part.id.0 == id).expect("it is scheduled").num_draft_tokens;
    asked.into_iter().map(|(id, room)| (id, room, drafts(id))).collect()
}

#[test]
fn drafts_share_what_is_left_of_their_bound_of_the_budget_and_of_their_sequences() {
    let config = SchedulerConfig { max_num_batched_tokens: 20, ..CONFIG };
    // Two sequences of 3 tokens each, which may have 90; (most, room and drafts of each)
    let cases: [(usize, [usize; 2], &[Drafted]); 6] = [
        (16, [90, 90], &[(0, 5, 5), (1, 5, 5)]),
        (13, [90, 90], &[(0, 4, 4), (1, 3, 3)]),
        (90, [90, 90], &[(0, 7, 5), (1, 9, 5)]),
        (6, [90, 90], &[]),
        (0, [90, 90], &[]),
        // A sequence with room for one token gets none, with room for two it gets one.
        (16, [4, 5], &[(1, 1, 1)]),
    ];
    for (most, max_num_tokens, expected) in cases {
        let mut scheduler = scheduler(config);
        for (id, max_num_tokens) in (0..).zip(max_num_tokens) {
            scheduler.add(sequence(id, 3, max_num_tokens)).expect("it fits");
        }
        assert_eq!(draft(&mut scheduler, most), expected, "{most} {max_num_tokens:?}");
    }
}

#[test]
fn drafts_leave_a_block_for_each_running_sequence() {
    // Two sequences fill two blocks of four.
    for (num_blocks, expected) in [(4, [0, 0]), (5, [4, 0]), (6, [5, 0]), (7, [5, 4])] {
        let mut scheduler = scheduler(SchedulerConfig { block_size: 4, num_blocks, ..CONFIG });
        for id in 0..2 {
            scheduler.add(sequence(id, 4, 16)).expect("it fits");
        }
        let drafts: Vec<_> = draft(&mut scheduler, 20).into_iter().map(|(id, _, drafts)| (id, drafts)).collect();
        let expected: Vec<_> = (0..).zip(expected).filter(|(_, drafts)| *drafts > 0).collect();
        assert_eq!(drafts, expected, "{num_blocks}");
    }
}

#[test]
fn a_draft_that_comes_true_is_computed_and_the_first_that_does_not_ends_them() {
    let cases: [(&[u32], usize, &[u32]); 5] = [
        (&[7], 4, &[7, 7, 7, 7]),
        (&[7, 7, 7, 7, 7, 7], 8, &[]),
        (&[7, 7, 8], 5, &[]),
        (&[8, 7], 3, &[]),
        // Tokens that must follow are known before their logits.
        (&[7, 7, 7, 8, 8, 8], 6, &[]),
    ];
    for (token_ids, num_computed_tokens, drafts_left) in cases {
        let config = SchedulerConfig { block_size: 2, enable_prefix_caching: true, ..CONFIG };
        let mut scheduler = scheduler(config);
        scheduler.add(sequence(0, 3, 90)).expect("it fits");
        assert_eq!(draft(&mut scheduler, 16), [(0, 13, 5)]);
        for token_id in token_ids {
            scheduler.append_token(SequenceId(0), *token_id).expect("it is there");
        }
        let sequence = scheduler.get(SequenceId(0)).expect("it is there");
        let state = (sequence.num_computed_tokens(), sequence.draft_token_ids());
        assert_eq!(state, (num_computed_tokens, drafts_left), "{token_ids:?}");
        assert_eq!(scheduler.check_integrity(), Ok(()));
    }
}

#[test]
fn a_block_is_found_by_its_tokens_and_never_by_drafts() {
    let config = SchedulerConfig { block_size: 2, enable_prefix_caching: true, ..CONFIG };
    let prompt = |id, token_ids: &[u32]| NewSequence { prompt_token_ids: token_ids.to_vec(), ..sequence(id, 0, 90) };
    let mut scheduler = scheduler(config);
    scheduler.add(prompt(0, &[1, 2, 3])).expect("it fits");
    assert_eq!(draft(&mut scheduler, 16), [(0, 13, 5)]);
    // Drafted were five times 7, of which the first came true.
    for (id, token_ids) in [(1, [1, 2, 3, 7, 7, 7, 0]), (2, [1, 2, 3, 7, 9, 9, 0])] {
        scheduler.add(prompt(id, &token_ids)).expect("it fits");
    }
    for token_id in [7, 9, 9] {
        scheduler.append_token(SequenceId(0), token_id).expect("it is there");
    }
    let scheduled = step(&mut scheduler, 5).0;
    // The second finds the block that this step fills, too.
    assert_eq!(scheduled, [(0, 4, 2, true), (1, 4, 3, true), (2, 6, 1, true)]);
}

#[test]
fn a_block_that_drafts_filled_is_found_when_its_sequence_has_ended() {
    let config = SchedulerConfig { block_size: 2, enable_prefix_caching: true, ..CONFIG };
    let prompt = |id, token_ids: &[u32]| NewSequence { prompt_token_ids: token_ids.to_vec(), ..sequence(id, 0, 90) };
    let mut scheduler = scheduler(config);
    scheduler.add(prompt(0, &[1, 2, 3])).expect("it fits");
    draft(&mut scheduler, 16);
    for token_id in [7, 7, 7, 9] {
        scheduler.append_token(SequenceId(0), token_id).expect("it is there");
    }
    scheduler.finish(SequenceId(0)).expect("it runs");
    scheduler.add(prompt(1, &[1, 2, 3, 7, 7, 7, 7, 7, 0])).expect("it fits");
    assert_eq!(step(&mut scheduler, 5).0, [(1, 6, 3, true)]);
}
