//! Words and numbers in a text.

use chrono::NaiveDate;

use super::super::DateGranularity;

/// A text without what does not tell words apart: letters in lower case, one space for each run of anything that is no
/// letter, digit, `+` or `<`, none at the ends.
pub(super) fn fold(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars().flat_map(char::to_lowercase) {
        if character.is_alphanumeric() || matches!(character, '+' | '<' | '>') {
            out.push(character);
        } else if !out.is_empty() && !out.ends_with(' ') {
            out.push(' ');
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// Whether a text says that there is no answer.
pub(super) fn is_null_word(text: &str) -> bool {
    let words = ["", "n a", "na", "none", "null", "nil", "not applicable", "not available", "unknown", "not specified"];
    words.contains(&fold(text).as_str())
}

/// Yes or no, by its first word.
pub(super) fn boolean(text: &str) -> Option<bool> {
    let folded = fold(text);
    match folded.split(' ').next()? {
        "yes" | "true" | "y" | "t" | "1" => Some(true),
        "no" | "false" | "n" | "f" | "0" => Some(false),
        _ => None,
    }
}

/// Words and signs that make another number of the one before them.
const MULTIPLES: [&str; 12] =
    ["k", "m", "mn", "mio", "b", "bn", "hundred", "thousand", "million", "billion", "lakh", "crore"];

/// The only number of a text, unless a word such as `million` follows it; of `4/5`, `4 out of 5` and `4 of 5` the first, with the other one as what it is out of.
pub(super) fn number(text: &str) -> Option<(f64, Option<f64>)> {
    let found = numbers(text);
    let is_multiplied = |end: usize| {
        let word = text[end..].trim_start().split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
        MULTIPLES.contains(&word.to_lowercase().as_str())
    };
    if found.iter().any(|(_, _, end)| is_multiplied(*end)) {
        return None;
    }
    match found.as_slice() {
        [(number, _, _)] => Some((*number, None)),
        [(number, _, end), (whole, start, _)] => {
            let between = text[*end..*start].trim().to_lowercase();
            matches!(between.as_str(), "/" | "out of" | "of").then_some((*number, Some(*whole)))
        }
        _ => None,
    }
}

/// All numbers of a text with their places. A minus sign counts where no letter or digit comes before it, commas between
/// groups of three digits do not.
fn numbers(text: &str) -> Vec<(f64, usize, usize)> {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let is_signed = bytes[at] == b'-' && is_digit(at + 1) && (at == 0 || !bytes[at - 1].is_ascii_alphanumeric());
        if !is_digit(at) && !is_signed {
            at += 1;
            continue;
        }
        let start = at;
        at += 1;
        while is_digit(at) || is_group(bytes, at) || bytes.get(at) == Some(&b'.') && is_digit(at + 1) {
            at += 1;
        }
        if let Ok(number) = text[start..at].replace(',', "").parse() {
            found.push((number, start, at));
        }
    }
    found
}

/// Whether a comma is there, between a digit and just three more.
fn is_group(bytes: &[u8], at: usize) -> bool {
    let digits =
        |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    bytes.get(at) == Some(&b',') && digits(at + 1..at + 4) && !digits(at + 4..at + 5)
}

/// The parts of a list that is written as a text: its lines, without their bullets; of a single line what is between
/// semicolons, else between commas.
pub(super) fn split(text: &str) -> Vec<String> {
    let text = text.trim().trim_start_matches('[').trim_end_matches(']');
    let separator = if text.contains('\n') {
        '\n'
    } else if text.contains(';') {
        ';'
    } else {
        ','
    };
    let parts = text.split(separator).map(|part| without_bullet(part).trim_matches(['"', '\'']).to_owned());
    parts.filter(|part| !part.is_empty()).collect()
}

fn without_bullet(line: &str) -> &str {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix(['-', '*', '•', '–']) {
        return rest.trim_start();
    }
    let digits = line.len() - line.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    match line[digits..].strip_prefix(['.', ')']) {
        Some(rest) if digits > 0 && rest.starts_with(' ') => rest.trim_start(),
        _ => line,
    }
}

/// A date in the form that its question asks for. Days and months that may be the other way round are not guessed.
pub(super) fn date(only: DateGranularity, text: &str) -> Option<String> {
    let text = text.trim();
    let forms = ["%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%B %d, %Y", "%d %B %Y", "%b %d, %Y", "%d %b %Y"];
    let of = |text: &str| forms.iter().find_map(|form| NaiveDate::parse_from_str(text, form).ok());
    // A time after RFC 3339 begins with its date.
    let date = of(text).or_else(|| of(text.get(..10).filter(|_| text[10..].starts_with(['T', ' ']))?));
    match only {
        DateGranularity::Date => date.map(|date| date.to_string()),
        DateGranularity::Year => {
            let year = date.map(|date| date.format("%Y").to_string());
            year.or_else(|| {
                number(text)
                    .filter(|(year, of)| of.is_none() && (1000.0..10_000.0).contains(year) && year.fract() == 0.0)
                    .map(|(year, _)| year.to_string())
            })
        }
        DateGranularity::DateTime => Some(text.replacen(' ', "T", 1)).filter(|time| time != text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found() {
        let cases = [
            ("4", Some((4.0, None))),
            ("4/5", Some((4.0, Some(5.0)))),
            ("4 out of 5 stars", Some((4.0, Some(5.0)))),
            ("about 1,200.50 EUR", Some((1200.5, None))),
            ("-3", Some((-3.0, None))),
            ("5+ years", Some((5.0, None))),
            ("3-5", None),
            ("1,2", None),
            ("1,2345", None),
            ("none", None),
        ];
        for (text, expected) in cases {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn texts_are_split_and_folded() {
        assert_eq!(split("- a\n* b\n\n2. c"), ["a", "b", "c"]);
        assert_eq!(split("['a', \"b, c\"; d]"), ["a', \"b, c", "d"]);
        assert_eq!(split("a, b"), ["a", "b"]);
        assert_eq!(fold(" **Early-Career** (0–3 years). "), "early career 0 3 years");
        assert_eq!((fold("C++"), fold("<1 Year")), ("c++".to_owned(), "<1 year".to_owned()));
        assert_eq!(
            [boolean("Yes, it is"), boolean("FALSE"), boolean("yesterday"), boolean("")],
            [Some(true), Some(false), None, None]
        );
        assert!(is_null_word("N/A") && is_null_word("") && !is_null_word("nothing"));
    }

    #[test]
    fn dates_are_rewritten_where_they_are_clear() {
        let cases = [
            (DateGranularity::Date, "2026/01/31", Some("2026-01-31")),
            (DateGranularity::Date, "January 31, 2026", Some("2026-01-31")),
            (DateGranularity::Date, "2026-01-31T10:00:00Z", Some("2026-01-31")),
            (DateGranularity::Date, "01/02/2026", None),
            (DateGranularity::Date, "ééééé", None),
            (DateGranularity::Year, "2026-01-31", Some("2026")),
            (DateGranularity::Year, "in 2026", Some("2026")),
            (DateGranularity::DateTime, "2026-01-31 10:00:00Z", Some("2026-01-31T10:00:00Z")),
            (DateGranularity::DateTime, "2026-01-31", None),
        ];
        for (only, text, expected) in cases {
            assert_eq!(date(only, text).as_deref(), expected, "{text}");
        }
    }
}
