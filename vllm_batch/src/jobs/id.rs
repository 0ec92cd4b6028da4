//! What are batches and files called?

/// What ids of batches begin with.
pub(super) const BATCH: &str = "batch_";
/// What ids of files begin with.
pub(super) const FILE: &str = "file-";
/// Hexadecimal digits after that: 128 bits.
const DIGITS: usize = 32;

/// An id that nobody can guess.
///
/// # Panics
/// If the operating system has no random numbers.
pub(super) fn new_id(prefix: &str) -> String {
    let mut bytes = [0; DIGITS / 2];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    format!("{prefix}{:032x}", u128::from_be_bytes(bytes))
}

/// Whether it is an id of this kind. Such a text is safe as a part of a path.
pub(super) fn is_id(prefix: &str, text: &str) -> bool {
    let digits = text.strip_prefix(prefix);
    digits.is_some_and(|digits| {
        digits.len() == DIGITS && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_known_and_differ() {
        let (first, second) = (new_id(FILE), new_id(FILE));
        assert_ne!(first, second);
        assert!(is_id(FILE, &first) && !is_id(BATCH, &first));
        let digits = "0".repeat(32);
        for text in ["", "file-", "file-0", "../../etc/passwd"] {
            assert!(!is_id(FILE, text), "{text}");
        }
        for text in [format!("file-{}", "A".repeat(32)), format!("file-{digits}0"), format!("file-../{}", &digits[3..])]
        {
            assert!(!is_id(FILE, &text), "{text}");
        }
    }
}
