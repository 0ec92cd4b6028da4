//! JSON as models write it.

use std::ops::Range;

use serde_json::{Map, Value};

/// An object that was found in a text.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// Keys and values with their places, in the order of the text.
    pub(super) entries: Vec<(String, Value, Range<usize>)>,
    /// Where the object ends.
    pub(super) end: usize,
    /// Whether it is not JSON to the letter.
    pub(super) is_loose: bool,
    /// Whether it breaks off: at the end of the text, or where nothing can be made of what follows.
    pub(super) is_cut: bool,
}

/// Reads the object that begins at `start`, where a `{` is. Besides JSON it understands: trailing commas, comments, single
/// and typographic quotes, quotes and line ends within texts, keys and words without quotes, and Python's literals. Of an
/// object that breaks off it has the entries that are complete.
pub(super) fn read_object(text: &str, start: usize) -> Found {
    let mut reader = Reader { text, at: start + 1, is_loose: false };
    let mut found = Found::default();
    found.is_cut = reader.entries(1, |key, value, place| found.entries.push((key, value, place))).is_none();
    (found.end, found.is_loose) = (reader.at, reader.is_loose);
    found
}

/// The first key of the object that begins at `start`, also if nothing behind it is complete.
pub(super) fn first_key(text: &str, start: usize) -> Option<String> {
    let mut reader = Reader { text, at: start + 1, is_loose: false };
    reader.skip_space()?;
    reader.key()
}

/// Reads a text as one JSON value, loosely.
pub(super) fn read_value(text: &str) -> Option<Value> {
    let mut reader = Reader { text, at: 0, is_loose: false };
    let value = reader.value(0)?;
    reader.skip_space()?;
    (reader.at == text.len()).then_some(value)
}

/// About where strict readers of JSON stop, too.
const MAX_DEPTH: usize = 120;

struct Reader<'a> {
    text: &'a str,
    at: usize,
    is_loose: bool,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, expected: char) -> bool {
        let is_there = self.peek() == Some(expected);
        if is_there {
            self.at += expected.len_utf8();
        }
        is_there
    }

    /// White space and comments; `None` for a comment without an end.
    fn skip_space(&mut self) -> Option<()> {
        loop {
            self.at += self.rest().len() - self.rest().trim_start().len();
            let end = match self.rest() {
                rest if rest.starts_with("//") => rest.find('\n')?,
                rest if rest.starts_with("/*") => rest.find("*/")? + 2,
                _ => return Some(()),
            };
            self.is_loose = true;
            self.at += end;
        }
    }

    /// What is in an object, up to and with its `}`. `None` if it breaks off.
    fn entries(&mut self, depth: usize, mut keep: impl FnMut(String, Value, Range<usize>)) -> Option<()> {
        self.skip_space()?;
        while !self.eat('}') {
            let key = self.key()?;
            self.skip_space()?;
            if !self.eat(':') {
                return None;
            }
            self.skip_space()?;
            let start = self.at;
            let value = self.value(depth)?;
            keep(key, value, start..self.at);
            self.separator('}')?;
        }
        Some(())
    }

    /// A comma, or nothing before the end; a comma before the end and none before the next item are loose.
    fn separator(&mut self, end: char) -> Option<()> {
        self.skip_space()?;
        let has_comma = self.eat(',');
        self.skip_space()?;
        let is_end = self.peek()? == end;
        self.is_loose |= has_comma == is_end;
        Some(())
    }

    fn key(&mut self) -> Option<String> {
        if let Some(close) = self.peek().and_then(closing_quote) {
            return self.string(close);
        }
        let end = self.rest().find([':', ',', '{', '}', '[', ']', '\n', '"'])?;
        let key = self.rest()[..end].trim();
        (!key.is_empty()).then(|| {
            self.is_loose = true;
            self.at += end;
            key.to_owned()
        })
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.skip_space()?;
        match self.peek()? {
            '{' => {
                self.at += 1;
                let mut object = Map::new();
                self.entries(depth + 1, |key, value, _| _ = object.insert(key, value))?;
                Some(Value::Object(object))
            }
            '[' => {
                self.at += 1;
                self.list(depth + 1)
            }
            first => match closing_quote(first) {
                Some(close) => self.string(close).map(Value::String),
                None => self.word(),
            },
        }
    }

    fn list(&mut self, depth: usize) -> Option<Value> {
        let mut items = Vec::new();
        self.skip_space()?;
        while !self.eat(']') {
            items.push(self.value(depth)?);
            self.separator(']')?;
        }
        Some(Value::Array(items))
    }

    /// A text from its opening quote to the quote that ends it: one that something follows which can follow a text.
    fn string(&mut self, close: char) -> Option<String> {
        let start = self.at;
        self.at += self.peek()?.len_utf8();
        let mut out = String::new();
        let mut is_loose = close != '"';
        loop {
            let character = self.peek()?;
            self.at += character.len_utf8();
            match character {
                '\\' => is_loose |= !self.escape(&mut out)?,
                _ if character == close && self.ends_here() => break,
                _ => {
                    is_loose |= character == close || character.is_control() && character < ' ';
                    out.push(character);
                }
            }
        }
        self.is_loose |= is_loose;
        if is_loose { Some(out) } else { serde_json::from_str(&self.text[start..self.at]).ok().or(Some(out)) }
    }

    /// Whether what follows a quote can follow a text.
    fn ends_here(&self) -> bool {
        let rest = self.rest();
        let next = rest.trim_start();
        let breaks_line = rest[..rest.len() - next.len()].contains('\n');
        next.is_empty()
            || next.starts_with([',', ':', '}', ']'])
            || next.starts_with("//")
            || next.starts_with("/*")
            || breaks_line && next.starts_with(['"', '\''])
    }

    /// What follows a backslash, and whether JSON has it.
    fn escape(&mut self, out: &mut String) -> Option<bool> {
        let character = self.peek()?;
        self.at += character.len_utf8();
        let escaped = match character {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            '"' | '\\' | '/' => character,
            'u' => return Some(self.unicode(out)),
            other => {
                out.push(other);
                return Some(false);
            }
        };
        out.push(escaped);
        Some(true)
    }

    /// Four hexadecimal digits, or twice four for a character beyond the first 65 536; half of such a pair is U+FFFD.
    fn unicode(&mut self, out: &mut String) -> bool {
        let unit = |reader: &mut Self| {
            let digits = reader.rest().get(..4)?;
            let unit = u16::from_str_radix(digits, 16).ok()?;
            reader.at += 4;
            Some(unit)
        };
        let Some(first) = unit(self) else { return false };
        let mut units = vec![first];
        if (0xD800..0xDC00).contains(&first) && self.rest().starts_with("\\u") {
            self.at += 2;
            units.extend(unit(self));
        }
        let decoded: Vec<_> = char::decode_utf16(units).collect();
        out.extend(decoded.iter().map(|one| *one.as_ref().unwrap_or(&char::REPLACEMENT_CHARACTER)));
        decoded.iter().all(Result::is_ok)
    }

    /// A literal, a number, or words without quotes. `None` at the end of the text, where a number may go on.
    fn word(&mut self) -> Option<Value> {
        let rest = self.rest();
        let end = rest.find([',', '}', ']', '\n'])?;
        let whole = &rest[..end];
        let code = whole.find("//").map_or(whole, |comment| &whole[..comment]);
        let word = code.trim();
        self.at += code.trim_end().len();
        if word.is_empty() {
            return None;
        }
        if let Ok(value) = serde_json::from_str::<Value>(word) {
            return Some(value);
        }
        self.is_loose = true;
        Some(match word {
            "True" => Value::Bool(true),
            "False" => Value::Bool(false),
            "None" | "NaN" | "undefined" => Value::Null,
            words => Value::String(words.to_owned()),
        })
    }
}

fn closing_quote(open: char) -> Option<char> {
    match open {
        '"' | '\'' => Some(open),
        '“' => Some('”'),
        '‘' => Some('’'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::super::arbitrary::any_json;
    use super::*;

    fn object(text: &str) -> (Value, bool, bool) {
        let found = read_object(text, text.find('{').unwrap());
        for (_, _, place) in &found.entries {
            assert!(text.get(place.clone()).is_some());
        }
        let entries = found.entries.into_iter().map(|(key, value, _)| (key, value));
        (Value::Object(entries.collect()), found.is_loose, found.is_cut)
    }

    #[test]
    fn what_models_write_is_understood() {
        let cases = [
            (
                r#"{"a": 1, "b": [true, null, -1.5e3], "c": {}} rest"#,
                json!({"a": 1, "b": [true, null, -1500.0], "c": {}}),
                false,
                false,
            ),
            (r#"{"a": 1,}"#, json!({"a": 1}), true, false),
            (r#"{"a": [1, 2,],}"#, json!({"a": [1, 2]}), true, false),
            ("{'a': 'don't', \"b\": True}", json!({"a": "don't", "b": true}), true, false),
            (r#"{"a": "say "hi" now", "b": 2}"#, json!({"a": "say \"hi\" now", "b": 2}), true, false),
            ("{\"a\": \"x\ny\"}", json!({"a": "x\ny"}), true, false),
            ("{\"a\": \"x\" // why\n, /* b */ \"b\": 5 // five\n}", json!({"a": "x", "b": 5}), true, false),
            ("{a: good, b: 4/5, c: None}", json!({"a": "good", "b": "4/5", "c": null}), true, false),
            ("{\"a\": \"x\"\n\"b\": 1}", json!({"a": "x", "b": 1}), true, false),
            ("{“a”: “x”}", json!({"a": "x"}), true, false),
            (r#"{"a": "\ud83d\ude00\u00e9\q"}"#, json!({"a": "😀éq"}), true, false),
            (r#"{"a": 1, "b": "unfin"#, json!({"a": 1}), false, true),
            (r#"{"a": "x""#, json!({"a": "x"}), false, true),
            (r#"{"a": 1, "b": 4"#, json!({"a": 1}), false, true),
            (r#"{"a": 1, "b": {"c": 2"#, json!({"a": 1}), false, true),
            ("{", json!({}), false, true),
            ("{my answer}", json!({}), true, true),
        ];
        for (text, value, is_loose, is_cut) in cases {
            let (found, loose, cut) = object(text);
            assert_eq!((found, cut), (value, is_cut), "{text}");
            assert!(is_cut || loose == is_loose, "{text}");
        }
        let deep = "{\"a\":".repeat(100_000);
        assert_eq!(object(&deep), (json!({}), false, true));
        assert_eq!(read_value(" [1, 'a'] "), Some(json!([1, "a"])));
        assert_eq!(read_value("[1] x"), None);
    }

    proptest! {
        #[test]
        fn json_is_read_to_the_letter(value in any_json(), pretty in any::<bool>()) {
            let value = json!({"a": value});
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert_eq!(object(&text), (value, false, false));
        }

        #[test]
        fn no_text_panics(text in r#"[{}\[\]"':,\\/*a1 \nué“”-]{0,40}"#) {
            let text = format!("{{{text}");
            let _ = object(&text);
            let _ = read_value(&text[1..]);
        }
    }
}
