//! The loop: submit until the window is full, take the next event, write what ended.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::select;
use futures::stream::{FuturesUnordered, StreamFuture};
use futures::{FutureExt, Stream, StreamExt};

use super::CancellationToken;
use super::Endpoint;
use super::contract::{Contract, Shape};
use super::deadline::Deadline;
use super::error::{LineError, LineErrorKind, RunError};
use super::format::as_written;
use super::input::Rows;
use super::journal::Journal;
use super::key::RowKey;
use super::line::{BatchLine, ParsedLine};
use super::progress::{Counts, Reporter};
use super::report::RunStatus;
use super::row::{BatchRequestOutput, Work};
use super::shape::{CANCELLED, EXPIRED, url_row};
use crate::engine::{BatchEngine, OutputStream};
use crate::error::RequestError;
use crate::output::{OutputEvent, RequestOutput};

/// How a run is done.
pub(super) struct Settings<'a> {
    pub(super) engine: &'a dyn BatchEngine,
    /// The most requests in flight, at least 1.
    pub(super) window: usize,
    pub(super) cancellation: CancellationToken,
    pub(super) deadline: Deadline,
    pub(super) contract: Contract,
    pub(super) clock: Box<dyn Fn() -> SystemTime + 'a>,
    pub(super) reporter: Reporter<'a>,
}

/// A run on its way.
pub(super) struct Run<'a> {
    settings: Settings<'a>,
    rows: Rows<'a>,
    journal: Journal,
    in_flight: FuturesUnordered<StreamFuture<InFlight>>,
    counts: Counts,
    engine_failures: EngineFailures,
}

/// One event of one row, and the rest of its stream.
type Step = (Option<OutputEvent>, InFlight);

impl<'a> Run<'a> {
    pub(super) fn new(settings: Settings<'a>, rows: Rows<'a>, journal: Journal, counts: Counts) -> Self {
        let engine_failures = EngineFailures::default();
        Self { settings, rows, journal, in_flight: FuturesUnordered::new(), counts, engine_failures }
    }

    /// Runs the rows. Whatever happens, what was written is synced and nothing is left in the engine.
    pub(super) async fn drive(&mut self) -> Result<RunStatus, RunError> {
        self.settings.reporter.report(&self.counts);
        let result = self.run_rows().await;
        self.in_flight.clear();
        self.counts.running = 0;
        let synced = self.journal.sync();
        self.settings.reporter.report(&self.counts);
        let status = result?;
        synced.map(|()| status)
    }

    pub(super) fn totals(&self) -> (Counts, Duration) {
        (self.counts, self.settings.reporter.elapsed())
    }

    async fn run_rows(&mut self) -> Result<RunStatus, RunError> {
        let (cancelled, over) = (self.settings.cancellation.cancelled(), self.settings.deadline.token().cancelled());
        let mut stopped = select(cancelled, over);
        let mut has_more = true;
        loop {
            while has_more && self.in_flight.len() < self.settings.window && self.stop().is_none() {
                has_more = self.admit()?;
            }
            let step = poll_fn(|context| match stopped.poll_unpin(context) {
                Poll::Pending if !self.settings.deadline.is_over() => self.in_flight.poll_next_unpin(context),
                _ => Poll::Ready(None),
            });
            let Some(step) = step.await else { break };
            self.take(step)?;
            self.journal.sync_if_due()?;
            self.settings.reporter.report_if_due(&self.counts);
        }
        if self.counts.left() > 0 {
            return self.close(self.stop().unwrap_or(RunStatus::Cancelled));
        }
        self.engine_failures.check_all_failed()?;
        Ok(RunStatus::Completed)
    }

    /// What the run ends with if it has to stop now.
    fn stop(&self) -> Option<RunStatus> {
        if self.settings.cancellation.is_cancelled() {
            Some(RunStatus::Cancelled)
        } else if self.settings.deadline.is_over() {
            Some(RunStatus::Expired)
        } else {
            None
        }
    }

    /// Ends a run that was stopped. Where the contract wants it, each row that is not done is told why.
    fn close(&mut self, status: RunStatus) -> Result<RunStatus, RunError> {
        if !self.settings.contract.closes_rows() {
            return Ok(status);
        }
        let reason = if status == RunStatus::Expired { EXPIRED } else { CANCELLED };
        let in_flight = std::mem::take(&mut self.in_flight);
        for row in in_flight.into_iter().filter_map(StreamFuture::into_inner) {
            self.write_failure(&BatchRequestOutput::closed(row.key, Some(row.custom_id), reason))?;
        }
        while let Some((_, ParsedLine { key, custom_id, .. })) = self.rows.next_row()? {
            self.write_failure(&BatchRequestOutput::closed(key, custom_id, reason))?;
        }
        Ok(status)
    }

    /// Submits the next row, or writes why it cannot be. False at the end of the input.
    fn admit(&mut self) -> Result<bool, RunError> {
        let Some((number, ParsedLine { key, custom_id, result, .. })) = self.rows.next_row()? else {
            return Ok(false);
        };
        match result {
            Ok(BatchLine { custom_id, endpoint, request, format_param }) => {
                let events = self.settings.engine.submit(request);
                let row = InFlight { key, custom_id, endpoint, format_param, generated: 0, events };
                self.in_flight.push(row.into_future());
                self.counts.running += 1;
            }
            Err(error) => {
                let error = error.at(number);
                let row = match (self.settings.contract.shape(), &error.kind) {
                    (Shape::Vllm, LineErrorKind::UrlMismatch { url }) => url_row(key, custom_id, url),
                    _ => unusable_row(key, custom_id, &error),
                };
                self.write_failure(&row)?;
                self.settings.reporter.report_if_due(&self.counts);
            }
        }
        Ok(true)
    }

    fn take(&mut self, (event, mut row): Step) -> Result<(), RunError> {
        match event {
            Some(OutputEvent::Delta(delta)) => {
                row.generated += delta.num_tokens;
                self.counts.generated_tokens += delta.num_tokens;
                self.in_flight.push(row.into_future());
                Ok(())
            }
            Some(OutputEvent::Finished(output)) => self.finish(&row, output),
            Some(OutputEvent::Failed(error)) => {
                let error = as_written(error, row.format_param);
                self.fail(row, &error)
            }
            // A stream ends after one of the two.
            None => Ok(()),
        }
    }

    fn finish(&mut self, row: &InFlight, output: RequestOutput) -> Result<(), RunError> {
        let usage = output.usage;
        let created = (self.settings.clock)().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let model = self.settings.engine.spec().model();
        let work = Work { key: row.key, custom_id: &row.custom_id, endpoint: row.endpoint, model, created };
        self.journal.write(&BatchRequestOutput::answered(&work, output))?;
        self.counts.running -= 1;
        self.counts.completed += 1;
        self.counts.usage += usage;
        self.counts.generated_tokens += usage.completion_tokens.saturating_sub(row.generated);
        self.engine_failures.note_other();
        Ok(())
    }

    fn fail(&mut self, row: InFlight, error: &RequestError) -> Result<(), RunError> {
        self.write_failure(&BatchRequestOutput::refused(row.key, Some(row.custom_id), error))?;
        self.counts.running -= 1;
        match error {
            RequestError::EngineFailed { message } => self.engine_failures.note(message, self.settings.window),
            RequestError::Remote { .. } if error.is_retryable() => {
                self.engine_failures.note(&error.to_string(), self.settings.window)
            }
            _ => {
                self.engine_failures.note_other();
                Ok(())
            }
        }
    }

    fn write_failure(&mut self, row: &BatchRequestOutput) -> Result<(), RunError> {
        self.journal.write(row)?;
        self.counts.failed += 1;
        Ok(())
    }
}

fn unusable_row(key: RowKey, custom_id: Option<String>, error: &LineError) -> BatchRequestOutput {
    match &error.kind {
        LineErrorKind::Request(error) => BatchRequestOutput::refused(key, custom_id, error),
        _ => BatchRequestOutput::unreadable(key, custom_id, error),
    }
}

/// A row that the engine has.
struct InFlight {
    key: RowKey,
    custom_id: String,
    endpoint: Endpoint,
    /// What errors call the format, if not `structured_outputs`.
    format_param: Option<&'static str>,
    /// Tokens so far.
    generated: usize,
    events: OutputStream,
}

impl Stream for InFlight {
    type Item = OutputEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<OutputEvent>> {
        self.events.poll_next_unpin(context)
    }
}

/// Tells an engine that had a bad moment from one that is dead.
#[derive(Debug, Default)]
struct EngineFailures {
    /// Failures since the last row that came to anything else.
    streak: usize,
    message: String,
    has_others: bool,
}

impl EngineFailures {
    /// One broken step takes all rows in flight with it; the second time in a row the engine is taken for dead.
    fn note(&mut self, message: &str, window: usize) -> Result<(), RunError> {
        self.streak += 1;
        message.clone_into(&mut self.message);
        if self.streak >= window.saturating_mul(2) { Err(self.error()) } else { Ok(()) }
    }

    fn note_other(&mut self) {
        self.streak = 0;
        self.has_others = true;
    }

    fn check_all_failed(&self) -> Result<(), RunError> {
        if self.streak > 0 && !self.has_others { Err(self.error()) } else { Ok(()) }
    }

    fn error(&self) -> RunError {
        RunError::EngineFailed { failures: self.streak, message: self.message.clone() }
    }
}
