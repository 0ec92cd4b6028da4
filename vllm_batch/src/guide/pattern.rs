//! Regular expressions of JSON Schema, which are JavaScript's, in the syntax of Rust's.

/// What JavaScript's `.` leaves out.
const NOT_LINE_END: &str = r"[^\n\r\u2028\u2029]";
/// JavaScript's white space.
const SPACES: &str = r"\t-\r \u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000\uFEFF";

/// The same expression in Rust's syntax, as far as it can be written there. `\d` and `\w` stay: the compiler takes them
/// for ASCII in schemas.
pub(super) fn from_javascript(pattern: &str) -> String {
    let mut rust = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => push_escape(chars.next(), &mut rust),
            '.' if !in_class => rust.push_str(NOT_LINE_END),
            // Rust would see a class inside the class, or an operation on classes.
            '[' | '&' | '~' if in_class => rust.extend(['\\', c]),
            '[' | ']' => {
                in_class = c == '[';
                rust.push(c);
            }
            _ => rust.push(c),
        }
    }
    rust
}

fn push_escape(c: Option<char>, rust: &mut String) {
    match c {
        Some('s') => rust.extend(["[", SPACES, "]"]),
        Some('S') => rust.extend(["[^", SPACES, "]"]),
        Some(c) => rust.extend(['\\', c]),
        None => rust.push('\\'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_translated() {
        let cases = [
            ("a.b", r"a[^\n\r\u2028\u2029]b"),
            (r"a\.[.]", r"a\.[.]"),
            (r"^[[a\]&&~-]$", r"^[\[a\]\&\&\~-]$"),
            (r"\\.", r"\\[^\n\r\u2028\u2029]"),
            (r"\d\w[^\d]", r"\d\w[^\d]"),
            (r"\s", r"[\t-\r \u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000\uFEFF]"),
            (r"[\S]", r"[[^\t-\r \u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000\uFEFF]]"),
            (r"é\", r"é\"),
        ];
        for (javascript, rust) in cases {
            assert_eq!(from_javascript(javascript), rust, "{javascript}");
        }
    }
}
