//! Which tokens might come next? Guesses from what a sequence has said before.
//!
//! Where few sequences run, a step takes nearly as long for a few tokens as for one: it reads all weights either way. So the
//! step that computes the last known token computes guesses of the next ones with it, and each guess is compared with the
//! token that is chosen in its place, by the same sampler from the same logits. What was guessed changes how many tokens a
//! step yields, and never which.
//!
//! Guesses are cheap to make and not free to compute, so each answer has a [`Drafter`], which asks for more while they come
//! true, and pauses while they do not.

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
#[derive(Debug, Clone)]
pub(super) struct Drafter {
    /// How many tokens to guess ahead.
    len: usize,
    /// How many of the last guesses are open, and how many came true.
    num_open: usize,
    num_accepted: usize,
    /// For so many steps nothing is guessed.
    pause: usize,
    /// How long the last pause was.
    last_pause: usize,
}

/// How many tokens are guessed at first.
const FIRST_LEN: usize = 3;
/// The longest pause, in steps. Where all guesses are wrong, one step in so many has one token too many.
const MAX_PAUSE: usize = 63;

impl Drafter {
    pub(super) const fn new() -> Self {
        Self { len: FIRST_LEN, num_open: 0, num_accepted: 0, pause: 0, last_pause: 0 }
    }

    /// At most `room` guesses of the tokens after these, which are all that the sequence has.
    pub(super) fn propose(&mut self, config: &SpeculativeConfig, token_ids: &[u32], room: usize) -> Vec<u32> {
        self.learn(config);
        if self.pause > 0 {
            self.pause -= 1;
            return Vec::new();
        }
        let drafts = config.lookup(token_ids, self.len.min(room)).to_vec();
        self.num_open = drafts.len();
        drafts
    }

    /// Takes note that one of the guesses came true.
    pub(super) fn accept(&mut self) {
        self.num_accepted += 1;
    }

    /// Twice as many if all came true, one more than came true otherwise; if none did, a pause, longer each time.
    fn learn(&mut self, config: &SpeculativeConfig) {
        let (num_open, num_accepted) = (std::mem::take(&mut self.num_open), std::mem::take(&mut self.num_accepted));
        if num_open == 0 {
            return;
        }
        if num_accepted == 0 {
            self.last_pause = (2 * self.last_pause + 1).min(MAX_PAUSE);
            self.pause = self.last_pause;
            self.len = 1;
            return;
        }
        self.last_pause = 0;
        let wanted = if num_accepted == num_open { 2 * num_open } else { num_accepted + 1 };
        self.len = wanted.min(config.num_speculative_tokens);
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
        known
            .filter_map(|len| {
                let last = &token_ids[token_ids.len() - len..];
                let before = &token_ids[..token_ids.len() - 1];
                before.windows(len).position(|window| window == last).map(|start| start + len)
            })
            .next()
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

    /// The lengths of so many guesses, of which so many come true each time.
    fn lengths(num_steps: usize, mut num_true: impl FnMut(usize) -> usize) -> Vec<usize> {
        let (config, mut drafter) = (SpeculativeConfig::ngram(7), Drafter::new());
        let step = |_| {
            let len = drafter.propose(&config, &[6; 40], 40).len();
            (0..num_true(len).min(len)).for_each(|_| drafter.accept());
            len
        };
        (0..num_steps).map(step).collect()
    }

    #[test]
    fn guesses_grow_while_they_come_true_and_pause_while_they_do_not() {
        assert_eq!(lengths(4, |len| len), [3, 6, 7, 7]);
        assert_eq!(lengths(4, |_| 1), [3, 2, 2, 2]);
        assert_eq!(lengths(12, |_| 0), [3, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        // One that comes true ends the pauses.
        let mut outcomes = [0, 1, 0].into_iter();
        let num_true = |len| if len > 0 { outcomes.next().unwrap_or(1) } else { 0 };
        assert_eq!(lengths(7, num_true), [3, 0, 1, 2, 0, 1, 2]);
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
        assert_eq!(drafter.propose(&config, &[6; 40], 2), [6, 6]);
        assert!(drafter.propose(&config, &[1, 2, 3], 9).is_empty());
    }
}
