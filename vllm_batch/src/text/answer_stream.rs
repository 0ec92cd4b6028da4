//! Which part of an answer is new text, while the answer is still being written?

use super::{AnswerFormat, ReasoningFormat, ToolCallFormat};

/// Takes an answer apart as it grows.
///
/// What is given out is, put together, what [`AnswerFormat::take_apart`] makes of the whole answer: its thoughts and its content.
/// Calls are not given out, since they count only if all of them are whole; if they are not, they are content, at the end.
/// What may yet become a mark is held back until that is certain.
///
/// # Example
/// ```
/// use vllm_batch::text::{AnswerFormat, AnswerStream};
///
/// let mut stream = AnswerStream::new(AnswerFormat::new(None, Some("qwen3".parse()?)));
/// let pieces = ["<thi", "nk>So: ", "2 + 2</th", "ink>4"].map(|piece| stream.push(piece));
/// let thoughts: Vec<_> = pieces.iter().map(|piece| piece.reasoning.as_str()).collect();
/// assert_eq!(thoughts, ["", "So: ", "2 + 2", ""]);
/// assert_eq!(pieces[3].content, "4");
/// # Ok::<(), vllm_batch::LoadError>(())
/// ```
#[derive(Debug, Clone)]
pub struct AnswerStream {
    format: AnswerFormat,
    place: Place,
    /// What is not given out yet.
    held: String,
}

/// What is certain of an answer now, and was not before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnswerPiece {
    /// More of the thoughts.
    pub reasoning: String,
    /// More of the content.
    pub content: String,
}

impl AnswerPiece {
    /// A piece of its parts.
    #[must_use]
    pub fn new(reasoning: String, content: String) -> Self {
        Self { reasoning, content }
    }
}

impl std::ops::AddAssign for AnswerPiece {
    fn add_assign(&mut self, later: Self) {
        self.reasoning += &later.reasoning;
        self.content += &later.content;
    }
}

/// Where in an answer its end is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the mark that may stand before thoughts.
    BeforeThoughts,
    Thoughts,
    /// In the content, of which nothing but white space is there.
    BeforeContent,
    Content,
    /// After the beginning of a call.
    Calls,
}

impl AnswerStream {
    /// A stream of an answer that is written like this.
    #[must_use]
    pub fn new(format: AnswerFormat) -> Self {
        let place = if format.reasoning.is_some() { Place::BeforeThoughts } else { Place::BeforeContent };
        Self { format, place, held: String::new() }
    }

    /// Takes more of the answer.
    pub fn push(&mut self, text: &str) -> AnswerPiece {
        self.held.push_str(text);
        let mut piece = AnswerPiece::default();
        while self.step(&mut piece) {}
        piece
    }

    /// Ends the answer; gives out what was held back.
    pub fn finish(&mut self) -> AnswerPiece {
        let rest = std::mem::take(&mut self.held);
        let mut piece = AnswerPiece::default();
        match self.place {
            Place::BeforeThoughts | Place::Thoughts => piece.reasoning = rest,
            Place::BeforeContent | Place::Content => piece.content = rest,
            Place::Calls => {
                let is_whole = self.format.calls.as_ref().is_some_and(|format| format.parse(&rest).is_some());
                if !is_whole {
                    piece.content = rest;
                }
            }
        }
        piece
    }

    /// Gives out what is certain in this place. Whether the place is another now.
    fn step(&mut self, piece: &mut AnswerPiece) -> bool {
        let before = self.place;
        match (self.place, &self.format) {
            (Place::BeforeThoughts, AnswerFormat { reasoning: Some(format), .. }) => {
                if let Some(start) = format.find_start(&self.held) {
                    self.held.drain(..start);
                    self.place = Place::Thoughts;
                }
            }
            (Place::Thoughts, AnswerFormat { reasoning: Some(format), .. }) => {
                if let Some(end) = self.held.find(&*format.end) {
                    piece.reasoning.extend(self.held.drain(..end));
                    self.held.drain(..format.end.len());
                    self.place = Place::BeforeContent;
                } else {
                    let certain = self.held.len() - begun(&self.held, &format.end);
                    piece.reasoning.extend(self.held.drain(..certain));
                }
            }
            (Place::BeforeContent | Place::Content, AnswerFormat { calls: Some(format), .. }) => {
                let (certain, place) = self.place.look_for_call(&self.held, format);
                piece.content.extend(self.held.drain(..certain));
                self.place = place;
            }
            (Place::Calls, _) => {}
            _ => piece.content.extend(self.held.drain(..)),
        }
        self.place != before
    }
}

impl Place {
    /// How much of a content without calls so far is certain to be content, and the place after that.
    fn look_for_call(self, text: &str, format: &ToolCallFormat) -> (usize, Self) {
        if format.is_anchored {
            return if self == Self::Content { (text.len(), self) } else { look_at_start(text, format) };
        }
        let is_empty = self == Self::BeforeContent;
        // White space before calls counts as nothing, so it is held until something follows.
        let after = |certain: usize| {
            if is_empty && text[..certain].trim().is_empty() {
                (0, Self::BeforeContent)
            } else {
                (certain, Self::Content)
            }
        };
        match text.find(&*format.marker) {
            Some(start) => (after(start).0, Self::Calls),
            None => after(text.len() - begun(text, &format.marker)),
        }
    }
}

/// The same for calls that are at the beginning or nowhere.
fn look_at_start(text: &str, format: &ToolCallFormat) -> (usize, Place) {
    let bare = text.trim_start();
    let rest = bare.strip_prefix(&*format.lead).map_or(bare, str::trim_start);
    let may_lead = format.lead.starts_with(bare);
    if rest.starts_with(&*format.marker) {
        (0, Place::Calls)
    } else if may_lead || format.marker.starts_with(rest) {
        (0, Place::BeforeContent)
    } else {
        (text.len(), Place::Content)
    }
}

/// How many bytes at the end of a text may be the beginning of a mark.
fn begun(text: &str, mark: &str) -> usize {
    let lens = (1..mark.len().min(text.len() + 1)).rev();
    lens.into_iter().find(|len| mark.is_char_boundary(*len) && text.ends_with(&mark[..*len])).unwrap_or(0)
}

impl ReasoningFormat {
    /// Where thoughts begin in the beginning of an answer: after the mark, if that is there. `None` while it may yet come.
    fn find_start(&self, text: &str) -> Option<usize> {
        let bare = text.trim_start();
        match bare.strip_prefix(&*self.start) {
            Some(thoughts) => Some(text.len() - thoughts.len()),
            None => (!self.start.starts_with(bare)).then_some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes out of an answer that is pushed in these pieces.
    fn streamed(format: &AnswerFormat, pieces: &[&str]) -> AnswerPiece {
        let mut stream = AnswerStream::new(format.clone());
        let mut all = AnswerPiece::default();
        for piece in pieces {
            all += stream.push(piece);
        }
        all += stream.finish();
        all
    }

    fn formats() -> Vec<AnswerFormat> {
        let calls = ToolCallFormat::BUILT_IN.map(Some).into_iter().chain([None]);
        let reasoning = || ReasoningFormat::BUILT_IN.map(Some).into_iter().chain([None]);
        calls.flat_map(|calls| reasoning().map(move |reasoning| AnswerFormat::new(calls.clone(), reasoning))).collect()
    }

    /// Words that answers in all formats are made of.
    fn words() -> impl Strategy<Value = Vec<&'static str>> {
        let words = [
            "<think>",
            "</think>",
            "[THINK]",
            "[/THINK]",
            "<tool_call>\n",
            "\n</tool_call>",
            "<|python_tag|>",
            "[TOOL_CALLS]",
            "[",
            "]",
            "; ",
            "{\"name\": \"f\", \"arguments\": {}}",
            "{\"name\": \"f\", \"parameters\": {}}",
            " ",
            "\n",
            "é",
            "So",
            "<",
            "</",
            "{\"name",
            "[TOOL",
        ];
        prop::collection::vec(prop::sample::select(words.to_vec()), 0..8)
    }

    proptest! {
        #[test]
        fn pieces_come_to_what_the_whole_is(words in words(), format in prop::sample::select(formats())) {
            let text = words.concat();
            let whole = format.take_apart(&text);
            let expected = AnswerPiece::new(whole.reasoning.unwrap_or_default(), whole.content);
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            prop_assert_eq!(&streamed(&format, &letters), &expected);
            prop_assert_eq!(&streamed(&format, &words), &expected);
            prop_assert_eq!(&streamed(&format, &[&text]), &expected);
        }
    }

    #[test]
    fn nothing_certain_is_held_back() {
        let hermes = AnswerFormat::new(Some(ToolCallFormat::hermes()), None);
        let llama = AnswerFormat::new(Some(ToolCallFormat::llama3_json()), None);
        let cases: [(&AnswerFormat, &[(&str, &str)]); 3] = [
            (&hermes, &[(" ", ""), ("a ", " a "), ("<", ""), ("b>", "<b>"), ("<tool_call>", ""), ("x", "")]),
            (&llama, &[("{\"na", ""), ("x", "{\"nax"), ("{\"name\"", "{\"name\"")]),
            (&AnswerFormat::default(), &[("<think>", "<think>")]),
        ];
        for (format, steps) in cases {
            let mut stream = AnswerStream::new(format.clone());
            for (text, expected) in steps {
                assert_eq!(stream.push(text).content, *expected, "{text}");
            }
        }
    }
}
