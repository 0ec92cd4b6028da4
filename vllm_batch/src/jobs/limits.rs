//! What may a new batch or file ask for?

use std::collections::BTreeMap;

use super::{Batch, FilePurpose, JobError, OutputExpiry, WebhookConfig};
use crate::batch::Endpoint;

/// The most pairs of metadata, and the most characters of a key and of a value: `OpenAI`'s limits.
const METADATA: [usize; 3] = [16, 64, 512];
/// Seconds after which a file may be deleted: `OpenAI`'s limits, one hour and 30 days.
const EXPIRES_AFTER: [u64; 2] = [3600, 30 * 86_400];
/// Seconds that a completion window may have: the same.
const WINDOW: [i64; 2] = [3600, 30 * 86_400];
/// The least and the greatest priority.
const PRIORITY: [i32; 2] = [-100, 100];
/// The most characters of a file's name.
const FILENAME: usize = 255;

/// A file to be uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// What it is called; nothing else is made of its name.
    pub filename: String,
    /// What it is for. Only inputs of batches can be uploaded.
    pub purpose: FilePurpose,
    /// The key that it is uploaded with; empty without keys.
    pub owner: String,
    /// After how many seconds it is to be deleted, from 3,600 to 2,592,000, if ever.
    pub expires_after: Option<u64>,
}

impl NewFile {
    /// The input of a batch, without a name or an owner.
    pub fn for_batch() -> Self {
        Self { filename: String::new(), purpose: FilePurpose::Batch, owner: String::new(), expires_after: None }
    }

    /// # Errors
    /// [`JobError::InvalidParameter`] for the first parameter that is wrong.
    pub(super) fn check(&self) -> Result<(), JobError> {
        if self.purpose != FilePurpose::Batch {
            return Err(invalid("purpose", "it must be `batch`: files of other purposes are not uploaded".to_owned()));
        }
        if self.filename.chars().count() > FILENAME || self.filename.chars().any(char::is_control) {
            let message = format!("it must have {FILENAME} characters at most, and no control characters");
            return Err(invalid("filename", message));
        }
        self.expires_after.map_or(Ok(()), |seconds| within("expires_after.seconds", seconds, EXPIRES_AFTER))
    }
}

/// A batch to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBatch {
    /// The file of its requests.
    pub input_file_id: String,
    /// The url that all of them have, such as `/v1/chat/completions`.
    pub endpoint: String,
    /// How long it may take: `24h`, or another number of hours or days from `1h` to `30d`.
    pub completion_window: String,
    /// Up to 16 pairs of the caller's own: keys of 64, values of 512 characters.
    pub metadata: BTreeMap<String, String>,
    /// From −100 to 100; larger runs first.
    pub priority: i32,
    /// When its result files are to be deleted, from 3,600 to 2,592,000 seconds after they were written.
    pub output_expires_after: Option<OutputExpiry>,
    /// Who is told how it goes.
    pub webhook: Option<WebhookConfig>,
    /// The key that it is created with; empty without keys.
    pub owner: String,
}

impl NewBatch {
    /// A batch that may take 24 hours, without anything else.
    pub fn new(input_file_id: impl Into<String>, endpoint: impl Into<String>) -> Self {
        Self {
            input_file_id: input_file_id.into(),
            endpoint: endpoint.into(),
            completion_window: "24h".to_owned(),
            metadata: BTreeMap::new(),
            priority: 0,
            output_expires_after: None,
            webhook: None,
            owner: String::new(),
        }
    }

    /// The batch of this id that it becomes.
    ///
    /// # Errors
    /// [`JobError::InvalidParameter`] for the first parameter that is wrong.
    pub(super) fn into_batch(self, id: String, now: i64) -> Result<Batch, JobError> {
        let endpoint = Endpoint::from_url(&self.endpoint).ok_or_else(|| {
            let known = Endpoint::ALL.map(Endpoint::url).join(", ");
            invalid("endpoint", format!("`{}` is not one of {known}", self.endpoint))
        })?;
        let window = parse_window(&self.completion_window)?;
        check_metadata(&self.metadata)?;
        within("priority", self.priority, PRIORITY)?;
        if let Some(expiry) = self.output_expires_after {
            within("output_expires_after.seconds", expiry.seconds, EXPIRES_AFTER)?;
        }
        let mut batch = Batch::new(id, endpoint.url(), self.input_file_id, now);
        batch.completion_window = self.completion_window;
        batch.expires_at = now.saturating_add(window);
        batch.metadata = self.metadata;
        batch.priority = self.priority;
        batch.output_expires_after = self.output_expires_after;
        batch.webhook = self.webhook;
        batch.owner = self.owner;
        Ok(batch)
    }
}

fn parse_window(text: &str) -> Result<i64, JobError> {
    let seconds = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let unit = match unit {
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
        number.parse::<i64>().ok().filter(|_| is_number)?.checked_mul(unit)
    };
    let seconds = seconds().filter(|seconds| (WINDOW[0]..=WINDOW[1]).contains(seconds));
    seconds.ok_or_else(|| {
        let message = format!("`{text}` is not `24h`, nor another number of hours or days from 1h to 30d");
        invalid("completion_window", message)
    })
}

fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), JobError> {
    let [max_pairs, max_key, max_value] = METADATA;
    let is_long = |(key, value): (&String, &String)| key.chars().count() > max_key || value.chars().count() > max_value;
    // PostgreSQL knows no such character.
    if metadata.iter().any(|(key, value)| key.contains('\0') || value.contains('\0')) {
        return Err(invalid("metadata", "it must not have the character U+0000".to_owned()));
    }
    if metadata.len() <= max_pairs && !metadata.iter().any(is_long) {
        return Ok(());
    }
    let message =
        format!("it must have {max_pairs} pairs at most, of keys of {max_key} and values of {max_value} characters");
    Err(invalid("metadata", message))
}

fn within<T: PartialOrd + Copy + std::fmt::Display>(
    param: &'static str,
    value: T,
    [least, greatest]: [T; 2],
) -> Result<(), JobError> {
    if (least..=greatest).contains(&value) {
        return Ok(());
    }
    Err(invalid(param, format!("{value} is not from {least} to {greatest}")))
}

pub(super) fn invalid(param: &'static str, message: String) -> JobError {
    JobError::InvalidParameter { param, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parameter that is wrong, if one is.
    fn wrong<T>(result: &Result<T, JobError>) -> Option<&'static str> {
        match result {
            Ok(_) => None,
            Err(JobError::InvalidParameter { param, .. }) => Some(param),
            Err(other) => panic!("expected a wrong parameter, found {other}"),
        }
    }

    fn changed(change: impl FnOnce(&mut NewBatch)) -> Result<Batch, JobError> {
        let mut new = NewBatch::new("file-1", "/v1/chat/completions");
        change(&mut new);
        new.into_batch("batch_1".to_owned(), 1000)
    }

    #[test]
    fn windows_are_hours_and_days() {
        let good = [("24h", 86_400), ("1h", 3600), ("720h", 2_592_000), ("7d", 604_800), ("30d", 2_592_000)];
        for (text, seconds) in good {
            let batch = changed(|new| text.clone_into(&mut new.completion_window)).unwrap();
            assert_eq!((batch.expires_at, &*batch.completion_window), (1000 + seconds, text));
        }
        for text in ["", "h", "24", "0h", "721h", "31d", "+1h", "1 h", "24H", "1.5h", "99999999999999999999d", "24é"] {
            assert_eq!(
                wrong(&changed(|new| text.clone_into(&mut new.completion_window))),
                Some("completion_window"),
                "{text}"
            );
        }
    }

    #[test]
    fn limits_are_inclusive() {
        let pairs = |count: usize, key: usize, value: usize| {
            (0..count).map(|index| (format!("{index:é>key$}"), "é".repeat(value))).collect::<BTreeMap<_, _>>()
        };
        let cases: [(Result<Batch, JobError>, Option<&str>); 11] = [
            (changed(|new| new.metadata = pairs(16, 64, 512)), None),
            (changed(|new| new.metadata = pairs(17, 2, 1)), Some("metadata")),
            (changed(|new| new.metadata = pairs(1, 65, 1)), Some("metadata")),
            (changed(|new| new.metadata = pairs(1, 1, 513)), Some("metadata")),
            (changed(|new| new.priority = -100), None),
            (changed(|new| new.priority = 101), Some("priority")),
            (changed(|new| new.output_expires_after = Some(OutputExpiry { seconds: 2_592_000 })), None),
            (
                changed(|new| new.output_expires_after = Some(OutputExpiry { seconds: 3599 })),
                Some("output_expires_after.seconds"),
            ),
            (changed(|new| new.endpoint = "/v1/images/edits".to_owned()), Some("endpoint")),
            (changed(|new| new.endpoint = String::new()), Some("endpoint")),
            (changed(|new| new.endpoint = "/score".to_owned()), None),
        ];
        for (index, (result, expected)) in cases.iter().enumerate() {
            assert_eq!(wrong(result), *expected, "case {index}");
        }
    }

    #[test]
    fn files_are_for_batches() {
        let file = NewFile::for_batch;
        let cases = [
            (file(), None),
            (NewFile { purpose: FilePurpose::BatchOutput, ..file() }, Some("purpose")),
            (NewFile { filename: "é".repeat(255), ..file() }, None),
            (NewFile { filename: "é".repeat(256), ..file() }, Some("filename")),
            (NewFile { filename: "a\nb".to_owned(), ..file() }, Some("filename")),
            (NewFile { expires_after: Some(3600), ..file() }, None),
            (NewFile { expires_after: Some(2_592_001), ..file() }, Some("expires_after.seconds")),
        ];
        for (file, expected) in cases {
            assert_eq!(wrong(&file.check()), expected, "{file:?}");
        }
    }
}
