//! What did a run come to?

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::files::Files;
use super::progress::{Counts, rate};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunStatus {
    /// Every row of the input has its row in the output or in the error file.
    Completed,
    /// The run was cancelled; what was done is kept, and the rest can be resumed.
    Cancelled,
    /// The deadline came first; what was done is kept, and the rest can be resumed.
    Expired,
}

/// What a run came to.
///
/// It displays as a few lines for people and serializes as one object for programs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BatchReport {
    /// How the run ended.
    pub status: RunStatus,
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
    /// Rows of earlier runs that do not hold any longer and were moved to `stale_path`.
    pub stale: usize,
    /// Prompt tokens of the rows that were answered in this run.
    pub prompt_tokens: usize,
    /// Those of `prompt_tokens` that were not computed again, because the prefix cache held them.
    pub cached_tokens: usize,
    /// Tokens generated for the rows that were answered in this run.
    pub completion_tokens: usize,
    /// Tokens generated in this run, those of rows that failed or were cancelled included.
    pub generated_tokens: usize,
    /// Time from the first row that was handed to the engine to the last row on the disk. Serialized as
    /// `elapsed_seconds`.
    #[serde(rename = "elapsed_seconds", serialize_with = "as_seconds")]
    pub elapsed: Duration,
    /// `generated_tokens` per second of `elapsed`.
    pub tokens_per_second: f64,
    /// The answers.
    pub output_path: PathBuf,
    /// The errors; empty if there is none. The same as `output_path` where errors are among the answers.
    pub errors_path: PathBuf,
    /// Rows that do not hold any longer; the file exists if there ever was one.
    pub stale_path: PathBuf,
}

impl BatchReport {
    pub(super) fn new(status: RunStatus, counts: &Counts, stale: usize, elapsed: Duration, files: Files) -> Self {
        Self {
            status,
            total: counts.total,
            completed: counts.completed,
            failed: counts.failed,
            skipped: counts.skipped,
            skipped_failed: counts.skipped_failed,
            deduplicated: counts.deduplicated,
            stale,
            prompt_tokens: counts.usage.prompt_tokens,
            cached_tokens: counts.usage.cached_tokens,
            completion_tokens: counts.usage.completion_tokens,
            generated_tokens: counts.generated_tokens,
            elapsed,
            tokens_per_second: rate(counts.generated_tokens, elapsed),
            errors_path: files.errors.unwrap_or_else(|| files.output.clone()),
            output_path: files.output,
            stale_path: files.stale,
        }
    }

    /// Rows that still have no row in the output or the error file: 0 unless the run was cancelled or expired.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.total.saturating_sub(self.completed + self.failed + self.skipped)
    }
}

impl fmt::Display for BatchReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            RunStatus::Completed => "completed",
            RunStatus::Cancelled => "cancelled",
            RunStatus::Expired => "expired",
        };
        write!(formatter, "{status}: {} rows, {} answered, {} failed", self.total, self.completed, self.failed)?;
        write!(formatter, ", {} done before, {} left", self.skipped, self.remaining())?;
        if self.deduplicated > 0 {
            write!(formatter, ", {} deduplicated", self.deduplicated)?;
        }
        write!(formatter, "\ntokens: {} prompt ({} cached)", self.prompt_tokens, self.cached_tokens)?;
        write!(formatter, ", {} generated", self.generated_tokens)?;
        let seconds = self.elapsed.as_secs_f64();
        write!(formatter, " in {seconds:.1} s, {:.1} tok/s", self.tokens_per_second)?;
        write!(formatter, "\nanswers: {}", self.output_path.display())?;
        if self.failed + self.skipped_failed > 0 && self.errors_path != self.output_path {
            write!(formatter, "\nerrors: {}", self.errors_path.display())?;
        }
        if self.stale > 0 {
            write!(formatter, "\nmoved aside: {} rows to {}", self.stale, self.stale_path.display())?;
        }
        Ok(())
    }
}

fn as_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Usage;

    #[test]
    fn a_report_is_text_for_people_and_an_object_for_programs() {
        let counts = Counts {
            total: 10,
            completed: 4,
            failed: 1,
            skipped: 3,
            skipped_failed: 1,
            deduplicated: 2,
            running: 0,
            usage: Usage::new(100, 30, 20),
            generated_tokens: 40,
        };
        let path = |name: &str| PathBuf::from(name);
        let files = Files { input: path("i"), output: path("o"), errors: Some(path("e")), stale: path("s") };
        let report = BatchReport::new(RunStatus::Cancelled, &counts, 2, Duration::from_secs(8), files);
        assert_eq!(
            report.to_string(),
            "cancelled: 10 rows, 4 answered, 1 failed, 3 done before, 2 left, 2 deduplicated\n\
             tokens: 100 prompt (20 cached), 40 generated in 8.0 s, 5.0 tok/s\n\
             answers: o\nerrors: e\nmoved aside: 2 rows to s"
        );
        assert_eq!(
            serde_json::to_value(&report).expect("reports can be written"),
            serde_json::json!({
                "status": "cancelled", "total": 10, "completed": 4, "failed": 1, "skipped": 3, "skipped_failed": 1,
                "deduplicated": 2, "stale": 2, "prompt_tokens": 100, "cached_tokens": 20, "completion_tokens": 30,
                "generated_tokens": 40, "elapsed_seconds": 8.0, "tokens_per_second": 5.0, "output_path": "o",
                "errors_path": "e", "stale_path": "s",
            })
        );
    }
}
