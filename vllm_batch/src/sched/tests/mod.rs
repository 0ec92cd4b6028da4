//! `behaviour`: what the scheduler does in named situations. `properties`: what holds in all of them.

mod behaviour;
mod properties;

use super::*;

const CONFIG: SchedulerConfig = SchedulerConfig {
    max_num_seqs: 16,
    max_num_batched_tokens: 8192,
    block_size: 16,
    num_blocks: 10_000,
    enable_prefix_caching: false,
    enable_chunked_prefill: true,
    sliding_window: None,
};

fn scheduler(config: SchedulerConfig) -> Scheduler {
    Scheduler::new(config).expect("the limits are not 0")
}

/// A sequence whose prompt no other id has.
fn sequence(id: u64, num_prompt_tokens: usize, max_num_tokens: usize) -> NewSequence {
    let prompt_token_ids = vec![id as u32; num_prompt_tokens];
    let (id, priority, max_cached_tokens) = (SequenceId(id), 0, usize::MAX);
    NewSequence { id, prompt_token_ids, max_num_tokens, priority, max_cached_tokens, adapter: None }
}

/// A step as (id, start, tokens, samples), and the ids that were preempted.
type Step = (Vec<(u64, usize, usize, bool)>, Vec<u64>);

fn plain(output: &SchedulerOutput) -> Step {
    let scheduled = output.scheduled.iter().map(|part| (part.id.0, part.start, part.num_tokens, part.samples));
    (scheduled.collect(), output.preempted.iter().map(|id| id.0).collect())
}

/// One whole step in which every sampled token is `token_id`.
fn step(scheduler: &mut Scheduler, token_id: u32) -> Step {
    let output = scheduler.schedule();
    scheduler.complete(&output);
    for part in output.scheduled.iter().filter(|part| part.samples) {
        scheduler.append_token(part.id, token_id).expect("it was scheduled");
    }
    assert_eq!(scheduler.check_integrity(), Ok(()));
    plain(&output)
}
