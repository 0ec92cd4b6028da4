//! What one row is about, before it has a form.

use super::provenance::RowSource;
use super::training::Training;
use super::{AnswerSource, ExportError, ExportFormat, ExportOptions, PickedExample, SkipReason, Split};
use crate::curate::gold::{difference, submitted};
use crate::curate::prompt::sha256_of;
use crate::curate::{
    AgentKind, AnswerForm, Answers, CompiledSchema, Example, FieldError, QuestionRole, Record, RecordPrompt,
    SuggestionSet,
};
use crate::request::Message;

/// A conversation with its right answer, and perhaps a wrong one.
#[derive(Debug)]
pub(super) struct Sample {
    /// What is read.
    pub(super) prompt: Vec<Message>,
    /// The record as it goes in.
    pub(super) record: Record,
    /// What is learnt.
    pub(super) answers: Answers,
    /// As a model writes it.
    pub(super) answer: String,
    /// What is not to be learnt, in preferences.
    pub(super) rejected: Option<String>,
    /// Whether the answer is good.
    pub(super) label: bool,
    pub(super) source: RowSource,
}

/// Makes samples of records.
#[derive(Debug)]
pub(super) struct Sampler<'s> {
    pub(super) schema: &'s CompiledSchema,
    pub(super) training: Training,
    pub(super) options: ExportOptions,
    /// The examples as they go in.
    examples: Vec<Example>,
}

type Skipped<T> = Result<T, SkipReason>;

impl<'s> Sampler<'s> {
    pub(super) fn new(schema: &'s CompiledSchema, options: ExportOptions) -> Result<Self, ExportError> {
        if !options.examples.is_empty() && !options.format.can_have_examples() {
            return Err(ExportError::ExamplesNotSupported { format: options.format });
        }
        let training = Training::new(schema, options.reasoning)?;
        let example = |picked: &PickedExample| {
            let mut record = Record::new(&*picked.record);
            record.fields.clone_from(&picked.example.fields);
            let answers = training.outputs(&record, &picked.example.answers);
            Example::new(training.redacted_fields(&record.fields), answers)
        };
        let examples = options.examples.iter().map(example).collect();
        Ok(Self { schema, training, options, examples })
    }

    /// The samples of a record, or why there are none.
    pub(super) fn samples(&self, record: &Record, split: Split) -> Result<Skipped<Vec<Sample>>, ExportError> {
        self.refuse_leaks(record)?;
        let right = match self.right_answers(record) {
            Ok(right) => right,
            Err(reason) => return Ok(Err(reason)),
        };
        let variants = match self.variants(record, &right.answers)? {
            Ok(variants) => variants,
            Err(reason) => return Ok(Err(reason)),
        };
        let redacted = self.training.redacted(record);
        let prompt = self.training.compiled.prompt(&redacted, &self.examples, AnswerForm::Json);
        let prompt = prompt.map_err(|source| ExportError::Prompt { record: record.id.clone(), source })?;
        let is_empty = |message: &Message| message.content.trim().is_empty();
        if redacted.fields.is_empty() || prompt.messages.last().is_none_or(is_empty) {
            return Ok(Err(SkipReason::EmptyPrompt));
        }
        let source = self.source(record, &prompt, &right, split);
        let base = Base { prompt: prompt.messages, record: redacted, answers: right.answers, source };
        let is_numbered = self.options.format.is_preference() || self.options.format == ExportFormat::TrlKto;
        let numbered = variants.into_iter().enumerate();
        Ok(Ok(numbered.map(|(at, variant)| base.sample(is_numbered.then_some(at + 1), variant)).collect()))
    }

    /// An example of the same record, or of its group, has the answer.
    fn refuse_leaks(&self, record: &Record) -> Result<(), ExportError> {
        let group = super::split::group_key(self.schema.schema(), record);
        let leak = self.options.examples.iter().find(|example| example.record == record.id || example.group == group);
        leak.map_or(Ok(()), |example| {
            Err(ExportError::LeakedExample { record: record.id.clone(), example: example.record.clone() })
        })
    }

    /// What is right, and what is known about it.
    fn right_answers(&self, record: &Record) -> Skipped<Right> {
        let errors: Vec<_> = self.schema.check_record(record).into_iter().filter(FieldError::is_fatal).collect();
        if !errors.is_empty() {
            return Err(SkipReason::InvalidFields { errors });
        }
        let settled = self.settled(record)?;
        let answers = self.training.outputs(record, &settled.answers);
        if answers.is_empty() {
            return Err(SkipReason::NoAnswers);
        }
        let errors = self.training.compiled.check(AgentKind::Model, &record.fields, &answers);
        if errors.is_empty() { Ok(Right { answers, ..settled }) } else { Err(SkipReason::InvalidAnswers { errors }) }
    }

    fn settled(&self, record: &Record) -> Skipped<Right> {
        let decision = self.schema.decide_gold(record);
        let right = |answers| Right { answers, gold: decision.is_gold, agreement: decision.agreement };
        match (self.options.answers, &*submitted(record)) {
            (AnswerSource::Gold, _) if decision.is_gold => Ok(right(decision.answers)),
            (AnswerSource::Gold, _) => {
                Err(SkipReason::NotGold { reasons: decision.reasons.iter().map(ToString::to_string).collect() })
            }
            (AnswerSource::SingleResponse, [one]) => Ok(right(one.answers.clone())),
            (AnswerSource::SingleResponse, responses) => Err(SkipReason::NotOneResponse { found: responses.len() }),
        }
    }

    fn source(&self, record: &Record, prompt: &RecordPrompt, right: &Right, split: Split) -> RowSource {
        let names: Vec<_> = submitted(record).iter().map(|response| response.agent.name.as_str()).collect();
        let truncated: Vec<_> = prompt.truncated.iter().map(crate::curate::Ident::as_str).collect();
        RowSource {
            id: record.id.clone(),
            record_id: record.id.clone(),
            split: split.name(),
            schema: self.schema.schema().reference().to_string(),
            schema_sha256: self.schema.sha256().to_owned(),
            model: String::new(),
            prompt_sha256: sha256_of(&prompt.messages),
            annotators: self.options.annotators.column(&names),
            num_annotators: names.len(),
            agreement: right.agreement.unwrap_or(-1.0),
            gold: right.gold,
            strength: 0.0,
            truncated: truncated.join(","),
        }
    }
}

/// The right answers to a record.
#[derive(Debug)]
struct Right {
    answers: Answers,
    gold: bool,
    agreement: Option<f64>,
}

/// What all samples of a record have in common.
struct Base {
    prompt: Vec<Message>,
    record: Record,
    answers: Answers,
    source: RowSource,
}

impl Base {
    fn sample(&self, number: Option<usize>, variant: Variant) -> Sample {
        let mut source = self.source.clone();
        if let Some(number) = number {
            source.id = format!("{}#{number}", source.record_id);
        }
        (source.model, source.strength) = (variant.model, variant.strength);
        Sample {
            prompt: self.prompt.clone(),
            record: self.record.clone(),
            answers: self.answers.clone(),
            answer: variant.answer,
            rejected: variant.rejected,
            label: variant.label,
            source,
        }
    }
}

/// What one sample of a record has for itself.
#[derive(Debug)]
struct Variant {
    answer: String,
    rejected: Option<String>,
    label: bool,
    /// The model whose answer it has; empty if it is people's alone.
    model: String,
    strength: f64,
}

/// A model's answer, and how much of it people changed.
#[derive(Debug)]
struct Compared {
    model: String,
    answer: String,
    strength: f64,
    is_changed: bool,
}

impl Sampler<'_> {
    /// What the format makes of the right answers and those of models.
    fn variants(&self, record: &Record, right: &Answers) -> Result<Skipped<Vec<Variant>>, ExportError> {
        let answer = self.written(&record.id, right)?;
        // Without people, the settled answers are the model's.
        let model = match (&*submitted(record), record.suggestions.last()) {
            ([], Some(set)) => set.agent.name.clone(),
            _ => String::new(),
        };
        let plain = Variant { answer, rejected: None, label: true, model, strength: 0.0 };
        Ok(match self.options.format {
            ExportFormat::TrlKto => Ok(Self::judged(plain, self.model_answers(record, right)?)),
            format if format.is_preference() => Self::compared(&plain.answer, self.model_answers(record, right)?),
            _ => Ok(vec![plain]),
        })
    }

    fn written(&self, record: &str, answers: &Answers) -> Result<String, ExportError> {
        let written = self.training.compiled.answer_text(answers, AnswerForm::Json);
        written.map_err(|source| ExportError::Prompt { record: record.to_owned(), source })
    }

    /// Each different answer of a model, with how much of it is not right.
    fn model_answers(&self, record: &Record, right: &Answers) -> Result<Vec<Compared>, ExportError> {
        let mut found: Vec<Compared> = Vec::new();
        for set in &record.suggestions {
            let one = self.compare(record, right, set)?;
            found.extend(one.filter(|one| found.iter().all(|other| other.answer != one.answer)));
        }
        Ok(found)
    }

    /// `None` if the model answered nothing that is learnt.
    fn compare(&self, record: &Record, right: &Answers, set: &SuggestionSet) -> Result<Option<Compared>, ExportError> {
        let answers = self.training.outputs(record, &set.answers());
        if answers.is_empty() {
            return Ok(None);
        }
        let questions = self.training.schema().questions.iter();
        let outputs = questions.filter(|question| question.role == QuestionRole::Output);
        let difference = difference(outputs, &answers, right);
        Ok(Some(Compared {
            model: set.agent.name.clone(),
            answer: self.written(&record.id, &answers)?,
            strength: difference.share,
            is_changed: difference.num_changed > 0 && difference.share > self.options.min_strength,
        }))
    }

    /// A row for each answer of a model that people changed.
    fn compared(right: &str, found: Vec<Compared>) -> Skipped<Vec<Variant>> {
        if found.is_empty() {
            return Err(SkipReason::NoModelAnswer);
        }
        let strength = found.iter().map(|one| one.strength).fold(0.0, f64::max);
        let changed = found.into_iter().filter(|one| one.is_changed).map(|one| Variant {
            answer: right.to_owned(),
            rejected: Some(one.answer),
            label: true,
            model: one.model,
            strength: one.strength,
        });
        let variants: Vec<_> = changed.collect();
        if variants.is_empty() { Err(SkipReason::NotDifferent { strength }) } else { Ok(variants) }
    }

    /// The right answer as a good example, and each of a model's that people changed as a bad one. Answers that differ in
    /// what does not count are neither.
    fn judged(right: Variant, found: Vec<Compared>) -> Vec<Variant> {
        let changed = found.into_iter().filter(|one| one.is_changed).map(|one| Variant {
            answer: one.answer,
            rejected: None,
            label: false,
            model: one.model,
            strength: one.strength,
        });
        [right].into_iter().chain(changed).collect()
    }
}
