//! How is a model asked?
//!
//! What is the same for all records comes first, so that engines compute it once: the system message says what is asked and
//! in which form to answer, then come examples, then the record.

mod error;
mod questions;
mod request;
mod template;
mod value;

pub use error::PromptError;
pub use request::RequestOptions;
pub(super) use template::{OF_SYSTEM, Templates, names_in};
pub(super) use value::inline;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::{Answer, Answers, CompiledSchema, Field, Ident, LocalizedText, Question, QuestionKind, Record};
use crate::request::{Message, Role};

/// A record whose answers are known, for a model to learn from in the prompt.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Example {
    /// Values by the names of the schema's fields.
    pub fields: Map<String, Value>,
    /// The right answers.
    pub answers: Answers,
}

impl Example {
    /// An example of its parts.
    pub fn new(fields: Map<String, Value>, answers: Answers) -> Self {
        Self { fields, answers }
    }
}

/// How a model writes its answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnswerForm {
    /// As a JSON object, as [`CompiledSchema::decode_schema`] describes it.
    #[default]
    Json,
    /// As the schema's own template for answers says; as JSON, if it has none. Such answers are not held to a format while
    /// they are written.
    Template,
}

/// What a model reads about one record.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RecordPrompt {
    /// The conversation.
    pub messages: Vec<Message>,
    /// Fields of the record that were longer than their `max_chars`. The prompt says how much of them it has.
    pub truncated: Vec<Ident>,
}

impl RecordPrompt {
    /// SHA-256 of roles and contents, in hexadecimal digits.
    pub fn sha256(&self) -> String {
        sha256_of(&self.messages)
    }
}

pub(super) fn sha256_of(messages: &[Message]) -> String {
    let mut hash = Sha256::new();
    for message in messages {
        let role: &[u8] = match message.role {
            Role::System => b"system",
            Role::Developer => b"developer",
            Role::User => b"user",
            Role::Assistant => b"assistant",
            Role::Tool => b"tool",
        };
        for part in [role, message.content.as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    super::compile::hex(&hash.finalize())
}

impl CompiledSchema {
    /// What a model reads about a record, with answers as JSON: [`prompt`](Self::prompt) without its report.
    ///
    /// # Errors
    /// As [`prompt`](Self::prompt).
    pub fn messages(&self, record: &Record, examples: &[Example]) -> Result<Vec<Message>, PromptError> {
        Ok(self.prompt(record, examples, AnswerForm::Json)?.messages)
    }

    /// What a model reads about a record: a system message with everything that is the same for all records, each example
    /// as a message of the user and one of the assistant, and the record.
    ///
    /// Texts of records are data. In the default form a text of several lines stands between `<name>` and `</name>`, and
    /// where it has that mark itself, a backslash is put into it. That keeps data in their place; it does not make a model
    /// deaf to what they say.
    ///
    /// # Errors
    /// The record's or an example's fields cannot be used, or a template fails.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::curate::{AnswerForm, Field, FieldKind, Question, QuestionKind, Record, Scale, TaskSchema};
    /// use vllm_batch::curate::{TextFormat, Version};
    ///
    /// let scale = Scale::Range { min: 1, max: 5 };
    /// let schema = TaskSchema::new("mail_rating".parse()?, Version::new(1, 0, 0))
    ///     .with_field(Field::new("subject".parse()?, FieldKind::Text { format: TextFormat::Plain }))
    ///     .with_question(Question::new("clarity".parse()?, QuestionKind::Rating { scale }));
    /// let schema = schema.compile().expect("a sound schema");
    ///
    /// let prompt = schema.prompt(&Record::new("1").with_field("subject", "Lunch?"), &[], AnswerForm::Json)?;
    /// let expected = r#"mail rating
    ///
    /// Answer these questions about what follows:
    /// - clarity (`clarity`): a whole number from 1 to 5.
    ///
    /// Answer with one JSON object of this form, and nothing else:
    /// {"clarity": integer}"#;
    /// assert_eq!(prompt.messages[0].content, expected);
    /// assert_eq!(prompt.messages[1].content, "subject: Lunch?");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prompt(&self, record: &Record, examples: &[Example], form: AnswerForm) -> Result<RecordPrompt, PromptError> {
        self.must_have_fields(&record.id, &record.fields)?;
        for (index, example) in examples.iter().enumerate() {
            self.must_have_fields(&format!("example {index}"), &example.fields)?;
        }
        let form = if self.schema().prompt.assistant.is_some() { form } else { AnswerForm::Json };
        let system = self.templates().cached_system(form, || self.system_message(form))?;
        let mut messages = vec![Message::system(system)];
        for example in examples {
            messages.push(Message::user(self.user_message(&example.fields, &mut Vec::new())?));
            messages.push(Message::assistant(self.answer_text(&example.answers, form)?));
        }
        let mut truncated = Vec::new();
        messages.push(Message::user(self.user_message(&record.fields, &mut truncated)?));
        Ok(RecordPrompt { messages, truncated })
    }

    /// Answers as a model should write them: as one line of JSON with all that a model is asked, in the order of
    /// [`decode_schema`](Self::decode_schema) and null where there is no answer; or as the schema's own template says.
    ///
    /// # Errors
    /// The template fails.
    pub fn answer_text(&self, answers: &Answers, form: AnswerForm) -> Result<String, PromptError> {
        match form {
            AnswerForm::Template if self.schema().prompt.assistant.is_some() => {
                let value = |question: &Question| {
                    answers.get(&question.id).map_or_else(String::new, |answer| spoken(question, answer))
                };
                let values = self
                    .schema()
                    .questions
                    .iter()
                    .map(|question| (question.id.to_string(), Value::from(value(question))));
                self.templates().assistant(&values.collect())
            }
            _ => {
                let json = |question: &Question| answers.get(&question.id).map_or(Value::Null, Answer::to_json);
                let questions = self.schema().model_questions();
                let object: Map<_, _> = questions.map(|question| (question.id.to_string(), json(question))).collect();
                Ok(Value::Object(object).to_string())
            }
        }
    }

    fn must_have_fields(&self, record: &str, fields: &Map<String, Value>) -> Result<(), PromptError> {
        let errors: Vec<_> = self.check_fields(fields).into_iter().filter(super::FieldError::is_fatal).collect();
        if errors.is_empty() { Ok(()) } else { Err(PromptError::Fields { record: record.to_owned(), errors }) }
    }

    fn system_message(&self, form: AnswerForm) -> Result<String, PromptError> {
        let asked = match form {
            AnswerForm::Json => questions::asked_as_json(self.schema()),
            AnswerForm::Template => {
                let hole = |question: &Question| (question.id.to_string(), Value::from(format!("<{}>", question.id)));
                let holes = self.schema().questions.iter().map(hole).collect();
                questions::asked_as(self.schema(), &self.templates().assistant(&holes)?)
            }
        };
        let schema = self.schema();
        if let Some(own) = self.templates().system(&asked)? {
            return Ok(own);
        }
        let head = schema.description.as_ref().unwrap_or(&schema.name).as_str();
        let guidelines = schema.guidelines.as_ref().map_or("", LocalizedText::as_str);
        let parts = [head, guidelines, &asked].map(str::trim);
        Ok(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n"))
    }

    fn user_message(&self, fields: &Map<String, Value>, truncated: &mut Vec<Ident>) -> Result<String, PromptError> {
        let mut values = Map::new();
        for field in &self.schema().fields {
            let value = field.value_in(fields).cloned().unwrap_or_else(|| value::nothing(&field.kind));
            let (value, is_cut) = value::cut(field, value);
            if is_cut {
                truncated.push(field.id.clone());
            }
            values.insert(field.id.to_string(), value);
        }
        if let Some(own) = self.templates().user(&values)? {
            return Ok(own);
        }
        let shown = self.schema().fields.iter().filter(|field| field.in_prompt);
        let parts = shown.filter_map(|field| shown_field(field, &values[field.id.as_str()]));
        Ok(parts.collect::<Vec<_>>().join("\n"))
    }
}

/// A field under its title: in one line if it is short, else between marks that its text cannot have.
fn shown_field(field: &Field, value: &Value) -> Option<String> {
    const MAX_INLINE: usize = 200;
    let text = value::shown(value);
    if text.is_empty() {
        return None;
    }
    let title = field.title.as_str();
    let is_block =
        value.is_array() || value.is_object() || text.contains(['\n', '\r']) || text.chars().count() > MAX_INLINE;
    if !is_block {
        return Some(format!("{title}: {text}"));
    }
    let text = text.replace(&format!("</{}", field.id), &format!("<\\/{}", field.id));
    Some(format!("{title}:\n<{id}>\n{text}\n</{id}>", id = field.id))
}

/// An answer in the words that people see.
fn spoken(question: &Question, answer: &Answer) -> String {
    let label = |value: &str| {
        let option = question.kind.options().iter().find(|option| option.value == value);
        option.map_or(value, |option| option.label.as_str()).to_owned()
    };
    match (&question.kind, answer) {
        (_, Answer::Option(value)) => label(value),
        (_, Answer::Options(values)) => values.iter().map(|value| label(value)).collect::<Vec<_>>().join(", "),
        (QuestionKind::Boolean { yes, no }, Answer::Boolean(is_yes)) => {
            (if *is_yes { yes } else { no }).as_str().to_owned()
        }
        (_, Answer::Text(text) | Answer::Date(text)) => text.clone(),
        (_, answer) => inline(&answer.to_json()),
    }
}

#[cfg(test)]
mod tests;
