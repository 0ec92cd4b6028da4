//! What is in a project?

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{encode, number, unexpected};
use super::{LabelStudio, LabelStudioError};

type Result<T> = std::result::Result<T, LabelStudioError>;

/// Keys in one query: servers limit the length of a URL, gunicorn to 4,094 bytes.
const KEYS_PER_QUERY: usize = 16;
/// Tasks on a page.
const PAGE_SIZE: usize = 500;

/// One page of a project's tasks.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Page {
    /// The tasks, as Label Studio writes them.
    pub tasks: Vec<Value>,
    /// Tasks on all pages.
    pub total: u64,
}

/// A task that was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundTask {
    pub(super) id: u64,
    pub(super) annotations: u64,
}

/// What is in a project, compared with what should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconciliation {
    /// Keys that should be there and are not.
    pub missing: Vec<String>,
    /// Keys that are there more than once, with the ids of their tasks.
    pub duplicated: BTreeMap<String, Vec<u64>>,
    /// Ids of tasks whose key should not be there, or that have none.
    pub unknown: Vec<u64>,
}

impl LabelStudio {
    /// One page of a project's tasks, from 1, with annotations and predictions; `None` behind the last one.
    ///
    /// # Errors
    /// As all calls.
    pub fn tasks_page(&self, project: u64, page: usize, page_size: usize) -> Result<Option<Page>> {
        self.page(&format!("project={project}&page={page}&page_size={page_size}&fields=all"))
    }

    /// One task, with annotations and predictions.
    ///
    /// # Errors
    /// As all calls.
    pub fn task(&self, task: u64) -> Result<Value> {
        self.get(&format!("/api/tasks/{task}/"))
    }

    /// Tasks in a project.
    ///
    /// # Errors
    /// As all calls.
    pub fn num_tasks(&self, project: u64) -> Result<u64> {
        let page = self.page(&format!("project={project}&page=1&page_size=1"))?;
        Ok(page.map_or(0, |page| page.total))
    }

    /// Deletes tasks. Those that are not there are as good as deleted.
    ///
    /// # Errors
    /// As all calls.
    pub fn delete_tasks(&self, project: u64, tasks: &[u64]) -> Result<()> {
        for tasks in tasks.chunks(PAGE_SIZE) {
            let path = format!("/api/dm/actions?id=delete_tasks&project={project}");
            let body = json!({"selectedItems": {"all": false, "included": tasks}});
            self.send_again(&Method::POST, &path, &body)?;
        }
        Ok(())
    }

    /// Adds a prediction to each of some tasks: objects with `task`, `model_version`, `score` and `result`. Says how many were
    /// added. They are sent once: after an error, see what the tasks have.
    ///
    /// # Errors
    /// As all calls.
    pub fn import_predictions(&self, project: u64, predictions: &[Value]) -> Result<u64> {
        let path = format!("/api/projects/{project}/import/predictions");
        number(&self.send(&Method::POST, &path, &Value::from(predictions))?, "created")
    }

    /// Adds an annotation to a task and says its id. Label Studio does not check it: a region that the project's configuration
    /// has no control for stays, and keeps the configuration from being changed. It is sent once.
    ///
    /// # Errors
    /// As all calls.
    pub fn annotate(&self, task: u64, result: &[Value], ground_truth: bool) -> Result<u64> {
        let body = json!({"result": result, "ground_truth": ground_truth, "was_cancelled": false});
        number(&self.send(&Method::POST, &format!("/api/tasks/{task}/annotations/"), &body)?, "id")
    }

    /// Says whether an annotation is gold. A task has one at most: another one loses it.
    ///
    /// # Errors
    /// As all calls.
    pub fn set_ground_truth(&self, annotation: u64, ground_truth: bool) -> Result<()> {
        let path = format!("/api/annotations/{annotation}/");
        self.send_again(&Method::PATCH, &path, &json!({"ground_truth": ground_truth})).map(drop)
    }

    /// Compares the keys of a project's tasks with those that should be there.
    ///
    /// # Errors
    /// As all calls.
    pub fn reconcile<'a>(&self, project: u64, keys: impl IntoIterator<Item = &'a str>) -> Result<Reconciliation> {
        let mut there: HashMap<String, Vec<u64>> = HashMap::new();
        let (mut found, mut page) = (Reconciliation::default(), 1);
        while let Some(Page { tasks, .. }) =
            self.page(&format!("project={project}&page={page}&page_size={PAGE_SIZE}"))?
        {
            for task in &tasks {
                match task["data"]["vb_key"].as_str() {
                    Some(key) => there.entry(key.to_owned()).or_default().push(number(task, "id")?),
                    None => found.unknown.push(number(task, "id")?),
                }
            }
            page += 1;
        }
        let wanted: HashSet<&str> = keys.into_iter().collect();
        for (key, tasks) in &there {
            if !wanted.contains(key.as_str()) {
                found.unknown.extend(tasks);
            } else if tasks.len() > 1 {
                found.duplicated.insert(key.clone(), tasks.clone());
            }
        }
        found.missing = wanted.iter().filter(|key| !there.contains_key(**key)).map(|key| (*key).to_owned()).collect();
        found.missing.sort_unstable();
        found.unknown.sort_unstable();
        Ok(found)
    }

    /// The tasks that have certain keys.
    pub(super) fn find_tasks<'a>(
        &self,
        project: u64,
        keys: impl Iterator<Item = &'a str>,
    ) -> Result<HashMap<String, Vec<FoundTask>>> {
        let keys: Vec<_> = keys.collect();
        let mut found: HashMap<String, Vec<FoundTask>> = HashMap::new();
        for keys in keys.chunks(KEYS_PER_QUERY) {
            let mut page = 1;
            while let Some(Page { tasks, total }) = self.page(&key_query(project, keys, page))? {
                let mut other = None;
                for task in &tasks {
                    let key = task["data"]["vb_key"].as_str().unwrap_or_default();
                    other = other.or_else(|| (!keys.contains(&key)).then(|| key.to_owned()));
                    let one = FoundTask { id: number(task, "id")?, annotations: number(task, "total_annotations")? };
                    found.entry(key.to_owned()).or_default().push(one);
                }
                if let Some(key) = other {
                    return Err(unexpected(&format!("a task with the key {key:?} was not asked for")));
                }
                if page * PAGE_SIZE >= total as usize {
                    break;
                }
                page += 1;
            }
        }
        Ok(found)
    }

    fn page(&self, query: &str) -> Result<Option<Page>> {
        let answer = match self.get(&format!("/api/tasks/?{query}")) {
            // "Invalid page.": there are no more.
            Err(LabelStudioError::NotFound { .. }) => return Ok(None),
            answer => answer?,
        };
        let tasks = answer["tasks"].as_array().cloned().ok_or_else(|| unexpected("it has no list of tasks"))?;
        let total = number(&answer, "total")?;
        Ok(Some(Page { tasks, total }).filter(|page| !page.tasks.is_empty()))
    }
}

/// A query of Label Studio's data manager.
fn key_query(project: u64, keys: &[&str], page: usize) -> String {
    let item =
        |key: &&str| json!({"filter": "filter:tasks:data.vb_key", "operator": "equal", "type": "String", "value": key});
    let items: Vec<_> = keys.iter().map(item).collect();
    let query = json!({"filters": {"conjunction": "or", "items": items}}).to_string();
    format!("project={project}&page={page}&page_size={PAGE_SIZE}&query={}", encode(&query))
}
