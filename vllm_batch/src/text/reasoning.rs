//! Where do a model's thoughts end, and where does its answer begin?

use std::{borrow::Cow, fmt, str::FromStr};

use super::tool_calls::built_in;
use crate::error::LoadError;

type Text = Cow<'static, str>;

/// How a model marks what it says to itself.
///
/// # Example
/// ```
/// use vllm_batch::text::ReasoningFormat;
///
/// let format: ReasoningFormat = "qwen3".parse()?;
/// assert_eq!(format.split("<think>\nEasy.\n</think>\n\n4"), (Some("\nEasy.\n"), "\n\n4"));
/// assert_eq!(format.split("Still thinking"), (Some("Still thinking"), ""));
/// # Ok::<(), vllm_batch::LoadError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ReasoningFormat {
    /// vLLM's name for it.
    pub name: Text,
    /// Stands before the thoughts; it may be part of the prompt.
    pub start: Text,
    /// Stands after them.
    pub end: Text,
}

const fn format(name: &'static str, start: &'static str, end: &'static str) -> ReasoningFormat {
    ReasoningFormat { name: Cow::Borrowed(name), start: Cow::Borrowed(start), end: Cow::Borrowed(end) }
}

impl ReasoningFormat {
    /// The formats that have names of vLLM's.
    pub const BUILT_IN: [Self; 3] = [
        format("qwen3", "<think>", "</think>"),
        format("deepseek_r1", "<think>", "</think>"),
        format("mistral", "[THINK]", "[/THINK]"),
    ];

    /// Thoughts and answer of a text that begins with thoughts, marked or not. Without an end mark all of it is thoughts, as
    /// in vLLM. A start mark further on is part of what is said or thought.
    #[must_use]
    pub fn split<'a>(&self, text: &'a str) -> (Option<&'a str>, &'a str) {
        let inner = text.trim_start().strip_prefix(&*self.start).unwrap_or(text);
        let (thoughts, answer) = inner.split_once(&*self.end).unwrap_or((inner, ""));
        (Some(thoughts), answer)
    }

    /// Whether a prompt that ends with `opening` has done with the thoughts already, so that the answer has none.
    #[must_use]
    pub fn is_over(&self, opening: &str) -> bool {
        opening.rfind(&*self.end).is_some_and(|end| opening.rfind(&*self.start).is_none_or(|start| start < end))
    }
}

impl FromStr for ReasoningFormat {
    type Err = LoadError;

    /// The built-in format of this name.
    fn from_str(name: &str) -> Result<Self, LoadError> {
        built_in("reasoning_parser", name, Self::BUILT_IN.map(|format| (format.name.clone(), format)))
    }
}

impl fmt::Display for ReasoningFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_and_answers_are_told_apart() {
        let format = &ReasoningFormat::BUILT_IN[0];
        let cases = [
            ("<think>a</think>b", (Some("a"), "b")),
            ("a</think>b", (Some("a"), "b")),
            ("<think>a", (Some("a"), "")),
            ("a</think>b</think>c", (Some("a"), "b</think>c")),
            ("\n<think>a</think>b", (Some("a"), "b")),
            ("a</think>the mark <think>", (Some("a"), "the mark <think>")),
            ("", (Some(""), "")),
        ];
        for (text, expected) in cases {
            assert_eq!(format.split(text), expected, "{text}");
        }
        assert_eq!("gpt".parse::<ReasoningFormat>().unwrap_err().code(), "invalid_option");
    }

    #[test]
    fn prompts_may_end_the_thoughts() {
        let format = &ReasoningFormat::BUILT_IN[1];
        let cases = [
            ("<think>\n\n</think>\n\n", true),
            ("<think>\n", false),
            ("", false),
            ("</think><think>", false),
            ("</think>", true),
        ];
        for (opening, expected) in cases {
            assert_eq!(format.is_over(opening), expected, "{opening}");
        }
    }
}
