//! Is a file valid, and how is it cut?

use serde_json::{Value, json};

use super::Worker;
use super::task::{Ended, Held};
use crate::batch::{Endpoint, RunError, ValidatedFile, ValidationErrors, validate_file};
use crate::engine::EngineSpec;
use crate::jobs::files::FileKey;
use crate::jobs::{JobError, NewChunk, TaskOutcome};

impl Worker {
    /// Reads the whole input. Its model must be one that some worker serves.
    pub(super) async fn validate(&self, held: &Held) -> Result<Ended, JobError> {
        let batch = &held.lease.batch;
        let attempt = held.lease.task.attempt;
        let path = self.in_folder(&batch.id, move |folder| Ok(folder.join(format!("input-{attempt}.jsonl")))).await?;
        let key = FileKey::of_file(&batch.input_file_id)?;
        let outcome = match self.service().files_store().download(&key, None, &path).await {
            Ok(()) => {
                let mut limits = self.service().options().limits;
                limits.endpoint = Endpoint::from_url(&batch.endpoint);
                let spec = self.spec_of_all().await?;
                let file = path.clone();
                let read = tokio::task::spawn_blocking(move || validate_file(&file, &spec, limits)).await;
                self.outcome_of(read.map_err(|error| error.to_string()))
            }
            Err(JobError::NotFound { .. }) => {
                let message = format!("Cannot find file {}.", batch.input_file_id);
                Ok(refused(vec![json!({"code": "invalid_request", "message": message, "param": null, "line": null})]))
            }
            Err(error) => return Err(error),
        };
        // What is left goes with the batch's folder.
        let _ = tokio::fs::remove_file(path).await;
        Ok(match outcome {
            Ok(outcome) => Ended::Done(outcome, Vec::new()),
            Err(message) => Ended::Failed(message.into()),
        })
    }

    /// The engine's specification, with the models that other workers serve.
    async fn spec_of_all(&self) -> Result<EngineSpec, JobError> {
        let mut spec = self.engine().spec().clone();
        for model in self.service().workers().await?.into_iter().flat_map(|worker| worker.models) {
            if !spec.served_model_names.contains(&model) {
                spec.served_model_names.push(model);
            }
        }
        Ok(spec)
    }

    fn outcome_of(&self, read: Result<Result<ValidatedFile, RunError>, String>) -> Result<TaskOutcome, String> {
        match read? {
            Ok(file) => Ok(TaskOutcome::Validated {
                model: file.model().to_owned(),
                chunks: chunks_of(&file, self.options().chunk_size),
            }),
            Err(RunError::ValidationFailed { errors, .. }) => Ok(refused(list(&errors))),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn chunks_of(file: &ValidatedFile, size: usize) -> Vec<NewChunk> {
    let chunks = file.chunks(size).enumerate().map(|(index, chunk)| NewChunk {
        index: index as u64,
        start_byte: chunk.bytes.start,
        end_byte: chunk.bytes.end,
        first_line: chunk.first_line,
        num_requests: chunk.num_requests as u64,
    });
    chunks.collect()
}

fn refused(errors: Vec<Value>) -> TaskOutcome {
    TaskOutcome::Refused { errors }
}

/// The list that the batch shows. What did not fit is counted at its end.
fn list(errors: &ValidationErrors) -> Vec<Value> {
    let mut found: Vec<_> = errors.data.iter().map(|error| json!(error)).collect();
    if errors.omitted > 0 {
        let message = format!("{} more problems are not listed.", errors.omitted);
        found.push(json!({"code": "too_many_errors", "message": message, "param": null, "line": null}));
    }
    found
}
