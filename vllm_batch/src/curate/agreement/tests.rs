//! Vectors from the literature and from the Python package krippendorff 0.9, and what must hold of any data.

use proptest::prelude::*;

use super::alpha::Reliability;
use super::bootstrap::Bootstrap;
use super::*;
use crate::curate::{
    Answer, Answers, Level, NumberQuestion, Preference, Question, QuestionKind, QuestionOption, Record, Response,
    ResponseStatus, Scale, Suggestion, SuggestionSet, TaskSchema, TextQuestion, Version,
};

const LEVELS: [Level; 4] = [Level::Nominal, Level::Ordinal, Level::Interval, Level::Ratio];

/// Three raters, fifteen units; `*` is missing (Krippendorff 2011).
const RATERS: [&str; 3] =
    ["* * * * * 3 4 1 2 1 1 3 3 * 3", "1 * 2 1 3 3 4 3 * * * * * * *", "* * 2 1 3 4 4 * 2 1 1 3 3 * 4"];

fn units_of(raters: &[&str]) -> Vec<Vec<f64>> {
    let mut units = Vec::new();
    for rater in raters {
        for (at, value) in rater.split(' ').enumerate() {
            units.resize_with(units.len().max(at + 1), Vec::new);
            units[at].extend(value.parse::<f64>());
        }
    }
    units
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-12
}

#[test]
fn alpha_is_that_of_the_reference_implementation() {
    let expected = [0.691_358_024_691_358, 0.806_721_419_941_315_3, 0.810_844_892_812_105_9, 0.808_943_670_784_247_1];
    for (level, expected) in LEVELS.into_iter().zip(expected) {
        let alpha = krippendorff_alpha(&units_of(&RATERS), level).unwrap();
        assert!(close(alpha, expected), "{level:?}: {alpha} instead of {expected}");
    }
    let pair = units_of(&["5 4 4 3 2 1 5 3 2 4", "5 5 4 3 1 1 4 3 3 4"]);
    let expected = [0.509_677_419_354_838_8, 0.896_706_349_206_349_2, 0.888_888_888_888_888_8];
    for (level, expected) in LEVELS.into_iter().zip(expected) {
        assert!(close(krippendorff_alpha(&pair, level).unwrap(), expected), "{level:?}");
    }
    assert_eq!(krippendorff_alpha(&units_of(&["1 2 1 2", "2 1 2 1"]), Level::Nominal), Ok(-0.75));
}

#[test]
fn alpha_is_undefined_where_nothing_can_be_compared() {
    for level in LEVELS {
        let empty: [Vec<f64>; 0] = [];
        assert_eq!(krippendorff_alpha(&empty, level), Err(Undefined::NoPairs));
        assert_eq!(krippendorff_alpha(&[vec![1.0], vec![], vec![2.0]], level), Err(Undefined::NoPairs));
        assert_eq!(krippendorff_alpha(&[vec![3.0, 3.0], vec![3.0, 3.0, 3.0]], level), Err(Undefined::OneValue));
    }
    let many: Vec<_> = (0..3_000).map(|n| vec![f64::from(n), f64::from(n + 1)]).collect();
    assert_eq!(krippendorff_alpha(&many, Level::Ratio), Err(Undefined::TooManyValues));
    assert!(krippendorff_alpha(&many, Level::Interval).is_ok());
}

#[test]
fn kappa_is_that_of_the_literature() {
    let a = [5, 4, 4, 3, 2, 1, 5, 3, 2, 4];
    let b = [5, 5, 4, 3, 1, 1, 4, 3, 3, 4];
    let pairs: Vec<(usize, usize)> = a.into_iter().zip(b).map(|(a, b)| (a - 1, b - 1)).collect();
    let expected = [
        (KappaWeights::Plain, 0.493_670_886_075_949_56),
        (KappaWeights::Linear, 0.726_027_397_260_274),
        (KappaWeights::Quadratic, 0.883_040_935_672_514_6),
    ];
    for (weights, expected) in expected {
        assert!(close(cohen_kappa(&pairs, weights).unwrap(), expected), "{weights:?}");
    }
    assert_eq!(cohen_kappa(&[], KappaWeights::Plain), Err(Undefined::NoPairs));
    assert_eq!(cohen_kappa(&[(1, 1), (1, 1)], KappaWeights::Quadratic), Err(Undefined::OneValue));
    // Places may lie as far apart as there are numbers.
    let far = [(0, 0), (usize::MAX, usize::MAX), (0, usize::MAX), (usize::MAX, 0), (0, 0)];
    let near = far.map(|(a, b)| (a.min(1), b.min(1)));
    for (weights, _) in expected {
        let (far, near) = (cohen_kappa(&far, weights).unwrap(), cohen_kappa(&near, weights).unwrap());
        assert!(close(far, near), "{weights:?}: {far} {near}");
    }
}

#[test]
fn sets_that_hold_each_other_are_closer_than_sets_that_overlap() {
    let alpha = |a: &[&str], b: &[&str]| {
        let fixed = [vec![vec!["x"], vec!["x"]], vec![vec!["y", "z"], vec!["y", "z"]]];
        let mut units = fixed.to_vec();
        units.push(vec![a.to_vec(), b.to_vec()]);
        krippendorff_alpha_of_sets(&units).unwrap()
    };
    let (equal, holds, overlaps, disjoint) =
        (alpha(&["a"], &["a"]), alpha(&["a"], &["a", "b"]), alpha(&["a", "c"], &["a", "b"]), alpha(&["c"], &["b"]));
    assert!(close(equal, 1.0) && equal > holds && holds > overlaps && overlaps > disjoint);
    assert!(close(alpha(&["b", "a"], &["a", "b", "a"]), 1.0), "order and repetition say nothing");
}

fn choice(id: &str, values: &[&str]) -> Question {
    let options = values.iter().map(|value| QuestionOption::new(*value, *value)).collect();
    Question::new(id.parse().unwrap(), QuestionKind::Choice { options, multiple: false, min: 0, max: None })
}

fn option(value: &str) -> Answer {
    Answer::Option(value.to_owned())
}

fn answers(all: &[(&str, Answer)]) -> Answers {
    all.iter().map(|(question, answer)| (question.parse().unwrap(), answer.clone())).collect()
}

fn suggestion(model: &str, all: &[(&str, Answer)]) -> SuggestionSet {
    let suggestions = all.iter().map(|(question, answer)| Suggestion::new(question.parse().unwrap(), answer.clone()));
    SuggestionSet::new(crate::curate::Agent::model(model), suggestions.collect(), crate::curate::Provenance::default())
}

fn schema() -> TaskSchema {
    let levels = ["weak", "good", "strong"].into_iter().enumerate().map(|(at, value)| {
        let mut level = QuestionOption::new(value, value);
        // Listed from the worst, scored from the worst.
        level.score = Some(at as f64);
        level
    });
    let rating = QuestionKind::Rating { scale: Scale::Levels { levels: levels.rev().collect() } };
    let mut verdict = choice("verdict", &["yes", "no"]);
    verdict.role = crate::curate::QuestionRole::Review;
    TaskSchema::new("mail".parse().unwrap(), Version::new(1, 0, 0))
        .with_question(choice("tone", &["formal", "casual"]))
        .with_question(Question::new("clarity".parse().unwrap(), rating))
        .with_question(Question::new("words".parse().unwrap(), QuestionKind::Number(NumberQuestion::default())))
        .with_question(Question::new("notes".parse().unwrap(), QuestionKind::Text(TextQuestion::default())))
        .with_question(verdict)
}

fn records() -> Vec<Record> {
    type Said = [(&'static str, Answer); 5];
    let said = |tone: &str, clarity: &str, words: f64, notes: &str| -> Said {
        [
            ("tone", option(tone)),
            ("clarity", option(clarity)),
            ("words", Answer::Number(words)),
            ("notes", Answer::Text(notes.to_owned())),
            ("verdict", option("yes")),
        ]
    };
    let rows = [
        (said("formal", "weak", 10.0, "A b"), said("formal", "weak", 12.0, "a  B"), said("formal", "good", 10.0, "")),
        (said("casual", "good", 20.0, "x"), said("formal", "strong", 20.0, "y"), said("casual", "good", 20.0, "x")),
        (said("casual", "strong", 30.0, ""), said("casual", "strong", 30.0, ""), said("casual", "weak", 33.0, "")),
    ];
    let record = |(at, (ann, bob, model)): (usize, (Said, Said, Said))| {
        let mut record = Record::new(format!("r{at}"));
        let (ann, bob): (Answers, Answers) = (answers(&ann), answers(&bob));
        record.responses = vec![Response::submitted("bob", bob), Response::submitted("ann", ann)];
        record.responses[0].prefilled = Some(true);
        record.responses[1].prefilled = Some(false);
        let old = suggestion("m", &[("tone", option("formal"))]);
        record.suggestions = vec![old, suggestion("m", &model)];
        record
    };
    rows.into_iter().enumerate().map(record).collect()
}

fn value(result: Result<Estimate, Undefined>) -> f64 {
    result.unwrap().value
}

#[test]
fn people_are_compared_question_by_question() {
    let report = agreement(&schema(), &records(), &AgreementOptions::default());
    let humans = report.group(&Compared::Humans, Shown::All).unwrap();
    let [tone, clarity, words, notes, verdict] = humans.questions.as_slice() else { panic!("five questions") };

    assert_eq!((tone.num_units, tone.num_answers, tone.measure), (3, 6, Measure::PercentAgreement));
    assert!(close(value(tone.similarity), 2.0 / 3.0));
    // ann: formal casual casual; bob: formal formal casual.
    assert!(close(value(tone.kappa), 0.4), "{:?}", tone.kappa);
    let confusion = [("formal", "formal", 1), ("casual", "formal", 1), ("casual", "casual", 1)];
    assert_eq!(tone.confusion, confusion.map(|(a, b, count)| (a.to_owned(), b.to_owned(), count)));
    assert_eq!(tone.prevalence, [("casual".to_owned(), 3), ("formal".to_owned(), 3)].into());
    assert!(tone.similarity.unwrap().interval.is_some());

    assert_eq!((clarity.level, clarity.mean_absolute_error), (Some(Level::Ordinal), Some(1.0 / 3.0)));
    assert_eq!(words.kappa, Err(Undefined::NotCategorical));
    assert!(close(words.mean_absolute_error.unwrap(), 2.0 / 3.0));
    assert!(close(value(notes.similarity), 2.0 / 3.0), "case and white space say nothing");
    assert_eq!((notes.alpha, notes.level), (Err(Undefined::NoLevel), None));
    assert_eq!((verdict.alpha, value(verdict.similarity)), (Err(Undefined::OneValue), 1.0));
    // The mean of all but the text.
    let shares = [tone, clarity, words, verdict].map(|question| value(question.similarity));
    assert!(close(humans.overall.unwrap(), shares.iter().sum::<f64>() / 4.0));
}

#[test]
fn models_are_compared_with_people_blind_and_prefilled_apart() {
    let report = agreement(&schema(), &records(), &AgreementOptions::default());
    let model = || Compared::ModelHuman { model: "m".to_owned() };
    let tones = [Shown::All, Shown::Blind, Shown::Prefilled]
        .map(|shown| (report.group(&model(), shown).unwrap().questions[0].num_units, shown))
        .map(|(units, shown)| (units, value(report.group(&model(), shown).unwrap().questions[0].similarity)));
    assert_eq!(tones[0].0, 6);
    assert!(close(tones[0].1, 5.0 / 6.0) && close(tones[1].1, 1.0) && close(tones[2].1, 2.0 / 3.0), "{tones:?}");
    let verdict = &report.group(&model(), Shown::All).unwrap().questions[4];
    assert_eq!((verdict.num_units, verdict.alpha), (0, Err(Undefined::NoPairs)), "a model is not asked for a review");
    assert!(report.group(&Compared::Models, Shown::All).is_none(), "there is one model");
}

#[test]
fn drafts_and_discarded_responses_do_not_count() {
    let mut records = records();
    records[0].responses[0].status = ResponseStatus::Draft;
    records[1].responses[0].status = ResponseStatus::Discarded;
    let report = agreement(&schema(), &records, &AgreementOptions::default());
    assert_eq!(report.group(&Compared::Humans, Shown::All).unwrap().questions[0].num_units, 1);
}

#[test]
fn reports_are_the_same_for_the_same_seed() {
    let report = |seed| agreement(&schema(), &records(), &AgreementOptions { seed, ..AgreementOptions::default() });
    assert_eq!(report(7), report(7));
    assert_ne!(report(7), report(8));
    let none = AgreementOptions { num_resamples: 0, ..AgreementOptions::default() };
    assert_eq!(agreement(&schema(), &records(), &none).groups[0].questions[0].similarity.unwrap().interval, None);
}

#[test]
fn what_is_undefined_is_written_with_its_reason() {
    let report = agreement(&schema(), &records(), &AgreementOptions::default());
    let json = serde_json::to_value(&report).unwrap();
    let humans = &json["groups"][0];
    assert_eq!(humans["compared"], "humans");
    assert_eq!(humans["questions"][4]["alpha"], serde_json::json!({"undefined": "one_value"}));
    assert_eq!(humans["questions"][2]["kappa"], serde_json::json!({"undefined": "not_categorical"}));
    assert!(humans["questions"][0]["alpha"]["value"].is_f64());
}

#[test]
fn answers_are_alike_by_their_kind() {
    let texts = |texts: &[&str]| Answer::Texts(texts.iter().map(|text| (*text).to_owned()).collect());
    let cases = [
        (texts(&["Rust", "c"]), texts(&["rust "]), 2.0 / 3.0),
        (Answer::Options(vec![]), Answer::Options(vec![]), 1.0),
        (Answer::Preference(Preference::Tie), Answer::Preference(Preference::Left), 0.0),
        (Answer::Number(1.0), Answer::Rating(1), 0.0),
        (Answer::Ranking(vec!["a".into()]), Answer::Ranking(vec!["b".into()]), 0.0),
        (Answer::Taxonomy(vec![vec!["a".into(), "b".into()]]), Answer::Taxonomy(vec![vec!["a".into()]]), 0.0),
    ];
    for (a, b, expected) in cases {
        assert!(close(similarity(&a, &b), expected), "{a:?} {b:?}");
        assert!(close(similarity(&b, &a), expected), "{b:?} {a:?}");
    }
}

/// The definition, pair by pair.
fn alpha_by_definition(units: &[Vec<f64>], distance: impl Fn(f64, f64, &[f64]) -> f64) -> Option<f64> {
    let units: Vec<_> = units.iter().filter(|unit| unit.len() > 1).collect();
    let all: Vec<f64> = units.iter().copied().flatten().copied().collect();
    let pairs = |values: &[f64]| -> f64 {
        values.iter().map(|a| values.iter().map(|b| distance(*a, *b, &all)).sum::<f64>()).sum()
    };
    let observed: f64 = units.iter().map(|unit| pairs(unit) / (unit.len() - 1) as f64).sum();
    let expected = pairs(&all) / (all.len() as f64 - 1.0);
    (expected > 0.0).then(|| 1.0 - observed / expected)
}

fn distance_of(level: Level) -> impl Fn(f64, f64, &[f64]) -> f64 {
    move |a: f64, b: f64, all: &[f64]| match level {
        Level::Nominal => f64::from(u8::from(a != b)),
        Level::Ordinal => {
            let (low, high) = (a.min(b), a.max(b));
            let between = all.iter().filter(|x| (low..=high).contains(*x)).count() as f64;
            let count = |value: f64| all.iter().filter(|x| **x == value).count() as f64;
            (between - f64::midpoint(count(a), count(b))).powi(2)
        }
        Level::Interval => (a - b).powi(2),
        Level::Ratio => ((a - b) / (a + b)).powi(2),
    }
}

fn any_units() -> impl Strategy<Value = Vec<Vec<f64>>> {
    let number = (1u8..6).prop_map(f64::from);
    prop::collection::vec(prop::collection::vec(number, 0..5), 0..12)
}

proptest! {
    #[test]
    fn alpha_is_its_definition(units in any_units()) {
        for level in LEVELS {
            let expected = alpha_by_definition(&units, distance_of(level));
            let alpha = krippendorff_alpha(&units, level).ok();
            let close = |(alpha, expected): (f64, f64)| (alpha - expected).abs() < 1e-9;
            prop_assert_eq!(alpha.is_some(), expected.is_some(), "{:?}", level);
            prop_assert!(alpha.zip(expected).is_none_or(close), "{level:?}: {alpha:?} for {expected:?}");
        }
    }

    #[test]
    fn kappa_of_equal_answers_is_one(values in prop::collection::vec(0usize..4, 1..20)) {
        let pairs: Vec<_> = values.iter().map(|value| (*value, *value)).collect();
        for weights in [KappaWeights::Plain, KappaWeights::Linear, KappaWeights::Quadratic] {
            match cohen_kappa(&pairs, weights) {
                Ok(kappa) => prop_assert!(close(kappa, 1.0)),
                Err(undefined) => prop_assert_eq!(undefined, Undefined::OneValue),
            }
        }
    }

    #[test]
    fn kappa_is_its_definition(pairs in prop::collection::vec((0usize..6, 0usize..6), 1..30)) {
        for (weights, power) in [(KappaWeights::Plain, 0), (KappaWeights::Linear, 1), (KappaWeights::Quadratic, 2)] {
            let weight = |a: usize, b: usize| if a == b { 0.0 } else { (a.abs_diff(b) as f64).powi(power) };
            let observed: f64 = pairs.iter().map(|(a, b)| weight(*a, *b)).sum();
            let chance = |a: &(usize, usize)| pairs.iter().map(|b| weight(a.0, b.1)).sum::<f64>();
            let expected: f64 = pairs.iter().map(chance).sum::<f64>() / pairs.len() as f64;
            match cohen_kappa(&pairs, weights) {
                Ok(kappa) => prop_assert!(close(kappa, 1.0 - observed / expected)),
                Err(undefined) => prop_assert!(undefined == Undefined::OneValue && expected == 0.0),
            }
        }
    }

    #[test]
    fn leaf_agreement_is_a_similarity(a in any_json(), b in any_json()) {
        let alike = leaf_agreement(&a, &b);
        prop_assert!((0.0..=1.0).contains(&alike));
        prop_assert!(close(alike, leaf_agreement(&b, &a)));
        prop_assert!(close(leaf_agreement(&a, &a), 1.0));
    }

    /// Drawing kinds and drawing units are the same distribution: means of draws are close to the counts.
    #[test]
    fn intervals_hold_the_mean(ones in 20u64..400, zeros in 20u64..400) {
        let mean = |counts: &[u64]| Ok(counts[1] as f64 / (counts[0] + counts[1]) as f64);
        let bootstrap = Bootstrap { seed: 1, num_resamples: 400, confidence: 0.99 };
        let together = bootstrap.interval(&[zeros, ones], mean).unwrap();
        let apart: Vec<u64> = vec![1; (zeros + ones) as usize];
        let mean_apart = |counts: &[u64]| {
            let ones: u64 = counts[zeros as usize..].iter().sum();
            Ok(ones as f64 / counts.iter().sum::<u64>() as f64)
        };
        let apart = bootstrap.interval(&apart, mean_apart).unwrap();
        let (p, n) = (mean(&[zeros, ones]).unwrap(), (zeros + ones) as f64);
        // 2.58 standard errors on each side, give or take the draws.
        let width = 2.0 * 2.576 * (p * (1.0 - p) / n).sqrt();
        for interval in [together, apart] {
            prop_assert!(interval.low < p && p < interval.high);
            let found = interval.high - interval.low;
            prop_assert!((0.7..1.4).contains(&(found / width)), "{found} instead of {width}");
        }
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        (0i64..4).prop_map(Into::into),
        "[a-c]{0,2}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from);
        let map = prop::collection::btree_map("[a-c]", inner, 0..4);
        prop_oneof![list, map.prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into())]
    })
}

#[test]
fn draws_that_are_undefined_too_often_give_no_interval() {
    let units = [vec![1.0, 1.0], vec![1.0, 1.0], vec![1.0, 2.0]];
    let reliability = Reliability::of_numbers(units.iter().map(Vec::as_slice), Level::Nominal).unwrap();
    let bootstrap = Bootstrap { seed: 0, num_resamples: 100, confidence: 0.95 };
    assert_eq!(bootstrap.interval(&reliability.counts, |counts| reliability.alpha(counts)), None);
}
