//! A server from its start to its end.

use serde_json::{Value, json};
use vllm_batch::testing::ScriptedEngine;

use crate::support::{
    Client, Running, Upstream, by_custom_id, json as parsed, lines, model, program, row, run, with_model,
};

#[test]
fn it_starts_answers_and_stops() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let mut server = with_model(folder.path(), model.path(), &[]);
    assert_eq!(server.client().get("/health").0, 200);
    server.logged("ready");
    let client = server.client();
    assert_eq!(client.get("/ready").0, 200);
    let body = json!({"model": "tiny", "prompt": "a", "max_tokens": 4, "ignore_eos": true});
    let (status, answer) = client.post("/v1/completions", &body);
    assert_eq!((status, answer["usage"]["completion_tokens"].as_u64()), (200, Some(4)), "{answer}");

    let input = lines((0..30).map(|i| row(&format!("row-{i}"), 3)));
    let batch = client.ended(&client.create_batch(&client.upload(&input)));
    assert_eq!((&batch["status"], &batch["error_file_id"]), (&json!("completed"), &Value::Null), "{batch}");
    assert_eq!(by_custom_id(&client.content(&batch["output_file_id"])).len(), 30);
    let (_, metrics) = client.get("/metrics");
    assert!(metrics.contains("vllm_batch_http_requests_total"), "{metrics}");

    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_signal_lets_live_requests_end_and_a_second_one_does_not() {
    for (signals, code, status) in [(1, 0, Some(200)), (2, 128 + 15, None)] {
        let upstream = Upstream::start(ScriptedEngine::echo().held());
        let folder = tempfile::tempdir().unwrap();
        let mut server = Running::start(folder.path(), &["--set", &upstream.option()]);
        server.logged("ready");
        let client = server.client();
        let asked = std::thread::spawn(move || {
            let body = json!({"model": "scripted", "prompt": "Hello", "max_tokens": 9});
            client.try_post("/v1/completions", &body).map(|(status, _)| status)
        });
        while upstream.engine.stats().submitted == 0 {
            std::thread::yield_now();
        }
        server.signal("TERM");
        server.logged("stopping; a second signal ends the process at once");
        if signals == 1 {
            upstream.engine.release_all();
        } else {
            server.signal("TERM");
        }
        assert_eq!(server.wait().code(), Some(code));
        assert_eq!(asked.join().unwrap(), status);
        upstream.engine.release_all();
    }
}

#[test]
fn work_is_given_back_and_gone_on_with() {
    let upstream = Upstream::start(ScriptedEngine::echo().held());
    let folder = tempfile::tempdir().unwrap();
    let mut options = vec!["--set".to_owned(), upstream.option()];
    for setting in ["server.shutdown_grace=0s", "remote.max_num_seqs=1", "worker.lease_time=3s"] {
        options.extend(["--set".to_owned(), setting.to_owned()]);
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut server = Running::start(folder.path(), &options);
    server.logged("ready");
    let request = |i: usize| {
        let body = json!({"model": "scripted", "prompt": format!("p{i}"), "max_tokens": 9});
        json!({"custom_id": format!("row-{i}"), "method": "POST", "url": "/v1/completions", "body": body})
    };
    let client = server.client();
    let id = client.create_batch(&client.upload(&lines((0..40).map(request))));
    upstream.engine.release(15);
    client.batch_when(&id, |batch| batch["request_counts"]["completed"].as_u64() >= Some(15));
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));

    upstream.engine.release_all();
    let server = Running::start(folder.path(), &options);
    let batch = server.client().ended(&id);
    assert_eq!(batch["request_counts"], json!({"total": 40, "completed": 40, "failed": 0}), "{batch}");
    assert_eq!(by_custom_id(&server.client().content(&batch["output_file_id"])).len(), 40);
    // What was done before was not asked for again; the one row that was in flight may have been.
    let finished = upstream.engine.stats().finished;
    assert!((40..=41).contains(&finished), "{finished}");
}

#[test]
fn others_are_let_in_with_keys_only() {
    let (code, _, errors) = run(&mut program(&["serve", "--host", "0.0.0.0", "--port", "0"]));
    assert!(code == 2 && errors.contains("hash-key"), "{errors}");

    let (code, entry, _) = run(&mut program(&["hash-key", "--name", "red team"]));
    assert_eq!(code, 0);
    let key = entry.lines().find_map(|line| line.strip_prefix("# sk-")).map(|rest| format!("sk-{rest}")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = crate::support::config_file(folder.path(), &entry).display().to_string();
    let server = Running::start(folder.path(), &["--config", &path, "--host", "0.0.0.0", "--no-worker", "--no-live"]);
    let url = server.url.replace("0.0.0.0", "127.0.0.1");
    let ask = |client: Client| client.get("/v1/files").0;
    assert_eq!(ask(Client::new(&url)), 401);
    assert_eq!(ask(Client::new(&url).with_key("sk-wrong")), 401);
    assert_eq!(ask(Client::new(&url).with_key(&key)), 200);
    drop(server);

    let server = Running::start(folder.path(), &["--insecure", "--host", "0.0.0.0", "--no-worker", "--no-live"]);
    assert_eq!(ask(Client::new(&server.url.replace("0.0.0.0", "127.0.0.1"))), 200);
}

#[test]
fn a_server_may_do_without_an_engine_while_workers_are_elsewhere() {
    let (folder, model) = (tempfile::tempdir().unwrap(), model());
    let server = Running::start(folder.path(), &["--no-worker", "--no-live"]);
    let client = server.client();
    let id = client.create_batch(&client.upload(&lines((0..5).map(|i| row(&format!("row-{i}"), 2)))));
    assert_eq!(client.post("/v1/completions", &json!({"model": "tiny", "prompt": "a"})).0, 503);

    let path = |path: &std::path::Path| path.display().to_string();
    let args =
        ["worker", "--data", &path(folder.path()), "--model", &path(model.path()), "--served-model-name", "tiny"];
    let mut worker = program(&args).spawn().unwrap();
    let batch = client.ended(&id);
    assert_eq!(batch["status"], "completed", "{batch}");
    let status = std::process::Command::new("kill").args(["-TERM", &worker.id().to_string()]).status().unwrap();
    assert!(status.success());
    assert_eq!(worker.wait().unwrap().code(), Some(0));
}

#[test]
fn what_cannot_be_started_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let data = folder.path().display().to_string();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let file = file.display().to_string();
    let cases: [(&[&str], &str); 4] = [
        (&["--data", &data, "--port", &port], "cannot listen on 127.0.0.1"),
        (&["--data", &file, "--port", "0"], &file),
        (&["--data", &data, "--port", "0", "--model", "/nowhere/model.gguf"], "/nowhere/model.gguf"),
        (&["--data", &data, "--port", "0", "--set", "remote.url=http://127.0.0.1:1/v1"], "127.0.0.1:1"),
    ];
    for (args, place) in cases {
        let (code, _, errors) = run(program(&["serve"]).args(args));
        assert!(code == 1 && errors.contains(place), "{args:?}: {errors}");
    }
}

#[test]
fn the_database_can_be_migrated_before() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    for _ in 0..2 {
        let (code, output, errors) = run(&mut program(&["migrate", "--data", &data]));
        assert!(code == 0 && output.ends_with("jobs.db?mode=rwc is up to date\n"), "{output}{errors}");
    }
}

#[test]
fn the_document_of_the_interface_is_printed() {
    let (code, output, _) = run(&mut program(&["openapi"]));
    let document = parsed(&output);
    assert!(code == 0 && document["paths"]["/v1/batches"]["post"].is_object(), "{output}");
}

#[test]
fn keys_from_elsewhere_are_hashed() {
    use std::io::Write;
    for (key, code) in [("sk-0123456789abcdefghij\n", 0), ("short\n", 1)] {
        let mut child = program(&["hash-key", "--stdin"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(key.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert!(!String::from_utf8_lossy(&output.stdout).contains("0123456789abcdefghij"));
    }
}
