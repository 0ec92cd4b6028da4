//! Folders of schemas, and records that move from one version to the next.

use std::fs;

use serde_json::{Value, json};
use vllm_batch::curate::{
    Agent, Answer, Answers, LossReason, Provenance, Record, Response, SchemaRegistry, ScoreKind, Suggestion,
    SuggestionSet, TaskSchema, Version,
};

fn document(version: &str, questions: &Value) -> Value {
    json!({"format": 1, "id": "mail", "version": version, "fields": [], "questions": questions})
}

#[test]
fn a_file_that_is_wrong_stops_no_other_one() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).unwrap();
    let text = json!([{"id": "a", "type": "text"}]);
    let two = json!([{"id": "a", "type": "text"}, {"id": "b", "type": "text"}]);
    write("a_newest.json", document("2.0.0", &two).to_string().as_bytes());
    write("b_first.json", document("1.0.0", &text).to_string().as_bytes());
    write("c_too_small.json", document("1.0.1", &two).to_string().as_bytes());
    write("d_twice.json", document("1.0.0", &two).to_string().as_bytes());
    write("e_same.json", document("1.0.0", &text).to_string().as_bytes());
    write("f_broken.json", b"{");
    write("g_latin1.json", b"{\"id\": \"\xe9\"}");
    write("h_nothing_asked.json", document("1.0.0", &json!([])).to_string().as_bytes());
    write("notes.txt", b"not a schema");
    fs::create_dir(folder.path().join("z_folder.json")).unwrap();

    let read = SchemaRegistry::from_dir(folder.path()).unwrap();
    let results: Vec<(String, String)> = read
        .files
        .iter()
        .map(|file| {
            let name = file.path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, file.result.as_ref().map_or_else(|error| error.code().to_owned(), ToString::to_string))
        })
        .collect();
    let expected = [
        ("a_newest", "mail@2.0.0"),
        ("b_first", "mail@1.0.0"),
        ("c_too_small", "bump_too_small"),
        ("d_twice", "schema_conflict"),
        ("e_same", "mail@1.0.0"),
        ("f_broken", "invalid_schema"),
        ("g_latin1", "unreadable_schema"),
        ("h_nothing_asked", "invalid_schema"),
    ];
    assert_eq!(results, expected.map(|(name, result)| (name.to_owned(), result.to_owned())));
    assert_eq!(read.registry.len(), 2);
    let error = SchemaRegistry::from_dir(folder.path().join("none")).unwrap_err();
    assert_eq!(error.code(), "unreadable_schema");
}

fn answers(pairs: &[(&str, Answer)]) -> Answers {
    pairs.iter().map(|(id, answer)| (id.parse().unwrap(), answer.clone())).collect()
}

fn two_versions() -> SchemaRegistry {
    let mut registry = SchemaRegistry::new();
    let old = json!([
        {"id": "tone", "type": "choice", "options": ["stiff", "formal", "casual"]},
        {"id": "notes", "type": "text", "required": false},
    ]);
    let new = json!([{"id": "voice", "type": "choice", "options": ["formal", "casual"]}]);
    let mut next = document("2.0.0", &new);
    next["migrations"] = json!([
        {"op": "rename_question", "since": "2.0.0", "from": "tone", "to": "voice"},
        {"op": "map_options", "since": "2.0.0", "question": "voice", "map": {"stiff": "formal"}},
        {"op": "drop_question", "since": "2.0.0", "question": "notes"},
    ]);
    for schema in [document("1.0.0", &old), next] {
        registry.register(TaskSchema::from_value(&schema).unwrap().schema).unwrap();
    }
    registry
}

#[test]
fn records_move_to_a_newer_version_with_a_report_of_what_is_lost() {
    let registry = two_versions();
    let (old, new) = (registry.get_version("mail", &Version::new(1, 0, 0)).unwrap(), registry.get("mail").unwrap());
    let option = |value: &str| Answer::Option(value.into());
    let mut provenance = Provenance::default();
    provenance.schema = Some(old.schema().reference());
    let suggestion = Suggestion::new("tone".parse().unwrap(), option("stiff")).with_score(0.75, ScoreKind::Vote);
    let mut record = Record::new("r1");
    record.suggestions.push(SuggestionSet::new(Agent::model("m"), vec![suggestion], provenance));
    let with_notes = answers(&[("notes", Answer::Text("long".into())), ("tone", option("casual"))]);
    record.responses.push(Response::submitted("ann", with_notes));
    let mut records = [record, Record::new("r2")];

    let to = new.schema().reference();
    let report = registry.migrate_records(&mut records, &old.schema().version, &to).unwrap();

    let set = &records[0].suggestions[0];
    let expected = Suggestion::new("voice".parse().unwrap(), option("formal")).with_score(0.75, ScoreKind::Vote);
    assert_eq!(set.suggestions, [expected]);
    assert_eq!(set.provenance.schema.as_ref(), Some(&to));
    assert_eq!(set.provenance.schema_sha256.as_deref(), Some(new.sha256()));
    assert_eq!(set.provenance.repairs, ["migrated_from:1.0.0"]);
    assert_eq!(records[0].responses[0].answers, answers(&[("voice", option("casual"))]));
    assert_eq!((report.num_records, report.num_records_with_loss()), (2, 1));
    assert_eq!(report.lost_by_question().into_iter().collect::<Vec<_>>(), [("notes", 1)]);
    let agents: Vec<&str> = report.migrated.iter().map(|one| one.agent.name.as_str()).collect();
    assert_eq!(agents, ["m", "ann"]);
    assert_eq!(report.migrated[1].report.lost[0].reason, LossReason::Dropped);

    // What is of the new version already stays as it is.
    let before = records.clone();
    let report = registry.migrate_records(&mut records, &to.version, &to).unwrap();
    assert_eq!((records.as_slice(), report.migrated.len()), (before.as_slice(), 0));
}

#[test]
fn records_move_to_versions_that_are_there_and_newer() {
    let registry = two_versions();
    let mut records = [Record::new("r")];
    let mut reference = registry.get("mail").unwrap().schema().reference();
    let mut code = |from: Version, to: &_| registry.migrate_records(&mut records, &from, to).unwrap_err().code();
    assert_eq!(code(Version::new(3, 0, 0), &reference), "migration_backwards");
    reference.version = Version::new(2, 0, 1);
    assert_eq!(code(Version::new(1, 0, 0), &reference), "unknown_schema");
}
