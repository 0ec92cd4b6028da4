//! The stream of one request's events.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::channel::mpsc;
use futures::{Stream, StreamExt};

use crate::error::RequestError;
use crate::output::{EmbeddingRequestOutput, OutputEvent, RequestOutput, ScoringRequestOutput};

/// The events of one request, ending with exactly one that says how it ended. Dropping it aborts the request.
#[must_use = "dropping the stream aborts the request"]
pub struct OutputStream {
    events: Pin<Box<dyn Stream<Item = OutputEvent> + Send>>,
    ended: bool,
}

impl OutputStream {
    /// Wraps an engine's own stream. If that ends without a terminal event, because the engine died, this one adds
    /// [`RequestError::EngineFailed`], so that no request is ever lost without a word.
    pub fn new(events: impl Stream<Item = OutputEvent> + Send + 'static) -> Self {
        Self { events: Box::pin(events), ended: false }
    }

    /// A request that failed before it was admitted.
    pub fn failed(error: RequestError) -> Self {
        Self::new(futures::stream::iter([OutputEvent::Failed(error)]))
    }

    /// The sending half of an engine's channel and the stream over its receiving half. The sender
    /// [is closed](mpsc::UnboundedSender::is_closed) once the stream was dropped: the engine should abort then.
    pub fn channel() -> (mpsc::UnboundedSender<OutputEvent>, Self) {
        let (sender, receiver) = mpsc::unbounded();
        (sender, Self::new(receiver))
    }

    /// Skips deltas and waits for the text.
    ///
    /// # Errors
    /// The error of the `Failed` event; [`RequestError::InvalidParam`] for `task` if the request did not ask for text.
    pub async fn output(self) -> Result<RequestOutput, RequestError> {
        match self.last().await {
            OutputEvent::Finished(output) => Ok(output),
            other => Err(not_the(other, "text")),
        }
    }

    /// Waits for the embedding.
    ///
    /// # Errors
    /// The error of the `Failed` event; [`RequestError::InvalidParam`] for `task` if the request did not ask for an
    /// embedding.
    pub async fn embedding(self) -> Result<EmbeddingRequestOutput, RequestError> {
        match self.last().await {
            OutputEvent::Embedded(output) => Ok(output),
            other => Err(not_the(other, "embedding")),
        }
    }

    /// Waits for the scores.
    ///
    /// # Errors
    /// The error of the `Failed` event; [`RequestError::InvalidParam`] for `task` if the request did not ask for scores.
    pub async fn scores(self) -> Result<ScoringRequestOutput, RequestError> {
        match self.last().await {
            OutputEvent::Scored(output) => Ok(output),
            other => Err(not_the(other, "scores")),
        }
    }

    /// How the request ended.
    async fn last(mut self) -> OutputEvent {
        while let Some(event) = self.next().await {
            if !matches!(event, OutputEvent::Delta(_)) {
                return event;
            }
        }
        OutputEvent::Failed(stopped_early())
    }
}

/// The error of a request that ended like this, where another kind of answer was waited for.
fn not_the(event: OutputEvent, answer: &str) -> RequestError {
    match event {
        OutputEvent::Failed(error) => error,
        _ => RequestError::invalid("task", format!("the request does not ask for its {answer}")),
    }
}

fn stopped_early() -> RequestError {
    RequestError::EngineFailed { message: "the engine stopped without finishing the request".to_owned() }
}

impl Stream for OutputStream {
    type Item = OutputEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<OutputEvent>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = match self.events.as_mut().poll_next(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(event)) => event,
            Poll::Ready(None) => OutputEvent::Failed(stopped_early()),
        };
        self.ended = !matches!(event, OutputEvent::Delta(_));
        Poll::Ready(Some(event))
    }
}

impl std::fmt::Debug for OutputStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OutputStream").field("ended", &self.ended).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::TextDelta;
    use futures::executor::block_on;

    #[test]
    fn a_stream_that_ends_early_reports_it() {
        let delta = OutputEvent::Delta(TextDelta::new("a".to_owned(), 1));
        let stream = OutputStream::new(futures::stream::iter([delta.clone()]));
        let events: Vec<_> = block_on(stream.collect());
        assert_eq!(events, [delta, OutputEvent::Failed(stopped_early())]);
    }

    #[test]
    fn nothing_follows_a_terminal_event() {
        let (sender, stream) = OutputStream::channel();
        for _ in 0..2 {
            sender.unbounded_send(OutputEvent::Failed(RequestError::EmptyPrompt)).expect("the stream is alive");
        }
        let events: Vec<_> = block_on(stream.collect());
        assert_eq!(events, [OutputEvent::Failed(RequestError::EmptyPrompt)]);
    }

    #[test]
    fn dropping_the_stream_closes_the_channel() {
        let (sender, stream) = OutputStream::channel();
        assert!(!sender.is_closed());
        drop(stream);
        assert!(sender.is_closed());
    }
}
