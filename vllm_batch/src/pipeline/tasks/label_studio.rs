//! What did people say on a review server?
//!
//! Label Studio sends no event twice, and may send them in another order than things happened. So an annotation counts by its
//! own time, one that was deleted does not come back, and an event that comes again changes nothing. Events wait for each other: one
//! that tells of an annotation and one that deletes it would not see each other otherwise.

use chrono::DateTime;
use serde::Serialize;
use serde_json::{Value, json};

use super::stored::{ExternalAnnotation, ReviewTask, task_id};
use super::{Result, Stop, TaskStore, TaskStoreError};
use crate::curate::label_studio::{harvest, schema_of};
use crate::curate::{CompiledSchema, RegistryError};
use crate::jobs::sql::{Statement, Tx, integer, text};

/// The key of the lock under which PostgreSQL takes events over, one at a time.
const EVENTS_LOCK: i64 = 0x0076_6c6c_6d5f_6576;

/// How far the server's clock may be from that of the caller.
const CLOCK_SECONDS: i64 = 3600;

/// What became of an annotation that an event told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventOutcome {
    /// It is the person's response now.
    Saved {
        /// The task.
        task: String,
        /// What was left out of it, in words.
        left_out: Vec<String>,
    },
    /// What came from it is gone: the response, or that the record is gold.
    Removed {
        /// The task.
        task: String,
    },
    /// It changes nothing.
    Ignored {
        /// Why.
        reason: IgnoredEvent,
    },
}

/// Why an event changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IgnoredEvent {
    /// It is about something else than annotations.
    OtherAction,
    /// It names no task that was made here, or lacks the task's data.
    ForeignTask,
    /// There is no such record here.
    UnknownRecord,
    /// The record is one of another version of the schema.
    OtherVersion,
    /// What is here is as new, or newer.
    NotNewer,
    /// It tells of an annotation that was deleted.
    Deleted,
    /// What it says cannot be read.
    Unreadable,
}

impl TaskStore {
    /// Takes over what an event of Label Studio says about annotations: those that were made or changed become responses of their
    /// people, those that were deleted are taken away. `ground_truth` marks the record as gold.
    ///
    /// Check the event first: [`WebhookReceiver`](crate::pipeline::label_studio::WebhookReceiver).
    ///
    /// # Errors
    /// The database does not answer: then send the event again.
    pub async fn apply_label_studio(&self, event: &Value, now: i64) -> Result<Vec<EventOutcome>> {
        let annotations: Vec<&Value> = ["annotation", "annotations"]
            .into_iter()
            .flat_map(|key| match &event[key] {
                Value::Array(items) => items.iter().collect(),
                Value::Null => Vec::new(),
                one => vec![one],
            })
            .collect();
        let mut outcomes = Vec::new();
        for annotation in annotations {
            outcomes.push(match event["action"].as_str() {
                Some("ANNOTATION_CREATED" | "ANNOTATIONS_CREATED" | "ANNOTATION_UPDATED") => {
                    self.take_annotation(&event["task"], annotation, now).await?
                }
                Some("ANNOTATION_DELETED" | "ANNOTATIONS_DELETED") => self.drop_annotation(annotation, now).await?,
                _ => ignored(IgnoredEvent::OtherAction),
            });
        }
        if outcomes.is_empty() {
            outcomes.push(ignored(IgnoredEvent::OtherAction));
        }
        Ok(outcomes)
    }

    async fn take_annotation(&self, task: &Value, annotation: &Value, now: i64) -> Result<EventOutcome> {
        let Some(named) = schema_of(task) else { return Ok(ignored(IgnoredEvent::ForeignTask)) };
        let schema = match self.schema(&named).await {
            Ok(schema) => schema,
            Err(TaskStoreError::Registry(RegistryError::UnknownSchema { .. })) => {
                return Ok(ignored(IgnoredEvent::ForeignTask));
            }
            Err(error) => return Err(error),
        };
        let whole =
            json!({"id": task["id"], "project": task["project"], "data": task["data"], "annotations": [annotation]});
        let harvested = harvest(&schema, &whole);
        let Some(response) = harvested.record.responses.into_iter().next() else {
            return Ok(ignored(IgnoredEvent::Unreadable));
        };
        let Some(external) = external(annotation) else { return Ok(ignored(IgnoredEvent::Unreadable)) };
        let change = |task: &mut ReviewTask, _: &CompiledSchema| {
            if task.schema != named {
                return Ok(Err(IgnoredEvent::OtherVersion));
            }
            let known = task.notes.get(&response.agent.name).and_then(|note| note.external.as_ref());
            let is_newer = |known: &ExternalAnnotation| {
                known.updated_at > external.updated_at
                    || (known.updated_at == external.updated_at && known.id == external.id)
            };
            if known.is_some_and(is_newer) {
                return Ok(Err(IgnoredEvent::NotNewer));
            }
            if annotation["ground_truth"] == true && annotation["was_cancelled"] != true {
                task.mark(Some(true), &external.id);
            } else if task.gold_by.as_deref() == Some(external.id.as_str()) {
                task.mark(None, &external.id);
            }
            task.put_response(response.clone(), Some(external.clone()), now);
            Ok(Ok(()))
        };
        let left_out = harvested.errors.iter().map(ToString::to_string).collect();
        let id = task_id(&named.id, &harvested.record.id);
        let taken = self.with_schemas(|| {
            self.transaction(|| async {
                let mut tx = self.begin_event().await?;
                if was_deleted(&mut tx, &external).await? {
                    return Ok(Err(IgnoredEvent::Deleted));
                }
                let (_, taken) = self.change_in(&mut tx, &id, now, &change).await?;
                tx.commit().await?;
                Ok(taken)
            })
        });
        match taken.await {
            Ok(Ok(())) => Ok(EventOutcome::Saved { task: id, left_out }),
            Ok(Err(reason)) => Ok(ignored(reason)),
            Err(TaskStoreError::UnknownTask { .. }) => Ok(ignored(IgnoredEvent::UnknownRecord)),
            Err(error) => Err(error),
        }
    }

    async fn drop_annotation(&self, annotation: &Value, now: i64) -> Result<EventOutcome> {
        let Some(ExternalAnnotation { id: external, .. }) = external(annotation) else {
            return Ok(ignored(IgnoredEvent::Unreadable));
        };
        let dropped = self.with_schemas(|| {
            self.transaction(|| async {
                let mut tx = self.begin_event().await?;
                let note = "INSERT INTO curation_deleted (external_id, deleted_at) VALUES ($1, $2) \
                            ON CONFLICT (external_id) DO UPDATE SET deleted_at = excluded.deleted_at";
                Statement::new(note).bind(external.as_str()).bind(now).execute(&mut tx).await?;
                let outcome = self.drop_response(&mut tx, &external, now).await?;
                tx.commit().await?;
                Ok(outcome)
            })
        });
        dropped.await
    }

    /// Takes away what came from an annotation: the response, unless the person has said something else since, and the mark of gold.
    async fn drop_response(&self, tx: &mut Tx, external: &str, now: i64) -> std::result::Result<EventOutcome, Stop> {
        let select = "SELECT task_id FROM curation_people WHERE external_id = $1 \
                      UNION SELECT id FROM curation_tasks WHERE gold_by = $2";
        let Some(row) = Statement::new(select).bind(external).bind(external).row(tx).await? else {
            return Ok(ignored(IgnoredEvent::UnknownRecord));
        };
        let change = |task: &mut ReviewTask, _: &CompiledSchema| {
            if task.gold_by.as_deref() == Some(external) {
                task.mark(None, external);
            }
            let is_its = |known: &ExternalAnnotation| known.id == external;
            let mut notes = task.notes.iter();
            let annotator =
                notes.find(|(_, note)| note.external.as_ref().is_some_and(is_its)).map(|(name, _)| name.clone());
            if let Some(annotator) = annotator {
                task.remove_response(&annotator);
            }
            Ok(())
        };
        let (task, ()) = self.change_in(tx, &text(&row, "task_id")?, now, &change).await?;
        Ok(EventOutcome::Removed { task: task.id })
    }

    /// Begins a transaction that takes an event over, when no other one does.
    async fn begin_event(&self) -> std::result::Result<Tx, Stop> {
        let mut tx = self.database.begin().await?;
        self.database.dialect().exclusive(&mut tx, EVENTS_LOCK).await?;
        Ok(tx)
    }
}

/// Whether an annotation was deleted after this was said of it. What is much younger is another one: a server that was set up
/// anew counts from the beginning.
async fn was_deleted(tx: &mut Tx, said: &ExternalAnnotation) -> std::result::Result<bool, Stop> {
    let select = "SELECT deleted_at FROM curation_deleted WHERE external_id = $1";
    let Some(row) = Statement::new(select).bind(said.id.as_str()).row(tx).await? else { return Ok(false) };
    let deleted_at = integer(&row, "deleted_at")?.saturating_add(CLOCK_SECONDS).saturating_mul(1_000_000);
    Ok(said.updated_at <= deleted_at)
}

fn ignored(reason: IgnoredEvent) -> EventOutcome {
    EventOutcome::Ignored { reason }
}

/// The name and the time of an annotation, which is an object or its number alone; `None` for one that has no number.
fn external(annotation: &Value) -> Option<ExternalAnnotation> {
    let id = if annotation.is_object() { &annotation["id"] } else { annotation }.as_u64()?;
    let time = annotation["updated_at"].as_str().and_then(|time| DateTime::parse_from_rfc3339(time).ok());
    let updated_at = time.map_or(0, |time| time.timestamp_micros());
    Some(ExternalAnnotation { id: format!("label_studio:{id}"), updated_at })
}
