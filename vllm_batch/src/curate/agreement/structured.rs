//! Agreement of objects and lists, leaf by leaf.

use serde_json::Value;

/// The share of leaves that two JSON values have in common: twice those that are equal and at the same place, over all of both
/// (so that what only one side has counts against them). Texts are equal without regard to case and white space. Items of
/// lists are matched with the items of the other list that are most like them, so that an item in between does not make all that
/// follow wrong. 1 if neither has a leaf.
///
/// # Example
/// ```
/// use serde_json::json;
/// use vllm_batch::curate::agreement::leaf_agreement;
///
/// let a = json!([{"school": "MIT", "degree": "BSc"}]);
/// let b = json!([{"school": "Yale", "degree": "MA"}, {"school": "mit", "degree": "BSc"}]);
/// assert!((leaf_agreement(&a, &b) - 4.0 / 6.0).abs() < 1e-12);
/// ```
pub fn leaf_agreement(a: &Value, b: &Value) -> f64 {
    let leaves = count(a) + count(b);
    if leaves == 0 { 1.0 } else { 2.0 * common(a, b) as f64 / leaves as f64 }
}

/// Leaves: what is neither an object nor a list; `null` says nothing and is none.
fn count(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Object(map) => map.values().map(count).sum(),
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

/// Leaves that are equal and at the same place.
fn common(a: &Value, b: &Value) -> usize {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().filter_map(|(key, value)| Some(common(value, b.get(key)?))).sum()
        }
        (Value::Array(a), Value::Array(b)) => common_items(a, b),
        (Value::String(a), Value::String(b)) => usize::from(normalised(a) == normalised(b)),
        (Value::Number(a), Value::Number(b)) => usize::from(a.as_f64() == b.as_f64()),
        (Value::Bool(a), Value::Bool(b)) => usize::from(a == b),
        _ => 0,
    }
}

/// Items that are compared each with each; longer lists are compared place by place.
const MAX_MATCHED_ITEMS: usize = 64;

/// The best pairs first, each item in one pair; of equally good pairs the first.
fn common_items(a: &[Value], b: &[Value]) -> usize {
    if a.len().max(b.len()) > MAX_MATCHED_ITEMS {
        return a.iter().zip(b).map(|(a, b)| common(a, b)).sum();
    }
    let pair = |i: usize, j: usize| (std::cmp::Reverse(common(&a[i], &b[j])), i, j);
    let mut pairs: Vec<_> = (0..a.len()).flat_map(|i| (0..b.len()).map(move |j| pair(i, j))).collect();
    pairs.sort_unstable();
    let (mut taken_a, mut taken_b) = (vec![false; a.len()], vec![false; b.len()]);
    let mut total = 0;
    for (std::cmp::Reverse(shared), i, j) in pairs {
        if !taken_a[i] && !taken_b[j] {
            (taken_a[i], taken_b[j]) = (true, true);
            total += shared;
        }
    }
    total
}

/// A text without differences that mean nothing: in lower case, with single spaces.
pub(super) fn normalised(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !normal.is_empty() {
            normal.push(' ');
        }
        normal.extend(word.chars().flat_map(char::to_lowercase));
    }
    normal
}
