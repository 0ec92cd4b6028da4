//! How do models write calls of functions?

use std::{borrow::Cow, fmt, str::FromStr};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::LoadError;

type Text = Cow<'static, str>;

/// How a model writes its calls: what stands before, between and after them, each of them being
/// `{"name": …, "arguments": …}`. Texts that are special tokens of the model are written as such.
///
/// # Example
/// ```
/// use vllm_batch::text::{ToolCallFormat, WrittenCall};
///
/// let hermes: ToolCallFormat = "hermes".parse()?;
/// let answer = "Let me see.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\":\"Paris\"}}\n</tool_call>";
/// let expected = vec![WrittenCall::new("get_weather", r#"{"city":"Paris"}"#)];
/// assert_eq!(hermes.parse(answer), Some(("Let me see.\n", expected)));
/// # Ok::<(), vllm_batch::LoadError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ToolCallFormat {
    /// vLLM's name for it.
    pub name: Text,
    /// Where this comes up in an answer, calls begin: the beginning of [`open`](Self::open) or, if that is empty, of a call.
    pub marker: Text,
    /// Whether calls begin at the beginning of the answer or not at all.
    pub is_anchored: bool,
    /// May stand before everything else, and says nothing.
    pub lead: Text,
    /// Stands before the first call.
    pub open: Text,
    /// Stands between two calls.
    pub between: Text,
    /// Stands after the last call.
    pub close: Text,
    /// What the arguments are called in a call.
    pub arguments_key: Text,
    /// How calls are named.
    pub ids: CallIds,
}

/// How the ids of calls look: letters and digits after a prefix. Templates may insist on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CallIds {
    /// Stands before.
    pub prefix: Text,
    /// The number of letters and digits, at most 32.
    pub len: usize,
}

/// What ids are made of.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl CallIds {
    /// The id of a call: the same for the same `key`, which names the request and what it was asked, and the same places of
    /// the answer and of the call in it.
    #[must_use]
    pub fn id(&self, key: &[u8], answer: usize, call: usize) -> String {
        let mut hash = Sha256::new();
        hash.update((answer as u64).to_le_bytes());
        hash.update((call as u64).to_le_bytes());
        hash.update(key);
        let letters =
            hash.finalize().into_iter().take(self.len).map(|byte| char::from(ALPHABET[usize::from(byte) % 62]));
        letters.fold(self.prefix.to_string(), |mut id, letter| {
            id.push(letter);
            id
        })
    }
}

/// `OpenAI`'s ids.
const OPENAI_IDS: CallIds = CallIds { prefix: Cow::Borrowed("call_"), len: 24 };

const HERMES: ToolCallFormat = ToolCallFormat {
    name: Cow::Borrowed("hermes"),
    marker: Cow::Borrowed("<tool_call>"),
    is_anchored: false,
    lead: Cow::Borrowed(""),
    open: Cow::Borrowed("<tool_call>\n"),
    between: Cow::Borrowed("\n</tool_call>\n<tool_call>\n"),
    close: Cow::Borrowed("\n</tool_call>"),
    arguments_key: Cow::Borrowed("arguments"),
    ids: OPENAI_IDS,
};

const LLAMA3_JSON: ToolCallFormat = ToolCallFormat {
    name: Cow::Borrowed("llama3_json"),
    marker: Cow::Borrowed("{\"name\""),
    is_anchored: true,
    lead: Cow::Borrowed("<|python_tag|>"),
    open: Cow::Borrowed(""),
    between: Cow::Borrowed("; "),
    close: Cow::Borrowed(""),
    arguments_key: Cow::Borrowed("parameters"),
    ids: OPENAI_IDS,
};

/// The templates of these models want ids of nine letters and digits.
const MISTRAL: ToolCallFormat = ToolCallFormat {
    name: Cow::Borrowed("mistral"),
    marker: Cow::Borrowed("[TOOL_CALLS]"),
    is_anchored: false,
    lead: Cow::Borrowed(""),
    open: Cow::Borrowed("[TOOL_CALLS]["),
    between: Cow::Borrowed(", "),
    close: Cow::Borrowed("]"),
    arguments_key: Cow::Borrowed("arguments"),
    ids: CallIds { prefix: Cow::Borrowed(""), len: 9 },
};

/// A call in the text of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrittenCall {
    /// The function.
    pub name: String,
    /// The compact JSON of its arguments, an object.
    pub arguments: String,
}

impl WrittenCall {
    /// A call of its parts.
    pub fn new(name: impl Into<String>, arguments: impl Into<String>) -> Self {
        Self { name: name.into(), arguments: arguments.into() }
    }
}

impl ToolCallFormat {
    /// The formats that have names of vLLM's.
    pub const BUILT_IN: [Self; 3] = [HERMES, LLAMA3_JSON, MISTRAL];

    /// The format of `NousResearch`'s Hermes, and of Qwen: each call in a `<tool_call>` element.
    #[must_use]
    pub const fn hermes() -> Self {
        HERMES
    }

    /// The format of Llama 3.1 and 3.2: nothing but calls, with `parameters`.
    #[must_use]
    pub const fn llama3_json() -> Self {
        LLAMA3_JSON
    }

    /// The format of Mistral: `[TOOL_CALLS]` and one list.
    #[must_use]
    pub const fn mistral() -> Self {
        MISTRAL
    }

    /// The format that a chat template teaches; `None` if it is another one.
    ///
    /// A template that does not know of tools at all is given [`hermes`](Self::hermes).
    #[must_use]
    pub fn detect(template: &str) -> Option<Self> {
        if template.contains("[TOOL_CALLS]") {
            return Some(MISTRAL);
        }
        if template.contains("<tool_call>") {
            // Some put other things than JSON into the same element.
            return (!template.contains("<function=") && !template.contains("<arg_key>")).then_some(HERMES);
        }
        if template.contains("\"parameters\": dictionary of argument name") || template.contains("<|python_tag|>") {
            return Some(LLAMA3_JSON);
        }
        (!mentions_tools(template)).then_some(HERMES)
    }

    /// Takes an answer apart: what was said before the calls, and the calls. `None` if there is no call, or if what begins
    /// as one is not whole.
    #[must_use]
    pub fn parse<'a>(&self, answer: &'a str) -> Option<(&'a str, Vec<WrittenCall>)> {
        let start = if self.is_anchored {
            let bare = answer.trim_start();
            let bare = bare.strip_prefix(&*self.lead).unwrap_or(bare).trim_start();
            bare.starts_with(&*self.marker).then_some(answer.len() - bare.len())?
        } else {
            answer.find(&*self.marker)?
        };
        let calls = self.parse_calls(&answer[start..])?;
        Some((if self.is_anchored { "" } else { &answer[..start] }, calls))
    }

    /// A call as the model writes it, from the beginning to before its arguments.
    pub(crate) fn before_arguments(&self, name: &str) -> String {
        format!("{{\"name\": {}, \"{}\": ", Value::from(name), self.arguments_key)
    }

    /// What stands between the marker and the first call; `None` if the marker is part of the call.
    pub(crate) fn after_marker(&self) -> Option<&str> {
        self.open.strip_prefix(&*self.marker)
    }

    /// The calls in a text that begins with the marker.
    fn parse_calls(&self, text: &str) -> Option<Vec<WrittenCall>> {
        let mut rest = match self.after_marker() {
            Some(opening) => strip(&text[self.marker.len()..], opening)?,
            None => text,
        };
        let mut calls = Vec::new();
        loop {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
            calls.push(self.parse_call(&values.next()?.ok()?)?);
            rest = &rest[values.byte_offset()..];
            match strip(rest, &self.between) {
                Some(next) => rest = next,
                None => return strip(rest, &self.close)?.trim().is_empty().then_some(calls),
            }
        }
    }

    fn parse_call(&self, value: &Value) -> Option<WrittenCall> {
        let arguments = value.get(&*self.arguments_key).filter(|arguments| arguments.is_object())?;
        Some(WrittenCall::new(value.get("name")?.as_str()?, arguments.to_string()))
    }
}

/// The value of an engine's option that has this name.
pub(super) fn built_in<T, const N: usize>(
    option: &'static str,
    name: &str,
    all: [(Text, T); N],
) -> Result<T, LoadError> {
    let names = all.each_ref().map(|(name, _)| &**name).join(", ");
    let found = all.into_iter().find(|(other, _)| other == name);
    let missing = || LoadError::InvalidOption { option, message: format!("there is no `{name}`, only {names}") };
    found.map(|(_, value)| value).ok_or_else(missing)
}

/// Whether a template looks at the tools of a request.
pub(super) fn mentions_tools(template: &str) -> bool {
    template.contains("tools")
}

/// The text after a literal; white space around the two does not matter.
fn strip<'a>(text: &'a str, literal: &str) -> Option<&'a str> {
    text.trim_start().strip_prefix(literal.trim())
}

impl FromStr for ToolCallFormat {
    type Err = LoadError;

    /// The built-in format of this name.
    fn from_str(name: &str) -> Result<Self, LoadError> {
        built_in("tool_call_parser", name, Self::BUILT_IN.map(|format| (format.name.clone(), format)))
    }
}

impl fmt::Display for ToolCallFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls of `a` and `b` as a format writes them.
    fn written(format: &ToolCallFormat, names: &[&str]) -> String {
        let call = |name: &&str| format.before_arguments(name) + r#"{"x":[1,"é; \n"]}}"#;
        let calls: Vec<String> = names.iter().map(call).collect();
        [&format.open, calls.join(&format.between).as_str(), &format.close].concat()
    }

    #[test]
    fn what_is_written_can_be_read() {
        let call = |name: &str| WrittenCall::new(name, r#"{"x":[1,"é; \n"]}"#);
        for format in ToolCallFormat::BUILT_IN {
            let two = written(&format, &["a", "b"]);
            assert_eq!(format.parse(&two), Some(("", vec![call("a"), call("b")])), "{two}");
            let one = written(&format, &["a"]);
            assert_eq!(format.parse(&format!("{one}\n")), Some(("", vec![call("a")])), "{one}");
            let expected = (!format.is_anchored).then(|| ("Well:\n", vec![call("a")]));
            assert_eq!(format.parse(&format!("Well:\n{one}")), expected, "{format}");
            for end in (0..one.len()).filter(|end| one.is_char_boundary(*end)) {
                let is_whole = one[end..].trim().is_empty();
                assert_eq!(format.parse(&one[..end]).is_some(), is_whole, "{}", &one[..end]);
            }
            assert_eq!(format.parse("no call"), None);
            assert_eq!(format.name.parse::<ToolCallFormat>().unwrap(), format);
        }
    }

    #[test]
    fn spellings_of_models_are_read() {
        let call = || vec![WrittenCall::new("f", r#"{"a":1}"#)];
        let cases = [
            ("hermes", "<tool_call>{\"arguments\":{\"a\": 1}, \"name\": \"f\"}</tool_call>", Some(("", call()))),
            ("hermes", "<tool_call>\n{\"name\": \"f\", \"arguments\": 1}\n</tool_call>", None),
            ("hermes", "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call> and more", None),
            ("mistral", "So: [TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": 1}}]", Some(("So: ", call()))),
            ("llama3_json", "\n<|python_tag|>{\"name\": \"f\", \"parameters\": {\"a\": 1}}", Some(("", call()))),
            ("llama3_json", "{\"names\": []}", None),
        ];
        for (name, answer, expected) in cases {
            assert_eq!(name.parse::<ToolCallFormat>().unwrap().parse(answer), expected, "{answer}");
        }
    }

    #[test]
    fn ids_are_unique_and_stable() {
        let ids = ToolCallFormat::hermes().ids;
        let keys: [&[u8]; 2] = [b"a", b"b"];
        let all = keys.map(|key| [ids.id(key, 0, 0), ids.id(key, 0, 1), ids.id(key, 1, 0)]).concat();
        assert_eq!(all[0], "call_WjRI5m40ulpMJg7zGubsL0Bx");
        assert!(all.iter().enumerate().all(|(index, id)| id.len() == 29 && !all[..index].contains(id)), "{all:?}");
        let short = ToolCallFormat::mistral().ids.id(b"a", 0, 0);
        assert!(short.len() == 9 && short.chars().all(|c| c.is_ascii_alphanumeric()), "{short}");
    }

    #[test]
    fn formats_are_told_by_their_templates() {
        let cases = [
            ("{% if tools %}<tool_call>{% endif %}", Some("hermes")),
            ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]", Some("mistral")),
            (
                "{% if tools %}{\"name\": function name, \"parameters\": dictionary of argument name and its value}",
                Some("llama3_json"),
            ),
            ("{% if tools %}<tool_call>\n<function=f>{% endif %}", None),
            ("{% if tools %}<|tool_calls_begin|>{% endif %}", None),
            ("{{ messages }}", Some("hermes")),
        ];
        for (template, expected) in cases {
            assert_eq!(ToolCallFormat::detect(template).map(|format| format.name).as_deref(), expected, "{template}");
        }
        assert_eq!("pythonic".parse::<ToolCallFormat>().unwrap_err().code(), "invalid_option");
    }
}
