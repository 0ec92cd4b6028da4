//! What did people say on a review server?
//!
//! Label Studio sends no event twice, and may send them in another order than things happened. So an annotation counts by its
//! own time, and an event that comes again changes nothing.

use chrono::DateTime;
use serde::Serialize;
use serde_json::{Value, json};

use super::stored::{ExternalAnnotation, ReviewTask, task_id};
use super::{Result, TaskStore, TaskStoreError};
use crate::curate::label_studio::{harvest, schema_of};
use crate::curate::{CompiledSchema, RegistryError};
use crate::jobs::sql::{Statement, text};

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
    /// The response that came from it is gone.
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
        let external = external(annotation);
        let change = |task: &mut ReviewTask, _: &CompiledSchema| {
            if task.schema != named {
                return Ok(Err(IgnoredEvent::OtherVersion));
            }
            let known = task.notes.get(&response.agent.name).and_then(|note| note.external.as_ref());
            if known.is_some_and(|known| known.id == external.id && known.updated_at >= external.updated_at) {
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
        match self.change(&task_id(&named.id, &harvested.record.id), now, change).await {
            Ok((task, Ok(()))) => Ok(EventOutcome::Saved { task: task.id, left_out }),
            Ok((_, Err(reason))) => Ok(ignored(reason)),
            Err(TaskStoreError::UnknownTask { .. }) => Ok(ignored(IgnoredEvent::UnknownRecord)),
            Err(error) => Err(error),
        }
    }

    async fn drop_annotation(&self, annotation: &Value, now: i64) -> Result<EventOutcome> {
        let external = external(annotation).id;
        let select = "SELECT task_id, annotator FROM curation_people WHERE external_id = $1";
        let found = self
            .transaction(|| async {
                let mut connection = self.database.read().await?;
                let row = Statement::new(select).bind(external.as_str()).row(&mut connection).await?;
                let read = |row| Ok::<_, sqlx::Error>((text(&row, "task_id")?, text(&row, "annotator")?));
                Ok(row.map(read).transpose()?)
            })
            .await?;
        let Some((task, annotator)) = found else { return Ok(ignored(IgnoredEvent::UnknownRecord)) };
        let change = |task: &mut ReviewTask, _: &CompiledSchema| {
            task.remove_response(&annotator);
            if task.gold_by.as_deref() == Some(external.as_str()) {
                task.mark(None, &external);
            }
            Ok(())
        };
        self.change(&task, now, change).await?;
        Ok(EventOutcome::Removed { task })
    }
}

fn ignored(reason: IgnoredEvent) -> EventOutcome {
    EventOutcome::Ignored { reason }
}

/// The name and the time of an annotation, which is an object or its number alone.
fn external(annotation: &Value) -> ExternalAnnotation {
    let id = if annotation.is_object() { &annotation["id"] } else { annotation };
    let time = annotation["updated_at"].as_str().and_then(|time| DateTime::parse_from_rfc3339(time).ok());
    ExternalAnnotation { id: format!("label_studio:{id}"), updated_at: time.map_or(0, |time| time.timestamp_micros()) }
}
