//! From the text of an answer to what it says, thinks and calls.

use sha2::{Digest, Sha256};

use super::{AnswerFormat, AnswerParts, AnswerPiece, AnswerStream, Tokenizer};
use crate::{
    output::{CompletionOutput, FinishReason},
    request::{Request, ToolCall, ToolChoice},
};

/// Takes the answers to one request apart.
///
/// # Example
/// ```
/// use vllm_batch::text::{AnswerFormat, AnswerReader, ToolCallFormat};
/// use vllm_batch::{ChatOptions, CompletionOutput, FinishReason, Message, Request, Tool};
///
/// let chat = ChatOptions::default().with_tools(vec![Tool::new("now")]);
/// let request = Request::new("row-1", vec![Message::user("How late is it?")]).with_chat(chat);
/// let format = AnswerFormat::new(Some(ToolCallFormat::hermes()), None);
/// let text = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>".to_owned();
/// let answer = CompletionOutput::new(text, vec![], FinishReason::Stop, None);
/// let answer = AnswerReader::new(format, &request, &[]).read(answer);
/// assert_eq!((answer.text.as_str(), answer.tool_calls[0].name.as_str()), ("", "now"));
/// assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
/// ```
#[derive(Debug)]
pub struct AnswerReader {
    format: AnswerFormat,
    includes_reasoning: bool,
    /// Whether `tool_choice` names the function: calls are no reason to end then, as with `OpenAI`.
    is_named: bool,
    /// What ids of calls are made of.
    key: Vec<u8>,
}

impl AnswerReader {
    /// A reader of answers to `request`, which became the tokens `prompt`. Ids of calls are made of both.
    #[must_use]
    pub fn new(format: AnswerFormat, request: &Request, prompt: &[u32]) -> Self {
        let mut hash = Sha256::new_with_prefix(request.request_id.as_bytes());
        for token_id in prompt {
            hash.update(token_id.to_le_bytes());
        }
        Self {
            format,
            includes_reasoning: request.chat.include_reasoning,
            is_named: matches!(request.chat.tool_choice, ToolChoice::Function(_)),
            key: hash.finalize().to_vec(),
        }
    }

    /// Whether marks are special tokens, which must be in the text to be found.
    #[must_use]
    pub fn needs_special_tokens(&self, tokenizer: &Tokenizer) -> bool {
        let AnswerFormat { calls, reasoning } = &self.format;
        let of_calls = calls.iter().flat_map(|format| [&format.lead, &format.open, &format.between, &format.close]);
        let of_reasoning = reasoning.iter().flat_map(|format| [&format.start, &format.end]);
        let is_special = |mark: &str| {
            let token_ids = tokenizer.encode(mark, false).unwrap_or_default();
            token_ids.into_iter().any(|id| tokenizer.is_special(id))
        };
        of_calls.chain(of_reasoning).any(|mark| is_special(mark))
    }

    /// What takes one of the answers apart while it is written.
    #[must_use]
    pub fn stream(&self) -> AnswerStream {
        AnswerStream::new(self.format.clone())
    }

    /// What is new in an answer, as those who asked want it.
    #[must_use]
    pub fn read_piece(&self, mut piece: AnswerPiece) -> AnswerPiece {
        if !self.includes_reasoning {
            piece.reasoning.clear();
        }
        piece
    }

    /// Takes an answer apart.
    #[must_use]
    pub fn read(&self, mut output: CompletionOutput) -> CompletionOutput {
        let AnswerParts { reasoning, content, calls } = self.format.take_apart(&output.text);
        output.text = content;
        output.reasoning = reasoning.filter(|_| self.includes_reasoning);
        if let Some(format) = &self.format.calls {
            let id = |call| format.ids.id(&self.key, output.index, call);
            let calls = calls.into_iter().enumerate();
            output.tool_calls =
                calls.map(|(index, call)| ToolCall::new(id(index), call.name, call.arguments)).collect();
        }
        if !output.tool_calls.is_empty() && !self.is_named && output.finish_reason == FinishReason::Stop {
            output.finish_reason = FinishReason::ToolCalls;
        }
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        request::{ChatOptions, Message, Tool},
        text::{ToolCallFormat, fixtures},
    };

    const CALL: &str = "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>";

    fn reader(chat: ChatOptions) -> AnswerReader {
        let request = Request::new("a", vec![Message::user("x")]).with_chat(chat.with_tools(vec![Tool::new("f")]));
        let format = AnswerFormat::new(Some(ToolCallFormat::hermes()), "qwen3".parse().ok());
        AnswerReader::new(format, &request, &[1, 2])
    }

    #[test]
    fn calls_are_why_an_answer_ends_unless_they_were_named_or_cut_off() {
        let named = ChatOptions::default().with_tool_choice(ToolChoice::Function("f".to_owned()));
        let auto = ChatOptions::default;
        let cases = [
            (auto(), FinishReason::Stop, FinishReason::ToolCalls),
            (auto(), FinishReason::Length, FinishReason::Length),
            (named, FinishReason::Stop, FinishReason::Stop),
        ];
        for (chat, reason, expected) in cases {
            let answer = CompletionOutput::new(format!("</think>{CALL}"), vec![], reason, None);
            let answer = reader(chat).read(answer);
            let calls: Vec<_> = answer.tool_calls.iter().map(|call| (call.name.as_str(), &*call.arguments)).collect();
            assert_eq!((answer.finish_reason, calls), (expected, vec![("f", "{}")]));
        }
    }

    #[test]
    fn thoughts_may_be_left_out() {
        for (chat, expected) in [
            (ChatOptions::default(), Some("Hm".to_owned())),
            (ChatOptions::default().with_include_reasoning(false), None),
        ] {
            let answer = CompletionOutput::new("Hm</think>So".to_owned(), vec![], FinishReason::Stop, None);
            let answer = reader(chat).read(answer);
            assert_eq!((answer.reasoning, answer.text.as_str()), (expected, "So"));
        }
    }

    #[test]
    fn marks_may_be_special_tokens() {
        let tokenizer = fixtures::byte_level_tokenizer();
        let request = Request::new("a", "x");
        let with = |close: &'static str| {
            let mut format = ToolCallFormat::hermes();
            format.close = close.into();
            AnswerReader::new(AnswerFormat::new(Some(format), None), &request, &[]).needs_special_tokens(&tokenizer)
        };
        assert_eq!((with("</tool_call>"), with("</s>")), (false, true));
    }
}
