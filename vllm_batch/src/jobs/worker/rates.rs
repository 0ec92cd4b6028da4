//! How fast is a worker?

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Seconds after which an older measurement counts for about a third.
const MEMORY_SECONDS: f64 = 60.0;
/// Shorter times tell nothing.
const LEAST_SECONDS: f64 = 0.01;

/// What a worker's chunks do together.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<State>);

/// A measurement.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rate {
    /// Those of now, or of the last time that a chunk ran.
    pub(super) rows_per_second: Option<f64>,
    /// 0 while no chunk runs.
    pub(super) tokens_per_second: f64,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// When it was measured last, while chunks run, and what was done since then.
    since: Option<Instant>,
    rows: u64,
    tokens: u64,
    rate: Rate,
}

impl Rates {
    /// A chunk begins to run.
    pub(super) fn begin(&self, now: Instant) {
        let mut state = self.lock();
        state.running += 1;
        state.since.get_or_insert(now);
    }

    /// Some rows and tokens are done.
    pub(super) fn add(&self, rows: u64, tokens: u64) {
        let mut state = self.lock();
        state.rows += rows;
        state.tokens += tokens;
    }

    /// A chunk does not run any more.
    pub(super) fn end(&self, now: Instant) {
        let mut state = self.lock();
        state.measure(now);
        state.running = state.running.saturating_sub(1);
        if state.running == 0 {
            state.since = None;
            state.rate.tokens_per_second = 0.0;
        }
    }

    /// Measures what was done since the last time.
    pub(super) fn measure(&self, now: Instant) {
        self.lock().measure(now);
    }

    /// The last measurement.
    pub(super) fn now(&self) -> Rate {
        self.lock().rate
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn measure(&mut self, now: Instant) {
        let Some(since) = self.since else { return };
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        if seconds < LEAST_SECONDS {
            return;
        }
        let (rows, tokens) = (std::mem::take(&mut self.rows) as f64, std::mem::take(&mut self.tokens) as f64);
        let weight = 1.0 - (-seconds / MEMORY_SECONDS).exp();
        let mix = |old: f64, new: f64| old + weight * (new - old);
        self.rate.rows_per_second = match self.rate.rows_per_second {
            Some(old) => Some(mix(old, rows / seconds)),
            None => (rows > 0.0).then_some(rows / seconds),
        };
        let old = self.rate.tokens_per_second;
        self.rate.tokens_per_second = if old == 0.0 { tokens / seconds } else { mix(old, tokens / seconds) };
        self.since = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_is_of_the_time_in_which_chunks_run() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let rates = Rates::default();
        assert_eq!(rates.now(), Rate::default());
        rates.begin(at(100));
        rates.measure(at(101));
        assert_eq!(rates.now(), Rate::default(), "no row is done yet");
        rates.add(20, 300);
        rates.end(at(111));
        assert_eq!(rates.now(), Rate { rows_per_second: Some(2.0), tokens_per_second: 0.0 });
        rates.begin(at(500));
        rates.begin(at(501));
        rates.add(40, 600);
        rates.measure(at(520));
        assert_eq!(rates.now(), Rate { rows_per_second: Some(2.0), tokens_per_second: 30.0 });
        rates.measure(at(580));
        let Rate { rows_per_second: Some(rows), tokens_per_second: tokens } = rates.now() else {
            panic!("it was measured")
        };
        let left = (-1.0_f64).exp();
        assert!((rows - 2.0 * left).abs() < 1e-9 && (tokens - 30.0 * left).abs() < 1e-9, "{rows} {tokens}");
        rates.end(at(580));
        assert!(rates.now().tokens_per_second > 0.0);
        rates.end(at(581));
        assert_eq!(rates.now().tokens_per_second, 0.0);
    }
}
