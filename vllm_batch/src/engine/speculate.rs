//! Which tokens might come next? Guesses from what a sequence has said before.
//!
//! Where few sequences run, a step takes nearly as long for a few tokens as for one: it reads all weights either way. So the
//! step that computes the last known token computes guesses of the next ones with it, and each guess is compared with the
//! token that is chosen in its place, by the same sampler from the same logits. What was guessed changes how many tokens a
//! step yields, and never which.
//!
//! Guesses are cheap to make and not free to compute, so each answer has a [`Drafter`], which keeps count of how many come
//! true, and makes as many as pay.

use crate::error::LoadError;

/// How tokens are guessed ahead, in vLLM's names for its method `ngram`: the last tokens of a sequence are looked up in all
/// its tokens before them, prompt included, and what followed there is the guess.
///
/// The longest match counts, of `prompt_lookup_max` tokens at most and `prompt_lookup_min` at least; of equally long ones
/// the first in the sequence, as in vLLM.
///
/// # Example
/// ```
/// use vllm_batch::SpeculativeConfig;
///
/// let config = SpeculativeConfig::ngram(4).with_prompt_lookup(2, 5);
/// assert_eq!((config.prompt_lookup_min, config.prompt_lookup_max), (2, 5));
/// assert_ne!(config, SpeculativeConfig::default());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpeculativeConfig {
    /// The most tokens that are guessed ahead at a time, at least 1.
    pub num_speculative_tokens: usize,
    /// The most tokens that are looked up, at least `prompt_lookup_min`.
    pub prompt_lookup_max: usize,
    /// The fewest tokens that must match, at least 1.
    pub prompt_lookup_min: usize,
}

impl SpeculativeConfig {
    /// So many tokens ahead, and otherwise as by default.
    #[must_use]
    pub fn ngram(num_speculative_tokens: usize) -> Self {
        Self { num_speculative_tokens, ..Self::default() }
    }

    /// Sets how many tokens must match: the fewest and the most.
    #[must_use]
    pub fn with_prompt_lookup(mut self, min: usize, max: usize) -> Self {
        (self.prompt_lookup_min, self.prompt_lookup_max) = (min, max);
        self
    }

    /// Checks that each number is in its domain.
    ///
    /// # Errors
    /// [`LoadError::InvalidOption`].
    pub(super) fn validate(&self) -> Result<(), LoadError> {
        let invalid = |option, message: &str| Err(LoadError::InvalidOption { option, message: message.to_owned() });
        if self.num_speculative_tokens == 0 {
            invalid("num_speculative_tokens", "must be at least 1")
        } else if self.prompt_lookup_min == 0 {
            invalid("prompt_lookup_min", "must be at least 1")
        } else if self.prompt_lookup_max < self.prompt_lookup_min {
            invalid("prompt_lookup_max", "must be at least prompt_lookup_min")
        } else {
            Ok(())
        }
    }

    /// What followed the last tokens where they stand for the first time, at most `count` tokens; none if they are new.
    fn lookup<'a>(&self, token_ids: &'a [u32], count: usize) -> &'a [u32] {
        let Some((last, before)) = token_ids.split_last() else { return &[] };
        let mut longest = (0, 0);
        for end in before.iter().enumerate().filter(|(_, token_id)| *token_id == last).map(|(index, _)| index + 1) {
            let pairs = token_ids[..end].iter().rev().zip(token_ids.iter().rev());
            let matching = pairs.take(self.prompt_lookup_max).take_while(|(a, b)| a == b).count();
            if matching > longest.0 {
                longest = (matching, end);
            }
            if matching == self.prompt_lookup_max {
                break;
            }
        }
        let (matching, end) = longest;
        if matching < self.prompt_lookup_min { &[] } else { &token_ids[end..token_ids.len().min(end + count)] }
    }
}

impl Default for SpeculativeConfig {
    /// At most 7 tokens ahead, after matches of 3 to 5 tokens. vLLM has no default for the first, and 5 for the others.
    fn default() -> Self {
        Self { num_speculative_tokens: 7, prompt_lookup_max: 5, prompt_lookup_min: 3 }
    }
}

/// Guesses for one answer, and how much they are worth.
///
/// A step of `n` tokens takes about as long as reading the weights and `n` tokens of work: `READING + n`, in tokens. One more
/// token makes it longer by 1, and where it comes true it saves what a token takes otherwise, `(READING + n) / n`. So a guess
/// pays where it comes true more often than `n / (READING + n)`.
#[derive(Debug, Clone)]
pub(super) struct Drafter {
    /// How many guesses came true, of how many that were looked at; older ones count less.
    num_true: f64,
    num_tried: f64,
    /// How many of the last guesses are open, and how many came true.
    num_open: usize,
    num_accepted: usize,
    /// Guesses do not pay, and for so many steps none is tried.
    pause: usize,
    /// How long the last pause was.
    last_pause: usize,
}

/// Reading the weights takes as long as the work for so many tokens: about 5 with the quantised demo model on two cores with
/// AVX-512, 9 with its weights as f32, and more where weights do not fit the processor's caches.
const READING: f64 = 3.0;
/// How often guesses are taken to come true before any was tried; it counts as much as one try.
const FIRST_RATE: f64 = 0.6;
/// What tries count after the next ones.
const DECAY: f64 = 0.9;
/// The longest pause, in steps. Where all guesses are wrong, one step in so many has one token too many.
const MAX_PAUSE: usize = 63;

impl Drafter {
    pub(super) const fn new() -> Self {
        Self { num_true: 0.0, num_tried: 0.0, num_open: 0, num_accepted: 0, pause: 0, last_pause: 0 }
    }

    /// At most `room` guesses of the tokens after these, which are all that the sequence has, for a step of `num_tokens`
    /// tokens without guesses.
    pub(super) fn propose(
        &mut self,
        config: &SpeculativeConfig,
        token_ids: &[u32],
        (room, num_tokens): (usize, usize),
    ) -> Vec<u32> {
        self.learn();
        let count = match self.num_paying(num_tokens) {
            0 if self.pause > 0 => {
                self.pause -= 1;
                return Vec::new();
            }
            count => count.clamp(1, config.num_speculative_tokens),
        };
        let drafts = config.lookup(token_ids, count.min(room)).to_vec();
        self.num_open = drafts.len();
        drafts
    }

    /// Takes note that one of the guesses came true.
    pub(super) fn accept(&mut self) {
        self.num_accepted += 1;
    }

    /// Of the guesses after the first wrong one, nothing is known. Each time that none comes true, the pause is longer.
    fn learn(&mut self) {
        let (num_open, num_accepted) = (std::mem::take(&mut self.num_open), std::mem::take(&mut self.num_accepted));
        if num_open == 0 {
            return;
        }
        let num_tried = num_open.min(num_accepted + 1);
        self.num_true = DECAY * self.num_true + num_accepted as f64;
        self.num_tried = DECAY * self.num_tried + num_tried as f64;
        self.last_pause = if num_accepted == 0 { (2 * self.last_pause + 1).min(MAX_PAUSE) } else { 0 };
        self.pause = self.last_pause;
    }

    /// How many guesses pay, one after the other: each needs all before it to come true as well.
    fn num_paying(&self, num_tokens: usize) -> usize {
        /// More than can pay in any step that has room for them.
        const MOST: i32 = 64;
        let least = num_tokens as f64 / (READING + num_tokens as f64);
        let rate = (self.num_true + FIRST_RATE) / (self.num_tried + 1.0);
        (1..=MOST).take_while(|count| rate.powi(*count) >= least).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The length of the longest match, and where its first one ends, by trying all.
    fn naive(config: &SpeculativeConfig, token_ids: &[u32]) -> Option<usize> {
        let lengths = (config.prompt_lookup_min..=config.prompt_lookup_max).rev();
        let known = lengths.filter(|len| *len < token_ids.len());
        let mut ends = known.filter_map(|len| {
            let last = &token_ids[token_ids.len() - len..];
            let before = &token_ids[..token_ids.len() - 1];
            before.windows(len).position(|window| window == last).map(|start| start + len)
        });
        ends.next()
    }

    #[test]
    fn the_guess_is_what_followed_the_longest_match_and_of_equal_ones_the_first() {
        let config = |min, max| SpeculativeConfig::ngram(9).with_prompt_lookup(min, max);
        let cases: [(SpeculativeConfig, &[u32], usize, &[u32]); 12] = [
            // The example of vLLM's proposer.
            (config(2, 3), &[1, 2, 3, 4, 2, 3], 4, &[4, 2, 3]),
            (config(2, 3), &[1, 2, 3, 4, 2, 3], 2, &[4, 2]),
            (config(2, 3), &[1, 2, 3, 4, 2, 3], 0, &[]),
            (config(3, 3), &[1, 2, 3, 4, 2, 3], 4, &[]),
            (config(1, 1), &[1, 2, 3, 4, 2, 3], 9, &[4, 2, 3]),
            (config(1, 3), &[5, 9, 4, 5, 8, 4, 5], 1, &[8]),
            (config(1, 1), &[5, 9, 4, 5, 8, 4, 5], 1, &[9]),
            (config(1, 2), &[4, 5, 1, 4, 5, 2, 4, 5], 1, &[1]),
            // A match may overlap with what is looked up.
            (config(2, 4), &[6, 6, 6, 6], 9, &[6]),
            (config(1, 4), &[6], 9, &[]),
            (config(1, 4), &[], 9, &[]),
            (config(1, usize::MAX), &[6, 7, 6, 7], 9, &[6, 7]),
        ];
        for (config, token_ids, count, expected) in cases {
            assert_eq!(config.lookup(token_ids, count), expected, "{config:?} {token_ids:?}");
        }
    }

    proptest! {
        #[test]
        fn lookups_find_what_trying_all_lengths_finds(
            token_ids in prop::collection::vec(0u32..3, 0..40),
            (min, more, count) in (1usize..4, 0usize..4, 0usize..9),
        ) {
            let config = SpeculativeConfig::ngram(9).with_prompt_lookup(min, min + more);
            let expected = naive(&config, &token_ids).map_or(&[][..], |end| &token_ids[end..]);
            prop_assert_eq!(config.lookup(&token_ids, count), &expected[..expected.len().min(count)]);
        }
    }

    #[test]
    fn options_outside_their_domain_are_refused_by_name() {
        let config = SpeculativeConfig::ngram;
        let cases = [
            (config(1).with_prompt_lookup(1, 1), None),
            (SpeculativeConfig::default(), None),
            (config(0), Some("num_speculative_tokens")),
            (config(1).with_prompt_lookup(0, 1), Some("prompt_lookup_min")),
            (config(1).with_prompt_lookup(3, 2), Some("prompt_lookup_max")),
        ];
        for (config, expected) in cases {
            let option = match config.validate() {
                Err(LoadError::InvalidOption { option, .. }) => Some(option),
                _ => None,
            };
            assert_eq!(option, expected, "{config:?}");
        }
    }

    /// The lengths of so many guesses, of which so many come true each time, in steps of one sequence.
    fn lengths(num_steps: usize, mut num_true: impl FnMut(usize) -> usize) -> Vec<usize> {
        let (config, mut drafter) = (SpeculativeConfig::ngram(7), Drafter::new());
        let step = |_| {
            let len = drafter.propose(&config, &[6; 40], (40, 1)).len();
            (0..num_true(len).min(len)).for_each(|_| drafter.accept());
            len
        };
        (0..num_steps).map(step).collect()
    }

    #[test]
    fn guesses_grow_while_they_come_true_and_pause_while_they_do_not() {
        assert_eq!(lengths(4, |len| len), [2, 7, 7, 7]);
        assert_eq!(lengths(10, |_| 0), [2, 1, 0, 0, 0, 1, 0, 0, 0, 0]);
        // One that comes true ends the pauses.
        let mut outcomes = [0, 0, 1, 1].into_iter();
        let num_true = |len| if len > 0 { outcomes.next().unwrap_or(0) } else { 0 };
        assert_eq!(lengths(9, num_true), [2, 1, 0, 0, 0, 1, 1, 2, 1]);
    }

    #[test]
    fn the_more_tokens_a_step_has_the_surer_guesses_must_be() {
        // (true, tried) and how many guesses pay in steps of 1, 2, 4, 8 and 12 tokens
        let cases = [
            ((0.0, 0.0), [2, 1, 1, 0, 0]),
            ((9.4, 19.0), [2, 1, 0, 0, 0]),
            ((13.4, 19.0), [3, 2, 1, 0, 0]),
            ((17.4, 19.0), [13, 8, 5, 3, 2]),
            ((0.0, 19.0), [0; 5]),
        ];
        for ((num_true, num_tried), expected) in cases {
            let drafter = Drafter { num_true, num_tried, ..Drafter::new() };
            assert_eq!([1, 2, 4, 8, 12].map(|tokens| drafter.num_paying(tokens)), expected, "{num_true} {num_tried}");
        }
    }

    #[test]
    fn wrong_guesses_cost_one_token_in_64_steps_in_the_long_run() {
        let num_steps = 10_000;
        let num_drafts: usize = lengths(num_steps, |_| 0).iter().sum();
        assert!(num_drafts <= num_steps / (MAX_PAUSE + 1) + 10, "{num_drafts}");
    }

    #[test]
    fn there_are_no_more_guesses_than_there_is_room() {
        let (config, mut drafter) = (SpeculativeConfig::ngram(7), Drafter::new());
        assert_eq!(drafter.propose(&config, &[6; 40], (1, 1)), [6]);
        assert!(drafter.propose(&config, &[1, 2, 3], (9, 1)).is_empty());
    }
}
