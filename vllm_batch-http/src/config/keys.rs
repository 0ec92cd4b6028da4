//! Who may use the server?

use super::reader::{Reader, Table};
use super::values::Field;

/// An API key: what is kept of it, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// Whose files and batches are made with it.
    pub(crate) name: String,
    /// The SHA-256 of the key, as 64 hexadecimal digits.
    pub(crate) sha256: String,
    /// Requests a minute; none for no limit.
    pub(crate) requests_per_minute: Option<u32>,
    /// Live requests at a time; none for no limit.
    pub(crate) max_live_requests: Option<u32>,
    /// Batches that have not ended; none for no limit.
    pub(crate) max_batches: Option<u64>,
    /// The longest file; none for the server's own limit.
    pub(crate) max_file_bytes: Option<u64>,
}

const KEY: &str = "auth.keys";
const WANTED: &str = "{ name = \"…\", sha256 = \"…\" } or \"NAME:SHA256\", with what `hash-key` prints";
const NAMES: [&str; 6] =
    ["name", "sha256", "requests_per_minute", "max_live_requests", "max_batches", "max_file_bytes"];

impl Key {
    /// Reads `auth.keys`.
    pub(super) fn read_all(reader: &mut Reader) -> Vec<Self> {
        let tables = reader.tables(KEY);
        let mut keys: Vec<Self> = Vec::new();
        for (index, table) in tables.into_iter().enumerate() {
            match Self::read(table) {
                Ok(key) if keys.iter().any(|other| other.name == key.name || other.sha256 == key.sha256) => {
                    reader.problem(KEY, format!("entry {index} has the name or the hash of an earlier one"));
                }
                Ok(key) => keys.push(key),
                Err(messages) => {
                    messages.iter().for_each(|message| reader.problem(KEY, format!("entry {index}: {message}")));
                }
            }
        }
        let shown = keys.iter().map(|key| format!("{{ name = {}, sha256 = \"***\" }}", key.name.to_toml()));
        let shown = format!("[{}]", shown.collect::<Vec<_>>().join(", "));
        let source = reader.source_of(KEY);
        reader.show(KEY, Some(shown), source);
        keys
    }

    /// One entry.
    ///
    /// # Errors
    /// All that is wrong with it. The hash is not repeated: it may be the key itself.
    fn read(table: Table) -> Result<Self, Vec<String>> {
        let pairs = match table {
            Table::Pairs(pairs) => pairs,
            Table::Text(text) => match text.split_once(':') {
                Some((name, sha256)) => vec![("name".into(), name.into()), ("sha256".into(), sha256.into())],
                None => return Err(vec![format!("it is no {WANTED}")]),
            },
            Table::Other(kind) => return Err(vec![format!("it is {kind} and no {WANTED}")]),
        };
        let unknown = pairs.iter().filter(|(name, _)| !NAMES.contains(&name.as_str()));
        let mut problems: Vec<String> =
            unknown.map(|(name, _)| format!("there is no {name:?}, only {}", NAMES.join(", "))).collect();
        let mut entry = Entry { pairs: &pairs, problems: &mut problems };
        let key = Self {
            name: entry.optional("name").unwrap_or_default(),
            sha256: entry.optional::<String>("sha256").unwrap_or_default().to_lowercase(),
            requests_per_minute: entry.limit("requests_per_minute"),
            max_live_requests: entry.limit("max_live_requests"),
            max_batches: entry.limit("max_batches"),
            max_file_bytes: entry.optional("max_file_bytes").map(|super::values::Bytes(bytes)| bytes),
        };
        if key.name.is_empty() {
            problems.push("it has no name".to_owned());
        }
        if key.sha256.len() != 64 || !key.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            problems.push("sha256 must have 64 hexadecimal digits: `vllm_batch-http hash-key` makes them of a key".to_owned());
        }
        if problems.is_empty() { Ok(key) } else { Err(problems) }
    }
}

/// The pairs of one key.
struct Entry<'a> {
    pairs: &'a [(String, String)],
    problems: &'a mut Vec<String>,
}

impl Entry<'_> {
    fn optional<T: Field>(&mut self, name: &str) -> Option<T> {
        let (_, text) = self.pairs.iter().find(|(other, _)| other == name)?;
        T::parse(text).map_err(|message| self.problems.push(format!("{name}: {message}"))).ok()
    }

    fn limit<T: Field + Default + PartialEq>(&mut self, name: &str) -> Option<T> {
        let limit = self.optional(name)?;
        if limit == T::default() {
            self.problems.push(format!("{name}: 0 would let nothing through: leave it out for no limit"));
        }
        Some(limit)
    }
}
