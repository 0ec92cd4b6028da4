use proptest::prelude::*;

use super::filter::Filter;
use super::row::{Maxima, Row};
use super::*;
use crate::SamplingParams;

/// A token that remains, and its probability times some constant.
type Kept = Vec<(u32, f64)>;

/// What remains of a row, straight from the definitions: sort, then drop. By token id.
fn reference(logits: &[f32], params: &SamplingParams) -> Kept {
    let maximum = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| (f64::from(logit - maximum) / f64::from(params.temperature)).exp();
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).filter(|(_, logit)| !logit.is_nan()).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked.retain(|(_, logit)| weight(*logit) >= f64::from(params.min_p));
    if params.top_k > 0 {
        ranked.truncate(params.top_k as usize);
    }
    let total: f64 = ranked.iter().map(|(_, logit)| weight(*logit)).sum();
    let mut before = 0.0;
    let mut kept: Kept = Vec::new();
    for (token_id, logit) in ranked {
        if !kept.is_empty() && before >= f64::from(params.top_p) * total {
            break;
        }
        before += weight(logit);
        kept.push((token_id, weight(logit)));
    }
    kept.sort_by_key(|(token_id, _)| *token_id);
    kept
}

/// What remains of a row as the sampler has it, with the units of each token.
fn kept(logits: &[f32], params: &SamplingParams) -> Vec<(u32, u64)> {
    let (mut maxima, mut filter, mut chunk_units) = (Maxima::default(), Filter::default(), Vec::new());
    maxima.read(logits);
    let row = Row { logits, maxima: &maxima, inverse_temperature: 1.0 / params.temperature, min_p: params.min_p };
    let cut = filter.top_k(&row, params.top_k as usize);
    let cut = filter.top_p(&row, cut, params.top_p);
    let total = row.sum(cut, &mut chunk_units);
    let units = (0..chunk_units.len()).flat_map(|chunk| row.chunk_units(chunk, cut));
    let kept: Vec<(u32, u64)> = (0..).zip(units).filter(|(_, units)| *units > 0).collect();
    assert_eq!((total, row.at(cut, &chunk_units, total)), (kept.iter().map(|(_, units)| units).sum(), None));
    let mut start = 0;
    for (token_id, units) in &kept {
        for target in [start, start + units - 1] {
            assert_eq!(row.at(cut, &chunk_units, target), Some(*token_id));
        }
        start += units;
    }
    kept
}

/// Compares with the reference, whose rounding may differ: what remains lies between the references for slightly
/// stricter and slightly looser limits.
fn check(logits: &[f32], params: &SamplingParams) {
    const SLACK: f32 = 1e-6;
    let strict =
        params.clone().with_top_p((params.top_p - SLACK).max(0.0)).with_min_p((params.min_p * (1.0 + SLACK)).min(1.0));
    let loose = params.clone().with_top_p(params.top_p + SLACK).with_min_p(params.min_p * (1.0 - SLACK));
    let (least, most) = (reference(logits, &strict), reference(logits, &loose));
    let kept = kept(logits, params);
    let is_kept = |token_id: u32| kept.binary_search_by_key(&token_id, |(token_id, _)| *token_id).is_ok();
    for (token_id, weight) in least {
        assert!(weight < 1e-12 || is_kept(token_id), "{token_id} is missing");
    }
    for (token_id, units) in kept {
        let place = most.binary_search_by_key(&token_id, |(token_id, _)| *token_id);
        let weight = most[place.unwrap_or_else(|_| panic!("{token_id} should be dropped"))].1;
        let share = units as f64 / 2f64.powi(40);
        assert!((share - weight).abs() < weight * 1e-5 + 1e-12, "{token_id} has the weight {share}, not {weight}");
    }
}

/// Rows with many equal logits and rows with none, some with impossible tokens; sometimes longer than many chunks.
fn logits() -> impl Strategy<Value = Vec<f32>> {
    let coarse = (-24i32..24).prop_map(|eighths| eighths as f32 / 8.0);
    let odd = prop_oneof![Just(f32::NAN), Just(f32::NEG_INFINITY), Just(-1e30), Just(20.0)];
    let logit = prop_oneof![8 => coarse, 8 => -8f32..8.0, 1 => odd];
    let row =
        prop_oneof![2 => prop::collection::vec(logit.clone(), 1..40), 1 => prop::collection::vec(logit, 100..900)];
    row.prop_filter("one token is possible", |logits| logits.iter().any(|logit| logit.is_finite()))
}

fn params() -> impl Strategy<Value = SamplingParams> {
    let temperature = prop_oneof![Just(1.0), 0.05f32..3.0];
    let top_k = prop_oneof![Just(0), 1u32..12, 1u32..300];
    let top_p = prop_oneof![Just(1.0), 0.001f32..1.0, 0.9f32..1.0];
    let min_p = prop_oneof![2 => Just(0.0), 1 => 0f32..1.0, 1 => 0f32..0.01, 1 => Just(1.0)];
    (temperature, top_k, top_p, min_p).prop_map(|(temperature, top_k, top_p, min_p)| {
        let params = SamplingParams::default().with_temperature(temperature);
        params.with_top_k(top_k).with_top_p(top_p).with_min_p(min_p)
    })
}

fn sample(params: &SamplingParams, logits: &[f32]) -> u32 {
    Sampler::new(params, 3, vec![]).sample(logits, &[], &mut SampleScratch::default()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_remains_is_what_the_definitions_say(logits in logits(), params in params()) {
        check(&logits, &params);
    }

    #[test]
    fn the_draw_is_one_of_the_tokens_that_remain(logits in logits(), params in params(), seed: u64, position in 0usize..9) {
        let mut scratch = SampleScratch::default();
        let sampler = Sampler::new(&params, seed, vec![]);
        let output = vec![0; position];
        let token_id = sampler.sample(&logits, &output, &mut scratch).unwrap();
        prop_assert!(kept(&logits, &params).iter().any(|(kept, _)| *kept == token_id));
        prop_assert!(sampler.sample(&[1.0, 2.0], &[], &mut scratch).unwrap() < 2);
        prop_assert_eq!(sampler.sample(&logits, &output, &mut scratch), Some(token_id));
    }

    #[test]
    fn one_token_is_left_where_the_limits_are_narrowest(logits in logits(), temperature in 0.01f32..100.0) {
        let params = SamplingParams::default().with_temperature(temperature);
        let most_likely = sample(&SamplingParams::greedy(), &logits);
        for narrow in [params.clone().with_top_k(1), params.with_top_p(1e-9)] {
            prop_assert_eq!(kept(&logits, &narrow).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [most_likely]);
        }
    }
}

#[test]
fn the_filters_agree_on_a_large_vocabulary() {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let logits: Vec<f32> = (0..151_936).map(|_| (next() + next() + next() - 1.5) * 12.0).collect();
    let all = SamplingParams::default();
    for params in [all.clone().with_top_k(50), all.clone().with_top_p(0.9), all.clone().with_min_p(0.1), all] {
        check(&logits, &params.clone().with_temperature(0.7));
        check(&logits, &params.with_temperature(4.0).with_top_p(0.95));
    }
}

#[test]
fn greedy_takes_the_largest_and_of_equal_ones_the_first() {
    let (nan, infinite) = (f32::NAN, f32::INFINITY);
    let mut late = vec![0.0; 200];
    late[150] = 1.0;
    late[199] = 1.0;
    let cases: [(&[f32], u32); 9] = [
        (&[1.0, 3.0, 2.0, 3.0], 1),
        (&[-1.0, -3.0], 0),
        (&[nan, -3.0, nan, -2.0], 3),
        (&[0.0, infinite, infinite], 1),
        (&[nan, -infinite, -infinite], 1),
        (&[-0.0, 0.0], 0),
        (&[nan, nan], 0),
        (&[], 0),
        (&late, 150),
    ];
    for (logits, expected) in cases {
        for temperature in [0.0, 9e-6] {
            assert_eq!(sample(&SamplingParams::default().with_temperature(temperature), logits), expected);
        }
    }
}

#[test]
fn rows_without_a_distribution_have_a_defined_token() {
    let (nan, infinite) = (f32::NAN, f32::INFINITY);
    let cases: [(&[f32], u32); 6] = [
        (&[nan, nan], 0),
        (&[nan, -infinite, -infinite], 1),
        (&[], 0),
        (&[1.0, infinite, nan, infinite], 1),
        (&[nan, 5.0, -infinite], 1),
        (&[f32::MIN, f32::MAX, f32::MIN], 1),
    ];
    let params = SamplingParams::default().with_top_k(2).with_top_p(0.5).with_min_p(0.1);
    for (logits, expected) in cases {
        assert_eq!(sample(&params, logits), expected, "{logits:?}");
        assert_eq!(sample(&SamplingParams::default(), logits), expected, "{logits:?}");
    }
}

#[test]
fn end_tokens_are_impossible_before_min_tokens() {
    let params = SamplingParams::greedy().with_min_tokens(2);
    let sampler = Sampler::new(&params, 0, vec![1, 3, 9]);
    let mut scratch = SampleScratch::default();
    let outputs: [&[u32]; 3] = [&[], &[2], &[2, 2]];
    let tokens = outputs.map(|output| sampler.sample(&[0.0, 9.0, 1.0, 8.0], output, &mut scratch));
    assert_eq!(tokens, [Some(2), Some(2), Some(1)]);
}

#[test]
fn draws_follow_the_distribution() {
    let logits: Vec<f32> = (0..130).map(|index| (index * 37 % 100) as f32 / 20.0).collect();
    let all = SamplingParams::default();
    let cases = [
        all.clone(),
        all.clone().with_top_k(7),
        all.clone().with_top_p(0.6).with_temperature(0.5),
        all.with_min_p(0.3),
    ];
    for (params, seed) in cases.iter().zip([1, 22, 333, 4444]) {
        let expected = reference(&logits, params);
        let total: f64 = expected.iter().map(|(_, weight)| weight).sum();
        let mut counts = vec![0u32; logits.len()];
        let (sampler, mut scratch) = (Sampler::new(params, seed, vec![]), SampleScratch::default());
        let num_draws = 20_000;
        let output = vec![0; num_draws];
        for position in 0..num_draws {
            counts[sampler.sample(&logits, &output[..position], &mut scratch).unwrap() as usize] += 1;
        }
        let chi_square: f64 = (expected.iter())
            .map(|(token_id, weight)| {
                let mean = weight / total * num_draws as f64;
                (f64::from(counts[*token_id as usize]) - mean).powi(2) / mean
            })
            .sum();
        let degrees = (expected.len() - 1) as f64;
        // Three standard deviations above the mean of the chi-square distribution.
        assert!(chi_square < degrees + 3.0 * (2.0 * degrees).sqrt(), "{chi_square} with {degrees} degrees");
    }
}

#[test]
fn draws_do_not_change_between_versions() {
    let logits: Vec<f32> = (0..1000).map(|index| (index * 37 % 100) as f32 / 20.0).collect();
    let params = SamplingParams::default().with_temperature(0.8).with_top_k(300).with_top_p(0.9);
    let (sampler, mut scratch) = (Sampler::new(&params, 42, vec![]), SampleScratch::default());
    let output = [0; 8];
    let tokens: Vec<u32> = (0..8).map(|len| sampler.sample(&logits, &output[..len], &mut scratch).unwrap()).collect();
    assert_eq!(tokens, [681, 716, 181, 359, 913, 354, 359, 127]);
}
