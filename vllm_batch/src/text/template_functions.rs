//! What `transformers` adds to Jinja for chat templates.

use std::{
    fmt, io,
    time::{SystemTime, UNIX_EPOCH},
};

use chrono::{
    DateTime,
    format::{Item, StrftimeItems},
};
use minijinja::{Environment, Error, ErrorKind, Value, value::Kwargs};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::python;

/// The words that a template gave to `raise_exception`.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// Adds the functions, the filters and tests that differ from Python's, and Python's spelling of what is not a string.
pub(super) fn install(environment: &mut Environment<'_>) {
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", to_json);
    environment.add_filter("string", python::text);
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.set_formatter(|output, _, value| output.write_str(&python::text(value)).map_err(Error::from));
}

/// Adds `strftime_now`, or puts another clock behind it.
pub(super) fn install_clock(environment: &mut Environment<'_>, clock: impl Fn() -> SystemTime + Send + Sync + 'static) {
    environment.add_function("strftime_now", move |format: &str| strftime(clock(), format));
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
        Some(width) if width <= 80 => {
            let indent = " ".repeat(width);
            dump(value, Indented(PrettyFormatter::with_indent(indent.as_bytes())))
        }
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
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, number: f64) -> io::Result<()> {
        writer.write_all(python::float(number).as_bytes())
    }

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

/// JSON on many lines.
struct Indented<'a>(PrettyFormatter<'a>);

impl Formatter for Indented<'_> {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, number: f64) -> io::Result<()> {
        OneLine.write_f64(writer, number)
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}
