//! Where settings come from, which one wins, and that everything that is wrong is told at once.

use std::collections::BTreeMap;

use crate::support::{config_file, program, run};

/// The settings that `--print-config` shows: value and who gave it, by key.
fn shown(text: &str) -> BTreeMap<String, (String, Option<String>)> {
    let (mut settings, mut section) = (BTreeMap::new(), "");
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((name, value)) = line.split_once(" = ") {
            let (value, source) =
                value.split_once(" # from ").map_or((value, None), |(value, source)| (value, Some(source)));
            settings.insert(format!("{section}.{name}"), (value.to_owned(), source.map(str::to_owned)));
        }
    }
    settings
}

#[test]
fn later_sources_win_and_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[server]\nport = 1\nmax_connections = 7\n[engine]\nmodel = \"a\"\nserved_model_name = [\"x\", \"y\"]\n";
    let path = config_file(folder.path(), text);
    let path = path.display().to_string();
    let args = ["serve", "--port", "3", "--max-num-seqs", "5", "--set", "limits.max_file_bytes=1GiB", "--print-config"];
    let variables = [
        ("VLLM_BATCH_CONFIG", path.as_str()),
        ("VLLM_BATCH_SERVER__PORT", "2"),
        ("VLLM_BATCH_SERVER__MAX_CONNECTIONS", ""),
        ("VLLM_BATCH_ENGINE__MODEL", "123"),
        ("VLLM_BATCH_WEBHOOKS__ALLOWED_PORTS", "8443, 9000"),
    ];
    let (code, output, errors) = run(program(&args).envs(variables));
    assert_eq!((code, errors.as_str()), (0, ""));
    let settings = shown(&output);
    let cases = [
        ("server.host", "\"127.0.0.1\"", None),
        ("server.port", "3", Some("--port")),
        ("server.max_connections", "7", Some(path.as_str())),
        ("engine.model", "123", Some("VLLM_BATCH_ENGINE__MODEL")),
        ("engine.served_model_name", "[\"x\", \"y\"]", Some(path.as_str())),
        ("engine.max_num_seqs", "5", Some("--max-num-seqs")),
        ("engine.kv_cache_memory", "512", None),
        ("limits.max_file_bytes", "\"1GiB\"", Some("--set")),
        ("webhooks.allowed_ports", "[8443, 9000]", Some("VLLM_BATCH_WEBHOOKS__ALLOWED_PORTS")),
        ("retention.results", "\"30d\"", None),
    ];
    for (key, value, source) in cases {
        assert_eq!(settings.get(key), Some(&(value.to_owned(), source.map(str::to_owned))), "{key}");
    }
}

#[test]
fn what_is_printed_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (_, first, _) = run(&mut program(&["serve", "--model", "m", "--auto-tune", "--no-live", "--print-config"]));
    let path = config_file(folder.path(), &first).display().to_string();
    let (code, second, errors) = run(&mut program(&["serve", "--config", &path, "--print-config"]));
    assert_eq!((code, errors.as_str()), (0, ""));
    let values = |text: &str| shown(text).into_iter().map(|(key, (value, _))| (key, value)).collect::<BTreeMap<_, _>>();
    assert_eq!(values(&second), values(&first));
}

#[test]
fn everything_wrong_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\
[servr]
port = 1
[server]
prot = 2
port = 70000
host = \"0.0.0.0\"
page = \"maybe\"
header_read_timeout = \"0s\"
max_connections = [1]
[engine]
max_num_seqs = \"many\"
dtype = \"int3\"
[tls]
certificate = \"/nowhere/cert.pem\"
[auth]
keys = []
[limits]
max_batches = 0
[worker]
max_tasks = 65
[webhooks]
allowed_hosts = [\"a b\"]
secret_file = \"/nowhere/secret\"
[log]
format = \"xml\"
";
    let path = config_file(folder.path(), text).display().to_string();
    let variables = [
        ("VLLM_BATCH_PORT", "1"),
        ("VLLM_BATCH_CURATION", "x"),
        ("VLLM_BATCH_LIMITS__MAX_FILE_BYTES", "1 EiB"),
        ("VLLM_BATCH_RETENTION__BATCHES", "0s"),
    ];
    let args = ["serve", "--config", &path, "--set", "cors.allowed_origins=example.org", "--database", "mysql://db"];
    let (code, _, errors) = run(program(&args).envs(variables));
    assert_eq!(code, 2, "{errors}");
    let expected = [
        format!("servr.port (from {path}): there is no such setting; did you mean server.port?"),
        format!("server.prot (from {path}): there is no such setting; did you mean server.port?"),
        format!("server.port (from {path}): \"70000\" is no whole number from 0 to 65535"),
        format!("server.host (from {path}): others can reach 0.0.0.0, and there are no keys"),
        format!("server.page (from {path}): \"maybe\" is neither true nor false"),
        format!("server.header_read_timeout (from {path}): it must not be 0"),
        format!("server.max_connections (from {path}): it is an array, and one value is wanted"),
        format!("engine.max_num_seqs (from {path}): invalid value 'many' for '--max-num-seqs"),
        format!("engine.dtype (from {path}): invalid value 'int3' for '--dtype"),
        format!("tls.certificate (from {path}): there is no file /nowhere/cert.pem"),
        format!("tls.certificate (from {path}): tls.key is missing"),
        format!("limits.max_batches (from {path}): 0 would let nothing through"),
        format!("worker.max_tasks (from {path}): 65 is outside its range, 0 to 64"),
        format!("webhooks.allowed_hosts (from {path}): \"a b\" is no name of a host"),
        format!("webhooks.secret_file (from {path}): /nowhere/secret: No such file"),
        format!("log.format (from {path}): \"xml\" is neither text nor json"),
        "port (from VLLM_BATCH_PORT): there is no such setting; did you mean server.port?".to_owned(),
        "curation (from VLLM_BATCH_CURATION): it is a section".to_owned(),
        "limits.max_file_bytes (from VLLM_BATCH_LIMITS__MAX_FILE_BYTES): \"1 EiB\" is no size".to_owned(),
        "retention.batches (from VLLM_BATCH_RETENTION__BATCHES): 0 would keep nothing".to_owned(),
        "cors.allowed_origins (from --set): \"example.org\" is no origin".to_owned(),
        "storage.database (from --database): a database is sqlite://".to_owned(),
    ];
    for problem in &expected {
        assert!(errors.contains(&format!("\n  {problem}")), "{problem} is in:\n{errors}");
    }
    assert!(errors.starts_with(&format!("error: the configuration has {} problems:\n", expected.len())), "{errors}");
}

#[test]
fn files_that_are_no_configuration_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let broken = config_file(folder.path(), "[server\n").display().to_string();
    for (path, message) in [(broken.as_str(), "TOML parse error at line 1"), ("/nowhere/c.toml", "No such file")] {
        let (code, _, errors) = run(&mut program(&["serve", "--config", path]));
        assert!(code == 2 && errors.contains(&format!("  {path}: {message}")), "{errors}");
    }
    let (code, _, errors) = run(&mut program(&["serve", "--set", "server.port"]));
    assert!(code == 2 && errors.contains("server.port (from --set): write it as SECTION.NAME=VALUE"), "{errors}");
}

#[test]
fn keys_are_checked_and_not_repeated() {
    let hash = "0123456789abcdef".repeat(4);
    let folder = tempfile::tempdir().unwrap();
    let keys = |keys: &str| {
        let path =
            config_file(folder.path(), &format!("[auth]\nmax_batches = 2\nkeys = {keys}\n")).display().to_string();
        run(&mut program(&["serve", "--host", "0.0.0.0", "--config", &path, "--print-config"]))
    };
    let (code, output, errors) = keys(&format!("[{{ name = \"a\", sha256 = \"{hash}\", max_file_bytes = \"1MB\" }}]"));
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(output.contains("keys = [{ name = \"a\", sha256 = \"***\" }]") && !output.contains(&hash), "{output}");
    let secret = "sk-this-is-the-key-itself";
    let cases = [
        (format!("[{{ name = \"a\", sha256 = \"{secret}\" }}]"), "entry 0: sha256 must be 64 hexadecimal digits"),
        (format!("[{{ sha256 = \"{hash}\", color = \"red\" }}]"), "entry 0: there is no \"color\", only name, sha256"),
        (format!("[{{ sha256 = \"{hash}\" }}]"), "entry 0: it has no name"),
        (format!("[\"a:{hash}\", \"b:{hash}\"]"), "entry 1 is the key of an earlier one"),
        (
            format!("[{{ name = \"a\", sha256 = \"{hash}\", max_batches = 0 }}]"),
            "max_batches: 0 would let nothing through",
        ),
        (format!("\"{secret}\""), "entry 0: it is no {"),
        ("[[1]]".to_owned(), "entry 0: it is an array and no {"),
        ("7".to_owned(), "it is one value, and an array of tables is wanted"),
    ];
    for (text, problem) in cases {
        let (code, _, errors) = keys(&text);
        assert!(code == 2 && errors.contains(problem) && !errors.contains(secret), "{text}: {errors}");
    }
}

#[test]
fn secrets_are_read_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (secret, path) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", folder.path().join("secret"));
    std::fs::write(&path, format!("{secret}\n")).unwrap();
    let variables = [
        ("VLLM_BATCH_WEBHOOKS__SECRET_FILE", path.to_str().unwrap()),
        ("VLLM_BATCH_CURATION__LABEL_STUDIO_SECRET", "ls-secret"),
        ("VLLM_BATCH_REMOTE__API_KEY", "sk-remote"),
        ("VLLM_BATCH_STORAGE__DATABASE", "postgres://me:db-secret@db/jobs"),
    ];
    let (code, output, errors) = run(program(&["serve", "--print-config"]).envs(variables));
    assert_eq!((code, errors.as_str()), (0, ""));
    for hidden in [secret, "ls-secret", "sk-remote", "db-secret"] {
        assert!(!output.contains(hidden), "{hidden} is in {output}");
    }
    assert!(output.contains("database = \"postgres://me:***@db/jobs\""), "{output}");
    // A secret that is given counts, without a file as well.
    for wrong in ["wrong", "***"] {
        let given = [("VLLM_BATCH_WEBHOOKS__SECRET", wrong)];
        let (code, _, errors) = run(program(&["serve", "--print-config"]).envs(given));
        assert!(code == 2 && errors.contains("webhooks.secret (from VLLM_BATCH_WEBHOOKS__SECRET)"), "{errors}");
    }
    let both = [("VLLM_BATCH_WEBHOOKS__SECRET", secret), variables[0]];
    let (code, _, errors) = run(program(&["serve", "--print-config"]).envs(both));
    assert!(code == 2 && errors.contains("webhooks.secret is given, too") && !errors.contains(secret), "{errors}");
}

#[test]
fn every_setting_is_described_with_its_default() {
    let docs = include_str!("../../../docs/server.md");
    let (_, output, _) = run(&mut program(&["serve", "--print-config"]));
    let unset = output.lines().filter_map(|line| line.strip_prefix("# ")?.strip_suffix(" is not set"));
    for name in unset {
        assert!(
            docs.contains(&format!(".{name}`")) || docs.contains(&format!("`--{}`", name.replace('_', "-"))),
            "{name}"
        );
    }
    for (key, (value, _)) in shown(&output).into_iter().filter(|(key, _)| !key.starts_with("engine.")) {
        let row = docs
            .lines()
            .find(|line| line.starts_with("| `") && line.split(" | ").next().unwrap().contains(&format!("`{key}`")));
        let row = row.unwrap_or_else(|| panic!("docs/server.md has no row for {key}"));
        let default = row.split(" | ").nth(1).unwrap();
        let is_list_or_path = value.starts_with('[') || key == "storage.database";
        assert!(
            is_list_or_path || default.contains(&format!("`{}`", value.trim_matches('"'))),
            "{key}: {value} and {row}"
        );
    }
}

#[test]
fn flags_that_exclude_each_other_are_refused() {
    for args in [
        &["serve", "--no-worker", "--max-tasks", "2"][..],
        &["serve", "--colour"],
        &["dance"],
        &["worker", "--host", "::1"],
    ] {
        let (code, _, errors) = run(&mut program(args));
        assert!(code == 2 && errors.starts_with("error: "), "{args:?}: {errors}");
    }
    let (code, _, errors) = run(&mut program(&["serve", "--model", "m", "--set", "remote.url=http://a/v1"]));
    assert!(code == 2 && errors.contains("engine.model (from --model): there is remote.url, too"), "{errors}");
}
