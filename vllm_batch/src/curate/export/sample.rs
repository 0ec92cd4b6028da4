//! What one row is about, before it has a form.

use super::provenance::RowSource;
use super::training::Training;
use super::{AnswerSource, ExportError, ExportFormat, ExportOptions, SkipReason, Split};
use crate::curate::gold::{difference, submitted};
use crate::curate::prompt::sha256_of;
use crate::curate::{
    AgentKind, AnswerForm, Answers, CompiledSchema, Example, FieldError, Record, RecordPrompt, SuggestionSet,
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
        let example = |picked: &super::PickedExample| {
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
        let (chosen, source) = match self.right_answers(record) {
            Ok(found) => found,
            Err(reason) => return Ok(Err(reason)),
        };
        let redacted = self.training.redacted(record);
        if redacted.fields.is_empty() {
            return Ok(Err(SkipReason::EmptyPrompt));
        }
        let prompt = self.training.compiled.prompt(&redacted, &self.examples, AnswerForm::Json);
        let prompt = prompt.map_err(|source| ExportError::Prompt { record: record.id.clone(), source })?;
        if prompt.messages.last().is_none_or(|message| message.content.trim().is_empty()) {
            return Ok(Err(SkipReason::EmptyPrompt));
        }
        let base = self.base(record, redacted, prompt, chosen, source, split)?;
        Ok(self.by_format(record, base))
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
    fn right_answers(&self, record: &Record) -> Skipped<(Answers, Settled)> {
        let errors: Vec<_> = self.schema.check_record(record).into_iter().filter(FieldError::is_fatal).collect();
        if !errors.is_empty() {
            return Err(SkipReason::InvalidFields { errors });
        }
        let (answers, settled) = self.settled(record)?;
        let answers = self.training.outputs(record, &answers);
        if answers.is_empty() {
            return Err(SkipReason::NoAnswers);
        }
        let errors = self.training.compiled.check(AgentKind::Model, &record.fields, &answers);
        if errors.is_empty() { Ok((answers, settled)) } else { Err(SkipReason::InvalidAnswers { errors }) }
    }

    fn settled(&self, record: &Record) -> Skipped<(Answers, Settled)> {
        let decision = self.schema.decide_gold(record);
        let settled = Settled { gold: decision.is_gold, agreement: decision.agreement };
        match (self.options.answers, &*submitted(record)) {
            (AnswerSource::Gold, _) if decision.is_gold => Ok((decision.answers, settled)),
            (AnswerSource::Gold, _) => {
                Err(SkipReason::NotGold { reasons: decision.reasons.iter().map(ToString::to_string).collect() })
            }
            (AnswerSource::SingleResponse, [one]) => Ok((one.answers.clone(), settled)),
            (AnswerSource::SingleResponse, responses) => Err(SkipReason::NotOneResponse { found: responses.len() }),
        }
    }

    fn base(
        &self,
        record: &Record,
        redacted: Record,
        prompt: RecordPrompt,
        answers: Answers,
        settled: Settled,
        split: Split,
    ) -> Result<Sample, ExportError> {
        let names: Vec<_> = submitted(record).iter().map(|response| response.agent.name.as_str()).collect();
        let truncated: Vec<_> = prompt.truncated.iter().map(|id| id.as_str()).collect();
        let source = RowSource {
            id: record.id.clone(),
            record_id: record.id.clone(),
            split: split.name(),
            schema: self.schema.schema().reference().to_string(),
            schema_sha256: self.schema.sha256().to_owned(),
            // Without people, the settled answers are the model's.
            model: if names.is_empty() { model_of(record) } else { String::new() },
            prompt_sha256: sha256_of(&prompt.messages),
            annotators: self.options.annotators.column(&names),
            num_annotators: names.len(),
            agreement: settled.agreement.unwrap_or(-1.0),
            gold: settled.gold,
            strength: 0.0,
            truncated: truncated.join(","),
        };
        let answer = self.written(&record.id, &answers)?;
        Ok(Sample { prompt: prompt.messages, record: redacted, answers, answer, rejected: None, label: true, source })
    }

    fn written(&self, record: &str, answers: &Answers) -> Result<String, ExportError> {
        let written = self.training.compiled.answer_text(answers, AnswerForm::Json);
        written.map_err(|source| ExportError::Prompt { record: record.to_owned(), source })
    }

    fn by_format(&self, record: &Record, base: Sample) -> Skipped<Vec<Sample>> {
        match self.options.format {
            ExportFormat::TrlKto => self.judged(record, base),
            format if format.is_preference() => self.compared(record, base),
            _ => Ok(vec![base]),
        }
    }
}

/// What is known about settled answers.
#[derive(Debug, Clone, Copy)]
struct Settled {
    gold: bool,
    agreement: Option<f64>,
}

fn model_of(record: &Record) -> String {
    record.suggestions.last().map(|set| set.agent.name.clone()).unwrap_or_default()
}

/// A model's answer, and how much of it people changed.
#[derive(Debug)]
struct Compared {
    model: String,
    answer: String,
    /// `None` if it says the same.
    strength: Option<f64>,
}

impl Sampler<'_> {
    /// Each different answer of a model, with how much of it is not right.
    fn model_answers(&self, record: &Record, base: &Sample) -> Skipped<Vec<Compared>> {
        let mut found: Vec<Compared> = Vec::new();
        for set in &record.suggestions {
            let one = self.compare(record, base, set);
            if let Some(one) = one.filter(|one| found.iter().all(|other| other.answer != one.answer)) {
                found.push(one);
            }
        }
        if found.is_empty() { Err(SkipReason::NoModelAnswer) } else { Ok(found) }
    }

    fn compare(&self, record: &Record, base: &Sample, set: &SuggestionSet) -> Option<Compared> {
        let answers = self.training.outputs(record, &set.answers());
        if answers.is_empty() {
            return None;
        }
        let outputs = self.training.schema().questions.iter();
        let learnt = outputs.filter(|question| question.role == crate::curate::QuestionRole::Output);
        let difference = difference(learnt, &answers, &base.answers);
        let strength = (difference.num_changed > 0).then_some(difference.share);
        Some(Compared { model: set.agent.name.clone(), answer: self.written(&record.id, &answers).ok()?, strength })
    }

    fn is_material(&self, strength: f64) -> bool {
        strength > self.options.min_strength
    }

    /// A row for each answer of a model that people changed.
    fn compared(&self, record: &Record, base: Sample) -> Skipped<Vec<Sample>> {
        let found = self.model_answers(record, &base)?;
        let most = found.iter().filter_map(|one| one.strength).fold(0.0, f64::max);
        let mut samples = Vec::new();
        for one in found {
            let Some(strength) = one.strength.filter(|strength| self.is_material(*strength)) else { continue };
            let mut sample = base.numbered(samples.len() + 1, one.model, strength);
            sample.rejected = Some(one.answer);
            samples.push(sample);
        }
        if samples.is_empty() { Err(SkipReason::NotDifferent { strength: most }) } else { Ok(samples) }
    }

    /// The right answer as a good example, and each of a model's that people changed as a bad one. Answers that differ in
    /// what does not count are neither.
    fn judged(&self, record: &Record, base: Sample) -> Skipped<Vec<Sample>> {
        let model = base.source.model.clone();
        let mut samples = vec![base.numbered(1, model, 0.0)];
        for one in self.model_answers(record, &base).unwrap_or_default() {
            if let Some(strength) = one.strength.filter(|strength| self.is_material(*strength)) {
                let mut sample = base.numbered(samples.len() + 1, one.model, strength);
                (sample.answer, sample.label) = (one.answer, false);
                samples.push(sample);
            }
        }
        Ok(samples)
    }
}

impl Sample {
    /// One of several rows of a record.
    fn numbered(&self, number: usize, model: String, strength: f64) -> Self {
        let mut source = self.source.clone();
        source.id = format!("{}#{number}", self.source.record_id);
        (source.model, source.strength) = (model, strength);
        Self {
            prompt: self.prompt.clone(),
            record: self.record.clone(),
            answers: self.answers.clone(),
            answer: self.answer.clone(),
            rejected: None,
            label: true,
            source,
        }
    }
}
