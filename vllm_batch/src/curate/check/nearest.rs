//! Which of a few words is meant.

/// The word that takes the fewest insertions, deletions and replacements of characters (Levenshtein 1966) to become from
/// `text`, if these are at most a third of its characters; letters count alike in upper and lower case. Of equally near
/// words the first.
pub(in crate::curate) fn nearest<'a>(text: &str, words: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let text: Vec<char> = text.to_lowercase().chars().take(MAX_CHARS).collect();
    let distance =
        |word: &'a str| (edits(&text, &word.to_lowercase().chars().take(MAX_CHARS).collect::<Vec<_>>()), word);
    let (edits, word) = words.into_iter().map(distance).min_by_key(|(edits, _)| *edits)?;
    (edits * 3 <= text.len()).then(|| word.to_owned())
}

/// Longer words are compared by their beginnings.
const MAX_CHARS: usize = 64;

fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_if_one_is_near() {
        let words = ["formal", "casual", "Friendly"];
        let cases = [
            ("formall", Some("formal")),
            ("FORMAL", Some("formal")),
            ("freindly", Some("Friendly")),
            ("rude", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(nearest(text, words).as_deref(), expected, "{text}");
        }
        assert_eq!(nearest("formal", []), None);
    }
}
