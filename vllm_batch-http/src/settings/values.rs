//! What does a setting's text mean?

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use vllm_batch::jobs::{AllowedHost, InvalidHost};

/// A value that a setting may have.
pub(super) trait Field: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, and what is wanted.
    fn parse(text: &str) -> Result<Self, String>;

    /// Writes it as TOML.
    fn to_toml(&self) -> String;
}

/// What is printed instead of a secret.
const HIDDEN: &str = "***";

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever needs it. What comes back is no secret to the compiler: use it at once.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl Field for Secret {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("it is empty".to_owned()),
            HIDDEN => Err("it was hidden where it was printed: give the secret itself".to_owned()),
            _ => Ok(Self::new(text)),
        }
    }

    fn to_toml(&self) -> String {
        quoted(HIDDEN)
    }
}

/// The address of a database, whose password is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DatabaseUrl(String);

impl DatabaseUrl {
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// With the password.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        let (user, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => (credentials.split(':').next(), place),
            None => (None, rest),
        };
        let (place, options) = place.split_once('?').unwrap_or((place, ""));
        write!(formatter, "{scheme}://")?;
        user.map_or(Ok(()), |user| write!(formatter, "{user}:***@"))?;
        formatter.write_str(place)?;
        match options {
            "" => Ok(()),
            // It may be given as an option, too.
            options if options.contains("password") => formatter.write_str("?***"),
            options => write!(formatter, "?{options}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Field for DatabaseUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let is_known = ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
        let wanted = "a database is sqlite://PATH?mode=rwc or postgres://USER:PASSWORD@HOST/DATABASE";
        if is_known { Ok(Self::new(text)) } else { Err(wanted.to_owned()) }
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

const BYTE_UNITS: [(&str, u64); 7] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

impl Field for Bytes {
    fn parse(text: &str) -> Result<Self, String> {
        let wanted = || format!("{} is no size: write it as 200MiB, 1GB or a number of bytes", quoted(text));
        let (number, unit) = with_unit(text, &BYTE_UNITS, 1).ok_or_else(wanted)?;
        number.checked_mul(unit).map(Self).ok_or_else(wanted)
    }

    fn to_toml(&self) -> String {
        shown_in(self.0, &BYTE_UNITS[..4])
    }
}

/// In milliseconds.
const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Field for Duration {
    fn parse(text: &str) -> Result<Self, String> {
        let wanted = || format!("{} is no time: write it as 500ms, 30s, 5m, 24h or 7d", quoted(text));
        let (number, unit) = with_unit(text, &TIME_UNITS, 1_000).ok_or_else(wanted)?;
        number.checked_mul(unit).map(Self::from_millis).ok_or_else(wanted)
    }

    fn to_toml(&self) -> String {
        match u64::try_from(self.as_millis()) {
            Ok(0) | Err(_) => quoted("0s"),
            Ok(millis) => shown_in(millis, &TIME_UNITS),
        }
    }
}

/// A number and what its unit stands for.
fn with_unit(text: &str, units: &[(&str, u64)], unit_if_none: u64) -> Option<(u64, u64)> {
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = match unit.trim() {
        "" => unit_if_none,
        name => units.iter().find(|(unit, _)| unit.eq_ignore_ascii_case(name))?.1,
    };
    Some((number.parse().ok()?, unit))
}

/// A number in the largest unit that divides it.
fn shown_in(number: u64, units: &[(&str, u64)]) -> String {
    let unit = units.iter().find(|(_, unit)| number > 0 && number.is_multiple_of(*unit));
    unit.map_or_else(|| number.to_string(), |(name, unit)| quoted(&format!("{}{name}", number / unit)))
}

impl Field for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            other => Err(format!("{} is neither true nor false", quoted(other))),
        }
    }

    fn to_toml(&self) -> String {
        self.to_string()
    }
}

impl Field for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn to_toml(&self) -> String {
        quoted(self)
    }
}

impl Field for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a path is wanted, and it is empty".to_owned()) } else { Ok(text.into()) }
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Field for IpAddr {
    fn parse(text: &str) -> Result<Self, String> {
        let wanted = || format!("{} is no IP address, as 127.0.0.1, 0.0.0.0 or ::1 are", quoted(text));
        if text == "localhost" { Ok(Self::from([127, 0, 0, 1])) } else { text.parse().map_err(|_| wanted()) }
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Field for AllowedHost {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: InvalidHost| error.to_string())
    }

    fn to_toml(&self) -> String {
        quoted(&self.to_string())
    }
}

macro_rules! whole_numbers {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn parse(text: &str) -> Result<Self, String> {
                let (min, max) = (Self::MIN, Self::MAX);
                text.parse().map_err(|_| format!("{} is no whole number from {min} to {max}", quoted(text)))
            }

            fn to_toml(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

whole_numbers!(u16, u32, u64, usize);

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    let escaped = text.chars().fold(String::new(), |mut escaped, char| {
        match char {
            '"' | '\\' => escaped.extend(['\\', char]),
            char if char.is_control() => escaped.extend(format!("\\u{:04X}", u32::from(char)).chars()),
            char => escaped.push(char),
        }
        escaped
    });
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Field>(text: &str) -> Result<String, String> {
        T::parse(text).map(|value| value.to_toml())
    }

    #[test]
    fn times_and_sizes_have_units() {
        let times = [
            ("30", Ok(r#""30s""#)),
            ("90s", Ok(r#""90s""#)),
            ("120 s", Ok(r#""2m""#)),
            ("1500ms", Ok(r#""1500ms""#)),
            ("168h", Ok(r#""7d""#)),
            ("0", Ok(r#""0s""#)),
            ("", Err(())),
            ("-1s", Err(())),
            ("1.5h", Err(())),
            ("1 week", Err(())),
            ("18446744073709551615d", Err(())),
        ];
        for (text, expected) in times {
            assert_eq!(read::<Duration>(text).map_err(|_| ()), expected.map(str::to_owned), "{text}");
        }
        let sizes = [
            ("0", Ok("0")),
            ("1000", Ok("1000")),
            ("1024", Ok(r#""1KiB""#)),
            ("200MiB", Ok(r#""200MiB""#)),
            ("200 mib", Ok(r#""200MiB""#)),
            ("2GB", Ok(r#""1953125KiB""#)),
            ("1 EiB", Err(())),
            ("99999999999GiB", Err(())),
            ("much", Err(())),
        ];
        for (text, expected) in sizes {
            assert_eq!(read::<Bytes>(text).map_err(|_| ()), expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let secret = Secret::new("whsec_abc");
        assert_eq!((format!("{secret:?}"), secret.to_toml().as_str()), ("***".to_owned(), "\"***\""));
        let urls = [
            ("sqlite://data/jobs.db?mode=rwc", "sqlite://data/jobs.db?mode=rwc"),
            ("postgres://localhost/jobs", "postgres://localhost/jobs"),
            ("postgres://me:se:cr@et@db/jobs", "postgres://me:***@db/jobs"),
            ("postgres://me:se?cret@db/jobs", "postgres://me:***@db/jobs"),
            ("postgres://me@db/jobs?sslmode=require", "postgres://me:***@db/jobs?sslmode=require"),
            ("postgres://db/jobs?user=me&password=secret", "postgres://db/jobs?***"),
        ];
        for (url, shown) in urls {
            assert_eq!(format!("{:?}", DatabaseUrl::new(url)), shown);
        }
    }

    #[test]
    fn texts_are_written_as_toml_reads_them() {
        for text in ["", "a b", "C:\\x", "\"", "tab\there\u{7f}", "é"] {
            let document = format!("text = {}", quoted(text));
            let read =
                figment::Figment::from(<figment::providers::Toml as figment::providers::Format>::string(&document));
            assert_eq!(read.extract_inner::<String>("text").as_deref(), Ok(text), "{document}");
        }
    }
}
