//! What did the model answer?
//!
//! A model that is held to [`decode_schema`](CompiledSchema::decode_schema) writes JSON that needs no mending. Others write
//! JSON in a code fence, break off, use an option's label, or say "4 out of 5". What is meant beyond doubt is read, and each
//! such repair is listed; what is not is an error of that question alone.

mod coerce;
mod find;
mod json;
mod scalars;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use serde_json::Value;

use super::{AgentKind, AnswerError, AnswerErrorKind, Answers, CompiledSchema, Ident, Question, Record};

/// What was read from a model's text.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Parsed {
    /// The answers that hold.
    pub answers: Answers,
    /// What is wrong with the others, and which are missing.
    pub errors: Vec<AnswerError>,
    /// What had to be mended, in the order in which it was.
    pub repairs: Vec<Repair>,
    /// Where in the text, in bytes, the value of each question is that has one.
    pub places: Vec<(Ident, Range<usize>)>,
}

/// One thing that was mended in a model's text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Repair {
    /// The question; `None` for the text as a whole.
    pub question: Option<Ident>,
    /// What was mended.
    pub kind: RepairKind,
}

impl fmt::Display for Repair {
    /// As [`Provenance::repairs`](super::Provenance::repairs) has it: `code` or `question:code`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.question {
            Some(question) => write!(f, "{question}:{}", self.kind.code()),
            None => f.write_str(self.kind.code()),
        }
    }
}

/// What can be mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RepairKind {
    /// The JSON stood in a code fence.
    CodeFence,
    /// There was text before or after the JSON.
    SurroundingText,
    /// The JSON was none to the letter: a trailing comma, single quotes, a comment.
    LooseJson,
    /// The JSON broke off; what was complete was kept.
    TruncatedJson,
    /// There was no JSON, but a line for each answer, as in `Tone: formal`.
    Lines,
    /// There was no JSON, but the answer to the only question.
    BareAnswer,
    /// A key was a title, or was written otherwise.
    KeyByTitle,
    /// A question was answered twice; the first answer counts.
    DuplicateKey,
    /// A word such as `N/A` meant that there is no answer.
    NullWord,
    /// An option was named by what people see, or by another word for it.
    OptionByLabel,
    /// An option was written with other letters, spaces or signs.
    OptionBySpelling,
    /// An option was followed by more words.
    OptionInText,
    /// A level was named by its place on the scale.
    OptionByScore,
    /// Yes or no was a word or a number.
    BooleanFromText,
    /// A number was part of a text.
    NumberFromText,
    /// A text was a number or a list.
    TextFromValue,
    /// Line ends in a text of one line became spaces.
    LineEndsRemoved,
    /// A text stood for a list of its parts.
    SplitText,
    /// One value stood for a list of one.
    SingleToList,
    /// A list of one stood for a value.
    ListToSingle,
    /// Something that was there twice, or empty, was left out of a list.
    ItemRemoved,
    /// A date was written otherwise.
    DateRewritten,
    /// JSON was written as a text.
    JsonInText,
    /// A place in a taxonomy was named by a text or by its last term.
    PathFromText,
    /// A stretch was found by its text.
    SpanByText,
    /// The answer to a question that is not asked of this record was left out.
    HiddenDropped,
    /// The question's default was taken, since there was no answer.
    Default,
}

impl RepairKind {
    /// A stable word for it.
    pub fn code(self) -> &'static str {
        match self {
            Self::CodeFence => "code_fence",
            Self::SurroundingText => "surrounding_text",
            Self::LooseJson => "loose_json",
            Self::TruncatedJson => "truncated_json",
            Self::Lines => "lines",
            Self::BareAnswer => "bare_answer",
            Self::KeyByTitle => "key_by_title",
            Self::DuplicateKey => "duplicate_key",
            Self::NullWord => "null_word",
            Self::OptionByLabel => "option_by_label",
            Self::OptionBySpelling => "option_by_spelling",
            Self::OptionInText => "option_in_text",
            Self::OptionByScore => "option_by_score",
            Self::BooleanFromText => "boolean_from_text",
            Self::NumberFromText => "number_from_text",
            Self::TextFromValue => "text_from_value",
            Self::LineEndsRemoved => "line_ends_removed",
            Self::SplitText => "split_text",
            Self::SingleToList => "single_to_list",
            Self::ListToSingle => "list_to_single",
            Self::ItemRemoved => "item_removed",
            Self::DateRewritten => "date_rewritten",
            Self::JsonInText => "json_in_text",
            Self::PathFromText => "path_from_text",
            Self::SpanByText => "span_by_text",
            Self::HiddenDropped => "hidden_dropped",
            Self::Default => "default",
        }
    }
}

impl CompiledSchema {
    /// Reads a model's text about a record. Never fails as a whole: what cannot be read is an error of its question. JSON as
    /// [`answer_text`](Self::answer_text) writes it is read without repairs.
    ///
    /// # Example
    /// ```
    /// use vllm_batch::curate::{Answer, Question, QuestionKind, QuestionOption, Record, Scale, TaskSchema, Version};
    ///
    /// let options = vec![QuestionOption::new("formal", "Formal"), QuestionOption::new("casual", "Casual")];
    /// let tone = QuestionKind::Choice { options, multiple: false, min: 0, max: None };
    /// let clarity = QuestionKind::Rating { scale: Scale::Range { min: 1, max: 5 } };
    /// let schema = TaskSchema::new("mail".parse()?, Version::new(1, 0, 0))
    ///     .with_question(Question::new("tone".parse()?, tone))
    ///     .with_question(Question::new("clarity".parse()?, clarity));
    /// let schema = schema.compile().expect("a sound schema");
    ///
    /// let parsed = schema.parse(&Record::new("1"), "Sure!\n```json\n{\"tone\": \"Formal\", \"clarity\": \"4/5\"}\n```");
    /// assert_eq!(parsed.answers.get("tone"), Some(&Answer::Option("formal".into())));
    /// assert_eq!(parsed.answers.get("clarity"), Some(&Answer::Rating(4)));
    /// let repairs: Vec<_> = parsed.repairs.iter().map(ToString::to_string).collect();
    /// assert_eq!(repairs, ["code_fence", "surrounding_text", "tone:option_by_label", "clarity:number_from_text"]);
    /// # Ok::<(), vllm_batch::curate::InvalidIdent>(())
    /// ```
    pub fn parse(&self, record: &Record, text: &str) -> Parsed {
        let mut parsed = Parsed::default();
        for entry in find::entries(self, text, &mut parsed.repairs) {
            self.parse_entry(record, entry, &mut parsed);
        }
        self.drop_hidden(record, &mut parsed);
        self.fill_in(record, &mut parsed);
        parsed
    }

    /// Reads the value of one key.
    fn parse_entry(&self, record: &Record, entry: find::Entry, parsed: &mut Parsed) {
        let find::Entry { key, value, place } = entry;
        let Some((question, by_title)) = find::question(self.schema(), &key) else {
            if !value.is_null() {
                parsed.errors.push(self.unknown_question(&key));
            }
            return;
        };
        let repair = |kind| Repair { question: Some(question.id.clone()), kind };
        if parsed.places.iter().any(|(id, _)| *id == question.id) {
            parsed.repairs.push(repair(RepairKind::DuplicateKey));
            return;
        }
        parsed.places.push((question.id.clone(), place));
        if by_title {
            parsed.repairs.push(repair(RepairKind::KeyByTitle));
        }
        if value.is_null() {
            return;
        }
        let mut repairs = Vec::new();
        let read = self.read_tolerantly(record, question, &value, &mut repairs);
        parsed.repairs.extend(repairs.into_iter().map(repair));
        match read {
            Ok(Some(answer)) => drop(parsed.answers.insert(question.id.clone(), answer)),
            Ok(None) => {}
            Err(error) => parsed.errors.push(error),
        }
    }

    /// Reads a value as it is, else as what it may mean. `None` for a word that says that there is no answer.
    fn read_tolerantly(
        &self,
        record: &Record,
        question: &Question,
        value: &Value,
        repairs: &mut Vec<RepairKind>,
    ) -> Result<Option<super::Answer>, AnswerError> {
        let holds = |value: &Value| self.read_in_record(question, &record.fields, value);
        let error = match holds(value) {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) => error,
        };
        if question.may_be_null() && value.as_str().is_some_and(scalars::is_null_word) {
            repairs.push(RepairKind::NullWord);
            return Ok(None);
        }
        let field = |field: &str| self.schema().field(field)?.value_in(&record.fields)?.as_str();
        let Some((mended, kinds)) = coerce::coerce(&question.kind, value, &field) else { return Err(error) };
        let answer = holds(&mended)?;
        repairs.extend(kinds);
        Ok(Some(answer))
    }

    /// Takes away answers to questions that are not asked of the record.
    fn drop_hidden(&self, record: &Record, parsed: &mut Parsed) {
        let visible = self.schema().visible_questions(&parsed.answers, &record.fields);
        let is_asked =
            |id: &Ident| visible.iter().any(|question| question.id == *id && question.role.asks(AgentKind::Model));
        let answered = parsed.answers.iter().map(|(id, _)| id);
        let wrong = parsed.errors.iter().filter_map(|error| Some(&self.schema().question(&error.question)?.id));
        let hidden: Vec<_> = answered.chain(wrong).filter(|id| !is_asked(id)).cloned().collect();
        for id in hidden {
            parsed.answers.remove(&id);
            parsed.errors.retain(|error| error.question != id.as_str());
            parsed.repairs.push(Repair { question: Some(id), kind: RepairKind::HiddenDropped });
        }
    }

    /// Gives questions without an answer their default, and says which required ones have none.
    fn fill_in(&self, record: &Record, parsed: &mut Parsed) {
        for question in self.schema().model_questions() {
            let is_wrong = parsed.errors.iter().any(|error| error.question == question.id.as_str());
            if is_wrong || parsed.answers.get(&question.id).is_some() {
                continue;
            }
            let visible = self.schema().visible_questions(&parsed.answers, &record.fields);
            if visible.iter().all(|one| one.id != question.id) {
                continue;
            }
            match &question.default {
                Some(default) if self.check_in_record(question, &record.fields, default).is_ok() => {
                    parsed.answers.insert(question.id.clone(), default.clone());
                    parsed.repairs.push(Repair { question: Some(question.id.clone()), kind: RepairKind::Default });
                }
                _ if question.required => {
                    parsed.errors.push(AnswerError::new(&*question.id, AnswerErrorKind::Missing));
                }
                _ => {}
            }
        }
    }
}
