//! How do answers come back?

use std::fmt;
use std::io::BufReader;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{number, unexpected};
use super::{LabelStudio, LabelStudioError};

type Result<T> = std::result::Result<T, LabelStudioError>;

/// Which tasks are exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportFilter {
    /// All.
    All,
    /// Those that somebody has worked on, with everything that was said.
    #[default]
    Annotated,
    /// Those that have a gold answer, with that answer alone.
    Gold,
}

impl LabelStudio {
    /// Makes a snapshot of a project, hands its tasks over one by one, with whole predictions, and deletes it. Tasks are read as
    /// they come: no more than one is in memory. Says how many there were.
    ///
    /// # Errors
    /// As all calls. If the connection breaks on the way, some tasks have been handed over.
    pub fn export(&self, project: u64, filter: ExportFilter, mut receive: impl FnMut(Value)) -> Result<usize> {
        let snapshot = self.make_snapshot(project, filter)?;
        let path = format!("/api/projects/{project}/exports/{snapshot}");
        self.wait_for_snapshot(&path)?;
        let count = self.download(&format!("{path}/download?exportType=JSON"), |reader| {
            let mut json = serde_json::Deserializer::from_reader(BufReader::new(reader));
            json.deserialize_seq(Each(&mut receive)).map_err(|error| unexpected(&error.to_string()))
        })?;
        // What is left behind takes room there, and harms nothing.
        if let Err(error) = self.delete(&path) {
            tracing::warn!(%error, "the snapshot {path} was not deleted");
        }
        Ok(count)
    }

    /// Asks for a snapshot. If the answer gets lost, it is looked for by its title.
    fn make_snapshot(&self, project: u64, filter: ExportFilter) -> Result<u64> {
        let path = format!("/api/projects/{project}/exports/");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let title = format!("vllm_batch {}", now.as_nanos());
        match self.send(&Method::POST, &path, &snapshot_options(&title, filter)) {
            Ok(snapshot) => number(&snapshot, "id"),
            Err(error) if error.is_ambiguous() => {
                let snapshots = self.get(&path)?;
                let mut all = snapshots.as_array().or_else(|| snapshots["results"].as_array()).into_iter().flatten();
                all.find(|one| one["title"] == title.as_str()).map_or(Err(error), |one| number(one, "id"))
            }
            Err(error) => Err(error),
        }
    }

    fn wait_for_snapshot(&self, path: &str) -> Result<()> {
        let started = Instant::now();
        loop {
            let snapshot = self.get(path)?;
            match snapshot["status"].as_str() {
                Some("completed") => return Ok(()),
                // The first pause is short, and all are alike: making one takes as long as it takes.
                Some("created" | "in_progress") if self.pause(1, started, None) => {}
                status => return Err(unexpected(&format!("the snapshot {path} is {status:?}"))),
            }
        }
    }
}

fn snapshot_options(title: &str, filter: ExportFilter) -> Value {
    let is_gold = filter == ExportFilter::Gold;
    let mut options = json!({
        "title": title,
        "task_filter_options": {"only_with_annotations": filter != ExportFilter::All},
        "serialization_options": {"predictions": {"only_id": false}, "annotations__completed_by": {"only_id": false}},
    });
    if is_gold {
        options["annotation_filter_options"] = json!({"usual": false, "ground_truth": true, "skipped": false});
    }
    options
}

/// Hands over the items of a list one by one, and counts them.
struct Each<F>(F);

impl<'de, F: FnMut(Value)> Visitor<'de> for Each<F> {
    type Value = usize;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of tasks")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> std::result::Result<usize, A::Error> {
        let mut count = 0;
        while let Some(item) = items.next_element()? {
            (self.0)(item);
            count += 1;
        }
        Ok(count)
    }
}
