//! Does an answer hold?
//!
//! Answers have one JSON form each, which [`Question::read_answer`] reads and [`Answer::to_json`] writes. What a question
//! alone can say about its answers is checked there; what needs the record and the other answers is checked by
//! [`CompiledSchema::check`](super::CompiledSchema::check).

mod answers;
mod error;
mod nearest;
mod read;
mod record;
mod values;
mod visible;

use jsonschema::{PatternOptions, Validator};
use regex::Regex;

pub(super) use answers::Checkers;
pub use error::{AnswerError, AnswerErrorKind};
pub(super) use nearest::nearest;
pub(super) use read::type_name;
pub(super) use record::ranking_items;
pub use record::{FieldError, FieldErrorKind};

use super::{Answer, FieldKind, Question, QuestionKind};
use serde_json::Value;

/// The compiled parts of a question or field: its regular expression and its JSON Schema.
#[derive(Debug, Default)]
pub(super) struct Checker {
    pattern: Option<Regex>,
    schema: Option<Validator>,
}

impl Checker {
    /// Compiles what a question has.
    ///
    /// # Errors
    /// The expression or the schema is invalid; the message says why.
    pub(super) fn of_question(kind: &QuestionKind) -> Result<Self, String> {
        match kind {
            QuestionKind::Text(text) => {
                let pattern = text.pattern.as_deref().map(whole_pattern).transpose()?;
                Ok(Self { pattern, schema: None })
            }
            QuestionKind::Structured { schema } => Ok(Self { pattern: None, schema: Some(validator(schema)?) }),
            _ => Ok(Self::default()),
        }
    }

    /// Compiles what a field has.
    ///
    /// # Errors
    /// The schema is invalid; the message says why.
    pub(super) fn of_field(kind: &FieldKind) -> Result<Self, String> {
        match kind {
            FieldKind::Structured { schema: Some(schema) } => {
                Ok(Self { pattern: None, schema: Some(validator(schema)?) })
            }
            _ => Ok(Self::default()),
        }
    }
}

/// A regular expression that the whole of a text must match.
fn whole_pattern(pattern: &str) -> Result<Regex, String> {
    let compile = |pattern: &str| Regex::new(pattern).map_err(|error| error.to_string());
    // Alone first: what is no expression by itself must not become one between the anchors.
    compile(pattern)?;
    compile(&format!(r"\A(?:{pattern})\z"))
}

/// A validator that loads nothing, and whose expressions take linear time.
fn validator(schema: &Value) -> Result<Validator, String> {
    let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
    options.should_validate_formats(true).build(schema).map_err(|error| error.to_string())
}

impl Question {
    /// Reads an answer from its JSON form, as [`Answer::to_json`] writes it, and checks it. Options and stretches of text
    /// may come in any order; the answer has them in theirs.
    ///
    /// A regular expression or a JSON Schema of the question is compiled each time;
    /// [`CompiledSchema::read_answer`](super::CompiledSchema::read_answer) does it once.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    ///
    /// # Example
    /// ```
    /// use serde_json::json;
    /// use vllm_batch::curate::{Answer, Question, QuestionKind, QuestionOption};
    ///
    /// let options = vec![QuestionOption::new("formal", "Formal"), QuestionOption::new("casual", "Casual")];
    /// let kind = QuestionKind::Choice { options, multiple: true, min: 1, max: None };
    /// let tone = Question::new("tone".parse()?, kind);
    ///
    /// let answer = tone.read_answer(&json!(["casual", "formal"]))?;
    /// assert_eq!(answer, Answer::Options(vec!["formal".into(), "casual".into()]));
    /// assert_eq!(answer.to_json(), json!(["formal", "casual"]));
    /// let error = tone.read_answer(&json!(["formel"])).unwrap_err();
    /// assert_eq!(error.to_string(), r#"tone/0: "formel" is none of ["formal", "casual"]; did you mean "formal"?"#);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_answer(&self, value: &Value) -> Result<Answer, AnswerError> {
        self.read_with(&self.checker()?, value)
    }

    /// Checks an answer as far as that is possible without the record.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self, answer: &Answer) -> Result<(), AnswerError> {
        self.check_with(&self.checker()?, answer)
    }

    fn checker(&self) -> Result<Checker, AnswerError> {
        let invalid = |message| AnswerError::new(&*self.id, AnswerErrorKind::InvalidQuestion { message });
        Checker::of_question(&self.kind).map_err(invalid)
    }

    pub(super) fn read_with(&self, checker: &Checker, value: &Value) -> Result<Answer, AnswerError> {
        let answer = read::read(&self.kind, value).map_err(|wrong| wrong.about(self))?;
        self.check_with(checker, &answer)?;
        Ok(answer)
    }

    pub(super) fn check_with(&self, checker: &Checker, answer: &Answer) -> Result<(), AnswerError> {
        values::check(&self.kind, checker, answer).map_err(|wrong| wrong.about(self))
    }
}

/// What is wrong within an answer, before its question is named.
struct Wrong {
    path: String,
    kind: AnswerErrorKind,
}

impl From<AnswerErrorKind> for Wrong {
    fn from(kind: AnswerErrorKind) -> Self {
        Self { path: String::new(), kind }
    }
}

impl Wrong {
    /// Something that is wrong with one item of a list.
    fn at(index: usize, kind: impl Into<Self>) -> Self {
        let Self { path, kind } = kind.into();
        Self { path: format!("/{index}{path}"), kind }
    }

    fn about(self, question: &Question) -> AnswerError {
        AnswerError { question: question.id.to_string(), path: self.path, kind: self.kind }
    }
}

#[cfg(test)]
mod tests;
