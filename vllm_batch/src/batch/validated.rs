//! Is a whole file valid, and where could it be cut?

use std::ops::Range;
use std::path::Path;

use super::contract::{Contract, OpenAiLimits};
use super::error::RunError;
use super::input::Input;
use super::key::RowKey;
use super::line::LineParser;
use super::runner::MAX_LINE_BYTES;
use super::{CancellationToken, Endpoint};
use crate::engine::EngineSpec;

/// A file that keeps to the rules of [`Contract::OpenAi`]. Of its lines it knows where they begin, and holds no body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedFile {
    endpoint: Endpoint,
    model: String,
    bytes: u64,
    /// Of each line that is not blank: its number, and where it begins.
    lines: Vec<(u64, u64)>,
}

/// Requests of a file that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileChunk {
    /// Where they lie in the file. The chunks of a file cover all of it.
    pub bytes: Range<u64>,
    /// The number of the first line, from 1.
    pub first_line: u64,
    /// How many there are.
    pub num_requests: usize,
}

/// Reads a whole batch file, as [`BatchRunner`](super::BatchRunner) does before it runs one with [`Contract::OpenAi`].
///
/// Of `spec`, the served names and the limits count; nothing is asked of an engine. A file that is valid for one engine is so
/// for each with the same names and limits.
///
/// # Errors
/// [`RunError::ValidationFailed`] with everything that is wrong; [`RunError::InputUnreadable`].
///
/// # Example
/// ```
/// use vllm_batch::EngineSpec;
/// use vllm_batch::batch::{Endpoint, OpenAiLimits, validate_file};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("in.jsonl");
/// let body = r#"{"model": "tiny", "prompt": "Hello"}"#;
/// let line = |name: &str| format!(r#"{{"custom_id": "{name}", "method": "POST", "url": "/v1/completions", "body": {body}}}"#);
/// std::fs::write(&path, [line("a"), line("b"), line("c")].join("\n"))?;
///
/// let file = validate_file(&path, &EngineSpec::new("tiny", "r1"), OpenAiLimits::default())?;
/// assert_eq!((file.endpoint(), file.model(), file.num_requests()), (Endpoint::Completions, "tiny", 3));
/// let chunks: Vec<_> = file.chunks(2).map(|chunk| (chunk.first_line, chunk.num_requests)).collect();
/// assert_eq!(chunks, [(1, 2), (3, 1)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn validate_file(
    path: impl AsRef<Path>,
    spec: &EngineSpec,
    limits: OpenAiLimits,
) -> Result<ValidatedFile, RunError> {
    let path = path.as_ref();
    let input = Input::open(path)?;
    let mut parser = LineParser::new(spec, MAX_LINE_BYTES, Contract::OpenAi(limits));
    let index = input.index(&mut parser, &CancellationToken::new())?;
    let valid = index.and_then(|index| {
        let common = index.common.clone()?;
        let lines = (0..index.num_lines()).filter(|line| index.key(*line) != RowKey::NONE);
        let lines = lines.map(|line| (line as u64 + 1, index.offset(line))).collect();
        Some(ValidatedFile { endpoint: common.endpoint, model: common.model, bytes: input.length(), lines })
    });
    // A valid file has a request, and with it all that requests have in common.
    valid.ok_or_else(|| RunError::EmptyInput { path: path.to_owned() })
}

impl ValidatedFile {
    /// What all its requests are for.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The model that all its requests name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// How many requests it has; at least one.
    pub fn num_requests(&self) -> usize {
        self.lines.len()
    }

    /// Its length in bytes.
    pub fn num_bytes(&self) -> u64 {
        self.bytes
    }

    /// Cuts it into chunks of so many requests, the last one of what is left; 0 counts as 1. Each is a batch file of its own.
    pub fn chunks(&self, num_requests: usize) -> impl Iterator<Item = FileChunk> {
        let size = num_requests.max(1);
        self.lines.chunks(size).enumerate().map(move |(index, lines)| {
            let (first_line, start) = if index == 0 { (1, 0) } else { lines[0] };
            let next = self.lines.get((index + 1) * size);
            let end = next.map_or(self.bytes, |(_, offset)| *offset);
            FileChunk { bytes: start..end, first_line, num_requests: lines.len() }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::BatchRequestInput;

    fn request(name: usize) -> String {
        let body = serde_json::json!({"model": "m", "prompt": format!("say {name}")});
        let body = body.as_object().cloned().unwrap_or_default();
        let line = BatchRequestInput::new(name.to_string(), Endpoint::Completions, body);
        serde_json::to_string(&line).unwrap()
    }

    fn validate(text: &str, limits: OpenAiLimits) -> Result<ValidatedFile, RunError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.jsonl");
        std::fs::write(&path, text).unwrap();
        validate_file(path, &EngineSpec::new("m", "r"), limits)
    }

    #[test]
    fn what_is_wrong_is_told() {
        let of_chat = OpenAiLimits::default().with_endpoint(Endpoint::ChatCompletions);
        let cases = [
            (request(1), of_chat, "url_mismatch"),
            ("\n\n".to_owned(), OpenAiLimits::default(), "empty_file"),
            (request(1) + "\n" + &request(1), OpenAiLimits::default(), "duplicate_custom_id"),
        ];
        for (text, limits, code) in cases {
            match validate(&text, limits) {
                Err(RunError::ValidationFailed { errors, .. }) => assert_eq!(errors.data[0].code, code),
                other => panic!("expected {code}, found {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn chunks_are_files_that_make_up_the_file(
            blanks in proptest::collection::vec(0..3_usize, 1..20),
            size in 0..7_usize,
            (has_mark, ends) in any::<(bool, bool)>(),
        ) {
            let count = blanks.len();
            let mut text = if has_mark { "\u{feff}".to_owned() } else { String::new() };
            for (name, blanks) in blanks.iter().enumerate() {
                text += &"\n".repeat(*blanks);
                text += &request(name);
                text += if ends || name + 1 < count { "\n" } else { "" };
            }
            let file = validate(&text, OpenAiLimits::default()).unwrap();
            prop_assert_eq!(file.num_requests(), count);
            let (mut place, mut line, mut requests) = (0, 1, 0);
            for chunk in file.chunks(size) {
                prop_assert_eq!((chunk.bytes.start, chunk.first_line), (place, line));
                let part = &text[chunk.bytes.start as usize..chunk.bytes.end as usize];
                let alone = validate(part, OpenAiLimits::default()).unwrap();
                prop_assert_eq!(alone.num_requests(), chunk.num_requests);
                prop_assert!(chunk.num_requests <= size.max(1));
                place = chunk.bytes.end;
                line += part.matches('\n').count() as u64;
                requests += chunk.num_requests;
            }
            prop_assert_eq!((place, requests), (text.len() as u64, count));
        }
    }
}
