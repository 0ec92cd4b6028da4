//! The loop: submit until the window is full, take the next event, write what ended.
//!
//! A row may have several parts, each a request of its own to the engine: the window counts those. What came of a row is
//! what comes of all rows that ask for the same; those are read when it has ended.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::select;
use futures::stream::{FuturesUnordered, StreamFuture};
use futures::{FutureExt, StreamExt};

use super::CancellationToken;
use super::contract::{Contract, Shape};
use super::deadline::Deadline;
use super::error::{LineError, LineErrorKind, RunError};
use super::journal::Journal;
use super::key::RowKey;
use super::line::ParsedLine;
use super::open::{OpenRow, Part};
use super::parts::{PartEvent, PartOutput, RowForm, wrong_kind};
use super::progress::{Counts, Reporter};
use super::report::RunStatus;
use super::row::{BatchRequestOutput, Work};
use super::rows::Rows;
use super::shape::{CANCELLED, EXPIRED, url_row};
use crate::engine::BatchEngine;
use crate::error::RequestError;

/// How far a row's own priority goes, up or down.
const MAX_PRIORITY: i32 = 1_000_000;

/// How a run is done.
pub(super) struct Settings<'a> {
    pub(super) engine: &'a dyn BatchEngine,
    /// The most requests in flight, at least 1.
    pub(super) window: usize,
    /// Is added to that of each row.
    pub(super) priority: i32,
    pub(super) cancellation: CancellationToken,
    /// Once it is cancelled, no other row is begun.
    pub(super) drain: CancellationToken,
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
    in_flight: FuturesUnordered<StreamFuture<Part>>,
    /// Rows that the engine has, wholly or in part, by the number of their lines.
    open: BTreeMap<u64, OpenRow>,
    /// The row that may have parts which wait for a place in the window.
    filling: Option<u64>,
    counts: Counts,
    engine_failures: EngineFailures,
}

/// One event of one part, and the rest of its stream.
type Step = (Option<PartEvent>, Part);

/// What came of a row: the outputs of its parts, or the failure of one of them and the parameter at fault.
type RowResult = Result<Vec<PartOutput>, (RequestError, Option<String>)>;

impl<'a> Run<'a> {
    pub(super) fn new(settings: Settings<'a>, rows: Rows<'a>, journal: Journal, counts: Counts) -> Self {
        let engine_failures = EngineFailures::default();
        let (in_flight, open) = (FuturesUnordered::new(), BTreeMap::new());
        Self { settings, rows, journal, in_flight, open, filling: None, counts, engine_failures }
    }

    /// Runs the rows. Whatever happens, what was written is synced and nothing is left in the engine.
    pub(super) async fn drive(&mut self) -> Result<RunStatus, RunError> {
        self.settings.reporter.report(&self.counts);
        let result = self.run_rows().await;
        self.in_flight.clear();
        self.open.clear();
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
        loop {
            while self.in_flight.len() < self.settings.window && self.stop().is_none() && self.admit()? {}
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
        self.rows.check_unchanged()?;
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
        self.in_flight.clear();
        for row in std::mem::take(&mut self.open).into_values() {
            self.write_failure(&BatchRequestOutput::closed(row.key, Some(row.custom_id), reason))?;
        }
        while let Some((_, ParsedLine { key, custom_id, .. })) = self.rows.next_left()? {
            self.write_failure(&BatchRequestOutput::closed(key, custom_id, reason))?;
        }
        Ok(status)
    }

    /// Submits the next part of a row, or writes why a row cannot be. False if there is none left, or none may be begun.
    fn admit(&mut self) -> Result<bool, RunError> {
        if self.submit_part() {
            return Ok(true);
        }
        if self.settings.drain.is_cancelled() {
            return Ok(false);
        }
        let Some((number, ParsedLine { key, custom_id, result, .. })) = self.rows.next_row()? else {
            return Ok(false);
        };
        match result {
            Ok(mut line) => {
                for request in &mut line.requests {
                    let own = request.priority.clamp(-MAX_PRIORITY, MAX_PRIORITY);
                    request.priority = self.settings.priority.saturating_add(own);
                }
                self.open.insert(number, OpenRow::new(key, line));
                self.filling = Some(number);
                self.counts.running += 1;
                self.submit_part();
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

    /// Submits the next part of the row that has some left. False if there is none.
    fn submit_part(&mut self) -> bool {
        let Some(number) = self.filling else { return false };
        let part = self.open.get_mut(&number).and_then(|row| row.submit_next(number, self.settings.engine));
        let has_part = part.is_some();
        match part {
            Some(part) => self.in_flight.push(part.into_future()),
            None => self.filling = None,
        }
        has_part
    }

    fn take(&mut self, (event, mut part): Step) -> Result<(), RunError> {
        let result = match event {
            Some(PartEvent::Delta(delta)) => {
                part.generated += delta.num_tokens;
                self.counts.generated_tokens += delta.num_tokens;
                self.in_flight.push(part.into_future());
                return Ok(());
            }
            Some(PartEvent::Ended(result)) => result,
            // An earlier part of the row failed.
            None => return Ok(()),
        };
        if let Ok(output) = &result {
            let generated = output.usage().completion_tokens;
            self.counts.generated_tokens += generated.saturating_sub(part.generated);
        }
        let Some(row) = self.open.get_mut(&part.row) else { return Ok(()) };
        row.end_part(part.index, result);
        if !row.has_ended() {
            return Ok(());
        }
        self.open.remove(&part.row).map_or(Ok(()), |row| self.end(part.row, row))
    }

    /// Writes what came of a row, and of those that ask for the same.
    fn end(&mut self, number: u64, row: OpenRow) -> Result<(), RunError> {
        let OpenRow { key, custom_id, form, outcome, .. } = row;
        let result = outcome.map(|outputs| outputs.into_values().collect::<Vec<_>>());
        let result = result.map_err(|(index, error)| form.in_body(error, index));
        let again = self.rows.has_same(number).then(|| repeated(&result));
        self.counts.running -= 1;
        let is_final = self.write_result((key, custom_id), &form, result)?;
        match again {
            Some(result) if is_final => self.repeat(number, &form, &result),
            Some(_) => {
                self.rows.promote_same(number);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Gives the rows that ask for the same as this one what came of it, as long as the run goes on.
    fn repeat(&mut self, number: u64, form: &RowForm, result: &RowResult) -> Result<(), RunError> {
        let mut last = number;
        while self.stop().is_none() {
            let Some((number, ParsedLine { key, custom_id, .. })) = self.rows.next_same(last)? else { break };
            self.counts.deduplicated += 1;
            self.write_result((key, custom_id.unwrap_or_default()), form, result.clone())?;
            self.settings.reporter.report_if_due(&self.counts);
            last = number;
        }
        Ok(())
    }

    /// Writes a row. False if another try may end differently.
    fn write_result(
        &mut self,
        (key, custom_id): (RowKey, String),
        form: &RowForm,
        result: RowResult,
    ) -> Result<bool, RunError> {
        let outputs = match result {
            Ok(outputs) => outputs,
            Err((error, param)) => return self.fail((key, custom_id), &error, param),
        };
        let created = (self.settings.clock)().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let shape = self.settings.contract.shape();
        let model = form.model(self.settings.engine.spec());
        let work = Work { key, custom_id: &custom_id, form, shape, model, created };
        let usage = outputs.iter().map(PartOutput::usage).sum();
        let Some(answer) = BatchRequestOutput::answered(&work, outputs) else {
            return self.fail((key, custom_id), &wrong_kind(), None);
        };
        self.journal.write(&answer)?;
        self.counts.completed += 1;
        self.counts.usage += usage;
        self.engine_failures.note_other();
        Ok(true)
    }

    fn fail(
        &mut self,
        (key, custom_id): (RowKey, String),
        error: &RequestError,
        param: Option<String>,
    ) -> Result<bool, RunError> {
        self.write_failure(&BatchRequestOutput::refused_for(key, Some(custom_id), error, param))?;
        match error {
            RequestError::EngineFailed { message } => self.engine_failures.note(message, self.settings.window)?,
            RequestError::Remote { .. } if error.is_retryable() => {
                self.engine_failures.note(&error.to_string(), self.settings.window)?;
            }
            _ => self.engine_failures.note_other(),
        }
        Ok(!error.is_retryable())
    }

    fn write_failure(&mut self, row: &BatchRequestOutput) -> Result<(), RunError> {
        self.journal.write(row)?;
        self.counts.failed += 1;
        Ok(())
    }
}

/// The same for a row of which nothing was computed.
fn repeated(result: &RowResult) -> RowResult {
    result.as_ref().map(|outputs| outputs.iter().map(PartOutput::repeated).collect()).map_err(Clone::clone)
}

fn unusable_row(key: RowKey, custom_id: Option<String>, error: &LineError) -> BatchRequestOutput {
    match &error.kind {
        LineErrorKind::Request(error) => BatchRequestOutput::refused(key, custom_id, error),
        _ => BatchRequestOutput::unreadable(key, custom_id, error),
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
