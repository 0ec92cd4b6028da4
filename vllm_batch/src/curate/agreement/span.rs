//! Agreement of labelled stretches of text.

use crate::curate::LabelSpan;

/// The F1 score of two sets of labelled stretches, where a stretch counts as found if one with the same beginning, end and
/// label is on the other side (CoNLL-2003's measure). 1 if both are empty.
///
/// # Example
/// ```
/// use vllm_batch::curate::{LabelSpan, agreement::span_f1};
///
/// let a = [LabelSpan::new(0, 3, "person"), LabelSpan::new(10, 14, "place")];
/// let b = [LabelSpan::new(0, 3, "person")];
/// assert!((span_f1(&a, &b) - 2.0 / 3.0).abs() < 1e-12);
/// ```
pub fn span_f1(a: &[LabelSpan], b: &[LabelSpan]) -> f64 {
    dice(a, b)
}

/// Twice what two multisets share, over what both have; 1 if both are empty.
pub(super) fn dice<T: Ord>(a: &[T], b: &[T]) -> f64 {
    if a.is_empty() && b.is_empty() {
        return 1.0;
    }
    2.0 * common(a, b) as f64 / (a.len() + b.len()) as f64
}

/// How many items two multisets share.
fn common<T: Ord>(a: &[T], b: &[T]) -> usize {
    let sorted = |items: &mut Vec<_>| items.sort_unstable();
    let (mut a, mut b): (Vec<&T>, Vec<&T>) = (a.iter().collect(), b.iter().collect());
    sorted(&mut a);
    sorted(&mut b);
    let (mut i, mut j, mut shared) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => (i, j, shared) = (i + 1, j + 1, shared + 1),
        }
    }
    shared
}
