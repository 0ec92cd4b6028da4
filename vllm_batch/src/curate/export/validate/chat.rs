//! Lists of messages.

use serde_json::{Map, Value};

use super::{Checker, Effect};
use crate::curate::check::type_name;

/// What a list of messages must be.
#[derive(Clone, Copy)]
pub(super) struct Chat {
    /// Keys of the role and of the content.
    pub(super) keys: (&'static str, &'static str),
    pub(super) roles: &'static [&'static str],
    /// Other keys that messages may have.
    pub(super) extra: &'static [&'static str],
    /// What happens to a row that is not so.
    pub(super) effect: Effect,
}

pub(super) const OPENAI: Chat = Chat {
    keys: ("role", "content"),
    roles: &["system", "developer", "user", "assistant", "tool"],
    extra: &["weight", "name", "tool_calls", "tool_call_id"],
    effect: Effect::Refused,
};

pub(super) const TRL: Chat = Chat { extra: &[], ..OPENAI };

pub(super) const AXOLOTL: Chat = Chat { extra: &["train", "weight"], ..OPENAI };

pub(super) const SHAREGPT: Chat = Chat {
    keys: ("from", "value"),
    roles: &["human", "gpt", "observation", "function_call", "system"],
    extra: &[],
    effect: Effect::Skipped,
};

impl Chat {
    /// Checks each message; the roles come back, if all are there.
    pub(super) fn check<'v>(
        &self,
        checker: &mut Checker,
        path: &str,
        value: Option<&'v Value>,
    ) -> Option<Vec<&'v str>> {
        let messages = match value {
            Some(Value::Array(messages)) => messages,
            Some(other) => {
                let message = format!("messages are a list, not {}", type_name(other));
                checker.problem(path, "not_messages", self.effect, message);
                return None;
            }
            None => {
                checker.problem(path, "missing_key", self.effect, "the row has no such key");
                return None;
            }
        };
        if messages.is_empty() {
            checker.problem(path, "no_messages", self.effect, "there are no messages");
            return None;
        }
        let roles: Vec<_> = messages
            .iter()
            .enumerate()
            .map(|(at, message)| self.check_message(checker, &format!("{path}/{at}"), message))
            .collect();
        roles.into_iter().collect()
    }

    pub(super) fn check_message<'v>(&self, checker: &mut Checker, path: &str, message: &'v Value) -> Option<&'v str> {
        let Value::Object(message) = message else {
            checker.problem(path, "not_a_message", self.effect, format!("this is {}", type_name(message)));
            return None;
        };
        let (role_key, content_key) = self.keys;
        self.check_keys(checker, path, message);
        let role = message.get(role_key).and_then(Value::as_str);
        let known = role.filter(|role| self.roles.contains(role));
        if known.is_none() {
            let found = message.get(role_key).unwrap_or(&Value::Null);
            let message = format!("{found} is no role: there are {}", self.roles.join(", "));
            checker.problem(format!("{path}/{role_key}"), "unknown_role", self.effect, message);
        }
        let path = format!("{path}/{content_key}");
        match message.get(content_key) {
            Some(Value::String(text)) if text.is_empty() => {
                checker.problem(path, "empty_text", self.effect, "the message is empty");
            }
            Some(Value::String(_)) => {}
            None | Some(Value::Null) if message.contains_key("tool_calls") => {}
            other => {
                let found = other.map_or("not there", type_name);
                checker.problem(path, "not_a_text", self.effect, format!("a text is expected; this is {found}"));
            }
        }
        known
    }

    fn check_keys(&self, checker: &mut Checker, path: &str, message: &Map<String, Value>) {
        let (role, content) = self.keys;
        for key in message.keys() {
            if key != role && key != content && !self.extra.contains(&key.as_str()) {
                let path = format!("{path}/{key}");
                checker.problem(path, "unknown_key", Effect::Refused, format!("messages have no {key:?}"));
            }
        }
    }
}
