//! The values of `format` in JSON Schema.

/// What a `format` means for the characters of a string.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// The compiler knows it.
    Known,
    /// The string must match all of these.
    Patterns(Vec<String>),
    /// It says what the string is for, and nothing about its characters.
    Free,
    Unknown,
}

/// The formats that strings can be held to.
pub(super) const SUPPORTED: &str = "date-time, date, time, duration, email, hostname, ipv4, ipv6, uri, uuid";

// The compiler's own dates have a 29th of February every year, its times a 60th second in every minute, and its
// addresses parts of any length.

/// A day of the calendar.
const DATE: &str = concat!(
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)",
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))",
    "|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)",
);
/// A time of day with its offset.
const TIME: &str =
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";

/// Letters of the part of an e-mail address before the `@`.
const ATOM: &str = "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+";
/// A part of a host name, of any length. Two hyphens in a row mark encoded names in some places.
const LABEL: &str = "[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*";

pub(super) fn lookup(name: &str) -> Format {
    let whole = |pattern: &str| format!("^{pattern}$");
    match name {
        "date" => Format::Patterns(vec![whole(DATE)]),
        "time" => Format::Patterns(vec![whole(TIME)]),
        "date-time" => Format::Patterns(vec![whole(&format!("{DATE}T{TIME}"))]),
        "email" => Format::Patterns(vec![
            whole(&format!(r"{ATOM}(?:\.{ATOM})*@(?:{LABEL}\.)+[a-zA-Z]+")),
            whole(r"[^@]{1,64}@(?:[^@.]{1,63}\.){1,2}[^@.]{2,24}"),
        ]),
        "hostname" => {
            Format::Patterns(vec![whole(&format!(r"{LABEL}(?:\.{LABEL})*")), whole(r"[^.]{1,63}(?:\.[^.]{1,63}){0,2}")])
        }
        "duration" | "ipv4" | "ipv6" | "uri" | "uuid" => Format::Known,
        "password" | "binary" | "path" | "file-path" | "directory-path" => Format::Free,
        _ => Format::Unknown,
    }
}
