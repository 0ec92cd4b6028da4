//! How Python writes values down: templates were made for it.

use minijinja::{Value, value::ValueKind};

/// `str(value)`.
pub(super) fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => repr(value),
    }
}

/// `repr(value)`.
fn repr(value: &Value) -> String {
    match value.kind() {
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::String => value.as_str().map(quoted).unwrap_or_default(),
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
        }
        ValueKind::Seq => format!("[{}]", listed(value, repr)),
        ValueKind::Map => {
            let entry = |key: &Value| format!("{}: {}", repr(key), repr(&value.get_item(key).unwrap_or_default()));
            format!("{{{}}}", listed(value, entry))
        }
        _ => value.to_string(),
    }
}

fn listed(values: &Value, write: impl Fn(&Value) -> String) -> String {
    let items: Vec<_> = values.try_iter().into_iter().flatten().map(|item| write(&item)).collect();
    items.join(", ")
}

/// `repr` of a number that is not whole by type: the digits are Rust's, but exponents begin below -4 and at 16, and have two
/// digits at least.
pub(super) fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    match scientific.split_once('e').and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?))) {
        Some((digits, exponent)) if !(-4..16).contains(&exponent) => {
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        _ => format!("{number:?}"),
    }
}

/// `repr` of a string: in single quotes, or in double ones if it has single ones only.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let inner: String = text.chars().map(|c| if c == quote { format!("\\{c}") } else { escaped(c) }).collect();
    format!("{quote}{inner}{quote}")
}

fn escaped(c: char) -> String {
    match (c, u32::from(c)) {
        ('\n', _) => "\\n".to_owned(),
        ('\r', _) => "\\r".to_owned(),
        ('\t', _) => "\\t".to_owned(),
        ('\\', _) => "\\\\".to_owned(),
        (c, _) if is_printable(c) => c.to_string(),
        (_, code @ ..0x100) => format!("\\x{code:02x}"),
        (_, code @ ..0x1_0000) => format!("\\u{code:04x}"),
        (_, code) => format!("\\U{code:08x}"),
    }
}

/// Rust shows what Python shows. A character that changes the one before it needs one to be shown.
fn is_printable(c: char) -> bool {
    !format!("x{c}").escape_debug().skip(1).collect::<String>().starts_with("\\u")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python 3.11 prints.
    #[test]
    fn values_are_written_as_python_writes_them() {
        let cases: [(serde_json::Value, &str); 6] = [
            (serde_json::json!("it's \n"), "it's \n"),
            (
                serde_json::json!([
                    "it's",
                    "\"",
                    "'\"",
                    "a\n\r\t\\",
                    "\u{7}\u{a0}é🙂e\u{301}\u{200b}\u{e0001}\u{ffff}"
                ]),
                concat!(r#"["it's", '"', '\'"', 'a\n\r\t\\', '\x07\xa0é🙂"#, "e\u{301}", r"\u200b\U000e0001\uffff']"),
            ),
            (serde_json::json!({"b": [], "a": {"x": null}, "c": true}), "{'b': [], 'a': {'x': None}, 'c': True}"),
            (serde_json::json!(null), "None"),
            (serde_json::json!([1, -2, 18_446_744_073_709_551_615_u64, 1.5]), "[1, -2, 18446744073709551615, 1.5]"),
            (serde_json::json!(1e300), "1e+300"),
        ];
        for (value, expected) in cases {
            assert_eq!(text(&Value::from_serialize(&value)), expected);
        }
    }

    /// What Python 3.11 prints.
    #[test]
    fn floats_have_exponents_where_python_has_them() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-4, "0.0001"),
            (0.000_012_5, "1.25e-05"),
            (1e-7, "1e-07"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-1.25e17, "-1.25e+17"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (f64::MAX, "1.7976931348623157e+308"),
        ];
        for (number, expected) in cases {
            assert_eq!(float(number), expected);
        }
    }
}
