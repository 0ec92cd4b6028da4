//! The model's chat template, and those that requests bring along.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use sha2::{Digest, Sha256};

use super::{ChatTemplate, SpecialTokens};
use crate::{
    error::RequestError,
    request::{ChatOptions, Message},
};

/// So many templates of requests are kept; a batch rarely has more than a few.
const MAX_TEMPLATES: usize = 32;

/// Renders conversations with the model's template, or with one of a request's own. The latter are compiled once and kept,
/// the last used ones up to a limit.
///
/// # Example
/// ```
/// use vllm_batch::{ChatOptions, Message, text::{ChatTemplates, SpecialTokens}};
///
/// let templates = ChatTemplates::new(None, SpecialTokens::new(Some("<s>".to_owned()), None));
/// let chat = ChatOptions::default().with_chat_template("{{ bos_token }}{{ messages[0].content }}");
/// assert_eq!(templates.render(&[Message::user("Hi")], &chat)?, "<s>Hi");
/// # Ok::<(), vllm_batch::RequestError>(())
/// ```
#[derive(Debug)]
pub struct ChatTemplates {
    own: Option<Arc<ChatTemplate>>,
    tokens: SpecialTokens,
    /// What `strftime_now` sees, if not the time of rendering.
    time: Option<SystemTime>,
    /// The last used ones last.
    compiled: Mutex<Vec<(Key, Compiled)>>,
}

/// The hash of a source.
type Key = [u8; 32];
/// Or why it is none.
type Compiled = Result<Arc<ChatTemplate>, RequestError>;

impl ChatTemplates {
    /// The model's own template, if it has one, and the special tokens that other templates may write.
    pub fn new(own: Option<ChatTemplate>, tokens: SpecialTokens) -> Self {
        Self { own: own.map(Arc::new), tokens, time: None, compiled: Mutex::default() }
    }

    /// As [`new`](Self::new), with [`ChatTemplate::with_time`] for every template.
    pub fn at_time(own: Option<ChatTemplate>, tokens: SpecialTokens, time: SystemTime) -> Self {
        let own = own.map(|template| template.with_time(time));
        Self { time: Some(time), ..Self::new(own, tokens) }
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// As [`ChatOptions::validate`] and [`ChatTemplate::render_with`]; [`RequestError::NoChatTemplate`] if neither the
    /// model nor the request has a template; [`RequestError::InvalidParam`] if the request's is none.
    pub fn render(&self, messages: &[Message], options: &ChatOptions) -> Result<String, RequestError> {
        options.validate()?;
        self.find(options)?.render_with(messages, options)
    }

    /// The template for a request: its own, or the model's.
    ///
    /// # Errors
    /// [`RequestError::NoChatTemplate`] if there is neither; [`RequestError::InvalidParam`] if the request's is none.
    pub fn find(&self, options: &ChatOptions) -> Result<Arc<ChatTemplate>, RequestError> {
        match &options.chat_template {
            Some(source) => self.compiled(source),
            None => self.own.clone().ok_or(RequestError::NoChatTemplate),
        }
    }

    /// Two threads may compile the same template at a time: that is rare, and costs milliseconds.
    fn compiled(&self, source: &str) -> Compiled {
        let key: Key = Sha256::digest(source).into();
        if let Some(compiled) = self.touch(&key) {
            return compiled;
        }
        let compiled = match ChatTemplate::new(source, self.tokens.clone()) {
            Ok(template) => Ok(Arc::new(match self.time {
                Some(time) => template.with_time(time),
                None => template,
            })),
            Err(error) => Err(RequestError::invalid("chat_template", error.to_string())),
        };
        self.keep(key, compiled.clone());
        compiled
    }

    fn touch(&self, key: &Key) -> Option<Compiled> {
        let mut kept = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let index = kept.iter().position(|(other, _)| other == key)?;
        kept[index..].rotate_left(1);
        kept.last().map(|(_, compiled)| compiled.clone())
    }

    fn keep(&self, key: Key, compiled: Compiled) {
        let mut kept = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(other, _)| *other != key);
        if kept.len() >= MAX_TEMPLATES {
            kept.drain(..1);
        }
        kept.push((key, compiled));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(templates: &ChatTemplates, source: &str) -> Result<String, RequestError> {
        templates.render(&[Message::user("x")], &ChatOptions::default().with_chat_template(source))
    }

    #[test]
    fn the_template_of_the_request_goes_before_the_models() {
        let own = ChatTemplate::new("own", SpecialTokens::default()).unwrap();
        let templates = ChatTemplates::new(Some(own), SpecialTokens::default());
        assert_eq!(templates.render(&[], &ChatOptions::default()).as_deref(), Ok("own"));
        assert_eq!(render(&templates, "{{ messages[0].content }}").as_deref(), Ok("x"));
        let none = ChatTemplates::new(None, SpecialTokens::default());
        assert_eq!(none.render(&[], &ChatOptions::default()), Err(RequestError::NoChatTemplate));
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_parameter() {
        let templates = ChatTemplates::new(None, SpecialTokens::default());
        let reserved = json!({"messages": []}).as_object().unwrap().clone();
        let cases = [
            (ChatOptions::default().with_chat_template("{% if %}"), ("invalid_value", "chat_template")),
            (ChatOptions::default().with_chat_template("{{ raise_exception('No') }}"), ("template_error", "messages")),
            (ChatOptions::default().with_continue_final_message(true), ("invalid_value", "continue_final_message")),
            (
                ChatOptions::default().with_chat_template_kwargs(reserved),
                ("invalid_value", "chat_template_kwargs.messages"),
            ),
        ];
        for (options, (code, param)) in cases {
            for _ in 0..2 {
                let error = templates.render(&[], &options).unwrap_err();
                assert_eq!((error.code(), error.param()), (code, Some(param)));
            }
        }
    }

    #[test]
    fn what_was_used_last_is_kept() {
        let templates = ChatTemplates::new(None, SpecialTokens::default());
        for number in 0..MAX_TEMPLATES {
            assert_eq!(render(&templates, &number.to_string()), Ok(number.to_string()));
        }
        assert_eq!(render(&templates, "0").as_deref(), Ok("0"));
        assert_eq!(render(&templates, "new").as_deref(), Ok("new"));
        let kept = templates.compiled.lock().unwrap();
        let expected = (2..MAX_TEMPLATES).map(|number| number.to_string()).chain(["0".to_owned(), "new".to_owned()]);
        let expected: Vec<Key> = expected.map(|source| Sha256::digest(source).into()).collect();
        assert_eq!(kept.iter().map(|(key, _)| *key).collect::<Vec<_>>(), expected);
    }
}
