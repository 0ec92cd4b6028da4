//! A row that the engine has, wholly or in part.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use futures::stream::{AbortHandle, Abortable, abortable};

use super::key::RowKey;
use super::line::BatchLine;
use super::parts::{PartEvent, PartOutput, RowForm};
use crate::engine::{BatchEngine, OutputStream};
use crate::error::RequestError;
use crate::request::Request;

/// A row until all its parts have ended.
pub(super) struct OpenRow {
    pub(super) key: RowKey,
    pub(super) custom_id: String,
    pub(super) form: RowForm,
    /// What came of the parts so far: answers by place, or the first failure by place.
    pub(super) outcome: Result<BTreeMap<usize, PartOutput>, (usize, RequestError)>,
    /// Parts that are not submitted yet.
    waiting: std::vec::IntoIter<Request>,
    num_submitted: usize,
    running: BTreeMap<usize, AbortHandle>,
}

impl OpenRow {
    /// A row no part of which is submitted.
    pub(super) fn new(key: RowKey, line: BatchLine) -> Self {
        Self {
            key,
            custom_id: line.custom_id,
            form: line.form,
            outcome: Ok(BTreeMap::new()),
            waiting: line.requests.into_iter(),
            num_submitted: 0,
            running: BTreeMap::new(),
        }
    }

    /// Submits the next part of the row with this number; `None` if there is none left.
    pub(super) fn submit_next(&mut self, number: u64, engine: &dyn BatchEngine) -> Option<Part> {
        let (events, handle) = abortable(engine.submit(self.waiting.next()?));
        let index = self.num_submitted;
        self.num_submitted += 1;
        self.running.insert(index, handle);
        Some(Part { row: number, index, generated: 0, events })
    }

    /// Takes what came of a part. With the first failure, by place, the parts after it are let go; those before it go on,
    /// so that the same part is always the one that is told.
    pub(super) fn end_part(&mut self, index: usize, result: Result<PartOutput, RequestError>) {
        self.running.remove(&index);
        match (&mut self.outcome, result) {
            (Ok(outputs), Ok(output)) => drop(outputs.insert(index, output)),
            (Err(_), Ok(_)) => {}
            (Err((first, _)), Err(_)) if *first < index => {}
            (_, Err(error)) => {
                self.outcome = Err((index, error));
                self.waiting = Vec::new().into_iter();
                self.running.split_off(&index).into_values().for_each(|handle| handle.abort());
            }
        }
    }

    /// Whether nothing more is to come.
    pub(super) fn has_ended(&self) -> bool {
        self.running.is_empty() && self.waiting.len() == 0
    }
}

/// A part of a row that the engine has.
pub(super) struct Part {
    /// The number of its row.
    pub(super) row: u64,
    /// Its place in the row.
    pub(super) index: usize,
    /// Tokens so far.
    pub(super) generated: usize,
    events: Abortable<OutputStream>,
}

impl Stream for Part {
    type Item = PartEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<PartEvent>> {
        Pin::new(&mut self.events).poll_next(context).map(|event| event.map(PartEvent::from))
    }
}
