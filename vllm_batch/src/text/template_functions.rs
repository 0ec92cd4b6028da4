//! What `transformers` adds to Jinja for chat templates.

use std::{
    fmt, io,
    time::{SystemTime, UNIX_EPOCH},
};

use chrono::{
    DateTime,
    format::{Item, StrftimeItems},
};
use minijinja::{
    Environment, Error, ErrorKind, Value, escape_formatter,
    value::{Kwargs, ValueKind},
};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// The words that a template gave to `raise_exception`.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// Adds the functions, the `tojson` filter and Python's spelling of `None`, `True` and `False`.
pub(super) fn install(environment: &mut Environment<'_>, clock: fn() -> SystemTime) {
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", move |format: &str| strftime(clock(), format));
    environment.add_filter("tojson", to_json);
    environment.set_formatter(|output, state, value| match value.kind() {
        ValueKind::None => output.write_str("None").map_err(Error::from),
        ValueKind::Bool => output.write_str(if value.is_true() { "True" } else { "False" }).map_err(Error::from),
        _ => escape_formatter(output, state, value),
    });
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(failure("the template raised an exception").with_source(Raised(message)))
}

fn strftime(time: SystemTime, format: &str) -> Result<String, Error> {
    let since_epoch = time.duration_since(UNIX_EPOCH).map_err(|_| failure("the clock is before 1970"))?;
    let time = DateTime::from_timestamp(since_epoch.as_secs() as i64, since_epoch.subsec_nanos());
    let time = time.ok_or_else(|| failure("the clock is out of range"))?;
    let items: Vec<Item> = StrftimeItems::new(format).collect();
    if items.contains(&Item::Error) {
        return Err(failure(format!("strftime_now cannot read the format `{format}`")));
    }
    Ok(time.format_with_items(items.iter()).to_string())
}

/// `json.dumps(value, ensure_ascii=False, indent=None)`.
#[expect(clippy::needless_pass_by_value, reason = "Jinja hands options over")]
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let json = match indent {
        None => dump(value, OneLine),
        Some(width) if width <= 80 => dump(value, PrettyFormatter::with_indent(" ".repeat(width).as_bytes())),
        Some(width) => return Err(failure(format!("tojson cannot indent by {width}"))),
    }?;
    Ok(if ascii == Some(true) { escape_non_ascii(&json) } else { json })
}

fn dump(value: &Value, formatter: impl Formatter) -> Result<String, Error> {
    let mut output = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut output, formatter)).map_err(failure)?;
    String::from_utf8(output).map_err(failure)
}

/// Outside strings JSON is ASCII, so escaping the whole text escapes the strings.
fn escape_non_ascii(json: &str) -> String {
    let escape = |c: char| -> String {
        if c.is_ascii() {
            return c.to_string();
        }
        c.encode_utf16(&mut [0; 2]).iter().map(|unit| ["\\u", &format!("{unit:04x}")].concat()).collect()
    };
    json.chars().map(escape).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn failure(message: impl ToString) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_string())
}

/// JSON on one line with a space after each comma and colon.
struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
