//! Who may use the server?

use std::num::NonZeroU32;

use vllm_batch_http::{ApiKey, KeyLimits};

use super::reader::{Reader, Table};
use super::values::{Bytes, Field};

const KEYS: &str = "auth.keys";
const WANTED: &str = "{ name = \"…\", sha256 = \"…\" } or \"NAME:SHA256\", with what `hash-key` prints";
const NAMES: [&str; 6] =
    ["name", "sha256", "requests_per_minute", "max_live_requests", "max_batches", "max_file_bytes"];

/// `[auth]`: who may ask, and how much.
#[derive(Debug, Clone)]
pub(crate) struct AuthConfig {
    /// Without keys, anybody may.
    pub(crate) keys: Vec<ApiKey>,
    /// What a caller may do whose key does not say.
    pub(crate) limits: KeyLimits,
}

impl AuthConfig {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut limits = KeyLimits::default();
        limits.requests_per_minute = reader.limit("auth.requests_per_minute").and_then(NonZeroU32::new);
        limits.max_live_requests = reader.limit("auth.max_live_requests");
        limits.max_batches = reader.limit("auth.max_batches");
        limits.max_file_bytes = reader.limit("auth.max_file_bytes").map(|Bytes(bytes)| bytes);
        Self { keys: read_keys(reader, limits), limits }
    }
}

fn read_keys(reader: &mut Reader, limits: KeyLimits) -> Vec<ApiKey> {
    let (mut keys, mut names, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for (index, table) in reader.tables(KEYS).into_iter().enumerate() {
        match Entry::read(table, limits) {
            Ok(entry) if hashes.contains(&entry.sha256) => {
                reader.problem(KEYS, format!("entry {index} is the key of an earlier one"));
            }
            Ok(entry) => {
                keys.push(entry.key);
                names.push(format!("{{ name = {}, sha256 = \"***\" }}", entry.name.to_toml()));
                hashes.push(entry.sha256);
            }
            Err(messages) => {
                for message in &messages {
                    reader.problem(KEYS, format!("entry {index}: {message}"));
                }
            }
        }
    }
    let source = reader.source_of(KEYS);
    reader.show(KEYS, Some(format!("[{}]", names.join(", "))), source);
    keys
}

/// One of the keys.
struct Entry {
    name: String,
    sha256: String,
    key: ApiKey,
}

impl Entry {
    /// # Errors
    /// All that is wrong with it. What stands in the place of the hash is not repeated: it may be the key itself.
    fn read(table: Table, defaults: KeyLimits) -> Result<Self, Vec<String>> {
        let pairs = match table {
            Table::Pairs(pairs) => pairs,
            Table::Text(text) => match text.split_once(':') {
                Some((name, sha256)) => vec![("name".into(), name.into()), ("sha256".into(), sha256.into())],
                None => return Err(vec![format!("it is no {WANTED}")]),
            },
            Table::Other(kind) => return Err(vec![format!("it is {kind} and no {WANTED}")]),
        };
        let unknown = pairs.iter().filter(|(name, _)| !NAMES.contains(&name.as_str()));
        let unknown = unknown.map(|(name, _)| format!("there is no {name:?}, only {}", NAMES.join(", ")));
        let mut fields = Fields { problems: unknown.collect(), pairs: &pairs };
        let limits = fields.limits(defaults);
        let name: String = fields.optional("name").unwrap_or_default();
        let sha256 = fields.optional::<String>("sha256").unwrap_or_default().to_lowercase();
        let mut problems = fields.problems;
        if name.is_empty() {
            problems.push("it has no name".to_owned());
        }
        let Some(key) = ApiKey::from_sha256(&name, &sha256) else {
            problems.push("sha256 must be 64 hexadecimal digits: `vllm_batch-http hash-key` makes them".to_owned());
            return Err(problems);
        };
        if problems.is_empty() { Ok(Self { name, sha256, key: key.with_limits(limits) }) } else { Err(problems) }
    }
}

/// What stands in a table.
struct Fields<'a> {
    pairs: &'a [(String, String)],
    problems: Vec<String>,
}

impl Fields<'_> {
    fn limits(&mut self, mut limits: KeyLimits) -> KeyLimits {
        let requests = self.limit("requests_per_minute").and_then(NonZeroU32::new);
        limits.requests_per_minute = requests.or(limits.requests_per_minute);
        limits.max_live_requests = self.limit("max_live_requests").or(limits.max_live_requests);
        limits.max_batches = self.limit("max_batches").or(limits.max_batches);
        let bytes = self.limit("max_file_bytes").map(|Bytes(bytes)| bytes);
        limits.max_file_bytes = bytes.or(limits.max_file_bytes);
        limits
    }

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
