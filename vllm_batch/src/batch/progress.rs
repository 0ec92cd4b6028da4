//! How far is a run?

use std::fmt;
use std::time::{Duration, Instant};

use crate::output::Usage;

/// A run at one moment.
///
/// It displays as one line: `3/10 rows, 1 failed, 2 running, 57 tokens, 19.0 tok/s, 0:02 left`.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Rows in the input.
    pub total: usize,
    /// Rows answered in this run.
    pub completed: usize,
    /// Rows of this run that ended with an error.
    pub failed: usize,
    /// Rows that an earlier run had done.
    pub skipped: usize,
    /// Those of `skipped` that ended with an error.
    pub skipped_failed: usize,
    /// Those of `completed` and `failed` that have the answer or the error of another row, which asks for the same.
    pub deduplicated: usize,
    /// Rows that the engine has now.
    pub running: usize,
    /// Prompt tokens of the completed rows.
    pub prompt_tokens: usize,
    /// Those of `prompt_tokens` that were not computed again, because the prefix cache held them.
    pub cached_tokens: usize,
    /// Tokens generated in this run, those of rows that are not finished included.
    pub generated_tokens: usize,
    /// Time since the first row was handed to the engine.
    pub elapsed: Duration,
    /// `generated_tokens` per second of `elapsed`.
    pub tokens_per_second: f64,
    /// Time left if rows go on ending at the average rate of this run; absent before the first has ended.
    pub eta: Option<Duration>,
}

impl Progress {
    /// Rows that are done: completed, failed or skipped.
    #[must_use]
    pub fn done(&self) -> usize {
        self.completed + self.failed + self.skipped
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{} rows", self.done(), self.total)?;
        for (count, what) in [(self.skipped, "done before"), (self.failed, "failed"), (self.running, "running")] {
            if count > 0 {
                write!(formatter, ", {count} {what}")?;
            }
        }
        write!(formatter, ", {} tokens, {:.1} tok/s", self.generated_tokens, self.tokens_per_second)?;
        match self.eta {
            Some(eta) => write!(formatter, ", {} left", Clock(eta)),
            None => Ok(()),
        }
    }
}

/// A duration as `1:02:03` or `2:03`.
struct Clock(Duration);

impl fmt::Display for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            write!(formatter, "{hours}:{minutes:02}:{seconds:02}")
        } else {
            write!(formatter, "{minutes}:{seconds:02}")
        }
    }
}

/// What a run counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) total: usize,
    pub(super) completed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
    pub(super) skipped_failed: usize,
    pub(super) deduplicated: usize,
    pub(super) running: usize,
    /// Of completed rows.
    pub(super) usage: Usage,
    /// Of all rows.
    pub(super) generated_tokens: usize,
}

impl Counts {
    pub(super) fn progress(&self, elapsed: Duration) -> Progress {
        Progress {
            total: self.total,
            completed: self.completed,
            failed: self.failed,
            skipped: self.skipped,
            skipped_failed: self.skipped_failed,
            deduplicated: self.deduplicated,
            running: self.running,
            prompt_tokens: self.usage.prompt_tokens,
            cached_tokens: self.usage.cached_tokens,
            generated_tokens: self.generated_tokens,
            elapsed,
            tokens_per_second: rate(self.generated_tokens, elapsed),
            eta: self.eta(elapsed),
        }
    }

    /// Rows that have no row in the output or the error file yet.
    pub(super) fn left(&self) -> usize {
        self.total.saturating_sub(self.completed + self.failed + self.skipped)
    }

    fn eta(&self, elapsed: Duration) -> Option<Duration> {
        let ended = self.completed + self.failed;
        match (ended, self.left()) {
            (_, 0) => Some(Duration::ZERO),
            (0, _) => None,
            (_, left) => Duration::try_from_secs_f64(elapsed.as_secs_f64() * left as f64 / ended as f64).ok(),
        }
    }
}

/// Per second; 0 before any time has passed.
pub(super) fn rate(count: usize, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

/// Calls back now and then.
pub(super) struct Reporter<'a> {
    callback: Box<dyn FnMut(&Progress) + 'a>,
    interval: Duration,
    started: Instant,
    last: Instant,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(callback: Box<dyn FnMut(&Progress) + 'a>, interval: Duration) -> Self {
        let now = Instant::now();
        Self { callback, interval, started: now, last: now }
    }

    pub(super) fn report_if_due(&mut self, counts: &Counts) {
        if self.last.elapsed() >= self.interval {
            self.report(counts);
        }
    }

    pub(super) fn report(&mut self, counts: &Counts) {
        self.last = Instant::now();
        let progress = counts.progress(self.elapsed());
        (self.callback)(&progress);
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl fmt::Debug for Reporter<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reporter").field("interval", &self.interval).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_follows_from_counts_and_time() {
        let counts = Counts {
            total: 20,
            completed: 3,
            failed: 2,
            skipped: 5,
            deduplicated: 1,
            running: 4,
            usage: Usage::new(30, 40, 10),
            generated_tokens: 50,
            ..Counts::default()
        };
        let expected = Progress {
            total: 20,
            completed: 3,
            failed: 2,
            skipped: 5,
            skipped_failed: 0,
            deduplicated: 1,
            running: 4,
            prompt_tokens: 30,
            cached_tokens: 10,
            generated_tokens: 50,
            elapsed: Duration::from_secs(1000),
            tokens_per_second: 0.05,
            eta: Some(Duration::from_secs(2000)),
        };
        assert_eq!(counts.progress(Duration::from_secs(1000)), expected);
        assert_eq!(
            expected.to_string(),
            "10/20 rows, 5 done before, 2 failed, 4 running, 50 tokens, 0.1 tok/s, 33:20 left"
        );
    }

    #[test]
    fn the_time_left_is_unknown_at_first_and_nothing_at_the_end() {
        let cases = [((10, 0, 0), None), ((10, 0, 10), Some(0)), ((10, 10, 0), Some(0)), ((10, 5, 4), Some(20))];
        for ((total, completed, skipped), expected) in cases {
            let counts = Counts { total, completed, skipped, ..Counts::default() };
            let found = counts.progress(Duration::from_secs(100)).eta;
            assert_eq!(found.map(|eta| eta.as_secs()), expected, "{counts:?}");
        }
        assert_eq!(Clock(Duration::from_secs(3723)).to_string(), "1:02:03");
    }
}
