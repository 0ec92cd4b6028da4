//! All answers to one record together.

use serde_json::{Map, Value};

use super::super::{AgentKind, Answer, Answers, CompiledSchema, Diagnostic, Question, QuestionRole, TaskSchema};
use super::record::check_with_fields;
use super::{AnswerError, AnswerErrorKind, Checker, nearest};

/// What checks each question and each field of a schema, in its order.
#[derive(Debug)]
pub(in crate::curate) struct Checkers {
    questions: Vec<Checker>,
    fields: Vec<Checker>,
}

impl Checkers {
    /// Compiles the expressions and the JSON Schemas of a document; those that are invalid are reported, and check nothing.
    pub(in crate::curate) fn new(schema: &TaskSchema, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut keep = |compiled: Result<Checker, String>, code, path: String| {
            compiled.unwrap_or_else(|message| {
                diagnostics.push(Diagnostic::error(code, path, message));
                Checker::default()
            })
        };
        let fields = schema.fields.iter().enumerate().map(|(at, field)| {
            keep(Checker::of_field(&field.kind), "invalid_json_schema", format!("/fields/{at}/schema"))
        });
        let fields = fields.collect();
        let questions = schema.questions.iter().enumerate().map(|(at, question)| {
            let is_text = matches!(question.kind, super::QuestionKind::Text(_));
            let (code, key) = if is_text { ("invalid_pattern", "pattern") } else { ("invalid_json_schema", "schema") };
            keep(Checker::of_question(&question.kind), code, format!("/questions/{at}/{key}"))
        });
        Self { questions: questions.collect(), fields }
    }

    pub(in crate::curate) fn fields(&self) -> &[Checker] {
        &self.fields
    }
}

impl Answer {
    /// Its one JSON form. Options, texts and dates are strings, whole numbers have no fraction, preferences are `"left"`,
    /// `"right"` and `"tie"`, a taxonomy's answer is a list of paths, and stretches of text are objects of `start`, `end`
    /// and `label`.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl QuestionRole {
    /// Whether a model or a person is asked: a model is not asked what people say about its answers, and people need not
    /// think aloud.
    pub fn asks(self, agent: AgentKind) -> bool {
        match self {
            Self::Output => true,
            Self::Review => agent == AgentKind::Human,
            Self::Reasoning => agent == AgentKind::Model,
        }
    }

    /// Whether an answer of theirs may be there: people may correct what a model thought.
    fn accepts(self, agent: AgentKind) -> bool {
        self != Self::Review || agent == AgentKind::Human
    }
}

impl CompiledSchema {
    /// [`Question::read_answer`] for the question of a name.
    ///
    /// # Errors
    /// There is no such question, or the first thing that is wrong with the answer.
    pub fn read_answer(&self, question: &str, value: &Value) -> Result<Answer, AnswerError> {
        let (question, checker) = self.question_with_checker(question)?;
        question.read_with(checker, value)
    }

    /// [`Question::check`] for the question of a name.
    ///
    /// # Errors
    /// There is no such question, or the first thing that is wrong with the answer.
    pub fn check_answer(&self, question: &str, answer: &Answer) -> Result<(), AnswerError> {
        let (question, checker) = self.question_with_checker(question)?;
        question.check_with(checker, answer)
    }

    /// Reads an object of answers by question: all that can be read, and what is wrong with each of the others. Null is no
    /// answer. Whether any are missing, [`check`](Self::check) says.
    ///
    /// # Example
    /// ```
    /// use serde_json::json;
    /// use vllm_batch::curate::{Answer, Question, QuestionKind, TaskSchema, TextQuestion, Version};
    ///
    /// let schema = TaskSchema::new("mail".parse()?, Version::new(1, 0, 0))
    ///     .with_question(Question::new("notes".parse()?, QuestionKind::Text(TextQuestion::default())));
    /// let schema = schema.compile().expect("a sound schema");
    ///
    /// let json = json!({"notes": "short", "note": "?"});
    /// let (answers, errors) = schema.read_answers(json.as_object().expect("an object"));
    /// assert_eq!(answers.get("notes"), Some(&Answer::Text("short".into())));
    /// assert_eq!(errors[0].code(), "unknown_question");
    /// # Ok::<(), vllm_batch::curate::InvalidIdent>(())
    /// ```
    pub fn read_answers(&self, object: &Map<String, Value>) -> (Answers, Vec<AnswerError>) {
        let (mut answers, mut errors) = (Answers::new(), Vec::new());
        for (id, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            let read = self
                .question_with_checker(id)
                .and_then(|(question, checker)| Ok((question.id.clone(), question.read_with(checker, value)?)));
            match read {
                Ok((id, answer)) => drop(answers.insert(id, answer)),
                Err(error) => errors.push(error),
            }
        }
        (answers, errors)
    }

    /// Checks the answers of a model or a person to one record: everything that is wrong, in the order of the schema.
    ///
    /// A question that is asked must be answered if it is required, and one that is not must not be: answers to hidden
    /// questions, and a model's answers to questions about its own answers, are errors. Stretches of text lie in the field
    /// that they are about, and a ranking has all its items.
    pub fn check(&self, agent: AgentKind, fields: &Map<String, Value>, answers: &Answers) -> Vec<AnswerError> {
        let visible = self.schema().visible_questions(answers, fields);
        let is_asked = |question: &Question| visible.iter().any(|one| one.id == question.id);
        let mut errors = Vec::new();
        for question in &self.schema().questions {
            let wrong = match answers.get(&question.id) {
                Some(_) if !is_asked(question) || !question.role.accepts(agent) => Some(AnswerErrorKind::Hidden),
                None if is_asked(question) && question.required && question.role.asks(agent) => {
                    Some(AnswerErrorKind::Missing)
                }
                _ => None,
            };
            match (wrong, answers.get(&question.id)) {
                (Some(kind), _) => errors.push(AnswerError::new(&*question.id, kind)),
                (None, Some(answer)) => errors.extend(self.check_in_record(question, fields, answer).err()),
                (None, None) => {}
            }
        }
        let unknown = answers.iter().filter(|(id, _)| self.schema().question(id).is_none());
        errors.extend(unknown.map(|(id, _)| self.unknown_question(id)));
        errors
    }

    /// Checks an answer by its question and by the record's fields.
    pub(in crate::curate) fn check_in_record(
        &self,
        question: &Question,
        fields: &Map<String, Value>,
        answer: &Answer,
    ) -> Result<(), AnswerError> {
        self.check_answer(&question.id, answer)?;
        self.check_against_fields(question, fields, answer)
    }

    /// Reads an answer from its JSON form, and checks it by its question and by the record's fields.
    pub(in crate::curate) fn read_in_record(
        &self,
        question: &Question,
        fields: &Map<String, Value>,
        value: &Value,
    ) -> Result<Answer, AnswerError> {
        let answer = self.read_answer(&question.id, value)?;
        self.check_against_fields(question, fields, &answer).map(|()| answer)
    }

    fn check_against_fields(
        &self,
        question: &Question,
        fields: &Map<String, Value>,
        answer: &Answer,
    ) -> Result<(), AnswerError> {
        let value_of = |field: &str| self.schema().field(field)?.value_in(fields);
        check_with_fields(&question.kind, answer, value_of).map_err(|wrong| wrong.about(question))
    }

    fn question_with_checker(&self, id: &str) -> Result<(&Question, &Checker), AnswerError> {
        let mut pairs = self.schema().questions.iter().zip(&self.checkers().questions);
        pairs.find(|(question, _)| question.id == id).ok_or_else(|| self.unknown_question(id))
    }

    pub(in crate::curate) fn unknown_question(&self, id: &str) -> AnswerError {
        let nearest = nearest(id, self.schema().questions.iter().map(|question| question.id.as_str()));
        AnswerError::new(id, AnswerErrorKind::UnknownQuestion { nearest })
    }
}
