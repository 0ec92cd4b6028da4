//! How does text become tokens, and how do tokens become text?
//!
//! Down: a [`ChatTemplate`], one of [`ChatTemplates`], renders messages to one text, and a [`Tokenizer`] turns it into ids. Up: an [`OutputText`]
//! takes the generated ids one by one, through an [`IncrementalDetokenizer`] and [`StopStrings`]; an [`AnswerReader`] tells
//! thoughts and calls of functions, in the formats of models ([`ReasoningFormat`], [`ToolCallFormat`]), from the rest, and an
//! [`AnswerStream`] does so while the answer grows. Nothing here knows a
//! model's weights or its files: the loader hands over bytes, or a [`GgufVocabulary`].

mod answer_format;
mod answer_reader;
mod answer_stream;
mod byte_level;
mod detokenize;
#[cfg(test)]
mod fixtures;
mod gguf_vocabulary;
mod pre_tokenizer;
mod python;
mod reasoning;
mod stop;
mod template;
mod template_functions;
mod templates;
mod tokenizer;
mod tool_calls;
mod tool_prompt;

use std::sync::Arc;

pub use answer_format::{AnswerFormat, AnswerParts};
pub use answer_reader::AnswerReader;
pub use answer_stream::{AnswerPiece, AnswerStream};
pub use detokenize::IncrementalDetokenizer;
pub use gguf_vocabulary::GgufVocabulary;
pub use reasoning::ReasoningFormat;
pub use stop::{StopMatch, StopStrings};
pub use template::{ChatTemplate, SpecialTokens};
pub use templates::ChatTemplates;
pub use tokenizer::Tokenizer;
pub use tool_calls::{CallIds, ToolCallFormat, WrittenCall};

use crate::{error::RequestError, request::SamplingParams};

/// The text of one answer while it is generated.
#[derive(Debug)]
pub struct OutputText {
    detokenizer: IncrementalDetokenizer,
    stops: StopStrings,
    /// So many tokens belong to the answer whatever stop strings they complete.
    min_tokens: usize,
    num_tokens: usize,
    text: String,
}

/// What one token did to an answer's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TextStep {
    /// Text that is certain now and was not before.
    pub delta: String,
    /// The stop string that ends the answer here. No token is to be pushed after it.
    pub stopped_by: Option<String>,
}

impl OutputText {
    /// An empty answer, with the stop strings and the treatment of them and of special tokens that `params` ask for.
    pub fn new(tokenizer: Arc<Tokenizer>, params: &SamplingParams) -> Self {
        Self {
            detokenizer: IncrementalDetokenizer::new(tokenizer, params.skip_special_tokens),
            stops: StopStrings::new(&params.stop).with_included(params.include_stop_str_in_output),
            min_tokens: params.min_tokens as usize,
            num_tokens: 0,
            text: String::new(),
        }
    }

    /// Takes the next token.
    ///
    /// Text is held back while a character is incomplete, or while it may be the beginning of a stop string.
    ///
    /// # Errors
    /// [`RequestError::Tokenizer`] when the token cannot be decoded.
    pub fn push(&mut self, token_id: u32) -> Result<TextStep, RequestError> {
        self.num_tokens += 1;
        let decoded = self.detokenizer.push(token_id)?;
        Ok(self.take(&decoded))
    }

    /// Ends an answer that no stop string ended, and returns what was held back. Its last characters may still
    /// complete a stop string.
    ///
    /// # Errors
    /// [`RequestError::Tokenizer`] when the tokens that were held back cannot be decoded.
    pub fn finish(&mut self) -> Result<TextStep, RequestError> {
        let decoded = self.detokenizer.finish()?;
        let mut step = self.take(&decoded);
        let held = self.stops.finish();
        self.text.push_str(&held);
        step.delta.push_str(&held);
        Ok(step)
    }

    /// All deltas so far, put together.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All deltas, put together.
    pub fn into_text(self) -> String {
        self.text
    }

    fn take(&mut self, decoded: &str) -> TextStep {
        let StopMatch { text, stopped_by } = if self.num_tokens > self.min_tokens {
            self.stops.push(decoded)
        } else {
            StopMatch { text: self.stops.push_over(decoded), stopped_by: None }
        };
        self.text.push_str(&text);
        TextStep { delta: text, stopped_by }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(stop: &[&str], skip_special_tokens: bool) -> OutputText {
        let stop = stop.iter().map(ToString::to_string).collect();
        let params = SamplingParams::default().with_stop(stop).with_skip_special_tokens(skip_special_tokens);
        OutputText::new(Arc::new(fixtures::byte_level_tokenizer()), &params)
    }

    /// Pushes the tokens of `input`; returns what ended the text, and the text.
    fn run(mut answer: OutputText, input: &str) -> (Option<String>, String) {
        let ids = fixtures::byte_level_tokenizer().encode(input, false).unwrap();
        let mut shown = String::new();
        for id in ids {
            let step = answer.push(id).unwrap();
            shown.push_str(&step.delta);
            assert_eq!(answer.text(), shown);
            if step.stopped_by.is_some() {
                return (step.stopped_by, answer.into_text());
            }
        }
        let step = answer.finish().unwrap();
        assert_eq!(answer.text(), shown + &step.delta);
        (step.stopped_by, answer.into_text())
    }

    /// Stop strings, whether special tokens are skipped, the generated text, what ends it, and what is left of it.
    type Case<'a> = (&'a [&'a str], bool, &'a str, Option<&'a str>, &'a str);

    #[test]
    fn answers_end_before_their_stop_string() {
        let cases: [Case; 7] = [
            (&[], true, "all of it 🙂\n", None, "all of it 🙂\n"),
            (&["of"], true, "all of it", Some("of"), "all "),
            (&["🙂"], true, "smile 🙂 now", Some("🙂"), "smile "),
            (&["it!"], true, "all of it", None, "all of it"),
            (&["</s>"], true, "one</s>two", None, "onetwo"),
            (&["</s>"], false, "one</s>two", Some("</s>"), "one"),
            (&["quite absent", " it"], true, "all of it", Some(" it"), "all of"),
        ];
        for (stop, skip, input, stopped_by, text) in cases {
            let expected = (stopped_by.map(str::to_owned), text.to_owned());
            assert_eq!(run(answer(stop, skip), input), expected, "{stop:?} in {input:?}");
        }
    }

    #[test]
    fn a_stop_string_may_be_complete_only_at_the_end() {
        let tokenizer = fixtures::byte_level_tokenizer();
        let mut answer = answer(&["\u{FFFD}"], true);
        answer.push(tokenizer.token_to_id("ð").unwrap()).unwrap();
        let expected = TextStep { delta: String::new(), stopped_by: Some("\u{FFFD}".to_owned()) };
        assert_eq!(answer.finish(), Ok(expected));
    }

    #[test]
    fn stop_strings_count_after_min_tokens_and_may_be_kept() {
        // How many tokens there must be, whether the stop string is kept, what ends "the the the", what is left of it.
        let cases = [
            (0, false, Some(" the"), "the"),
            (0, true, Some(" the"), "the the"),
            (1, false, Some(" the"), "the"),
            (2, false, Some(" the"), "the the"),
            (2, true, Some(" the"), "the the the"),
            (3, true, None, "the the the"),
        ];
        let tokenizer = fixtures::byte_level_tokenizer();
        let the = tokenizer.encode("the the the", false).unwrap();
        let len = the.len() as u32 - 3;
        for (min_tokens, included, stopped_by, text) in cases {
            let params = SamplingParams::default().with_stop(vec![" the".to_owned()]);
            let params = params.with_min_tokens(min_tokens + len).with_include_stop_str_in_output(included);
            let answer = OutputText::new(Arc::new(fixtures::byte_level_tokenizer()), &params);
            let expected = (stopped_by.map(str::to_owned), text.to_owned());
            assert_eq!(run(answer, "the the the"), expected, "{min_tokens} {included}");
        }
    }

    #[test]
    fn everything_may_be_sent_and_shared() {
        fn check<T: Send + Sync>() {}
        check::<Tokenizer>();
        check::<ChatTemplate>();
        check::<ChatTemplates>();
        check::<OutputText>();
    }

    #[test]
    fn without_stop_strings_only_incomplete_characters_wait() {
        let tokenizer = fixtures::byte_level_tokenizer();
        let mut answer = answer(&[], true);
        let deltas: Vec<String> = ["h", "Ã", "©", "!"]
            .iter()
            .map(|token| answer.push(tokenizer.token_to_id(token).unwrap()).unwrap().delta)
            .collect();
        assert_eq!(deltas, ["h", "", "é", "!"]);
    }
}
