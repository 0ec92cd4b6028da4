//! Has the answer begun to call?
//!
//! Until it has, any token may come. Only where the last tokens may be the beginning of a marker is the grammar asked, so
//! that no token completes the marker and goes on with something else; all others are as likely as without a grammar.

use llguidance::{Matcher, toktrie::SimpleVob};

use super::{cache::CompiledGrammar, vocabulary::Vocabulary};

/// What an answer is held to its grammar from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trigger {
    /// A special token.
    Token(u32),
    /// A text, anywhere.
    Text(Box<[u8]>),
    /// A text at the beginning of the answer, after white space and special tokens.
    Beginning(Box<[u8]>),
}

/// An answer that is not held to its grammar yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    /// The last tokens, as long as the marker may begin in them, and their bytes.
    recent: Vec<u32>,
    bytes: Vec<u8>,
    /// How many bytes of the marker have come.
    num_matched: usize,
    /// Whether the marker cannot come any more.
    is_past: bool,
}

/// Where the bytes so far stand to a marker.
#[derive(Debug, PartialEq, Eq)]
enum Sight {
    /// It is there.
    Whole,
    /// It may have begun: the last bytes, as many as this, are its first.
    Begun(usize),
    /// It has not begun.
    None,
    /// It cannot come any more.
    Past,
}

impl Watch {
    /// Whether any token may come next.
    pub(super) fn is_free(&self, trigger: &Trigger) -> bool {
        match trigger {
            Trigger::Token(_) => true,
            Trigger::Text(_) => self.recent.is_empty(),
            Trigger::Beginning(_) => self.is_past,
        }
    }

    /// Takes a token. Gives the state of the grammar if the answer is held to it from here on.
    ///
    /// `matcher` becomes the grammar's state after the tokens that may begin a marker.
    pub(super) fn push(&mut self, token_id: u32, grammar: &CompiledGrammar, matcher: &mut Matcher) -> bool {
        let Some(trigger) = grammar.trigger().filter(|_| !self.is_past) else { return false };
        if let Trigger::Token(id) = trigger {
            return *id == token_id && is_taken(grammar, matcher, &[token_id]);
        }
        self.recent.push(token_id);
        let vocabulary = grammar.vocabulary();
        self.bytes.extend_from_slice(vocabulary.text_bytes(token_id));
        match sight(trigger, &self.bytes) {
            Sight::Whole if is_taken(grammar, matcher, &self.recent) => return true,
            Sight::Whole | Sight::None => self.clear(),
            Sight::Past => {
                self.clear();
                self.is_past = true;
            }
            Sight::Begun(num_matched) => {
                self.num_matched = num_matched;
                if let Trigger::Text(_) = trigger {
                    self.forget(self.bytes.len() - num_matched, vocabulary);
                }
                if !is_taken(grammar, matcher, &self.recent) {
                    self.clear();
                    self.is_past = matches!(trigger, Trigger::Beginning(_));
                }
            }
        }
        false
    }

    /// Forgets the tokens that end before a byte.
    fn forget(&mut self, start: usize, vocabulary: &Vocabulary) {
        let mut end = 0;
        let num_tokens = self.recent.iter().take_while(|id| {
            let len = vocabulary.text_bytes(**id).len();
            let is_before = end + len <= start;
            end += if is_before { len } else { 0 };
            is_before
        });
        let num_tokens = num_tokens.count();
        self.recent.drain(..num_tokens);
        self.bytes.drain(..end);
    }

    fn clear(&mut self) {
        self.recent.clear();
        self.bytes.clear();
        self.num_matched = 0;
    }

    /// The tokens that may come next: all but those that complete the marker, and that `by_grammar` refuses.
    pub(super) fn mask(&self, grammar: &CompiledGrammar, by_grammar: &SimpleVob) -> SimpleVob {
        let (Some(Trigger::Text(marker) | Trigger::Beginning(marker)), vocabulary) =
            (grammar.trigger(), grammar.vocabulary())
        else {
            return by_grammar.clone();
        };
        let rest = &marker[self.num_matched..];
        let mut mask = SimpleVob::alloc(vocabulary.len());
        for token_id in 0..vocabulary.len() as u32 {
            if by_grammar.is_allowed(token_id) || !vocabulary.text_bytes(token_id).starts_with(rest) {
                mask.allow_token(token_id);
            }
        }
        mask
    }
}

/// Brings the grammar from its beginning to after the tokens, if it allows them.
fn is_taken(grammar: &CompiledGrammar, matcher: &mut Matcher, token_ids: &[u32]) -> bool {
    *matcher = grammar.start();
    matches!(matcher.try_consume_tokens(token_ids), Ok(taken) if taken == token_ids.len())
}

fn sight(trigger: &Trigger, bytes: &[u8]) -> Sight {
    match trigger {
        Trigger::Token(_) => Sight::None,
        Trigger::Text(marker) => {
            if bytes.windows(marker.len()).any(|window| window == &**marker) {
                return Sight::Whole;
            }
            let starts = bytes.len().saturating_sub(marker.len())..bytes.len();
            let begun = starts.into_iter().find(|start| marker.starts_with(&bytes[*start..]));
            begun.map_or(Sight::None, |start| Sight::Begun(bytes.len() - start))
        }
        Trigger::Beginning(marker) => {
            let text = bytes.trim_ascii_start();
            if text.starts_with(marker) {
                Sight::Whole
            } else if marker.starts_with(text) {
                Sight::Begun(text.len())
            } else {
                Sight::Past
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_seen_as_they_come() {
        let text = Trigger::Text((*b"<call>").into());
        let beginning = Trigger::Beginning((*b"{\"n").into());
        let cases = [
            (&text, "", Sight::None),
            (&text, "a", Sight::None),
            (&text, "a <", Sight::Begun(1)),
            (&text, "<ca<c", Sight::Begun(2)),
            (&text, "<call", Sight::Begun(5)),
            (&text, "<call>x", Sight::Whole),
            (&text, "a<call> <", Sight::Whole),
            (&text, "<call x", Sight::None),
            (&beginning, "", Sight::Begun(0)),
            (&beginning, " \n", Sight::Begun(0)),
            (&beginning, " {\"", Sight::Begun(2)),
            (&beginning, "{\"name", Sight::Whole),
            (&beginning, "{ \"n", Sight::Past),
            (&beginning, "a{\"n", Sight::Past),
        ];
        for (trigger, bytes, expected) in cases {
            assert_eq!(sight(trigger, bytes.as_bytes()), expected, "{bytes}");
        }
    }
}
