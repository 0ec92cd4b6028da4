//! As much of Label Studio as an import needs, and the faults of real servers and networks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::server::{Reaction, Received, Server};

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// An error, and nothing was done.
    Fails(u16),
    /// An error, although it was done.
    FailsAfter(u16),
    /// The connection breaks before it is done, or after.
    Breaks { done: bool },
    /// No answer, although it was done.
    SilentAfter,
}

/// The tasks of one project: ids to tasks.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) tasks: BTreeMap<u64, Value>,
    pub(crate) last_id: u64,
    /// Tasks in each import that was done.
    pub(crate) imports: Vec<usize>,
    /// Whether predictions are checked: those whose score is above one are refused.
    pub(crate) is_strict: bool,
}

impl State {
    pub(crate) fn keys(&self) -> Vec<String> {
        let key = |task: &Value| task["data"]["vb_key"].as_str().unwrap_or_default().to_owned();
        let mut keys: Vec<_> = self.tasks.values().map(key).collect();
        keys.sort();
        keys
    }

    fn answer(&mut self, request: &Received) -> (u16, Value) {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        match (request.method.as_str(), path) {
            ("GET", "/api/tasks/") => self.page(query),
            ("POST", "/api/projects/1/import") => self.import(request.body.as_array().cloned().unwrap_or_default()),
            ("POST", "/api/dm/actions") => {
                let ids = request.body["selectedItems"]["included"].as_array().cloned().unwrap_or_default();
                ids.iter().filter_map(Value::as_u64).for_each(|id| drop(self.tasks.remove(&id)));
                (200, json!({"processed_items": ids.len()}))
            }
            _ => (404, json!({"detail": "Not found.", "path": path})),
        }
    }

    fn page(&self, query: &str) -> (u16, Value) {
        let get = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        let number = |name: &str| get(name).and_then(|text| text.parse::<usize>().ok()).unwrap();
        let keys: Option<Vec<String>> = get("query").map(|query| {
            let query: Value = serde_json::from_str(&decode(query)).unwrap();
            let items = query["filters"]["items"].as_array().unwrap();
            items.iter().map(|item| item["value"].as_str().unwrap().to_owned()).collect()
        });
        let is_meant = |task: &&Value| {
            keys.as_ref().is_none_or(|keys| keys.iter().any(|key| *key == task["data"]["vb_key"].as_str().unwrap()))
        };
        let all: Vec<_> = self.tasks.values().filter(is_meant).cloned().collect();
        let tasks: Vec<_> =
            all.iter().skip((number("page") - 1) * number("page_size")).take(number("page_size")).collect();
        if tasks.is_empty() && number("page") > 1 {
            return (404, json!({"detail": "Invalid page."}));
        }
        (200, json!({"tasks": tasks, "total": all.len()}))
    }

    fn import(&mut self, tasks: Vec<Value>) -> (u16, Value) {
        let is_bad = |task: &Value| task["predictions"][0]["score"].as_f64().is_some_and(|score| score > 1.0);
        let bad: Vec<_> = (0..tasks.len()).filter(|at| is_bad(&tasks[*at])).collect();
        if self.is_strict && !bad.is_empty() {
            let errors: Vec<_> =
                bad.iter().map(|at| format!("Task {at}, prediction 0: Score must be between 0 and 1")).collect();
            return (400, json!({"detail": "Validation error", "validation_errors": {"predictions": errors}}));
        }
        if tasks.iter().any(|task| task["data"].get("text").is_some_and(Value::is_null)) {
            return (
                400,
                json!({"detail": "Validation error", "validation_errors": ["\"text\" key is expected in task data"]}),
            );
        }
        self.imports.push(tasks.len());
        let count = tasks.len();
        for mut task in tasks {
            self.last_id += 1;
            task["id"] = json!(self.last_id);
            task["total_annotations"] = json!(0);
            self.tasks.insert(self.last_id, task);
        }
        (201, json!({"task_count": count}))
    }
}

/// A server, its state, and the fault of each request by its number.
pub(crate) struct Fake {
    server: Server,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Fake {
    pub(crate) fn start(fault: impl Fn(usize, &Received) -> Fault + Send + Sync + 'static) -> Self {
        let state = Arc::new(Mutex::new(State { is_strict: true, ..State::default() }));
        let shared = Arc::clone(&state);
        let server = Server::start(move |number, request| {
            let fault = fault(number, request);
            let answer = || shared.lock().unwrap_or_else(PoisonError::into_inner).answer(request);
            let failure = |status| Reaction::json(status, &json!({"detail": "oops"}));
            match fault {
                Fault::None => {
                    let (status, body) = answer();
                    Reaction::json(status, &body)
                }
                Fault::Fails(status) => failure(status),
                Fault::FailsAfter(status) => {
                    answer();
                    failure(status)
                }
                Fault::Breaks { done } => {
                    if done {
                        answer();
                    }
                    Reaction::Raw(String::new())
                }
                Fault::SilentAfter => {
                    answer();
                    Reaction::Silence
                }
            }
        });
        Self { server, state }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url().trim_end_matches("/v1").to_owned()
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.server.received()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).keys()
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(&others[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &others[2..];
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    String::from_utf8(bytes).unwrap()
}
