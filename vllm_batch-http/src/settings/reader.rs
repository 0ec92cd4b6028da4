//! How is every setting read, and everything that is wrong told at once?

use std::fmt;
use std::ops::RangeInclusive;

use figment::value::Value;

use super::sources::Layers;
use super::values::{Bytes, Field, Secret, quoted};

/// Something wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The setting, or the file.
    pub(crate) key: String,
    /// Who gave it, if anybody did.
    pub(crate) source: Option<String>,
    /// What is wrong, and what is right.
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(formatter, "{} (from {source}): {}", self.key, self.message),
            None => write!(formatter, "{}: {}", self.key, self.message),
        }
    }
}

/// A setting as it is in force.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) key: String,
    /// As TOML; `None` if it is not set.
    pub(super) shown: Option<String>,
    pub(super) source: Option<String>,
}

/// Reads settings by their keys, and gathers what is wrong with them.
pub(super) struct Reader {
    layers: Layers,
    settings: Vec<Setting>,
    problems: Vec<Problem>,
}

impl Reader {
    pub(super) fn new(layers: Layers) -> Self {
        let broken = layers.broken_file.clone().map(|(key, message)| Problem { key, source: None, message });
        Self { layers, settings: Vec::new(), problems: broken.into_iter().collect() }
    }

    /// A setting, or its default.
    pub(super) fn get<T: Field>(&mut self, key: &str, default: T) -> T {
        let (value, source) = self.value(key);
        let shown = value.as_ref().unwrap_or(&default).to_toml();
        self.show(key, Some(shown), source);
        value.unwrap_or(default)
    }

    /// A setting that need not be there.
    pub(super) fn optional<T: Field>(&mut self, key: &str) -> Option<T> {
        let (value, source) = self.value(key);
        self.show(key, value.as_ref().map(T::to_toml), source);
        value
    }

    /// A number that must be in a range.
    pub(super) fn within(&mut self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let value = self.get(key, default);
        let message = format!("{value} is outside its range, {} to {}", range.start(), range.end());
        self.check(key, range.contains(&value), &message);
        value
    }

    /// A number that need not be there, and must not be zero.
    pub(super) fn limit<T: Field + Default + PartialEq>(&mut self, key: &str) -> Option<T> {
        let value = self.optional(key);
        self.check(key, value != Some(T::default()), "0 would let nothing through: leave it out for no limit");
        value
    }

    /// A size that must not be zero.
    pub(super) fn size(&mut self, key: &str, default: u64) -> u64 {
        let Bytes(value) = self.get(key, Bytes(default));
        self.check(key, value > 0, "it must not be 0");
        value
    }

    /// Several values: an array, or one text with commas.
    pub(super) fn list<T: Field + Clone>(&mut self, key: &str, default: &[T]) -> Vec<T> {
        let (texts, source) = self.texts(key);
        let mut values = if texts.is_none() { default.to_vec() } else { Vec::new() };
        for text in texts.unwrap_or_default() {
            match T::parse(&text) {
                Ok(value) => values.push(value),
                Err(message) => self.problem(key, message),
            }
        }
        let shown = values.iter().map(T::to_toml).collect::<Vec<_>>().join(", ");
        self.show(key, Some(format!("[{shown}]")), source);
        values
    }

    /// A secret, as it is or in the file that `KEY_file` names.
    pub(super) fn secret(&mut self, key: &str) -> Option<Secret> {
        let file_key = format!("{key}_file");
        let given = self.optional::<Secret>(key);
        let Some(file) = self.optional::<std::path::PathBuf>(&file_key) else { return given };
        self.check(&file_key, given.is_none(), &format!("{key} is given, too: give one of them"));
        match std::fs::read_to_string(&file).map(|text| Secret::parse(text.trim())) {
            Ok(Ok(secret)) => given.or(Some(secret)),
            Ok(Err(message)) => self.refuse(&file_key, message),
            Err(error) => self.refuse(&file_key, format!("{}: {error}", file.display())),
        }
    }

    /// The texts of a setting and who gave it, without showing it.
    pub(super) fn texts(&mut self, key: &str) -> (Option<Vec<String>>, Option<String>) {
        let Some(value) = self.layers.root.find_ref(key).cloned() else { return (None, None) };
        let source = Some(self.layers.source(value.tag()));
        let texts = match &value {
            Value::Array(_, values) => values.iter().map(text).collect(),
            value => text(value).map(|text| {
                let parts = text.split(',').map(|part| part.trim().to_owned());
                parts.filter(|part| !part.is_empty()).collect()
            }),
        };
        if texts.is_none() {
            self.problem(key, format!("it is {}, and texts are wanted", kind(&value)));
        }
        (texts, source)
    }

    /// The tables of an array of tables; each entry is the tables' keys and texts, or one text.
    pub(super) fn tables(&mut self, key: &str) -> Vec<Table> {
        let Some(value) = self.layers.root.find_ref(key).cloned() else { return Vec::new() };
        match value {
            Value::Array(_, values) => values.iter().map(Table::of).collect(),
            Value::String(_, text) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                parts.map(|part| Table::Text(part.to_owned())).collect()
            }
            other => {
                self.problem(key, format!("it is {}, and an array of tables is wanted", kind(&other)));
                Vec::new()
            }
        }
    }

    /// Notes a problem unless something is right.
    pub(super) fn check(&mut self, key: &str, is_right: bool, message: &str) {
        if !is_right {
            self.problem(key, message);
        }
    }

    /// Notes a problem with a setting.
    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        let source = self.source_of(key);
        self.problems.push(Problem { key: key.to_owned(), source, message: message.into() });
    }

    /// Makes a setting known, and tells how it is shown.
    pub(super) fn show(&mut self, key: &str, shown: Option<String>, source: Option<String>) {
        self.settings.push(Setting { key: key.to_owned(), shown, source });
    }

    /// Whether anybody gave a setting.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.layers.root.find_ref(key).is_some()
    }

    /// Who gave a setting, if anybody did.
    pub(super) fn source_of(&self, key: &str) -> Option<String> {
        self.layers.root.find_ref(key).map(|value| self.layers.source(value.tag()))
    }

    /// All settings, or all problems: those of settings that nobody asked for come last.
    pub(super) fn finish(mut self) -> Result<Vec<Setting>, Vec<Problem>> {
        let root = self.layers.root.clone();
        self.find_unknown("", &root);
        if self.problems.is_empty() { Ok(self.settings) } else { Err(self.problems) }
    }

    /// Notes a problem with a setting, which has no value then.
    pub(super) fn refuse<T>(&mut self, key: &str, message: impl Into<String>) -> Option<T> {
        self.problem(key, message);
        None
    }

    fn value<T: Field>(&mut self, key: &str) -> (Option<T>, Option<String>) {
        let Some(value) = self.layers.root.find_ref(key).cloned() else { return (None, None) };
        let source = Some(self.layers.source(value.tag()));
        let parsed = text(&value).ok_or_else(|| format!("it is {}, and one value is wanted", kind(&value)));
        match parsed.and_then(|text| T::parse(&text)) {
            Ok(value) => (Some(value), source),
            Err(message) => (self.refuse(key, message), source),
        }
    }

    /// Everything below a key that no setting has.
    fn find_unknown(&mut self, key: &str, value: &Value) {
        if self.settings.iter().any(|setting| setting.key == key) {
            return;
        }
        if let Some(entries) = value.as_dict() {
            for (name, value) in entries {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                self.find_unknown(&key, value);
            }
        } else if self.settings.iter().any(|setting| is_below(&setting.key, key)) {
            self.problem(key, format!("it is a section, as [{key}] in a file, and no value"));
        } else {
            let meant = self.nearest(key).map(|known| format!("; did you mean {known}?")).unwrap_or_default();
            self.problem(key, format!("there is no such setting{meant}"));
        }
    }

    /// The known key that is most like this one: of the same name in another section, or written alike.
    fn nearest(&self, key: &str) -> Option<&str> {
        const ALIKE: f64 = 0.8;
        let name = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let likeness = |known: &str| {
            let by_name = strsim::jaro_winkler(&name(known), &name(key));
            strsim::jaro_winkler(known, key).max(by_name)
        };
        let known = self.settings.iter().map(|setting| (likeness(&setting.key), setting.key.as_str()));
        known.filter(|(alike, _)| *alike > ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, key)| key)
    }
}

/// An entry of an array of tables.
pub(super) enum Table {
    /// Keys and their texts.
    Pairs(Vec<(String, String)>),
    /// One text for all of it.
    Text(String),
    /// Neither.
    Other(&'static str),
}

impl Table {
    fn of(value: &Value) -> Self {
        match value {
            Value::Dict(_, entries) => {
                let pair = |(key, value): (&String, &Value)| Some((key.clone(), text(value)?));
                entries.iter().map(pair).collect::<Option<_>>().map_or(Self::Other("a table of tables"), Self::Pairs)
            }
            value => text(value).map_or_else(|| Self::Other(kind(value)), Self::Text),
        }
    }
}

/// Texts as TOML.
pub(super) fn array(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

fn is_below(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

/// A value that stands in a file or comes from outside as it would be written outside.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, char) => Some(char.to_string()),
        Value::Bool(_, is) => Some(is.to_string()),
        Value::Num(_, number) => number
            .to_i128()
            .map(|number| number.to_string())
            .or_else(|| number.to_u128().map(|number| number.to_string()))
            .or_else(|| number.to_f64().map(|number| number.to_string())),
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Dict(..) => "a section",
        Value::Array(..) => "an array",
        Value::Empty(..) => "nothing",
        Value::String(..) | Value::Char(..) | Value::Bool(..) | Value::Num(..) => "one value",
    }
}
