//! The architecture as a test: which folder may use which, and what may occur nowhere. `docs/architecture.md` says why.
//!
//! What is read are the sources without comments, strings and test code.

mod source;

use std::path::Path;

use source::{SourceFile, read_sources};

/// Each folder or file of `src`, and the paths within the crate that it may use besides its own. From the bottom up: a
/// row may only use rows above it.
const LAYERS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("http", &[]),
    ("request", &["error"]),
    ("output", &["error", "request"]),
    ("text", &["error", "request", "output"]),
    ("guide", &["error", "request", "text"]),
    ("kernels", &[]),
    ("model", &["error", "request", "text", "kernels"]),
    ("kv", &[]),
    ("sched", &["error", "kv"]),
    ("sample", &["request"]),
    (
        "engine",
        &[
            "error",
            "http",
            "request",
            "output",
            "text",
            "guide",
            OF_KERNELS[0],
            OF_KERNELS[1],
            OF_KERNELS[2],
            "model",
            "sched",
            "sample",
        ],
    ),
    ("batch", &["error", "request", "output", ENGINE[0], ENGINE[1], ENGINE[2], ENGINE[3]]),
    ("jobs", &["error", "http", "request", "output", ENGINE[0], ENGINE[1], ENGINE[2], ENGINE[3], "batch"]),
    ("curate", &["error", "request", "output"]),
    (
        "pipeline",
        &["error", "http", "request", "output", ENGINE[0], ENGINE[1], ENGINE[2], ENGINE[3], "batch", "jobs", "curate"],
    ),
    ("testing", &["error", "request", "output", "text", ENGINE[0], ENGINE[1], ENGINE[2], ENGINE[3], "jobs"]),
];

/// How weights, keys and values are kept, and the threads that compute.
const OF_KERNELS: [&str; 3] = ["kernels::KvCacheDtype", "kernels::Team", "kernels::WeightDtype"];

/// The contract of all engines, and nothing of the one in this process.
const ENGINE: [&str; 4] =
    ["engine::BatchEngine", "engine::BatchEngineExt", "engine::EngineSpec", "engine::OutputStream"];

/// Paths that must not occur, and where: in these folders, or everywhere but in these.
const FORBIDDEN: &[(Place, &[&str])] = &[
    (Place::NotIn(&["kernels"]), &["unsafe"]),
    (
        Place::In(&["kv", "sched", "sample"]),
        &["std::fs", "std::io", "std::net", "std::thread", "std::sync", "std::time"],
    ),
    (Place::In(&["kv", "sched", "sample"]), &["rayon", "futures", "tracing"]),
    (Place::NotIn(&["error", "kernels", "model", "engine"]), &["candle_core"]),
    (Place::NotIn(&["text"]), &["tokenizers", "minijinja_contrib"]),
    (Place::NotIn(&["text", "curate"]), &["minijinja"]),
    (Place::NotIn(&["curate"]), &["quick_xml"]),
    (Place::NotIn(&["model"]), &["hf_hub", "safetensors"]),
    (Place::NotIn(&["http", "engine", "jobs", "pipeline"]), &["ureq"]),
    (Place::NotIn(&["jobs", "pipeline"]), &["tokio", "sqlx", "object_store"]),
    (Place::NotIn(&[]), &["std::env", "std::process", "build_global"]),
];

/// Crates that the core does not depend on unless a feature asks for them: runtimes, servers, bindings and clients belong to
/// adapters.
const FORBIDDEN_CRATES: &[&str] = &["axum", "hyper", "pyo3", "reqwest", "tokio", "utoipa"];

/// Lines of a file without its tests.
const MAX_LINES: usize = 500;

#[derive(Clone, Copy)]
enum Place {
    In(&'static [&'static str]),
    NotIn(&'static [&'static str]),
}

impl Place {
    fn covers(self, layer: &str) -> bool {
        match self {
            Self::In(layers) => layers.contains(&layer),
            Self::NotIn(layers) => !layers.contains(&layer),
        }
    }
}

/// Whether `path` is `prefix` or below it.
fn is_within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Everything that is wrong with a file, each with its line.
fn violations(file: &SourceFile) -> Vec<String> {
    let layer = file.layer();
    let mut found = Vec::new();
    // The root of the crate only puts the folders together.
    let allowed = LAYERS.iter().find(|(name, _)| *name == layer).map(|(_, allowed)| *allowed);
    if allowed.is_none() && layer != "lib" {
        found.push(format!("{}: `{layer}` has no row in LAYERS, nor in docs/architecture.md", file.path));
    }
    for (line, path) in file.paths() {
        let place = format!("{}:{line}", file.path);
        if let (Some(used), Some(allowed)) = (path.strip_prefix("crate::"), allowed)
            && !is_within(used, layer)
            && !allowed.iter().any(|prefix| is_within(used, prefix))
        {
            found.push(format!("{place}: `{layer}` must not use `{path}`"));
        }
        let forbidden = FORBIDDEN.iter().filter(|(place, _)| place.covers(layer)).flat_map(|(_, paths)| *paths);
        found.extend(
            forbidden.filter(|prefix| is_within(&path, prefix)).map(|_| format!("{place}: `{path}` is forbidden here")),
        );
    }
    if file.num_lines() > MAX_LINES {
        found.push(format!("{}: {} lines without tests, more than {MAX_LINES}", file.path, file.num_lines()));
    }
    found
}

/// Forbidden crates among the dependencies of a manifest. What only tests and benches use is free, and so is what a feature
/// brings: which one may, `.ci/run` checks without features.
fn forbidden_dependencies(manifest: &str) -> Vec<String> {
    let mut counts = false;
    let mut found = Vec::new();
    for (index, line) in manifest.lines().enumerate() {
        let line = line.trim();
        let name = if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            counts = section.contains("dependencies") && !section.contains("dev-dependencies");
            section.rsplit('.').next().unwrap_or("")
        } else {
            line.split(['=', '.', ' ']).next().unwrap_or("")
        };
        if counts && FORBIDDEN_CRATES.contains(&name) && !line.contains("optional = true") {
            found.push(format!("Cargo.toml:{}: the core must not depend on `{name}`", index + 1));
        }
    }
    found
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_file_keeps_to_its_layer() {
    let files = read_sources(&package().join("src"));
    assert!(files.len() > 50, "only {} files were found", files.len());
    let found: Vec<String> = files.iter().flat_map(violations).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_core_depends_on_no_runtime_server_or_binding() {
    let manifest = std::fs::read_to_string(package().join("Cargo.toml")).expect("the manifest");
    assert_eq!(forbidden_dependencies(&manifest), Vec::<String>::new());
}

#[test]
fn rows_use_only_rows_above_them() {
    for (index, (layer, allowed)) in LAYERS.iter().enumerate() {
        for path in *allowed {
            let above = LAYERS[..index].iter().any(|(name, _)| is_within(path, name));
            assert!(above, "`{layer}` may use `{path}`, which is not above it");
        }
    }
}

/// The lines that are wrong in a file of this content.
fn wrong_lines(path: &str, content: &str) -> Vec<String> {
    let strip =
        |violation: String| violation.split(": ").next().unwrap_or("").rsplit(':').next().unwrap_or("").to_owned();
    violations(&SourceFile::new(path, content)).into_iter().map(strip).collect()
}

/// A file, its content, and the lines to be found in it.
type Case<'a> = (&'a str, &'a str, &'a [&'a str]);

#[test]
fn edges_that_lead_up_are_found() {
    let cases: &[Case] = &[
        ("kv/pool.rs", "use crate::kv::hash::BlockHash;\nuse super::table::BlockId;", &[]),
        ("kv/pool.rs", "use crate::sched::Scheduler;", &["1"]),
        ("sched/mod.rs", "use crate::{\n    error::LoadError,\n    model::{Decoder, KvCache},\n};", &["3", "3"]),
        ("sched/mod.rs", "fn f() -> crate::kv::BlockId {\n    crate::engine::f()\n}", &["2"]),
        ("sched/mod.rs", "use crate::error as e;\nuse crate::engine as e;\nuse crate::text::*;", &["2", "3"]),
        ("model/mod.rs", "use super::engine::EngineCore;", &["1"]),
        ("model/families/llama.rs", "use super::super::spec::A;\nuse super::super::super::engine::A;", &["2"]),
        ("model/spec.rs", "use crate::LoadError;", &["1"]),
        ("error.rs", "use super::request::Request;", &["1"]),
        ("batch/run.rs", "use crate::engine::{BatchEngine, OutputStream};\nuse crate::engine::LocalEngine;", &["2"]),
        ("batch/run.rs", "use crate::output::{self, Usage};\nuse crate::engine::{self};", &["2"]),
        ("lib.rs", "pub use crate::engine::LocalEngine;", &[]),
        ("new/mod.rs", "", &["new/mod.rs"]),
    ];
    for (path, content, lines) in cases {
        assert_eq!(wrong_lines(path, content), *lines, "{path}: {content}");
    }
}

#[test]
fn forbidden_paths_are_found() {
    let cases: &[Case] = &[
        ("model/gguf.rs", "fn f() {\n    unsafe { g() }\n}", &["2"]),
        ("kernels/tile.rs", "unsafe fn f() {}", &[]),
        ("text/mod.rs", "#![deny(unsafe_code)]", &[]),
        ("kv/pool.rs", "use std::collections::HashMap;\nuse std::{fs::File, time::Instant};", &["2", "2"]),
        ("sched/mod.rs", "fn f() {\n    std::thread::yield_now();\n}\nuse candle_core::Tensor;", &["2", "4"]),
        ("engine/local.rs", "use std::thread;\nlet x = std::env::var(\"X\");", &["2"]),
        ("engine/builder.rs", "rayon::ThreadPoolBuilder::new().build_global()", &["1"]),
        ("batch/row.rs", "use candle_core as candle;", &["1"]),
    ];
    for (path, content, lines) in cases {
        assert_eq!(wrong_lines(path, content), *lines, "{path}: {content}");
    }
}

#[test]
fn comments_strings_and_test_code_are_not_read() {
    let cases: &[Case] = &[
        ("kv/mod.rs", "//! [`x`](crate::engine)\n/* crate::engine /* unsafe */ unsafe */ use crate::text::X;", &["2"]),
        ("kv/mod.rs", "f(\"crate::engine \\\" unsafe\", r#\"unsafe \" unsafe\"#, '\"', '\\'');\nunsafe {}", &["2"]),
        ("kv/mod.rs", "fn f<'a>(x: &'a str) {}\nunsafe {}", &["2"]),
        ("kv/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::engine::A;\n}\nuse crate::engine::B;", &["5"]),
        ("kv/mod.rs", "#[cfg(test)]\nuse crate::engine::A;\nuse crate::engine::B;", &["3"]),
        ("kv/mod.rs", "#[cfg(test)]\n#[allow(x)]\npub(crate) fn f(x: [u8; 2]) {\n    unsafe {}\n}\nunsafe {}", &["6"]),
    ];
    for (path, content, lines) in cases {
        assert_eq!(wrong_lines(path, content), *lines, "{path}: {content}");
    }
}

#[test]
fn long_files_are_found_by_what_is_not_test_code() {
    let lines = |count| "fn f() {}\n".repeat(count);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(600));
    assert_eq!(wrong_lines("kv/pool.rs", &(lines(500) + &tests)), Vec::<String>::new());
    assert_eq!(wrong_lines("kv/pool.rs", &(lines(501) + &tests)), ["kv/pool.rs"]);
}

#[test]
fn files_of_test_modules_are_known() {
    let content = "#[cfg(test)]\nmod a;\nmod b;\n#[cfg(test)]\n#[path = \"other.rs\"]\nmod c;\n#[cfg(test)]\nmod d {}";
    let cases = [
        ("kv/mod.rs", ["kv/a.rs", "kv/a/", "kv/other.rs"]),
        ("kv/pool.rs", ["kv/pool/a.rs", "kv/pool/a/", "kv/other.rs"]),
        ("lib.rs", ["a.rs", "a/", "other.rs"]),
    ];
    for (path, expected) in cases {
        assert_eq!(SourceFile::new(path, content).test_files(), expected, "{path}");
    }
}

#[test]
fn forbidden_dependencies_are_found() {
    let manifest = "[dependencies]\nserde = \"1\"\ntokio.workspace = true\n\n[dev-dependencies]\ntokio = \"1\"\n\n\
        [target.'cfg(unix)'.dependencies]\naxum = { version = \"1\" }\nhyper = { version = \"1\", optional = true }\n[dependencies.reqwest]\nversion = \"1\"\n";
    let lines: Vec<_> = forbidden_dependencies(manifest).iter().map(|found| found[..14].to_owned()).collect();
    assert_eq!(lines, ["Cargo.toml:3: ", "Cargo.toml:9: ", "Cargo.toml:11:"]);
}
