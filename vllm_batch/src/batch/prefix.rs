//! How much of their prompts do two rows share?
//!
//! The texts are not held, so rows are compared by hashes of how their prompts begin, cut at fixed places. The order of the
//! hashes says nothing; that equal beginnings have equal hashes puts them next to each other when they are sorted.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::request::{Message, Prompt, Request};

/// The first cut, inside the head.
const FIRST_CUT: usize = 256;
/// Where the head of a prompt ends that has no messages.
const HEAD_BYTES: usize = 512;
/// Where the rest is cut, after the head: each cut at twice the last one, so that of what two prompts share after their
/// heads at least half counts.
const CUTS: [usize; 5] = [256, 512, 1024, 2048, 4096];
/// Bits of each hash. Two rows whose hashes agree by chance become neighbours without a reason, and that is all.
const CUT_BITS: u32 = 16;
/// Bits of the hash of the whole head.
const HEAD_BITS: u32 = 32;

/// How a row's prompt begins: the hashes of its first 256 bytes, of its head, and of the head with up to 4096 bytes more.
/// The head is the first message, or the first 512 bytes where there are no messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix(u128);

impl Prefix {
    /// That of a request's prompt.
    pub(super) fn of(request: &Request) -> Self {
        let (head, rest) = beginning(&request.prompt);
        let mut levels = Levels { hasher: setting(request), value: 0 };
        let (start, end) = head.split_at(FIRST_CUT.min(head.len()));
        levels.push(start, CUT_BITS);
        levels.push(end, HEAD_BITS);
        let mut last = 0;
        for cut in CUTS.map(|cut| cut.min(rest.len())) {
            levels.push(&rest[last..cut], CUT_BITS);
            last = cut;
        }
        Self(levels.value)
    }

    /// In place of hashes, where a row is to stand: by the first line of its group, then by the most tokens that rows of
    /// its part of the group may have, most first, then by the first line of that part.
    pub(super) fn place(group: usize, max_tokens: u32, part: usize) -> Self {
        Self((group as u128) << 80 | u128::from(!max_tokens) << 48 | part as u128)
    }

    /// The same for all rows with the same head.
    pub(super) fn head(self) -> u128 {
        self.0 >> (CUT_BITS * CUTS.len() as u32)
    }

    /// The same for all rows that also have the next 256 bytes in common.
    pub(super) fn after_head(self) -> u128 {
        self.0 >> (CUT_BITS * (CUTS.len() as u32 - 1))
    }
}

/// Hashes of longer and longer beginnings, the shortest in the highest bits.
struct Levels {
    hasher: DefaultHasher,
    value: u128,
}

impl Levels {
    fn push(&mut self, bytes: &[u8], bits: u32) {
        self.hasher.write(bytes);
        self.value = self.value << bits | u128::from(self.hasher.finish() >> (u64::BITS - bits));
    }
}

/// What stands before the text or changes all of it. This hasher has no random keys: the order is the same in each run.
fn setting(request: &Request) -> DefaultHasher {
    let mut hasher = DefaultHasher::new();
    request.chat.chat_template.hash(&mut hasher);
    let variables = &request.chat.chat_template_kwargs;
    if !variables.is_empty() {
        let mut names: Vec<_> = variables.iter().map(|(name, value)| (name, value.to_string())).collect();
        names.sort_unstable();
        names.hash(&mut hasher);
    }
    std::mem::discriminant(&request.prompt).hash(&mut hasher);
    hasher
}

/// The head of a prompt, and as much of the rest as is looked at.
fn beginning(prompt: &Prompt) -> (Vec<u8>, Vec<u8>) {
    let longest = HEAD_BYTES + CUTS[CUTS.len() - 1];
    let split = |mut bytes: Vec<u8>| {
        let rest = bytes.split_off(HEAD_BYTES.min(bytes.len()));
        (bytes, rest)
    };
    match prompt {
        Prompt::Text(text) => split(text.bytes().take(longest).collect()),
        Prompt::TokenIds(ids) => split(ids.iter().flat_map(|id| id.to_le_bytes()).take(longest).collect()),
        Prompt::Messages(messages) => {
            let mut messages = messages.iter().map(message_bytes);
            let head = messages.next().unwrap_or_default();
            let mut rest = Vec::new();
            for message in messages {
                rest.extend(message);
                if rest.len() >= longest {
                    break;
                }
            }
            (head, rest)
        }
    }
}

fn message_bytes(message: &Message) -> Vec<u8> {
    [&[message.role as u8], message.content.as_bytes(), b"\0"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::ChatOptions;

    fn chat(messages: &[String]) -> Prefix {
        let messages: Vec<_> = messages.iter().map(Message::user).collect();
        Prefix::of(&Request::new("", messages))
    }

    fn text(text: &str) -> Prefix {
        Prefix::of(&Request::new("", text))
    }

    #[test]
    fn what_is_shared_is_seen_up_to_the_last_cut_before_the_difference() {
        let system = "s".repeat(700);
        let rest = |len: usize, end: &str| chat(&[system.clone(), "x".repeat(len) + end]);
        // The first message, then its role's byte of the second one.
        assert_eq!(rest(100, "a").head(), rest(100, "b").head());
        assert_ne!(rest(100, "a").after_head(), rest(100, "b").after_head());
        assert_eq!(rest(255, "a").after_head(), rest(255, "b").after_head());
        assert_eq!(rest(4095, "a"), rest(4095, "b"));
        assert_ne!(rest(4094, "a"), rest(4094, "b"));
        assert_ne!(chat(std::slice::from_ref(&system)).head(), chat(&[system + "t"]).head());
    }

    #[test]
    fn texts_and_token_ids_are_cut_at_fixed_places() {
        let long = "x".repeat(512);
        assert_eq!(text(&(long.clone() + "a")).head(), text(&(long.clone() + "b")).head());
        assert_ne!(text(&(long[1..].to_owned() + "a")).head(), text(&(long[1..].to_owned() + "b")).head());
        let ids = |count: usize, last: u32| {
            let ids: Vec<_> = std::iter::repeat_n(7, count).chain([last]).collect();
            Prefix::of(&Request::new("", ids))
        };
        assert_eq!(ids(128, 1).head(), ids(128, 2).head());
        assert_ne!(ids(127, 1).head(), ids(127, 2).head());
        assert_eq!((text("short"), text("")), (text("short"), text("")));
        assert_ne!(text("short"), text(""));
    }

    #[test]
    fn what_changes_the_whole_prompt_separates_rows() {
        let with = |chat: ChatOptions| Prefix::of(&Request::new("", vec![Message::user("x")]).with_chat(chat));
        let variables = |value: bool| serde_json::Map::from_iter([("enable_thinking".to_owned(), value.into())]);
        let all = [
            with(ChatOptions::default()),
            with(ChatOptions::default().with_chat_template("t")),
            with(ChatOptions::default().with_chat_template_kwargs(variables(true))),
            with(ChatOptions::default().with_chat_template_kwargs(variables(false))),
            Prefix::of(&Request::new("", vec![Message::system("x")])),
            text("x"),
        ];
        for (index, prefix) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other.head() == prefix.head()), Some(index));
        }
    }
}
