//! Masks, biases, penalties and log-probabilities against their definitions.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::processors::Processors;
use super::*;
use crate::SamplingParams;

/// Parameters and tokens of one sequence over a small vocabulary.
#[derive(Debug, Clone)]
struct Case {
    params: SamplingParams,
    end_token_ids: Vec<u32>,
    bad_words: Vec<Vec<u32>>,
    prompt: Vec<u32>,
    output: Vec<u32>,
}

impl Case {
    fn processors(&self) -> Processors {
        let mut processors = Processors::new(&self.params, self.end_token_ids.clone());
        processors.bad_words.clone_from(&self.bad_words);
        processors.penalties.observe_prompt(&self.prompt);
        self.output.iter().for_each(|token_id| processors.penalties.observe(*token_id));
        processors
    }

    fn sampler(&self) -> Sampler {
        let sampler = Sampler::new(&self.params, 5, self.end_token_ids.clone());
        let mut sampler = sampler.with_bad_words(self.bad_words.clone()).with_prompt(&self.prompt);
        self.output.iter().for_each(|token_id| sampler.observe(*token_id));
        sampler
    }

    /// What vLLM's documentation says of each token, one after the other.
    fn expected(&self, logits: &[f32]) -> Vec<f32> {
        (0..).zip(logits).map(|(token_id, logit)| self.expected_logit(token_id, *logit)).collect()
    }

    fn expected_logit(&self, token_id: u32, mut logit: f32) -> f32 {
        let (params, output) = (&self.params, &self.output);
        let is_early = output.len() < params.min_tokens as usize;
        let completes = |word: &Vec<u32>| {
            let words = output.iter().chain([&token_id]).rev().zip(word.iter().rev());
            word.len() <= output.len() + 1 && words.into_iter().all(|(a, b)| a == b)
        };
        if params.allowed_token_ids.as_ref().is_some_and(|allowed| !allowed.contains(&token_id))
            || self.bad_words.iter().any(completes)
            || (is_early && self.end_token_ids.contains(&token_id))
        {
            logit = f32::NEG_INFINITY;
        }
        logit += params.logit_bias.get(&token_id).unwrap_or(&0.0);
        if self.prompt.contains(&token_id) || output.contains(&token_id) {
            logit = if logit > 0.0 { logit / params.repetition_penalty } else { logit * params.repetition_penalty };
        }
        let count = output.iter().filter(|other| **other == token_id).count();
        logit -= params.frequency_penalty * count as f32;
        if count > 0 { logit - params.presence_penalty } else { logit }
    }
}

/// Half of the parameters are at their defaults as a rule, so that each is seen alone and with others.
fn cases() -> impl Strategy<Value = Case> {
    let ids = |len| prop::collection::vec(0u32..12, len);
    let penalty = || prop_oneof![Just(0.0), -2f32..2.0];
    let penalties = (penalty(), penalty(), prop_oneof![Just(1.0), 0.2f32..3.0]);
    let bias = prop_oneof![Just(BTreeMap::new()), prop::collection::btree_map(0u32..14, -100f32..100.0, 1..4)];
    let allowed = prop_oneof![Just(None), ids(1..9).prop_map(Some)];
    let bad_words = prop_oneof![Just(vec![]), prop::collection::vec(ids(1..4), 1..5)];
    let end = (prop_oneof![Just(0u32), 0u32..6], ids(0..3));
    let words = (ids(0..6), ids(0..8));
    (penalties, bias, allowed, bad_words, (end, words)).prop_map(
        |(
            (presence, frequency, repetition),
            bias,
            allowed,
            bad_words,
            ((min_tokens, end_token_ids), (prompt, output)),
        )| {
            let params = SamplingParams::greedy().with_presence_penalty(presence).with_frequency_penalty(frequency);
            let params = params.with_repetition_penalty(repetition).with_logit_bias(bias).with_min_tokens(min_tokens);
            let params = SamplingParams { allowed_token_ids: allowed, ..params };
            Case { params, end_token_ids, bad_words, prompt, output }
        },
    )
}

fn logits() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![9 => -20f32..20.0, 3 => (-4i32..4).prop_map(|x| x as f32), 1 => Just(f32::NEG_INFINITY)];
    prop::collection::vec(logit, 12)
}

/// The log-softmax of a row in double precision, sorted by rank.
fn log_softmax(logits: &[f32]) -> Vec<(u32, f64)> {
    let maximum = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|logit| (f64::from(*logit) - f64::from(maximum)).exp()).sum();
    let logprob = |logit: f32| f64::from(logit) - f64::from(maximum) - total.ln();
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    ranked.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    ranked.into_iter().map(|(token_id, logit)| (token_id, logprob(logit))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn logits_are_processed_as_the_definitions_say(case in cases(), logits in logits()) {
        let expected = case.expected(&logits);
        let mut buffer = vec![7.0];
        let processed = case.processors().apply(&logits, &case.output, None, &mut buffer).map(<[f32]>::to_vec);
        let is_copied = processed.is_some();
        prop_assert_eq!(processed.as_ref().unwrap_or(&logits), &expected);
        // A row that nothing touches is not copied.
        let has_penalty = |params: &SamplingParams| {
            (params.presence_penalty, params.frequency_penalty, params.repetition_penalty) != (0.0, 0.0, 1.0)
        };
        let may_copy = has_penalty(&case.params) || case.params.allowed_token_ids.is_some()
            || !case.params.logit_bias.is_empty() || !case.bad_words.is_empty() || case.params.min_tokens > 0;
        prop_assert!(may_copy || !is_copied);
    }

    #[test]
    fn the_choice_is_made_from_the_processed_logits(case in cases(), logits in logits(), seed: u64) {
        let expected = case.expected(&logits);
        let best = expected.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let greedy = case.sampler().sample(&logits, &case.output, &mut SampleScratch::default());
        let first = expected.iter().position(|logit| *logit == best).unwrap() as u32;
        let is_touched = case.processors().apply(&logits, &case.output, None, &mut vec![]).is_some();
        prop_assert_eq!(greedy, (best.is_finite() || !is_touched).then_some(first));

        let mut sampled = case.clone();
        sampled.params.temperature = 0.8;
        let plain = Sampler::new(&SamplingParams::default().with_temperature(0.8), seed, vec![]);
        let (mut scratch, with_seed) = (SampleScratch::default(), sampled.sampler().with_seed(seed));
        if best.is_finite() {
            let expected = plain.sample(&expected, &case.output, &mut scratch);
            prop_assert_eq!(with_seed.sample(&logits, &case.output, &mut scratch), expected);
        }
    }

    #[test]
    fn logprobs_are_those_of_the_softmax(
        logits in prop_oneof![logits(), prop::collection::vec(-30f32..30.0, 1..700)],
        index: prop::sample::Index,
        num_top in prop_oneof![Just(0usize), 1usize..9, Just(1000)],
    ) {
        prop_assume!(logits.iter().any(|logit| logit.is_finite()));
        let expected = log_softmax(&logits);
        let token_id = index.index(logits.len()) as u32;
        let row = logprobs(&logits, token_id, num_top, &mut SampleScratch::default());
        let place = expected.iter().position(|(other, _)| *other == token_id).unwrap();
        let all = std::iter::once((place, &row.chosen)).chain(row.top.iter().enumerate());
        for (place, actual) in all {
            let (token_id, logprob) = expected[place];
            prop_assert_eq!((actual.token_id, actual.rank as usize), (token_id, place + 1));
            let error = (f64::from(actual.logprob) - logprob).abs();
            prop_assert!(logprob == f64::from(actual.logprob) || error < 1e-6 * logprob.abs().max(1.0), "{actual:?}");
        }
        prop_assert_eq!(row.top.len(), num_top.min(logits.len()));
    }
}

#[test]
fn rows_without_a_distribution_have_no_nan() {
    let (nan, infinite) = (f32::NAN, f32::INFINITY);
    let cases: [(&[f32], u32, &[u32]); 5] = [
        (&[nan, 1.0, nan], 0, &[1]),
        (&[nan, nan], 1, &[]),
        (&[-infinite, -infinite], 1, &[0, 1]),
        (&[0.0, infinite], 1, &[1, 0]),
        (&[], 3, &[]),
    ];
    for (logits, token_id, top) in cases {
        let row = logprobs(logits, token_id, 9, &mut SampleScratch::default());
        let ids: Vec<u32> = row.top.iter().map(|token| token.token_id).collect();
        assert_eq!(ids, top, "{logits:?}");
        assert_eq!(row.chosen.logprob, f32::NEG_INFINITY, "{logits:?}");
        assert!(row.top.iter().all(|token| !token.logprob.is_nan()), "{row:?}");
    }
}

#[test]
fn a_bad_word_is_impossible_only_where_it_would_be_complete() {
    let sampler = Sampler::new(&SamplingParams::greedy(), 0, vec![]).with_bad_words(vec![vec![1, 2, 3], vec![0]]);
    let logits = [9.0, 1.0, 2.0, 5.0];
    let cases: [(&[u32], u32); 6] = [(&[], 3), (&[1, 2], 2), (&[0, 1, 2], 2), (&[2], 3), (&[1, 2, 2], 3), (&[2, 1], 3)];
    for (output, expected) in cases {
        assert_eq!(sampler.sample(&logits, output, &mut SampleScratch::default()), Some(expected), "{output:?}");
    }
}

#[test]
fn parameters_that_leave_no_token_have_no_choice() {
    let allowed = SamplingParams::default().with_allowed_token_ids(vec![1]);
    let sampler = Sampler::new(&allowed.clone().with_min_tokens(1), 0, vec![1]);
    let choices = [&[][..], &[1]].map(|output| sampler.sample(&[1.0, 2.0], output, &mut SampleScratch::default()));
    assert_eq!(choices, [None, Some(1)]);
    let outside = Sampler::new(&allowed.with_allowed_token_ids(vec![2]), 0, vec![]);
    assert_eq!(outside.sample(&[1.0, 2.0], &[], &mut SampleScratch::default()), None);
}
