//! `docs/errors.md` and the code agree.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use vllm_batch::RequestError;

/// Where each type's `code` is, and how its `impl` starts.
const TYPES: [(&str, &str); 21] = [
    ("RequestError", "src/error.rs"),
    ("EngineError", "src/error.rs"),
    ("LoadError", "src/error.rs"),
    ("LineErrorKind", "src/batch/error.rs"),
    ("RunError", "src/batch/error.rs"),
    ("JobError", "src/jobs/error.rs"),
    ("SignatureError", "src/jobs/webhook/secret.rs"),
    ("RegistryError", "src/curate/registry/error.rs"),
    ("PromptError", "src/curate/prompt/error.rs"),
    ("FieldErrorKind", "src/curate/check/record.rs"),
    ("AnswerErrorKind", "src/curate/check/error.rs"),
    ("RecordError", "src/curate/record_json.rs"),
    ("SnapshotError", "src/curate/snapshot.rs"),
    ("TaskProblem", "src/curate/label_studio/error.rs"),
    ("HarvestErrorKind", "src/curate/label_studio/error.rs"),
    ("ExportError", "src/curate/export/error.rs"),
    ("SkipReason", "src/curate/export/error.rs"),
    ("CurationError", "src/pipeline/curation/error.rs"),
    ("TaskStoreError", "src/pipeline/tasks/error.rs"),
    ("LabelStudioError", "src/pipeline/label_studio/error.rs"),
    ("WebhookError", "src/pipeline/label_studio/webhooks.rs"),
];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The codes that the type's `code` returns, in the order of its variants.
fn codes_in_source(name: &str, path: &str) -> Vec<String> {
    let source = read(path);
    let start = format!("impl {name} {{");
    let (_, body) = source.split_once(&start).unwrap_or_else(|| panic!("{path} has no {start}"));
    let (_, body) = body.split_once("pub fn code(&self)").unwrap_or_else(|| panic!("{name} has no code"));
    let (body, _) = body.split_once("\n    }\n").unwrap_or_else(|| panic!("code of {name} has no end"));
    let arms = body.lines().filter_map(|line| line.split_once("=> \""));
    arms.filter_map(|(_, code)| code.split('"').next()).map(str::to_owned).collect()
}

/// The rows of the type's table, cell by cell.
fn table(name: &str) -> Vec<Vec<String>> {
    let docs = read("../docs/errors.md");
    let heading = format!("\n## `{name}`\n");
    let (_, section) = docs.split_once(&heading).unwrap_or_else(|| panic!("docs/errors.md has no section {name}"));
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()).collect()
}

#[test]
fn every_code_is_in_the_table_and_unique_in_its_type() {
    for (name, path) in TYPES {
        let codes = codes_in_source(name, path);
        assert!(!codes.is_empty(), "{name}");
        let unique: BTreeSet<_> = codes.iter().collect();
        assert_eq!(unique.len(), codes.len(), "{name}: {codes:?}");
        let documented: Vec<_> = table(name).into_iter().map(|row| row[0].clone()).collect();
        assert_eq!(documented, codes, "{name}");
    }
}

#[test]
fn the_http_status_is_that_of_the_table() {
    let text = String::new;
    let errors = [
        RequestError::EmptyPrompt,
        RequestError::PromptTooLong { prompt_tokens: 2, max_model_len: 1 },
        RequestError::MissingParam { param: text() },
        RequestError::InvalidParam { param: text(), message: text() },
        RequestError::UnsupportedParam { param: text(), message: text() },
        RequestError::UnsupportedTask { task: "generate", supported: vec!["embed"] },
        RequestError::InvalidGrammar { param: text(), pointer: Some(text()), message: text() },
        RequestError::InvalidGrammar { param: text(), pointer: None, message: text() },
        RequestError::ConstraintDeadEnd { at_token: 0 },
        RequestError::ConstraintTooComplex { at_token: 0, message: text() },
        RequestError::UnknownToken { token_id: 1, vocab_size: 1 },
        RequestError::ModelNotFound { model: text(), served: Vec::new() },
        RequestError::NoChatTemplate,
        RequestError::Template { message: text() },
        RequestError::Tokenizer { message: text() },
        RequestError::NonFiniteLogits { num_tokens: 1 },
        RequestError::Aborted,
        RequestError::Remote { status: None, code: text(), message: text() },
        RequestError::EngineFailed { message: text() },
    ];
    let found = errors.map(|error| [error.code().to_owned(), error.status_code().to_string()]);
    // A cell may say more; the number is what is answered where no server gave another.
    let status = |cell: &str| cell.rsplit(' ').next().unwrap_or_default().to_owned();
    let documented: Vec<_> = table("RequestError").into_iter().map(|row| [row[0].clone(), status(&row[1])]).collect();
    assert_eq!(documented, found);
}
