//! Which part of a file is wanted, and what is it called?
//!
//! RFC 9110, 13 and 14: one range of bytes, and entity tags. Several ranges at once are answered with the whole file, as is a
//! range of what has changed.

use std::ops::Range;

use axum::http::{HeaderMap, header};
use vllm_batch::jobs::FileObject;

/// What is wanted of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    All,
    Of(Range<u64>),
    /// The range lies behind the end.
    Nothing,
    /// The caller has it already.
    Unchanged,
}

/// The SHA-256 of a file, in quotes: files never change.
pub(crate) fn entity_tag(file: &FileObject) -> String {
    format!("\"{}\"", file.sha256)
}

pub(crate) fn wanted_part(headers: &HeaderMap, file: &FileObject) -> Part {
    let tag = entity_tag(file);
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if is_known(headers, &tag) {
        return Part::Unchanged;
    }
    let is_same = text(header::IF_RANGE).is_none_or(|known| known.trim() == tag);
    match text(header::RANGE).filter(|_| is_same).and_then(|range| range_of(range, file.bytes)) {
        None => Part::All,
        Some(range) if range.is_empty() => Part::Nothing,
        Some(range) => Part::Of(range),
    }
}

/// Whether `If-None-Match` has the entity tag (RFC 9110, 13.1.2: weak comparison, or a star).
pub(crate) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    let mut known = values.flat_map(|value| value.split(',')).map(str::trim);
    known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// The range in a header, cut off at the end of the file; empty if nothing of it is in the file. `None` if the header says
/// something else, which is to be ignored.
fn range_of(header: &str, len: u64) -> Option<Range<u64>> {
    let (unit, range) = header.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().unwrap_or(u64::MAX));
    match (first.trim(), last.trim()) {
        ("", "") => None,
        ("", suffix) => Some(len.saturating_sub(number(suffix)?)..len),
        (first, "") => Some(number(first)?..len),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then(|| first..last.saturating_add(1).min(len))
        }
    }
}

/// `Content-Disposition` with any name (RFC 6266, RFC 8187).
pub(crate) fn disposition(filename: &str) -> String {
    if filename.is_empty() {
        return "attachment".to_owned();
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte);
    let encoded: String = filename
        .bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("attachment; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use vllm_batch::jobs::FilePurpose;

    use super::*;

    fn file(bytes: u64) -> FileObject {
        let mut file = FileObject::new("file-1", FilePurpose::Batch, 0);
        file.bytes = bytes;
        file.sha256 = "ab".to_owned();
        file
    }

    #[test]
    fn ranges_are_those_of_the_rfc() {
        let cases = [
            ("bytes=0-", Part::Of(0..10)),
            ("bytes=0-0", Part::Of(0..1)),
            ("bytes=2-5", Part::Of(2..6)),
            ("bytes=2-99999999999999999999", Part::Of(2..10)),
            ("Bytes = 2 - 5", Part::Of(2..6)),
            ("bytes=-3", Part::Of(7..10)),
            ("bytes=-30", Part::Of(0..10)),
            ("bytes=-0", Part::Nothing),
            ("bytes=10-", Part::Nothing),
            ("bytes=10-12", Part::Nothing),
            ("bytes=5-2", Part::All),
            ("bytes=-", Part::All),
            ("bytes=a-b", Part::All),
            ("bytes=+1-2", Part::All),
            ("bytes=0-1,3-4", Part::All),
            ("lines=0-1", Part::All),
            ("bytes", Part::All),
        ];
        for (range, expected) in cases {
            let headers = [(header::RANGE, HeaderValue::from_static(range))].into_iter().collect();
            assert_eq!(wanted_part(&headers, &file(10)), expected, "{range}");
        }
        let headers = [(header::RANGE, HeaderValue::from_static("bytes=0-"))].into_iter().collect();
        assert_eq!(wanted_part(&headers, &file(0)), Part::Nothing);
    }

    #[test]
    fn entity_tags_say_what_is_there() {
        let range = (header::RANGE, "bytes=0-1");
        let cases = [
            (vec![(header::IF_NONE_MATCH, "\"ab\"")], Part::Unchanged),
            (vec![(header::IF_NONE_MATCH, "\"x\", W/\"ab\""), range.clone()], Part::Unchanged),
            (vec![(header::IF_NONE_MATCH, "*")], Part::Unchanged),
            (vec![(header::IF_NONE_MATCH, "\"x\"")], Part::All),
            (vec![(header::IF_RANGE, "\"ab\""), range.clone()], Part::Of(0..2)),
            (vec![(header::IF_RANGE, "\"x\""), range.clone()], Part::All),
            (vec![(header::IF_RANGE, "W/\"ab\""), range], Part::All),
        ];
        for (headers, expected) in cases {
            let map = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
            assert_eq!(wanted_part(&map, &file(10)), expected, "{headers:?}");
        }
    }

    #[test]
    fn names_cannot_break_out_of_the_header() {
        for (name, expected) in [
            ("", "attachment"),
            ("a-b.jsonl", "attachment; filename*=UTF-8''a-b.jsonl"),
            ("é\"; x=\"/../\r\n", "attachment; filename*=UTF-8''%C3%A9%22%3B%20x%3D%22%2F..%2F%0D%0A"),
        ] {
            assert_eq!(disposition(name), expected);
        }
    }
}
