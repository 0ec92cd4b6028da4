//! Which part of an answer is said, which is thought, and which calls functions?

use super::{ReasoningFormat, ToolCallFormat, WrittenCall};

/// How the text of an answer is taken apart; by default not at all.
///
/// # Example
/// ```
/// use vllm_batch::text::{AnswerFormat, ToolCallFormat, WrittenCall};
///
/// let format = AnswerFormat::new(Some(ToolCallFormat::hermes()), Some("qwen3".parse()?));
/// let parts = format.take_apart("Hm.</think>\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>");
/// assert_eq!(parts.reasoning.as_deref(), Some("Hm."));
/// assert_eq!((parts.content.as_str(), parts.calls), ("", vec![WrittenCall::new("f", "{}")]));
/// # Ok::<(), vllm_batch::LoadError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnswerFormat {
    /// How calls are written, if there may be any.
    pub calls: Option<ToolCallFormat>,
    /// How thoughts are marked, if there are any.
    pub reasoning: Option<ReasoningFormat>,
}

/// The parts of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnswerParts {
    /// What is thought.
    pub reasoning: Option<String>,
    /// What is said. Before calls, nothing but white space counts as nothing.
    pub content: String,
    /// What is called.
    pub calls: Vec<WrittenCall>,
}

impl AnswerFormat {
    /// A format of its parts.
    #[must_use]
    pub fn new(calls: Option<ToolCallFormat>, reasoning: Option<ReasoningFormat>) -> Self {
        Self { calls, reasoning }
    }

    /// Takes an answer apart. Thoughts come first. Calls of which one is not whole are left in the content, as in vLLM.
    #[must_use]
    pub fn take_apart(&self, text: &str) -> AnswerParts {
        let (reasoning, rest) = match &self.reasoning {
            Some(format) => format.split(text),
            None => (None, text),
        };
        let reasoning = reasoning.map(str::to_owned);
        match self.calls.as_ref().and_then(|format| format.parse(rest)) {
            Some((before, calls)) => {
                let content = if before.trim().is_empty() { "" } else { before }.to_owned();
                AnswerParts { reasoning, content, calls }
            }
            None => AnswerParts { reasoning, content: rest.to_owned(), calls: Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_up_to_three_parts() {
        let call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\":1}}\n</tool_call>";
        let calls = || Some(ToolCallFormat::hermes());
        let reasoning = || Some(ReasoningFormat::BUILT_IN[0].clone());
        let both = format!("<think>Hm {call}</think>Well: {call}");
        let cut = format!("Well: {call}\n<tool_call>\n{{");
        let f = || vec![WrittenCall::new("f", "{\"a\":1}")];
        let cases = [
            (None, None, both.as_str(), None, both.as_str(), vec![]),
            (None, reasoning(), "Hm", Some("Hm"), "", vec![]),
            (calls(), None, "Hm", None, "Hm", vec![]),
            (calls(), None, call, None, "", f()),
            (calls(), None, &cut, None, &cut, vec![]),
            (calls(), reasoning(), &both, Some(&*format!("Hm {call}")), "Well: ", f()),
            (calls(), reasoning(), call, Some(call), "", vec![]),
        ];
        for (calls, reasoning, text, thought, said, called) in cases {
            let expected =
                AnswerParts { reasoning: thought.map(str::to_owned), content: said.to_owned(), calls: called };
            assert_eq!(AnswerFormat::new(calls, reasoning).take_apart(text), expected, "{text}");
        }
    }
}
