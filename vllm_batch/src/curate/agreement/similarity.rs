//! How alike two answers to one question are.

use super::span::dice;
use super::structured::{leaf_agreement, normalised};
use crate::curate::{Answer, LabelSpan};

/// How alike two answers to the same question are, from 0 to 1:
///
/// * sets (several options, texts, paths of a taxonomy): the F1 score, twice what they share over what both have;
/// * stretches of text: the F1 score of [`span_f1`](super::span_f1);
/// * objects and lists: [`leaf_agreement`];
/// * rankings: Kendall's tau, moved to the range from 0 to 1;
/// * all others: 1 if they are equal, else 0; texts without regard to case and white space.
///
/// Answers of different kinds are not alike.
///
/// # Example
/// ```
/// use vllm_batch::curate::{Answer, agreement::similarity};
///
/// let ranking = |items: [&str; 3]| Answer::Ranking(items.map(str::to_owned).to_vec());
/// let tau = similarity(&ranking(["a", "b", "c"]), &ranking(["a", "c", "b"]));
/// assert!((tau - 2.0 / 3.0).abs() < 1e-12);
/// assert_eq!(similarity(&Answer::Rating(3), &Answer::Rating(4)), 0.0);
/// ```
pub fn similarity(a: &Answer, b: &Answer) -> f64 {
    match (a, b) {
        (Answer::Options(a), Answer::Options(b)) => dice(a, b),
        (Answer::Texts(a), Answer::Texts(b)) => dice(&all_normalised(a), &all_normalised(b)),
        (Answer::Taxonomy(a), Answer::Taxonomy(b)) => dice(a, b),
        (Answer::Spans(a), Answer::Spans(b)) => dice::<LabelSpan>(a, b),
        (Answer::Structured(a), Answer::Structured(b)) => leaf_agreement(a, b),
        (Answer::Ranking(a), Answer::Ranking(b)) => concordance(a, b),
        (Answer::Text(a), Answer::Text(b)) => one_if(normalised(a) == normalised(b)),
        (a, b) => one_if(a == b),
    }
}

fn one_if(equal: bool) -> f64 {
    f64::from(u8::from(equal))
}

fn all_normalised(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| normalised(text)).collect()
}

/// The share of pairs of items, among those in both, that stand in the same order: `(tau + 1) / 2`. Without a pair: 1 if
/// both are equal, else 0.
fn concordance(a: &[String], b: &[String]) -> f64 {
    let places: Vec<usize> = a.iter().filter_map(|item| b.iter().position(|other| other == item)).collect();
    let (mut pairs, mut concordant) = (0u64, 0u64);
    for (at, place) in places.iter().enumerate() {
        for later in &places[at + 1..] {
            pairs += 1;
            concordant += u64::from(place < later);
        }
    }
    if pairs == 0 { one_if(a == b) } else { concordant as f64 / pairs as f64 }
}
