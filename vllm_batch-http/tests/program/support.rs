//! A program under test, a tiny model for it, and a client.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use vllm_batch::BatchEngine;
use vllm_batch::jobs::{FileStore, JobService, ServiceOptions, SqlStore};
use vllm_batch::testing::ScriptedEngine;
use vllm_batch_http::{Service, ServiceConfig};

/// The program, without settings from the environment of the tests.
pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vllm_batch-http"));
    let settings = std::env::vars_os().map(|(name, _)| name);
    for name in settings.filter(|name| name.to_string_lossy().starts_with("VLLM_BATCH_")) {
        command.env_remove(name);
    }
    command.args(args);
    command
}

/// Runs it to its end: exit code, standard output, standard error.
pub(crate) fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// The folder of a model with three layers and a chat template; its answers are noise.
pub(crate) fn model() -> TempDir {
    let arch = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vllm_batch/tests/data/arch/llama");
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(arch.join(name), folder.path().join(name)).unwrap();
    }
    let template = "{% if tools %}T{% endif %}{% for message in messages %}{{ message.content }}{% endfor %}";
    let config = json!({"chat_template": template, "bos_token": "<s>", "eos_token": "</s>"});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    folder
}

/// A row that the tiny model answers with so many tokens.
pub(crate) fn row(custom_id: &str, max_tokens: usize) -> Value {
    let body =
        json!({"model": "tiny", "prompt": custom_id, "max_tokens": max_tokens, "ignore_eos": true, "temperature": 0});
    json!({"custom_id": custom_id, "method": "POST", "url": "/v1/completions", "body": body})
}

pub(crate) fn lines(rows: impl IntoIterator<Item = Value>) -> String {
    rows.into_iter().flat_map(|row| [row.to_string(), "\n".to_owned()]).collect()
}

/// What rows answer, by `custom_id`.
pub(crate) fn answers(text: &str) -> BTreeMap<String, Value> {
    by_custom_id(text).into_iter().map(|(id, row)| (id, row["response"]["body"]["choices"].clone())).collect()
}

/// A server with the tiny model, as `tiny`.
pub(crate) fn with_model(folder: &Path, model: &Path, args: &[&str]) -> Running {
    let model = model.display().to_string();
    let fixed = ["--model", &model, "--served-model-name", "tiny"];
    Running::start(folder, &[&fixed, args].concat())
}

/// The rows of a file by `custom_id`; panics if one is there twice.
pub(crate) fn by_custom_id(text: &str) -> BTreeMap<String, Value> {
    let mut rows = BTreeMap::new();
    for row in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let custom_id = row["custom_id"].as_str().unwrap().to_owned();
        assert!(rows.insert(custom_id.clone(), row).is_none(), "{custom_id} is there twice");
    }
    rows
}

/// A running server.
pub(crate) struct Running {
    child: Child,
    log: Receiver<Value>,
    pub(crate) url: String,
}

impl Running {
    /// Starts `serve` on a free port and waits until it listens.
    pub(crate) fn start(folder: &Path, args: &[&str]) -> Self {
        let folder = folder.display().to_string();
        let fixed = ["serve", "--port", "0", "--log-format", "json", "--data", &folder];
        let mut command = program(&[&fixed, args].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, log) = channel();
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let entry = serde_json::from_str(&line).unwrap_or(Value::String(line));
                // Nobody listens any more once the test is over.
                let _ = sender.send(entry);
            }
        });
        let mut running = Self { child, log, url: String::new() };
        let logged = running.logged("listening");
        logged["url"].as_str().unwrap().clone_into(&mut running.url);
        running
    }

    /// The next line of the log with this message.
    pub(crate) fn logged(&self, message: &str) -> Value {
        let mut others = Vec::new();
        while let Ok(entry) = self.log.recv() {
            if entry["message"] == message {
                return entry;
            }
            others.push(entry);
        }
        panic!("the log ended without {message:?}: {others:?}");
    }

    /// All that is still logged.
    pub(crate) fn rest_of_log(&self) -> Vec<Value> {
        self.log.iter().collect()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url)
    }

    pub(crate) fn address(&self) -> String {
        self.url.split_once("://").unwrap().1.to_owned()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client has to do with a server.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    url: String,
    key: Option<String>,
}

impl Client {
    pub(crate) fn new(url: &str) -> Self {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        Self { agent, url: url.to_owned(), key: None }
    }

    pub(crate) fn with_key(mut self, key: &str) -> Self {
        self.key = Some(format!("Bearer {key}"));
        self
    }

    /// Status and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let request = self.agent.get(format!("{}{path}", self.url));
        let request = match &self.key {
            Some(key) => request.header("authorization", key),
            None => request,
        };
        let mut response = request.call().unwrap();
        (response.status().as_u16(), response.body_mut().with_config().limit(1 << 30).read_to_string().unwrap())
    }

    /// The status, if there is an answer.
    pub(crate) fn status(&self, path: &str) -> Option<u16> {
        Some(self.agent.get(format!("{}{path}", self.url)).call().ok()?.status().as_u16())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.try_post(path, body).unwrap()
    }

    /// Status and body, if there is an answer.
    pub(crate) fn try_post(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        self.send(path, "application/json", &body.to_string())
    }

    /// Uploads a file of requests; returns its id.
    pub(crate) fn upload(&self, content: &str) -> String {
        let part =
            |name: &str, value: &str| format!("--x\r\ncontent-disposition: form-data; name=\"{name}\"{value}\r\n");
        let body = [
            part("purpose", "\r\n\r\nbatch"),
            part("file", &format!("; filename=\"in.jsonl\"\r\n\r\n{content}")),
            "--x--\r\n".to_owned(),
        ];
        let (status, file) = self.send("/v1/files", "multipart/form-data; boundary=x", &body.concat()).unwrap();
        assert_eq!(status, 200, "{file}");
        file["id"].as_str().unwrap().to_owned()
    }

    /// Makes a batch of completions; returns its id.
    pub(crate) fn create_batch(&self, file: &str) -> String {
        let body = json!({"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"});
        let (status, batch) = self.post("/v1/batches", &body);
        assert_eq!(status, 200, "{batch}");
        batch["id"].as_str().unwrap().to_owned()
    }

    /// Asks for a batch until something holds of it.
    pub(crate) fn batch_when(&self, id: &str, holds: impl Fn(&Value) -> bool) -> Value {
        loop {
            let batch = json(&self.get(&format!("/v1/batches/{id}")).1);
            if holds(&batch) {
                return batch;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Asks until the batch has ended.
    pub(crate) fn ended(&self, id: &str) -> Value {
        let ends = ["completed", "failed", "expired", "cancelled"];
        self.batch_when(id, |batch| ends.contains(&batch["status"].as_str().unwrap()))
    }

    /// The content of a file.
    pub(crate) fn content(&self, id: &Value) -> String {
        let (status, content) = self.get(&format!("/v1/files/{}/content", id.as_str().unwrap()));
        assert_eq!(status, 200, "{content}");
        content
    }

    fn send(&self, path: &str, content_type: &str, body: &str) -> Option<(u16, Value)> {
        let request = self.agent.post(format!("{}{path}", self.url)).header("content-type", content_type);
        let request = match &self.key {
            Some(key) => request.header("authorization", key),
            None => request,
        };
        let mut response = request.send(body).ok()?;
        Some((response.status().as_u16(), json(&response.body_mut().read_to_string().ok()?)))
    }
}

pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A server of OpenAI's API in this process, whose answers a test holds in its hand.
pub(crate) struct Upstream {
    pub(crate) engine: Arc<ScriptedEngine>,
    pub(crate) url: String,
    _runtime: tokio::runtime::Runtime,
    _folder: TempDir,
}

impl Upstream {
    pub(crate) fn start(engine: ScriptedEngine) -> Self {
        let (engine, folder) = (Arc::new(engine), tempfile::tempdir().unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let router = runtime.block_on(router(folder.path(), engine.clone()));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { engine, url, _runtime: runtime, _folder: folder }
    }

    /// The option by which a server takes this as its engine.
    pub(crate) fn option(&self) -> String {
        format!("remote.url={}", self.url)
    }
}

async fn router(folder: &Path, engine: Arc<dyn BatchEngine>) -> axum::Router {
    let database = format!("sqlite://{}?mode=rwc", folder.join("jobs.db").display());
    let store = SqlStore::connect(&database).await.unwrap();
    let files = FileStore::in_folder(folder.join("files")).unwrap();
    let jobs = JobService::new(Arc::new(store), files, ServiceOptions::default());
    Service::new(jobs, ServiceConfig::default()).with_engine(engine).router()
}

/// The folder of a server, and the path of its configuration.
pub(crate) fn config_file(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("config.toml");
    std::fs::write(&path, text).unwrap();
    path
}
