//! What did people say?

use serde::Serialize;
use serde_json::{Map, Value};

use super::stored::{ExternalAnnotation, ReviewTask};
use super::{Result, TaskStore, TaskStoreError};
use crate::curate::{AgentKind, AnswerError, AnswerErrorKind, Answers, CompiledSchema, Response, ResponseStatus};

/// Characters of the longest name of a person.
const MAX_NAME_CHARS: usize = 256;

/// What a person says about a record. It replaces what the same person said before.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NewResponse {
    /// Who.
    pub annotator: String,
    /// Whether they are done. Who discards a record gives no answers; a draft may lack some.
    pub status: ResponseStatus,
    /// Answers by question, in their JSON form.
    pub answers: Map<String, Value>,
    /// Whether they saw a model's answers before they gave their own, if that is known.
    pub prefilled: Option<bool>,
    /// Seconds that it took them, if known.
    pub lead_time: Option<f64>,
    /// The version of the task that they have seen: if their response was changed since, in another window say, this one is
    /// refused. `None`: whatever there is, is replaced.
    pub seen_version: Option<i64>,
}

impl NewResponse {
    /// Answers that are handed in.
    pub fn submitted(annotator: impl Into<String>, answers: Map<String, Value>) -> Self {
        let (annotator, status) = (annotator.into(), ResponseStatus::Submitted);
        Self { annotator, status, answers, prefilled: None, lead_time: None, seen_version: None }
    }

    /// Answers that are not complete yet.
    pub fn draft(annotator: impl Into<String>, answers: Map<String, Value>) -> Self {
        Self { status: ResponseStatus::Draft, ..Self::submitted(annotator, answers) }
    }

    /// A record that somebody does not want to answer.
    pub fn discarded(annotator: impl Into<String>) -> Self {
        Self { status: ResponseStatus::Discarded, ..Self::submitted(annotator, Map::new()) }
    }
}

/// What became of records that were to be gold, or not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GoldMarks {
    /// Ids of tasks that are marked now.
    pub marked: Vec<String>,
    /// Ids that no task has.
    pub unknown: Vec<String>,
}

impl TaskStore {
    /// Keeps a person's response, and gives the task as it is then.
    ///
    /// # Errors
    /// [`TaskStoreError::UnknownTask`], [`TaskStoreError::VersionConflict`]; [`TaskStoreError::InvalidAnswers`] with everything that is wrong:
    /// of a draft, missing answers are not.
    pub async fn respond(&self, task: &str, response: &NewResponse, now: i64) -> Result<ReviewTask> {
        check_annotator(&response.annotator)?;
        if response.lead_time.is_some_and(|seconds| !(seconds.is_finite() && seconds >= 0.0)) {
            let message = "it must be a number of seconds that is not negative".to_owned();
            return Err(TaskStoreError::InvalidParameter { param: "lead_time", message });
        }
        let change = |task: &mut ReviewTask, schema: &CompiledSchema| {
            let found = task.notes.get(&response.annotator).map_or(0, |note| note.version);
            if let Some(seen) = response.seen_version.filter(|seen| *seen < found) {
                return Err(TaskStoreError::VersionConflict { annotator: response.annotator.clone(), seen, found });
            }
            let answers = response.read(schema, task)?;
            let mut said = Response::submitted(&*response.annotator, answers);
            (said.status, said.prefilled, said.lead_time) = (response.status, response.prefilled, response.lead_time);
            task.put_response(said, None, now);
            Ok(())
        };
        Ok(self.change(task, now, change).await?.0)
    }

    /// Takes a person's response away.
    ///
    /// # Errors
    /// [`TaskStoreError::UnknownTask`].
    pub async fn withdraw(&self, task: &str, annotator: &str, now: i64) -> Result<ReviewTask> {
        let change = |task: &mut ReviewTask, _: &CompiledSchema| {
            task.remove_response(annotator);
            Ok(())
        };
        Ok(self.change(task, now, change).await?.0)
    }

    /// Notes that a person says that a record is gold, or that it is not; `None` takes their word back. Whether it then is gold,
    /// the schema's policy decides: see [`ReviewTask::decision`].
    ///
    /// # Errors
    /// [`TaskStoreError::UnknownTask`].
    pub async fn mark_gold(&self, task: &str, is_gold: Option<bool>, by: &str, now: i64) -> Result<ReviewTask> {
        let change = |task: &mut ReviewTask, _: &CompiledSchema| {
            task.mark(is_gold, by);
            Ok(())
        };
        Ok(self.change(task, now, change).await?.0)
    }

    /// As [`mark_gold`](Self::mark_gold), for many tasks, one after another.
    ///
    /// # Errors
    /// The database does not answer: some may have been marked.
    pub async fn mark_all_gold(
        &self,
        tasks: &[String],
        is_gold: Option<bool>,
        by: &str,
        now: i64,
    ) -> Result<GoldMarks> {
        let mut marks = GoldMarks::default();
        for id in tasks {
            match self.mark_gold(id, is_gold, by, now).await {
                Ok(_) => marks.marked.push(id.clone()),
                Err(TaskStoreError::UnknownTask { id }) => marks.unknown.push(id),
                Err(error) => return Err(error),
            }
        }
        Ok(marks)
    }
}

/// A person has a name.
pub(super) fn check_annotator(name: &str) -> Result<()> {
    if name.trim().is_empty() || name.chars().count() > MAX_NAME_CHARS || name.contains('\0') {
        let message = format!("it must have 1 to {MAX_NAME_CHARS} characters, and none of them U+0000");
        return Err(TaskStoreError::InvalidParameter { param: "annotator", message });
    }
    Ok(())
}

impl NewResponse {
    /// The answers, if they hold as far as they have to.
    fn read(&self, schema: &CompiledSchema, task: &ReviewTask) -> Result<Answers> {
        if self.status == ResponseStatus::Discarded {
            return Ok(Answers::new());
        }
        let (answers, mut errors) = schema.read_answers(&self.answers);
        let wrong = schema.check(AgentKind::Human, &task.record.fields, &answers);
        // A question whose answer could not be read has an error already.
        let is_new = |one: &AnswerError, all: &[AnswerError]| {
            let is_missing = one.kind == AnswerErrorKind::Missing;
            !is_missing
                || self.status == ResponseStatus::Submitted && all.iter().all(|other| other.question != one.question)
        };
        let wrong: Vec<_> = wrong.into_iter().filter(|one| is_new(one, &errors)).collect();
        errors.extend(wrong);
        if errors.is_empty() { Ok(answers) } else { Err(TaskStoreError::InvalidAnswers { errors }) }
    }
}

impl ReviewTask {
    /// Puts a person's response in the place of the one before.
    pub(super) fn put_response(&mut self, said: Response, external: Option<ExternalAnnotation>, now: i64) {
        let note = self.notes.entry(said.agent.name.clone()).or_default();
        if note.version == 0 {
            note.created_at = now;
        }
        // The version that the task has once this is saved.
        (note.version, note.updated_at, note.external) = (self.version + 1, now, external);
        match self.record.responses.iter_mut().find(|one| one.agent == said.agent) {
            Some(old) => *old = said,
            None => self.record.responses.push(said),
        }
    }

    pub(super) fn remove_response(&mut self, annotator: &str) {
        self.record.responses.retain(|one| one.agent.name != annotator);
        self.notes.remove(annotator);
    }

    pub(super) fn mark(&mut self, is_gold: Option<bool>, by: &str) {
        self.record.gold = is_gold;
        self.gold_by = is_gold.map(|_| by.to_owned());
    }
}
