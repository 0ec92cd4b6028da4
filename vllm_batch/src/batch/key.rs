//! Which work is a row the result of?
//!
//! A row's id is `batch_req_` (with vLLM `vllm-`) and 32 hexadecimal digits of a SHA-256 over everything that decides the answer. Equal ids
//! mean equal work, so that a resumed run can tell what is done from what has changed.

use std::fmt;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::contract::Shape;
use super::params::inert_names;

/// Takes part in every key: to be raised when the meaning of a line changes.
const VERSION: &str = "vllm_batch row 1";

/// 128 bits that identify one piece of work.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowKey([u8; 16]);

impl RowKey {
    /// Stands for no work at all: a blank line.
    pub(super) const NONE: Self = Self([0; 16]);

    /// The digest of a `custom_id`, to find duplicates.
    pub(super) fn of_name(custom_id: &str) -> Self {
        digest(Sha256::new(), &[custom_id.as_bytes()])
    }

    /// The key in the `id` of a row.
    pub(super) fn from_row_id(id: &str, shape: Shape) -> Option<Self> {
        let digits = id.strip_prefix(shape.id_prefix()).filter(|digits| digits.len() == 32)?;
        let number = u128::from_str_radix(digits, 16).ok()?;
        Some(Self(number.to_be_bytes()))
    }

    /// The `id` of the row in `OpenAI`'s shape.
    pub(super) fn row_id(self) -> String {
        format!("{}{self}", Shape::OpenAi.id_prefix())
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for RowKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Says of two rows whether they have the same answer, whatever they are called: 64 bits of a SHA-256. Among a million rows,
/// two agree by chance once in ten million files, and then their prompts would have to begin alike, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WorkTag(u64);

impl WorkTag {
    /// Stands for an answer that no other row has.
    pub(super) const NONE: Self = Self(0);

    fn of(state: Sha256) -> Self {
        let digest: [u8; 32] = state.finalize().into();
        Self(digest.iter().take(8).fold(0, |tag, byte| tag << 8 | u64::from(*byte)))
    }
}

/// Makes keys for one engine revision.
#[derive(Clone)]
pub(super) struct Keyer {
    base: Sha256,
    /// Parameters that change no answer.
    inert: Vec<&'static str>,
    canonical: Vec<u8>,
}

impl Keyer {
    pub(super) fn new(revision: &str) -> Self {
        let mut base = Sha256::new();
        absorb(&mut base, &[VERSION.as_bytes(), revision.as_bytes()]);
        Self { base, inert: inert_names().collect(), canonical: Vec::new() }
    }

    /// The key of a request, and the tag of its work. Neither the order of the body's keys nor white space between them
    /// matters.
    pub(super) fn request(&mut self, custom_id: &str, url: &str, body: &Map<String, Value>) -> (RowKey, WorkTag) {
        self.canonical.clear();
        self.canonical.shrink_to(1 << 20);
        self.canonical.push(b'{');
        let mut work = self.base.clone();
        absorb(&mut work, &[b"work", url.as_bytes()]);
        for (name, value) in sorted(body) {
            let start = self.canonical.len();
            write_entry(name, value, &mut self.canonical);
            if !value.is_null() && !self.inert.contains(&name.as_str()) {
                work.update(&self.canonical[start..]);
            }
        }
        self.canonical.push(b'}');
        let key = digest(self.base.clone(), &[b"request", custom_id.as_bytes(), url.as_bytes(), &self.canonical]);
        (key, WorkTag::of(work))
    }

    /// The key of a line that holds no request.
    pub(super) fn raw_line(&self, number: u64, content: &[u8]) -> RowKey {
        digest(self.base.clone(), &[b"line", &number.to_le_bytes(), content])
    }

    /// The key of work that was refused. It depends on the reason, so that a row that was refused for a reason that no
    /// longer holds (a model that is served now, say) counts as changed.
    pub(super) fn refused(&self, key: RowKey, code: &str, message: &str) -> RowKey {
        digest(self.base.clone(), &[b"refused", &key.0, code.as_bytes(), message.as_bytes()])
    }
}

impl fmt::Debug for Keyer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keyer").finish_non_exhaustive()
    }
}

fn digest(mut state: Sha256, fields: &[&[u8]]) -> RowKey {
    absorb(&mut state, fields);
    let digest = state.finalize();
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    RowKey(key)
}

/// Each field goes in with its length, so that no two lists of fields look the same.
fn absorb(state: &mut Sha256, fields: &[&[u8]]) {
    for field in fields {
        state.update((field.len() as u64).to_le_bytes());
        state.update(field);
    }
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(object) => write_object(object, out),
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                write_value(item, out);
                out.push(b',');
            }
            out.push(b']');
        }
        scalar => write_scalar(scalar, out),
    }
}

/// The keys are sorted here: whether `serde_json` sorts them depends on features that other crates switch on.
fn write_object(object: &Map<String, Value>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (name, value) in sorted(object) {
        write_entry(name, value, out);
    }
    out.push(b'}');
}

fn sorted(object: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = object.iter().collect();
    entries.sort_unstable_by_key(|(name, _)| *name);
    entries
}

fn write_entry(name: &str, value: &Value, out: &mut Vec<u8>) {
    write_scalar(name, out);
    out.push(b':');
    write_value(value, out);
    out.push(b',');
}

fn write_scalar<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("strings and numbers can be written to memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).expect("the test's body is an object")
    }

    #[test]
    fn layout_does_not_matter_and_content_does() {
        let key = |custom_id: &str, url: &str, text: &str, revision: &str| {
            Keyer::new(revision).request(custom_id, url, &body(text)).0
        };
        let first = key("a", "/u", r#"{"a":[1,{"x":"é","y":null}],"b":0.5}"#, "r");
        assert_eq!(first, key("a", "/u", r#" { "b" : 5e-1, "a":[ 1, {"y":null,"x":"\u00e9"}] } "#, "r"));
        let others = [
            key("b", "/u", r#"{"a":[1,{"x":"é","y":null}],"b":0.5}"#, "r"),
            key("a", "/v", r#"{"a":[1,{"x":"é","y":null}],"b":0.5}"#, "r"),
            key("a", "/u", r#"{"a":[1,{"x":"é","y":null}],"b":0.25}"#, "r"),
            key("a", "/u", r#"{"a":[1,{"x":"e","y":null}],"b":0.5}"#, "r"),
            key("a", "/u", r#"{"a":[{"x":"é","y":null},1],"b":0.5}"#, "r"),
            key("a", "/u", r#"{"a":[1,{"x":"é","y":null}],"b":0.5}"#, "s"),
            key("a/", "u", r#"{"a":[1,{"x":"é","y":null}],"b":0.5}"#, "r"),
        ];
        for other in others {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn the_same_work_is_what_has_the_same_answer() {
        let tag = |custom_id: &str, url: &str, text: &str, revision: &str| {
            Keyer::new(revision).request(custom_id, url, &body(text)).1
        };
        let first = tag("a", "/u", r#"{"a":[1],"b":{"user":"x"}}"#, "r");
        let inert =
            r#"{"user":"u","b":{"user":"x"},"metadata":{"k":"v"},"priority":7,"seed":null,"a":[1],"store":true}"#;
        assert_eq!([tag("b", "/u", r#"{"b":{"user":"x"},"a":[1]}"#, "r"), tag("c", "/u", inert, "r")], [first; 2]);
        let others = [
            tag("a", "/v", r#"{"a":[1],"b":{"user":"x"}}"#, "r"),
            tag("a", "/u", r#"{"a":[1],"b":{"user":"y"}}"#, "r"),
            tag("a", "/u", r#"{"a":[1],"b":{"user":"x"},"seed":1}"#, "r"),
            tag("a", "/u", r#"{"a":[1]}"#, "r"),
            tag("a", "/u", r#"{"a":[1],"b":{"user":"x"}}"#, "s"),
            WorkTag::NONE,
        ];
        assert!(!others.contains(&first));
    }

    #[test]
    fn lines_and_refusals_have_keys_of_their_own() {
        let keyer = Keyer::new("r");
        let line = keyer.raw_line(1, b"x");
        let refused = keyer.refused(line, "c", "m");
        let all = [
            line,
            keyer.raw_line(2, b"x"),
            keyer.raw_line(1, b"y"),
            refused,
            keyer.refused(line, "c", "n"),
            keyer.refused(line, "d", "m"),
            RowKey::of_name("x"),
            RowKey::NONE,
        ];
        for (index, key) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other == key), Some(index));
        }
    }

    #[test]
    fn ids_are_stable_and_round_trip() {
        let (key, _) = Keyer::new("r").request("a", "/v1/completions", &body(r#"{"prompt":"x"}"#));
        assert_eq!(RowKey::from_row_id(&key.row_id(), Shape::OpenAi), Some(key));
        assert_eq!(
            key.row_id(),
            "batch_req_3b78483226cdbce4cb57383369cd67cb",
            "a change here makes every existing output file stale"
        );
        assert_eq!(RowKey::from_row_id(&format!("vllm-{key}"), Shape::Vllm), Some(key));
        assert_eq!(RowKey::from_row_id(&key.row_id(), Shape::Vllm), None);
        for id in ["", "batch_req_", "batch_req_0", "batch_req_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", "vllm-0"] {
            assert_eq!(RowKey::from_row_id(id, Shape::OpenAi), None, "{id}");
        }
    }
}
