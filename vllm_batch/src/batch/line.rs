//! What does one line of a batch file ask for?

use serde_json::{Map, Value};

use super::Endpoint;
use super::contract::Contract;
use super::error::{LineError, LineErrorKind};
use super::json::{kind, optional};
use super::key::{Keyer, RowKey, WorkTag};
use super::parts::{RowForm, RowRequests};
use super::reader::{Content, RawLine};
use crate::engine::EngineSpec;
use crate::request::Request;

/// A line of a batch file that holds a request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BatchLine {
    /// The line's name in its file; the ids of its requests are made of it.
    pub custom_id: String,
    /// What the line's `url` names.
    pub endpoint: Endpoint,
    /// What the line's `body` asks for: at least one request, in the order of the answer's parts.
    pub requests: Vec<Request>,
    pub(super) form: RowForm,
}

impl BatchLine {
    /// Reads `{"custom_id": …, "method": "POST", "url": …, "body": {…}}`. Other fields of the line are left alone; what
    /// the body may hold is said at [`Endpoint::parse_body`]. Whether another line has the same `custom_id` is not
    /// known here.
    ///
    /// # Errors
    /// [`LineError`], with `number` as its line, for the first thing that is wrong.
    pub fn parse(line: &[u8], number: u64, spec: &EngineSpec) -> Result<Self, LineError> {
        let parsed = Envelope::parse(line, Contract::Lenient).map_err(|(_, error)| error);
        parsed.and_then(|envelope| envelope.lower(spec, Contract::Lenient)).map_err(|kind| kind.at(number))
    }
}

/// What the runner knows about a line.
#[derive(Debug)]
pub(super) struct ParsedLine {
    pub(super) key: RowKey,
    pub(super) work: WorkTag,
    /// Known for many bad lines too.
    pub(super) custom_id: Option<String>,
    /// Known if the outer fields are right.
    pub(super) endpoint: Option<Endpoint>,
    /// The body's `model`; only looked for where the contract wants to compare it.
    pub(super) model: Option<String>,
    pub(super) result: Result<BatchLine, LineErrorKind>,
}

/// Reads lines for one engine.
#[derive(Debug)]
pub(super) struct LineParser<'a> {
    spec: &'a EngineSpec,
    keyer: Keyer,
    max_line_bytes: usize,
    contract: Contract,
}

impl<'a> LineParser<'a> {
    pub(super) fn new(spec: &'a EngineSpec, max_line_bytes: usize, contract: Contract) -> Self {
        Self { spec, keyer: Keyer::new(&spec.revision), max_line_bytes, contract }
    }

    pub(super) fn max_line_bytes(&self) -> usize {
        self.max_line_bytes
    }

    pub(super) fn contract(&self) -> Contract {
        self.contract
    }

    /// Reads a line; `None` if it is blank.
    pub(super) fn parse(&mut self, line: &RawLine<'_>) -> Option<ParsedLine> {
        match line.content {
            Content::Bytes(bytes) if bytes.trim_ascii().is_empty() => None,
            Content::Bytes(bytes) => Some(self.parse_bytes(line.number, bytes)),
            Content::TooLong { length, digest } => {
                let error = LineErrorKind::TooLong { length, limit: self.max_line_bytes };
                Some(self.refuse(self.keyer.raw_line(line.number, &digest), None, error))
            }
        }
    }

    /// The key of a line whose name the line `first` has. It depends on both lines, so that no two lines get the same
    /// key, and a row that tells another line than the first counts as changed.
    pub(super) fn duplicate_key(&self, key: RowKey, line: u64, first: u64) -> RowKey {
        self.keyer.refused(key, "duplicate_custom_id", &format!("{line} {first}"))
    }

    /// The key of a line whose work `nth` lines before it have.
    pub(super) fn repeat_key(&self, key: RowKey, nth: usize) -> RowKey {
        self.keyer.refused(key, "repeat", &nth.to_string())
    }

    fn parse_bytes(&mut self, number: u64, bytes: &[u8]) -> ParsedLine {
        let envelope = match Envelope::parse(bytes, self.contract) {
            Ok(envelope) => envelope,
            Err((custom_id, error)) => return self.refuse(self.keyer.raw_line(number, bytes), custom_id, error),
        };
        let (key, work) = self.keyer.request(&envelope.custom_id, envelope.endpoint.url(), &envelope.body);
        let custom_id = envelope.custom_id.clone();
        let endpoint = Some(envelope.endpoint);
        let model = self.contract.limits().and_then(|_| envelope.body.get("model")?.as_str().map(str::to_owned));
        let parsed = match envelope.lower(self.spec, self.contract) {
            Ok(line) => ParsedLine { key, work, custom_id: Some(custom_id), endpoint, model: None, result: Ok(line) },
            Err(error) => self.refuse(key, Some(custom_id), error),
        };
        ParsedLine { endpoint, model, ..parsed }
    }

    fn refuse(&self, key: RowKey, custom_id: Option<String>, error: LineErrorKind) -> ParsedLine {
        let key = self.keyer.refused(key, error.code(), &error.to_string());
        ParsedLine { key, work: WorkTag::NONE, custom_id, endpoint: None, model: None, result: Err(error) }
    }
}

/// A line whose outer fields are right.
struct Envelope {
    custom_id: String,
    endpoint: Endpoint,
    body: Map<String, Value>,
}

impl Envelope {
    /// An error comes with the line's `custom_id`, if it has one.
    fn parse(line: &[u8], contract: Contract) -> Result<Self, (Option<String>, LineErrorKind)> {
        let mut fields = parse_object(line).map_err(|error| (None, error))?;
        let custom_id = custom_id(fields.remove("custom_id"), contract).map_err(|error| (None, error))?;
        match outer_fields(fields, contract) {
            Ok((endpoint, body)) => Ok(Self { custom_id, endpoint, body }),
            Err(error) => Err((Some(custom_id), error)),
        }
    }

    fn lower(mut self, spec: &EngineSpec, contract: Contract) -> Result<BatchLine, LineErrorKind> {
        contract.prepare(&mut self.body, spec)?;
        let RowRequests { requests, form } = self.endpoint.parse_row(&self.custom_id, self.body, spec)?;
        Ok(BatchLine { custom_id: self.custom_id, endpoint: self.endpoint, requests, form })
    }
}

fn parse_object(line: &[u8]) -> Result<Map<String, Value>, LineErrorKind> {
    if let Some(index) = line.iter().position(|byte| *byte == 0) {
        return Err(LineErrorKind::NulByte { column: index + 1 });
    }
    let text = str::from_utf8(line).map_err(|error| LineErrorKind::InvalidUtf8 { column: error.valid_up_to() + 1 })?;
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(LineErrorKind::NotAnObject { found: kind(&other) }),
        Err(error) => Err(LineErrorKind::InvalidJson { column: error.column(), message: reason(&error) }),
    }
}

/// The parser's sentence without its " at line 1 column 7".
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

fn custom_id(value: Option<Value>, contract: Contract) -> Result<String, LineErrorKind> {
    match value {
        None | Some(Value::Null) => Err(LineErrorKind::MissingCustomId),
        Some(Value::String(custom_id)) if !custom_id.is_empty() || contract.is_lax_about_fields() => Ok(custom_id),
        Some(other) => Err(LineErrorKind::InvalidCustomId { found: kind(&other) }),
    }
}

fn outer_fields(
    mut fields: Map<String, Value>,
    contract: Contract,
) -> Result<(Endpoint, Map<String, Value>), LineErrorKind> {
    let method = text_field(&mut fields, "method")?;
    if method != "POST" && !contract.is_lax_about_fields() {
        return Err(LineErrorKind::MethodNotPost { method });
    }
    let url = text_field(&mut fields, "url")?;
    let Some(endpoint) = Endpoint::from_url(&url) else {
        return Err(LineErrorKind::UrlMismatch { url });
    };
    match field(&mut fields, "body")? {
        Value::Object(body) => Ok((endpoint, body)),
        other => Err(wrong_type("body", "an object", &other)),
    }
}

fn text_field(fields: &mut Map<String, Value>, name: &'static str) -> Result<String, LineErrorKind> {
    match field(fields, name)? {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(name, "a string", &other)),
    }
}

fn field(fields: &mut Map<String, Value>, name: &'static str) -> Result<Value, LineErrorKind> {
    optional(fields, name).ok_or(LineErrorKind::MissingField { field: name })
}

fn wrong_type(field: &'static str, expected: &'static str, found: &Value) -> LineErrorKind {
    LineErrorKind::WrongType { field, expected, found: kind(found) }
}
