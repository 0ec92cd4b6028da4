//! How do tasks get into a project, each exactly once?

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;
use ureq::http::Method;

use super::client::json_of;
use super::cursor::{Cursor, TaskState};
use super::{LabelStudio, LabelStudioError, refusal};

type Result<T> = std::result::Result<T, LabelStudioError>;

/// How tasks are imported.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImportOptions {
    /// The most tasks in a request. Default 500, as Label Studio's own batches.
    pub max_tasks: usize,
    /// The most bytes in a request, unless one task alone has more. Default 8 MiB: proxies limit bodies and time.
    pub max_bytes: usize,
    /// A request of so many bytes is too long for the server: a task that makes one alone is not sent, but rejected. Default
    /// 250 MiB, as Label Studio's `DATA_UPLOAD_MAX_MEMORY_SIZE`; it answers longer requests with 500, as if it had failed.
    pub max_task_bytes: usize,
    /// A file that says what is there, so that an import that was killed goes on where it stopped. Without one, a project that
    /// has tasks already is searched for each batch before it is sent. What was refused once is not sent again: to try it once
    /// more, remove the file.
    pub cursor: Option<PathBuf>,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self { max_tasks: 500, max_bytes: 8 << 20, max_task_bytes: 250 << 20, cursor: None }
    }
}

impl ImportOptions {
    /// Keeps what is known in a file.
    #[must_use]
    pub fn with_cursor(mut self, path: impl Into<PathBuf>) -> Self {
        self.cursor = Some(path.into());
        self
    }

    /// Sets the most tasks in a request; 0 counts as 1.
    #[must_use]
    pub fn with_max_tasks(mut self, max_tasks: usize) -> Self {
        self.max_tasks = max_tasks.max(1);
        self
    }

    /// Sets the most bytes in a request.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets how many bytes are too long for the server.
    #[must_use]
    pub fn with_max_task_bytes(mut self, max_task_bytes: usize) -> Self {
        self.max_task_bytes = max_task_bytes;
        self
    }
}

/// What became of the tasks of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// Tasks that this import brought.
    pub imported: usize,
    /// Tasks that were there before.
    pub present: usize,
    /// Tasks that are not there, in the order in which that was found out.
    pub rejected: Vec<RejectedTask>,
    /// Second copies that an answer that got lost had left, and that were deleted.
    pub removed: usize,
}

/// A task that was not imported.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RejectedTask {
    /// Its `vb_key`; empty if it has none.
    pub key: String,
    /// Its place among the tasks of the import, from 0.
    pub index: usize,
    /// Why not.
    pub message: String,
}

/// A task on its way.
struct Pending {
    key: String,
    index: usize,
    json: String,
}

/// An import that is under way.
struct Import<'a> {
    server: &'a LabelStudio,
    project: u64,
    cursor: Cursor,
    report: ImportReport,
    /// Tasks that may have been sent by a request whose answer got lost.
    doubtful: HashSet<String>,
}

impl LabelStudio {
    /// Brings tasks into a project, each once, known by the text `data.vb_key`. Tasks are taken from the iterator batch by batch.
    ///
    /// * A batch whose answer got lost is looked for before what is missing of it is sent again. If the server was still busy
    ///   with it then, second copies are deleted in the end, unless people have worked on them.
    /// * Of a batch that is refused, the tasks that the server names are left out and the others sent again. If it names none,
    ///   the batch is halved until the bad ones are found.
    /// * After an error, or when the process was killed, the same call with the same cursor goes on where it stopped.
    ///
    /// # Errors
    /// What the network or the server has against it, when trying again did not help;
    /// [`InvalidCursor`](LabelStudioError::InvalidCursor) and [`Io`](LabelStudioError::Io) of the cursor. What is there by then is
    /// noted in the cursor.
    pub fn import(
        &self,
        project: u64,
        tasks: impl IntoIterator<Item = Value>,
        options: &ImportOptions,
    ) -> Result<ImportReport> {
        let is_empty = || self.num_tasks(project).map(|total| total == 0);
        let cursor = Cursor::open(options.cursor.as_deref(), (self.url(), project), is_empty)?;
        let report = ImportReport::default();
        let mut import = Import { server: self, project, cursor, report, doubtful: HashSet::new() };
        let (mut batch, mut bytes, mut seen) = (Vec::new(), 0, HashSet::new());
        for (index, task) in tasks.into_iter().enumerate() {
            let Some(pending) = import.admit(index, &task, &mut seen, options) else { continue };
            let is_full = batch.len() >= options.max_tasks || bytes + pending.json.len() > options.max_bytes;
            if is_full && !batch.is_empty() {
                import.deliver(std::mem::take(&mut batch))?;
                bytes = 0;
            }
            bytes += pending.json.len() + 1;
            batch.push(pending);
        }
        import.deliver(batch)?;
        import.remove_copies()?;
        Ok(import.report)
    }
}

impl Import<'_> {
    /// A task that is to be sent, if it can be and is not known to be there.
    fn admit(
        &mut self,
        index: usize,
        task: &Value,
        seen: &mut HashSet<String>,
        options: &ImportOptions,
    ) -> Option<Pending> {
        let key = task["data"]["vb_key"].as_str().unwrap_or_default().to_owned();
        let problem = if key.is_empty() {
            "it has no text data.vb_key".to_owned()
        } else if !seen.insert(key.clone()) {
            "an earlier task has the same vb_key".to_owned()
        } else {
            match self.cursor.state(&key) {
                Some(TaskState::Done) => {
                    self.report.present += 1;
                    return None;
                }
                Some(TaskState::Rejected(message)) => message.clone(),
                Some(TaskState::Sent) | None => {
                    let (json, limit) = (task.to_string(), options.max_task_bytes);
                    // With the brackets around it.
                    let length = json.len() + 2;
                    if length < limit {
                        return Some(Pending { key, index, json });
                    }
                    format!("a request of {length} bytes is too long for the server, which takes less than {limit}")
                }
            }
        };
        self.report.rejected.push(RejectedTask { key, index, message: problem });
        None
    }

    /// Sees to it that a batch is there, but for what the server refuses.
    fn deliver(&mut self, batch: Vec<Pending>) -> Result<()> {
        let interrupted = batch.iter().filter(|task| self.cursor.state(&task.key) == Some(&TaskState::Sent));
        let interrupted: Vec<_> = interrupted.map(|task| task.key.clone()).collect();
        let is_known = self.cursor.began_empty && interrupted.is_empty();
        self.doubtful.extend(interrupted);
        let batch = if is_known { batch } else { self.without_present(batch)? };
        self.send(batch)
    }

    /// Sends a batch of which nothing is there.
    fn send(&mut self, mut batch: Vec<Pending>) -> Result<()> {
        let (started, mut tries) = (Instant::now(), 1);
        while !batch.is_empty() {
            self.cursor.sent(batch.iter().map(|task| task.key.as_str()))?;
            let error = match self.post(&batch) {
                Ok(()) => {
                    self.report.imported += batch.len();
                    return self.cursor.done(batch.iter().map(|task| task.key.as_str()));
                }
                Err(error) => error,
            };
            if let LabelStudioError::Refused { status: 400 | 413, errors, .. } = &error {
                let at_fault = refusal::tasks_at_fault(errors, batch.len());
                if at_fault.is_empty() {
                    return self.halve(batch, &error);
                }
                batch = self.reject(batch, at_fault)?;
            } else if error.is_ambiguous() && self.server.pause(tries, started, error.retry_after()) {
                tracing::debug!(tries, %error, tasks = batch.len(), "looking for what arrived");
                tries += 1;
                self.doubtful.extend(batch.iter().map(|task| task.key.clone()));
                batch = self.without_present(batch)?;
            } else {
                return Err(error);
            }
        }
        Ok(())
    }

    fn post(&self, batch: &[Pending]) -> Result<()> {
        let path = format!("/api/projects/{}/import?return_task_ids=true", self.project);
        let body = batch.iter().map(|task| task.json.as_str()).collect::<Vec<_>>().join(",");
        let reply = self.server.once(&Method::POST, &path, Some(&format!("[{body}]")))?;
        let answer = json_of(&reply, &path)?;
        // A server that has another number of tasks is asked which ones.
        match answer["task_count"].as_u64() {
            Some(count) if count == batch.len() as u64 => Ok(()),
            count => Err(super::client::unexpected(&format!("{count:?} of {} tasks were imported", batch.len()))),
        }
    }

    /// Sends the halves of a batch that is refused without a word about the reason; a single task is the reason.
    fn halve(&mut self, mut batch: Vec<Pending>, error: &LabelStudioError) -> Result<()> {
        if batch.len() == 1 {
            return self.reject(batch, vec![(0, error.to_string())]).map(drop);
        }
        let rest = batch.split_off(batch.len() / 2);
        self.send(batch)?;
        self.send(rest)
    }

    /// Leaves out some tasks of a batch.
    fn reject(&mut self, batch: Vec<Pending>, at_fault: Vec<(usize, String)>) -> Result<Vec<Pending>> {
        let mut messages: HashMap<usize, String> = at_fault.into_iter().collect();
        let mut rest = Vec::new();
        for (place, task) in batch.into_iter().enumerate() {
            match messages.remove(&place) {
                Some(message) => {
                    self.cursor.rejected(&task.key, &message)?;
                    self.report.rejected.push(RejectedTask { key: task.key, index: task.index, message });
                }
                None => rest.push(task),
            }
        }
        Ok(rest)
    }

    /// Leaves out what is there already.
    fn without_present(&mut self, batch: Vec<Pending>) -> Result<Vec<Pending>> {
        let found = self.server.find_tasks(self.project, batch.iter().map(|task| task.key.as_str()))?;
        let (present, missing): (Vec<_>, Vec<_>) = batch.into_iter().partition(|task| found.contains_key(&task.key));
        let imported = present.iter().filter(|task| self.doubtful.contains(&task.key)).count();
        self.report.imported += imported;
        self.report.present += present.len() - imported;
        if !present.is_empty() {
            self.cursor.done(present.iter().map(|task| task.key.as_str()))?;
        }
        Ok(missing)
    }

    /// Deletes second copies of tasks that may have been sent twice: of those that nobody has worked on, all but the oldest.
    fn remove_copies(&mut self) -> Result<()> {
        let found = self.server.find_tasks(self.project, self.doubtful.iter().map(String::as_str))?;
        let mut extra = Vec::new();
        for mut copies in found.into_values() {
            copies.sort_by_key(|copy| (copy.annotations == 0, copy.id));
            extra.extend(copies.iter().skip(1).filter(|copy| copy.annotations == 0).map(|copy| copy.id));
        }
        extra.sort_unstable();
        self.report.removed = extra.len();
        self.server.delete_tasks(self.project, &extra)
    }
}
