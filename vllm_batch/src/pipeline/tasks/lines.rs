//! Lines of a file that comes in parts.

use crate::jobs::{ByteStream, JobError};

/// Its lines that are not blank, one by one, with their numbers.
pub(super) struct Lines {
    lines: crate::jobs::files::Lines,
    /// How many lines there were.
    number: usize,
}

impl Lines {
    pub(super) fn new(parts: ByteStream) -> Self {
        Self { lines: crate::jobs::files::Lines::new(parts), number: 0 }
    }

    /// The next line that is not blank, without its end, and its number from 1.
    pub(super) async fn next(&mut self) -> Result<Option<(usize, Vec<u8>)>, JobError> {
        loop {
            let Some(line) = self.lines.next().await? else { return Ok(None) };
            self.number += 1;
            if !line.trim_ascii().is_empty() {
                return Ok(Some((self.number, line.to_vec())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use futures::executor::block_on;
    use futures::stream;
    use proptest::prelude::*;

    use super::*;

    fn lines(parts: Vec<Vec<u8>>) -> Vec<(usize, Vec<u8>)> {
        let mut lines = Lines::new(stream::iter(parts.into_iter().map(|part| Ok(part.into()))).boxed());
        let mut found = Vec::new();
        while let Some(line) = block_on(lines.next()).unwrap() {
            found.push(line);
        }
        found
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_the_parts(text in "[ab\n ]{0,40}", cuts in prop::collection::vec(0_usize..40, 0..6)) {
            let expected = text.split('\n').enumerate().filter(|(_, line)| !line.trim().is_empty());
            let expected: Vec<_> = expected.map(|(at, line)| (at + 1, line.as_bytes().to_vec())).collect();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let parts = cuts.windows(2).map(|ends| text.as_bytes()[ends[0]..ends[1]].to_vec()).collect();
            prop_assert_eq!(lines(parts), expected);
        }
    }

    #[test]
    fn a_part_that_cannot_be_read_ends_it() {
        let error = JobError::FileTooLarge { limit: 1 };
        let mut lines = Lines::new(stream::iter([Ok(b"a\nb".to_vec().into()), Err(error)]).boxed());
        assert_eq!(block_on(lines.next()).unwrap(), Some((1, b"a".to_vec())));
        assert_eq!(block_on(lines.next()).unwrap_err().code(), "file_too_large");
    }
}
