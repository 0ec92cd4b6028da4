//! What is wrong with a whole file, in `OpenAI`'s words?

use std::fmt;
use std::path::Path;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::Endpoint;
use super::contract::OpenAiLimits;
use super::error::{LineErrorKind, RunError};
use super::line::ParsedLine;
use crate::error::RequestError;

/// How many problems are shown to people.
const SHOWN: usize = 3;

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ValidationError {
    /// A stable name for programs, that of `OpenAI` where there is one.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
    /// The field at fault, as a path inside the line, such as `body.messages`.
    pub param: Option<String>,
    /// The line, counted from 1; `None` if the whole file is at fault.
    pub line: Option<u64>,
}

impl fmt::Display for ValidationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(formatter, "line {line}: ")?;
        }
        write!(formatter, "{} ({})", self.message, self.code)
    }
}

/// Everything that is wrong with a file, in the order of its lines.
///
/// It displays as its first problems, and serializes as the `errors` of `OpenAI`'s batch object:
/// `{"object": "list", "data": [{"code", "message", "param", "line"}]}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValidationErrors {
    /// The first problems.
    pub data: Vec<ValidationError>,
    /// How many more there are.
    pub omitted: usize,
}

impl fmt::Display for ValidationErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.data.iter().take(SHOWN).enumerate() {
            write!(formatter, "{}{problem}", if index > 0 { "; " } else { "" })?;
        }
        match self.data.len().saturating_sub(SHOWN) + self.omitted {
            0 => Ok(()),
            more => write!(formatter, "; and {more} more"),
        }
    }
}

impl Serialize for ValidationErrors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_struct("ValidationErrors", 2)?;
        list.serialize_field("object", "list")?;
        list.serialize_field("data", &self.data)?;
        list.end()
    }
}

/// What all requests of a valid file have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Common {
    pub(super) endpoint: Endpoint,
    pub(super) model: String,
}

/// Looks at the lines of a file one after the other.
#[derive(Debug)]
pub(super) struct Validator {
    limits: OpenAiLimits,
    /// What all requests must be for, or what the first line with a supported url has.
    endpoint: Option<Endpoint>,
    /// What the first line with a served model has.
    model: Option<String>,
    num_embedding_inputs: usize,
    found: ValidationErrors,
}

impl Validator {
    pub(super) fn new(limits: OpenAiLimits) -> Self {
        Self {
            limits,
            endpoint: limits.endpoint,
            model: None,
            num_embedding_inputs: 0,
            found: ValidationErrors::default(),
        }
    }

    /// Refuses a file that is not worth reading.
    pub(super) fn check_size(&self, path: &Path, bytes: u64) -> Result<(), RunError> {
        let limit = self.limits.max_file_bytes;
        if bytes <= limit {
            return Ok(());
        }
        let message = format!("The input file has {bytes} bytes, but the limit is {limit} bytes.");
        let data = vec![of_file("file_too_large", message)];
        Err(failed(path, ValidationErrors { data, omitted: 0 }))
    }

    /// Notes what is wrong with a line, except that its name may be a duplicate.
    pub(super) fn check(&mut self, number: u64, line: &ParsedLine) {
        match &line.result {
            Ok(line) if line.endpoint == Endpoint::Embeddings => self.num_embedding_inputs += line.requests.len(),
            Ok(_) => {}
            Err(error) => self.note(of_line(number, error)),
        }
        if let Some(endpoint) = line.endpoint {
            let first = *self.endpoint.get_or_insert(endpoint);
            if first != endpoint {
                self.note(url_mismatch(number, endpoint, first));
            }
        }
        let is_unknown = matches!(line.result, Err(LineErrorKind::Request(RequestError::ModelNotFound { .. })));
        if let Some(model) = line.model.as_ref().filter(|_| !is_unknown) {
            let first = self.model.get_or_insert_with(|| model.clone());
            if first != model {
                let problem = model_mismatch(number, model, first);
                self.note(problem);
            }
        }
    }

    /// What the requests have in common; fails if anything was wrong. Of each duplicate: its line and the first one of the name.
    pub(super) fn finish(
        mut self,
        path: &Path,
        total: usize,
        duplicates: impl Iterator<Item = (u64, u64)>,
    ) -> Result<Option<Common>, RunError> {
        self.found.data.extend(duplicates.map(|(line, first)| duplicate(line, first)));
        self.found.data.extend(self.of_count(total));
        self.found.data.extend(self.of_embedding_inputs());
        if self.found.data.is_empty() && self.found.omitted == 0 {
            return Ok(self.endpoint.zip(self.model).map(|(endpoint, model)| Common { endpoint, model }));
        }
        self.found.data.sort_by_key(|problem| problem.line);
        self.found.omitted += self.found.data.len().saturating_sub(self.limits.max_problems);
        self.found.data.truncate(self.limits.max_problems);
        Err(failed(path, self.found))
    }

    fn of_count(&self, total: usize) -> Option<ValidationError> {
        let limit = self.limits.max_requests;
        if total == 0 {
            let message = "The input file is empty. Please ensure that the batch contains at least one request.";
            Some(of_file("empty_file", message.to_owned()))
        } else if total > limit {
            let message = format!("The input file holds {total} requests, but the limit is {limit} requests.");
            Some(of_file("too_many_tasks", message))
        } else {
            None
        }
    }

    fn of_embedding_inputs(&self) -> Option<ValidationError> {
        let (found, limit) = (self.num_embedding_inputs, self.limits.max_embedding_inputs);
        let message =
            || format!("The input file holds {found} embedding inputs, but the limit is {limit} embedding inputs.");
        (found > limit).then(|| of_file("too_many_embedding_inputs", message()))
    }

    fn note(&mut self, problem: ValidationError) {
        if self.found.data.len() < self.limits.max_problems {
            self.found.data.push(problem);
        } else {
            self.found.omitted += 1;
        }
    }
}

fn failed(path: &Path, errors: ValidationErrors) -> RunError {
    RunError::ValidationFailed { path: path.to_owned(), errors }
}

fn of_file(code: &'static str, message: String) -> ValidationError {
    ValidationError { code, message, param: None, line: None }
}

fn problem(code: &'static str, message: String, param: &str, line: u64) -> ValidationError {
    ValidationError { code, message, param: Some(param.to_owned()), line: Some(line) }
}

fn missing(param: &str) -> (&'static str, String) {
    ("missing_required_parameter", format!("Missing required parameter: '{param}'."))
}

/// A line's error in `OpenAI`'s words. What this crate tells apart and `OpenAI` does not is in the message.
fn of_line(line: u64, error: &LineErrorKind) -> ValidationError {
    let (code, message) = match error {
        LineErrorKind::InvalidJson { .. }
        | LineErrorKind::NotAnObject { .. }
        | LineErrorKind::NulByte { .. }
        | LineErrorKind::InvalidUtf8 { .. } => {
            ("invalid_json_line", format!("This line is not parseable as valid JSON: {error}."))
        }
        LineErrorKind::MissingCustomId => missing("custom_id"),
        LineErrorKind::MissingField { field } => missing(field),
        LineErrorKind::InvalidCustomId { .. }
        | LineErrorKind::WrongType { .. }
        | LineErrorKind::MethodNotPost { .. } => ("invalid_request", error.to_string()),
        LineErrorKind::Request(RequestError::MissingParam { param }) => missing(param),
        _ => (error.code(), error.to_string()),
    };
    let is_of_body = matches!(error, LineErrorKind::Request(_));
    let param = error.param().map(|param| if is_of_body { format!("body.{param}") } else { param.to_owned() });
    ValidationError { code, message, param, line: Some(line) }
}

fn duplicate(line: u64, first: u64) -> ValidationError {
    let message = format!(
        "The custom ID for this request is a duplicate of the custom ID in another request, that in line {first}."
    );
    problem("duplicate_custom_id", message, "custom_id", line)
}

fn url_mismatch(line: u64, found: Endpoint, first: Endpoint) -> ValidationError {
    let (found, first) = (found.url(), first.url());
    let message = format!("The URL '{found}' of this request does not match that of the batch, '{first}'.");
    problem("url_mismatch", message, "url", line)
}

fn model_mismatch(line: u64, found: &str, first: &str) -> ValidationError {
    let message = format!("The model '{found}' of this request does not match that of the batch, '{first}'.");
    problem("model_mismatch", message, "body.model", line)
}
