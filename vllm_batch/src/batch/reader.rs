//! Lines of a file, one at a time, in bounded memory.

use std::io::{self, BufRead, BufReader, Read, Seek};
use std::ops::Range;

use sha2::{Digest, Sha256};

/// The buffer is given back after a line longer than this, so that one long line does not cost memory for ever.
const KEPT_BUFFER_BYTES: usize = 1 << 20;
/// How much of an over-long line is read at a time.
const SKIP_BYTES: u64 = 1 << 16;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads lines of at most `limit` bytes; a longer line is skipped, and only its length and digest are kept.
#[derive(Debug)]
pub(super) struct LineReader<R> {
    source: R,
    limit: usize,
    buffer: Vec<u8>,
    number: u64,
    offset: u64,
}

/// One line of a file.
#[derive(Debug)]
pub(super) struct RawLine<'a> {
    /// Counted from 1.
    pub(super) number: u64,
    /// Where the line lies in the file, its line end included.
    pub(super) span: Range<u64>,
    /// Whether the line has a line end; only a file's last line can lack it.
    pub(super) terminated: bool,
    /// What the line holds.
    pub(super) content: Content<'a>,
}

/// What a line holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// The bytes without the line end and without a byte order mark.
    Bytes(&'a [u8]),
    /// The line is longer than the limit.
    TooLong {
        /// Bytes of the line without its line feed.
        length: u64,
        /// SHA-256 of the line.
        digest: [u8; 32],
    },
}

impl<R: BufRead> LineReader<R> {
    pub(super) fn new(source: R, limit: usize) -> Self {
        Self { source, limit, buffer: Vec::new(), number: 0, offset: 0 }
    }

    /// The next line, or `None` at the end of the file.
    pub(super) fn next_line(&mut self) -> io::Result<Option<RawLine<'_>>> {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER_BYTES);
        let start = self.offset;
        let longest = (self.limit as u64).saturating_add(1);
        self.offset += self.source.by_ref().take(longest).read_until(b'\n', &mut self.buffer)? as u64;
        if self.offset == start {
            return Ok(None);
        }
        self.number += 1;
        let digest = if self.ends_line() || self.buffer.len() <= self.limit { None } else { Some(self.skip_rest()?) };
        let terminated = self.ends_line();
        let content = match digest {
            Some(digest) => Content::TooLong { length: self.offset - start - u64::from(terminated), digest },
            None => Content::Bytes(trim(&self.buffer, self.number == 1)),
        };
        Ok(Some(RawLine { number: self.number, span: start..self.offset, terminated, content }))
    }

    fn ends_line(&self) -> bool {
        self.buffer.last() == Some(&b'\n')
    }

    fn skip_rest(&mut self) -> io::Result<[u8; 32]> {
        let mut digest = Sha256::new_with_prefix(&self.buffer);
        loop {
            self.buffer.clear();
            let read = self.source.by_ref().take(SKIP_BYTES).read_until(b'\n', &mut self.buffer)?;
            self.offset += read as u64;
            digest.update(&self.buffer);
            if read == 0 || self.ends_line() {
                return Ok(digest.finalize().into());
            }
        }
    }
}

impl<R: Read + Seek> LineReader<BufReader<R>> {
    /// Makes the line with this number, which begins at this place of the file, the next one.
    pub(super) fn seek(&mut self, number: u64, offset: u64) -> io::Result<()> {
        self.source.seek_relative(offset.wrapping_sub(self.offset) as i64)?;
        (self.number, self.offset) = (number - 1, offset);
        Ok(())
    }
}

fn trim(line: &[u8], is_first: bool) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if is_first { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of `text` as "number span content", the content in Rust's notation or as a length, `+` for a line end.
    fn lines(text: &[u8], limit: usize) -> Vec<String> {
        let mut reader = LineReader::new(text, limit);
        let mut found = Vec::new();
        while let Some(RawLine { number, span, terminated, content }) = reader.next_line().expect("memory is readable")
        {
            let content = match content {
                Content::Bytes(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
                Content::TooLong { length, .. } => length.to_string(),
            };
            found.push(format!("{number} {span:?} {content}{}", if terminated { "+" } else { "" }));
        }
        found
    }

    #[test]
    fn line_ends_and_marks_are_not_content() {
        assert_eq!(
            lines(b"\xef\xbb\xbfa\r\n\n \xef\xbb\xbf\nlast", 100),
            [r#"1 0..6 "a"+"#, r#"2 6..7 ""+"#, r#"3 7..12 " \u{feff}"+"#, r#"4 12..16 "last""#]
        );
        assert!(lines(b"", 100).is_empty());
    }

    #[test]
    fn a_line_over_the_limit_is_skipped_and_measured() {
        let long = vec![b'x'; 200_000];
        let file = [b"abc\n", long.as_slice(), b"\nabcd\nabc"].concat();
        assert_eq!(
            lines(&file, 3),
            [r#"1 0..4 "abc"+"#, "2 4..200005 200000+", "3 200005..200010 4+", r#"4 200010..200013 "abc""#]
        );
        assert_eq!(lines(b"abcd", 3), ["1 0..4 4"]);
    }

    #[test]
    fn lines_can_be_read_in_any_order() {
        let text: &[u8] = b"\xef\xbb\xbfone\n\ntoo long\nfour";
        for capacity in [1, 4, 100] {
            let mut reader = LineReader::new(BufReader::with_capacity(capacity, io::Cursor::new(text)), 7);
            for (number, offset, content) in
                [(4, 17, Some("four")), (1, 0, Some("one")), (3, 8, None), (3, 8, None), (2, 7, Some(""))]
            {
                reader.seek(number, offset).expect("it is there");
                let line = reader.next_line().expect("memory is readable").expect("there is a line");
                let found = match line.content {
                    Content::Bytes(bytes) => str::from_utf8(bytes).ok(),
                    Content::TooLong { .. } => None,
                };
                assert_eq!((line.number, line.span.start, found), (number, offset, content));
            }
        }
    }

    #[test]
    fn the_digest_of_a_long_line_covers_all_of_it() {
        let digest = |line: &[u8]| match LineReader::new(line, 2).next_line() {
            Ok(Some(RawLine { content: Content::TooLong { digest, .. }, .. })) => digest,
            other => panic!("expected a long line, found {other:?}"),
        };
        let long = vec![b'x'; 100_000];
        let mut other = long.clone();
        other[99_999] = b'y';
        assert_eq!(digest(&long), <[u8; 32]>::from(Sha256::digest(&long)));
        assert_ne!(digest(&long), digest(&other));
    }
}
