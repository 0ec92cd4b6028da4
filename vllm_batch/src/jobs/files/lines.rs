//! How is a content read line by line?

use futures::StreamExt as _;
use futures::stream::Fuse;

use super::ByteStream;
use crate::jobs::JobError;

/// The lines of a content. It holds one of them, and a piece of the content.
pub(crate) struct Lines {
    content: Fuse<ByteStream>,
    buffer: Vec<u8>,
    /// What of the buffer was given out.
    start: usize,
    /// What of the buffer has no line end, from `start` on.
    searched: usize,
}

impl Lines {
    pub(crate) fn new(content: ByteStream) -> Self {
        Self { content: content.fuse(), buffer: Vec::new(), start: 0, searched: 0 }
    }

    /// The next line without its line end; `None` at the end of the content.
    ///
    /// # Errors
    /// [`JobError::Files`].
    pub(crate) async fn next(&mut self) -> Result<Option<&[u8]>, JobError> {
        loop {
            if let Some(length) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.start..self.searched + length;
                self.start = line.end + 1;
                self.searched = self.start;
                return Ok(Some(&self.buffer[line]));
            }
            self.buffer.drain(..self.start);
            (self.start, self.searched) = (0, self.buffer.len());
            match self.content.next().await.transpose()? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None if self.buffer.is_empty() => return Ok(None),
                None => {
                    self.start = self.buffer.len();
                    self.searched = self.start;
                    return Ok(Some(&self.buffer));
                }
            }
        }
    }
}
