//! Texts that end an answer.

/// Watches a growing text for stop strings, and lets through only what can no longer be part of one.
///
/// The text ends where a stop string is complete for the first time. When several are complete at the same character,
/// the one that starts first counts. So the result depends on the text alone, not on how it was cut into tokens, and
/// no token has to be generated after a stop string to know that it was one.
///
/// # Example
/// ```
/// use vllm_batch::text::StopStrings;
///
/// let mut stops = StopStrings::new(&["\n\n".to_owned()]);
/// assert_eq!(stops.push("one\n").text, "one");
/// let step = stops.push("\ntwo");
/// assert_eq!((step.text.as_str(), step.stopped_by.as_deref()), ("", Some("\n\n")));
/// ```
#[derive(Debug)]
pub struct StopStrings {
    patterns: Vec<Pattern>,
    /// Whether the stop string that ends the text is part of it.
    included: bool,
    held: String,
}

/// What a piece of text did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopMatch {
    /// Text that is not, and will not be, part of a stop string.
    pub text: String,
    /// The stop string that is complete now; the text ends before it, or with it.
    pub stopped_by: Option<String>,
}

impl StopStrings {
    /// Watches for these strings. Empty ones are never found.
    pub fn new(stops: &[String]) -> Self {
        let patterns = stops.iter().filter(|stop| !stop.is_empty()).map(|stop| Pattern::new(stop)).collect();
        Self { patterns, included: false, held: String::new() }
    }

    /// Says whether the stop string that ends the text is part of it; it is not, by default. If it is, nothing has to be
    /// held back.
    #[must_use]
    pub fn with_included(mut self, included: bool) -> Self {
        self.included = included;
        self
    }

    /// Takes more text. After a match the text is over: what came behind it is dropped, and the watch begins anew.
    pub fn push(&mut self, delta: &str) -> StopMatch {
        let held_len = self.held.len();
        self.held.push_str(delta);
        for (place, byte) in delta.bytes().enumerate() {
            if let Some(stop) = self.advance(byte) {
                let mut text = self.finish();
                let end = held_len + place + 1;
                text.truncate(if self.included { end } else { end - stop.len() });
                return StopMatch { text, stopped_by: Some(stop) };
            }
        }
        StopMatch { text: self.take_certain(), stopped_by: None }
    }

    /// Takes more text that the answer does not end in, whatever stop strings are complete there. A stop string may
    /// still begin in it, and be complete in a later piece.
    pub fn push_over(&mut self, delta: &str) -> String {
        self.held.push_str(delta);
        for byte in delta.bytes() {
            self.advance(byte);
        }
        self.take_certain()
    }

    /// Ends the text and returns what was held back because a stop string could have begun there.
    pub fn finish(&mut self) -> String {
        self.patterns.iter_mut().for_each(|pattern| pattern.matched = 0);
        std::mem::take(&mut self.held)
    }

    /// Moves all patterns on; the longest one that is complete now.
    fn advance(&mut self, byte: u8) -> Option<String> {
        let complete = self.patterns.iter_mut().filter_map(|pattern| pattern.advance(byte));
        complete.max_by_key(|stop| stop.len()).map(str::to_owned)
    }

    /// The text that is certain: all but the longest beginning of a stop string at its end.
    fn take_certain(&mut self) -> String {
        let open = self.patterns.iter().map(Pattern::open_len).max().unwrap_or(0);
        let open = if self.included { 0 } else { open };
        let tail = self.held.split_off(self.held.len() - open);
        std::mem::replace(&mut self.held, tail)
    }
}

/// A stop string with its Knuth-Morris-Pratt table, so that each byte of text is looked at once.
#[derive(Debug)]
struct Pattern {
    text: String,
    /// For each length of a match less one: the length of the next shorter match that ends at the same place.
    shorter: Vec<usize>,
    /// How many bytes of the pattern the text ends with.
    matched: usize,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let mut pattern = Self { text: text.to_owned(), shorter: vec![0], matched: 0 };
        for byte in text.bytes().skip(1) {
            let matched = pattern.next(byte);
            pattern.matched = matched;
            pattern.shorter.push(matched);
        }
        pattern.matched = 0;
        pattern
    }

    /// Takes the next byte; the pattern itself when it is complete.
    fn advance(&mut self, byte: u8) -> Option<&str> {
        self.matched = self.next(byte);
        (self.matched == self.text.len()).then_some(self.text.as_str())
    }

    /// How many bytes at the end of the text may become a match that is not complete yet.
    fn open_len(&self) -> usize {
        if self.matched == self.text.len() { self.shorter[self.matched - 1] } else { self.matched }
    }

    fn next(&self, byte: u8) -> usize {
        let text = self.text.as_bytes();
        let mut matched = self.open_len();
        while matched > 0 && text[matched] != byte {
            matched = self.shorter[matched - 1];
        }
        matched + usize::from(text[matched] == byte)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], chunks: &[&str]) -> (Vec<String>, Option<String>) {
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let mut watch = StopStrings::new(&stops);
        let mut texts = Vec::new();
        for chunk in chunks {
            let step = watch.push(chunk);
            texts.push(step.text);
            if step.stopped_by.is_some() {
                return (texts, step.stopped_by);
            }
        }
        texts.push(watch.finish());
        (texts, None)
    }

    #[test]
    fn text_ends_before_the_first_complete_stop_string() {
        type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], Option<&'a str>);
        let cases: [Case; 12] = [
            (&[], &["a", "b"], &["a", "b", ""], None),
            (&[""], &["a", "b"], &["a", "b", ""], None),
            (&["END"], &["one EN", "D two"], &["one ", ""], Some("END")),
            (&["END"], &["one EN", "T END"], &["one ", "ENT "], Some("END")),
            (&["END"], &["one EN"], &["one ", "EN"], None),
            (&["aab"], &["aaa", "ab"], &["a", "a"], Some("aab")),
            (&["\n\nHuman:", "\n\n"], &["hi\n", "\n", "Human:"], &["hi", ""], Some("\n\n")),
            (&["abcd", "bc"], &["abcd"], &["a"], Some("bc")),
            (&["bc", "abc"], &["a", "b", "c"], &["", "", ""], Some("abc")),
            (&["b", "a"], &["xab"], &["x"], Some("a")),
            (&["é!"], &["caf", "é", "?"], &["caf", "", "é?", ""], None),
            (&["x"], &["", "x"], &["", ""], Some("x")),
        ];
        for (stops, chunks, texts, stop) in cases {
            let expected = (texts.iter().map(ToString::to_string).collect(), stop.map(str::to_owned));
            assert_eq!(run(stops, chunks), expected, "{stops:?} in {chunks:?}");
        }
    }

    #[test]
    fn the_watch_begins_anew_after_a_match() {
        let mut watch = StopStrings::new(&["ab".to_owned()]);
        let stopped = |text: &str| StopMatch { text: text.to_owned(), stopped_by: Some("ab".to_owned()) };
        assert_eq!(watch.push("xaba"), stopped("x"));
        assert_eq!(watch.push("b"), StopMatch { text: "b".to_owned(), stopped_by: None });
        assert_eq!(watch.push("yab"), stopped("y"));
        assert_eq!(watch.finish(), "");
    }

    #[test]
    fn a_stop_string_that_is_included_ends_the_text_and_holds_nothing_back() {
        let mut watch = StopStrings::new(&["END".to_owned()]).with_included(true);
        assert_eq!(watch.push("one E"), StopMatch { text: "one E".to_owned(), stopped_by: None });
        assert_eq!(watch.push("ND two"), StopMatch { text: "ND".to_owned(), stopped_by: Some("END".to_owned()) });
    }

    #[test]
    fn text_that_is_passed_over_may_begin_a_stop_string_but_not_end_one() {
        // The stop string, what is passed over, what shows of it, what is pushed then, and what comes of that.
        let cases = [
            ("aa", "xaa", "xa", "b", ("ab", None)),
            ("aa", "xaa", "xa", "a", ("", Some("aa"))),
            ("END", "END EN", "END ", "D!", ("", Some("END"))),
            ("END", "an END", "an END", "!", ("!", None)),
        ];
        for (stop, over, shown, delta, (text, stopped_by)) in cases {
            let mut watch = StopStrings::new(&[stop.to_owned()]);
            assert_eq!(watch.push_over(over), shown, "{stop} in {over}");
            let expected = StopMatch { text: text.to_owned(), stopped_by: stopped_by.map(str::to_owned) };
            assert_eq!(watch.push(delta), expected, "{stop} in {over}, {delta}");
        }
    }

    /// The text before the stop string that ends first, the longest of those that end there, found by looking
    /// everywhere.
    fn naive(stops: &[String], text: &str) -> (String, Option<String>) {
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let complete = stops.iter().filter(|stop| !stop.is_empty() && text[..end].ends_with(stop.as_str()));
            if let Some(stop) = complete.max_by_key(|stop| stop.len()) {
                return (text[..end - stop.len()].to_owned(), Some(stop.clone()));
            }
        }
        (text.to_owned(), None)
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(
            stops in prop::collection::vec("[abé🙂]{0,4}", 0..4),
            chunks in prop::collection::vec("[abé🙂]{0,5}", 0..12),
        ) {
            let stop_refs: Vec<&str> = stops.iter().map(String::as_str).collect();
            let chunk_refs: Vec<&str> = chunks.iter().map(String::as_str).collect();
            let (texts, stop) = run(&stop_refs, &chunk_refs);
            prop_assert_eq!((texts.concat(), stop), naive(&stops, &chunks.concat()));
        }

        #[test]
        fn nothing_is_held_that_cannot_become_a_stop_string(
            stops in prop::collection::vec("[ab]{1,4}", 0..4),
            chunks in prop::collection::vec("[ab]{0,5}", 0..12),
        ) {
            let mut watch = StopStrings::new(&stops);
            for chunk in chunks {
                if watch.push(&chunk).stopped_by.is_some() {
                    break;
                }
                let held = &watch.held;
                prop_assert!(held.is_empty() || stops.iter().any(|stop| stop.starts_with(held.as_str())));
            }
        }
    }
}
